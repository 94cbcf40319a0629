"""Attention and its gradient as operators that torch knows: autograd, vmap, autocast, compile.

``torch.ops.attngrad.attention`` returns the output and the logarithm of the normaliser,
``torch.ops.attngrad.attention_backward`` the gradients, from both and the gradient that comes in.
Tensors and arrays share their memory both ways.
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
from ..results import AttentionGradients
from ._dense import Heads, pull_back_vjp, push_forward, push_forward_vjp

# is_causal, scale and enable_gqa.
Form = tuple[bool, float | None, bool]
FORM = "bool is_causal, float? scale, bool enable_gqa"
HEADS = "Tensor query, Tensor key, Tensor value"

# It lives as long as the process: torch forgets the operators of a library that is gone.
LIBRARY = torch.library.Library("attngrad", "DEF")
for schema in (
    f"attention({HEADS}, {FORM}) -> (Tensor output, Tensor lse)",
    f"attention_backward(Tensor dout, {HEADS}, Tensor output, Tensor lse, {FORM})"
    " -> (Tensor dq, Tensor dk, Tensor dv)",
):
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
FORWARD, BACKWARD = "attngrad::attention", "attngrad::attention_backward"
forward_op = torch.ops.attngrad.attention.default
backward_op = torch.ops.attngrad.attention_backward.default


class Watcher(Protocol):
    """Whoever wants to know of each call when it is done; query, key and value are ``heads``."""

    def forward(self, heads: Sequence[Array], form: Form, output: Array, seconds: float) -> None:
        """Take note of a forward pass."""

    def backward(
        self, heads: Sequence[Array], form: Form, output: Array, found: AttentionGradients[Any]
    ) -> None:
        """Take note of the gradients for an output."""


watchers: list[Watcher] = []


def run(query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
    """The output, by the way that whatever torch is doing can differentiate."""
    # Formulas that are registered for operators are not seen by torch.func, and forward mode takes
    # them for constants without a word.
    transformed = not torch.compiler.is_compiling() and (
        torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    )
    call = Attention.apply if transformed else forward_op
    output: Tensor = call(query, key, value, *form)[0]
    return output


# -- the core --------------------------------------------------------------------------------------


def _arrays(*tensors: Tensor) -> list[Array]:
    return [tensor.detach().numpy() for tensor in tensors]


def _options(is_causal: bool, scale: float | None, enable_gqa: bool) -> dict[str, Any]:
    """Options of the library: as many threads as torch itself would take."""
    form = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
    return {**form, "threads": torch.get_num_threads()}


def _forward(query: Tensor, key: Tensor, value: Tensor, *form: Any) -> tuple[Tensor, Tensor]:
    start = time.perf_counter()
    heads = _arrays(query, key, value)
    output, lse = attention(heads[0], heads[1], heads[2], return_lse=True, **_options(*form))
    if watchers:
        seconds = time.perf_counter() - start
        for watcher in watchers:
            watcher.forward(heads, form, output, seconds)
    return torch.from_numpy(output), torch.from_numpy(lse)


def _backward(
    dout: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, *form: Any
) -> tuple[Tensor, ...]:
    incoming, *heads, saved, logarithms = _arrays(dout, query, key, value, output, lse)
    found: AttentionGradients[Any] = attention_vjp(
        heads[0], heads[1], heads[2], incoming, output=saved, lse=logarithms, **_options(*form)
    )
    for watcher in watchers:
        watcher.backward(heads, form, saved, found)
    return tuple(map(torch.from_numpy, found))


def _fake_forward(query: Tensor, key: Tensor, value: Tensor, *form: Any) -> tuple[Tensor, Tensor]:
    rows = query.shape[:-1]
    return query.new_empty((*rows, value.shape[-1])), query.new_empty(rows)


def _fake_backward(dout: Tensor, *others: Any) -> tuple[Tensor, ...]:
    return tuple(side.new_empty(side.shape) for side in others[:3])


# -- derivatives -----------------------------------------------------------------------------------


def _keep_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep what the gradient is made of; that of the logarithms is not served."""
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:3], *output)
    ctx.form = inputs[3:]


def _gradients(ctx: Any, dout: Tensor | None, _dlse: Tensor | None) -> tuple[Any, ...]:
    if dout is None:
        return (None,) * 6
    return (*backward_op(dout, *ctx.saved_tensors, *ctx.form), None, None, None)


def _keep_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.form = inputs[6:]


def _second_gradients(ctx: Any, *directions: Tensor) -> tuple[Any, ...]:
    """Gradients of the gradients; those by way of output and lse are in them already."""
    dout, *heads = ctx.saved_tensors
    found = pull_back_vjp(directions, dout, Heads(*heads, *ctx.form))
    return (*found, *(None,) * 5)


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
        ctx.save_for_forward(*inputs[:3], *output)

    @staticmethod
    def backward(ctx: Any, dout: Tensor | None, _dlse: Tensor | None) -> tuple[Any, ...]:
        """Gradients of query, key and value."""
        if dout is None:
            return (None,) * 6
        found = AttentionBackward.apply(dout, *ctx.saved_tensors, *ctx.form)
        return (*found, None, None, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None]:
        """The change of the output; that of the logarithms is not served."""
        heads = ctx.saved_tensors[:3]
        of = _directions(tangents[:3], heads)
        return push_forward(of, Heads(*heads, *ctx.form))[0], None

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
        ctx.save_for_forward(*inputs[:4])

    @staticmethod
    def backward(ctx: Any, *directions: Tensor) -> tuple[Any, ...]:
        """Gradients of the gradients."""
        return _second_gradients(ctx, *directions)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        """The change of the gradients."""
        dout, *heads = ctx.saved_tensors
        of = _directions(tangents[:4], ctx.saved_tensors)
        return push_forward_vjp(of, dout, Heads(*heads, *ctx.form))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Any, Any]:
        """The mapped axis as the first of the leading ones."""
        return AttentionBackward.apply(*_folded(info.batch_size, in_dims, given)), (0, 0, 0)


LIBRARY.impl("attention", _forward, "CPU")
LIBRARY.impl("attention_backward", _backward, "CPU")
torch.library.register_fake(FORWARD, _fake_forward, lib=LIBRARY)
torch.library.register_fake(BACKWARD, _fake_backward, lib=LIBRARY)
torch.library.register_autograd(FORWARD, _gradients, setup_context=_keep_forward, lib=LIBRARY)
torch.library.register_autograd(
    BACKWARD, _second_gradients, setup_context=_keep_backward, lib=LIBRARY
)
torch.library.register_vmap(FORWARD, _mapped_forward, lib=LIBRARY)
torch.library.register_vmap(BACKWARD, _mapped_backward, lib=LIBRARY)
# Half precision is not computed here; float64 stays what it is.
torch.library.register_autocast(FORWARD, "cpu", torch.float32, lib=LIBRARY)
