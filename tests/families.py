"""Families of problems for approximate methods: small logits, and what makes sampling hard."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Problem = dict[str, Any]

# Entries of the inputs, so that logits are of the size that a polynomial of low degree serves.
ENTRIES = 0.7
SPIKE = 30.0
# Student's t with 3 degrees of freedom: a variance, and no fourth moment.
DEGREES_OF_FREEDOM = 3


def _sides(name: str, rng: np.random.Generator, n: int, d: int) -> list[Array]:
    def uniform() -> Array:
        return rng.uniform(-1.0, 1.0, (n, d))

    if name == "normal":
        return [ENTRIES * rng.standard_normal((n, d)) for _ in range(3)]
    if name == "one direction":
        sizes = np.full(d, 0.1)
        sizes[0] = 1.0
        return [ENTRIES * sizes * rng.standard_normal((n, d)) for _ in range(3)]
    if name == "Student t":
        return [0.3 * rng.standard_t(DEGREES_OF_FREEDOM, (n, d)) for _ in range(3)]
    sides = [uniform() for _ in range(3)]
    if name in SPIKES:
        side = SPIKES[name]
        factor = SPIKE if name != "key spike" else 8.0
        sides[side][rng.integers(n)] *= factor
    return sides


SPIKES = {"query spike": 0, "key spike": 1, "value spike": 2}
NAMES = ("uniform", "normal", "one direction", "Student t", *SPIKES, "target spike")


def problem(name: str, n: int, d: int, seed: int, dtype: str = "float32") -> Problem:
    """A1, A2, A3, X, Y and E of a family: X and Y are random and well conditioned."""
    rng = np.random.default_rng(seed)
    A1, A2, A3 = _sides(name, rng, n, d)
    E = rng.standard_normal((n, d))
    if name == "target spike":
        E[rng.integers(n)] *= SPIKE
    X, _ = np.linalg.qr(rng.standard_normal((d, d)))
    Y, _ = np.linalg.qr(rng.standard_normal((d, d)))
    arrays = {"A1": A1, "A2": A2, "A3": A3, "X": X, "Y": Y, "E": E}
    return {key: array.astype(dtype) for key, array in arrays.items()}


def wide(given: Problem) -> Problem:
    """The same numbers in float64."""
    return {key: array.astype(np.float64) for key, array in given.items()}
