"""What is known about the error of a result, and how it is held against the tolerance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .arguments import Tolerance
from .errors import ToleranceError

if TYPE_CHECKING:
    from .methods import Error

__all__ = ["Certificate"]


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
        Probability that the statement holds, for kind ``"statistical"``; None otherwise.
    terms : mapping of str to float
        What ``absolute`` is made of: rounding, and for approximations truncation, sampling and
        skipped mass.
    steps : mapping of str to float
        What f, c, q, p1 and p2 were charged each, where a rigorous bound knows; empty for exact.
    rtol_requested : float or None
        The tolerance asked for.
    success : bool or None
        Whether it was reached; None where nothing was asked of an approximation.
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
    success: bool | None = None
    message: str = ""

    def __post_init__(self) -> None:
        """Turn NaN into infinity, and take back a success that nothing backs."""
        for name in ("absolute", "relative"):
            if math.isnan(getattr(self, name)):
                object.__setattr__(self, name, math.inf)
        if not math.isfinite(self.absolute) and self.success:
            object.__setattr__(self, "success", False)


def relative_error(absolute: float, size: float) -> float:
    """The relative error that an absolute one implies, against the unknown truth."""
    if absolute == 0.0:
        return 0.0
    truth = size - absolute
    # Written so that NaN gives infinity.
    return absolute / truth if truth > 0.0 else math.inf


def certify(
    method: str,
    error: Error,
    size: float,
    norm: str,
    tolerance: Tolerance,
    steps: Mapping[str, float] | None = None,
) -> Certificate:
    """The certificate of a result of norm ``size`` with what is known about its error."""
    absolute, rtol = error.absolute, tolerance.rtol
    rounding = error.terms.get("rounding", 0.0)
    success: bool | None
    if not math.isfinite(absolute):
        success, message = False, f"{error.kind}; the error could not be bounded"
    elif absolute <= 2.0 * rounding and (size <= absolute if error.kind == "exact" else size == 0):
        # Nothing tells such a result from zero; zero is what it is to the accuracy of the dtype.
        success, message = True, f"{error.kind}; the result is zero to rounding"
    elif not rtol:
        success, message = True, "exact to rounding"
    else:
        success = absolute <= tolerance.atol + rtol * (size - absolute)
        message = f"{error.kind}; rtol {rtol:g} {'reached' if success else 'not reached'}"
    if rtol is None and error.kind != "exact":
        success, message = None, f"{error.kind}; no tolerance was asked for"
    return Certificate(
        method=method,
        kind=error.kind,
        absolute=absolute,
        relative=relative_error(absolute, size),
        norm=norm,
        confidence=error.confidence,
        terms=error.terms,
        steps=steps or {},
        rtol_requested=rtol,
        success=success,
        message=message,
    )


def require_reached(
    certificates: Mapping[str, Certificate], tolerance: Tolerance, dtype: str
) -> None:
    """Raise ToleranceError if a positive tolerance was asked for and an output misses it."""
    if not tolerance.rtol:
        return
    best, worst = 0.0, ""
    for name, certificate in certificates.items():
        if certificate.success:
            continue
        needed = _best_rtol(certificate, tolerance.atol)
        if needed >= best:
            best, worst = needed, name
    if not worst:
        return
    made = certificates[worst]
    if made.kind == "exact":
        remedy = "use float64, or " if dtype == "float32" else ""
        limit = f"below what rounding in {dtype} lets us certify"
    else:
        remedy = "use method='auto', or "
        limit = f"below what method {made.method!r} could certify ({made.kind})"
    if math.isfinite(best):
        ask = f"ask for rtol >= {round_up(best)} (or None for exact)"
    elif math.isfinite(made.absolute):
        # No tolerance relative to a gradient that may be zero can be certified.
        least = (1.0 + tolerance.rtol) * made.absolute
        ask = f"give atol >= {round_up(least)}, as the gradient may be zero"
    else:
        ask = "ask for rtol=None (exact)"
    raise ToleranceError(
        f"rtol: found {tolerance.rtol:g}, {limit} for the gradient by {worst}; {remedy}{ask}",
        best_rtol=best,
    )


def _best_rtol(certificate: Certificate, atol: float) -> float:
    if not math.isfinite(certificate.relative):
        return math.inf
    # relative = absolute / truth, so the share that atol covers is atol / truth.
    return certificate.relative * (1.0 - atol / certificate.absolute)


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
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step) * step:.2g}"
