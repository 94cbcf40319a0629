"""Coordinates in which queries and keys are centred and equally large, eq. (100) - (102)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import arrays
from ..arrays import Array
from ..errors import RangeError

__all__ = ["Balance", "balance"]

Matrix = npt.NDArray[np.float64]

# Smallest eigenvalue of a covariance, by its mean one. The maps stay invertible where data has no
# variance; no rounding of float32 data, (6e-8)^2 of it, is blown up to the size of the data.
REGULARISATION = 1e-10


@dataclass(frozen=True, eq=False)
class Balance:
    """A change of coordinates with sign(s) ⟨q', k'⟩ = s ⟨q - a, k - b⟩.

    Attributes
    ----------
    scale : float
        s.
    query_mean, key_mean : (d,) arrays
        a and b.
    query_map, key_map : (d, d) arrays
        q' = (q - a) query_map, k' = (k - b) key_map; query_map key_mapᵀ = |s| I.
    spectrum : (d,) array
        Second moments of the new coordinates, the same for queries and keys, falling. The variance
        of the logits is the sum of their squares.
    """

    scale: float
    query_mean: Matrix
    key_mean: Matrix
    query_map: Matrix
    key_map: Matrix
    spectrum: Matrix

    @property
    def sign(self) -> float:
        """The sign of s, which the coordinates lack."""
        return -1.0 if self.scale < 0.0 else 1.0

    def queries(self, query: Array) -> Array:
        """q' of the rows of ``query``, (n, d), in their dtype."""
        return _mapped(query, self.query_mean, self.query_map, "query")

    def keys(self, key: Array) -> Array:
        """k' of the rows of ``key``, (m, d), in their dtype."""
        return _mapped(key, self.key_mean, self.key_map, "key")

    def query_factors(self, query: Array) -> Array:
        """e^{s⟨q, b⟩}, (n,): what centring the keys took from a row of exp(s q kᵀ); eq. (100)."""
        return _exponential(query, query @ (self.scale * self.key_mean), "query")

    def key_factors(self, key: Array) -> Array:
        """e^{s⟨a, k - b⟩}, (m,): what centring the queries took from a column; eq. (100)."""
        return _exponential(key, self.key_exponents(key), "key")

    def key_exponents(self, key: Array) -> Matrix:
        """s⟨a, k - b⟩, (m,), in float64: these logits are the same for all queries."""
        direction = self.scale * self.query_mean
        return np.asarray(key @ direction - direction @ self.key_mean)

    def query_gradient(self, gradient: Array) -> Array:
        """A gradient by q' as one by q, eq. (102). (n, d) -> (n, d)."""
        return np.asarray(gradient @ self.query_map.T.astype(gradient.dtype))

    def key_gradient(self, gradient: Array) -> Array:
        """A gradient by k' as one by k, eq. (102). (m, d) -> (m, d)."""
        return np.asarray(gradient @ self.key_map.T.astype(gradient.dtype))

    def logit_bound(self, query: Array, key: Array) -> float:
        """A bound of |s⟨q - a, k - b⟩| by Cauchy and Schwarz, in the better coordinates."""
        new = _largest_row(self.queries(query)) * _largest_row(self.keys(key))
        old = _largest_row(query - self.query_mean) * _largest_row(key - self.key_mean)
        return min(new, abs(self.scale) * old)


def balance(query: Array, key: Array, scale: float, *, center_query: bool) -> Balance:
    """The coordinates of the data.

    Parameters
    ----------
    query, key : (n, d), (m, d) arrays
        Finite; without rows there is nothing to balance, and the maps are multiples of I.
    scale : float
        s.
    center_query : bool
        Whether a is the mean of the queries, which gives keys the factor of ``key_factors``, or 0.

    Raises
    ------
    RangeError
        If the logits leave the range of float64.

    Notes
    -----
    Cost O((n + m) d²) in float64, one copy of the data; d³ for the maps.
    """
    width = query.shape[1]
    query_size, key_size = (arrays.norm(array, "max") or 1.0 for array in (query, key))
    # Unit sizes: no square of an entry leaves the range.
    q, k = query / np.float64(query_size), key / np.float64(key_size)
    query_mean = _mean(q) if center_query else np.zeros(width)
    key_mean = _mean(k)
    moments = _second_moment(q - query_mean), _second_moment(k - key_mean)
    (left, left_inverse), (right, right_inverse) = map(_root, moments)
    u, singular, v_transposed = np.linalg.svd(left.T @ right)
    root = np.sqrt(singular)
    # In this order no product overflows unless the logits do.
    half = math.sqrt(abs(scale)) if scale else 1.0
    between = math.sqrt(key_size) / math.sqrt(query_size)
    with np.errstate(over="ignore", invalid="ignore"):
        spectrum = singular * half * query_size * half * key_size
        query_map = left_inverse @ u * root * (half * between)
        key_map = right_inverse @ v_transposed.T * root * (half / between)
    if not all(np.all(np.isfinite(part)) for part in (spectrum, query_map, key_map)):
        raise RangeError(
            "query: found logits that leave the range of float64; scale query, key or scale down"
        )
    if not scale:
        query_map, key_map = 0.0 * query_map, 0.0 * key_map
    if not (scale and all(moment.any() for moment in moments)):
        # All logits vanish, whatever the identity above stands for.
        spectrum = 0.0 * spectrum
    return Balance(
        scale, query_mean * query_size, key_mean * key_size, query_map, key_map, spectrum
    )


def _mean(rows: Array) -> Matrix:
    if not len(rows):
        return np.zeros(rows.shape[1])
    return np.asarray(np.mean(rows, axis=0, dtype=np.float64))


def _second_moment(rows: Matrix) -> Matrix:
    return np.asarray(rows.T @ rows / max(len(rows), 1))


def _root(moment: Matrix) -> tuple[Matrix, Matrix]:
    """F with F Fᵀ = moment, regularised, and F⁻ᵀ; the identity where there is no variance."""
    values, vectors = np.linalg.eigh(moment)
    mean = float(np.mean(values)) if len(values) else 0.0
    if mean <= 0.0:
        return np.eye(len(values)), np.eye(len(values))
    # Rounding leaves eigenvalues below zero where there are none.
    root = np.sqrt(np.maximum(values, 0.0) + REGULARISATION * mean)
    return vectors * root, vectors / root


def _mapped(rows: Array, mean: Matrix, change: Matrix, name: str) -> Array:
    dtype = rows.dtype
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.asarray((rows - mean.astype(dtype)) @ change.astype(dtype))
    if not np.all(np.isfinite(result)):
        raise RangeError(
            f"{name}: found numbers whose logits leave the range of {dtype}; "
            "scale the inputs or scale down, or use float64"
        )
    return result


def _exponential(rows: Array, exponents: Matrix, name: str) -> Array:
    """exp(exponents) in the dtype of the rows they belong to; the exponents are in float64."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        factors = np.exp(exponents).astype(rows.dtype)
    if not np.all(np.isfinite(factors)):
        raise RangeError(
            f"{name}: found logits up to {np.max(exponents):.3g}, whose exponential leaves the "
            f"range of {rows.dtype}; scale them down, or subtract the mean of the keys"
        )
    return factors


def _largest_row(rows: Array) -> float:
    size = arrays.norm(np.ascontiguousarray(rows), "max")
    if size == 0.0 or not math.isfinite(size):
        return size
    return size * float(np.sqrt(np.max(np.sum(np.square(rows / np.float64(size)), axis=1))))
