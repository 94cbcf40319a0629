"""Plans and what they were asked for: replayed, absolute, by the largest entry, without a seed."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from families import problem
from helpers import assert_same_bits, largest

pytestmark = pytest.mark.sweep

# Long and narrow, so that the near-linear method is the cheaper one and the exact one still quick.
N, D = 8000, 3


@functools.cache
def given() -> dict[str, Any]:
    return problem("uniform", N, D, 3, "float64")


ASKED: list[dict[str, Any]] = [
    {"rtol": 1e-2},
    {"rtol": 1e-2, "norm": "max"},
    {"atol": 1e-2},
    {"rtol": 1e-3, "atol": 1e-3, "norm": "max", "certificate": "estimated"},
    {"method": "polynomial", "degree": 2, "certificate": "estimated", "rng": 7},
    {"method": "polynomial", "degree": 2, "certificate": "rigorous"},
    {"method": "polynomial", "rtol": 1e-2, "rng": 3},
    {},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_a_plan_replays_what_it_was_asked_for(asked: dict[str, Any]) -> None:
    arrays = given()
    want = ag.loss_gradient(**arrays, **asked)
    plan = ag.plan_loss_gradient(**arrays, **asked)
    for got in (
        ag.loss_gradient(**arrays, plan=plan),
        plan.execute(),
        # As often as one likes: what the first execution prepared changes nothing.
        plan.execute(),
        ag.loss_gradient(**arrays, plan=want.plan),
    ):
        assert_same_bits(got.gradient, want.gradient, str(asked))
        assert got.certificate == want.certificate
        assert got.plan.degree == want.plan.degree


def test_what_is_said_beside_a_plan_holds() -> None:
    arrays = given()
    plan = ag.plan_loss_gradient(**arrays, rtol=1e-2)
    assert plan.method == "polynomial", plan.reason
    other = ag.loss_gradient(**arrays, plan=plan, rtol=1e-9)
    assert other.certificate.success
    assert other.plan.method == "exact", "no plan is a reason to miss a tolerance"
    named = ag.loss_gradient(**arrays, plan=plan, rtol=1e-2, rng=5)
    assert named.plan.method == "polynomial"
    assert not np.array_equal(named.gradient, plan.execute().gradient), "another seed, other rows"


@pytest.mark.parametrize("norm", ["fro", "max"])
def test_a_plan_for_an_absolute_tolerance(norm: str) -> None:
    arrays = given()
    exact = ag.loss_gradient(**arrays, norm=norm)
    size = largest(exact.gradient) if norm == "max" else float(np.linalg.norm(exact.gradient))
    plans = []
    for share in (0.3, 1e-3, 1e-12):
        asked = {"atol": share * size, "norm": norm}
        plan = ag.plan_loss_gradient(**arrays, **asked)
        result = ag.loss_gradient(**arrays, **asked)
        error = result.gradient - exact.gradient
        found = largest(error) if norm == "max" else float(np.linalg.norm(error))
        rounding = exact.certificate.absolute
        assert result.certificate.success
        assert found <= asked["atol"] + rounding
        assert result.plan.method == "exact" or found <= result.certificate.absolute + rounding
        plans.append(plan)
    # It is planned for, and not only judged: what little will do is cheap.
    assert plans[0].method == "polynomial"
    assert plans[-1].method == "exact"
    degrees = [plan.degree for plan in plans if plan.degree is not None]
    assert degrees == sorted(degrees)
    assert plans[0].predicted_error <= 0.3


def heads(seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(0.5 * rng.standard_normal((400, 3)) for _ in range(4))


def test_the_rows_of_a_vector_jacobian_product_are_drawn_by_its_data() -> None:
    """The same call draws the same rows; a change far below the spread of rows draws others."""
    query, key, value, dout = heads(0)
    options: dict[str, Any] = {"method": "polynomial", "degree": 1, "certificate": "estimated"}

    def bounds(dout: np.ndarray) -> list[float]:
        found = ag.attention_vjp(query, key, value, dout, **options).certificates
        return [found[name].absolute for name in ("query",)]

    first = bounds(dout)
    assert np.all(np.isfinite(first))
    assert bounds(dout.copy()) == first
    for threads in (1, 2):
        options["threads"] = threads
        assert bounds(dout) == first
    other = bounds(dout * (1.0 + 1e-12))
    assert abs(other[0] / first[0] - 1.0) > 1e-9
