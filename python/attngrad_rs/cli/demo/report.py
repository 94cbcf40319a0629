"""Gradients of real trained heads, and of small entries by both methods: time and error."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..._core import __version__
from ..._inputs import arrays
from ..._inputs.memory import check_fits
from ...heads import Head
from ...problem import loss_gradient
from ...reference import loss_gradient as reference_gradient
from .. import machine
from . import near_linear
from .near_linear import NearRow

__all__ = ["DemoReport", "HeadRow", "run"]

# Timed runs of each head after one that warms up; the median is reported.
REPEATS = 5
# Arrays of n × n that the definitions hold at a time.
DENSE_ARRAYS = 8
# Operations of the gradient by X, in units of n² d: two for each of five products.
CONVENTION = 10.0


@dataclass(frozen=True)
class HeadRow:
    """One head. Norms are Frobenius; errors are relative; the rate is in the 10 n² d convention."""

    head: str
    n: int
    d: int
    is_causal: bool
    logit_spread: float
    loss: float
    gradient_norm: float
    seconds: float
    gflops: float
    share_of_peak: float
    error: float
    certificate: float


@dataclass(frozen=True)
class DemoReport:
    """All heads, both methods on small entries, and the machine that they ran on."""

    version: str
    cpu: str
    level: str
    threads: int
    dtype: str
    gemm_gflops: float
    heads: list[HeadRow]
    near_linear: list[NearRow]

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists, for JSON."""
        return asdict(self)


def run(
    dtype: str,
    threads: int | None,
    progress: Callable[[float], object],
    heads: Iterable[Head],
    *,
    tokens: int = near_linear.TOKENS,
    repeats: int = near_linear.REPEATS,
) -> DemoReport:
    """Compute every head, and ``tokens`` rows of small entries.

    Raises
    ------
    OutOfMemoryError
        For a head whose n × n arrays, which the truth takes, do not fit.
    """
    chosen = list(heads)
    for head in chosen:
        n = len(head.query)
        check_fits(f"{head.model} {head.name}", DENSE_ARRAYS * n * n * np.float64().itemsize)
    peak = machine.gemm_peak(dtype, threads)
    rows = []
    for number, head in enumerate(chosen):
        progress(number / len(chosen) / 2)
        rows.append(_row(head, dtype, threads, peak))
    near = near_linear.run(dtype, threads, lambda done: progress(0.5 + done / 2), tokens, repeats)
    return DemoReport(
        version=__version__,
        cpu=machine.cpu_name(),
        level=machine.level(),
        threads=machine.thread_count(threads),
        dtype=dtype,
        gemm_gflops=peak / 1e9,
        heads=rows,
        near_linear=near,
    )


def _row(head: Head, dtype: str, threads: int | None, peak: float) -> HeadRow:
    problem = head.problem(dtype)
    result = loss_gradient(**problem, threads=threads)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        loss_gradient(**problem, threads=threads)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    n, d = head.query.shape
    rate = CONVENTION * n * n * d * (0.5 if head.is_causal else 1.0) / median
    truth = reference_gradient(**head.problem(np.float64))
    difference = result.gradient.astype(np.float64) - truth
    return HeadRow(
        head=f"{head.model} {head.name}",
        n=n,
        d=d,
        is_causal=head.is_causal,
        logit_spread=head.logit_spread,
        loss=result.loss,
        gradient_norm=arrays.norm(result.gradient),
        seconds=median,
        gflops=rate / 1e9,
        share_of_peak=rate / peak,
        error=arrays.norm(difference) / arrays.norm(truth),
        certificate=result.certificate.relative,
    )
