"""Softmax attention in the names of neural networks, and its derivatives of both orders."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._inputs.masks import unmasked
from .masks import Masks, Shown
from .softmax import Array, Exp, exponentials, normaliser, require_finite, row_shift, visible


def _weights(
    query: Array, key: Array, scale: Any, is_causal: bool, exp: Exp, shown: Shown | None = None
) -> Array:
    """f = softmax(scale query key^T) of one head, zeros in rows that see nothing. Shape (L, S)."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        S = np.asarray(scale * (query @ key.T))
        require_finite(S, "the logits")
        seen = visible(S.shape[0], S.shape[1], is_causal)
        if shown is not None:
            S, seen = S + shown.added, shown.seen
        u = exponentials(S, seen, row_shift(S, seen), exp)
        is_blind = ~np.any(seen, axis=1, keepdims=True)
        return np.asarray(u / normaliser(np.where(is_blind, 1, u)))


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
    masks: Masks | None = None,
) -> Array:
    """o = softmax(scale query key^T) value, eq. (6.1).

    Shapes (..., L, E), (..., S, E), (..., S, Ev) -> (..., L, Ev); scale defaults to 1/sqrt(E).
    Raises RangeError where logits overflow. Cost O(L S (E + Ev)) time and O(L S) memory per head;
    with ``masks``, which hold besides ``is_causal``, O(L S) steps of Python.
    """
    query, key, value = _plain(query=query, key=key, value=value)
    scale = _default_scale(query, scale)
    out = np.zeros((*query.shape[:-1], value.shape[-1]), dtype=_common(query, key, value))
    for head in np.ndindex(query.shape[:-2]):
        shown = _shown(masks, head, query, key, is_causal)
        f = _weights(query[head], key[head], scale, is_causal, exp, shown)
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
    masks: Masks | None = None,
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
        shown = _shown(masks, head, query, key, is_causal)
        f = _weights(query[head], key[head], scale, is_causal, exp, shown)
        p1 = f * (dout[head] @ value[head].T)
        p = p1 - np.sum(p1, axis=1, keepdims=True) * f
        dq[head] = scale * (p @ key[head])
        dk[head] = scale * (p.T @ query[head])
        dv[head] = f.T @ dout[head]
    return dq, dk, dv


def attention_jvp(
    query: Array,
    key: Array,
    value: Array,
    dquery: Array,
    dkey: Array,
    dvalue: Array,
    *,
    is_causal: bool = False,
    scale: Any = None,
    exp: Exp = np.exp,
    masks: Masks | None = None,
) -> tuple[Array, Array]:
    """o, and its change in the direction (dquery, dkey, dvalue), eq. (6.3).

    With dS the change of the logits, f changes by df = f (dS - t), t the sum of f dS over a row,
    and o by df value + f dvalue. Shapes, errors and cost as in :func:`attention`.
    """
    arrays = _plain(query=query, key=key, value=value, dquery=dquery, dkey=dkey, dvalue=dvalue)
    query, key, value, dquery, dkey, dvalue = arrays
    scale = _default_scale(query, scale)
    shape = (*query.shape[:-1], value.shape[-1])
    out, change = (np.zeros(shape, dtype=_common(*arrays)) for _ in range(2))
    for head in np.ndindex(query.shape[:-2]):
        shown = _shown(masks, head, query, key, is_causal)
        f = _weights(query[head], key[head], scale, is_causal, exp, shown)
        df = _weights_change(f, scale * (dquery[head] @ key[head].T + query[head] @ dkey[head].T))
        out[head] = f @ value[head]
        change[head] = df @ value[head] + f @ dvalue[head]
    return out, change


def attention_hvp(
    query: Array,
    key: Array,
    value: Array,
    dout: Array,
    ddquery: Array,
    ddkey: Array,
    ddvalue: Array,
    *,
    ddout: Array | None = None,
    is_causal: bool = False,
    scale: Any = None,
    exp: Exp = np.exp,
    masks: Masks | None = None,
) -> tuple[Array, Array, Array, Array]:
    """Hessian of <dout, o> in its four arguments times a direction, eq. (6.5).

    The changes of dq, dk and dv of :func:`attention_vjp`, and of o, in the direction (ddquery,
    ddkey, ddvalue, ddout); ``ddout`` is zero where it is None. As a Hessian is symmetric, they are
    then also the gradients of <ddquery, dq> + <ddkey, dk> + <ddvalue, dv> with respect to query,
    key, value and dout. Errors and cost as in :func:`attention`.
    """
    ddout = np.zeros_like(dout) if ddout is None else ddout
    sides = _plain(query=query, key=key, value=value, dout=dout)
    changes = _plain(query=ddquery, key=ddkey, value=ddvalue, dout=ddout)
    scale = _default_scale(sides[0], scale)
    dtype = _common(*sides, *changes)
    found = tuple(np.zeros(side.shape, dtype=dtype) for side in sides)
    for head in np.ndindex(sides[0].shape[:-2]):
        q, k, v, c = (side[head] for side in sides)
        dq, dk, dv, dc = (change[head] for change in changes)
        shown = _shown(masks, head, sides[0], sides[1], is_causal)
        f = _weights(q, k, scale, is_causal, exp, shown)
        df = _weights_change(f, scale * (dq @ k.T + q @ dk.T))
        slope, dslope = c @ v.T, c @ dv.T + dc @ v.T
        r = np.sum(f * slope, axis=1, keepdims=True)
        dr = np.sum(df * slope + f * dslope, axis=1, keepdims=True)
        p, dp = f * (slope - r), df * (slope - r) + f * (dslope - dr)
        found[0][head] = scale * (dp @ k + p @ dk)
        found[1][head] = scale * (dp.T @ q + p.T @ dq)
        found[2][head] = df.T @ c + f.T @ dc
        found[3][head] = df @ v + f @ dv
    return found[0], found[1], found[2], found[3]


def _weights_change(f: Array, dS: Array) -> Array:
    """Change of f = softmax(S) for one of the logits."""
    return np.asarray(f * (dS - np.sum(f * dS, axis=1, keepdims=True)))


def _shown(
    masks: Masks | None, head: tuple[int, ...], query: Array, key: Array, is_causal: bool
) -> Shown | None:
    if masks is None:
        return None
    return masks.of_head(head, (*query.shape[:-1], key.shape[-2]), is_causal)


def _plain(**arrays: Array) -> tuple[Array, ...]:
    return tuple(unmasked(name, array) for name, array in arrays.items())


def _common(*arrays: Array) -> np.dtype[Any]:
    return np.result_type(*arrays)
