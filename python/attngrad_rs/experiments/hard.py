"""The paper's hard family, and instances of orthogonal vectors hidden in attention."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .problems import Data, Matrix, generator

__all__ = ["BITS", "Gap", "gap", "hard", "orthogonal_vectors"]

# Bits of a vector of the hard family; one more column makes d = 16.
BITS = 15


def hard(n: int, reach: float, seed: int = 0) -> Data:
    """The hard family: values in {0, 1}, logits in [0, B], half of each row equal to B; E = 0.

    The first n/2 keys stand for vectors b of bits, with logit B (1 − ⟨a, b⟩/15) for a query a and
    the value (b, 1); all others have the logit B with every query, and the value 0. X = Y = I and
    d = 16.

    Parameters
    ----------
    n : int
        Rows; even.
    reach : float
        B, the largest logit. (For the entries of A1 and A2 it means √(16 B).)
    seed : int
        Which of the instances.
    """
    rng = generator("hard", n, seed)
    a, b = (rng.integers(0, 2, (rows, BITS)).astype(float) for rows in (n, n // 2))
    value = np.zeros((n, BITS + 1))
    value[: n // 2] = np.hstack([b, np.ones((n // 2, 1))])
    query, key = _embedded(a, b, n - n // 2, reach, BITS)
    return Data(query, key, value, np.zeros_like(value), 1.0 / (BITS + 1))


def orthogonal_vectors(a: Matrix, b: Matrix) -> Data:
    """Attention whose ‖output‖²_F tells whether some ⟨a_j, b_i⟩ = 0; eq. (12.22) of docs/math.md.

    n vectors of t bits on either side become n queries and 2n keys of 2t coordinates, entries up to
    √(2 ln n), s = 1: the logits of the first n keys are 2 ln n (t − ⟨a_j, b_i⟩), and all others are
    2 t ln n. Values are 1 for the first n keys and 0 for the others.

    Parameters
    ----------
    a, b : arrays (n, t)
        Of zeros and ones; n ≥ 2.
    """
    n, bits = a.shape
    size = np.sqrt(2.0 * np.log(n))
    ones = np.ones((n, bits))
    query = size * np.hstack([a, ones])
    key = size * np.vstack([np.hstack([-b, ones]), np.hstack([0.0 * b, ones])])
    value = np.repeat([[1.0], [0.0]], n, axis=0)
    return Data(query, key, value, np.zeros((n, 1)), 1.0)


class Gap(NamedTuple):
    """Attention that tells which queries have an orthogonal vector among the keys.

    ``planted`` (n,) says which have; ``product`` (n, n/2) holds all ⟨a, b⟩.
    """

    data: Data
    planted: Matrix
    product: Matrix


def gap(n: int, reach: float, bits: int, seed: int = 0) -> Gap:
    """Random vectors of bits; each of the first n/2 queries has its complement among the keys.

    Keys and their logits as in the hard family, with B (1 − ⟨a, b⟩/t) and t the largest product.
    Column 0 of the values is 1 for the keys that stand for vectors, and 0 for the others. With
    z_j = Σ_b e^(−B ⟨a_j, b⟩/t) the output there is o_j = z_j / (n/2 + z_j), and z_j ≥ 1 where there
    is an orthogonal vector.
    """
    rng = generator("gap", n, bits, seed)
    half = n // 2
    a = rng.integers(0, 2, (n, bits)).astype(float)
    b = 1.0 - a[:half]
    product = a @ b.T
    query, key = _embedded(a, b, n - half, reach, float(product.max()))
    value = np.zeros((n, 1))
    value[:half] = 1.0
    # By chance there may be a few more.
    planted = np.any(product == 0.0, axis=1).astype(float)
    data = Data(query, key, value, np.zeros_like(value), 1.0 / (bits + 1))
    return Gap(data, planted, product)


def _embedded(
    a: Matrix, b: Matrix, padding: int, reach: float, largest: float
) -> tuple[Matrix, Matrix]:
    """Queries (a, 1) and keys (−b/largest, 1), both times √(B d): logits B (1 − ⟨a, b⟩/largest)."""
    size = np.sqrt(reach * (a.shape[1] + 1))
    query = np.hstack([a, np.ones((len(a), 1))])
    key = np.hstack([-b / largest, np.ones((len(b), 1))])
    always = np.zeros((padding, a.shape[1] + 1))
    always[:, -1] = 1.0
    return size * query, size * np.vstack([key, always])
