"""Causal attention is attention on what came before, top left for n != m: eq. (1.9)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs
from helpers import (
    absolute_sums,
    assert_promise,
    assert_ratio,
    assert_same_bits,
    largest,
    problem,
    truth,
)
from strategies import Case, cases, tame

pytestmark = pytest.mark.spec
SLACK = 4096 * np.finfo(np.float64).eps


def truncated(case: Case, j: int) -> Case:
    """The one query j before the keys that it sees, without a mask."""
    keys = slice(0, j + 1)
    return replace(
        case, A1=case.A1[j : j + 1], E=case.E[j : j + 1], A2=case.A2[keys], A3=case.A3[keys],
        is_causal=False,
    )  # fmt: skip


@given(cases(causal=True))
def test_each_row_is_the_row_without_later_keys(case: Case) -> None:
    quantities = problem(case)
    for j in range(len(case.A1)):
        alone = problem(truncated(case, j))
        seen = alone.f.shape[1]
        bar = 64 * np.finfo(np.float64).eps * (1.0 + float(largest(quantities.S)))
        assert_ratio(quantities.f[j, :seen], alone.f[0], 1.0, bar, "f")
        assert not np.any(quantities.f[j, seen:])


@given(cases(causal=True))
def test_the_library_gives_the_causal_gradient_as_a_sum_over_truncations(case: Case) -> None:
    """dL/dX and the loss are sums over queries, each before the keys that it sees."""
    result = attngrad_rs.loss_gradient(*case.args, **case.options)
    parts = [truth(truncated(case, j)) for j in range(len(case.A1))]
    want = truth(case)
    # The truths first: the two ways to write the problem agree to extended precision.
    total = sum(part.dX for part in parts)
    size = sum(np.sum(abs(part.dX)) for part in parts) + np.finfo(np.float64).tiny
    exact = 1e-17 * (1.0 + float(largest(want.S))) * (1.0 + sum(np.sum(abs(p.p1)) for p in parts))
    weight = np.sum(abs(case.A1)) * np.sum(abs(case.A2))
    assert_ratio(want.dX, total, 1e-17 * size + exact * weight, 1.0, "dX of the reference")
    assert_promise(result.gradient, want, "X", np.float64, case.label)


@given(cases(causal=True, scaled=False), st.integers(0, 2**32 - 1))
def test_hidden_keys_change_no_bit(case: Case, seed: int) -> None:
    """Keys past the last query are seen by nobody; here they only change places and signs.

    (Their lengths stay: how a row is shifted may depend on the longest key, eq. (1.8).)
    """
    n = len(case.A1)
    rng = np.random.default_rng(seed)
    A2, A3 = case.A2.copy(), case.A3.copy()
    A2[n:] = rng.permutation(A2[n:]) * -1.0
    A3[n:] = rng.permutation(A3[n:]) * -1.0
    query = case.A1 @ case.X
    one = attngrad_rs.attention(query, case.A2, case.A3, is_causal=True)
    two = attngrad_rs.attention(query, A2, A3, is_causal=True)
    assert_same_bits(two, one, "attention")


@given(cases(causal=True, scaled=False))
def test_hidden_keys_get_no_gradient(case: Case) -> None:
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=("A2", "A3"))
    for gradient in result.gradients.values():
        assert not np.any(gradient[len(case.A1) :])


@given(tame(causal=True))
def test_with_one_query_only_the_first_key_counts(case: Case) -> None:
    single = replace(case, A1=case.A1[:1], E=case.E[:1])
    result = attngrad_rs.loss_gradient(*single.args, **single.options, wrt=single.wrt)
    # f = 1 on one key, so the logits do not matter.
    want = truth(single)
    for name in ("X", "A1", "A2"):
        size = SLACK * (1.0 + largest(absolute_sums(want, np.float64)[name]))
        assert_ratio(want.gradient(name), np.zeros_like(want.gradient(name)), size, 1.0, name)
    for name, got in result.gradients.items():
        assert_promise(got, want, name, np.float64, case.label)


@given(tame(causal=False))
def test_one_key_sees_no_difference(case: Case) -> None:
    """With one key the mask hides nothing: the bits are those without it."""
    single = replace(case, A2=case.A2[:1], A3=case.A3[:1])
    one = attngrad_rs.loss_gradient(*single.args, scale=case.scale, wrt=single.wrt)
    two = attngrad_rs.loss_gradient(*single.args, scale=case.scale, wrt=single.wrt, is_causal=True)
    for name in single.wrt:
        assert_same_bits(two.gradients[name], one.gradients[name], name)
