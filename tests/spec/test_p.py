"""The definitions of p1(x), p2(x) and p(x) = p1 - p2 = dL/dS: eq. (2.2), (4.5)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs
from helpers import ALGEBRA, assert_promise, assert_ratio, directional, largest, problem, truth
from strategies import Case, cases, tame

pytestmark = pytest.mark.spec
SLACK = 64 * np.finfo(np.float64).eps
# Central differences in extended precision: h^2 of truncation, 1e-19 / h of rounding.
STEP = np.longdouble(2.0) ** -20
DIFFERENCE_SLACK = 1e-10


def size_of(case: Case) -> float:
    quantities = problem(case)
    width = case.Y.shape[1]
    return float(largest(quantities.c) * largest(quantities.h)) * width + 1e-300


def embedded(case: Case) -> Case:
    """The same logits, and a weight X' of which one block has the gradient s p: no term vanishes.

    A1' = [A1, I], A2' = [A2, I], X' = diag(X, 0), so that dL/dX' = s A1'^T p A2' holds s p.
    """
    n, m = len(case.A1), len(case.A2)
    X = np.zeros((case.X.shape[0] + n, case.X.shape[1] + m), dtype=case.X.dtype)
    X[: case.X.shape[0], : case.X.shape[1]] = case.X
    A1 = np.hstack([case.A1, np.eye(n, dtype=case.A1.dtype)])
    A2 = np.hstack([case.A2, np.eye(m, dtype=case.A2.dtype)])
    return Case(A1, A2, case.A3, X, case.Y, case.E, case.scale, case.is_causal)


@ALGEBRA
@given(tame(causal=None))
def test_p_is_the_jacobian_of_softmax_times_q(case: Case) -> None:
    quantities = problem(case)
    for j, f in enumerate(quantities.f):
        want = (np.diag(f) - np.outer(f, f)) @ quantities.q[j]
        assert_ratio(quantities.p[j], want, size_of(case), SLACK, "p")


@ALGEBRA
@given(tame(causal=None))
def test_p1_and_p2_are_the_parts_of_the_jacobian(case: Case) -> None:
    quantities = problem(case)
    for j, f in enumerate(quantities.f):
        size = size_of(case)
        assert_ratio(quantities.p1[j], np.diag(f) @ quantities.q[j], size, SLACK, "p1")
        assert_ratio(quantities.p2[j], np.outer(f, f) @ quantities.q[j], size, SLACK, "p2")


@ALGEBRA
@given(cases(causal=None, scaled=False))
def test_rows_of_p_sum_to_zero(case: Case) -> None:
    quantities = truth(case)
    size = np.sum(np.abs(quantities.p1), axis=1) + np.finfo(np.float64).tiny
    sums = quantities.p.sum(axis=1)
    assert_ratio(sums, np.zeros_like(sums), size, SLACK, "row sums of p")


@ALGEBRA
@given(tame(causal=None))
def test_hidden_keys_have_no_p(case: Case) -> None:
    quantities = problem(case)
    assert not np.any(quantities.p[~quantities.seen])


@ALGEBRA
@given(tame(causal=None, longest=5), st.integers(0, 2**32 - 1))
def test_p_is_the_derivative_of_the_loss_by_the_logits(case: Case, seed: int) -> None:
    """Logits enter through an identity weight: A1 = S, X = A2 = I, scale 1."""
    quantities = truth(case)
    direction = np.random.default_rng(seed).standard_normal(quantities.S.shape)
    identity = np.eye(len(case.A2))

    def loss(step: np.longdouble) -> np.longdouble:
        logits = quantities.S + step * direction
        moved = Case(logits, identity, case.A3, identity, case.Y, case.E, 1.0, case.is_causal)
        return truth(moved).loss

    got = directional((loss(STEP), loss(-STEP)), STEP)
    size = size_of(case) * largest(direction) * max(1.0, float(largest(direction))) ** 2
    assert_ratio(
        got, np.sum(quantities.p * direction), size * direction.size, DIFFERENCE_SLACK, "p"
    )


@given(cases(causal=None, scaled=False))
def test_the_library_gives_p(case: Case) -> None:
    wide = embedded(case)
    got = attngrad_rs.loss_gradient(*wide.args, **wide.options).gradient
    assert_promise(got, truth(wide), "X", np.float64, case.label)
    n, m = len(case.A1), len(case.A2)
    block = got[-n:, -m:]
    assert block.shape == (n, m)
    # The block is s p, so its rows must sum to zero like those of p.
    scale = np.sum(np.abs(truth(case).p1), axis=1) * abs(case.scale) + np.finfo(np.float64).tiny
    logits = 1.0 + float(largest(truth(case).S))
    assert_ratio(block.sum(axis=1), np.zeros(n), scale * logits + 1e-300, 64 * SLACK, "row sums")
