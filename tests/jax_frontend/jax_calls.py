"""Calls of attention for JAX, and two formulas of it that share no code with the library."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Roundings of a result beside its largest entry, for logits of size one.
SLACK = 100.0
SIZE = 2.0
EVERY = (0, 1, 2)
# Old releases of jax.nn return no normalisers.
RESIDUAL = "return_residual" in inspect.signature(jax.nn.dot_product_attention).parameters


def jax_nns(query: Any, key: Any, value: Any, *, scale: Any = None, **options: Any) -> Any:
    """jax.nn's own, whose softmax is in float32; a value of another width by way of zeros."""
    width, columns = query.shape[-1], value.shape[-1]
    scale = width**-0.5 if scale is None else scale
    wide = max(width, columns)

    def padded(x: Any) -> Any:
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, wide - x.shape[-1])])

    inputs = map(padded, (query, key, value))
    asked = options.pop("return_residual", False)
    residual = {"return_residual": True} if asked and RESIDUAL else {}
    found = jax.nn.dot_product_attention(*inputs, scale=scale, **options, **residual)
    if residual:
        return found[0][..., :columns], found[1]
    if asked:
        return found[..., :columns], jnp.full(query.shape[:-1], jnp.nan, query.dtype)
    return found[..., :columns]


def dense(
    query: Any, key: Any, value: Any, *, scale: Any = None, bias: Any = None, **masks: Any
) -> Any:
    """The formula in operations of JAX, in the precision of its arguments; zeros in blind rows."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    group = query.shape[-2] // key.shape[-2]
    key, value = (jnp.repeat(one, group, axis=-2) for one in (key, value))
    logits = scale * jnp.einsum("...tnh,...snh->...nts", query, key)
    seen = jnp.asarray(shown(logits.shape, **masks))
    logits = jnp.where(seen, logits if bias is None else logits + bias, -jnp.inf)
    is_blind = ~seen.any(axis=-1, keepdims=True)
    weights = jax.nn.softmax(jnp.where(is_blind, 0.0, logits), axis=-1)
    return jnp.einsum("...nts,...snh->...tnh", jnp.where(is_blind, 0.0, weights), value)


def shown(
    shape: tuple[int, ...],
    mask: Any = None,
    is_causal: bool = False,
    query_seq_lengths: Any = None,
    key_value_seq_lengths: Any = None,
    local_window_size: Any = None,
) -> Any:
    """The keys that each query sees, (..., N, T, S), in NumPy."""
    *_, count, keys = shape
    t, s = np.arange(count)[:, None], np.arange(keys)
    seen = np.ones(shape, bool)
    if mask is not None:
        seen &= np.asarray(mask)
    if is_causal:
        seen &= s <= t
    if local_window_size is not None:
        size = local_window_size
        before, after = (size, size) if isinstance(size, int) else size
        seen &= (s >= t - before) & (s <= t + after)
    for lengths, places in ((query_seq_lengths, t), (key_value_seq_lengths, s)):
        if lengths is not None:
            seen &= places < np.asarray(lengths)[:, None, None, None]
    return seen


@dataclass(frozen=True)
class Call:
    """Arrays of one call in float64, and its options."""

    arrays: tuple[Any, ...]
    dout: Any
    is_causal: bool
    scale: float | None

    @property
    def factor(self) -> float:
        width = self.arrays[0].shape[-1]
        return width**-0.5 if self.scale is None else self.scale

    @property
    def logits(self) -> float:
        """No logit is larger."""
        return SIZE**2 * self.arrays[0].shape[-1] * abs(self.factor)

    def rounded(self, dtype: str) -> Call:
        """The call with arrays that a precision holds."""
        low = [one.astype(dtype).astype(np.float64) for one in (*self.arrays, self.dout)]
        return Call(tuple(low[:3]), low[3], self.is_causal, self.scale)

    def results(self, function: Any, dtype: str) -> list[Any]:
        """Output, logarithms of the normalisers and the three gradients, compiled."""

        @jax.jit
        def run(dout: Any, *inputs: Any) -> list[Any]:
            def call(*at: Any) -> Any:
                options = {"is_causal": self.is_causal, "scale": self.scale}
                return function(*at, return_residual=True, **options)

            output, back, lse = jax.vjp(call, *inputs, has_aux=True)
            return [output, lse, *back(dout)]

        return [np.asarray(one) for one in run(*(x.astype(dtype) for x in self.given))]

    @property
    def given(self) -> tuple[Any, ...]:
        return (self.dout, *self.arrays)

    def truth(self) -> list[Any]:
        """The same in NumPy, in float64, by the formulas of the derivative."""
        query, key, value = self.arrays
        group = query.shape[-2] // key.shape[-2]
        K, V = (np.repeat(one, group, axis=-2) for one in (key, value))
        S = self.factor * np.einsum("...tnh,...snh->...nts", query, K)
        if self.is_causal:
            S = np.where(np.tril(np.ones(S.shape[-2:], bool)), S, -np.inf)
        top = S.max(axis=-1, keepdims=True, initial=-np.inf)
        weights = np.exp(S - top)
        sums = weights.sum(axis=-1, keepdims=True)
        P = weights / sums
        # No keys have the sum 0.
        with np.errstate(divide="ignore"):
            lse = np.moveaxis((top + np.log(sums))[..., 0], -1, -2)
        dP = np.einsum("...tnh,...snh->...nts", self.dout, V)
        dS = self.factor * P * (dP - (P * dP).sum(axis=-1, keepdims=True))

        def folded(side: Any) -> Any:
            *lead, heads, width = side.shape
            return side.reshape(*lead, heads // group, group, width).sum(axis=-2)

        return [
            np.einsum("...nts,...snh->...tnh", P, V),
            lse,
            np.einsum("...nts,...snh->...tnh", dS, K),
            folded(np.einsum("...nts,...tnh->...snh", dS, query)),
            folded(np.einsum("...nts,...tnh->...snh", P, self.dout)),
        ]


def assert_close(got: Any, want: Any, bar: float, label: str) -> None:
    """All leaves of a tree, beside 1 and the largest entry of each."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    for i, (one, other) in enumerate(pairs):
        found, expected = np.asarray(one), np.asarray(other)
        assert found.shape == expected.shape, f"{label}, {i}"
        if not found.size:
            continue
        same = found == expected
        # Infinities that are equal differ by 0.
        errors = np.abs(np.where(same, 0.0, found) - np.where(same, 0.0, expected))
        finite = np.where(np.isfinite(expected), np.abs(expected), 0.0)
        # NaN fails.
        assert errors.max() <= bar * (1.0 + finite.max()), f"{label}, {i}: {errors.max():.2e}"
