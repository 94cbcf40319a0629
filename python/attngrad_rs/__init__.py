"""Gradients of softmax attention to the accuracy asked for, with an error bar to be trusted."""

from . import errors, polynomials, reference
from ._core import __version__
from .attention import attention, attention_vjp, plan
from .derivatives import attention_hvp, attention_jvp
from .diagnose import Diagnosis, diagnose
from .errors import *  # noqa: F403
from .factors import Factors, factors
from .features import ExpFeatures
from .plans import Plan
from .problem import loss, loss_gradient, plan_loss_gradient
from .results import AttentionGradients, AttentionResult, Certificate, GradientResult

# fmt: off
__all__ = [
    "AttentionGradients", "AttentionResult", "Certificate", "Diagnosis", "ExpFeatures", "Factors",
    "GradientResult", "Plan", "__version__", "attention", "attention_hvp", "attention_jvp",
    "attention_vjp", "diagnose", "factors", "loss", "loss_gradient", "plan", "plan_loss_gradient",
    "polynomials", "reference",
]
__all__ += errors.__all__
