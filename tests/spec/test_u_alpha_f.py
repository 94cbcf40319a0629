"""The definitions of u(x), alpha(x) and f(x): eq. (1.1) - (1.4), and eq. (1.8) for any shift."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

import attngrad_rs
from attngrad_rs import RangeError, reference
from helpers import ALGEBRA, assert_close, assert_promise, assert_ratio, problem, truth
from strategies import Case, cases, tame

pytestmark = pytest.mark.spec
# A few roundings of a short sum, in units of eps.
SLACK = 64 * np.finfo(np.float64).eps


@ALGEBRA
@given(tame())
def test_logits_are_scaled_inner_products(case: Case) -> None:
    S = problem(case).S
    for j, row in enumerate(case.A1):
        for i, key in enumerate(case.A2):
            terms = [
                case.scale * row[a] * case.X[a, b] * key[b]
                for a in range(len(row))
                for b in range(len(key))
            ]
            size = sum(abs(term) for term in terms) + np.finfo(np.float64).tiny
            assert_ratio(S[j, i], math.fsum(terms), size, SLACK, "S")


@ALGEBRA
@given(tame())
def test_u_is_the_exponential_of_each_logit(case: Case) -> None:
    literal = problem(case, stable=False)
    want = [[math.exp(logit) for logit in row] for row in literal.S]
    assert_ratio(literal.u, np.reshape(want, literal.S.shape), want, SLACK, "u")


@ALGEBRA
@given(tame(causal=None))
def test_alpha_sums_what_each_query_sees(case: Case) -> None:
    literal = problem(case, stable=False)
    for j, row in enumerate(literal.S):
        seen = row[: j + 1] if case.is_causal else row
        want = math.fsum(math.exp(logit) for logit in seen)
        assert_ratio(literal.alpha[j], want, want, SLACK, "alpha")


@ALGEBRA
@given(cases(causal=None))
def test_f_is_a_probability_over_the_keys(case: Case) -> None:
    f = problem(case).f
    assert np.all(f >= 0.0)
    assert_ratio(f.sum(axis=1), np.ones(len(f)), 1.0, SLACK, "row sums of f")


@ALGEBRA
@given(tame(causal=None))
def test_f_does_not_depend_on_the_shift(case: Case) -> None:
    stable, literal = problem(case), problem(case, stable=False)
    assert_ratio(stable.f, literal.f, literal.f + np.finfo(np.float64).tiny, 4 * SLACK, "f")


@ALGEBRA
@given(cases(logits=(1000.0,), structures=("generic",), scaled=False, dtype=np.float64))
def test_the_literal_form_says_when_it_overflows(case: Case) -> None:
    S = problem(case).S
    literal = problem(case, stable=False)
    if np.max(S) > 710.0 or np.any(np.max(S, axis=1) < -746.0):
        with pytest.raises(RangeError, match="alpha"):
            _ = literal.f
    else:
        assert np.all(literal.alpha > 0.0)


@given(cases(causal=None))
def test_attention_over_the_identity_is_f(case: Case) -> None:
    """With the identity for values the output is f itself, for logits of any size."""
    m = len(case.A2)
    identity = Case(
        case.A1, case.A2, np.eye(m), case.X, np.eye(m), np.zeros((len(case.A1), m)),
        case.scale, case.is_causal,
    )  # fmt: skip
    got = attngrad_rs.attention(
        case.A1 @ case.X, case.A2, np.eye(m), scale=case.scale, is_causal=case.is_causal
    )
    assert_promise(got, truth(identity), "o", np.float64, case.label)


@ALGEBRA
@given(tame())
def test_reference_attention_is_the_problem_with_unit_weights(case: Case) -> None:
    query, value = case.A1 @ case.X, case.A3 @ case.Y
    got = reference.attention(query, case.A2, value, scale=case.scale)
    assert_close(got, problem(case).o, SLACK * (1 + len(value)), "attention")
