"""Monomials of given coordinates, and the scaled ones whose inner products are P, eq. (104)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import Array
from .index_set import IndexSet

__all__ = ["feature_bytes", "feature_weights", "monomials"]


def feature_bytes(rows: int, features: int, itemsize: int) -> int:
    """Bytes of one feature matrix; an exact Python integer."""
    return rows * features * itemsize


def monomials(coordinates: Array, index: IndexSet) -> Array:
    """x^β for the rows x of ``coordinates`` and all β of the set.

    Parameters
    ----------
    coordinates : (n, d) array
        Of any float dtype, which is that of the result.
    index : IndexSet
        N multi-indices of d axes.

    Returns
    -------
    ndarray, (n, N)
        Column by column in memory (Fortran order), as it is made: each column is its parent's times
        one coordinate. Cost n N multiplications, no memory beside the result.
    """
    columns = np.empty((index.size, len(coordinates)), dtype=coordinates.dtype)
    columns[0] = 1.0
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for start, stop in index.blocks():
            block = columns[start:stop]
            # mode="clip" writes into the block itself; every parent is a row that exists.
            np.take(columns, index.parents[start:stop], axis=0, out=block, mode="clip")
            block *= coordinates[:, index.axes[start]]
    return columns.T


def feature_weights(
    coefficients: Array, index: IndexSet, sign: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What the monomials of queries and of keys are multiplied by, (N,) each; eq. (104).

    ``coefficients`` are P_0 ... P_g; ``sign`` is that of the scale, which the coordinates lack.
    Both sides take the root of P_|β| · multinomial(β), the query side its sign.
    """
    graded = np.asarray(coefficients, dtype=np.float64)[index.grades]
    roots = np.sqrt(np.abs(graded) * index.multinomials)
    signs = np.sign(graded) * np.where(index.grades % 2 == 1, sign, 1.0)
    return signs * roots, roots
