"""The operators for what does not see their registered formulas: torch.func and forward mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import OptionError
from ._ops import (
    backward_op,
    beyond,
    folded,
    forward_op,
    hessian_op,
    keep_backward,
    keep_forward,
    keep_tangent,
    tangent_op,
)


def _directions(tangents: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Tangents of the inputs, zeros where there are none."""
    pairs = zip(tangents, inputs, strict=True)
    return tuple(torch.zeros_like(of) if one is None else one for one, of in pairs)


class Attention(torch.autograd.Function):  # type: ignore[misc]
    """``attention`` for the transforms of torch.func and forward mode."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        """Output and logarithms of the normalisers."""
        output, lse = forward_op(*inputs)
        return output, lse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the derivatives are made of."""
        keep_forward(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:3], *output, inputs[3])

    @staticmethod
    def backward(ctx: Any, dout: Tensor | None, _dlse: Tensor | None) -> tuple[Any, ...]:
        """Gradients of query, key and value."""
        if dout is None:
            return (None,) * 8
        found = AttentionBackward.apply(dout, *ctx.saved_tensors, *ctx.form)
        return (*found, *(None,) * 5)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None]:
        """The change of the output; that of the logarithms is not served."""
        *heads, output, lse, attn_mask = ctx.saved_tensors
        if tangents[3] is not None:
            raise OptionError(
                "attn_mask: found a mask that changes in a direction; expected one that does not"
            )
        of, saved = _directions(tangents[:3], heads), (output, lse, attn_mask)
        return AttentionTangent.apply(*heads, *of, *saved, *ctx.form[:-1]), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
        """The mapped axis as the first of the leading ones."""
        return Attention.apply(*folded(info.batch_size, in_dims, given)), (0, 0)


class AttentionBackward(torch.autograd.Function):  # type: ignore[misc]
    """``attention_backward`` for the transforms of torch.func and forward mode."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Gradients of query, key and value."""
        return tuple(backward_op(*inputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the derivatives are made of."""
        keep_backward(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:7])

    @staticmethod
    def backward(ctx: Any, *directions: Tensor) -> tuple[Any, ...]:
        """Gradients of the gradients."""
        *sides, output, lse, attn_mask = ctx.saved_tensors
        saved = (output, lse, attn_mask)
        found = AttentionHessian.apply(*sides, None, *directions, *saved, *ctx.form[:-1])
        return (*found, *(None,) * 7)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        """The change of the gradients."""
        *sides, output, lse, attn_mask = ctx.saved_tensors
        of, saved = _directions(tangents[:4], sides), (output, lse, attn_mask)
        found = AttentionHessian.apply(*sides, *of, *saved, *ctx.form[:-1])
        return tuple(found[1:])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
        """The mapped axis as the first of the leading ones."""
        return AttentionBackward.apply(*folded(info.batch_size, in_dims, given)), (0, 0, 0)


class AttentionTangent(torch.autograd.Function):  # type: ignore[misc]
    """``attention_tangent`` for the transforms of torch.func and forward mode."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        """The change of the output in a direction."""
        tangent: Tensor = tangent_op(*inputs)
        return tangent

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the derivatives are made of."""
        keep_tangent(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, dtangent: Tensor) -> tuple[Any, ...]:
        """Gradients of query, key, value and their directions."""
        *both, output, lse, attn_mask = ctx.saved_tensors
        heads, along, saved = both[:3], both[3:], (output, lse, attn_mask)
        _, *of_heads = AttentionHessian.apply(dtangent, *heads, None, *along, *saved, *ctx.form)
        of_along = AttentionBackward.apply(dtangent, *heads, *saved, *ctx.form, None)
        return (*of_heads, *of_along, *(None,) * 6)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Not served."""
        return beyond()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
        """The mapped axis as the first of the leading ones."""
        return AttentionTangent.apply(*folded(info.batch_size, in_dims, given)), 0


class AttentionHessian(torch.autograd.Function):  # type: ignore[misc]
    """``attention_hessian`` for the transforms of torch.func and forward mode."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Parts of dout, query, key and value."""
        return tuple(hessian_op(*inputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, *directions: Tensor) -> Any:
        """Not served."""
        return beyond()

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Not served."""
        return beyond()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
        """The mapped axis as the first of the leading ones."""
        return AttentionHessian.apply(*folded(info.batch_size, in_dims, given)), (0, 0, 0, 0)
