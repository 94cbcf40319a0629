"""Second derivatives under masks of every kind: dense formulas, differences, what nobody sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_attention_masks import LEAD, Call, calls
from test_second_derivatives import Heads, dense, sizes

import attngrad_rs as ag
from attngrad_rs import reference
from helpers import assert_ratio, assert_same_bits

pytestmark = pytest.mark.spec

# Roundings by which a result may differ from the dense formula, over the sums of absolute values.
SLACK = 30.0
NAMES = ("query", "key", "value", "dout")


def along(call: Call) -> Heads:
    """The heads of a call with a direction at random."""
    sides = (call.query, call.key, call.value, call.dout)
    rng = np.random.default_rng(len(call.query[0, 0]))
    changes = tuple(rng.standard_normal(one.shape).astype(one.dtype) for one in sides)
    return Heads(sides, changes, call.is_causal, call.scale, 2, call.masks)


@given(calls())
def test_every_mask_is_the_dense_formula(call: Call) -> None:
    heads = along(call)
    output, lse = call.forward(return_lse=True)
    (found_output, tangent), found = heads.jvp(), heads.hvp()
    assert_same_bits(found_output, output, "output")
    assert_same_bits(found[3], tangent, "the part of dout is the tangent")
    again = heads.hvp(output=output, lse=lse)
    # Beside what is added a logit is rounded by more; weights that are taken for zero.
    added, tiny = 1.0 + call.added(), float(np.finfo(call.query.dtype).tiny) ** 0.5
    growth = 1.0 + float(np.max(np.abs(lse[np.isfinite(lse)]), initial=0.0))
    want, size = dense(heads)[1:], sizes(heads)[1:]
    for name, one, other, right, own in zip(NAMES, found, again, want, size, strict=True):
        assert one.dtype == call.query.dtype
        assert_ratio(one, right, added * own + tiny, SLACK, name)
        assert_ratio(other, right, growth * added * own + tiny, SLACK, f"{name} again")
    blind = np.isneginf(lse)
    assert not tangent[blind].any()
    assert not found[0][blind].any()


@given(calls())
def test_the_reference_is_a_derivative(call: Call) -> None:
    """Of the gradients, by differences in the widest precision."""
    assume(call.masks.attn_mask is None or call.masks.attn_mask.dtype == bool)
    heads = along(call).repeated()
    step = np.longdouble(1e-6)

    def gradients(sign: int) -> tuple[Any, ...]:
        pairs = zip(heads.sides, heads.changes, strict=True)
        moved = [one + sign * step * change for one, change in pairs]
        output = reference.attention(*moved[:3], **heads.form)
        return (*reference.attention_vjp(*moved, **heads.form), output)

    found = reference.attention_hvp(
        *heads.sides, *heads.changes[:3], ddout=heads.changes[3], **heads.form
    )
    most = max(float(np.max(np.abs(one), initial=1.0)) for one in (*heads.sides, *heads.changes))
    steps = zip(NAMES, found, gradients(1), gradients(-1), strict=True)
    for name, one, after, before in steps:
        assert_ratio(one, (after - before) / (2 * step), 1e-8 * most**5, 1.0, name)


@given(calls(), st.sampled_from((np.nan, np.inf, -np.inf)))
def test_what_nobody_sees_has_no_effect(call: Call, bad: float) -> None:
    *others, align = call.masks
    is_plain = all(one is None for one in others) and align == "top-left"
    assume(not is_plain and (call.is_causal or any(one is not None for one in others)))
    shape = (*LEAD, call.query.shape[-2], call.key.shape[-2])
    seen = np.array([call.masks.of_head(h, shape, call.is_causal).seen for h in np.ndindex(*LEAD)])
    seen = seen.reshape(2, 2, 2, *shape[-2:])
    blind, unseen = ~seen.any(axis=-1).reshape(shape[:-1]), ~seen.any(axis=(2, -2))
    heads = along(call)
    want = (*heads.jvp(), *heads.hvp())
    for query, key, value, dout in (heads.sides, heads.changes):
        query[blind] = dout[blind] = bad
        key[unseen] = value[unseen] = bad
    found = (*heads.jvp(), *heads.hvp())
    for place, (one, other) in enumerate(zip(found, want, strict=True)):
        assert_same_bits(one, other, f"{place}")
    output, lse = call.forward(return_lse=True)
    output[blind] = bad
    heads.hvp(output=output, lse=lse)
    for one in found[3:5]:
        assert not one[unseen].any()


@given(calls(), st.sampled_from((1, 2, 3)))
def test_bits_by_any_threads(call: Call, threads: int) -> None:
    heads = along(call)
    found = (*heads.jvp(threads=threads), *heads.hvp(threads=threads))
    for place, (one, other) in enumerate(zip(found, (*heads.jvp(), *heads.hvp()), strict=True)):
        assert_same_bits(one, other, f"{place}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masks_of_long_heads(dtype: Any) -> None:
    """More rows than a group, a wave and a chunk hold: one mask by all the ways to say it."""
    rng = np.random.default_rng(3)
    rows, seen, before = 900, 900, 130
    shapes = ((1, rows, 16), (1, seen, 16), (1, seen, 9), (1, rows, 9))
    sides, changes = ([rng.standard_normal(one).astype(dtype) for one in shapes] for _ in range(2))
    apart = np.arange(seen) - np.arange(rows)[:, None]
    shows = (apart <= 0) & (apart >= -before)
    holes = shows & (rng.random((rows, seen)) < 0.9)

    def of(**form: Any) -> Any:
        return ag.attention_hvp(*sides, *changes[:3], ddout=changes[3], **form)

    want = of(window=(before, -1), is_causal=True)
    for name, one, other in zip(NAMES, of(attn_mask=shows), want, strict=True):
        assert_same_bits(one, other, name)
    masks = reference.Masks(attn_mask=holes)
    heads = Heads(tuple(sides), tuple(changes), False, None, 1, masks)
    added = np.where(holes, 0, -np.inf).astype(dtype)
    truth, size = dense(heads)[1:], sizes(heads)[1:]
    for mask in (holes, added):
        found = of(attn_mask=mask)
        for name, one, right, own in zip(NAMES, found, truth, size, strict=True):
            assert_ratio(one, right, own, SLACK, name)


def test_a_number_that_somebody_sees_is_named() -> None:
    arrays = [np.ones((2, 3, 4)) for _ in range(7)]
    mask = np.array([[True, False, True]] * 3)
    arrays[5][1, 1] = np.nan
    ag.attention_hvp(*arrays, attn_mask=mask)
    arrays[5][1, 2, 3] = np.nan
    with pytest.raises(ag.NonFiniteError, match=r"ddkey: found NaN at row 2, column 3"):
        ag.attention_hvp(*arrays, attn_mask=mask)
    with pytest.raises(ag.ShapeError, match="attn_mask: "):
        ag.attention_jvp(*arrays[:6], attn_mask=mask[:2])
    with pytest.raises(ag.OptionError, match="is_causal: "):
        ag.attention_jvp(*arrays[:6], attn_mask=mask, is_causal=True)
