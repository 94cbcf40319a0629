"""Attention in operations of JAX, all of its logits at once, for what the core has no derivative.

That is third derivatives and further, the second change of the output in two directions, and
derivatives by a bias, which has an entry for each logit itself. JAX differentiates what stands here
as often as it is asked to.

Arrays are as in ``_host``. The leading dimensions of two arrays may differ where one of them is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp

from ._host import Form

Array: TypeAlias = jax.Array
Arrays: TypeAlias = Sequence[Array]


def attend(heads: Arrays, extras: Arrays, form: Form) -> Array:
    """The output; zeros in rows that see nothing."""
    query, key, value = heads
    *lead, count, width = query.shape
    # Heads of the query that share one of the key stand on an axis of their own, g.
    shared = key.shape[-2]
    grouped = query.reshape(*lead, shared, count // max(shared, 1), width)
    logits = form.scale * jnp.einsum("...tkgh,...skh->...kgts", grouped, key)
    shown, added = _masks(logits, dict(zip(form.extras, extras, strict=True)), form)
    logits = jnp.where(shown, logits + added, -jnp.inf)
    top = jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True, initial=-jnp.inf))
    weights = jnp.exp(logits - jnp.where(jnp.isfinite(top), top, 0.0))
    sums = weights.sum(axis=-1, keepdims=True)
    found = jnp.einsum("...kgts,...skh->...tkgh", weights / jnp.where(sums > 0.0, sums, 1.0), value)
    return found.reshape(*found.shape[:-3], count, value.shape[-1])


def _masks(logits: Array, given: dict[str, Array], form: Form) -> tuple[Array, Array]:
    """Which keys the rows see, and what is added to their logits, (..., K, G, T, S)."""
    *_, shared, group, count, seen = logits.shape
    apart = jnp.arange(seen) - jnp.arange(count)[:, None]
    before, after = form.window or (-1, -1)
    hidden = (apart > 0) if form.is_causal else jnp.zeros_like(apart, bool)
    for reach, distance in ((before, -apart), (after, apart)):
        hidden |= (reach >= 0) & (distance > reach)
    shown, added = ~hidden, jnp.zeros((), logits.dtype)
    if "key_lengths" in given:
        shown &= jnp.arange(seen) < given["key_lengths"][..., None]
    if "attn_mask" in given:
        mask = given["attn_mask"]
        heads = (shared, group) if mask.shape[-3] > 1 else (1, 1)
        mask = mask.reshape(*mask.shape[:-3], *heads, *mask.shape[-2:])
        if mask.dtype != bool:
            shows = mask >= jnp.finfo(mask.dtype).min / 8
            added, mask = jnp.where(shows, mask, 0.0), shows
        shown &= mask
    return shown, added


def push_forward(along: Arrays, heads: Arrays, extras: Arrays, form: Form) -> Array:
    """The change of the output in a direction of query, key and value."""
    found: Array = jax.jvp(lambda *at: attend(at, extras, form), tuple(heads), tuple(along))[1]
    return found


def bend(along: Arrays, others: Arrays, heads: Arrays, extras: Arrays, form: Form) -> Array:
    """The second change of the output, in two directions."""

    def change(*at: Array) -> Array:
        return push_forward(along, at, extras, form)

    found: Array = jax.jvp(change, tuple(heads), tuple(others))[1]
    return found


def pull_back(dout: Array, heads: Arrays, extras: Arrays, form: Form) -> Arrays:
    """The gradients of query, key and value; with the leading dimensions of all operands."""
    lead = jnp.broadcast_shapes(*(one.shape[:-3] for one in (dout, *heads, *extras)))
    shown = [jnp.broadcast_to(one, (*lead, *one.shape[-3:])) for one in (dout, *heads)]
    found: Arrays = jax.vjp(lambda *at: attend(at, extras, form), *shown[1:])[1](shown[0])
    return found


def pull_back_jvp(dout: Array, along: Arrays, heads: Arrays, extras: Arrays, form: Form) -> Arrays:
    """The change of the gradients in a direction of query, key and value."""

    def gradients(*at: Array) -> Arrays:
        return pull_back(dout, at, extras, form)

    found: Arrays = jax.jvp(gradients, tuple(heads), tuple(along))[1]
    return found
