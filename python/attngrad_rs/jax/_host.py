"""What runs on the host within a compiled computation: one call of the core, on NumPy arrays.

Arrays are (..., T, N, H), as JAX has them, the logarithms of the normalisers (..., T, N, 1), masks
(..., N, T, S) and lengths of keys (..., 1, 1, 1). They come as views of the buffers of the
computation, and the core reads them through other strides: only results are copied, by JAX, into
buffers of its own. Nothing here may call JAX, whose threads may all be waiting for this call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .._inputs.arrays import Array
from ..attention import attention, attention_vjp
from ..derivatives import attention_hvp, attention_jvp
from ..errors import NonFiniteError, RangeError

Arrays: TypeAlias = tuple[Array, ...]
Call: TypeAlias = Callable[..., Arrays]


class Form(NamedTuple):
    """What is known of a call before it runs."""

    is_causal: bool
    scale: float
    # Keys before and after the diagonal that are seen.
    window: tuple[int, int] | None = None
    # Masks that are arrays, by the names of the library's options: the last operands, in order.
    extras: tuple[str, ...] = ()


def forward(*operands: Array, form: Form) -> Arrays:
    """Output and logarithms of the normalisers from query, key and value."""

    def call(query: Array, key: Array, value: Array, **options: Any) -> Arrays:
        output, lse = attention(query, key, value, return_lse=True, **options)
        return output, lse[..., None]

    def blank(query: Array, key: Array, value: Array) -> Arrays:
        return _rows(query, value.shape[-1]), _rows(query, 1)

    return _by_heads(call, blank, operands, 3, form)


def tangent(*operands: Array, form: Form) -> Arrays:
    """The change of the output from a direction, query, key, value, output and logarithms."""

    def call(
        dquery: Array, dkey: Array, dvalue: Array, query: Array, key: Array, value: Array,
        **options: Any,
    ) -> Arrays:  # fmt: skip
        return (attention_jvp(query, key, value, dquery, dkey, dvalue, **options)[1],)

    def blank(*arrays: Array) -> Arrays:
        return (_rows(arrays[3], arrays[5].shape[-1]),)

    return _by_heads(call, blank, operands, 6, form)


def backward(*operands: Array, form: Form) -> Arrays:
    """Gradients of query, key and value from dout, these, the output and the logarithms."""

    def call(dout: Array, query: Array, key: Array, value: Array, **options: Any) -> Arrays:
        return tuple(attention_vjp(query, key, value, dout, **options))

    def blank(_dout: Array, *heads: Array) -> Arrays:
        return tuple(np.full_like(one, np.nan) for one in heads)

    return _by_heads(call, blank, operands, 4, form)


def backward_jvp(*operands: Array, form: Form) -> Arrays:
    """The change of the gradients from dout, a direction, and the same as these."""

    def call(
        dout: Array, dquery: Array, dkey: Array, dvalue: Array, query: Array, key: Array,
        value: Array, **options: Any,
    ) -> Arrays:  # fmt: skip
        return attention_hvp(query, key, value, dout, dquery, dkey, dvalue, **options)[:3]

    def blank(_dout: Array, *arrays: Array) -> Arrays:
        return tuple(np.full_like(one, np.nan) for one in arrays[3:])

    return _by_heads(call, blank, operands, 7, form)


def _rows(query: Array, width: int) -> Array:
    return np.full((*query.shape[:-1], width), np.nan, query.dtype)


def _by_heads(call: Call, blank: Call, operands: Sequence[Array], count: int, form: Form) -> Arrays:
    """Call with heads before rows, and leading dimensions that are equal; back again.

    The first ``count`` operands, of which query, key and value are the last, are arguments; output
    and logarithms, if they follow, and masks are options.
    """
    lead = np.broadcast_shapes(*(one.shape[:-3] for one in operands))
    shown = [np.broadcast_to(one, (*lead, *one.shape[-3:])) for one in operands]
    rows = len(shown) - len(form.extras)
    turned = [one.swapaxes(-3, -2) for one in shown[:rows]] + shown[rows:]
    names = (*(("output", "lse") if rows > count else ()), *form.extras)

    def named(*arrays: Array) -> Arrays:
        options = {
            "is_causal": form.is_causal, "scale": form.scale, "window": form.window,
            "enable_gqa": arrays[count - 3].shape[-3] != arrays[count - 2].shape[-3],
            **dict(zip(names, arrays[count:], strict=True)),
        }  # fmt: skip
        # Logarithms and lengths have dimensions of size 1, which fit those of the others.
        if "lse" in options:
            options["lse"] = options["lse"][..., 0]
        if "key_lengths" in options:
            options["key_lengths"] = options["key_lengths"][..., 0, 0, 0]
        return call(*arrays[:count], **options)

    found = _isolated(named, lambda *arrays: blank(*arrays[:count]), turned)
    return tuple(one.swapaxes(-3, -2) for one in found)


def _isolated(call: Call, blank: Call, operands: Sequence[Array]) -> Arrays:
    """Results of a call, with blanks for those entries of a batch that have none.

    A computation cannot catch what is raised within it, and may compute what it then throws away,
    as both sides of a condition under vmap: an error would end what has a result.
    """
    try:
        return call(*operands)
    except (NonFiniteError, RangeError):
        if operands[0].ndim == 3:
            return blank(*operands)
        parts = [_isolated(call, blank, entry) for entry in zip(*operands, strict=True)]
        return tuple(map(np.stack, zip(*parts, strict=True)))
