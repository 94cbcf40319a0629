"""The definitions of h(y), the output o = f h and the residual c(x): eq. (1.5) and (1.6)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

import attngrad_rs
from helpers import ALGEBRA, assert_promise, assert_ratio, problem, truth
from strategies import Case, cases, tame

pytestmark = pytest.mark.spec
SLACK = 64 * np.finfo(np.float64).eps


@ALGEBRA
@given(tame())
def test_h_is_a_product(case: Case) -> None:
    h = problem(case).h
    for i, row in enumerate(case.A3):
        for column in range(case.Y.shape[1]):
            terms = [row[t] * case.Y[t, column] for t in range(len(row))]
            size = math.fsum(map(abs, terms)) + np.finfo(np.float64).tiny
            assert_ratio(h[i, column], math.fsum(terms), size, SLACK, "h")


@ALGEBRA
@given(tame(causal=None))
def test_o_is_the_mean_of_the_values_under_f(case: Case) -> None:
    quantities = problem(case)
    for j, weights in enumerate(quantities.f):
        for column, values in enumerate(quantities.h.T):
            terms = weights * values
            size = math.fsum(np.abs(terms)) + np.finfo(np.float64).tiny
            assert_ratio(quantities.o[j, column], math.fsum(terms), size, SLACK, "o")


@ALGEBRA
@given(cases(causal=None))
def test_o_lies_between_the_values(case: Case) -> None:
    quantities = problem(case)
    slack = SLACK * np.max(np.abs(quantities.h), axis=0) + np.finfo(np.float64).tiny
    assert np.all(quantities.o <= quantities.h.max(axis=0) + slack)
    assert np.all(quantities.o >= quantities.h.min(axis=0) - slack)


@ALGEBRA
@given(tame())
def test_c_is_what_is_missing_to_the_target(case: Case) -> None:
    quantities = problem(case)
    hit = problem(Case(*case.args[:5], quantities.o, case.scale))
    assert not np.any(hit.c)
    assert_ratio(quantities.c + case.E, quantities.o, abs(case.E) + abs(quantities.o), SLACK, "c")


@given(cases(causal=None))
def test_the_library_gives_o(case: Case) -> None:
    """attention() of query A1 X, key A2, value A3 Y, each as rounded, is o."""
    query, value = case.A1 @ case.X, case.A3 @ case.Y
    got = attngrad_rs.attention(query, case.A2, value, scale=case.scale, is_causal=case.is_causal)
    rounded = Case(
        query, case.A2, value, np.eye(query.shape[1]), np.eye(value.shape[1]),
        np.zeros_like(got), case.scale, case.is_causal,
    )  # fmt: skip
    assert_promise(got, truth(rounded), "o", np.float64, case.label)
