"""Attention and its gradient as operators that torch knows: autograd, vmap, autocast, compile.

``torch.ops.attngrad.attention`` returns the output and the logarithm of the normaliser,
``torch.ops.attngrad.attention_backward`` the gradients, from both and the gradient that comes in.
``attention_tangent`` is the change of the output in a direction, and ``attention_hessian`` the
Hessian of <dout, output> times one: double backward, and the change of the gradients. Tensors and
arrays share their memory both ways.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._inputs.arrays import Array
from ..attention import attention, attention_vjp
from ..derivatives import attention_hvp, attention_jvp
from ..errors import OptionError
from ..results import AttentionGradients

# is_causal, scale and enable_gqa: what a call is beside its tensors.
Form = tuple[bool, float | None, bool]
FORM = "bool is_causal, float? scale, bool enable_gqa"
MASK = "Tensor? attn_mask"
HEADS = "Tensor query, Tensor key, Tensor value"
ALONG = "Tensor ddquery, Tensor ddkey, Tensor ddvalue"
SAVED = "Tensor output, Tensor lse"

# It lives as long as the process: torch forgets the operators of a library that is gone.
LIBRARY = torch.library.Library("attngrad", "DEF")
for schema in (
    f"attention({HEADS}, {MASK}, {FORM}) -> (Tensor output, Tensor lse)",
    f"attention_backward(Tensor dout, {HEADS}, {SAVED}, {MASK}, {FORM})"
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


class Watcher(Protocol):
    """Whoever wants to know of each call when it is done; query, key and value are ``heads``."""

    def forward(self, heads: Sequence[Array], form: Form, output: Array, seconds: float) -> None:
        """Take note of a forward pass."""

    def backward(
        self, heads: Sequence[Array], form: Form, output: Array, found: AttentionGradients[Any]
    ) -> None:
        """Take note of the gradients for an output."""


watchers: list[Watcher] = []


def run(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, form: Form) -> Tensor:
    """The output, by the way that whatever torch is doing can differentiate."""
    # Formulas that are registered for operators are not seen by torch.func, and forward mode takes
    # them for constants without a word.
    transformed = not torch.compiler.is_compiling() and (
        torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    )
    call = Attention.apply if transformed else forward_op
    output: Tensor = call(query, key, value, attn_mask, *form)[0]
    return output


# -- the core --------------------------------------------------------------------------------------


def _arrays(*tensors: Tensor) -> list[Array]:
    return [tensor.detach().numpy() for tensor in tensors]


def _options(is_causal: bool, scale: float | None, enable_gqa: bool) -> dict[str, Any]:
    """Options of the library: as many threads as torch itself would take."""
    form = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
    return {**form, "threads": torch.get_num_threads()}


def _masked(attn_mask: Tensor | None, *form: Any) -> dict[str, Any]:
    mask = None if attn_mask is None else attn_mask.detach().numpy()
    return {"attn_mask": mask, **_options(*form)}


def _forward(query: Tensor, key: Tensor, value: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    start = time.perf_counter()
    heads = _arrays(query, key, value)
    output, lse = attention(heads[0], heads[1], heads[2], return_lse=True, **_masked(*given))
    if watchers:
        seconds = time.perf_counter() - start
        for watcher in watchers:
            watcher.forward(heads, given[1:], output, seconds)
    return torch.from_numpy(output), torch.from_numpy(lse)


def _backward(*given: Any) -> tuple[Tensor, ...]:
    incoming, *heads, saved, logarithms = _arrays(*given[:6])
    options = {"output": saved, "lse": logarithms, **_masked(*given[6:])}
    found: AttentionGradients[Any] = attention_vjp(
        heads[0], heads[1], heads[2], incoming, **options
    )
    for watcher in watchers:
        watcher.backward(heads, given[7:], saved, found)
    return tuple(map(torch.from_numpy, found))


def _tangent(*given: Any) -> Tensor:
    query, key, value, dquery, dkey, dvalue, output, lse = _arrays(*given[:8])
    options = {"output": output, "lse": lse, **_options(*given[8:])}
    _, tangent = attention_jvp(query, key, value, dquery, dkey, dvalue, **options)
    return torch.from_numpy(tangent)


def _hessian(
    dout: Tensor, query: Tensor, key: Tensor, value: Tensor, ddout: Tensor | None, *given: Any
) -> tuple[Tensor, ...]:
    incoming, *heads = _arrays(dout, query, key, value)
    ddquery, ddkey, ddvalue, output, lse = _arrays(*given[:5])
    options = {"output": output, "lse": lse, **_options(*given[5:])}
    if ddout is not None:
        options["ddout"] = ddout.detach().numpy()
    *found, by_dout = attention_hvp(
        heads[0], heads[1], heads[2], incoming, ddquery, ddkey, ddvalue, **options
    )
    return tuple(map(torch.from_numpy, (by_dout, *found)))


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


# -- derivatives -----------------------------------------------------------------------------------


def _keep_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep what the gradient is made of; that of the logarithms is not served."""
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:3], *output, inputs[3])
    ctx.form = inputs[4:]


def _gradients(ctx: Any, dout: Tensor | None, _dlse: Tensor | None) -> tuple[Any, ...]:
    if dout is None:
        return (None,) * 7
    return (*backward_op(dout, *ctx.saved_tensors, *ctx.form), *(None,) * 4)


def _keep_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Output and lse count as functions of the inputs: no gradient goes to them."""
    ctx.save_for_backward(*inputs[:7])
    ctx.form = inputs[7:]


def _unmasked(attn_mask: Tensor | None, tangent: Tensor | None = None) -> None:
    """Refuse derivatives that calls with a mask do not have, and those with respect to it."""
    if attn_mask is not None:
        found = "a mask in a second derivative, or in forward mode"
        found = found if tangent is None else "a mask that changes in a direction"
        raise OptionError(f"attn_mask: found {found}; expected None, or is_causal=True")


def _second_gradients(ctx: Any, *directions: Tensor) -> tuple[Any, ...]:
    """Gradients of the gradients; those by way of output and lse are in them already."""
    *sides, output, lse, attn_mask = ctx.saved_tensors
    _unmasked(attn_mask)
    return (*hessian_op(*sides, None, *directions, output, lse, *ctx.form), *(None,) * 6)


def _keep_tangent(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:8])
    ctx.form = inputs[8:]


def _tangent_gradients(ctx: Any, dtangent: Tensor) -> tuple[Any, ...]:
    """Gradients of a tangent: linear in the direction, and the Hessian of <dtangent, output>."""
    *both, output, lse = ctx.saved_tensors
    heads, along = both[:3], both[3:]
    _, *of_heads = hessian_op(dtangent, *heads, None, *along, output, lse, *ctx.form)
    of_along = backward_op(dtangent, *heads, output, lse, None, *ctx.form)
    return (*of_heads, *of_along, *(None,) * 5)


def _beyond(*_given: Any) -> Any:
    raise OptionError(
        "scaled_dot_product_attention: found a derivative of a second derivative, or a change of "
        "a tangent in a direction; expected derivatives up to the second, "
        "of which no more than one in a direction"
    )


def _folded(batch: int, in_dims: tuple[int | None, ...], given: tuple[Any, ...]) -> list[Any]:
    """Tensors with the mapped axis as the first of their leading ones, shown where it is not."""

    def one(axis: int | None, of: Any) -> Any:
        if not isinstance(of, Tensor):
            return of
        return of.expand(batch, *of.shape) if axis is None else of.movedim(axis, 0)

    return [one(axis, of) for axis, of in zip(in_dims, given, strict=True)]


def _mapped_forward(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
    return forward_op(*_folded(info.batch_size, in_dims, given)), (0, 0)


def _mapped_backward(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
    return backward_op(*_folded(info.batch_size, in_dims, given)), (0, 0, 0)


def _mapped_tangent(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
    return tangent_op(*_folded(info.batch_size, in_dims, given)), 0


def _mapped_hessian(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
    return hessian_op(*_folded(info.batch_size, in_dims, given)), (0, 0, 0, 0)


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
        _keep_forward(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:3], *output, inputs[3])

    @staticmethod
    def backward(ctx: Any, dout: Tensor | None, _dlse: Tensor | None) -> tuple[Any, ...]:
        """Gradients of query, key and value."""
        if dout is None:
            return (None,) * 7
        found = AttentionBackward.apply(dout, *ctx.saved_tensors, *ctx.form)
        return (*found, *(None,) * 4)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None]:
        """The change of the output; that of the logarithms is not served."""
        *heads, output, lse, attn_mask = ctx.saved_tensors
        _unmasked(attn_mask, tangents[3])
        of = _directions(tangents[:3], heads)
        return AttentionTangent.apply(*heads, *of, output, lse, *ctx.form), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
        """The mapped axis as the first of the leading ones."""
        return Attention.apply(*_folded(info.batch_size, in_dims, given)), (0, 0)


class AttentionBackward(torch.autograd.Function):  # type: ignore[misc]
    """``attention_backward`` for the transforms of torch.func and forward mode."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Gradients of query, key and value."""
        return tuple(backward_op(*inputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the derivatives are made of."""
        _keep_backward(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:7])

    @staticmethod
    def backward(ctx: Any, *directions: Tensor) -> tuple[Any, ...]:
        """Gradients of the gradients."""
        *sides, output, lse, attn_mask = ctx.saved_tensors
        _unmasked(attn_mask)
        found = AttentionHessian.apply(*sides, None, *directions, output, lse, *ctx.form)
        return (*found, *(None,) * 6)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        """The change of the gradients."""
        *sides, output, lse, attn_mask = ctx.saved_tensors
        _unmasked(attn_mask)
        of = _directions(tangents[:4], sides)
        found = AttentionHessian.apply(*sides, *of, output, lse, *ctx.form)
        return tuple(found[1:])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
        """The mapped axis as the first of the leading ones."""
        return AttentionBackward.apply(*_folded(info.batch_size, in_dims, given)), (0, 0, 0)


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
        _keep_tangent(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, dtangent: Tensor) -> tuple[Any, ...]:
        """Gradients of query, key, value and their directions."""
        *both, output, lse = ctx.saved_tensors
        heads, along, saved = both[:3], both[3:], (output, lse)
        _, *of_heads = AttentionHessian.apply(dtangent, *heads, None, *along, *saved, *ctx.form)
        of_along = AttentionBackward.apply(dtangent, *heads, *saved, None, *ctx.form)
        return (*of_heads, *of_along, *(None,) * 5)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Not served."""
        return _beyond()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
        """The mapped axis as the first of the leading ones."""
        return AttentionTangent.apply(*_folded(info.batch_size, in_dims, given)), 0


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
        return _beyond()

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Not served."""
        return _beyond()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
        """The mapped axis as the first of the leading ones."""
        return AttentionHessian.apply(*_folded(info.batch_size, in_dims, given)), (0, 0, 0, 0)


for name, function, fake, keep, gradients, mapped in (
    (FORWARD, _forward, _fake_forward, _keep_forward, _gradients, _mapped_forward),
    (BACKWARD, _backward, _fake_backward, _keep_backward, _second_gradients, _mapped_backward),
    (TANGENT, _tangent, _fake_tangent, _keep_tangent, _tangent_gradients, _mapped_tangent),
    (HESSIAN, _hessian, _fake_hessian, None, _beyond, _mapped_hessian),
):
    LIBRARY.impl(name.partition("::")[2], function, "CPU")
    torch.library.register_fake(name, fake, lib=LIBRARY)
    torch.library.register_autograd(name, gradients, setup_context=keep, lib=LIBRARY)
    torch.library.register_vmap(name, mapped, lib=LIBRARY)
# Half precision is not computed here; float64 stays what it is.
torch.library.register_autocast(FORWARD, "cpu", torch.float32, lib=LIBRARY)
