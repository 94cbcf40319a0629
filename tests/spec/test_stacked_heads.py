"""Heads by any leading dimensions: the dense formula, shared keys, the forward pass done once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from helpers import Array, assert_ratio, assert_same_bits

pytestmark = pytest.mark.spec

# Roundings by which a result may differ from the dense formula, over the sums of absolute values.
SLACK = 60.0
NAMES = ("dq", "dk", "dv")


class Stack(NamedTuple):
    """Arrays of heads, and the options of a call."""

    query: Array
    key: Array
    value: Array
    dout: Array
    is_causal: bool
    group: int

    @classmethod
    def of(cls, arrays: Sequence[Array], is_causal: bool, group: int = 1) -> Stack:
        query, key, value, dout = arrays
        return cls(query, key, value, dout, is_causal, group)

    @property
    def options(self) -> dict[str, Any]:
        return {"is_causal": self.is_causal, "enable_gqa": self.group > 1}

    def forward(self, **options: Any) -> Any:
        return ag.attention(self.query, self.key, self.value, **(self.options | options))

    def gradients(self, **options: Any) -> Any:
        arrays = (self.query, self.key, self.value, self.dout)
        return ag.attention_vjp(*arrays, **(self.options | options))

    def repeated(self) -> Stack:
        """With a key head for each head of the query, in the widest precision."""
        key, value = (np.repeat(array, self.group, axis=-3) for array in (self.key, self.value))
        wide = [array.astype(np.longdouble) for array in (self.query, key, value, self.dout)]
        return Stack.of(wide, self.is_causal)

    def shared(self, array: Array) -> Array:
        """Sums over the heads of the query that share one of the key."""
        *lead, heads, rows, columns = array.shape
        parts = array.reshape(*lead, heads // self.group, self.group, rows, columns)
        return parts.sum(axis=-3)


def dense(stack: Stack) -> tuple[Array, Array, Array, Array]:
    """o, dq, dk and dv by the definition."""
    whole = stack.repeated()
    options: dict[str, Any] = {"is_causal": stack.is_causal}
    o = reference.attention(*whole[:3], **options)
    dq, dk, dv = reference.attention_vjp(*whole[:4], **options)
    return o, dq, stack.shared(dk), stack.shared(dv)


def sizes(stack: Stack) -> tuple[float, float, float, float]:
    """One rounding of each of o, dq, dk and dv at most: products of the largest factors."""
    largest = [float(np.max(np.abs(array), initial=0.0)) for array in stack[:4]]
    query, key, value, dout = largest
    rows, seen, width = stack.query.shape[-2], stack.key.shape[-2], stack.query.shape[-1]
    logit = 1.0 + np.sqrt(width) * query * key
    columns = max(stack.value.shape[-1], 1)
    slope = 2.0 * columns * dout * value * logit
    eps = float(np.finfo(stack.query.dtype).eps) * logit * (1.0 + np.log2(max(rows, seen, 2)))
    scale = 1.0 / np.sqrt(max(width, 1))
    all_rows = max(rows, 1) * stack.group
    tiny = float(np.finfo(stack.query.dtype).tiny)
    o, dq = eps * value * logit, eps * scale * slope * key
    dk, dv = eps * scale * slope * query * all_rows, eps * dout * logit * all_rows
    return o + tiny, dq + tiny, dk + tiny, dv + tiny


@st.composite
def stacks(draw: Any, longest: int = 9, widest: int = 6) -> Stack:
    """Arrays that hold nothing, too."""
    lead = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    shared, group = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    rows, seen = draw(st.integers(0, longest)), draw(st.integers(0, longest))
    width, columns = draw(st.integers(0, widest)), draw(st.integers(0, widest))
    dtype = draw(st.sampled_from((np.float32, np.float64)))
    size = draw(st.sampled_from((0.1, 1.0, 6.0)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def array(heads: int, *shape: int, size: float = 1.0) -> Array:
        return np.asarray(size * rng.standard_normal((*lead, heads, *shape)), dtype)

    return Stack(
        array(shared * group, rows, width, size=size),
        array(shared, seen, width),
        array(shared, seen, columns),
        array(shared * group, rows, columns),
        draw(st.booleans()),
        group if shared else 1,
    )


@given(stacks())
def test_every_head_is_the_dense_formula(stack: Stack) -> None:
    got = (stack.forward(), *stack.gradients())
    for name, one, want, size in zip(("o", *NAMES), got, dense(stack), sizes(stack), strict=True):
        assert one.dtype == stack.query.dtype
        assert_ratio(one, want, size, SLACK, name)


@given(stacks())
def test_results_of_the_forward_pass_are_used_again(stack: Stack) -> None:
    output, lse = stack.forward(return_lse=True)
    assert_same_bits(output, stack.forward(), "the output")
    assert lse.shape == stack.query.shape[:-1]
    again = stack.gradients(output=output, lse=lse)
    for name, one, want, size in zip(NAMES, again, dense(stack)[1:], sizes(stack)[1:], strict=True):
        # The logarithm is rounded once, by as much as it is large.
        growth = 1.0 + float(np.max(np.abs(lse[np.isfinite(lse)]), initial=0.0))
        assert_ratio(one, want, growth * size, SLACK, name)
    for name, array in zip(("query", "key", "value"), again, strict=True):
        bound, error = (
            again.certificates[name].absolute,
            dense(stack)[1 + NAMES.index(f"d{name[0]}")],
        )
        assert float(np.sqrt(np.sum((array - error) ** 2))) <= bound or bound == 0.0


@given(stacks())
def test_the_logarithm_of_the_normaliser(stack: Stack) -> None:
    lse = stack.forward(return_lse=True)[1]
    whole = stack.repeated()
    rows, seen = whole.query.shape[-2], whole.key.shape[-2]
    width = max(whole.query.shape[-1], 1)
    logits = whole.query @ np.swapaxes(whole.key, -1, -2) / np.sqrt(np.longdouble(width))
    if stack.is_causal:
        logits = np.where(np.tri(rows, seen, dtype=bool), logits, -np.inf)
    most = np.max(logits, axis=-1, initial=-np.inf, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = np.exp(logits - np.where(np.isfinite(most), most, 0.0)).sum(axis=-1)
        want = np.log(sums) + np.where(np.isfinite(most), most, 0.0)[..., 0]
    nothing = np.isneginf(want)
    assert np.array_equal(np.isneginf(lse), nothing)
    eps = float(np.finfo(lse.dtype).eps)
    size = eps * (
        1.0
        + np.abs(want[~nothing])
        + np.max(np.abs(logits), initial=0.0, where=np.isfinite(logits))
    )
    assert_ratio(lse[~nothing], want[~nothing], size, SLACK, "lse")


@given(stacks())
def test_leading_dimensions_by_any_strides(stack: Stack) -> None:
    """The same numbers by other strides, and an axis that shows one head again and again."""
    arrays, form = stack[:4], (stack.is_causal, stack.group)
    turned = Stack.of([np.moveaxis(np.moveaxis(a, -3, -1).copy(), -1, -3) for a in arrays], *form)
    shown = Stack.of([np.broadcast_to(a, (2, *a.shape)) for a in arrays], *form)
    want = (stack.forward(), *stack.gradients())
    by_strides = (turned.forward(), *turned.gradients())
    again = (shown.forward(), *shown.gradients())
    for place, name in enumerate(("o", *NAMES)):
        assert_same_bits(by_strides[place], want[place], name)
        assert_same_bits(again[place][1], want[place], name)


@given(stacks(), st.sampled_from((1, 2, 3)))
def test_bits_alone_stacked_and_by_any_threads(stack: Stack, threads: int) -> None:
    output, lse = stack.forward(return_lse=True, threads=threads)
    saved = {"output": output, "lse": lse}
    plain, again = stack.gradients(threads=threads), stack.gradients(threads=threads, **saved)
    heads = np.ndindex(*stack.query.shape[:-2])
    for index in heads:
        shared = (*index[:-1], index[-1] // stack.group)
        arrays = (stack.query[index], stack.key[shared], stack.value[shared])
        causal: dict[str, Any] = {"is_causal": stack.is_causal}
        alone = ag.attention(*arrays, return_lse=True, **causal)
        assert_same_bits(output[index], alone[0], "o")
        assert_same_bits(lse[index], alone[1], "lse")
        one = ag.attention_vjp(*arrays, stack.dout[index], **causal)
        assert_same_bits(plain.dq[index], one.dq, "dq")
        one = ag.attention_vjp(*arrays, stack.dout[index], output=alone[0], lse=alone[1], **causal)
        assert_same_bits(again.dq[index], one.dq, "dq")
        if stack.group == 1:
            assert_same_bits(again.dk[index], one.dk, "dk")
            assert_same_bits(again.dv[index], one.dv, "dv")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("shape", [(3, 300, 300, 16), (1, 1, 5000, 8), (5, 130, 700, 64)])
def test_heads_that_are_cut(shape: tuple[int, ...], is_causal: bool, dtype: str) -> None:
    """More rows than a task, a wave and a chunk of keys hold; one query and many keys."""
    heads, rows, seen, width = shape
    rng = np.random.default_rng(7)
    draw = [rng.standard_normal((heads, n, width)).astype(dtype) for n in (rows, seen, seen, rows)]
    stack = Stack.of(draw, is_causal)
    output, lse = stack.forward(return_lse=True)
    want, size = dense(stack), sizes(stack)
    got = {
        threads: stack.gradients(output=output, lse=lse, threads=threads) for threads in (1, 2, 3)
    }
    assert_ratio(output, want[0], size[0], SLACK, "o")
    for place, name in enumerate(NAMES, 1):
        assert_ratio(getattr(got[1], name), want[place], size[place], SLACK, name)
        assert_ratio(getattr(stack.gradients(), name), want[place], size[place], SLACK, name)
        for threads in (2, 3):
            assert_same_bits(getattr(got[threads], name), getattr(got[1], name), name)


def test_more_heads_than_sixteen_bits_count() -> None:
    heads = 70_000
    rng = np.random.default_rng(3)
    stack = Stack.of([rng.standard_normal((heads, 2, 1)) for _ in range(4)], False)
    got, want = (stack.forward(), *stack.gradients()), dense(stack)
    for name, one, right, size in zip(("o", *NAMES), got, want, sizes(stack), strict=True):
        assert_ratio(one, right, size, SLACK, name)
