"""All random problems of the experiments, from one place and seeded.

==============  ===================================================================================
family          entries of queries and keys, before they are scaled
==============  ===================================================================================
uniform         uniform on [-1, 1]
signs           -1 or 1
gaussian        normal
student_t       Student's t with three degrees of freedom: no fourth moment
outliers        normal; one in a thousand is thirty times as large
magnitudes      of random sign, their size spread evenly over three orders of magnitude
clustered       eight centres, normal, and a tenth of that around them
low_rank        rank two, and a twentieth of noise
heads           those of a trained head that comes with the package
==============  ===================================================================================
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..heads import Head, load_heads

__all__ = ["FAMILIES", "HEADS", "Data", "Matrix", "generator", "make", "scaled_to", "trained_head"]

Matrix = npt.NDArray[np.float64]
# What every seed of a point is mixed with.
SEED = 20_261_125
TAIL_FREEDOM = 3.0
OUTLIER_SHARE, OUTLIER_SIZE = 1e-3, 30.0
DECADES = 3.0
CENTRES, CLUSTER_SPREAD = 8, 0.1
RANK, RANK_NOISE = 2, 0.05
HEADS = "heads"


@dataclass(frozen=True, eq=False)
class Data:
    """One problem in float64, with X = I and Y = I: the entries of A1 X, A2 and A3 Y are these.

    Attributes
    ----------
    query, key, value, target : (n, d), (m, d), (m, dv), (n, dv) arrays
        A1, A2, A3 and E.
    scale : float
        s.
    """

    query: Matrix
    key: Matrix
    value: Matrix
    target: Matrix
    scale: float

    @cached_property
    def centred_key(self) -> Matrix:
        """Keys without their mean, which changes no attention row and no gradient by X."""
        return np.asarray(self.key - self.key.mean(axis=0))

    @cached_property
    def logits(self) -> Matrix:
        """S = s A1 A2ᵀ of centred keys, (n, m)."""
        return np.asarray(self.scale * self.query @ self.centred_key.T)

    @property
    def bound(self) -> float:
        """B: the largest entry of queries and keys."""
        return float(max(np.max(np.abs(self.query)), np.max(np.abs(self.key))))

    def arguments(self, dtype: Any = np.float64) -> dict[str, Any]:
        """The arguments of ``loss_gradient``, in a dtype."""
        arrays = {
            "A1": self.query,
            "A2": self.key,
            "A3": self.value,
            "X": np.eye(self.query.shape[1], self.key.shape[1]),
            "Y": np.eye(self.value.shape[1]),
            "E": self.target,
        }
        cast = {name: array.astype(dtype) for name, array in arrays.items()}
        return {**cast, "scale": self.scale}


def generator(*names: object) -> np.random.Generator:
    """Random numbers that depend on these names and on nothing else."""
    return np.random.default_rng([SEED, zlib.crc32(repr(names).encode())])


def make(family: str, n: int, d: int, *, bound: float = 1.0, seed: int = 0) -> Data:
    """A problem whose largest entry of queries, and of keys, is ``bound``; s = 1/d.

    Values are uniform on [-1, 1] and targets normal, except for heads, which bring their own.

    Parameters
    ----------
    family : str
        See the table above.
    n, d : int
        Rows and columns of each array; a head gives its first n tokens, and its own d.
    bound : float
        The paper's B.
    seed : int
        Which of the problems.
    """
    rng = generator(family, n, d, seed)
    if family == HEADS:
        query, key, value, target = _head(n, seed)
    else:
        query, key = (FAMILIES[family](rng, n, d) for _ in range(2))
        value = rng.uniform(-1.0, 1.0, (n, d))
        target = rng.standard_normal((n, d))
    query, key = (array * (bound / np.max(np.abs(array))) for array in (query, key))
    return Data(query, key, value, target, 1.0 / query.shape[1])


def trained_head(n: int, seed: int = 0) -> tuple[str, Data]:
    """Name and first n tokens of a head of a trained model, with its own logits: s = 1/√d."""
    head = _heads()[seed % len(_heads())]
    query, key, value, target = _head(n, seed)
    return f"{head.model} {head.name}", Data(query, key, value, target, head.scale)


def scaled_to(data: Data, mean_square: float) -> Data:
    """The same with queries and keys scaled to a mean square of their entries."""
    query, key = (
        array * np.sqrt(mean_square / np.mean(np.square(array))) for array in (data.query, data.key)
    )
    return Data(query, key, data.value, data.target, data.scale)


@cache
def _heads() -> tuple[Head, ...]:
    """Those that see both sides: a causal mask is not in these experiments."""
    return tuple(head for head in load_heads() if not head.is_causal)


def _head(n: int, seed: int) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """The first tokens of a head, its queries and keys centred."""
    problem = _heads()[seed % len(_heads())].problem(np.float64)
    query, key, value, target = (problem[name][:n] for name in ("A1", "A2", "A3", "E"))
    return query, key - key.mean(axis=0), value, target


def _uniform(rng: np.random.Generator, n: int, d: int) -> Matrix:
    return rng.uniform(-1.0, 1.0, (n, d))


def _signs(rng: np.random.Generator, n: int, d: int) -> Matrix:
    return np.asarray(rng.integers(0, 2, (n, d)) * 2.0 - 1.0)


def _gaussian(rng: np.random.Generator, n: int, d: int) -> Matrix:
    return rng.standard_normal((n, d))


def _student_t(rng: np.random.Generator, n: int, d: int) -> Matrix:
    return rng.standard_t(TAIL_FREEDOM, (n, d))


def _outliers(rng: np.random.Generator, n: int, d: int) -> Matrix:
    large = np.where(rng.uniform(size=(n, d)) < OUTLIER_SHARE, OUTLIER_SIZE, 1.0)
    return np.asarray(large * rng.standard_normal((n, d)))


def _magnitudes(rng: np.random.Generator, n: int, d: int) -> Matrix:
    return np.asarray(_signs(rng, n, d) * 10.0 ** rng.uniform(-DECADES, 0.0, (n, d)))


def _clustered(rng: np.random.Generator, n: int, d: int) -> Matrix:
    centres = rng.standard_normal((CENTRES, d))
    noise = CLUSTER_SPREAD * rng.standard_normal((n, d))
    return np.asarray(centres[rng.integers(0, CENTRES, n)] + noise)


def _low_rank(rng: np.random.Generator, n: int, d: int) -> Matrix:
    left, right = rng.standard_normal((n, RANK)), rng.standard_normal((RANK, d))
    return np.asarray(left @ right + RANK_NOISE * rng.standard_normal((n, d)))


FAMILIES: dict[str, Callable[[np.random.Generator, int, int], Matrix]] = {
    "uniform": _uniform,
    "signs": _signs,
    "gaussian": _gaussian,
    "student_t": _student_t,
    "outliers": _outliers,
    "magnitudes": _magnitudes,
    "clustered": _clustered,
    "low_rank": _low_rank,
}
