"""What is asked for and how does not change what is meant: names, several at once, defaults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs
from attngrad_rs import reference
from helpers import (
    PROMISE,
    absolute_sums,
    assert_promise,
    assert_ratio,
    assert_same_bits,
    error_scale,
    frobenius,
    truth,
)
from strategies import Case, Shape, build, cases, tame

pytestmark = pytest.mark.spec


@st.composite
def self_attention(draw: Any) -> Case:
    """A1, A2 and A3 are one object, so d1 = d2 = d3 and n = m."""
    n, d, dv = draw(st.integers(1, 7)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    case = build(
        Shape(n, n, d, d, d, dv),
        seed=draw(st.integers(0, 2**32 - 1)),
        is_causal=draw(st.booleans()),
    )
    return Case(case.A1, case.A1, case.A1, case.X, case.Y, case.E, case.scale, case.is_causal)


@given(tame(causal=None, pair=None), st.randoms(use_true_random=False))
def test_names_come_back_in_the_order_asked_for(case: Case, random: Any) -> None:
    names = list(case.wrt)
    random.shuffle(names)
    names = names[: random.randint(1, len(names))]
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=names)
    assert tuple(result.gradients) == tuple(names) == tuple(result.certificates)
    everything = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    for name in names:
        want, shape = truth(case), np.shape(truth(case).gradient(name))
        assert result.gradients[name].shape == everything.gradients[name].shape == shape
        assert_promise(result.gradients[name], want, name, np.float64, case.label)


@given(tame(causal=None, pair=None))
def test_calling_twice_gives_the_same_bits(case: Case) -> None:
    one, two = (
        attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt) for _ in range(2)
    )
    assert one.loss == two.loss
    for name in case.wrt:
        assert_same_bits(two.gradients[name], one.gradients[name], name)


@given(self_attention())
def test_self_attention_sums_the_three_inputs(case: Case) -> None:
    """wrt="A" is dL/dA for A1 = A2 = A3 = A: eq. (2.12)."""
    names = ("A", "A1", "A2", "A3")
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=names)
    want = truth(case)
    parts = [result.gradients[name] for name in names[1:]]
    sums, unit = absolute_sums(want, np.float64), error_scale(want, np.float64)
    scale = unit * sum(sums[name] for name in names[1:]) + np.finfo(np.float64).tiny
    assert_ratio(result.gradients["A"], sum(parts), 2.0 * scale, PROMISE, "A")
    alone = attngrad_rs.loss_gradient(*case.args, **case.options, wrt="A").gradient
    assert_ratio(alone, want.dA, scale, PROMISE, "A alone")


@given(tame(causal=None, pair=None))
def test_the_default_scale_is_the_papers(case: Case) -> None:
    """1/d with d = A2.shape[1], for a pair too; 1/sqrt(E) for attention."""
    plain = attngrad_rs.loss_gradient(*case.args, is_causal=case.is_causal, wrt=case.wrt)
    scaled = attngrad_rs.loss_gradient(
        *case.args, is_causal=case.is_causal, wrt=case.wrt, scale=1.0 / case.A2.shape[1]
    )
    for name in case.wrt:
        assert_same_bits(plain.gradients[name], scaled.gradients[name], name)
    assert reference.Problem(*case.args).scale == 1.0 / case.A2.shape[1]
    query = case.A1 @ case.X
    one = attngrad_rs.attention(query, case.A2, case.A3)
    two = attngrad_rs.attention(query, case.A2, case.A3, scale=1.0 / np.sqrt(query.shape[1]))
    assert_same_bits(one, two, "attention")


@given(cases(causal=None, pair=None, dtype=np.float32))
def test_results_have_the_dtype_of_the_inputs(case: Case) -> None:
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    assert all(gradient.dtype == np.float32 for gradient in result.gradients.values())
    assert isinstance(result.loss, float)


@given(tame(causal=None, pair=None), st.integers(1, 5))
def test_threads_do_not_change_a_bit(case: Case, threads: int) -> None:
    one = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt, threads=1)
    many = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt, threads=threads)
    assert one.loss == many.loss
    for name in case.wrt:
        assert_same_bits(many.gradients[name], one.gradients[name], name)


@given(tame(causal=None, pair=None))
def test_the_certificate_covers_the_error(case: Case) -> None:
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    want = truth(case)
    # What the truth itself loses in extended precision: all there is where the bound is 0.
    scale, sums = error_scale(want, np.longdouble), absolute_sums(want, np.longdouble)
    for name in case.wrt:
        error = frobenius(result.gradients[name] - want.gradient(name))
        of_truth = PROMISE * scale * frobenius(sums[name])
        assert result.certificates[name].kind == "exact"
        assert error <= result.certificates[name].absolute + of_truth, name
    of_truth = PROMISE * scale * sums["loss"]
    assert abs(result.loss - want.loss) <= result.loss_certificate.absolute + of_truth
