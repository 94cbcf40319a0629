"""What runs on the host within a compiled computation: one call of the core, on NumPy arrays.

Arrays are (..., T, N, H), as JAX has them, and the logarithms of the normalisers (..., T, N, 1).
They come as views of the buffers of the computation, and the core reads them through other strides:
only results are copied, by JAX, into buffers of its own. Nothing here may call JAX, whose threads
may all be waiting for this call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .._inputs.arrays import Array
from ..attention import attention, attention_vjp
from ..errors import NonFiniteError, RangeError

Call: TypeAlias = Callable[..., tuple[Array, ...]]


class Form(NamedTuple):
    """What is known of a call before it runs."""

    is_causal: bool
    scale: float


def forward(*operands: Array, form: Form) -> tuple[Array, ...]:
    """Output and logarithms of the normalisers from query, key and value."""

    def call(query: Array, key: Array, value: Array) -> tuple[Array, ...]:
        options = _options(query, key, form)
        output, lse = attention(query, key, value, return_lse=True, **options)
        return output, lse[..., None]

    def blank(query: Array, key: Array, value: Array) -> tuple[Array, ...]:
        rows = query.shape[:-1]
        widths = (value.shape[-1], 1)
        return tuple(np.full((*rows, width), np.nan, query.dtype) for width in widths)

    return _by_heads(call, blank, operands)


def backward(*operands: Array, form: Form) -> tuple[Array, ...]:
    """Gradients of query, key and value from dout, these, the output and the logarithms."""

    def call(
        dout: Array, query: Array, key: Array, value: Array, output: Array, lse: Array
    ) -> tuple[Array, ...]:
        options = _options(query, key, form)
        found = attention_vjp(query, key, value, dout, output=output, lse=lse[..., 0], **options)
        return tuple(found)

    def blank(dout: Array, *others: Array) -> tuple[Array, ...]:
        return tuple(np.full_like(one, np.nan) for one in others[:3])

    return _by_heads(call, blank, operands)


def _options(query: Array, key: Array, form: Form) -> dict[str, Any]:
    """Options of the library; heads of the query share those of the key where there are fewer."""
    return {**form._asdict(), "enable_gqa": query.shape[-3] != key.shape[-3]}


def _by_heads(call: Call, blank: Call, operands: Sequence[Array]) -> tuple[Array, ...]:
    """Call with heads before rows, and leading dimensions that are equal; back again."""
    lead = np.broadcast_shapes(*(one.shape[:-3] for one in operands))
    shown = [np.broadcast_to(one, (*lead, *one.shape[-3:])) for one in operands]
    found = _isolated(call, blank, [one.swapaxes(-3, -2) for one in shown])
    return tuple(one.swapaxes(-3, -2) for one in found)


def _isolated(call: Call, blank: Call, operands: Sequence[Array]) -> tuple[Array, ...]:
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
