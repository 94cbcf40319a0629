"""Masks of heads of attention as the core takes them, from anything that NumPy takes for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..errors import DTypeError, ShapeError
from .border import Border, bits_of, half_name
from .masks import unmasked
from .options import BOTTOM_RIGHT, DEFAULTS, Options

# No array has as many rows, and the core has no larger integer.
MOST = 2**62


def read_masks(given: Options, dtype: np.dtype[Any], border: Border | None) -> _core.Masks | None:
    """The masks of a call with arrays of this dtype; None where ``is_causal`` is all there is."""
    if given is DEFAULTS:
        return None
    lengths, sequences, mask = given.key_lengths, given.cu_seqlens, given.attn_mask
    is_bottom_right = given.causal_align == BOTTOM_RIGHT and given.is_causal
    others = (given.window, lengths, sequences, mask)
    if not is_bottom_right and all(one is None for one in others):
        return None
    before, after = given.window or (-1, -1)
    half = None if border is None else border.half
    entries, mask_half = (None, None) if mask is None else _entries(mask, dtype, half)
    return _core.Masks(
        is_causal=given.is_causal,
        is_bottom_right=given.causal_align == BOTTOM_RIGHT,
        window=(_reach(before), _reach(after)),
        key_lengths=None if lengths is None else _integers("key_lengths", lengths),
        cu_seqlens=None if sequences is None else _sums(sequences),
        attn_mask=entries,
        half=mask_half,
    )


def _reach(keys: int) -> int | None:
    return None if keys < 0 else keys


def _integers(name: str, value: object) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Integers of any type; those that are too large for the core are too large for any array."""
    array = unmasked(name, value)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{name}: found dtype {array.dtype}; expected integers")
    return np.asarray(np.clip(array, -1, MOST), np.int64)


def _sums(value: Any) -> tuple[list[int], list[int]]:
    """Sums of lengths of queries and of keys, from one row of them for both or a pair of rows."""
    is_pair = isinstance(value, (tuple, list)) and len(value) == 2 and not np.isscalar(value[0])
    rows = [_integers("cu_seqlens", one) for one in (value if is_pair else (value,))]
    for row in rows:
        if row.ndim != 1:
            raise ShapeError(
                f"cu_seqlens: found shape {row.shape}; expected one row of sums of lengths, "
                "or a pair of rows, of queries and of keys"
            )
    return rows[0].tolist(), rows[-1].tolist()


def _entries(
    value: object, dtype: np.dtype[Any], half: str | None
) -> tuple[np.ndarray[Any, Any], str | None]:
    """Bytes for a mask of bool, numbers of the dtype of the heads for one that is added.

    Bits and their format where that is half precision: they are read tile by tile as they are.
    """
    mask = unmasked("attn_mask", value)
    if mask.dtype == np.bool_:
        return mask.view(np.uint8), None
    if half is not None and half_name(mask.dtype) == half:
        return np.require(bits_of(mask), np.uint16, "A"), half
    if mask.dtype.newbyteorder("=") != dtype:
        own = dtype if half is None else half
        raise DTypeError(
            f"attn_mask: found dtype {half_name(mask.dtype) or mask.dtype}; expected bool, or "
            f"{own} as query has: use attn_mask.astype(bool) or attn_mask.astype(numpy.{dtype})"
        )
    return np.require(mask, dtype, "A"), None
