"""The attention loss L(X, Y) = 1/2 || D^-1 exp(s A1 X A2^T) A3 Y - E ||^2: eq. (1.7), (1.10)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

import attngrad_rs
from attngrad_rs import reference
from helpers import ALGEBRA, assert_promise, assert_ratio, problem, truth
from strategies import Case, cases, tame

pytestmark = pytest.mark.spec
SLACK = 64 * np.finfo(np.float64).eps


@ALGEBRA
@given(tame())
def test_the_loss_as_the_paper_writes_it(case: Case) -> None:
    """D, exp and the products exactly as in the problem's statement, with no quantity shared."""
    u = np.exp(case.scale * (case.A1 @ case.X @ case.A2.T))
    D = np.diag(u @ np.ones(len(case.A2)))
    residual = np.linalg.inv(D) @ u @ case.A3 @ case.Y - case.E
    want = 0.5 * np.linalg.norm(residual) ** 2
    size = np.sum((abs(case.A3) @ abs(case.Y)).max(axis=0) ** 2) * len(u) + np.sum(case.E**2)
    assert_ratio(problem(case).loss, want, size + 1e-300, 4 * SLACK, "loss")
    assert_ratio(reference.loss(*case.args, **case.options), want, size + 1e-300, 4 * SLACK, "loss")


@ALGEBRA
@given(cases(causal=None))
def test_the_loss_is_half_the_sum_of_squares(case: Case) -> None:
    quantities = problem(case)
    want = 0.5 * math.fsum(c * c for c in quantities.c.flat)
    assert want >= 0.0
    assert_ratio(quantities.loss, want, want + 1e-300, SLACK, "loss")


@given(cases(causal=None, pair=None))
def test_the_library_gives_the_loss(case: Case) -> None:
    got = attngrad_rs.loss(*case.args, **case.options)
    assert isinstance(got, float)
    assert_promise(got, truth(case), "loss", np.float64, case.label)


@given(cases(causal=None, dtype=np.float32))
def test_the_library_gives_the_loss_in_float32(case: Case) -> None:
    got = attngrad_rs.loss(*case.args, **case.options)
    assert_promise(got, truth(case), "loss", np.float32, case.label)


@given(cases(causal=None, pair=None))
def test_the_loss_comes_with_the_gradient(case: Case) -> None:
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    assert result.loss == attngrad_rs.loss(*case.args, **case.options)


@given(tame())
def test_without_keys_the_loss_is_that_of_the_target(case: Case) -> None:
    empty = Case(case.A1, case.A2[:0], case.A3[:0], case.X, case.Y, case.E, case.scale)
    want = 0.5 * math.fsum(e * e for e in case.E.flat)
    assert_ratio(problem(empty).loss, want, want, SLACK, "loss")
    result = attngrad_rs.loss_gradient(*empty.args, **empty.options, wrt=empty.wrt)
    assert_ratio(result.loss, want, want, SLACK, "loss")
    for name, gradient in result.gradients.items():
        assert gradient.shape == getattr(empty, name).shape
        assert not np.any(gradient), name
