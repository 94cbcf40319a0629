"""Logits of sampled pairs of a query and a key, and the error of P on them, eq. (106)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..arrays import Array
from .transform import Balance

__all__ = ["SAMPLED", "Sample", "sample_pairs"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Rows of each side in a sample: 65536 pairs place a root mean square within a few per cent.
SAMPLED = 256
# Rows of largest norm, and keys that all queries attend to most, that are always in it: a few
# outliers can carry all of the error.
EXTREMES = 16


@dataclass(frozen=True, eq=False)
class Sample:
    """Centred logits of some queries by some keys.

    Attributes
    ----------
    queries, keys : (r,), (c,) int arrays
        Which rows were drawn, rising.
    query_weights, key_weights : (r,), (c,) arrays
        How many rows each drawn one stands for.
    key_exponents : (c,) array
        s⟨a, k - b⟩, which the logits lack and the attention has.
    logits : (r, c) array
        s⟨q - a, k - b⟩ in float64.
    complete : bool
        Whether all pairs are in it, so that its figures are those of the data.
    """

    queries: Indices
    keys: Indices
    query_weights: Floats
    key_weights: Floats
    key_exponents: Floats
    logits: Floats
    complete: bool

    @cached_property
    def attention(self) -> Floats:
        """Attention rows over the keys that each drawn one stands for; rows sum to 1. (r, c)."""
        if not self.logits.size:
            return np.zeros(self.logits.shape)
        logits = self.logits + self.key_exponents
        weights = self.key_weights * np.exp(logits - np.max(logits, axis=1, keepdims=True))
        return np.asarray(weights / np.sum(weights, axis=1, keepdims=True))

    @cached_property
    def pair_weights(self) -> Floats:
        """How much each pair counts in eq. (106): attention by queries, with sum 1. (r, c)."""
        shares = self.query_weights / max(float(np.sum(self.query_weights)), 1.0)
        return np.asarray(shares[:, None] * self.attention)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest logit; (0, 0) without any."""
        if not self.logits.size:
            return 0.0, 0.0
        return float(np.min(self.logits)), float(np.max(self.logits))

    @property
    def spread(self) -> float:
        """Standard deviation of the logits of all pairs."""
        weights = self.query_weights[:, None] * self.key_weights
        total = float(np.sum(weights))
        if total == 0.0:
            return 0.0
        mean = float(np.sum(weights * self.logits)) / total
        return math.sqrt(float(np.sum(weights * np.square(self.logits - mean))) / total)

    def error(self, approximation: Array) -> float:
        """Root mean square relative error of eq. (106) of values that stand for exp(logits).

        Infinite where it is not a number: what overflows is not near.
        """
        if not self.logits.size:
            return 0.0
        with np.errstate(all="ignore"):
            relative = np.asarray(approximation, dtype=np.float64) / np.exp(self.logits) - 1.0
            mean = float(np.sum(self.pair_weights * np.square(relative)))
        return math.sqrt(mean) if math.isfinite(mean) else math.inf


def sample_pairs(
    change: Balance,
    query: Array,
    key: Array,
    random: np.random.Generator,
    count: int = SAMPLED,
) -> Sample:
    """Draw ``count`` queries and keys (all, where there are no more) and take their logits.

    Parameters
    ----------
    change : Balance
        The coordinates of the data.
    query, key : (n, d), (m, d) arrays
        The data.

    Notes
    -----
    Cost O((n + m) d²) for the coordinates and count² d for the logits.
    """
    queries, keys = change.queries(query), change.keys(key)
    exponents = change.key_exponents(key)
    rows, row_weights = _draw([_norms(queries)], random, count)
    columns, column_weights = _draw([_norms(keys), exponents], random, count)
    left, right = queries[rows].astype(np.float64), keys[columns].astype(np.float64)
    complete = len(queries) <= count and len(keys) <= count
    logits = np.asarray(change.sign * (left @ right.T))
    return Sample(rows, columns, row_weights, column_weights, exponents[columns], logits, complete)


def _norms(rows: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def _draw(scores: list[Array], random: np.random.Generator, count: int) -> tuple[Indices, Floats]:
    """The rows of largest scores, and others at random that stand for all the rest."""
    total = len(scores[0])
    if total <= count:
        return np.arange(total, dtype=np.intp), np.ones(total)
    # Stable sorts: rows of equal score are taken in their order, whatever the machine.
    largest = [np.argsort(score, kind="stable")[-EXTREMES:] for score in scores]
    extremes = np.unique(np.concatenate(largest))
    rest = np.setdiff1d(np.arange(total), extremes, assume_unique=True)
    drawn = random.choice(rest, count - len(extremes), replace=False)
    weights = np.ones(count)
    weights[: len(drawn)] = len(rest) / len(drawn)
    chosen = np.concatenate([drawn, extremes]).astype(np.intp)
    ordered = np.argsort(chosen)
    return chosen[ordered], weights[ordered]
