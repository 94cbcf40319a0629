"""The smallest polynomial and set of monomials that meet a tolerance on the data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..errors import OptionError, ToleranceError
from ..memory import check_fits
from ..polynomials import ExpPolynomial
from .fit import MAX_DEGREE, Interval, fit_polynomial, logit_interval
from .index_set import IndexSet, anisotropic, feature_count
from .monomials import feature_bytes, feature_weights, monomials
from .sampling import Sample, sample_pairs
from .transform import Balance

__all__ = ["Choice", "Request", "search"]

# For what the sample of a large problem does not show. Of 596 fits with an error below 1, to heads,
# Gaussian, Student-t and one-dimensional data, the error over all pairs was more than 1.25 times
# that over the sample in 2 (both Student-t with wide logits; 1.38 and 1.72 times).
SAMPLING_MARGIN = 1.25
# An error of the polynomial below this share of the whole: a higher degree does not help.
NEGLIGIBLE = 0.1
# Sets of features that are tried under a tolerance, each this many times the one before.
GROWTH = 2


@dataclass(frozen=True)
class Request:
    """What is asked for; ``degree`` or ``rtol`` may be None, not both."""

    degree: int | None
    rtol: float | None
    kind: str
    max_features: int
    anisotropic: bool
    random: np.random.Generator


@dataclass(frozen=True, eq=False)
class Choice:
    """What was found: P, the monomials, where the logits lie, and the error of eq. (106)."""

    polynomial: ExpPolynomial
    index: IndexSet
    interval: Interval
    error: float


def search(request: Request, change: Balance, query: Array, key: Array) -> Choice:
    """The choice for a request.

    Parameters
    ----------
    request : Request
        Checked already.
    change : Balance
        Of these queries and keys.
    query, key : (n, E), (m, E) arrays
        The data.

    Raises
    ------
    OptionError
        If the degree has more features than are allowed.
    ToleranceError
        If none meets ``rtol``; ``best_rtol`` would have been met.
    """
    width = len(change.spectrum)
    degrees = _degrees(request, width)
    sample = sample_pairs(change, query, key, request.random)
    # Errors are measured on pairs that the polynomial was not fitted to.
    check = sample_pairs(change, query, key, request.random)
    coordinates = change.queries(query[check.queries]), change.keys(key[check.keys])
    margin = 1.0 if check.complete else SAMPLING_MARGIN
    interval = logit_interval(sample, change.logit_bound(query, key))
    best = math.inf
    for degree in degrees:
        polynomial = fit_polynomial(request.kind, degree, interval, sample)
        limit = check.error(polynomial(check.logits))
        error = math.inf
        for index in _sets(request, change.spectrum, degree, limit):
            error = _measured(polynomial, index, change.sign, coordinates, check)
            if request.rtol is None or error * margin <= request.rtol:
                return Choice(polynomial, index, interval, error)
        best = min(best, error * margin)
        if limit < NEGLIGIBLE * error:
            # What is left is not the polynomial's: rounding, or monomials that were left out.
            break
    low, high = sample.range
    raise ToleranceError(
        f"rtol: found {request.rtol:g}, where degree {degree} with at most "
        f"{request.max_features} features reaches no better than {best:.2g} in {query.dtype}; "
        f"centred logits go from {low:.3g} to {high:.3g}: allow more features or a larger rtol",
        best_rtol=best,
    )


def _degrees(request: Request, width: int) -> range:
    """The degrees to try, rising; all of them are affordable."""
    most = request.max_features
    largest = MAX_DEGREE
    while feature_count(width, largest) > most and largest > 0:
        largest -= 1
    if request.degree is None:
        return range((MAX_DEGREE if request.anisotropic else largest) + 1)
    if request.degree > largest and not request.anisotropic:
        raise OptionError(
            f"degree: found {request.degree}, which has {feature_count(width, request.degree)} "
            f"features at width {width} where max_features is {most}; "
            f"use degree={largest}, anisotropic=True, or allow more features"
        )
    return range(request.degree, request.degree + 1)


def _sets(request: Request, spectrum: Array, degree: int, limit: float) -> Iterator[IndexSet]:
    """The sets of monomials to try at one degree, of rising size, the last as large as allowed.

    ``limit`` is the error of the polynomial itself: above the tolerance, smaller sets are no use.
    """
    width = len(spectrum)
    largest = min(feature_count(width, degree), request.max_features)
    sizes = [largest]
    if request.anisotropic and request.rtol is not None and limit <= request.rtol:
        while sizes[-1] > width + 1:
            sizes.append(sizes[-1] // GROWTH)
    for size in reversed(sizes):
        yield anisotropic(spectrum, degree, size)


def _measured(
    polynomial: ExpPolynomial,
    index: IndexSet,
    sign: float,
    coordinates: tuple[Array, Array],
    sample: Sample,
) -> float:
    """The error of the features themselves, in the dtype of the data."""
    count, itemsize = sum(map(len, coordinates)), coordinates[0].dtype.itemsize
    check_fits("ExpFeatures.fit", 2 * feature_bytes(count, index.size, itemsize))
    weights = feature_weights(polynomial.power, index, sign)
    left, right = (
        monomials(rows, index) * weight.astype(rows.dtype)
        for rows, weight in zip(coordinates, weights, strict=True)
    )
    return sample.error(left @ right.T)
