"""Derivatives that the core does not have: second ones, and those in a direction.

Made of operations that torch differentiates, so that derivatives of every order exist. One block of
query rows is taken after another: the logits of a block are all that is quadratic, unless a further
derivative is to be taken, for which torch keeps those of all blocks. Key, value and their
directions are repeated for the heads of the query that share them. docs/math.md, section 6, has the
first derivatives by the same letters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Logits of a block of rows, over all heads: 32 MiB in float64, some ten times that at once.
BLOCK_ENTRIES = 1 << 22


class Heads(NamedTuple):
    """Query, key, value and the options of a call."""

    query: Tensor
    key: Tensor
    value: Tensor
    is_causal: bool
    scale: float | None
    enable_gqa: bool

    @property
    def group(self) -> int:
        """How many heads of the query share one of the key."""
        return self.query.shape[-3] // max(self.key.shape[-3], 1) if self.enable_gqa else 1

    @property
    def factor(self) -> float:
        """The factor of the logits."""
        width = max(self.query.shape[-1], 1)
        return 1.0 / math.sqrt(width) if self.scale is None else self.scale

    def shared(self, side: Tensor) -> Tensor:
        """A key side with a head for each head of the query."""
        return side.repeat_interleave(self.group, dim=-3) if self.group > 1 else side

    def folded(self, side: Tensor) -> Tensor:
        """Sums over the heads of the query that share one of the key."""
        return side.unflatten(-3, (-1, self.group)).sum(dim=-3) if self.group > 1 else side

    def blocks(self) -> Iterator[slice]:
        """The rows of the query in parts; one that is empty where there are none."""
        rows, seen = self.query.shape[-2], self.key.shape[-2]
        step = max(1, BLOCK_ENTRIES // max(1, math.prod(self.query.shape[:-2]) * seen))
        for start in range(0, max(rows, 1), step):
            yield slice(start, start + step)

    def weights(self, rows: slice, query: Tensor, key: Tensor) -> Tensor:
        """P, the attention of the rows of a block."""
        logits = self.factor * (query @ key.mT)
        if self.is_causal:
            j = torch.arange(rows.start, rows.start + query.shape[-2])[:, None]
            logits = logits.masked_fill(torch.arange(key.shape[-2]) > j, -math.inf)
        return torch.softmax(logits, dim=-1)


def _row_sum(x: Tensor) -> Tensor:
    return x.sum(dim=-1, keepdim=True)


def pull_back_vjp(
    directions: tuple[Tensor, ...], dout: Tensor, heads: Heads
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ⟨ddq, dq⟩ + ⟨ddk, dk⟩ + ⟨ddv, dv⟩ with respect to dout, query, key and value.

    The directions are ddq, ddk and ddv. ``output`` and ``lse`` count as functions of the inputs.
    """
    key, value, ddk, ddv = map(heads.shared, (heads.key, heads.value, *directions[1:]))
    s = heads.factor
    into_dout, into_query = [], []
    into_key, into_value = torch.zeros_like(key), torch.zeros_like(value)
    for rows in heads.blocks():
        dq, dO, Q = (side[..., rows, :] for side in (directions[0], dout, heads.query))
        P = heads.weights(rows, Q, key)
        # The change of the logits in the direction (ddq, ddk), and that of P.
        T = s * (dq @ key.mT + Q @ ddk.mT)
        t = _row_sum(P * T)
        U = P * (T - t)
        dP = dO @ value.mT
        r = _row_sum(P * dP)
        dS = P * (dP - r)
        into_dout.append(U @ value + P @ ddv)
        into_value = into_value + U.mT @ dO
        # The slope of it all with respect to P, and through it to the logits.
        W = T * (dP - r) - t * dP + dO @ ddv.mT
        slope = P * (W - _row_sum(P * W))
        into_query.append(s * (slope @ key + dS @ ddk))
        into_key = into_key + s * (slope.mT @ Q + dS.mT @ dq)
    by_rows = (torch.cat(parts, dim=-2) for parts in (into_dout, into_query))
    return (*by_rows, heads.folded(into_key), heads.folded(into_value))


def push_forward(tangents: tuple[Tensor, ...], heads: Heads) -> tuple[Tensor, Tensor]:
    """The change of output and lse in a direction of query, key and value."""
    key, value, dk, dv = map(heads.shared, (heads.key, heads.value, *tangents[1:]))
    outputs, logarithms = [], []
    for rows in heads.blocks():
        dq, Q = tangents[0][..., rows, :], heads.query[..., rows, :]
        P = heads.weights(rows, Q, key)
        T = heads.factor * (dq @ key.mT + Q @ dk.mT)
        t = _row_sum(P * T)
        outputs.append((P * (T - t)) @ value + P @ dv)
        logarithms.append(t.squeeze(-1))
    return torch.cat(outputs, dim=-2), torch.cat(logarithms, dim=-1)


def push_forward_vjp(
    tangents: tuple[Tensor, ...], dout: Tensor, heads: Heads
) -> tuple[Tensor, Tensor, Tensor]:
    """The change of dq, dk and dv in a direction of dout, query, key and value."""
    key, value, tk, tv = map(heads.shared, (heads.key, heads.value, *tangents[2:]))
    s = heads.factor
    into_query: list[Tensor] = []
    into_key, into_value = torch.zeros_like(key), torch.zeros_like(value)
    for rows in heads.blocks():
        tO, tq = (side[..., rows, :] for side in tangents[:2])
        dO, Q = dout[..., rows, :], heads.query[..., rows, :]
        P = heads.weights(rows, Q, key)
        T = s * (tq @ key.mT + Q @ tk.mT)
        U = P * (T - _row_sum(P * T))
        dP, change = dO @ value.mT, tO @ value.mT + dO @ tv.mT
        r = _row_sum(P * dP)
        dS = P * (dP - r)
        moved = U * (dP - r) + P * (change - _row_sum(U * dP + P * change))
        into_query.append(s * (moved @ key + dS @ tk))
        into_key = into_key + s * (moved.mT @ Q + dS.mT @ tq)
        into_value = into_value + U.mT @ dO + P.mT @ tO
    return torch.cat(into_query, dim=-2), heads.folded(into_key), heads.folded(into_value)
