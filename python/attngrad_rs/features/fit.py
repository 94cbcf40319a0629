"""Which polynomial: on which interval, from which samples, of which degree; eq. (106)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import RangeError
from ..polynomials import ExpPolynomial, exp_polynomial
from .sampling import Sample

__all__ = [
    "LARGEST_LOGIT",
    "MAX_DEGREE",
    "WANTED_DEGREE",
    "Interval",
    "fit_polynomial",
    "logit_interval",
]

Interval = tuple[float, float]

# Coefficients by powers of the logit cancel beyond it, at the logits that need such a degree.
MAX_DEGREE = 24
WANTED_DEGREE = f"an integer from 0 to {MAX_DEGREE}"
# Half of the narrowest interval that is fitted: on it degree 3 is right to 1e-13 already, and
# logits that all but vanish have no spread of their own to fit to.
NARROWEST = 1e-3
# Different logits per coefficient below which least squares takes the whole interval for them.
SAMPLES_PER_COEFFICIENT = 4
# Logits that a polynomial is made for at all, as far as ``polynomials`` goes.
LARGEST_LOGIT = 256.0
# Outwards, for what the logits and their bound lose to rounding.
ROUNDING = 1e-6


class _Points(NamedTuple):
    samples: np.ndarray[tuple[int], np.dtype[np.float64]]
    weights: np.ndarray[tuple[int], np.dtype[np.float64]]


def logit_interval(sample: Sample, bound: float) -> Interval:
    """An interval that holds every centred logit of the data: their range, or -bound ... bound."""
    low, high = sample.range if sample.complete else (-bound, bound)
    outward = ROUNDING * max(abs(low), abs(high))
    return min(low - outward, -NARROWEST), max(high + outward, NARROWEST)


def fit_polynomial(kind: str, degree: int, interval: Interval, sample: Sample) -> ExpPolynomial:
    """P of one kind near exp.

    Least squares takes the sampled logits, weighted so that it makes eq. (106) smallest, and the
    range of these logits for its basis; the other kinds take the interval.
    """
    if kind != "least_squares":
        _require_small(interval)
        return exp_polynomial(kind, degree, interval)
    low, high = sample.range
    enough = SAMPLES_PER_COEFFICIENT * (degree + 1)
    few = high - low < NARROWEST or len(np.unique(sample.logits)) < enough
    interval = interval if few else (low, high)
    _require_small(interval)
    points = _spread_points(interval, enough) if few else _sampled_points(sample)
    return exp_polynomial(kind, degree, interval, samples=points.samples, weights=points.weights)


def _require_small(interval: Interval) -> None:
    low, high = interval
    if max(-low, high) > LARGEST_LOGIT:
        raise RangeError(
            f"query: found centred logits from {low:.3g} to {high:.3g}, and polynomials for logits "
            f"up to {LARGEST_LOGIT:g} only: scale the inputs or scale down, "
            "or use the exact method"
        )


def _sampled_points(sample: Sample) -> _Points:
    # Squares of relative errors: weights of eq. (106) over e^{2t}; only their ratios matter.
    logits = sample.logits - sample.range[0]
    weights = sample.pair_weights * np.exp(-2.0 * logits)
    return _Points(sample.logits.ravel(), weights.ravel())


def _spread_points(interval: Interval, count: int) -> _Points:
    """Chebyshev points of the interval, for squares of relative errors."""
    low, high = interval
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    samples = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    return _Points(samples, np.exp(-2.0 * (samples - low)))
