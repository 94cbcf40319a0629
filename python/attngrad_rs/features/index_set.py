"""Downward-closed sets of multi-indices: which monomials are features, eq. (103) - (105).

A set holds with β every β' ≤ β. Each β but the first is its parent plus one unit vector, where the
unit is on the last axis that β uses: so every member has one parent, and one multiplication makes
its monomial.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import Array

__all__ = ["IndexSet", "anisotropic", "feature_count", "total_degree"]

Indices = npt.NDArray[np.intp]

# Halvings of the bracket of a threshold: to 2^-30 of it, far finer than the law behind it.
BISECTIONS = 30


@dataclass(frozen=True, eq=False)
class IndexSet:
    """N multi-indices of ``dimension`` axes, ordered by grade, within a grade by last axis.

    Attributes
    ----------
    dimension : int
        Number of axes, d.
    parents : (N,) int array
        Row of β - e_axis; 0 for the first, which is β = 0 and has none.
    axes : (N,) int array
        The last axis that β uses; 0 for β = 0.
    grades : (N,) int array
        |β|.
    """

    dimension: int
    parents: Indices
    axes: Indices
    grades: Indices

    @property
    def size(self) -> int:
        """The number of members, N."""
        return len(self.parents)

    @property
    def degree(self) -> int:
        """The largest grade."""
        return int(self.grades[-1])

    @cached_property
    def exponents(self) -> Indices:
        """The multi-indices themselves, (N, d); cost N d time and memory."""
        exponents = np.zeros((self.size, self.dimension), dtype=np.intp)
        for start, stop in self.blocks():
            exponents[start:stop] = exponents[self.parents[start:stop]]
            exponents[start:stop, self.axes[start]] += 1
        return exponents

    @cached_property
    def multinomials(self) -> npt.NDArray[np.float64]:
        """|β|! / β!, computed in integers and rounded once, (N,); eq. (103)."""
        exact = np.ones(self.size, dtype=object)
        powers = np.zeros(self.size, dtype=object)
        for start, stop in self.blocks():
            parents, axis, grade = (
                self.parents[start:stop],
                self.axes[start],
                int(self.grades[start]),
            )
            # The exponent of the last axis: one more than that of a parent that ends there too.
            powers[start:stop] = np.where(self.axes[parents] == axis, powers[parents], 0) + 1
            # The division leaves no rest.
            exact[start:stop] = exact[parents] * grade // powers[start:stop]
        return exact.astype(np.float64)

    def blocks(self) -> list[tuple[int, int]]:
        """Runs [start, stop) of one grade and one last axis, without β = 0; parents come before."""
        changes = (np.diff(self.grades) != 0) | (np.diff(self.axes) != 0)
        # β = 0 and the first unit vector share axis 0 but not the grade.
        starts = [*(np.flatnonzero(changes) + 1).tolist(), self.size]
        return list(itertools.pairwise(starts))


def feature_count(dimension: int, degree: int) -> int:
    """C(dimension + degree, degree), the size of ``total_degree``; an exact Python integer."""
    return math.comb(dimension + degree, degree)


def total_degree(dimension: int, degree: int) -> IndexSet:
    """All β with |β| ≤ degree: ``feature_count(dimension, degree)`` of them, eq. (104)."""
    flat = np.zeros((dimension, degree + 1))
    # Nothing is smaller than minus infinity, so that nothing is left out.
    grown = _grow(flat, -math.inf, feature_count(dimension, degree))
    assert grown is not None
    return grown


def anisotropic(spectrum: Array, degree: int, max_features: int) -> IndexSet:
    """The β of |β| ≤ degree that are predicted to contribute most, at most ``max_features``.

    Parameters
    ----------
    spectrum : (d,) array
        Second moments of the balanced coordinates, eq. (101).
    degree, max_features : int
        The caps; max_features ≥ 1.

    Notes
    -----
    A level set of eq. (105), so directions of equal variance are treated alike and the set is
    downward closed; where a level does not fit, it is left out whole. Cost about 40 · N · d.
    """
    if feature_count(len(spectrum), degree) <= max_features:
        return total_degree(len(spectrum), degree)
    table = _contributions(spectrum, degree)
    while (best := _grow(table, 0.0, max_features)) is None:
        # Contributions that do not fall with the power, as at large logits: fewer powers, then.
        table = table[:, :-1]
    low, high = -1.0, 0.0
    while (grown := _grow(table, low, max_features)) is not None:
        if grown.size == feature_count(len(spectrum), table.shape[1] - 1):
            return grown
        best, low, high = grown, 2.0 * low, low
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        grown = _grow(table, middle, max_features)
        if grown is None:
            low = middle
        else:
            best, high = grown, middle
    return best


def _contributions(spectrum: Array, degree: int) -> npt.NDArray[np.float64]:
    """Logarithms of eq. (105), (d, degree + 1): never rising along a row, which begins with 0."""
    powers = np.arange(degree + 1)
    # log of (2b - 1)!! / b!, the root mean square of a Gaussian's b-th power on both sides.
    moments = np.array([math.lgamma(2 * b + 1) - 2 * math.lgamma(b + 1) for b in powers])
    moments -= powers * math.log(2.0)
    tiny = np.finfo(np.float64).tiny
    logs = np.log(np.maximum(np.asarray(spectrum, dtype=np.float64), tiny))
    table = logs[:, None] * powers + moments
    # What a larger power contributes needs the smaller one too: the envelope from above.
    envelope = np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(envelope - envelope[:, :1])


class _Front(NamedTuple):
    """The members of one grade while the next is made from them, sorted by last axis."""

    rows: Indices
    axes: Indices
    powers: Indices
    values: npt.NDArray[np.float64]


def _grow(table: npt.NDArray[np.float64], floor: float, most: int) -> IndexSet | None:
    """All β whose Σ_i table[i, β_i] ≥ floor, grade by grade; None if they are more than ``most``.

    Rows of the table must not rise, so that no member has a parent outside of the set.
    """
    dimension, powers = table.shape
    zero = np.zeros(1, dtype=np.intp)
    front = _Front(zero, zero - 1, zero, np.zeros(1))
    parents, axes, grades = [zero], [zero], [zero]
    size = 1
    for grade in range(1, powers):
        parts = [_successors(front, axis, table[axis], floor) for axis in range(dimension)]
        if not parts:
            break
        new = _Front(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        count = len(new.rows)
        if count == 0:
            break
        if size + count > most:
            return None
        parents.append(new.rows)
        axes.append(new.axes)
        grades.append(np.full(count, grade, dtype=np.intp))
        front = new._replace(rows=np.arange(size, size + count, dtype=np.intp))
        size += count
    return IndexSet(dimension, *(np.concatenate(column) for column in (parents, axes, grades)))


def _successors(
    front: _Front, axis: int, row: npt.NDArray[np.float64], floor: float
) -> tuple[Indices, Indices, Indices, npt.NDArray[np.float64]]:
    """β + e_axis for the β of a front that use no later axis: parents, axes, powers, values."""
    stop = int(np.searchsorted(front.axes, axis, side="right"))
    powers = np.where(front.axes[:stop] == axis, front.powers[:stop], 0)
    values = front.values[:stop] + (row[powers + 1] - row[powers])
    kept = np.flatnonzero(values >= floor)
    return (
        front.rows[kept],
        np.full(len(kept), axis, dtype=np.intp),
        powers[kept] + 1,
        values[kept],
    )
