"""The machine of a run: its processor, its dispatch level, and the GEMM peak that limits it."""

from __future__ import annotations

import functools
import platform
import time
from pathlib import Path

import numpy as np

import attngrad_rs

GEMM = 4096
GEMM_ROUNDS = 5


def cpu_name() -> str:
    """Its name, as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def level() -> str:
    """The instruction set of our kernels."""
    from attngrad_rs import _core

    return _core.level()


@functools.cache
def gemm_peak(dtype: str, threads: int, size: int = GEMM) -> float:
    """GF/s of the faster of NumPy's and torch's product of two square matrices."""
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    a = rng.random((size, size), dtype=np.dtype(dtype))
    b = rng.random((size, size), dtype=np.dtype(dtype))
    with threadpool_limits(threads):
        seconds = [_seconds(lambda: a @ b) for _ in range(GEMM_ROUNDS)]
    try:
        import torch
    except ImportError:
        pass
    else:
        torch.set_num_threads(threads)
        s, t = torch.from_numpy(a), torch.from_numpy(b)
        seconds += [_seconds(lambda: s @ t) for _ in range(GEMM_ROUNDS)]
    return 2 * size**3 / min(seconds) * 1e-9


def _seconds(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def describe(threads: int) -> str:
    """One line for the head of a report."""
    return (
        f"attngrad {attngrad_rs.__version__} · {cpu_name()} · level {level()} · {threads} threads"
        f" · NumPy {np.__version__}"
    )
