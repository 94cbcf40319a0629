"""Data that polynomials do not serve for: a right result with a true certificate, or one error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag

N, D = 2048, 8
Problem = dict[str, Any]
NAMED: Problem = {"method": "polynomial", "degree": 2}
WAYS: list[Problem] = [NAMED, {**NAMED, "rtol": 1e-2}, {"rtol": 1e-2}]


def uniform() -> Problem:
    rng = np.random.default_rng(0)
    side = lambda: rng.uniform(-1.0, 1.0, (N, D))  # noqa: E731
    arrays = {"A1": side(), "A2": side(), "A3": side(), "X": np.eye(D), "Y": np.eye(D)}
    return arrays | {"E": rng.standard_normal((N, D))}


def one_large_query(given: Problem) -> None:
    given["A1"][5] *= 300.0


def large_logits(given: Problem) -> None:
    given["A1"] *= 1e6


def one_query(given: Problem) -> None:
    given["A1"], given["E"] = given["A1"][:1], given["E"][:1]


def one_key(given: Problem) -> None:
    given["A2"], given["A3"] = given["A2"][:1], given["A3"][:1]


def equal_keys(given: Problem) -> None:
    given["A2"][:] = given["A2"][0]


def equal_queries(given: Problem) -> None:
    given["A1"][:] = given["A1"][0]


def zero_queries(given: Problem) -> None:
    given["A1"][:] = 0.0


def zero_values(given: Problem) -> None:
    given["A3"][:] = 0.0


def zero_gradient(given: Problem) -> None:
    given["Y"][:] = 0.0
    given["E"][:] = 0.0


@pytest.mark.parametrize("options", WAYS, ids=["named", "named-rtol", "auto"])
@pytest.mark.parametrize(
    "spoil",
    [
        one_large_query, large_logits, one_query, one_key, equal_keys, equal_queries, zero_queries,
        zero_values, zero_gradient,
    ],
)  # fmt: skip
def test_degenerate_data(spoil: Callable[[Problem], None], options: Problem) -> None:
    given = uniform()
    spoil(given)
    exact = ag.loss_gradient(**given)
    # A gradient that is zero by structure is known, and reached by every method.
    found = ag.loss_gradient(**given, **options)
    error = float(np.linalg.norm(found.gradient - exact.gradient))
    # The reference has a rounding error of its own.
    assert error <= found.certificate.absolute + exact.certificate.absolute
    if "rtol" in options:
        assert found.certificate.success is True
        assert error <= 1e-2 * np.linalg.norm(exact.gradient) + exact.certificate.absolute
    assert np.isfinite(found.gradient).all()


def test_rows_computed_exactly_are_counted() -> None:
    given = uniform()
    one_large_query(given)
    result = ag.loss_gradient(**given, **NAMED, certificate="estimated")
    assert result.plan.method == "polynomial"
    assert result.plan.exact_rows is not None
    assert 1 <= result.plan.exact_rows < N / 4


@pytest.mark.parametrize("degree", [9, 30])
def test_more_features_than_memory_holds_are_refused_with_their_number(degree: int) -> None:
    wide = {name: np.tile(array, 2) for name, array in uniform().items() if name not in ("X", "Y")}
    eye = np.eye(2 * D)
    with pytest.raises((ag.OptionError, ag.OutOfMemoryError), match=r"found \D*\d{6,}") as caught:
        ag.loss_gradient(**wide, X=eye, Y=eye, method="polynomial", degree=degree)
    assert "degree" in str(caught.value)


@pytest.mark.parametrize("options", [NAMED, {"method": "polynomial"}])
def test_a_tolerance_out_of_reach_names_the_best_one(options: Problem) -> None:
    given = uniform()
    with pytest.raises(ag.ToleranceError) as caught:
        ag.loss_gradient(**given, **options, rtol=1e-12, rng=7)
    best = caught.value.best_rtol
    assert 1e-12 < best < 1.0
    assert caught.value.result.certificate.best_rtol == best
    again = ag.loss_gradient(**given, **options, rtol=best * (1 + 1e-12), rng=7)
    assert again.certificate.success is True
    assert np.array_equal(again.gradient, caught.value.result.gradient)
