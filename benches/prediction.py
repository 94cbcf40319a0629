"""Predictions of the error of a degree, against the error itself.

``python benches/prediction.py`` prints the table of docs/math.md after Rule 11.1. Each number is
the root mean square, over problems and degrees, of ln(predicted error / error of dL/dX). The four
predictions are made of one sample of logits: that of the sample alone (11.2), that of normal logits
with the spreads of its rows (12.26), their geometric mean, and what the planner takes, the larger
of the first and the third. The formulas are written out here, so that the table tests the library
and not itself. It is the same on every machine but for rounding, and takes a minute.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable

import numpy as np
from scipy.stats import poisson

import attngrad_rs as ag

TOKENS = 2048
WIDTHS = (8, 16, 32)
SPREADS = (0.2, 0.5)
SEEDS = range(3)
DEGREES = (1, 2, 3)
# A sample as the planner draws it; the polynomial is fitted to one in so many of its logits.
QUERIES, KEYS, FITTED = 64, 48, 3
CENTRES, NOISE = 16, 0.3
# Standard deviations of one coordinate over the one before.
DECAY = 0.8

Rows = Callable[[np.random.Generator, int], np.ndarray]


def uniform(rng: np.random.Generator, d: int) -> np.ndarray:
    """Entries in [−1, 1]."""
    return rng.uniform(-1.0, 1.0, (TOKENS, d))


def normal(rng: np.random.Generator, d: int) -> np.ndarray:
    """Normal entries."""
    return rng.standard_normal((TOKENS, d))


def sphere(rng: np.random.Generator, d: int) -> np.ndarray:
    """Rows of one length and any direction."""
    rows = normal(rng, d)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) * math.sqrt(d)


def clusters(rng: np.random.Generator, d: int) -> np.ndarray:
    """Rows near a few centres."""
    centres = rng.standard_normal((CENTRES, d))
    return centres[rng.integers(CENTRES, size=TOKENS)] + NOISE * normal(rng, d)


def decaying(rng: np.random.Generator, d: int) -> np.ndarray:
    """Normal entries, each coordinate smaller than the one before."""
    return normal(rng, d) * DECAY ** np.arange(d)


FAMILIES: dict[str, Rows] = {
    "uniform": uniform, "normal": normal, "sphere": sphere, "clusters": clusters,
    "decaying spectrum": decaying,
}  # fmt: skip


class Sample:
    """Logits t of drawn queries and keys, weights f, and the squares that (11.2) weighs by."""

    def __init__(self, rng: np.random.Generator, q: np.ndarray, k: np.ndarray, scale: float):
        rows, keys = rng.integers(TOKENS, size=QUERIES), rng.integers(TOKENS, size=(QUERIES, KEYS))
        self.t = scale * np.einsum("ja,jka->jk", q[rows], k[keys])
        exponentials = np.exp(self.t)
        self.f = exponentials / exponentials.sum(axis=1, keepdims=True)
        self.query_squares = np.sum(np.square(q[rows]), axis=1)
        self.key_squares = np.sum(np.square(k[keys]), axis=-1)

    def seen(self, degree: int) -> float:
        """(11.2), of the polynomial of least squares for a part of the logits."""
        part = self.t.ravel()[::FITTED]
        polynomial = np.polynomial.Chebyshev.fit(part, np.exp(part), degree)
        wrong = polynomial(self.t) / np.exp(self.t) - 1.0
        mean = np.sum(self.f * wrong, axis=1, keepdims=True)
        size = self.query_squares[:, None] * np.square(self.f) * self.key_squares
        return math.sqrt(np.average(np.square((wrong - mean) / (1.0 + mean)), weights=size))

    def law(self, degree: int) -> float:
        """(12.26), rows weighed by ‖a_j‖² exp(σ_j²)."""
        squares = np.mean(np.square(self.t), axis=1)
        weights = self.query_squares * np.exp(squares)
        return math.sqrt(np.average(poisson.sf(degree, squares), weights=weights))


def predictions(rows: Rows, d: int, spread: float, seed: int) -> list[list[float]]:
    """ln(predicted / true) of the four predictions, one row a degree."""
    rng = np.random.default_rng((seed, d, round(10 * spread)))
    q, k = rows(rng, d), rows(rng, d)
    k -= k.mean(axis=0)
    scale = spread / math.sqrt(np.mean(np.square(q @ k.T)))
    values, target = rng.standard_normal((2, TOKENS, d))
    problem = (q, k, values, np.eye(d), np.eye(d), target)
    exact = ag.loss_gradient(*problem, scale=scale).gradient
    sample, found = Sample(rng, q, k, scale), []
    for degree in DEGREES:
        near = ag.loss_gradient(*problem, scale=scale, method="polynomial", degree=degree).gradient
        true = np.linalg.norm(near - exact) / np.linalg.norm(exact)
        seen, law = sample.seen(degree), sample.law(degree)
        mean = math.sqrt(seen * law)
        found.append([math.log(one / true) for one in (seen, law, mean, max(seen, mean))])
    return found


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(f"{'':18} {'sample':>7} {'law':>7} {'mean':>7} {'planner':>8}")
    for name, rows in FAMILIES.items():
        cases = itertools.product(WIDTHS, SPREADS, SEEDS)
        table = np.concatenate([predictions(rows, *case) for case in cases])
        sample, law, mean, planner = np.sqrt(np.mean(np.square(table), axis=0))
        print(f"{name:18} {sample:7.2f} {law:7.2f} {mean:7.2f} {planner:8.2f}", flush=True)


if __name__ == "__main__":
    main()
