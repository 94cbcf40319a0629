"""Families of problems in which what matters may sit where no sampled row looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Problem = dict[str, Any]
Sides = dict[str, Array]

# Keys, and queries, that see each other and hardly anything else.
NEEDLE_LOGIT = 11.0
NEEDLE_KEYS, NEEDLE_QUERIES = (1, 8), (1, 4, 64)
CLUSTER_LOGIT, CLUSTER_SHARE, CLUSTER_QUERIES = 4.0, 0.03, 8
PERIODS = (64, 128, 256)
WINDOW, SINK = 256, 2.0
TOKENS = 200
FEW = 0.03
NOISE = 1e-2


def _needles(keys: int, queries: int) -> Callable[[Sides, np.random.Generator, float], None]:
    def change(sides: Sides, rng: np.random.Generator, scale: float) -> None:
        A1, A2 = sides["A1"], sides["A2"]
        size = float(np.sqrt(np.mean(np.sum(A1**2, axis=1))))
        A1[:, 0] = 0.0
        A2[rng.choice(len(A2), keys, replace=False)] = np.eye(A2.shape[1])[0] * (
            NEEDLE_LOGIT / (scale * size)
        )
        A1[rng.choice(len(A1), queries, replace=False)] = np.eye(A1.shape[1])[0] * size

    return change


def _clusters(sides: Sides, rng: np.random.Generator, scale: float) -> None:
    A1, A2, A3 = sides["A1"], sides["A2"], sides["A3"]
    size = float(np.sqrt(np.mean(np.sum(A1**2, axis=1))))
    A1[:, 0] = 0.0
    some = rng.random(len(A2)) < CLUSTER_SHARE
    A2[some] = 0.1 * A2[some] + np.eye(A2.shape[1])[0] * (CLUSTER_LOGIT / (scale * size))
    A3[some] += 1.0
    few = rng.choice(len(A1), CLUSTER_QUERIES, replace=False)
    A1[few] = np.eye(A1.shape[1])[0] * size


def _periodic(period: int) -> Callable[[Sides, np.random.Generator, float], None]:
    def change(sides: Sides, rng: np.random.Generator, scale: float) -> None:
        for name in ("A1", "A2"):
            first = sides[name][::period]
            first *= 2.0 if name == "A1" else 0.2

    return change


def _tokens(sides: Sides, rng: np.random.Generator, scale: float) -> None:
    rows = rng.integers(TOKENS, size=len(sides["A1"]))
    for name in ("A1", "A2", "A3"):
        sides[name][:] = sides[name][rows]


def _values(sides: Sides, rng: np.random.Generator, scale: float) -> None:
    sides["A3"][rng.integers(len(sides["A3"]))] *= 300.0


def _targets(sides: Sides, rng: np.random.Generator, scale: float) -> None:
    sides["E"][rng.choice(len(sides["E"]), 4, replace=False)] *= 300.0


def _heavy(sides: Sides, rng: np.random.Generator, scale: float) -> None:
    sides["E"][:] = rng.standard_t(2, sides["E"].shape)


def _two(sides: Sides, rng: np.random.Generator, scale: float) -> None:
    sides["A1"][rng.random(len(sides["A1"])) < FEW] *= 2.5


def _sink(sides: Sides, rng: np.random.Generator, scale: float) -> None:
    sides["A2"][::WINDOW] *= SINK
    sides["A3"][::WINDOW] *= 0.1


def _same(sides: Sides, rng: np.random.Generator, scale: float) -> None:
    pass


# By name: what is done to uniform data.
FAMILIES: dict[str, Callable[[Sides, np.random.Generator, float], None]] = {
    "uniform": _same,
    **{
        f"{keys} needle keys, {queries} queries": _needles(keys, queries)
        for keys in NEEDLE_KEYS
        for queries in NEEDLE_QUERIES
    },
    "needle value": _values,
    "needle targets": _targets,
    "cluster that few see": _clusters,
    **{f"period {period}": _periodic(period) for period in PERIODS},
    "repeated tokens": _tokens,
    "heavy E": _heavy,
    "E = o + noise": _same,
    "two populations": _two,
    "windows with a sink": _sink,
}
# Those in which nothing is hidden: what is approximated elsewhere is approximated here.
PLAIN = (
    "uniform", "period 64", "period 128", "period 256", "repeated tokens", "heavy E",
    "E = o + noise", "two populations", "windows with a sink",
)  # fmt: skip


def problem(name: str, n: int, d: int, seed: int, dtype: str = "float32") -> Problem:
    """A1, A2, A3, X, Y and E of a family; X and Y are rotations, and the scale is 1/d."""
    rng = np.random.default_rng(seed)
    sides = {key: rng.uniform(-1.0, 1.0, (n, d)) for key in ("A1", "A2", "A3")}
    sides["E"] = rng.standard_normal((n, d))
    FAMILIES[name](sides, rng, 1.0 / d)
    X, _ = np.linalg.qr(rng.standard_normal((d, d)))
    Y, _ = np.linalg.qr(rng.standard_normal((d, d)))
    # Logits are those of the sides as they were made.
    sides["A1"] = sides["A1"] @ X.T
    given = {key: array.astype(dtype) for key, array in {**sides, "X": X, "Y": Y}.items()}
    if name == "E = o + noise":
        # With attention that is nearly flat, o is the mean of the values, moved along the query.
        h = given["A3"] @ given["Y"]
        keys = given["A2"] - given["A2"].mean(axis=0)
        slope = keys.T @ (h - h.mean(axis=0)) / n
        o = h.mean(axis=0) + given["A1"] @ given["X"] @ slope / d
        given["E"] = (o + NOISE * rng.standard_normal((n, d))).astype(dtype)
    return given
