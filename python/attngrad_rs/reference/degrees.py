"""The degree that a polynomial for e^t needs, and how many features that makes.

Laws with all constants, in the letters of docs/math.md: a polynomial P of degree g is good to ε on
``|t| ≤ r`` where ``|P(t) e^-t − 1| ≤ ε`` there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .softmax import Array

__all__ = [
    "DegreeLaw",
    "degree_law",
    "feature_count",
    "least_degree_by_growth",
    "log_feature_count",
    "paper_degree",
    "spread_error",
    "sufficient_degree",
]

# The law is for errors up to a tenth.
LARGEST_LOG_ERROR = math.log(0.1)


class DegreeLaw(NamedTuple):
    """Both sides of the law for the least degree: ``least <= g <= most``."""

    least: float
    most: float


def degree_law(reach: float, log_error: float) -> DegreeLaw:
    """Between which numbers the least degree lies that is good to ε for −r ≤ t ≤ r; eq. (12.6).

    The degree law of Aggarwal and Alman with explicit constants.

    Parameters
    ----------
    reach : float
        r > 0. B² for entries up to B, with the paper's scale 1/d.
    log_error : float
        ln ε, at most ln 0.1.

    Examples
    --------
    >>> least, most = degree_law(1.0, math.log(1e-9))
    >>> round(least, 2), round(most, 2)
    (0.85, 26.07)
    """
    if not (reach > 0.0 and log_error <= LARGEST_LOG_ERROR):
        raise ValueError(f"found r = {reach}, ln ε = {log_error}; expected r > 0 and ε <= 0.1")
    slow = -log_error / math.log(math.e - log_error / reach)
    return DegreeLaw(max((reach + slow) / 4.1 - 1.0, 0.0), 5.7 * reach + 3.1 * slow)


def sufficient_degree(reach: float, log_error: float) -> int:
    """The least degree with 2 e^(2r) (r/2)^(g+1) / (g+1)! ≤ ε: what (7.12) proves to be enough.

    Arguments as of :func:`degree_law`, for any ε.

    Examples
    --------
    >>> sufficient_degree(0.5, math.log(1e-3))
    3
    """
    if not (reach > 0.0 and math.isfinite(log_error)):
        raise ValueError(f"found r = {reach}, ln ε = {log_error}; expected r > 0 and ε > 0")
    return _least(lambda count: _log_upper(reach, count) <= log_error, reach) - 1


def least_degree_by_growth(reach: float, error: float) -> float:
    """A number that the degree of every P good to ε < 1 on [−r, r] is at least; eq. (12.8).

    By the growth of polynomials: P is at most 1 + ε on [−r, 0], and at least (1 − ε) e^r at r.

    Examples
    --------
    >>> round(least_degree_by_growth(10.0, 0.1), 2)
    5.56
    """
    return max((reach - math.log((1.0 + error) / (1.0 - error))) / math.acosh(3.0), 0.0)


def _log_upper(reach: float, count: int) -> float:
    """ln of the upper side of (7.12) for relative minimax; ``count`` is g + 1."""
    return math.log(2.0) + 2.0 * reach + count * math.log(reach / 2.0) - math.lgamma(count + 1.0)


def _least(holds: Callable[[int], bool], reach: float) -> int:
    """The least count from which on something holds that only can beyond r/2."""
    low = max(math.floor(reach / 2.0), 1)
    if holds(low):
        return low
    high = 2 * low
    while not holds(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def paper_degree(reach: float, eps: float) -> int:
    """The paper's degree for e^t on [−R, R], R = B², to ε, without its constant.

    max(log(1/ε) / log(log(1/ε)/R), R), from Alman & Song, arXiv 2302.13214 (Lemma 3.1, after
    Aggarwal & Alman): the first part while R stays below log(1/ε), the second beyond.
    """
    wanted = math.log(1.0 / eps)
    first = wanted / math.log(wanted / reach) if 0.0 < reach < wanted / math.e else wanted
    return math.ceil(max(first, reach))


def feature_count(width: int, degree: int) -> int:
    """Monomials of so many coordinates up to a degree, C(d + g, g): the rank of U1 V1ᵀ.

    The paper's k1 has C(2 (g + d), 2 g) for it.
    """
    return math.comb(width + degree, degree)


def log_feature_count(width: float, degree: float) -> float:
    """ln C(d + g, g) for numbers of any size.

    >>> round(math.exp(log_feature_count(16, 2)), 9)
    153.0
    """
    return math.lgamma(width + degree + 1.0) - math.lgamma(width + 1.0) - math.lgamma(degree + 1.0)


def spread_error(spreads: Array, degree: int, weights: Array | None = None) -> float:
    """(mean of P[Poisson(σ_j²) > g])^½, what a polynomial neglects of Gaussian logits; eq. (12.26).

    Parameters
    ----------
    spreads : array (n,)
        σ_j, the standard deviation of the logits of query j over all keys.
    degree : int
        g.
    weights : array (n,), optional
        Weights of the mean; all alike unless given.

    Examples
    --------
    >>> import numpy as np
    >>> round(spread_error(np.array([1 / 3]), 3), 5)
    0.00241
    """
    squares = np.square(np.asarray(spreads, float))
    tails = np.array([_poisson_tail(float(mean), degree) for mean in squares])
    return float(np.sqrt(np.average(tails, weights=weights)))


def _poisson_tail(mean: float, most: int) -> float:
    """P[Poisson(mean) > most]: the terms beyond, or what those up to it leave of 1."""
    if mean == 0.0:
        return 0.0
    if mean > most + 1:
        return 1.0 - sum(_poisson_term(mean, count) for count in range(most + 1))
    # Beyond its mean the terms fall at least geometrically.
    total, count, term = 0.0, most + 1, _poisson_term(mean, most + 1)
    while term > total * 2.0**-54:
        total += term
        count += 1
        term *= mean / count
    return total


def _poisson_term(mean: float, count: int) -> float:
    return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1.0))
