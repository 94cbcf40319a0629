"""Interleaved pairs: ours, the peer, ours ... so that a drift of the machine meets both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 7
# Before each turn: threads of the other library that still wait for work would take cores.
PAUSE = 0.05


@dataclass
class Paired:
    """Seconds of each round, and the ratio of each pair."""

    ours: list[float]
    peer: list[float]

    @property
    def ratio(self) -> float:
        """Median over the pairs of peer / ours: above one we are faster."""
        pairs = zip(self.ours, self.peer, strict=True)
        return statistics.median(peer / ours for ours, peer in pairs)


def measured(
    benchmark: BenchmarkFixture,
    run: Callable[[], object],
    rounds: int = ROUNDS,
    setup: Callable[[], None] | None = None,
) -> list[float]:
    """Seconds of each round; of a single one where --benchmark-disable turns the fixture off."""
    if not benchmark.disabled:
        benchmark.pedantic(run, setup=setup, rounds=rounds)
        return list(benchmark.stats.stats.data)
    if setup is not None:
        setup()
    start = time.perf_counter()
    benchmark.pedantic(run)
    return [time.perf_counter() - start]


def paired(
    benchmark: BenchmarkFixture,
    ours: Callable[[], object],
    peer: Callable[[], object],
    rounds: int = ROUNDS,
) -> Paired:
    """Time both in turn; of two runs in a row the second counts.

    The first after a pause pays for threads that have gone to sleep: torch's takes up to twice as
    long where a run takes some ten milliseconds.
    """
    seconds: list[float] = []

    def run_peer() -> None:
        time.sleep(PAUSE)
        peer()
        start = time.perf_counter()
        peer()
        seconds.append(time.perf_counter() - start)
        time.sleep(PAUSE)
        ours()

    ours()
    peer()
    return Paired(measured(benchmark, ours, rounds, run_peer), seconds)
