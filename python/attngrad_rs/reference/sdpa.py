"""Softmax attention in the names of neural networks, and its vector-Jacobian product."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._inputs.masks import unmasked
from .softmax import Array, Exp, exponentials, normaliser, require_finite, row_shift, visible


def _weights(query: Array, key: Array, scale: Any, is_causal: bool, exp: Exp) -> Array:
    """f = softmax(scale query key^T) of one head. Shape (L, S)."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        S = np.asarray(scale * (query @ key.T))
        require_finite(S, "the logits")
        seen = visible(S.shape[0], S.shape[1], is_causal)
        u = exponentials(S, seen, row_shift(S, seen), exp)
        return np.asarray(u / normaliser(u))


def _default_scale(query: Array, scale: Any) -> Any:
    return 1.0 / float(np.sqrt(max(query.shape[-1], 1))) if scale is None else scale


def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    is_causal: bool = False,
    scale: Any = None,
    exp: Exp = np.exp,
) -> Array:
    """o = softmax(scale query key^T) value, eq. (6.1).

    Shapes (..., L, E), (..., S, E), (..., S, Ev) -> (..., L, Ev); scale defaults to 1/sqrt(E).
    Raises RangeError where logits overflow. Cost O(L S (E + Ev)) time and O(L S) memory per head.
    """
    query, key, value = _plain(query=query, key=key, value=value)
    scale = _default_scale(query, scale)
    out = np.zeros((*query.shape[:-1], value.shape[-1]), dtype=_common(query, key, value))
    for head in np.ndindex(query.shape[:-2]):
        f = _weights(query[head], key[head], scale, is_causal, exp)
        out[head] = f @ value[head]
    return out


def attention_vjp(
    query: Array,
    key: Array,
    value: Array,
    dout: Array,
    *,
    is_causal: bool = False,
    scale: Any = None,
    exp: Exp = np.exp,
) -> tuple[Array, Array, Array]:
    """Gradients of <dout, attention(query, key, value)> with respect to its inputs, eq. (6.2).

    The p of the paper with dout in the place of c: dq = s p key, dk = s p^T query, dv = f^T dout.
    Shapes as in :func:`attention`, dout (..., L, Ev); same errors and cost.
    """
    query, key, value, dout = _plain(query=query, key=key, value=value, dout=dout)
    scale = _default_scale(query, scale)
    dtype = _common(query, key, value, dout)
    dq, dk, dv = (np.zeros(array.shape, dtype=dtype) for array in (query, key, value))
    for head in np.ndindex(query.shape[:-2]):
        f = _weights(query[head], key[head], scale, is_causal, exp)
        p1 = f * (dout[head] @ value[head].T)
        p = p1 - np.sum(p1, axis=1, keepdims=True) * f
        dq[head] = scale * (p @ key[head])
        dk[head] = scale * (p.T @ query[head])
        dv[head] = f.T @ dout[head]
    return dq, dk, dv


def _plain(**arrays: Array) -> tuple[Array, ...]:
    return tuple(unmasked(name, array) for name, array in arrays.items())


def _common(*arrays: Array) -> np.dtype[Any]:
    return np.result_type(*arrays)
