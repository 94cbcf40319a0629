"""The mathematics of the experiments against other ways to the same numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs.experiments import dense, hard, oracle, problems, propagation, reduction
from attngrad_rs.experiments.approximations import Fit, favor, sup_error_law
from attngrad_rs.experiments.gaps import wrong_share
from attngrad_rs.experiments.rows import real
from attngrad_rs.reference.degrees import paper_degree
from helpers import assert_close, assert_ratio

FAMILIES = (*problems.FAMILIES, problems.HEADS)
# Of sums of a few hundred float64 numbers.
ROUNDING = 1e-12
# Of central differences with the step below, relative.
STEP, DIFFERENCE = 1e-4, 1e-6


def data(family: str = "uniform", n: int = 40, d: int = 5, bound: float = 1.5) -> problems.Data:
    return problems.make(family, n, d, bound=bound)


# -- problems -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_families_have_their_bound_and_their_seed(family: str) -> None:
    one = data(family, bound=2.5)
    assert one.bound == pytest.approx(2.5, rel=1e-15)
    assert np.array_equal(one.query, data(family, bound=2.5).query)
    assert not np.array_equal(one.query, problems.make(family, 40, 5, bound=2.5, seed=1).query)
    scaled = problems.scaled_to(one, 0.25)
    assert np.mean(np.square(scaled.query)) == pytest.approx(0.25)
    assert np.mean(np.square(scaled.key)) == pytest.approx(0.25)


@pytest.mark.parametrize("reach", [1.0, 20.0])
def test_the_hard_family_is_the_papers(reach: float) -> None:
    one = hard.hard(64, reach)
    logits = one.scale * one.query @ one.key.T
    slack = ROUNDING * reach
    assert logits.min() >= -slack
    assert logits.max() <= reach + slack
    assert np.all(np.sum(logits >= reach - slack, axis=1) >= 32)
    assert set(np.unique(one.value)) <= {0.0, 1.0}
    assert not one.target.any()


def test_a_gap_instance_hides_what_it_says() -> None:
    instance = hard.gap(128, 50.0, 64)
    assert np.array_equal(instance.planted > 0.0, instance.product.min(axis=1) == 0.0)
    assert np.all(instance.planted[:64] == 1.0)
    assert instance.planted.mean() < 1.0
    one = instance.data
    z = np.exp(-50.0 * instance.product / instance.product.max()).sum(axis=1)
    output = dense.attention(dense.exponential(one)) @ one.value
    assert_close(output[:, 0], z / (64 + z), ROUNDING, "output of the gap instance")
    assert wrong_share(output[:, 0], instance) == 0.0
    assert wrong_share(np.full(128, np.nan), instance) == 1.0
    assert wrong_share(np.ones(128), instance) == 1.0 - instance.planted.mean()


# -- dense formulas -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_formulas_are_those_of_the_reference(family: str) -> None:
    one = data(family)
    want = reference.Problem(**one.arguments())
    f = dense.attention(dense.exponential(one))
    got = dense.from_attention(f, one)
    assert_close(got.by_X, want.dX, ROUNDING, "dL/dX")
    assert_close(got.output, want.o, ROUNDING, "o")
    for name, values in dense.steps(f, one)._asdict().items():
        assert_close(values, getattr(want, name), ROUNDING, name)
    assert_close(oracle.loss(one), want.loss, ROUNDING, "loss")


@pytest.mark.parametrize("degree", [1, 3])
def test_a_polynomial_takes_the_place_of_the_exponential(degree: int) -> None:
    one = data(bound=0.7)
    polynomial = Fit(one).polynomial("minimax_relative", degree)
    assert polynomial is not None
    centred = replace(one, key=one.centred_key)
    want = reference.Problem(**centred.arguments(), stable=False, exp=polynomial)
    got = dense.gradient(polynomial(one.logits), one)
    assert_close(got.by_X, want.dX, ROUNDING, "dL/dX with P")


def test_rows_without_a_positive_sum_are_an_infinite_error() -> None:
    one = data()
    got = dense.gradient(-np.ones((40, 40)), one)
    assert dense.relative_error(got.by_X, np.eye(5)) == math.inf


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 100))
@settings(max_examples=40)
def test_ranks_are_those_of_the_singular_values(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((n, m)) * np.logspace(0, -4, m)
    values = np.linalg.svd(matrix, compute_uv=False)
    for eps, rank in zip(
        (0.3, 1e-2, 1e-3), dense.epsilon_ranks(matrix, (0.3, 1e-2, 1e-3)), strict=True
    ):
        left_out = [np.linalg.norm(values[k:]) for k in range(len(values) + 1)]
        want = min(k for k, rest in enumerate(left_out) if rest <= eps * left_out[0])
        assert rank == want


def test_random_features_are_right_on_average() -> None:
    one = data(n=12, bound=1.0)
    found = dense.attention(favor(one, 20_000, 0))
    want = dense.attention(dense.exponential(one))
    # Of 20 000 features: a standard error of a per cent.
    assert_ratio(found, want, want, 0.05, "attention from random features")


def test_laws() -> None:
    for reach, degree in ((0.5, 2), (1.0, 4)):
        best = ag.polynomials.exp_polynomial("minimax", degree, (-reach, reach)).absolute_bound()
        assert best == pytest.approx(sup_error_law(reach, degree), rel=0.1)
    assert paper_degree(50.0, 1e-3) == 50
    assert paper_degree(0.01, 1e-3) == math.ceil(math.log(1e3) / math.log(math.log(1e3) / 0.01))


# -- error propagation ----------------------------------------------------------------------------


def dense_factor(one: problems.Data, f: Any, quantity: str, shape: tuple[int, int]) -> float:
    """The largest singular value of the derivative, entry by entry."""
    columns = []
    for index in range(shape[0] * shape[1]):
        delta = np.zeros(shape[0] * shape[1])
        delta[index] = STEP
        delta = delta.reshape(shape)
        high = propagation.disturbed(one, f, quantity, delta)
        low = propagation.disturbed(one, f, quantity, -delta)
        columns.append(((high - low) / (2 * STEP)).ravel())
    return float(np.linalg.svd(np.array(columns), compute_uv=False)[0])


@pytest.mark.parametrize("quantity", propagation.QUANTITIES)
def test_the_worst_disturbance_is_the_norm_of_the_derivative(quantity: str) -> None:
    tables = propagation.measure("uniform", 9, 2.0, quantity)
    (row,) = tables["factor"]
    one = problems.make("uniform", 9, propagation.WIDTH, bound=2.0)
    f = dense.attention(dense.exponential(one))
    clean = {"h": one.value, **dense.steps(f, one)._asdict()}[quantity]
    truth = np.linalg.norm(dense.from_attention(f, one).by_X)
    want = dense_factor(one, f, quantity, clean.shape) * np.linalg.norm(clean) / truth
    # The power iteration stops within a per cent of the largest value, from below.
    assert_ratio(row["worst"], want, want, 0.01, f"worst factor of {quantity}")
    assert row["worst"] <= want * (1 + DIFFERENCE)
    assert row["random"] <= want * (1 + DIFFERENCE)
    assert want <= row["bound"] * (1 + DIFFERENCE)


# -- the reduction --------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.0, 0.3, 1.0])
def test_slope_and_second_derivative_are_those_of_the_loss(at: float) -> None:
    one = replace(data(n=30, d=4), target=np.full((30, 4), 0.2))
    arguments = one.arguments()

    def loss(factor: float) -> float:
        return ag.loss(**{**arguments, "X": factor * np.eye(4)})

    first = (loss(at + STEP) - loss(at - STEP)) / (2 * STEP)
    second = (loss(at + STEP) - 2 * loss(at) + loss(at - STEP)) / STEP**2
    got = oracle.slope(oracle.exact_oracle, one, at)
    assert_ratio(got, first, abs(first), DIFFERENCE, "dL/dλ")
    assert_ratio(oracle.second_derivative(one, at), second, abs(second), 1e-3, "d²L/dλ²")
    assert_close(oracle.loss_at_zero(one), loss(0.0), ROUNDING, "L(0)")


@pytest.mark.parametrize(("rule", "count"), [(oracle.LEFT, 2048), (oracle.GAUSS, 7)])
def test_the_integral_gives_the_loss(rule: str, count: int) -> None:
    one = hard.hard(16, 3.0)
    got = oracle.recovered(oracle.exact_oracle, one, rule, count)
    slack = 1e-9 if rule == oracle.GAUSS else 1e-3
    assert_ratio(got, oracle.loss(one), oracle.loss(one), slack, rule)


@pytest.mark.parametrize("reach", [0.5, 4.0, 30.0])
def test_the_left_sum_stays_within_its_bound(reach: float) -> None:
    one = hard.hard(32, reach)
    grid = np.linspace(0.0, 1.0, 31)
    largest = max(abs(oracle.second_derivative(one, at)) for at in grid)
    for count in (1, 2, 5):
        bound = oracle.sum_bound(one, reach, count)
        assert largest / (2 * count) <= bound
        got = oracle.recovered(oracle.exact_oracle, one, oracle.LEFT, count)
        assert abs(got - oracle.loss(one)) <= bound


@pytest.mark.parametrize("reach", [0.5, 4.0, 30.0])
def test_gauss_legendre_stays_within_the_bound_that_is_drawn(reach: float) -> None:
    """The bound is (12.19), with logits that differ by at most the reach."""
    one = hard.hard(32, reach)
    assert np.ptp(one.scale * one.query @ one.key.T) <= reach * (1.0 + ROUNDING)
    length = max(math.hypot(*row) for row in one.value)
    rate = math.asinh(4.0 * math.pi / (3.0 * reach))
    rows = reduction.measure("sum", reduction.HARD_FAMILY, 32, reach, oracle.GAUSS, 5)["sum"]
    assert [row["calls"] for row in rows] == [1, 2, 3, 4, 5]
    for calls, row in enumerate(rows, 1):
        left = math.exp(-2.0 * calls * rate) / (1.0 - math.exp(-2.0 * rate))
        want = 32.0 * 32 * reach * length**2 * left
        assert_ratio(real(row, "bound"), want, want, ROUNDING, f"{calls} calls")
        assert real(row, "error") <= want
