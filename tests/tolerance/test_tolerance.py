"""A tolerance said to be met is met; one that cannot be met is refused, with one that can."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
from scipy.stats import binom

import attngrad_rs as ag
from attngrad_rs import reference
from families import problem
from helpers import frobenius

pytestmark = pytest.mark.sweep

# Long enough that the near-linear method is the cheaper one, short enough for a dense truth.
N, D = 2048, 6
PER_DECADE = 8
DECADES = 14
FAMILIES = ("uniform", "normal", "one direction")
# Estimated certificates may miss one in a hundred: the 99.9 % limit of the binomial law below.
MISS, CONFIDENCE = 0.01, 0.999
RTOLS = [10.0 ** (-step / PER_DECADE) for step in range(PER_DECADE * DECADES + 1)]


@functools.cache
def truth(family: str, dtype: str, is_causal: bool) -> np.ndarray:
    given = {key: array.astype(np.longdouble) for key, array in made(family, dtype).items()}
    return reference.Problem(*given.values(), is_causal=is_causal).gradient("X")


@functools.cache
def made(family: str, dtype: str) -> dict[str, np.ndarray]:
    return problem(family, N, D, 1, dtype)


def allowed_misses(count: int) -> int:
    """The least k with P(Binomial(count, MISS) <= k) >= CONFIDENCE."""
    return int(binom.ppf(CONFIDENCE, count, MISS))


@pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", ["auto", "polynomial"])
def test_the_sweep(method: str, dtype: str, is_causal: bool) -> None:
    tried, missed, worst, kinds, refused = 0, 0, 0.0, set(), []
    floors, by_name = [], []
    # Every family meets every third tolerance.
    for number, family in enumerate(FAMILIES):
        given, want = made(family, dtype), truth(family, dtype, is_causal)
        for rtol in RTOLS[number :: len(FAMILIES)]:
            options = {"is_causal": is_causal, "method": method, "rtol": rtol}
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always", ag.PrecisionWarning)
                try:
                    result = ag.loss_gradient(**given, **options)
                except ag.ToleranceError as error:
                    if error.result is None:
                        # Nothing was computed: no data could reach it.
                        floors.append((rtol, error.best_rtol / np.finfo(dtype).eps))
                    else:
                        by_name.append(options["method"])
                        refused.append((given, options, error.best_rtol))
                    continue
            if warned:
                # The exact result, and what it does reach.
                assert method == "auto"
                assert result.plan.method == "exact"
                assert result.certificate.success is False
                refused.append((given, options, result.certificate.best_rtol))
                continue
            assert result.certificate.success is True
            achieved = float(frobenius(result.gradient - want) / frobenius(want))
            kinds.add(result.certificate.kind)
            tried += 1
            worst = max(worst, achieved / rtol)
            if not achieved <= rtol:
                # Only an estimate may be wrong, and rarely.
                assert result.certificate.kind == "estimated", (family, rtol, achieved)
                missed += 1
    print(
        f"{method} {dtype} causal={is_causal}: {tried} met, {len(refused)} refused, {kinds}, "
        f"worst achieved / requested {worst:.2f}, {missed} missed"
    )
    assert tried >= len(RTOLS) // 5
    assert "auto" not in by_name
    assert all(rtol < 8 * np.finfo(dtype).eps and 1 <= floor <= 8 for rtol, floor in floors)
    assert missed <= allowed_misses(tried)
    # A refusal names a tolerance that does: one in four is tried.
    for given, options, best in refused[:: PER_DECADE // 2]:
        assert 0.0 < best < np.inf
        again = ag.loss_gradient(**given, **options | {"rtol": 1.01 * best})
        assert again.certificate.success is True


def test_the_sweep_reaches_the_near_linear_method() -> None:
    result = ag.loss_gradient(**problem("uniform", 4 * N, D, 1), rtol=1e-2)
    assert result.plan.method == "polynomial"
    assert result.certificate.kind in ("estimated", "rigorous")


def test_the_limit_of_the_binomial_law() -> None:
    # Tables: P(Binomial(2000, 0.01) <= 34) = 0.9989, <= 35 = 0.9994.
    assert allowed_misses(2000) == 35
    assert allowed_misses(1) == 1
