"""Gradients of softmax attention to the accuracy asked for, with an error bar to be trusted."""

from . import polynomials, reference
from ._core import __version__
from .attention import attention, attention_vjp, plan
from .diagnose import Diagnosis, diagnose
from .errors import (
    AttnGradError,
    DeadlineError,
    DTypeError,
    InternalError,
    MissingDependencyError,
    NonFiniteError,
    OptionError,
    OptionTypeError,
    OutOfMemoryError,
    OutputError,
    PrecisionWarning,
    ProblemFileError,
    RangeError,
    ShapeError,
    ThreadError,
    ToleranceError,
)
from .factors import Factors, factors
from .features import ExpFeatures
from .plans import Plan
from .problem import loss, loss_gradient, plan_loss_gradient
from .results import AttentionGradients, Certificate, GradientResult

# fmt: off
__all__ = [
    "AttentionGradients", "AttnGradError", "Certificate", "DTypeError", "DeadlineError",
    "Diagnosis", "ExpFeatures", "Factors", "GradientResult", "InternalError",
    "MissingDependencyError", "NonFiniteError", "OptionError", "OptionTypeError",
    "OutOfMemoryError", "OutputError", "Plan", "PrecisionWarning", "ProblemFileError", "RangeError",
    "ShapeError", "ThreadError", "ToleranceError", "__version__", "attention", "attention_vjp",
    "diagnose", "factors", "loss", "loss_gradient", "plan", "plan_loss_gradient", "polynomials",
    "reference",
]
