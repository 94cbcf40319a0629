"""The function with torch's own signature: what it serves, and one error for what it does not."""

from __future__ import annotations

import torch
from torch import Tensor

from .._inputs.options import CHECKS, Options
from ..errors import AttnGradError, DTypeError, OptionError, OptionTypeError, ShapeError
from ._run import HALVES, PLAIN, run

FLOATS = (torch.float32, torch.float64)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    rtol: float | None = None,
) -> Tensor:
    """Attention in the place of ``torch.nn.functional.scaled_dot_product_attention``.

    The gradient is the library's exact one, unless a tolerance is given: the backward pass takes
    output and normalisers of the forward pass. Memory is shared with torch, and only results are
    new.

    Parameters
    ----------
    query : Tensor, (..., H, L, E)
        On the CPU, float32 or float64, of any strides. In an autocast region for the CPU float16
        and bfloat16 are cast to float32, which the result then has too.
    key : Tensor, (..., H, S, E)
        Leading dimensions are broadcast, as torch does it.
    value : Tensor, (..., H, S, Ev)
        Ev may differ from E.
    attn_mask : Tensor, optional
        Of any shape that broadcasts to (..., H, L, S): bool, True where a query sees a key, or of
        the dtype of query, added to the logits, where -inf and anything below an eighth of the
        lowest number hide a key. It is read tile by tile, and tiles that it hides are not computed.
        One that requires a gradient is not served: OptionError.
    dropout_p : float
        Not served but for 0: OptionError.
    is_causal : bool
        Query j sees the keys 0 ... j only, also where L ≠ S. Not together with ``attn_mask``.
    scale : float, optional
        By default 1/√E.
    enable_gqa : bool
        Key and value may have Hk heads where H is a multiple of Hk.
    rtol : float, optional
        Of the gradients, which ``attention_vjp(..., rtol=rtol)`` then computes: by the cheapest
        method that is certified to reach it, for dq, dk and dv each, over all heads of the call.
        Output and second derivatives are exact whatever it is. ``monitor`` tells what was done.

    Returns
    -------
    Tensor, (..., H, L, Ev)
        Contiguous; zeros for queries that see nothing.

    Raises
    ------
    AttnGradError
        ShapeError, DTypeError, OptionError and OptionTypeError name the argument; NonFiniteError
        where an input has NaN or an infinity that a mask does not hide from all, RangeError where a
        logit overflows: torch would return NaN there.

    Notes
    -----
    Threads: as many as ``torch.get_num_threads()``; the bits do not depend on it. First and second
    derivatives in reverse mode, ``torch.func.vmap``, ``grad`` and ``vjp``, and ``torch.compile``
    without a break of the graph; in eager mode forward mode, alone and over or under a gradient.
    A third derivative, and forward mode of forward mode, are an OptionError. A second derivative
    takes 30 L S E operations (E = Ev) for each head, and no memory of size L S.
    All of these are served with ``attn_mask`` too, which has no derivative itself.
    """
    given = (query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    found = served(*given, rtol)
    if isinstance(found, Tensor):
        return found
    raise found


def served(
    query: Tensor, key: Tensor, value: Tensor,
    attn_mask: Tensor | None, dropout_p: float, is_causal: bool,
    scale: float | None, enable_gqa: bool, rtol: float | None,
) -> Tensor | AttnGradError:  # fmt: skip
    """The output, or the error that names what is not served, or is wrong."""
    tensors = (query, key, value)
    is_usual = attn_mask is None and dropout_p == 0.0 and rtol is None
    is_usual = is_usual and enable_gqa is False and (scale is None or type(scale) is float)
    if is_usual and type(is_causal) is bool and _are_usual(tensors):
        return run(*tensors, None, is_causal, scale, False, None)
    refused = _refusal(*tensors, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    # In a compiled function the backward pass is what complains.
    if refused is None and rtol is not None and not torch.compiler.is_compiling():
        refused = _wrong_tolerance(query, rtol)
    if refused is not None:
        return refused
    return _attend(*tensors, attn_mask, is_causal, scale, enable_gqa, rtol)


def _are_usual(tensors: tuple[Tensor, Tensor, Tensor]) -> bool:
    """Whether nothing is to be refused, broadcast or cast: of short heads a look takes its time."""
    for one in tensors:
        if type(one) not in PLAIN or not one.is_cpu or one.layout != torch.strided or one.is_nested:
            return False
    query, key, value = tensors
    if query.dtype not in FLOATS or not query.dtype == key.dtype == value.dtype:
        return False
    rows, seen, valued = query.shape, key.shape, value.shape
    return (
        len(rows) >= 2
        and rows[:-2] == seen[:-2]
        and rows[-1] == seen[-1]
        and seen[:-1] == valued[:-1]
    )


def _attend(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None,
    is_causal: bool, scale: float | None, enable_gqa: bool, rtol: float | None,
) -> Tensor:  # fmt: skip
    """The output for arguments that are served."""
    tensors = (query, key, value)
    # The axes before those which are one head, or one group of heads.
    own = 3 if enable_gqa else 2
    first, *others = (one.shape[:-own] for one in tensors)
    if any(lead != first for lead in others):
        lead = torch.broadcast_shapes(first, *others)
        query, key, value = (one.expand(*lead, *one.shape[-own:]) for one in tensors)
    if attn_mask is not None and attn_mask.dim() < query.dim():
        # A mapped axis is put before all others.
        attn_mask = attn_mask[(None,) * (query.dim() - attn_mask.dim())]
    return run(query, key, value, attn_mask, is_causal, scale, enable_gqa, rtol)


def _refusal(
    query: Tensor, key: Tensor, value: Tensor,
    attn_mask: Tensor | None, dropout_p: float, is_causal: bool,
    scale: float | None, enable_gqa: bool,
) -> AttnGradError | None:  # fmt: skip
    """The error that names what is not served, or is wrong; None where all is well."""
    if dropout_p != 0.0:
        return OptionError(f"dropout_p: found {dropout_p}; expected 0: dropout is not served")
    for name, flag in (("is_causal", is_causal), ("enable_gqa", enable_gqa)):
        if not isinstance(flag, bool):
            return OptionTypeError(f"{name}: found {flag!r}; expected True or False")
    if scale is not None and not isinstance(scale, (int, float)):
        return OptionTypeError(f"scale: found {scale!r}; expected a number or None")
    tensors = {"query": query, "key": key, "value": value}
    refused = _wrong_kind(tensors) or _wrong_shape(tensors, enable_gqa)
    if refused is not None or attn_mask is None:
        return refused
    return _wrong_mask(attn_mask, tensors, is_causal, enable_gqa)


def _wrong_tolerance(query: Tensor, rtol: float) -> AttnGradError | None:
    """The error for a tolerance that means nothing, or is below rounding."""
    # Half precision is cast.
    precision = "float64" if query.dtype == torch.float64 else "float32"
    try:
        Options(rtol=CHECKS["rtol"]("rtol", rtol)).request().check(precision)
    except AttnGradError as error:
        return error
    return None


def _wrong_place(name: str, one: Tensor) -> AttnGradError | None:
    """The error for what is no tensor, or on a device or in a layout that is not served."""
    if not isinstance(one, Tensor):
        kind = type(one).__name__
        return OptionTypeError(f"{name}: found an object of type {kind}; expected a Tensor")
    if one.device.type != "cpu":
        return OptionError(f"{name}: found a tensor on {one.device}; expected one on the CPU")
    if one.layout != torch.strided or one.is_nested:
        return OptionError(f"{name}: found a nested or sparse tensor; expected a strided one")
    return None


def _cast(dtype: torch.dtype, casts: bool) -> torch.dtype:
    """The precision in which numbers are computed, in an autocast region or not."""
    return torch.float32 if casts and dtype in HALVES else dtype


def _wrong_kind(tensors: dict[str, Tensor]) -> AttnGradError | None:
    """The error for a device, layout or dtype that is not served, or not that of the query."""
    casts = torch.is_autocast_enabled("cpu")
    kinds = (*FLOATS, *HALVES) if casts else FLOATS
    precision = None
    for name, one in tensors.items():
        refused = _wrong_place(name, one)
        if refused is not None:
            return refused
        if one.dtype not in kinds:
            remedy = "half precision is served in an autocast region" if not casts else ""
            wanted = f"expected float32 or float64{'; ' if remedy else ''}{remedy}"
            return DTypeError(f"{name}: found {one.dtype}; {wanted}")
        cast = _cast(one.dtype, casts)
        precision = precision or cast
        if cast != precision:
            return DTypeError(
                f"{name}: found {one.dtype} where query is {tensors['query'].dtype}; "
                "expected one dtype for all"
            )
    return None


def _wrong_shape(tensors: dict[str, Tensor], enable_gqa: bool) -> AttnGradError | None:
    """The error for sizes that do not fit together."""
    own = 3 if enable_gqa else 2
    for name, one in tensors.items():
        if one.dim() < own:
            return ShapeError(
                f"{name}: found {one.dim()} dimensions; expected at least {own}"
                + (" with enable_gqa" if enable_gqa else "")
            )
    query, key, value = tensors.values()
    if key.shape[-1] != query.shape[-1]:
        return ShapeError(
            f"key: found rows of {key.shape[-1]} numbers; expected {query.shape[-1]}, as query has"
        )
    if value.shape[-2] != key.shape[-2]:
        return ShapeError(
            f"value: found {value.shape[-2]} rows; expected {key.shape[-2]}, as key has"
        )
    if enable_gqa:
        heads, shared = query.shape[-3], key.shape[-3]
        if value.shape[-3] != shared:
            return ShapeError(
                f"value: found {value.shape[-3]} heads; expected {shared}, as key has"
            )
        if heads != shared and (shared == 0 or heads % shared):
            return ShapeError(f"key: found {shared} heads; expected a divisor of query's {heads}")
    lead = query.shape[:-own]
    for name, one in (("key", key), ("value", value)):
        # A look at sizes is a tenth of what broadcasting them takes.
        if one.shape[:-own] == lead:
            continue
        try:
            lead = torch.broadcast_shapes(lead, one.shape[:-own])
        except RuntimeError:
            found = tuple(one.shape[:-own])
            return ShapeError(
                f"{name}: found leading dimensions {found}; expected some that broadcast with "
                f"{tuple(lead)}"
            )
    return None


def _wrong_mask(
    attn_mask: Tensor, tensors: dict[str, Tensor], is_causal: bool, enable_gqa: bool
) -> AttnGradError | None:
    """The error for a mask that is not served, beside tensors that are."""
    refused = _wrong_place("attn_mask", attn_mask)
    if refused is not None:
        return refused
    if is_causal:
        return OptionError("is_causal: found True beside attn_mask; expected one of both")
    if attn_mask.requires_grad:
        return OptionError(
            "attn_mask: found a mask that requires a gradient; expected one that does not"
        )
    query, casts = tensors["query"], torch.is_autocast_enabled("cpu")
    if attn_mask.dtype != torch.bool and _cast(attn_mask.dtype, casts) != _cast(query.dtype, casts):
        return DTypeError(
            f"attn_mask: found {attn_mask.dtype} where query is {query.dtype}; "
            "expected that, or torch.bool"
        )
    own = 3 if enable_gqa else 2
    lead = torch.broadcast_shapes(*(one.shape[:-own] for one in tensors.values()))
    whole = (*lead, *query.shape[-own:-1], tensors["key"].shape[-2])
    found = tuple(attn_mask.shape)
    # From the last axis on; a mask has no more of them than what it masks.
    fits = len(found) <= len(whole) and all(
        one in (1, size) for one, size in zip(found[::-1], whole[::-1], strict=False)
    )
    if not fits:
        return ShapeError(
            f"attn_mask: found shape {found}; expected one that broadcasts to {whole}"
        )
    return None
