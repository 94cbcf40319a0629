"""Masks by the names of jax.nn, as the primitives take them."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from ..errors import DTypeError, OptionTypeError, ShapeError
from ._host import Form

Array: TypeAlias = jax.Array
ArrayLike: TypeAlias = Any


class Masks(NamedTuple):
    """Masks of a call; all that are given hold at once."""

    bias: ArrayLike | None
    mask: ArrayLike | None
    query_seq_lengths: ArrayLike | None
    key_value_seq_lengths: ArrayLike | None
    local_window_size: Any

    def read(self, form: Form, query: Array, key: Array) -> tuple[Form, list[Array], Array | None]:
        """The form with masks, those that are arrays, and which queries there are.

        Raises ShapeError, DTypeError and OptionTypeError, which name the argument.
        """
        (batch, rows, heads, _), seen = query.shape, key.shape[-3]
        entries = self._entries(query, (batch, heads, rows, seen))
        extras: dict[str, Array] = {} if entries is None else {"attn_mask": entries}
        if self.key_value_seq_lengths is not None:
            lengths = _lengths("key_value_seq_lengths", self.key_value_seq_lengths, batch)
            # Those beyond S are all keys, as in jax.nn.
            extras["key_lengths"] = jnp.clip(lengths, 0, seen)[:, None, None, None]
        is_there = None
        if self.query_seq_lengths is not None:
            lengths = _lengths("query_seq_lengths", self.query_seq_lengths, batch)
            is_there = (jnp.arange(rows) < lengths[:, None])[:, :, None, None]
        is_causal, window = form.is_causal, _window(self.local_window_size)
        if entries is not None and is_causal:
            # Beside entries the core has no other word for it.
            is_causal, window = False, (-1 if window is None else window[0], 0)
        form = Form(is_causal, form.scale, window, tuple(extras))
        return form, list(extras.values()), is_there

    def _entries(self, query: Array, shape: tuple[int, ...]) -> Array | None:
        """Bias and mask as one array of four dimensions."""
        mask = None if self.mask is None else _of_pairs("mask", self.mask, shape)
        bias = None if self.bias is None else _of_pairs("bias", self.bias, shape)
        if mask is not None and mask.dtype != bool:
            raise DTypeError(
                f"mask: found {mask.dtype.name}; expected bool: numbers to add go in as bias"
            )
        if bias is None:
            return mask
        if not jnp.issubdtype(bias.dtype, jnp.floating):
            raise DTypeError(f"bias: found {bias.dtype.name}; expected floating-point numbers")
        bias = bias.astype(query.dtype)
        return bias if mask is None else jnp.where(mask, bias, -jnp.inf)


def is_outside(window: Any) -> bool:
    """Whether the window has numbers below 0, which jax.nn alone gives a meaning."""
    numbers = window if isinstance(window, (tuple, list)) else (window,)
    return any(_is_integer(one) and one < 0 for one in numbers)


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _window(given: Any) -> tuple[int, int] | None:
    if given is None:
        return None
    pair = (given, given) if _is_integer(given) else given
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(map(_is_integer, pair)):
        raise OptionTypeError(
            f"local_window_size: found {given!r}; expected an integer, a pair of integers or None"
        )
    return int(pair[0]), int(pair[1])


def _of_pairs(name: str, given: ArrayLike, shape: tuple[int, ...]) -> Array:
    """An array of four dimensions that broadcasts to (B, N, T, S)."""
    array = array_of(name, given)
    own = (1,) * (4 - array.ndim) + array.shape
    if len(own) != 4 or any(size not in (1, of) for size, of in zip(own, shape, strict=True)):
        raise ShapeError(
            f"{name}: found shape {array.shape}; expected one that broadcasts to {shape}, as "
            "(batch, heads, queries, keys)"
        )
    return array.reshape(own)


def _lengths(name: str, given: ArrayLike, batch: int) -> Array:
    array = array_of(name, given)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise DTypeError(f"{name}: found {array.dtype.name}; expected integers")
    if array.shape != (batch,):
        raise ShapeError(
            f"{name}: found shape {array.shape}; expected ({batch},), one number for each batch"
        )
    return array


def array_of(name: str, given: ArrayLike) -> Array:
    """An array of JAX, or the error that names what is none."""
    try:
        return jnp.asarray(given)
    except (TypeError, ValueError) as error:
        found = f"found an object of type {type(given).__name__}"
        raise OptionTypeError(f"{name}: {found}; expected an array") from error
