"""The prices of the planner's law of cost, fitted to calls on this machine.

``python benches/prices.py`` times the exact passes and the polynomial method at every instruction
set that this processor has, in both precisions, and prints the row of each for the table of prices
(``rust/src/plan/prices.rs``; docs/math.md, equation 11.5). For an idle machine; ``--quick`` shows
that it runs.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

import attngrad_rs as ag
from attngrad_rs import _core

THREADS = 2
ROUNDS = 5
DTYPES = ("float32", "float64")
# Tokens, coordinates and columns of the values; of these some and many, so that a feature and its
# columns can be told apart.
EXACT = tuple(itertools.product((2048, 4096, 8192), (4, 16, 64), (4, 64)))
MOMENTS = tuple(itertools.product((16384, 32768), (8, 16), (4, 16, 64)))
DEGREES = (1, 2, 3)
MOST_FEATURES = 1000
SAMPLED = tuple(itertools.product((16384,), (8, 16, 32, 64), (16,)))
FEW, MANY = 64, 1088
# With a tolerance sampled rows are drawn; by one that all reach nothing else is.
REACHED = 10.0
# Small logits: no row is apart, and no key is left to exp.
ENTRIES = 0.3


def problem(n: int, d: int, columns: int, dtype: str) -> dict[str, Any]:
    """Uniform inputs whose logits are far below 1."""
    rng = np.random.default_rng(n + d)
    widths = {"A1": d, "A2": d, "A3": columns, "E": columns}
    draw = {name: rng.uniform(-ENTRIES, ENTRIES, (n, width)) for name, width in widths.items()}
    draw |= {"X": np.eye(d), "Y": np.eye(columns)}
    return {name: np.ascontiguousarray(array, dtype=dtype) for name, array in draw.items()}


def seconds(arrays: dict[str, Any], rounds: int, **options: Any) -> float:
    """Median of some calls after a first one."""
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        ag.loss_gradient(**arrays, threads=THREADS, rng=0, **options)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def fitted(rows: list[list[float]], seconds: list[float]) -> np.ndarray:
    """Least squares of relative errors, in nanoseconds."""
    scale = 1e9 * np.array(seconds)
    return np.linalg.lstsq(np.array(rows) / scale[:, None], np.ones(len(scale)), rcond=None)[0]


def features(d: int, degree: int) -> float:
    """N of a degree."""
    return float(math.comb(d + degree, degree))


def exact(dtype: str, rounds: int, shrink: int) -> tuple[float, float]:
    """Nanoseconds of a pair beyond its products, in both passes, and of a multiply-add."""
    rows, taken = [], []
    for n, d, columns in EXACT:
        n //= shrink
        taken.append(seconds(problem(n, d, columns, dtype), rounds))
        rows.append([n, n * n, n * n * 2 * (d + columns)])
    _, pair, product = fitted(rows, taken)
    return pair, product


def moments(dtype: str, rounds: int, shrink: int) -> tuple[float, float]:
    """Nanoseconds of a feature of a token, and of each of its columns."""
    rows, taken = [], []
    for place, (n, d, columns) in enumerate(MOMENTS):
        n //= shrink
        arrays = problem(n, d, columns, dtype)
        for degree in DEGREES:
            if features(d, degree + 1) > MOST_FEATURES:
                continue
            taken.append(seconds(arrays, rounds, method="polynomial", degree=degree))
            count = n * (2 * features(d, degree + 1) + features(d, degree))
            # Whatever else such a call takes, which does not depend on the degree.
            fixed = [float(place == other) for other in range(len(MOMENTS))]
            rows.append([*fixed, count, count * (columns + 1)])
    return tuple(fitted(rows, taken)[-2:])


def sampled(dtype: str, rounds: int, shrink: int, pair: float, product: float) -> float:
    """A pair of a sampled row over one of the exact passes."""
    ratios = []
    for n, d, columns in SAMPLED:
        n //= shrink
        arrays, taken = problem(n, d, columns, dtype), []
        for count in (FEW, MANY):
            plan = ag.Plan("polynomial", degree=1, samples=count)
            taken.append(seconds(arrays, rounds, plan=plan, rtol=REACHED))
        more = 1e9 * (taken[1] - taken[0]) / ((MANY - FEW) * n)
        ratios.append(more / (pair + product * 2 * (d + columns)))
    return statistics.median(ratios)


def measure(level: str, quick: bool) -> None:
    """The rows of one level, this process being at it."""
    rounds, shrink = (1, 4) if quick else (ROUNDS, 1)
    for dtype in DTYPES:
        pair, product = exact(dtype, rounds, shrink)
        feature, column = moments(dtype, rounds, shrink)
        rows = sampled(dtype, rounds, shrink, pair, product)
        # A multiply-add counts as two.
        rate = 2.0 / product
        print(
            f"{level:9} {dtype:8} rate {rate:6.1f}  pair {0.5 * pair * rate:6.2f}  feature "
            f"{feature * rate:6.2f} {column * rate:6.3f}  sampled pair {rows:5.2f}",
            flush=True,
        )


def main() -> None:
    """All levels, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="small problems, whose figures mean nothing"
    )
    parser.add_argument("--level", help="this level only, of a process that is at it")
    arguments = parser.parse_args()
    if arguments.level is not None:
        measure(arguments.level, arguments.quick)
        return
    print("rate in operations a nanosecond of two threads, all else in those operations")
    for level in _core.levels():
        command = [sys.executable, __file__, "--level", level, *(["--quick"] * arguments.quick)]
        subprocess.run(command, check=True, env={**os.environ, "ATTNGRAD_LEVEL": level})


if __name__ == "__main__":
    main()
