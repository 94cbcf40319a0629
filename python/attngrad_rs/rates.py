"""How fast this machine is beside the table of rates: it feeds ``predicted_seconds``, nothing else.

What is chosen, and so every bit of a result, must not depend on a timing.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from . import tuning
from .arguments import Control, Tolerance
from .arrays import Sizes
from .methods import METHODS, Task, choose

__all__ = ["factor"]

# One problem for each method, of a few milliseconds, so that all runs stay below 50 ms.
SIZES = {"exact": (2048, 32), "polynomial": (8192, 16)}
USUAL_SIZE = (1024, 16)
DEGREE = 2
RUNS = 3
BUDGET_SECONDS = 0.05
# A run over the fastest of three: what else the machine did in the meantime is no part of its rate.
TYPICAL = 1.1

# Calls that look at the machine; one of them may find it busy.
LOOKS = 3

_known: dict[tuple[str, int, int | None, str], list[float]] = {}


def factor(method: str, itemsize: int, threads: int | None, *, measure: bool) -> float:
    """Seconds on this machine over those that the table predicts; 1 where it is not known yet."""
    known = _known.setdefault((method, itemsize, threads, tuning.level()), [])
    if measure and len(known) < LOOKS:
        known.append(_measured(method, itemsize, threads))
    return statistics.median(known) if known else 1.0


def _measured(method: str, itemsize: int, threads: int | None) -> float:
    task = _task(method, itemsize, threads)
    decision = choose(method, task)
    forecast = METHODS[method].forecast(task.sizes, task.wrt, itemsize, False, threads, decision)
    seconds: list[float] = []
    begin = time.perf_counter()
    # The first run wakes the pool up, and does not count.
    for run in range(RUNS + 1):
        start = time.perf_counter()
        METHODS[method].gradient(task, decision, None)
        seconds.append(time.perf_counter() - start)
        if run and time.perf_counter() - begin > BUDGET_SECONDS:
            break
    return TYPICAL * min(seconds[1:]) / forecast.seconds


def _task(method: str, itemsize: int, threads: int | None) -> Task:
    n, d = SIZES.get(method, USUAL_SIZE)
    rng = np.random.default_rng(0)
    dtype = np.dtype(f"f{itemsize}")
    arrays = {name: rng.uniform(-1.0, 1.0, (n, d)).astype(dtype) for name in ("A1", "A2", "A3")}
    eye = np.eye(d, dtype=dtype)
    arrays |= {"X": eye, "Y": eye, "E": arrays["A3"]}
    return Task(
        arrays=arrays,
        sizes=Sizes(n, n, d, d, d, d, d, pair=False),
        wrt=("X",),
        scale=1.0 / d,
        is_causal=False,
        tolerance=Tolerance(None, 0.0, "fro", "any"),
        named=method,
        degree=DEGREE if method == "polynomial" else None,
        seed=0,
        control=Control(threads, None, None, check_finite=False),
    )
