"""The definitions of q(x) and of r_j = <f_j, q_j>, which is <c_j, o_j>: eq. (2.1), (2.3), (2.4)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

from helpers import ALGEBRA, assert_ratio, largest, problem
from strategies import Case, tame

pytestmark = pytest.mark.spec
SLACK = 64 * np.finfo(np.float64).eps


@ALGEBRA
@given(tame())
def test_q_is_the_inner_products_of_c_and_h(case: Case) -> None:
    quantities = problem(case)
    for j, c in enumerate(quantities.c):
        for i, h in enumerate(quantities.h):
            size = math.fsum(np.abs(c * h)) + np.finfo(np.float64).tiny
            assert_ratio(quantities.q[j, i], math.fsum(c * h), size, SLACK, "q")


@ALGEBRA
@given(tame(causal=None))
def test_q_is_the_derivative_of_the_loss_by_f(case: Case) -> None:
    """The loss is quadratic in f, so one central difference of any size is exact."""
    quantities = problem(case)
    rng = np.random.default_rng(0)
    direction = rng.standard_normal(quantities.f.shape)
    high, low = (
        0.5 * np.sum(((quantities.f + sign * direction) @ quantities.h - case.E) ** 2)
        for sign in (1.0, -1.0)
    )
    size = abs(high) + abs(low) + 1.0
    assert_ratio((high - low) / 2, np.sum(direction * quantities.q), size, 16 * SLACK, "q")


@ALGEBRA
@given(tame(causal=None))
def test_r_needs_no_sum_over_keys(case: Case) -> None:
    quantities = problem(case)
    size = largest(quantities.c) * largest(quantities.h) * case.Y.shape[1] + 1e-300
    assert_ratio(quantities.r, quantities.r_from_output, size, SLACK, "r")


@ALGEBRA
@given(tame(causal=None))
def test_r_is_the_mean_of_q_under_f(case: Case) -> None:
    quantities = problem(case)
    for j, (f, q) in enumerate(zip(quantities.f, quantities.q, strict=True)):
        size = math.fsum(np.abs(f * q)) + np.finfo(np.float64).tiny
        assert_ratio(quantities.r[j], math.fsum(f * q), size, SLACK, "r")
