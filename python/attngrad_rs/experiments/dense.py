"""The dense formulas, n × m in memory, with any matrix in the place of exp(S)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .problems import Data, Matrix

__all__ = [
    "Gradient", "attention", "epsilon_ranks", "exponential", "from_attention", "gradient",
    "relative_error", "steps",
]  # fmt: skip


class Gradient(NamedTuple):
    """Output o (n, dv), and dL/dX (d, d)."""

    output: Matrix
    by_X: Matrix


class Steps(NamedTuple):
    """f, q, p1 and p2 (n, m), and c (n, dv): the paper's quantities on the way to the gradient."""

    f: Matrix
    c: Matrix
    q: Matrix
    p1: Matrix
    p2: Matrix


def exponential(data: Data) -> Matrix:
    """exp(S) up to a factor for each row, which attention does not see. (n, m)."""
    return np.asarray(np.exp(data.logits - data.logits.max(axis=1, keepdims=True)))


def attention(weights: Matrix) -> Matrix:
    """f: rows of the weights by their sums, eq. (1.4). Rows that do not sum to > 0 are NaN."""
    sums = weights.sum(axis=1, keepdims=True)
    return np.asarray(weights / np.where(sums > 0.0, sums, np.nan))


def gradient(weights: Matrix, data: Data) -> Gradient:
    """Output and gradient with ``weights`` for exp(S), eq. (1.4) - (2.5)."""
    return from_attention(attention(weights), data)


def from_attention(f: Matrix, data: Data) -> Gradient:
    """Output and gradient of attention rows f."""
    output = f @ data.value
    c = output - data.target
    r = np.sum(c * output, axis=1, keepdims=True)
    p = f * (c @ data.value.T - r)
    return Gradient(output, data.scale * data.query.T @ (p @ data.centred_key))


def steps(f: Matrix, data: Data) -> Steps:
    """The paper's quantities of attention rows f, eq. (1.6), (2.1), (2.2)."""
    c = f @ data.value - data.target
    q = c @ data.value.T
    p1 = f * q
    return Steps(f, c, q, p1, f * p1.sum(axis=1, keepdims=True))


def relative_error(got: Matrix, want: Matrix) -> float:
    """‖got − want‖_F / ‖want‖_F; infinite where it is not a number."""
    error = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    return error if np.isfinite(error) else float("inf")


def epsilon_ranks(matrix: Matrix, tolerances: Sequence[float]) -> list[int]:
    """For each ε the smallest rank within ε of the matrix, relative, in the Frobenius norm.

    From the eigenvalues of the Gram matrix: singular values are right to 1e-8 of the largest, and
    ε has to stay well above that.
    """
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    squares = np.maximum(np.linalg.eigvalsh(small @ small.T), 0.0)
    # What is left out by keeping all but the first k of the rising eigenvalues.
    left_out = np.concatenate([[0.0], np.cumsum(squares)])
    total = left_out[-1]
    return [
        len(squares) - int(np.searchsorted(left_out[1:], eps * eps * total, side="right"))
        for eps in tolerances
    ]
