"""The way of a call through torch: straight to the core where torch does nothing but autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _calls
from ._ops import backward_op, forward_op
from ._transforms import Attention

PLAIN = (Tensor, torch.nn.Parameter)
HALVES = (torch.float16, torch.bfloat16)


def run(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, *form: Any) -> Tensor:
    """The output, by the way that whatever torch is doing can differentiate."""
    if torch.compiler.is_compiling():
        compiled: Tensor = forward_op(query, key, value, attn_mask, *form)[0]
        return compiled
    # Formulas that are registered for operators are not seen by torch.func, and forward mode takes
    # them for constants without a word.
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        inputs: tuple[Tensor | None, ...] = (query, key, value, attn_mask)
        if torch.is_autocast_enabled("cpu"):
            inputs = tuple(map(_single, inputs))
        mapped: Tensor = Attention.apply(*inputs, *form)[0]
        return mapped
    tensors = (query, key, value)
    if _is_watched() or not all(type(one) in PLAIN for one in tensors):
        watched: Tensor = forward_op(*tensors, attn_mask, *form)[0]
        return watched
    if torch.is_grad_enabled() and any(one.requires_grad for one in tensors):
        output: Tensor = Eager.apply(*tensors, attn_mask, form)
        return output
    return _calls.forward(*tensors, attn_mask, *form)[0]


def _single(one: Tensor | None) -> Tensor | None:
    """A tensor as autocast gives it to an operator, whose function no transform may see."""
    return one if one is None or one.dtype not in HALVES else one.float()


def _is_watched() -> bool:
    """Whether somebody may want to see an operator: a mode, a tracer, autocast."""
    return bool(
        torch._C._len_torch_dispatch_stack()
        or torch.is_autocast_enabled("cpu")
        or torch._C._get_tracing_state()
    )


class Eager(torch.autograd.Function):  # type: ignore[misc]
    """Attention without the dispatcher, whose way takes longer than a short head."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None,
        form: tuple[Any, ...],
    ) -> Tensor:  # fmt: skip
        """The output."""
        output, lse = _calls.forward(query, key, value, attn_mask, *form)
        ctx.save_for_backward(query, key, value, output, lse, attn_mask)
        ctx.form = form
        return output

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value; by the operator where they are differentiated too."""
        given = (dout, *ctx.saved_tensors, *ctx.form)
        is_alone = not (
            torch.is_grad_enabled()
            or torch._C._are_functorch_transforms_active()
            or torch._C._len_torch_dispatch_stack()
            # ``is_grads_batched`` maps without a transform.
            or torch._C._functorch.is_legacy_batchedtensor(dout)
        )
        found = (_calls.backward if is_alone else backward_op)(*given)
        return (*found, None, None)
