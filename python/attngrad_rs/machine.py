"""The machine in words and numbers: what a timing must be quoted with."""

from __future__ import annotations

import contextlib
import functools
import platform
import time
from importlib import import_module
from typing import Any

import numpy as np

from . import _core

__all__ = ["blas_is_held", "blas_threads", "cpu_name", "gemm_peak", "level", "thread_count"]

CPUINFO = "/proc/cpuinfo"
# 1024³ is 2.1e9 operations: long enough to reach the peak, short enough to run five times.
GEMM_SIZE = 1024
GEMM_REPEATS = 5


def cpu_name() -> str:
    """The processor's own name for itself."""
    with contextlib.suppress(OSError), open(CPUINFO, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def level() -> str:
    """The dispatch level that calls use."""
    return _core.level()


def thread_count(threads: int | None) -> int:
    """The number of threads that ``threads=`` stands for."""
    return threads or _core.default_threads()


def gemm_peak(dtype: Any, threads: int | None) -> float:
    """Operations per second of NumPy's matrix product, the best of a few: the machine's limit.

    The number of threads is held to ``threads`` where threadpoolctl is installed.
    """
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((GEMM_SIZE, GEMM_SIZE)).astype(dtype) for _ in range(2))
    out = np.empty_like(left)
    best = float("inf")
    with blas_threads(thread_count(threads)):
        np.matmul(left, right, out=out)
        for _ in range(GEMM_REPEATS):
            start = time.perf_counter()
            np.matmul(left, right, out=out)
            best = min(best, time.perf_counter() - start)
    return 2.0 * GEMM_SIZE**3 / best


@functools.cache
def _threadpoolctl() -> Any:
    try:
        return import_module("threadpoolctl")
    except ImportError:
        return None


def blas_is_held() -> bool:
    """Whether ``blas_threads`` can do what it says: threadpoolctl is installed."""
    return _threadpoolctl() is not None


def blas_threads(count: int) -> contextlib.AbstractContextManager[Any]:
    """Hold NumPy's matrix products to so many threads, where threadpoolctl is installed."""
    control = _threadpoolctl()
    if control is None:
        return contextlib.nullcontext()
    limits: contextlib.AbstractContextManager[Any] = control.threadpool_limits(limits=count)
    return limits
