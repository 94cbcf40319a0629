"""Masks of every kind, alone and together, against the dense formula; what they hide; bad ones."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from helpers import Array, assert_ratio, assert_same_bits

pytestmark = pytest.mark.spec

# Roundings by which a result may differ from the dense formula, over the sums of absolute values.
SLACK = 60.0
NAMES = ("dq", "dk", "dv")
LEAD = (2, 4)
# Around tiles of queries and strips and blocks of keys.
ROWS = (0, 1, 5, 16, 33, 70)


class Call(NamedTuple):
    """Heads of attention, of which two share keys, and the options of a call."""

    query: Array
    key: Array
    value: Array
    dout: Array
    is_causal: bool
    scale: float | None
    masks: reference.Masks

    @property
    def options(self) -> dict[str, Any]:
        form = {"is_causal": self.is_causal, "scale": self.scale, "enable_gqa": True}
        return {**form, **self.masks._asdict()}

    def forward(self, **options: Any) -> Any:
        return ag.attention(self.query, self.key, self.value, **(self.options | options))

    def gradients(self, **options: Any) -> Any:
        arrays = (self.query, self.key, self.value, self.dout)
        return ag.attention_vjp(*arrays, **(self.options | options))

    def dense(self) -> tuple[Array, Array, Array, Array]:
        """o, dq, dk and dv by the definition, in the widest precision."""
        key, value = (np.repeat(array, 2, axis=-3) for array in (self.key, self.value))
        wide = [one.astype(np.longdouble) for one in (self.query, key, value, self.dout)]
        form: dict[str, Any] = {"is_causal": self.is_causal, "scale": self.scale}
        form |= {"masks": self.masks}
        dq, dk, dv = reference.attention_vjp(*wide, **form)
        shared = [one.reshape(2, 2, 2, *one.shape[-2:]).sum(axis=2) for one in (dk, dv)]
        return reference.attention(*wide[:3], **form), dq, shared[0], shared[1]

    def sizes(self) -> tuple[float, float, float, float]:
        """One rounding of each of o, dq, dk and dv at most: products of the largest factors."""
        query, key, value, dout = (float(np.max(np.abs(one), initial=0.0)) for one in self[:4])
        width, rows = self.query.shape[-1], max(self.query.shape[-2], 1)
        info = np.finfo(self.query.dtype)
        scale = width**-0.5 if self.scale is None else abs(self.scale)
        logit = 1.0 + scale * width * query * key + self.added()
        eps = float(info.eps) * logit * (1.0 + np.log2(max(rows, self.key.shape[-2], 2)))
        slope = 2.0 * self.value.shape[-1] * dout * value * logit
        o, dq = eps * value, eps * slope * key
        dk, dv = eps * slope * query * 2 * rows, eps * dout * 2 * rows
        # Weights that are taken for zero.
        tiny = float(info.tiny) ** 0.5
        return o + tiny, dq + tiny, dk + tiny, dv + tiny

    def added(self) -> float:
        """The largest number that a mask adds to a logit that counts."""
        mask = self.masks.attn_mask
        if mask is None or mask.dtype == bool:
            return 0.0
        counts = np.abs(mask) < np.finfo(mask.dtype).max / 8
        return float(np.max(np.abs(mask), initial=0.0, where=counts))


def cuts(draw: Any, end: int, pieces: int) -> list[int]:
    """Numbers from 0 to ``end`` that cut it into pieces, some of them empty."""
    inner = draw(st.lists(st.integers(0, end), min_size=pieces - 1, max_size=pieces - 1))
    return [0, *sorted(inner), end]


@st.composite
def masks(draw: Any, rows: int, seen: int, dtype: Any, *, with_entries: bool) -> reference.Masks:
    attn_mask, key_lengths, cu_seqlens = None, None, None
    if with_entries:
        shape = draw(st.sampled_from(((), (1,), (4,), (2, 1), LEAD)))
        shape = (*shape, draw(st.sampled_from((1, rows))), seen)
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        attn_mask = rng.random(shape) < draw(st.sampled_from((0.0, 0.1, 0.5, 0.9, 1.0)))
        if draw(st.booleans()):
            low = draw(st.sampled_from((-np.inf, float(np.finfo(dtype).min), -1e4)))
            size = draw(st.sampled_from((0.0, 3.0)))
            numbers = np.where(attn_mask, size * rng.standard_normal(shape), low)
            attn_mask = numbers.astype(dtype)
    window = draw(st.none() | st.tuples(st.integers(-1, 8), st.integers(-1, 8)))
    kind = draw(st.sampled_from(("none", "lengths", "packed", "pair")))
    if kind == "lengths":
        key_lengths = draw(st.lists(st.integers(0, seen), min_size=2, max_size=2))
    elif kind == "packed":
        assume(rows == seen)
        cu_seqlens = cuts(draw, rows, draw(st.integers(1, 4)))
    elif kind == "pair":
        pieces = draw(st.integers(1, 4))
        cu_seqlens = (cuts(draw, rows, pieces), cuts(draw, seen, pieces))
    align = draw(st.sampled_from(("top-left", "bottom-right")))
    return reference.Masks(attn_mask, window, key_lengths, cu_seqlens, align)


@st.composite
def calls(draw: Any) -> Call:
    rows = draw(st.sampled_from(ROWS))
    seen = draw(st.just(rows) | st.sampled_from(ROWS))
    width, columns = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    dtype = draw(st.sampled_from((np.float32, np.float64)))
    size = draw(st.sampled_from((0.1, 1.0, 6.0)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def array(heads: int, *shape: int, size: float = 1.0) -> Array:
        return np.asarray(size * rng.standard_normal((2, heads, *shape)), dtype)

    scale = draw(st.none() | st.floats(-0.7, 0.7))
    is_causal, with_entries = draw(st.sampled_from(((0, 0), (0, 1), (1, 0))))
    return Call(
        array(4, rows, width, size=size),
        array(2, seen, width),
        array(2, seen, columns),
        array(4, rows, columns),
        bool(is_causal),
        scale,
        draw(masks(rows, seen, dtype, with_entries=bool(with_entries))),
    )


@given(calls())
def test_every_mask_is_the_dense_formula(call: Call) -> None:
    want, sizes = call.dense(), call.sizes()
    output, lse = call.forward(return_lse=True)
    plain, again = call.gradients(), call.gradients(output=output, lse=lse)
    for name, one, truth, size in zip(("o", *NAMES), (output, *plain), want, sizes, strict=True):
        assert one.dtype == call.query.dtype
        assert_ratio(one, truth, size, SLACK, name)
    # The logarithm is rounded once, by as much as it is large.
    growth = 1.0 + float(np.max(np.abs(lse[np.isfinite(lse)]), initial=0.0))
    for name, one, truth, size in zip(NAMES, again, want[1:], sizes[1:], strict=True):
        assert_ratio(one, truth, growth * size, SLACK, f"{name} with the forward pass done")
    blind = np.isneginf(lse)
    assert not output[blind].any()
    assert not plain.dq[blind].any()


@given(calls(), st.sampled_from((np.nan, np.inf, -np.inf)))
def test_what_nobody_sees_has_no_effect(call: Call, bad: float) -> None:
    """Keys of no query, and queries of no key, may hold anything; their gradients are zeros."""
    # Arrays are looked at whole where there is no other mask than is_causal.
    *others, align = call.masks
    is_plain = all(one is None for one in others) and align == "top-left"
    assume(not is_plain and (call.is_causal or any(one is not None for one in others)))
    shape = (*LEAD, call.query.shape[-2], call.key.shape[-2])
    seen = np.array([call.masks.of_head(h, shape, call.is_causal).seen for h in np.ndindex(*LEAD)])
    seen = seen.reshape(2, 2, 2, *shape[-2:])
    blind = ~seen.any(axis=-1).reshape(shape[:-1])
    unseen = ~seen.any(axis=(2, -2))
    want = (*call.forward(return_lse=True), *call.gradients())
    call.query[blind] = call.dout[blind] = bad
    call.key[unseen] = call.value[unseen] = bad
    output, lse = call.forward(return_lse=True)
    found = (output, lse, *call.gradients())
    for name, one, other in zip(("o", "lse", *NAMES), found, want, strict=True):
        assert_same_bits(one, other, name)
    output[blind] = bad
    call.gradients(output=output, lse=lse)
    assert not found[2][blind].any()
    assert not found[3][unseen].any()
    assert not found[4][unseen].any()


@given(calls(), st.sampled_from((1, 2, 3)))
def test_bits_by_any_threads_and_strides(call: Call, threads: int) -> None:
    want = (call.forward(), *call.gradients())
    mask = call.masks.attn_mask
    if mask is not None:
        shown = np.broadcast_to(mask, (*LEAD, call.query.shape[-2], call.key.shape[-2]))
        turned = np.moveaxis(np.moveaxis(shown[..., ::-1], 0, -1).copy(), -1, 0)[..., ::-1]
        call = call._replace(masks=call.masks._replace(attn_mask=turned))
    found = (call.forward(threads=threads), *call.gradients(threads=threads))
    for name, one, other in zip(("o", *NAMES), found, want, strict=True):
        assert_same_bits(one, other, name)


@given(calls(), st.integers(0, 1), st.integers(0, 1))
def test_bits_alone_or_stacked(call: Call, batch: int, group: int) -> None:
    heads = slice(2 * group, 2 * group + 2)
    want = (call.forward()[batch, heads], *call.gradients())
    mask, lengths = call.masks.attn_mask, call.masks.key_lengths
    if mask is not None:
        mask = np.broadcast_to(mask, (*LEAD, *mask.shape[-2:]))[batch, heads]
    lengths = None if lengths is None else lengths[batch]
    alone = Call(
        call.query[batch, heads],
        call.key[batch, group][None],
        call.value[batch, group][None],
        call.dout[batch, heads],
        call.is_causal,
        call.scale,
        call.masks._replace(attn_mask=mask, key_lengths=lengths),
    )
    found = (alone.forward(), *alone.gradients())
    own = (want[0], want[1][batch, heads], want[2][batch, group][None], want[3][batch, group][None])
    for name, one, other in zip(("o", *NAMES), found, own, strict=True):
        assert_same_bits(one, other, name)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    "form",
    [
        {"key_lengths": 19_000},
        {"window": (7000, 0), "causal_align": "bottom-right"},
        {"cu_seqlens": ([0, 1], [0, 20_000])},
        {"attn_mask": np.arange(20_000) % 9000 > 4000},
        {"attn_mask": np.zeros((1, 20_000), bool)},
    ],
    ids=["lengths", "window", "packed", "entries", "nothing"],
)
def test_few_queries_share_many_keys(rows: int, form: dict[str, Any]) -> None:
    rng = np.random.default_rng(6)
    if "cu_seqlens" in form:
        form = {"cu_seqlens": ([0, rows], [0, 20_000])}
    q, k, v, dout = (rng.standard_normal((1, n, 8)) for n in (rows, 20_000, 20_000, rows))
    wide = [one.astype(np.longdouble) for one in (q, k, v, dout)]
    masks = reference.Masks(**form)
    want = (
        reference.attention(*wide[:3], masks=masks),
        *reference.attention_vjp(*wide, masks=masks),
    )
    found = (ag.attention(q, k, v, **form), *ag.attention_vjp(q, k, v, dout, **form))
    for name, one, truth in zip(("o", *NAMES), found, want, strict=True):
        size = float(np.finfo(float).eps * (np.max(np.abs(truth)) + 1e-9) * 10)
        assert_ratio(one, truth, size, SLACK, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("align", ["top-left", "bottom-right"])
def test_masks_of_long_heads(align: str, dtype: Any) -> None:
    """More rows than a task, a wave and a chunk hold: one mask by all the ways to say it."""
    rng = np.random.default_rng(3)
    rows, seen, before = 700, 900, 130
    draw = [rng.standard_normal((2, n, 16)).astype(dtype) for n in (rows, seen, seen, rows)]
    j, i = np.arange(rows)[:, None], np.arange(seen)
    apart = i - j - (seen - rows if align == "bottom-right" else 0)
    shows = (apart <= 0) & (apart >= -before)
    added = np.where(shows, 0, -np.inf).astype(dtype)
    form: dict[str, Any] = {"window": (before, -1), "is_causal": True, "causal_align": align}
    want = (ag.attention(*draw[:3], **form), *ag.attention_vjp(*draw, **form))
    for mask in (shows, added, added[None, None, 0:].reshape(1, rows, seen)):
        got = (
            ag.attention(*draw[:3], attn_mask=mask),
            *ag.attention_vjp(*draw, attn_mask=mask),
        )
        for name, one, other in zip(("o", *NAMES), got, want, strict=True):
            size = float(np.finfo(dtype).eps * np.max(np.abs(other)) * 10)
            assert_ratio(one, other, size, SLACK, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [40, 700])
def test_bits_of_a_mask_that_a_range_of_keys_can_say(rows: int, dtype: Any) -> None:
    """It is read once, and then costs what the option costs that says the same."""
    rng = np.random.default_rng(8)
    draw = [rng.standard_normal((2, 3, rows, 16)).astype(dtype) for _ in range(4)]
    j, i = np.arange(rows)[:, None], np.arange(rows)
    for shows, form in (
        (np.ones((rows, rows), bool), {}),
        (i <= j, {"is_causal": True}),
        ((i <= j) & (j - i <= 9), {"window": (9, 0)}),
        (np.broadcast_to(i < rows // 2, (1, rows)), {"key_lengths": rows // 2}),
        ((i < 7) == (j < 7), {"cu_seqlens": [0, 7, rows]}),
    ):
        want = (*ag.attention(*draw[:3], return_lse=True, **form), *ag.attention_vjp(*draw, **form))
        for mask in (shows, np.where(shows, 0, -np.inf).astype(dtype)):
            got = (
                *ag.attention(*draw[:3], return_lse=True, attn_mask=mask),
                *ag.attention_vjp(*draw, attn_mask=mask),
            )
            for name, one, other in zip(("o", "lse", *NAMES), got, want, strict=True):
                assert_same_bits(one, other, f"{name}, {form}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_of_tiles_that_a_mask_shows_whole(dtype: Any) -> None:
    """One hole in a far corner, which all that is not near it does not notice."""
    rng = np.random.default_rng(9)
    rows = 600
    draw = [rng.standard_normal((1, rows, 16)).astype(dtype) for _ in range(4)]
    mask = np.ones((rows, rows), bool)
    mask[-1, rows // 2] = False
    want, got = ag.attention(*draw[:3]), ag.attention(*draw[:3], attn_mask=mask)
    assert_same_bits(got[:, :-1], want[:, :-1], "o")
    wide = [one.astype(np.longdouble) for one in draw]
    masks = reference.Masks(attn_mask=mask)
    truth = (
        reference.attention(*wide[:3], masks=masks),
        *reference.attention_vjp(*wide, masks=masks),
    )
    found = (got, *ag.attention_vjp(*draw, attn_mask=mask))
    for name, one, other in zip(("o", *NAMES), found, truth, strict=True):
        size = float(np.finfo(dtype).eps * np.max(np.abs(other)) * 10)
        assert_ratio(one, other, size, SLACK, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_beside_which_whole_tiles_have_no_weight(dtype: Any) -> None:
    """Tiles of zeros, which elsewhere need no mask."""
    rng = np.random.default_rng(10)
    rows = 600
    draw = [rng.standard_normal((1, rows, 16)).astype(dtype) for _ in range(4)]
    bias = np.zeros((rows, rows), dtype)
    bias[:, 400] = 3000.0
    wide = [one.astype(np.longdouble) for one in draw]
    masks = reference.Masks(attn_mask=bias)
    truth = (
        reference.attention(*wide[:3], masks=masks),
        *reference.attention_vjp(*wide, masks=masks),
    )
    found = (ag.attention(*draw[:3], attn_mask=bias), *ag.attention_vjp(*draw, attn_mask=bias))
    for name, one, other in zip(("o", *NAMES), found, truth, strict=True):
        size = float(np.finfo(dtype).eps * (1.0 + np.max(np.abs(other))) * 3000)
        assert_ratio(one, other, size, SLACK, name)


def test_sequences_are_heads_of_their_own() -> None:
    rng = np.random.default_rng(4)
    q, k, v, dout = (rng.standard_normal((3, 50, 8)) for _ in range(4))
    ends = [0, 7, 7, 30, 50]
    packed = ag.attention_vjp(q, k, v, dout, cu_seqlens=ends, is_causal=True)
    for begin, end in itertools.pairwise(ends):
        parts = [one[:, begin:end] for one in (q, k, v, dout)]
        alone = ag.attention_vjp(*parts, is_causal=True)
        for one, other in zip(packed, alone, strict=True):
            assert_ratio(one[:, begin:end], other, 1e-14, SLACK, f"{begin} to {end}")


def test_a_plan_keeps_its_masks() -> None:
    rng = np.random.default_rng(5)
    q, k, v, dout = (rng.standard_normal((2, 20, 4)) for _ in range(4))
    form: dict[str, Any] = {"attn_mask": rng.random((20, 20)) < 0.5, "key_lengths": 15}
    plan = ag.plan(q, k, v, **form)
    want = ag.attention_vjp(q, k, v, dout, **form)
    for got in (plan.execute(dout=dout), want.plan.execute(query=q, key=k, value=v, dout=dout)):
        assert_same_bits(got.dk, want.dk, "dk")


def test_a_polynomial_has_no_other_mask() -> None:
    x = np.zeros((2, 5, 3))
    with pytest.raises(ag.OptionError, match="method: found 'polynomial' for heads with a mask"):
        ag.attention_vjp(x, x, x, x, method="polynomial", degree=1, window=(1, 1))
