"""The vector-Jacobian product: the adjoint, linear in the incoming gradient; eq. (6.1), (6.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs
from attngrad_rs import reference
from helpers import (
    ALGEBRA,
    PROMISE,
    Array,
    absolute_sums,
    assert_promise,
    assert_ratio,
    error_scale,
    truth,
)
from strategies import Case, cases, tame

pytestmark = pytest.mark.spec
seeds = st.integers(0, 2**32 - 1)
NAMES = ("dq", "dk", "dv")
# The inputs of a problem with unit weights that they are gradients by.
INPUTS = ("A1", "A2", "A3")


def heads(case: Case, dtype: Any = np.float64) -> tuple[Array, Array, Array, Array]:
    """Query, key, value and dout of the shapes of a case: Q = A1 X, K = A2, V = A3, dout like o."""
    query = (case.A1 @ case.X).astype(dtype)
    rng = np.random.default_rng(len(case.A1) + 31 * len(case.A2))
    dout = rng.standard_normal((len(query), case.A3.shape[1])).astype(dtype)
    return query, case.A2.astype(dtype), case.A3.astype(dtype), dout


def as_problem(case: Case, query: Array, key: Array, value: Array, dout: Array) -> Case:
    """The problem whose residual is dout: unit weights, E = o - dout."""
    widened = [array.astype(np.longdouble) for array in (query, key, value)]
    o = reference.attention(*widened, scale=case.scale, is_causal=case.is_causal)
    unit = np.eye(query.shape[1], dtype=np.longdouble), np.eye(value.shape[1], dtype=np.longdouble)
    E = o - dout
    return Case(*widened, unit[0], unit[1], E, case.scale, case.is_causal)


def scales(case: Case, *given_: Array) -> dict[str, Array]:
    """What each entry of dq, dk, dv and o may be off by, over the promise: eq. (5.13)."""
    want = truth(as_problem(case, *given_))
    sums, size = absolute_sums(want, np.float64), error_scale(want, np.float64)
    tiny = np.finfo(np.float64).tiny
    names = zip((*NAMES, "o"), (*INPUTS, "o"), strict=True)
    return {name: size * sums[by] + tiny for name, by in names}


@given(cases(causal=None, scaled=False))
def test_the_library_gives_the_gradients_of_attention(case: Case) -> None:
    given_ = heads(case)
    got = attngrad_rs.attention_vjp(*given_, scale=case.scale, is_causal=case.is_causal)
    want = truth(as_problem(case, *given_))
    for name, part in (("A1", got.dq), ("A2", got.dk), ("A3", got.dv)):
        assert_promise(part, want, name, np.float64, case.label)


@given(cases(causal=None, scaled=False, dtype=np.float32))
def test_the_library_gives_the_gradients_of_attention_in_float32(case: Case) -> None:
    given_ = heads(case, np.float32)
    got = attngrad_rs.attention_vjp(*given_, scale=case.scale, is_causal=case.is_causal)
    want = truth(as_problem(case, *given_))
    for name, part in (("A1", got.dq), ("A2", got.dk), ("A3", got.dv)):
        assert part.dtype == np.float32
        assert_promise(part, want, name, np.float32, case.label)


@ALGEBRA
@given(tame(causal=None))
def test_the_reference_is_the_problem_with_unit_weights(case: Case) -> None:
    given_ = heads(case)
    want = truth(as_problem(case, *given_))
    got = reference.attention_vjp(*given_, scale=case.scale, is_causal=case.is_causal)
    for name, part in zip(("A1", "A2", "A3"), got, strict=True):
        assert_promise(part, want, name, np.float64, case.label)


@given(tame(causal=None), seeds, st.floats(-4.0, 4.0))
def test_it_is_linear_in_dout(case: Case, seed: int, factor: float) -> None:
    query, key, value, dout = heads(case)
    other = np.random.default_rng(seed).standard_normal(dout.shape)
    options: dict[str, Any] = {"scale": case.scale, "is_causal": case.is_causal}
    one, two, both = (
        attngrad_rs.attention_vjp(query, key, value, incoming, **options)
        for incoming in (dout, other, dout + factor * other)
    )
    first, second, third = (
        scales(case, query, key, value, incoming)
        for incoming in (dout, other, dout + factor * other)
    )
    for name in NAMES:
        want = getattr(one, name) + factor * getattr(two, name)
        size = first[name] + abs(factor) * second[name] + third[name]
        assert_ratio(getattr(both, name), want, size, PROMISE, name)


@given(tame(causal=None), st.integers(-40, 40))
def test_powers_of_two_pass_through(case: Case, power: int) -> None:
    query, key, value, dout = heads(case)
    options: dict[str, Any] = {"scale": case.scale, "is_causal": case.is_causal}
    one = attngrad_rs.attention_vjp(query, key, value, dout, **options)
    two = attngrad_rs.attention_vjp(query, key, value, dout * 2.0**power, **options)
    size = scales(case, query, key, value, dout)
    for name in NAMES:
        got = getattr(two, name) * 2.0**-power
        assert_ratio(got, getattr(one, name), 2.0 * size[name], PROMISE, name)


@given(tame(causal=None), seeds)
def test_it_is_the_adjoint_in_the_values(case: Case, seed: int) -> None:
    """Attention is linear in the values: <dout, attention(q, k, z)> = <dv, z>."""
    query, key, value, dout = heads(case)
    options: dict[str, Any] = {"scale": case.scale, "is_causal": case.is_causal}
    z = np.random.default_rng(seed).standard_normal(value.shape)
    dv = attngrad_rs.attention_vjp(query, key, value, dout, **options).dv
    forward = np.sum(dout * attngrad_rs.attention(query, key, z, **options))
    of_dv = np.sum(scales(case, query, key, value, dout)["dv"] * abs(z))
    of_output = np.sum(scales(case, query, key, z, dout)["o"] * abs(dout))
    assert_ratio(forward, np.sum(dv * z), of_dv + of_output, PROMISE, "adjoint")


@given(tame(causal=None))
def test_the_loss_gradient_is_the_product_for_the_residual(case: Case) -> None:
    """dL/dA1 of the problem with unit weights is dq for dout = o - E."""
    query, key, value, E = heads(case)
    options: dict[str, Any] = {"scale": case.scale, "is_causal": case.is_causal}
    residual = attngrad_rs.attention(query, key, value, **options) - E
    vjp = attngrad_rs.attention_vjp(query, key, value, residual, **options)
    unit = np.eye(query.shape[1]), np.eye(value.shape[1])
    result = attngrad_rs.loss_gradient(
        query, key, value, unit[0], unit[1], E, wrt=("A1", "A2", "A3"), **options
    )
    # The residual that is handed over is a rounding of the output away from that of the loss.
    size = scales(case, query, key, value, residual)
    for name, by in zip(NAMES, INPUTS, strict=True):
        part = getattr(vjp, name)
        assert_ratio(result.gradients[by], part, 2.0 * size[name], PROMISE, name)


@given(tame(causal=None, longest=5, widest=3), st.integers(1, 3), st.integers(1, 2))
def test_leading_dimensions_are_separate_heads(case: Case, first: int, second: int) -> None:
    rng = np.random.default_rng(first + 7 * second)
    stacked = [rng.standard_normal((first, second, *part.shape)) for part in heads(case)]
    options: dict[str, Any] = {"scale": case.scale, "is_causal": case.is_causal}
    got = attngrad_rs.attention_vjp(*stacked, **options)
    want = reference.attention_vjp(*stacked, **options)
    out = attngrad_rs.attention(*stacked[:3], **options)
    forward = reference.attention(*stacked[:3], **options)
    for index in np.ndindex(first, second):
        size = scales(case, *(array[index] for array in stacked))
        for name, part in zip(NAMES, want, strict=True):
            got_part = getattr(got, name)[index]
            assert_ratio(got_part, part[index], 2.0 * size[name], PROMISE, name)
        assert_ratio(out[index], forward[index], 2.0 * size["o"], PROMISE, "attention")
