"""How fast this machine is beside the table of rates: it feeds ``predicted_seconds``, nothing else.

What is chosen, and so every bit of a result, must not depend on a timing.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from . import _core
from .arguments import Control, Tolerance
from .arrays import Sizes
from .methods import METHODS, Task, choose

__all__ = ["factor", "observe"]

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

# Calls that a rate is a mean over: what machines do besides changes within minutes, and no single
# problem, whose cost the table may miss by a third, should decide for the next one.
MEMORY = 100
# Below it a call is the work of Python, which the table does not price.
LEAST_SECONDS = 2e-3


@dataclass
class _Rate:
    """Geometric mean of seconds over those of the table, the latest calls counting most."""

    looks: int = 0
    calls: int = 0
    log: float = 0.0

    def add(self, ratio: float) -> None:
        self.calls += 1
        self.log += (math.log(ratio) - self.log) / min(self.calls, MEMORY)


_known: dict[tuple[str, int, int | None, str], _Rate] = {}


def factor(method: str, itemsize: int, threads: int | None, *, measure: bool) -> float:
    """Seconds on this machine over those that the table predicts; 1 where it is not known yet."""
    rate = _rate(method, itemsize, threads)
    if measure and rate.looks < LOOKS:
        rate.looks += 1
        rate.add(_measured(method, itemsize, threads))
    return math.exp(rate.log)


def observe(
    method: str, itemsize: int, threads: int | None, seconds: float, predicted: float
) -> None:
    """Take note of what a call took, and of what the table says for a machine of rate 1."""
    if min(seconds, predicted) >= LEAST_SECONDS:
        _rate(method, itemsize, threads).add(seconds / predicted)


def _rate(method: str, itemsize: int, threads: int | None) -> _Rate:
    return _known.setdefault((method, itemsize, threads, _core.level()), _Rate())


def _measured(method: str, itemsize: int, threads: int | None) -> float:
    task = _task(method, itemsize, threads)
    decision = choose(task)
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
