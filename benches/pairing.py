"""Interleaved pairs: ours, the peer, ours ... so that a drift of the machine meets both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 7
# Before each measurement: threads of the other library that still wait for work would take cores.
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


def paired(
    benchmark: BenchmarkFixture,
    ours: Callable[[], object],
    peer: Callable[[], object],
    rounds: int = ROUNDS,
) -> Paired:
    """Time both in turn, after one round of each that does not count."""
    seconds: list[float] = []

    def run_peer() -> None:
        time.sleep(PAUSE)
        start = time.perf_counter()
        peer()
        seconds.append(time.perf_counter() - start)
        time.sleep(PAUSE)

    ours()
    peer()
    benchmark.pedantic(ours, setup=run_peer, rounds=rounds)
    return Paired(list(benchmark.stats.stats.data), seconds)
