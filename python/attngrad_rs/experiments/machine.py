"""The machine in words and numbers: what a timing must be quoted with."""

from __future__ import annotations

import contextlib
import functools
import platform
import time
from typing import Any

import cpuinfo
import numpy as np
from threadpoolctl import ThreadpoolController

from .. import _core

__all__ = ["blas_threads", "cpu_name", "gemm_peak", "thread_count"]

# 1024³ is 2.1e9 operations: long enough to reach the peak, short enough to run five times.
GEMM_SIZE = 1024
GEMM_REPEATS = 5


@functools.cache
def cpu_name() -> str:
    """The processor's own name for itself."""
    return str(cpuinfo.get_cpu_info().get("brand_raw") or platform.machine())


def thread_count(threads: int | None) -> int:
    """The number of threads that ``threads=`` stands for."""
    return threads or _core.default_threads()


def gemm_peak(dtype: Any, threads: int | None, size: int = GEMM_SIZE) -> float:
    """Operations per second of NumPy's matrix product, the best of a few: the machine's limit."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((size, size)).astype(dtype) for _ in range(2))
    out = np.empty_like(left)
    best = float("inf")
    with blas_threads(thread_count(threads)):
        np.matmul(left, right, out=out)
        for _ in range(GEMM_REPEATS):
            start = time.perf_counter()
            np.matmul(left, right, out=out)
            best = min(best, time.perf_counter() - start)
    return 2.0 * float(size) ** 3 / best


def blas_threads(count: int) -> contextlib.AbstractContextManager[Any]:
    """Hold NumPy's matrix products to so many threads."""
    limits: contextlib.AbstractContextManager[Any] = _pools().limit(limits=count, user_api="blas")
    return limits


@functools.cache
def _pools() -> ThreadpoolController:
    """The libraries with threads that are loaded; to find them takes a while."""
    return ThreadpoolController()
