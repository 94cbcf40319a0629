"""What the public functions return."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .arrays import Array
from .certificate import Certificate, worst
from .errors import OptionError
from .plans import Plan

__all__ = ["AttentionGradients", "GradientResult"]


@dataclass(frozen=True, eq=False, repr=False)
class GradientResult:
    """Loss and gradients of one problem, each with its certificate.

    Attributes
    ----------
    loss : float
        L(X, Y), half the squared Frobenius norm of the residual.
    gradients : mapping of str to ndarray
        One array per name in ``wrt``, in that order, shaped and typed like what it is a gradient
        by, in native byte order.
    certificates : mapping of str to Certificate
        One per gradient.
    loss_certificate : Certificate
        That of the loss.
    plan : Plan
        What was run and why. It holds none of the arrays.
    seconds : float
        Wall time of the whole call.
    """

    loss: float
    gradients: Mapping[str, Array]
    certificates: Mapping[str, Certificate]
    loss_certificate: Certificate
    plan: Plan
    seconds: float

    @property
    def gradient(self) -> Array:
        """The gradient, where exactly one was asked for.

        Raises
        ------
        OptionError
            If there are several; the message says which.
        """
        if len(self.gradients) != 1:
            names = ", ".join(map(repr, self.gradients))
            raise OptionError(
                f"gradient: found {len(self.gradients)} of them ({names}); "
                "take the one you mean from .gradients[name]"
            )
        (only,) = self.gradients.values()
        return only

    @property
    def certificate(self) -> Certificate:
        """The certificate of the gradient; of several, the worst."""
        return worst(self.certificates)

    def __repr__(self) -> str:
        """Shapes and error, on one line; never the numbers."""
        return (
            f"GradientResult(loss={self.loss:.6g}, gradients={{{_summary(self.gradients)}}}, "
            f"{_error(self.certificate)}, seconds={self.seconds:.3g})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class AttentionGradients:
    """Gradients of attention; unpacks as ``dq, dk, dv``.

    Attributes
    ----------
    dq, dk, dv : ndarray
        Shaped like query, key and value.
    certificates : mapping of str to Certificate
        By ``"query"``, ``"key"``, ``"value"``, each over all leading dimensions together.
    plan : Plan
        What was run and why.
    seconds : float
        Wall time of the whole call.
    """

    dq: Array
    dk: Array
    dv: Array
    certificates: Mapping[str, Certificate]
    plan: Plan
    seconds: float

    def __iter__(self) -> Iterator[Array]:
        """Unpack as dq, dk, dv."""
        return iter((self.dq, self.dk, self.dv))

    @property
    def certificate(self) -> Certificate:
        """The worst of the three certificates."""
        return worst(self.certificates)

    def __repr__(self) -> str:
        """Shapes and error, on one line; never the numbers."""
        arrays = {"dq": self.dq, "dk": self.dk, "dv": self.dv}
        return (
            f"AttentionGradients({_summary(arrays)}, "
            f"{_error(self.certificate)}, seconds={self.seconds:.3g})"
        )


def _summary(arrays: Mapping[str, Array]) -> str:
    return ", ".join(f"{name}: {array.shape} {array.dtype}" for name, array in arrays.items())


def _error(certificate: Certificate) -> str:
    return f"{certificate.kind}, relative error <= {certificate.relative:.1e}"
