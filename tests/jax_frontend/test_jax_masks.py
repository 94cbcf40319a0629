"""Masks by the names of jax.nn: its own results, the formula, derivatives, what nobody sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax_calls import EVERY, SIZE, SLACK, assert_close, dense, jax_nns, shown  # noqa: E402

from attngrad_rs.jax import dot_product_attention  # noqa: E402

pytestmark = pytest.mark.peers

# Every example has shapes of its own, which JAX compiles three times.
COMPILED = settings(max_examples=settings().max_examples // 30)
EXACT = 1e-11
# A batch, rows, keys, heads of the query and of the key.
SIZES = (2, 5, 6, 4, 2)
MASK = np.random.default_rng(1).random((2, 4, 5, 6)) < 0.6
BIAS = np.random.default_rng(2).standard_normal((4, 5, 6))
FORMS: dict[str, dict[str, Any]] = {
    "mask": {"mask": MASK},
    "bias": {"bias": BIAS, "is_causal": True},
    "both": {"mask": MASK[:1, :1], "bias": BIAS},
    "lengths": {"query_seq_lengths": np.array([3, 5]), "key_value_seq_lengths": np.array([6, 2])},
    "window": {"local_window_size": (1, 2)},
    "all": {
        "mask": MASK[:, :1], "bias": BIAS[:1], "is_causal": True, "local_window_size": 2,
        "query_seq_lengths": np.array([5, 4]), "key_value_seq_lengths": np.array([9, 0]),
    },
}  # fmt: skip


def heads(seed: int = 0) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    batch, rows, seen, many, shared = SIZES
    shapes = ((batch, rows, many, 3), (batch, seen, shared, 3), (batch, seen, shared, 2))
    return tuple(rng.standard_normal(shape) for shape in shapes)


@st.composite
def calls(draw: st.DrawFn) -> tuple[tuple[Any, ...], dict[str, Any]]:
    batch, (shared, group) = draw(st.integers(1, 3)), draw(st.sampled_from([(1, 1), (2, 2)]))
    rows, seen = draw(st.integers(1, 33)), draw(st.integers(1, 33))
    width, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def array(*shape: int) -> Any:
        return rng.uniform(-SIZE, SIZE, (batch, *shape))

    many = shared * group
    shapes = ((rows, many, width), (seen, shared, width), (seen, shared, columns))
    masks: dict[str, Any] = {"is_causal": draw(st.booleans())}
    whole = (batch, many, rows, seen)

    def shape() -> tuple[int, ...]:
        sizes = [draw(st.sampled_from((1, size))) for size in whole]
        return tuple(sizes[draw(st.integers(0, 2)) :])

    if draw(st.booleans()):
        masks["mask"] = rng.random(shape()) < draw(st.sampled_from((0.3, 0.9, 1.0)))
    if draw(st.booleans()):
        masks["bias"] = rng.standard_normal(shape())
    if draw(st.booleans()):
        masks["query_seq_lengths"] = rng.integers(0, rows + 2, batch, np.int32)
    if draw(st.booleans()):
        masks["key_value_seq_lengths"] = rng.integers(0, seen + 2, batch, np.int32)
    if draw(st.booleans()):
        masks["local_window_size"] = draw(st.integers(0, 9) | st.tuples(*[st.integers(0, 9)] * 2))
    return (*(array(*one) for one in shapes), array(rows, many, columns)), masks


def results(function: Any, arrays: tuple[Any, ...], masks: dict[str, Any]) -> Any:
    """Output and the three gradients, compiled."""

    @jax.jit
    def run(*at: Any) -> Any:
        output, back = jax.vjp(lambda *heads: function(*heads, **masks), *at[:3])
        return [output, *back(at[3])]

    return run(*arrays)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@COMPILED
@given(call=calls())
def test_it_is_the_formula_and_jax_nns_own(dtype: str, call: Any) -> None:
    arrays, masks = call
    arrays = tuple(one.astype(dtype) for one in arrays)
    masks = {name: one.astype(dtype) if name == "bias" else one for name, one in masks.items()}
    found = results(dot_product_attention, arrays, masks)
    assert {one.dtype.name for one in found} == {dtype}
    bar = SLACK * (5.0 + SIZE**2 * arrays[0].shape[-1] ** 0.5)
    wide = tuple(one.astype("float64") for one in arrays)
    assert_close(found, results(dense, wide, masks), bar * float(np.finfo(dtype).eps), "formula")
    # In a row that sees nothing jax.nn has the mean of all values.
    named = {name: one for name, one in masks.items() if name != "bias"}
    shape = (*np.shape(arrays[0])[:1], arrays[0].shape[2], arrays[0].shape[1], arrays[1].shape[1])
    if shown(shape, **named).any(axis=-1).all():
        peer = results(jax_nns, arrays, masks)
        assert_close(found, peer, bar * float(np.finfo(np.float32).eps), "jax.nn")


@pytest.mark.parametrize("name", FORMS)
def test_second_derivatives(name: str) -> None:
    """A gradient of a gradient, a direction of a gradient, and the other way round."""
    masks = FORMS[name]

    def of(function: Any) -> Any:
        def loss(*at: Any) -> Any:
            return jnp.sin(function(*at, **masks)).sum()

        def squared(*at: Any) -> Any:
            return sum((one**2).sum() for one in jax.grad(loss, EVERY)(*at))

        def everything(*at: Any) -> Any:
            along = tuple(map(jnp.cos, at))
            change = jax.jvp(lambda *at: function(*at, **masks), at, along)[1]
            turned = jax.jvp(jax.grad(loss, EVERY), at, along)[1]
            back = jax.grad(lambda *at: jax.jvp(loss, at, along)[1], EVERY)(*at)
            return change, jax.grad(squared, EVERY)(*at), turned, back

        return jax.jit(everything)(*heads())

    assert_close(of(dot_product_attention), of(dense), EXACT, name)


def test_a_hessian_under_vmap() -> None:
    """Of a mask that is mapped, and one that is not."""
    q, k, v = heads()
    mask = np.concatenate([MASK, ~MASK]).reshape(2, 2, *MASK.shape[1:])

    def of(function: Any) -> Any:
        def loss(q: Any, mask: Any, bias: Any) -> Any:
            return jnp.sin(function(q, k, v, mask=mask, bias=bias)).sum()

        one = jax.vmap(jax.hessian(loss), (None, 0, None))
        return jax.jit(one)(q[:, :5], mask, BIAS)

    def by_each(q: Any, k: Any, v: Any, *, mask: Any, bias: Any) -> Any:
        # The formula of the tests takes its masks from NumPy.
        logits = 3**-0.5 * jnp.einsum("btnh,bsnh->bnts", q, jnp.repeat(k, 2, axis=2)) + bias
        weights = jax.nn.softmax(jnp.where(mask, logits, -1e9), axis=-1)
        weights = jnp.where(mask.any(axis=-1, keepdims=True), weights, 0.0)
        return jnp.einsum("bnts,bsnh->btnh", weights, jnp.repeat(v, 2, axis=2))

    assert_close(of(dot_product_attention), of(by_each), EXACT, "hessian")


def test_a_bias_is_differentiated() -> None:
    """By the bias alone, and together with the others, twice and in a direction."""
    bias = BIAS[:, None][:2] + 0.1

    def of(function: Any) -> Any:
        def loss(bias: Any, *at: Any) -> Any:
            return jnp.sin(function(*at, bias=bias, mask=MASK)).sum()

        def squared(*at: Any) -> Any:
            return sum((one**2).sum() for one in jax.grad(loss, (0, 1, 2, 3))(*at))

        def everything(*at: Any) -> Any:
            along = tuple(map(jnp.cos, at))
            change = jax.jvp(loss, at, along)[1]
            return jax.grad(loss)(*at), jax.grad(squared, (0, 1, 2, 3))(*at), change

        return jax.jit(everything)(jnp.asarray(bias[:, :1, :, :]), *heads())

    def spread(*at: Any, bias: Any, mask: Any) -> Any:
        return dense(*at, bias=bias, mask=mask)

    assert_close(of(dot_product_attention), of(spread), EXACT, "bias")


def test_what_masks_leave_out_may_hold_anything() -> None:
    """Padding, in the output and in derivatives of both orders."""
    lengths = {"query_seq_lengths": np.array([3, 5]), "key_value_seq_lengths": np.array([4, 6])}

    def everything(*at: Any) -> Any:
        def loss(*at: Any) -> Any:
            return jnp.sin(dot_product_attention(*at, **lengths)).sum()

        def squared(*at: Any) -> Any:
            return sum((one**2).sum() for one in jax.grad(loss, EVERY)(*at))

        output = dot_product_attention(*at, **lengths)
        return output, *jax.grad(loss, EVERY)(*at), *jax.grad(squared, EVERY)(*at)

    given = heads()
    want = everything(*given)
    given[0][0, 3:], given[1][0, 4:], given[2][0, 4:] = np.nan, np.inf, np.nan
    found = everything(*given)
    for one, other in zip(found, want, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert not found[0][0, 3:].any()


def test_rows_that_see_nothing() -> None:
    x = np.ones((1, 3, 2, 4))
    mask = np.array([[True, False, True], [False] * 3, [True] * 3])
    output, lse = dot_product_attention(x, x, x, mask=mask, return_residual=True)
    assert not output[0, 1].any()
    assert bool((lse[0, 1] == -np.inf).all())
    assert np.isfinite(np.asarray(lse)[0, [0, 2]]).all()


def test_memory_of_a_masked_second_derivative() -> None:
    """No array of all logits: lengths and windows are no such array either."""
    rows = 1 << 15
    x = jax.ShapeDtypeStruct((1, rows, 1, 16), np.float32)
    lengths = jax.ShapeDtypeStruct((1,), np.int32)

    def turned(x: Any, lengths: Any) -> Any:
        def loss(x: Any) -> Any:
            masks = {"key_value_seq_lengths": lengths, "local_window_size": 9}
            return jnp.sin(dot_product_attention(x, x, x, **masks)).sum()

        return jax.grad(lambda x: (jax.grad(loss)(x) ** 2).sum())(x)

    analysis = jax.jit(turned).lower(x, lengths).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < rows * rows
