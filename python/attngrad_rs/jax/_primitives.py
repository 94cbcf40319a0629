"""Attention and its derivatives as primitives of JAX, with a rule for each transform.

``attention_p`` has output and logarithms of the normalisers, ``tangent_p`` the change of the output
in a direction, ``backward_p`` the gradients. The second and the third are each other's transpose.
``backward_jvp_p`` is the change of the gradients in a direction, which is symmetric, and
``tangent_jvp_p`` the second change of the output, in two directions; transposition leads from each
of them to both. Output and logarithms that are handed on count as functions of query, key, value
and bias: derivatives by way of them are in those by the latter. The core has all values but those
of ``tangent_jvp_p``, which come from the formula, as do derivatives of what are second ones and
derivatives by a bias.

Arrays are as in ``_host``. The leading dimensions of two operands may differ where one of them is
1, so that vmap copies nothing that it does not map.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

from ..errors import OptionError
from . import _formula, _host
from ._host import Form

Array: TypeAlias = jax.Array
Arrays: TypeAlias = Sequence[Array]
# What a primitive is linear in, group by group; and all operands that follow.
Groups: TypeAlias = Sequence[Arrays]
# Query, key and value, which output and logarithms follow, and then masks that are arrays.
HEADS = 3
BIAS = "attn_mask"


def _primitive(name: str) -> Any:
    found = Primitive(f"attngrad_{name}")
    found.multiple_results = True
    return found


attention_p, tangent_p, backward_p = map(_primitive, ("attention", "tangent", "backward"))
tangent_jvp_p, backward_jvp_p = map(_primitive, ("tangent_jvp", "backward_jvp"))

# How many operands are in each group that a primitive is linear in; groups come first.
LINEAR: dict[Any, tuple[int, ...]] = {
    attention_p: (),
    tangent_p: (HEADS,),
    backward_p: (1,),
    tangent_jvp_p: (HEADS, HEADS),
    backward_jvp_p: (1, HEADS),
}


def run(*operands: Array, form: Form) -> tuple[Array, Array]:
    """The output, and the logarithms of the normalisers, which count as constants."""
    output, lse = attention_p.bind(*operands, form=form)
    return output, lse


def _split(primitive: Any, operands: Sequence[Any]) -> tuple[list[list[Any]], list[Any]]:
    """The groups, and what follows."""
    groups, rest = [], list(operands)
    for size in LINEAR[primitive]:
        groups.append(rest[:size])
        rest = rest[size:]
    return groups, rest


# -- shapes ----------------------------------------------------------------------------------------


def _row_avals(primitive: Any, *operands: Any, form: Form) -> list[Any]:
    """The output, or a change of it; with the logarithms from ``attention_p``."""
    query, _, value = _split(primitive, operands)[1][:HEADS]
    lead, rows = _lead(operands), query.shape[-3:-1]
    output = query.update(shape=(*lead, *rows, value.shape[-1]))
    logarithms = query.update(shape=(*lead, *rows, 1))
    return [output, logarithms] if primitive is attention_p else [output]


def _head_avals(primitive: Any, *operands: Any, form: Form) -> list[Any]:
    """The gradients, or a change of them."""
    heads = _split(primitive, operands)[1][:HEADS]
    lead = _lead(operands)
    return [one.update(shape=(*lead, *one.shape[-3:])) for one in heads]


def _lead(operands: Sequence[Any]) -> tuple[int, ...]:
    """The leading dimensions of results, from operands that fit together."""
    # Under the two names that JAX has had for it: along which axes of a mesh values may differ.
    axes = [getattr(one, "manual_axis_type", getattr(one, "vma", None)) for one in operands]
    if any(one != axes[0] for one in axes):
        raise OptionError(
            "query, key, value, masks: found some that differ along an axis of the mesh where"
            " others do not; expected all alike: shard them alike, use "
            "jax.lax.pcast(..., to='varying'), or jax.shard_map(..., check_vma=False)"
        )
    return tuple(jnp.broadcast_shapes(*(one.shape[:-3] for one in operands)))


# -- derivatives -----------------------------------------------------------------------------------


def _attention_jvp(primals: Arrays, tangents: Sequence[Any], *, form: Form) -> tuple[Any, Any]:
    output, lse = attention_p.bind(*primals, form=form)
    heads, extras = primals[:HEADS], primals[HEADS:]
    terms: list[Arrays] = []
    if _moves(tangents[:HEADS]):
        moved = map(ad.instantiate_zeros, tangents[:HEADS])
        terms.append(tangent_p.bind(*moved, *heads, output, lse, *extras, form=form))
    terms += _by_bias(attention_p, [], primals, tangents, form)
    change = _total(terms)[0] if terms else _still(output)
    return (output, lse), (change, _still(lse))


def _jvp(
    primitive: Any,
    by_heads: Callable[[Groups, Arrays, Arrays, Form], Arrays],
    primals: Arrays,
    tangents: Sequence[Any],
    *,
    form: Form,
) -> tuple[Any, Any]:
    """The rule of a primitive that is linear in groups of operands; ``by_heads`` for the others."""
    groups, rest = _split(primitive, primals)
    moved_groups, moved_rest = _split(primitive, tangents)
    terms: list[Arrays] = []
    for i, moved in enumerate(moved_groups):
        if _moves(moved):
            one = [*groups[:i], map(ad.instantiate_zeros, moved), *groups[i + 1 :]]
            terms.append(primitive.bind(*(x for group in one for x in group), *rest, form=form))
    if _moves(moved_rest[:HEADS]):
        moved = list(map(ad.instantiate_zeros, moved_rest[:HEADS]))
        terms.append(by_heads(groups, moved, rest, form))
    terms += _by_bias(primitive, groups, rest, moved_rest, form)
    found = primitive.bind(*primals, form=form)
    if not terms:
        return found, list(map(_still, found))
    return found, _total(terms)


def _total(terms: Sequence[Arrays]) -> list[Array]:
    return [functools.reduce(jnp.add, parts) for parts in zip(*terms, strict=True)]


def _by_bias(
    primitive: Any, groups: Groups, rest: Arrays, moved: Sequence[Any], form: Form
) -> list[Arrays]:
    """The change by a bias, where that changes."""
    if BIAS not in form.extras:
        return []
    place = form.extras.index(BIAS) - len(form.extras)
    if not _moves([moved[place]]):
        return []
    extras = list(_extras(rest, form))

    def of(bias: Array) -> Arrays:
        extras[place] = bias
        return FORMULAS[primitive](groups, rest[:HEADS], extras, form)

    found: Arrays = jax.jvp(of, (rest[place],), (moved[place],))[1]
    return [found]


def _extras(rest: Arrays, form: Form) -> Arrays:
    return rest[len(rest) - len(form.extras) :]


def _still(array: Array) -> Any:
    """The tangent of what does not change."""
    return ad.Zero(jax.typeof(array).to_tangent_aval())


def _moves(tangents: Sequence[Any]) -> bool:
    return any(type(one) is not ad.Zero for one in tangents)


def _transpose(
    primitive: Any,
    adjoints: Sequence[Callable[[Groups, Arrays, Arrays, Form], Arrays]],
    cotangents: Sequence[Any],
    *operands: Any,
    form: Form,
) -> list[Any]:
    """The rule of a primitive with an adjoint for each group: from the others, and cotangents."""
    groups, rest = _split(primitive, operands)
    arrived = list(map(ad.instantiate_zeros, cotangents))
    found: list[Any] = []
    for group, adjoint in zip(groups, adjoints, strict=True):
        wanted = list(map(ad.is_undefined_primal, group))
        results = adjoint(groups, arrived, rest, form) if any(wanted) else group
        pairs = zip(wanted, results, group, strict=True)
        found += [_folded(one, of.aval) if is_wanted else None for is_wanted, one, of in pairs]
    return [*found, *(None,) * len(rest)]


def _folded(array: Array, aval: Any) -> Array:
    """Sums along the leading dimensions that were shown and not there."""
    own = zip(array.shape[:-3], aval.shape[:-3], strict=True)
    axes = tuple(axis for axis, (shown, size) in enumerate(own) if shown != size)
    return array.sum(axis=axes, keepdims=True) if axes else array


def _bound(
    primitive: Any, operands: Callable[[Groups, Arrays], Arrays]
) -> Callable[[Groups, Arrays, Arrays, Form], Arrays]:
    """A primitive applied to groups made of those of another and of what arrives; same rest."""

    def call(groups: Groups, arrived: Arrays, rest: Arrays, form: Form) -> Arrays:
        found: Arrays = primitive.bind(*operands(groups, arrived), *rest, form=form)
        return found

    return call


def _by_formula(primitive: Any) -> Callable[[Groups, Arrays, Arrays, Form], Arrays]:
    """The change by query, key and value, by JAX's own rules."""

    def call(groups: Groups, moved: Arrays, rest: Arrays, form: Form) -> Arrays:
        def of(*heads: Array) -> Arrays:
            return FORMULAS[primitive](groups, heads, _extras(rest, form), form)

        found: Arrays = jax.jvp(of, tuple(rest[:HEADS]), tuple(moved))[1]
        return found

    return call


# -- values ----------------------------------------------------------------------------------------

# The primitives in operations of JAX, from groups, query, key and value, and masks.
FORMULAS: dict[Any, Callable[[Groups, Arrays, Arrays, Form], Arrays]] = {
    attention_p: lambda _, *given: [_formula.attend(*given)],
    tangent_p: lambda groups, *given: [_formula.push_forward(groups[0], *given)],
    backward_p: lambda groups, *given: _formula.pull_back(groups[0][0], *given),
    tangent_jvp_p: lambda groups, *given: [_formula.bend(groups[0], groups[1], *given)],
    backward_jvp_p: lambda groups, *given: _formula.pull_back_jvp(groups[0][0], groups[1], *given),
}


def _on_host(function: Callable[..., tuple[Any, ...]]) -> Callable[..., Any]:
    """A lowering that calls back to a function of NumPy arrays."""

    def lower(ctx: Any, *operands: Any, form: Form) -> Any:
        found, _, _ = mlir.emit_python_callback(
            ctx, functools.partial(function, form=form), None, list(operands), ctx.avals_in,
            ctx.avals_out, has_side_effect=False,
        )  # fmt: skip
        return found

    return lower


def _in_jax(primitive: Any) -> Any:
    """A lowering to operations of JAX."""

    def call(*operands: Array, form: Form) -> Arrays:
        groups, rest = _split(primitive, operands)
        return FORMULAS[primitive](groups, rest[:HEADS], _extras(rest, form), form)

    return mlir.lower_fun(call, multiple_results=True)


def _refused(ctx: Any, *_operands: Any, form: Form) -> Any:
    platforms = " and ".join(ctx.module_context.platforms)
    raise OptionError(
        f"query: found a computation for {platforms}; expected one for the CPU: "
        "jax.nn.dot_product_attention serves others"
    )


# -- the rules -------------------------------------------------------------------------------------


def _mapped(
    primitive: Any, operands: Arrays, axes: Sequence[int | None], *, form: Form
) -> tuple[Arrays, list[int]]:
    """The mapped axis as the first of the leading ones, of size 1 where it is not."""
    pairs = zip(operands, axes, strict=True)
    moved = (x[None] if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in pairs)
    found = primitive.bind(*moved, form=form)
    return found, [0] * len(found)


for _p, _avals, _lowering in (
    (attention_p, _row_avals, _on_host(_host.forward)),
    (tangent_p, _row_avals, _on_host(_host.tangent)),
    (backward_p, _head_avals, _on_host(_host.backward)),
    (tangent_jvp_p, _row_avals, _in_jax(tangent_jvp_p)),
    (backward_jvp_p, _head_avals, _on_host(_host.backward_jvp)),
):
    _p.def_impl(functools.partial(xla.apply_primitive, _p))
    _p.def_abstract_eval(functools.partial(_avals, _p))
    batching.primitive_batchers[_p] = functools.partial(_mapped, _p)
    mlir.register_lowering(_p, _refused)
    mlir.register_lowering(_p, _lowering, platform="cpu")

# The change by query, key and value, and what a cotangent becomes, group by group.
_to_tangent = _bound(tangent_p, lambda _, arrived: arrived)
_to_backward = _bound(backward_p, lambda _, arrived: arrived)
ad.primitive_jvps[attention_p] = _attention_jvp
for _p, _by_heads, _adjoints in (
    (
        tangent_p,
        _bound(tangent_jvp_p, lambda groups, moved: [*groups[0], *moved]),
        [_to_backward],
    ),
    (
        backward_p,
        _bound(backward_jvp_p, lambda groups, moved: [*groups[0], *moved]),
        [_to_tangent],
    ),
    (
        tangent_jvp_p,
        _by_formula(tangent_jvp_p),
        [
            _bound(backward_jvp_p, lambda groups, arrived: [*arrived, *groups[1]]),
            _bound(backward_jvp_p, lambda groups, arrived: [*arrived, *groups[0]]),
        ],
    ),
    (
        backward_jvp_p,
        _by_formula(backward_jvp_p),
        [
            _bound(tangent_jvp_p, lambda groups, arrived: [*groups[1], *arrived]),
            _bound(backward_jvp_p, lambda groups, arrived: [*groups[0], *arrived]),
        ],
    ),
):
    ad.primitive_jvps[_p] = functools.partial(_jvp, _p, _by_heads)
    ad.primitive_transposes[_p] = functools.partial(_transpose, _p, _adjoints)
