"""What comes back: results, and what is known about their errors."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy.typing as npt

from . import _core
from ._inputs.arrays import Array
from ._inputs.options import F, Tolerance
from .errors import OptionError, PrecisionWarning, ToleranceError
from .plans import Plan, html_table

__all__ = ["AttentionGradients", "Certificate", "GradientResult"]


class Certified(Protocol):
    """A result with one certificate for each gradient."""

    @property
    def certificates(self) -> Mapping[str, Certificate]: ...


R = TypeVar("R", bound=Certified)


@dataclass(frozen=True)
class Certificate:
    """How far a result may be from the truth, and how that is known.

    Attributes
    ----------
    method : str
        The method that made the result.
    kind : str
        ``"exact"`` (rounding only), ``"rigorous"`` (a bound, rounding included), ``"statistical"``
        (a confidence that a rigorous cap on every row backs) or ``"estimated"`` (a standard error
        with a safety factor). Kinds are never mixed.
    absolute : float
        The error is at most this, in ``norm``. NaN is turned into infinity: what is not known is
        never certified.
    relative : float
        ``absolute / (size of the result - absolute)``, infinite where that is not positive.
    norm : str
        ``"fro"`` (Frobenius), ``"max"`` (largest entry), or ``"abs"`` for a single number.
    confidence : float or None
        Probability that the statement holds, for kind ``"statistical"``, however often the call
        looked; None otherwise. It is that of the draws: with ``rng=None`` their seed is a hash of
        the data, and the confidence assumes data that were not chosen by that hash.
    terms : mapping of str to float
        What ``absolute`` is made of: rounding, and for approximations truncation, sampling and
        skipped mass.
    steps : mapping of str to float
        What f, c, q, p1 and p2 were charged each, where a rigorous bound knows; empty for exact.
    rtol_requested : float or None
        The tolerance asked for.
    best_rtol : float
        The smallest ``rtol`` that this result reaches beside the ``atol`` asked for; infinite
        where the gradient may be zero.
    success : bool or None
        Whether ‖ĝ − g‖ ≤ rtol·‖g‖ + atol is certified; None where nothing was asked of an
        approximation. Without a tolerance an exact result is a success where its rounding is
        bounded. A gradient that is merely smaller than its rounding bound is none.
    message : str
        The same in words.
    """

    method: str
    kind: str
    absolute: float
    relative: float
    norm: str = "fro"
    confidence: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)
    rtol_requested: float | None = None
    best_rtol: float = math.inf
    success: bool | None = None
    message: str = ""

    def __post_init__(self) -> None:
        """Turn NaN into infinity, and take back a success that nothing backs."""
        for name in ("absolute", "relative", "best_rtol"):
            if math.isnan(getattr(self, name)):
                object.__setattr__(self, name, math.inf)
        if not math.isfinite(self.absolute) and self.success:
            object.__setattr__(self, "success", False)

    @classmethod
    def of_core(
        cls,
        found: _core.Certificate,
        method: str,
        tolerance: Tolerance,
        norm: str,
        steps: Mapping[str, float],
    ) -> Certificate:
        """What the core found out about a result of a method."""
        terms = {"rounding": found.rounding}
        if found.kind != "exact":
            terms = {"truncation": found.truncation, "sampling": found.sampling, **terms}
        return cls(
            method=method,
            kind=found.kind,
            absolute=found.absolute,
            relative=found.relative,
            norm=norm,
            confidence=found.confidence,
            terms=terms,
            steps=steps,
            rtol_requested=tolerance.rtol,
            best_rtol=found.best_rtol,
            success=found.reached,
            message=found.message,
        )

    def _items(self) -> list[tuple[str, str]]:
        return [
            ("kind", self.kind),
            ("relative", f"{self.relative:.2e}"),
            ("absolute", f"{self.absolute:.2e} ({self.norm})"),
            ("success", str(self.success)),
            ("message", self.message),
        ]

    def _repr_html_(self) -> str:
        """The main figures as a table, for notebooks."""
        return html_table(self._items())


@dataclass(frozen=True, eq=False, repr=False)
class GradientResult(Generic[F]):
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
    gradients: Mapping[str, npt.NDArray[F]]
    certificates: Mapping[str, Certificate]
    loss_certificate: Certificate
    plan: Plan
    seconds: float

    @property
    def gradient(self) -> npt.NDArray[F]:
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

    @property
    def success(self) -> bool | None:
        """Whether every tolerance is certified, as ``certificate.success`` says it."""
        return self.certificate.success

    def _repr_html_(self) -> str:
        """Shapes, errors and the plan as a table, for notebooks."""
        return _html(self.gradients, self.certificates, self.plan)

    def __repr__(self) -> str:
        """Shapes and error, on one line; never the numbers."""
        return (
            f"GradientResult(loss={self.loss:.6g}, gradients={{{_summary(self.gradients)}}}, "
            f"{_error(self.certificate)}, seconds={self.seconds:.3g})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class AttentionGradients(Generic[F]):
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

    dq: npt.NDArray[F]
    dk: npt.NDArray[F]
    dv: npt.NDArray[F]
    certificates: Mapping[str, Certificate]
    plan: Plan
    seconds: float

    def __iter__(self) -> Iterator[npt.NDArray[F]]:
        """Unpack as dq, dk, dv."""
        return iter((self.dq, self.dk, self.dv))

    @property
    def certificate(self) -> Certificate:
        """The worst of the three certificates."""
        return worst(self.certificates)

    @property
    def success(self) -> bool | None:
        """Whether every tolerance is certified, as ``certificate.success`` says it."""
        return self.certificate.success

    def _repr_html_(self) -> str:
        """Shapes, errors and the plan as a table, for notebooks."""
        arrays = {"query": self.dq, "key": self.dk, "value": self.dv}
        return _html(arrays, self.certificates, self.plan)

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


def _html(
    gradients: Mapping[str, Array], certificates: Mapping[str, Certificate], plan: Plan
) -> str:
    items = [
        (f"gradient, {name}", f"{array.shape} {array.dtype}; {_error(certificates[name])}")
        for name, array in gradients.items()
    ]
    return html_table([*items, *plan._items()])


def deliver(result: R, tolerance: Tolerance, dtype: str, method: str) -> R:
    """The result, where its tolerance is reached or nobody named the method.

    Raises
    ------
    ToleranceError
        If the method that the caller named misses the tolerance.

    Warns
    -----
    PrecisionWarning
        If "auto" misses it: no method is more accurate than the exact one.
    """
    missed = {name: one for name, one in result.certificates.items() if one.success is False}
    if not missed or (tolerance.rtol is None and not tolerance.atol):
        return result
    name = max(missed, key=lambda one: (missed[one].best_rtol, missed[one].absolute))
    made = missed[name]
    if made.kind == "exact":
        remedy = "use float64, or " if dtype == "float32" else ""
        limit = f"below what rounding in {dtype} lets us certify"
    else:
        remedy = "use method='auto', or "
        limit = f"below what method {made.method!r} could certify ({made.kind})"
    relative = f"ask for rtol >= {round_up(made.best_rtol)} (or None for exact)"
    if math.isfinite(made.best_rtol) and (tolerance.rtol or not tolerance.atol):
        ask = relative
    elif math.isfinite(made.absolute):
        # No tolerance relative to a gradient that may be zero can be certified.
        least = max(one.absolute for one in missed.values())
        ask = f"give atol >= {round_up(least)}"
        ask += "" if math.isfinite(made.best_rtol) else ", as the gradient may be zero"
    else:
        ask = "ask for rtol=None (exact)"
    words = f"{tolerance.shown()}, {limit} for the gradient by {name}"
    if method != "auto":
        raise ToleranceError(f"{words}; {remedy}{ask}", made.best_rtol, result)
    warnings.warn(
        f"{words}, whose exact value is returned with success=False; {remedy}{ask}",
        PrecisionWarning,
        stacklevel=_frames_within(),
    )
    return result


def _frames_within() -> int:
    """Levels of the stack from our caller up to the first that is not of this package."""
    package, level = __name__.partition(".")[0], 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(package):
        frame, level = frame.f_back, level + 1
    return level


def worst(certificates: Mapping[str, Certificate]) -> Certificate:
    """The certificate that says least: a missed tolerance, then the largest relative error."""
    return max(
        certificates.values(),
        key=lambda one: (one.success is False, one.relative, one.absolute),
    )


def round_up(value: float) -> str:
    """Two significant digits, never below the value: what a user may copy out of a message."""
    if not math.isfinite(value) or value <= 0.0:
        return f"{value:g}"
    # Below the smallest normal number a step of two digits may be none.
    value = max(value, sys.float_info.min)
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step) * step:.2g}"
