"""Gradients from files that need not fit in memory: rate beside that in memory, and memory."""

from __future__ import annotations

import statistics
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import attngrad_rs as ag
from attngrad_rs import out_of_core
from conftest import THREADS, is_smoke
from pairing import measured
from test_near_linear import uniform

Report = Callable[[str], None]
TOKENS, IN_MEMORY, SMOKE = 10_000_000, 1 << 20, 5000
NAMES = ("A1", "A2", "A3", "E")
DEGREE = 2
ROUNDS = 3


class Anonymous:
    """The most anonymous memory that the process has while it is watched."""

    def __init__(self) -> None:
        self.before = self.most = self.now()
        self._end = threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    @staticmethod
    def now() -> int:
        """Bytes, which pages of files are not among."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.most = max(self.most, self.now())

    def __enter__(self) -> Anonymous:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._watcher.join()


def files(folder: Path, tokens: int) -> list[np.memmap]:
    """Uniform inputs of width 16 in single precision, written in parts."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        file = np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(tokens, 16)
        )
        for first in range(0, tokens, 1 << 18):
            part = file[first : first + (1 << 18)]
            part[...] = rng.uniform(-1, 1, part.shape)
    return [np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_million_tokens(
    benchmark: BenchmarkFixture, report: Report, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """From the files of 2.6 GB, which the system has in its cache if it has room."""
    tokens, few = (SMOKE, SMOKE) if is_smoke(request.config) else (TOKENS, IN_MEMORY)
    A1, A2, A3, E = files(tmp_path, tokens)
    one = np.eye(16, dtype=np.float32)

    def run() -> None:
        out_of_core.loss_gradient(A1, A2, A3, one, one, E, degree=DEGREE, threads=THREADS)

    with Anonymous() as memory:
        seconds = statistics.median(measured(benchmark, run, ROUNDS))
    data = uniform(few)
    options = {"method": "polynomial", "degree": DEGREE, "threads": THREADS}
    in_memory = []
    for _ in range(ROUNDS):
        in_memory.append(ag.loss_gradient(**data, **options).seconds)
    rate, peer = tokens / seconds, few / statistics.median(in_memory)
    megabytes = [one / 1e6 for one in (memory.before, memory.most)]
    report(
        f"blocks  {tokens} tokens from files: {seconds:.2f} s, {1e-6 * rate:.2f} M a second = "
        f"{rate / peer:.0%} of the rate in memory; anonymous memory {megabytes[1]:.0f} MB, "
        f"{megabytes[0]:.0f} before"
    )
    benchmark.extra_info.update(rate=rate, share=rate / peer, anonymous=memory.most)
