"""Derivatives in operations of JAX: in a direction, and second ones.

One block of query rows is taken after another, and the logits of a block are all that is quadratic:
unless JAX differentiates what stands here, for third derivatives, and keeps the blocks.
docs/math.md, section 6, has the first derivatives by the same letters.

Arrays are (..., T, N, H). The leading dimensions of two arrays may differ where one of them is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ._host import Form

Array: TypeAlias = jax.Array
Sides: TypeAlias = Sequence[Array]

# Logits of a block of rows, over all heads: 32 MiB in float64, some ten times that at once.
BLOCK_ENTRIES = 1 << 22


def push_forward(tangents: Sides, heads: Sides, form: Form) -> Array:
    """The change of the output in a direction of query, key and value."""

    def block(rows: Rows) -> tuple[Sides, Sides]:
        Q, dq = rows.of(heads[0], tangents[0])
        P = rows.weights(Q)
        U, _ = _moved(P, rows.logits(dq, heads[1]) + rows.logits(Q, tangents[1]))
        return [rows.summed(U, heads[2]) + rows.summed(P, tangents[2])], []

    return _by_blocks(block, heads, (*tangents, *heads), form)[0]


def bend(tangents: Sides, others: Sides, heads: Sides, form: Form) -> Array:
    """The second change of the output, in two directions."""

    def block(rows: Rows) -> tuple[Sides, Sides]:
        Q, dq, eq = rows.of(heads[0], tangents[0], others[0])
        P = rows.weights(Q)
        T = rows.logits(dq, heads[1]) + rows.logits(Q, tangents[1])
        U, t = _moved(P, T)
        W, _ = _moved(P, rows.logits(eq, heads[1]) + rows.logits(Q, others[1]))
        both = rows.logits(dq, others[1]) + rows.logits(eq, tangents[1])
        # The change of U in the other direction.
        V = W * (T - t) + P * (both - _row_sum(W * T + P * both))
        moved = rows.summed(V, heads[2]) + rows.summed(U, others[2]) + rows.summed(W, tangents[2])
        return [moved], []

    return _by_blocks(block, heads, (*tangents, *others, *heads), form)[0]


def pull_back_jvp(dout: Array, tangents: Sides, heads: Sides, form: Form) -> list[Array]:
    """The change of dq, dk and dv in a direction of query, key and value.

    It is symmetric: the product of another direction with the change in this one is that of this
    direction with the change in the other.
    """

    def block(rows: Rows) -> tuple[Sides, Sides]:
        Q, dq, dO = rows.of(heads[0], tangents[0], dout)
        P = rows.weights(Q)
        U, _ = _moved(P, rows.logits(dq, heads[1]) + rows.logits(Q, tangents[1]))
        dP, change = rows.products(dO, heads[2]), rows.products(dO, tangents[2])
        r = _row_sum(P * dP)
        dS = P * (dP - r)
        moved = U * (dP - r) + P * (change - _row_sum(U * dP + P * change))
        s = form.scale
        into_query = s * (rows.summed(moved, heads[1]) + rows.summed(dS, tangents[1]))
        into_key = s * (rows.gathered(moved, Q) + rows.gathered(dS, dq))
        return [into_query], [into_key, rows.gathered(U, dO)]

    return _by_blocks(block, heads, (dout, *tangents, *heads), form)


def _row_sum(x: Array) -> Array:
    return x.sum(axis=-1, keepdims=True)


def _moved(P: Array, T: Array) -> tuple[Array, Array]:
    """The change of the weights for a change T of the logits, and the mean of the latter."""
    t = _row_sum(P * T)
    return P * (T - t), t


class Rows:
    """A block of query rows: what of an array belongs to it, and its products with the keys.

    Heads of the query that share one of the key stand on an axis of their own, g.
    """

    def __init__(self, start: Array, count: int, key: Array, form: Form) -> None:
        self.start, self.count, self.key, self.form = start, count, key, form

    def of(self, *sides: Array) -> list[Array]:
        """The rows of arrays with a row for each query."""
        shared = self.key.shape[-2]

        def one(side: Array) -> Array:
            rows = jax.lax.dynamic_slice_in_dim(side, self.start, self.count, axis=-3)
            *lead, heads, width = rows.shape
            return rows.reshape(*lead, shared, heads // max(shared, 1), width)

        return list(map(one, sides))

    def products(self, rows: Array, keys: Array) -> Array:
        """One number for each row and key."""
        return jnp.einsum("...tkgh,...skh->...kgts", rows, keys)

    def logits(self, rows: Array, keys: Array) -> Array:
        """Products in the scale of the logits."""
        return self.form.scale * self.products(rows, keys)

    def weights(self, query: Array) -> Array:
        """P, the attention of the rows."""
        logits = self.logits(query, self.key)
        if self.form.is_causal:
            j = self.start + jnp.arange(self.count)[:, None]
            logits = jnp.where(jnp.arange(logits.shape[-1]) > j, -jnp.inf, logits)
        return jax.nn.softmax(logits, axis=-1)

    def summed(self, weights: Array, keys: Array) -> Array:
        """A sum over the keys for each row."""
        found = jnp.einsum("...kgts,...skh->...tkgh", weights, keys)
        *lead, shared, group, width = found.shape
        return found.reshape(*lead, shared * group, width)

    def gathered(self, weights: Array, rows: Array) -> Array:
        """A sum over the rows, and the heads that share a key, for each key."""
        return jnp.einsum("...kgts,...tkgh->...skh", weights, rows)


def _by_blocks(
    block: Callable[[Rows], tuple[Sides, Sides]], heads: Sides, operands: Sides, form: Form
) -> list[Array]:
    """What blocks have for their rows, one after another; then the sums of what they have for keys.

    The first block and the rest that is left over stand outside of the loop, whose sums begin with
    those of the first.
    """
    query, key = heads[:2]
    lead = jnp.broadcast_shapes(*(one.shape[:-3] for one in operands))
    length = query.shape[-3]
    row = math.prod(lead) * query.shape[-2] * key.shape[-3]
    count = min(length, max(1, BLOCK_ENTRIES // max(row, 1)))

    def at(start: Any, size: int) -> tuple[Sides, Sides]:
        return block(Rows(start, size, key, form))

    def step(sums: Sides, start: Array) -> tuple[Sides, Sides]:
        rows, more = at(start, count)
        return _added(sums, more), rows

    rows, sums = at(0, count)
    parts = [rows]
    whole, rest = divmod(length, count) if count else (1, 0)
    if whole > 1:
        sums, stacked = jax.lax.scan(step, sums, count * jnp.arange(1, whole))
        parts.append([_joined(one) for one in stacked])
    if rest:
        rows, more = at(length - rest, rest)
        parts.append(rows)
        sums = _added(sums, more)
    joined = [jnp.concatenate(one, axis=-3) for one in zip(*parts, strict=True)]
    return [jnp.broadcast_to(one, (*lead, *one.shape[-3:])) for one in (*joined, *sums)]


def _added(sums: Sides, more: Sides) -> Sides:
    return [one + other for one, other in zip(sums, more, strict=True)]


def _joined(stacked: Array) -> Array:
    """The rows of blocks, which stand on the first axis, one after another."""
    *lead, blocks, rows, heads, width = jnp.moveaxis(stacked, 0, -4).shape
    return jnp.moveaxis(stacked, 0, -4).reshape(*lead, blocks * rows, heads, width)
