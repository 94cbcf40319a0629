"""The near-linear gradient in the moment form, (8.4) to (8.9), as a text that any numbers can run.

Numbers that count what is done with them say what the algorithm costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from .problem import Problem
from .softmax import Array

__all__ = ["MomentGradient", "moment_gradient"]

# A monomial as the nondecreasing sequence of its coordinates; its parent lacks the last of them.
Monomial: TypeAlias = tuple[int, ...]


class MomentGradient(NamedTuple):
    """Output õ (n, dv), dL/dX (d1, d2), and N_(g+1), the features of one side."""

    output: Array
    by_X: Array
    features: int


def moment_gradient(problem: Problem, powers: Sequence[float]) -> MomentGradient:
    """dL/dX with P(t) = Σ_a P_a t^a for the exponential of the logits of centred keys.

    Parameters
    ----------
    problem : Problem
        X one matrix, and no mask.
    powers : sequence
        P_0, ..., P_g: nonzero.

    Notes
    -----
    ``upper_bound.operations`` bounds the operations, O(n N_(g+1) dv). No n × m matrix is formed.
    """
    degree = len(powers) - 1
    tree = _monomials(problem.A2.shape[1], degree + 1)
    low = sum(len(monomial) <= degree for monomial in tree)
    query = problem.scale * (problem.A1 @ problem.matrix_X)
    key = problem.A2 - np.sum(problem.A2, axis=0) / len(problem.A2)
    # Columns of values, and one for the normaliser; (8.4).
    of_key, of_query = _values(key, tree), _values(query, tree[:low])
    moments = of_key.T @ np.hstack([problem.h, np.ones((len(key), 1))])
    sums = of_query @ (_coefficients(powers, tree[:low])[:, None] * moments[:low])
    normaliser = sums[:, -1:]
    output = sums[:, :-1] / normaliser
    c = output - problem.E
    r = np.sum(c * output, axis=1, keepdims=True)
    payload = np.hstack([c, -r]) / normaliser
    # (8.7): gradients of polynomials of the query, from the leaves of the tree to its root (8.9).
    leaves = payload @ (_slopes(powers, tree)[:, None] * moments).T
    w = _pulled_down(leaves, query, of_query, tree)
    return MomentGradient(output, problem.scale * (problem.A1.T @ w), len(tree))


def _monomials(width: int, degree: int) -> list[Monomial]:
    """All up to a degree, lower degrees first."""
    grades: list[list[Monomial]] = [[()]]
    for _ in range(degree):
        last = grades[-1]
        grades.append([(*m, c) for m in last for c in range(m[-1] if m else 0, width)])
    return [monomial for grade in grades for monomial in grade]


def _values(rows: Array, tree: Sequence[Monomial]) -> Array:
    """Every monomial of every row: that of the parent times one coordinate. (n, N)."""
    values = np.ones((len(rows), len(tree)), dtype=rows.dtype)
    for number, (parent, coordinate) in enumerate(_steps(tree), 1):
        values[:, number] = values[:, parent] * rows[:, coordinate]
    return values


def _steps(tree: Sequence[Monomial]) -> list[tuple[int, int]]:
    """Of each monomial but the root: the place of its parent, and the coordinate it adds."""
    place = {monomial: number for number, monomial in enumerate(tree)}
    return [(place[monomial[:-1]], monomial[-1]) for monomial in tree[1:]]


def _ways(monomial: Monomial) -> int:
    """|β|! / β!, in how many orders its coordinates can be multiplied."""
    counts = (monomial.count(c) for c in set(monomial))
    return math.factorial(len(monomial)) // math.prod(math.factorial(count) for count in counts)


def _coefficients(powers: Sequence[float], tree: Sequence[Monomial]) -> Array:
    """coef_β of (8.3)."""
    return np.array([powers[len(monomial)] * _ways(monomial) for monomial in tree])


def _slopes(powers: Sequence[float], tree: Sequence[Monomial]) -> Array:
    """D_β of (8.7), which is 0 at the root."""
    grades = ((len(monomial), _ways(monomial)) for monomial in tree)
    return np.array([powers[g - 1] * ways / g if g else 0.0 for g, ways in grades])


def _pulled_down(leaves: Array, query: Array, of_query: Array, tree: Sequence[Monomial]) -> Array:
    """The gradient of Σ_β y_β x^β at every query, (8.9): w. Shape (n, d)."""
    w = np.zeros_like(query)
    for number, (parent, coordinate) in reversed(list(enumerate(_steps(tree), 1))):
        leaves[:, parent] += leaves[:, number] * query[:, coordinate]
        w[:, coordinate] += leaves[:, number] * of_query[:, parent]
    return w
