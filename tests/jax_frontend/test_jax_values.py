"""The function against jax.nn's own and the formula: output, normalisers and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

jax = pytest.importorskip("jax")

import jax_calls  # noqa: E402
from jax_calls import SIZE, SLACK, Call, assert_close, jax_nns  # noqa: E402

from attngrad_rs.jax import _host, dot_product_attention  # noqa: E402

pytestmark = pytest.mark.peers

# Every example has shapes of its own, which JAX compiles twice.
COMPILED = settings(max_examples=settings().max_examples // 20)
PRECISIONS = ("float32", "float64")


# Rows that see nothing: their normalisers are infinite.
NO_KEYS = Call(
    (np.ones((2, 3, 4)), np.ones((0, 1, 4)), np.ones((0, 1, 5))), np.ones((2, 3, 5)), True, None
)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    lead = draw(st.sampled_from([(), (1,), (3,), (0,)]))
    shared, group = draw(st.sampled_from([(1, 1), (3, 1), (2, 2), (1, 4)]))
    rows, seen = draw(st.integers(0, 33)), draw(st.integers(0, 33))
    width, columns = draw(st.integers(1, 17)), draw(st.integers(1, 17))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def array(*shape: int) -> Any:
        return rng.uniform(-SIZE, SIZE, (*lead, *shape))

    query, key = array(rows, shared * group, width), array(seen, shared, width)
    value, dout = array(seen, shared, columns), array(rows, shared * group, columns)
    scale = draw(st.none() | st.floats(-0.5, 0.5))
    return Call((query, key, value), dout, draw(st.booleans()), scale)


@pytest.mark.parametrize("dtype", PRECISIONS)
@COMPILED
@given(call=calls())
@example(call=NO_KEYS)
def test_it_is_the_formula_and_jax_nns_own(dtype: str, call: Call) -> None:
    call = call.rounded(dtype)
    found = call.results(dot_product_attention, dtype)
    assert {one.dtype.name for one in found} == {dtype}
    bar = SLACK * (1.0 + call.logits)
    assert_close(found, call.truth(), bar * float(np.finfo(dtype).eps), "formula")
    # jax.nn has no rule for no keys, and its softmax is in float32 whatever the arrays are.
    if call.arrays[1].shape[-3]:
        peer = call.results(jax_nns, dtype)
        if not jax_calls.RESIDUAL:
            peer[1] = found[1]
        assert_close(found, peer, bar * float(np.finfo(np.float32).eps), "jax.nn")


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_many_rows_and_wide_heads(dtype: str, is_causal: bool) -> None:
    """More than one block of the core's, in both directions."""
    rng = np.random.default_rng(0)
    shapes = ((1, 1100, 2, 72), (1, 1300, 1, 72), (1, 1300, 1, 72), (1, 1100, 2, 72))
    *arrays, dout = (rng.uniform(-SIZE, SIZE, shape) for shape in shapes)
    call = Call(tuple(arrays), dout, is_causal, None).rounded(dtype)
    bar = SLACK * float(np.finfo(dtype).eps) * (1.0 + call.logits)
    assert_close(call.results(dot_product_attention, dtype), call.truth(), bar, "formula")


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("sizes", ["B", "T", "S", "BTS", "N"])
def test_sizes_of_zero_have_derivatives_of_both_orders(sizes: str, is_causal: bool) -> None:
    size = {"B": 2, "T": 5, "S": 6, "N": 4} | dict.fromkeys(sizes, 0)
    shared = size["N"] // 2
    query = np.ones((size["B"], size["T"], size["N"], 3))
    key = np.ones((size["B"], size["S"], shared, 3))

    def loss(*at: Any) -> Any:
        return jax.numpy.sin(dot_product_attention(*at, is_causal=is_causal)).sum()

    def squared(*at: Any) -> Any:
        return sum((one**2).sum() for one in jax.grad(loss, (0, 1, 2))(*at))

    heads = (query, key, key)
    output, lse = dot_product_attention(*heads, is_causal=is_causal, return_residual=True)
    assert (output.shape, lse.shape) == (query.shape, query.shape[:-1])
    if "S" in sizes:
        assert not output.any()
        assert bool((lse == -np.inf).all())
    for function in (loss, squared):
        for gradient, of in zip(jax.grad(function, (0, 1, 2))(*heads), heads, strict=True):
            assert gradient.shape == of.shape
            assert bool(np.isfinite(gradient).all())


def test_bits_are_the_same_alone_stacked_and_compiled() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 65, 4, 16)).astype(np.float32)
    want = np.asarray(dot_product_attention(x, x, x))
    for name, function in {
        "alone": lambda x: np.stack([dot_product_attention(one, one, one) for one in x]),
        "compiled": jax.jit(lambda x: dot_product_attention(x, x, x)),
        "mapped": jax.vmap(lambda x: dot_product_attention(x, x, x)),
        "mapped heads": jax.vmap(lambda x: dot_product_attention(x, x, x), 2, 2),
    }.items():
        given = x if name != "mapped heads" else x[:, :, :, None]
        got = np.asarray(function(given)).reshape(want.shape)
        assert np.array_equal(got, want), name


def test_a_step_calls_the_core_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once forward, and once back with what the forward pass returned."""
    seen: list[tuple[str, set[str]]] = []

    def watched(name: str) -> Any:
        original = getattr(_host, name)

        def call(*arrays: Any, **options: Any) -> Any:
            seen.append((name, {"output", "lse"} & set(options)))
            return original(*arrays, **options)

        return call

    for name in ("attention", "attention_vjp"):
        monkeypatch.setattr(_host, name, watched(name))
    x = np.ones((2, 5, 4, 3), np.float32)
    step = jax.jit(jax.grad(lambda *at: dot_product_attention(*at).sum(), (0, 1, 2)))
    jax.block_until_ready(step(x, x, x))
    assert seen == [("attention", set()), ("attention_vjp", {"output", "lse"})]


def test_the_two_formulas_of_these_tests_agree() -> None:
    rng = np.random.default_rng(0)
    arrays = tuple(rng.standard_normal(shape) for shape in ((5, 4, 3), (6, 2, 3), (6, 2, 2)))
    call = Call(arrays, np.ones((5, 4, 2)), True, 0.3)
    got = jax_calls.dense(*arrays, scale=0.3, is_causal=True)
    assert_close(got, call.truth()[0], 1e-14, "formulas")
