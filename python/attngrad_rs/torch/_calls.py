"""Calls of the core with tensors; arrays share their memory both ways, and watchers are told."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import _solve
from .._inputs.arrays import Array
from .._inputs.options import Options
from ..attention import attention_vjp
from ..derivatives import attention_hvp, attention_jvp
from ..results import AttentionGradients

# is_causal, scale and enable_gqa: what a call is beside its tensors.
Form = tuple[bool, float | None, bool]


class Watcher(Protocol):
    """Whoever wants to know of each call when it is done; query, key and value are ``heads``."""

    def forward(self, heads: Sequence[Array], form: Form, output: Array, seconds: float) -> None:
        """Take note of a forward pass."""

    def backward(
        self, heads: Sequence[Array], form: Form, output: Array, found: AttentionGradients[Any]
    ) -> None:
        """Take note of the gradients for an output."""


watchers: list[Watcher] = []


@functools.lru_cache(maxsize=64)
def _checked(
    is_causal: bool, scale: float | None, enable_gqa: bool, rtol: float | None, threads: int
) -> Options:
    """Options of a call: a short one would spend a tenth of its time on checking them."""
    given = Options(
        is_causal=is_causal, scale=scale, enable_gqa=enable_gqa, rtol=rtol, threads=threads
    )
    return given.checked()


def _heads(
    named: dict[str, Array], attn_mask: Tensor | None, form: Form, rtol: float | None
) -> _solve.Heads:
    """A call of as many threads as torch itself would take."""
    given = _checked(*form, rtol, torch.get_num_threads())
    if attn_mask is None:
        return _solve.Heads.known(named, given)
    return _solve.Heads(named, given._replace(attn_mask=attn_mask.numpy(force=True)))


def arrays(*tensors: Tensor) -> list[Array]:
    """The tensors as arrays, of the same memory."""
    # By force: they may require gradients.
    return [tensor.numpy(force=True) for tensor in tensors]


def forward(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None,
    is_causal: bool, scale: float | None, enable_gqa: bool, rtol: float | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Output and logarithms of the normalisers, which are exact for any tolerance."""
    start = time.perf_counter()
    form = (is_causal, scale, enable_gqa)
    read = arrays(query, key, value)
    named = {"query": read[0], "key": read[1], "value": read[2]}
    output, lse = _solve.attention(_heads(named, attn_mask, form, None), True)
    if watchers:
        seconds = time.perf_counter() - start
        for watcher in watchers:
            watcher.forward(read, form, output, seconds)
    return torch.from_numpy(output), torch.from_numpy(lse)


def backward(
    dout: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool, scale: float | None, enable_gqa: bool, rtol: float | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, key and value."""
    start = time.perf_counter()
    form = (is_causal, scale, enable_gqa)
    incoming, *read, saved, logarithms = arrays(dout, query, key, value, output, lse)
    named = {"query": read[0], "key": read[1], "value": read[2], "dout": incoming}
    # With a tolerance the exact method would not use them, and no other could be chosen.
    if rtol is None:
        named |= {"output": saved, "lse": logarithms}
    heads = _heads(named, attn_mask, form, rtol)
    found = _solve.pull_back(heads, None, attention_vjp, start)
    for watcher in watchers:
        watcher.backward(read, form, saved, found)
    return torch.from_numpy(found.dq), torch.from_numpy(found.dk), torch.from_numpy(found.dv)


def _options(
    attn_mask: Tensor | None, is_causal: bool, scale: float | None, enable_gqa: bool
) -> dict[str, Any]:
    mask = None if attn_mask is None else attn_mask.numpy(force=True)
    form = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
    return {**form, "attn_mask": mask, "threads": torch.get_num_threads()}


def tangent(*given: Any) -> Tensor:
    """The change of the output in a direction."""
    query, key, value, dquery, dkey, dvalue, output, lse = arrays(*given[:8])
    options = {"output": output, "lse": lse, **_options(*given[8:])}
    _, found = attention_jvp(query, key, value, dquery, dkey, dvalue, **options)
    return torch.from_numpy(found)


def hessian(
    dout: Tensor, query: Tensor, key: Tensor, value: Tensor, ddout: Tensor | None, *given: Any
) -> tuple[Tensor, ...]:
    """Parts of dout, query, key and value of the Hessian of <dout, output> times a direction."""
    incoming, *heads = arrays(dout, query, key, value)
    ddquery, ddkey, ddvalue, output, lse = arrays(*given[:5])
    options = {"output": output, "lse": lse, **_options(*given[5:])}
    if ddout is not None:
        options["ddout"] = ddout.numpy(force=True)
    *found, by_dout = attention_hvp(
        heads[0], heads[1], heads[2], incoming, ddquery, ddkey, ddvalue, **options
    )
    return tuple(map(torch.from_numpy, (by_dout, *found)))
