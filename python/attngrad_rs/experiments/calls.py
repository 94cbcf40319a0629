"""The calls of the library that are timed: every method of its registry, and auto."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._inputs.options import AUTO, METHODS
from ..errors import AttnGradError
from ..problem import loss_gradient
from ..results import GradientResult
from .base import Row

__all__ = [
    "EXACT", "Call", "Seconds", "asked", "attempted", "library_calls", "paused_seconds",
    "spread_of", "timed",
]  # fmt: skip

EXACT = "exact"
DEGREES = (1, 2, 3)
# A method that has no degree is asked for this instead.
WANTED = 1e-2
# Threads of another library that wait for work take cores for a while ...
PAUSE_SECONDS = 0.05
# ... and those that have gone to sleep meanwhile take up to ten milliseconds to wake: a run that is
# shorter than this is run once more before it is timed.
SHORT_SECONDS = 0.5
# Runs of a call that is long are few: it stands out of the noise by itself.
LEAST_REPEATS, ENOUGH_SECONDS = 3, 1.5


class Call(NamedTuple):
    """One line of a figure: its label, the method (or "auto"), and further options."""

    label: str
    method: str
    options: Mapping[str, Any]


def library_calls(rtols: Sequence[float], degrees: Sequence[int] = DEGREES) -> list[Call]:
    """Exact, every other method by degree and by tolerance, and auto by tolerance."""
    calls = [Call(EXACT, EXACT, {})]
    for name in METHODS:
        if name == EXACT:
            continue
        calls += [Call(f"{name}, degree {g}", name, {"method": name, "degree": g}) for g in degrees]
        calls += [Call(f"{name}, rtol {WANTED:g}", name, {"method": name, "rtol": WANTED})]
    calls += [Call(asked(rtol), AUTO, {"rtol": rtol}) for rtol in rtols]
    return calls


def asked(rtol: float) -> str:
    """The label of auto at a tolerance."""
    return f"{AUTO}, rtol {rtol:g}"


def attempted(
    call: Call, arguments: Mapping[str, Any], timeout: float | None = None
) -> GradientResult[Any] | None:
    """What the call returns; None where the library refuses it, or it takes too long."""
    try:
        return loss_gradient(**arguments, **call.options, timeout=timeout)
    except AttnGradError:
        return None


def paused_seconds(run: Callable[[], object]) -> float:
    """Seconds of one run after a pause; of the second in a row where runs are short."""
    time.sleep(PAUSE_SECONDS)
    first = _seconds(run)
    return _seconds(run) if first < SHORT_SECONDS else first


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


class Seconds(NamedTuple):
    """The median of repeated runs and their quartiles: half of the runs lie between these."""

    median: float
    low: float
    high: float

    def row(self) -> Row:
        """Columns of a table."""
        return {"seconds": self.median, "seconds_low": self.low, "seconds_high": self.high}


def spread_of(seconds: Sequence[float]) -> Seconds:
    """Median and quartiles of measured seconds."""
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return Seconds(float(median), float(low), float(high))


def timed(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Seconds]:
    """Seconds of each; one round after the other, so that all meet the same machine.

    At most ``repeats`` runs each; a call that has taken long enough in all is left at three.
    """
    seconds: dict[str, list[float]] = {label: [] for label in runs}
    for number in range(repeats):
        for label, run in runs.items():
            if number < LEAST_REPEATS or sum(seconds[label]) < ENOUGH_SECONDS:
                seconds[label].append(paused_seconds(run))
    return {label: spread_of(found) for label, found in seconds.items()}
