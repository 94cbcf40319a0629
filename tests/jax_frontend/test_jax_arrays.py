"""Arrays of JAX in the functions of the package itself: results are arrays of JAX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import attngrad_rs as ag  # noqa: E402

pytestmark = pytest.mark.peers

SHAPES = {"query": (2, 7, 4), "key": (2, 9, 4), "value": (2, 9, 3), "dout": (2, 7, 3)}
INPUTS = ("query", "key", "value")
DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])


def heads(dtype: str) -> dict[str, Any]:
    keys = zip(SHAPES.items(), jax.random.split(jax.random.key(0), len(SHAPES)), strict=True)
    return {name: jax.random.normal(key, shape).astype(dtype) for (name, shape), key in keys}


def wide(named: dict[str, Any]) -> dict[str, Any]:
    """The numbers that are computed with, as NumPy has them."""
    return {
        name: np.asarray(one, np.float64 if one.dtype == "float64" else np.float32)
        for name, one in named.items()
    }


def assert_rounded(got: Any, want: Any, dtype: str) -> None:
    """An array that holds what NumPy was given, rounded by JAX itself."""
    assert isinstance(got, jax.Array)
    assert got.dtype == dtype
    assert np.array_equal(np.asarray(got), np.asarray(jax.numpy.asarray(want).astype(dtype)))


@DTYPES
def test_results_are_arrays_of_jax(dtype: str) -> None:
    named = heads(dtype)
    arrays = wide(named)
    output, lse = ag.attention(*(named[name] for name in INPUTS), return_lse=True, allow_half=True)
    want, want_lse = ag.attention(*(arrays[name] for name in INPUTS), return_lse=True)
    assert_rounded(output, want, dtype)
    assert_rounded(lse, want_lse, str(want_lse.dtype))
    found, plain = ag.attention_vjp(**named, allow_half=True), ag.attention_vjp(**arrays)
    for got, whole in zip(found, plain, strict=True):
        assert_rounded(got, whole, dtype)
    assert ag.attention_vjp(**named, output=output, lse=lse, allow_half=True).dq.dtype == dtype
    A, X = named["query"][0], jax.numpy.eye(4).astype(dtype)
    gradient = ag.loss_gradient(A, A, A, X, X, A, allow_half=True).gradient
    B, Z = wide({"A": A, "X": X}).values()
    assert_rounded(gradient, ag.loss_gradient(B, B, B, Z, Z, B).gradient, dtype)


@DTYPES
def test_masks_are_arrays_of_jax(dtype: str) -> None:
    named = heads(dtype)
    inputs, arrays = [named[name] for name in INPUTS], wide(named)
    mask = jax.random.uniform(jax.random.key(3), (7, 9)) < 0.6
    got = ag.attention(*inputs, attn_mask=mask, allow_half=True)
    want = ag.attention(*(arrays[name] for name in INPUTS), attn_mask=np.asarray(mask))
    assert_rounded(got, want, dtype)
    added = jax.numpy.where(mask, 0.5, -jax.numpy.inf).astype(dtype)
    got = ag.attention(*inputs, attn_mask=added, allow_half=True)
    (plain,) = wide({"attn_mask": added}).values()
    want = ag.attention(*(arrays[name] for name in INPUTS), attn_mask=plain)
    assert_rounded(got, want, dtype)


def test_what_is_refused() -> None:
    named = heads("float32")
    inputs = [named[name] for name in INPUTS]
    with pytest.raises(ag.DTypeError, match=r"query: .*[Tt]race"):
        jax.jit(lambda query: ag.attention(query, *inputs[1:]))(inputs[0])
    with pytest.raises(
        ag.DTypeError, match=r"value: found an array of numpy where query is one of"
    ):
        ag.attention(*inputs[:2], np.asarray(inputs[2]))
    with pytest.raises(ag.OptionError, match=r"out: found an array that cannot be written to"):
        ag.attention(*inputs, out=jax.numpy.zeros((2, 7, 3), np.float32))
