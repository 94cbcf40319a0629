"""Attention and its gradient as operators that torch knows: autograd, vmap, autocast, compile.

``torch.ops.attngrad.attention`` returns the output and the logarithm of the normaliser,
``torch.ops.attngrad.attention_backward`` the gradients, from both and the gradient that comes in.
``attention_tangent`` is the change of the output in a direction, and ``attention_hessian`` the
Hessian of <dout, output> times one: double backward, and the change of the gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import OptionError
from . import _calls

FORM = "Tensor? attn_mask, bool is_causal, float? scale, bool enable_gqa"
# The last is the tolerance of the gradients; derivatives of them are exact.
TOLERANT = f"{FORM}, float? rtol"
HEADS = "Tensor query, Tensor key, Tensor value"
ALONG = "Tensor ddquery, Tensor ddkey, Tensor ddvalue"
SAVED = "Tensor output, Tensor lse"

# It lives as long as the process: torch forgets the operators of a library that is gone.
LIBRARY = torch.library.Library("attngrad", "DEF")
for schema in (
    f"attention({HEADS}, {TOLERANT}) -> (Tensor output, Tensor lse)",
    f"attention_backward(Tensor dout, {HEADS}, {SAVED}, {TOLERANT})"
    " -> (Tensor dq, Tensor dk, Tensor dv)",
    f"attention_tangent({HEADS}, {ALONG}, {SAVED}, {FORM}) -> Tensor",
    f"attention_hessian(Tensor dout, {HEADS}, Tensor? ddout, {ALONG}, {SAVED}, {FORM})"
    " -> (Tensor dout, Tensor query, Tensor key, Tensor value)",
):
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
FORWARD, BACKWARD = "attngrad::attention", "attngrad::attention_backward"
TANGENT, HESSIAN = "attngrad::attention_tangent", "attngrad::attention_hessian"
forward_op = torch.ops.attngrad.attention.default
backward_op = torch.ops.attngrad.attention_backward.default
tangent_op = torch.ops.attngrad.attention_tangent.default
hessian_op = torch.ops.attngrad.attention_hessian.default


def _fake_forward(query: Tensor, key: Tensor, value: Tensor, *form: Any) -> tuple[Tensor, Tensor]:
    rows = query.shape[:-1]
    return query.new_empty((*rows, value.shape[-1])), query.new_empty(rows)


def _fake_backward(dout: Tensor, *others: Any) -> tuple[Tensor, ...]:
    return tuple(side.new_empty(side.shape) for side in others[:3])


def _fake_tangent(*given: Any) -> Tensor:
    output: Tensor = given[6]
    return output.new_empty(output.shape)


def _fake_hessian(*given: Any) -> tuple[Tensor, ...]:
    return tuple(side.new_empty(side.shape) for side in given[:4])


def keep_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep what the gradient is made of; that of the logarithms is not served."""
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:3], *output, inputs[3])
    ctx.form = inputs[4:]


def _gradients(ctx: Any, dout: Tensor | None, _dlse: Tensor | None) -> tuple[Any, ...]:
    if dout is None:
        return (None,) * 8
    return (*backward_op(dout, *ctx.saved_tensors, *ctx.form), *(None,) * 5)


def keep_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Output and lse count as functions of the inputs: no gradient goes to them."""
    ctx.save_for_backward(*inputs[:7])
    ctx.form = inputs[7:]


def _second_gradients(ctx: Any, *directions: Tensor) -> tuple[Any, ...]:
    """Gradients of the gradients; those by way of output and lse are in them already."""
    *sides, output, lse, attn_mask = ctx.saved_tensors
    saved = (output, lse, attn_mask)
    found = hessian_op(*sides, None, *directions, *saved, *ctx.form[:-1])
    return (*found, *(None,) * 7)


def keep_tangent(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:9])
    ctx.form = inputs[9:]


def _tangent_gradients(ctx: Any, dtangent: Tensor) -> tuple[Any, ...]:
    """Gradients of a tangent: linear in the direction, and the Hessian of <dtangent, output>."""
    *both, output, lse, attn_mask = ctx.saved_tensors
    heads, along, saved = both[:3], both[3:], (output, lse, attn_mask)
    _, *of_heads = hessian_op(dtangent, *heads, None, *along, *saved, *ctx.form)
    of_along = backward_op(dtangent, *heads, *saved, *ctx.form, None)
    return (*of_heads, *of_along, *(None,) * 6)


def beyond(*_given: Any) -> Any:
    raise OptionError(
        "scaled_dot_product_attention: found a derivative of a second derivative, or a change of "
        "a tangent in a direction; expected derivatives up to the second, "
        "of which no more than one in a direction"
    )


def folded(batch: int, in_dims: tuple[int | None, ...], given: tuple[Any, ...]) -> list[Any]:
    """Tensors with the mapped axis as the first of their leading ones, shown where it is not."""

    def one(axis: int | None, of: Any) -> Any:
        if not isinstance(of, Tensor):
            return of
        return of.expand(batch, *of.shape) if axis is None else of.movedim(axis, 0)

    return [one(axis, of) for axis, of in zip(in_dims, given, strict=True)]


def _mapped_forward(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
    return forward_op(*folded(info.batch_size, in_dims, given)), (0, 0)


def _mapped_backward(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
    return backward_op(*folded(info.batch_size, in_dims, given)), (0, 0, 0)


def _mapped_tangent(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
    return tangent_op(*folded(info.batch_size, in_dims, given)), 0


def _mapped_hessian(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
    return hessian_op(*folded(info.batch_size, in_dims, given)), (0, 0, 0, 0)


for name, function, fake, keep, gradients, mapped in (
    (FORWARD, _calls.forward, _fake_forward, keep_forward, _gradients, _mapped_forward),
    (BACKWARD, _calls.backward, _fake_backward, keep_backward, _second_gradients, _mapped_backward),
    (TANGENT, _calls.tangent, _fake_tangent, keep_tangent, _tangent_gradients, _mapped_tangent),
    (HESSIAN, _calls.hessian, _fake_hessian, None, beyond, _mapped_hessian),
):
    LIBRARY.impl(name.partition("::")[2], function, "CPU")
    torch.library.register_fake(name, fake, lib=LIBRARY)
    torch.library.register_autograd(name, gradients, setup_context=keep, lib=LIBRARY)
    torch.library.register_vmap(name, mapped, lib=LIBRARY)
# Half precision is not computed here; float64 stays what it is.
torch.library.register_autocast(FORWARD, "cpu", torch.float32, lib=LIBRARY)
