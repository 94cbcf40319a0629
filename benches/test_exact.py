"""The exact gradient against its peers and against the machine's limit."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import attngrad_rs as ag
import peers
from attngrad_rs.experiments.machine import blas_threads
from conftest import THREADS, problem
from pairing import paired

Report = Callable[[str], None]
ALL = ("X", "Y", "A1", "A2", "A3")


def rate(n: int, d: int, seconds: list[float]) -> float:
    """GF/s where dL/dX counts as 10 n² d operations."""
    return 10 * n * n * d / statistics.median(seconds) * 1e-9


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [16, 32, 64, 128])
def test_x_against_torch(
    benchmark: BenchmarkFixture, report: Report, n: int, d: int, dtype: str
) -> None:
    pytest.importorskip("torch")
    data = problem(n, d, dtype)
    peer = peers.torch_query_gradient(data, THREADS)
    pair = paired(benchmark, lambda: ag.loss_gradient(**data, threads=THREADS), peer)
    speed, peak = rate(n, d, pair.ours), peers.gemm_peak(dtype, THREADS)
    report(
        f"dX      {dtype} n={n} d={d:3}: {pair.ratio:5.2f} x torch flash (query gradient only),"
        f" {speed:5.1f} GF/s = {speed / peak:4.0%} of the GEMM peak {peak:.0f}"
    )
    benchmark.extra_info.update(ratio=pair.ratio, gflops=speed, gemm_peak=peak)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [16, 64])
def test_all_against_torch(
    benchmark: BenchmarkFixture, report: Report, n: int, d: int, dtype: str
) -> None:
    pytest.importorskip("torch")
    data = problem(n, d, dtype)
    peer = peers.torch_all_gradients(data, THREADS)
    pair = paired(benchmark, lambda: ag.loss_gradient(**data, wrt=ALL, threads=THREADS), peer)
    report(f"all five {dtype} n={n} d={d:3}: {pair.ratio:5.2f} x torch flash, the same five")
    benchmark.extra_info.update(ratio=pair.ratio)


@pytest.mark.parametrize("d", [16, 64])
def test_x_against_numpy(benchmark: BenchmarkFixture, report: Report, n: int, d: int) -> None:
    data = problem(n, d, "float32")
    peer = peers.numpy_loss_gradient(data)
    with blas_threads(THREADS):
        pair = paired(benchmark, lambda: ag.loss_gradient(**data, threads=THREADS), peer, rounds=3)
    report(f"dX      float32 n={n} d={d:3}: {pair.ratio:5.2f} x dense NumPy")
    benchmark.extra_info.update(ratio=pair.ratio)


def test_causal(benchmark: BenchmarkFixture, report: Report, n: int) -> None:
    data = problem(n, 64, "float32")
    pair = paired(
        benchmark,
        lambda: ag.loss_gradient(**data, is_causal=True, threads=THREADS),
        lambda: ag.loss_gradient(**data, threads=THREADS),
    )
    report(f"causal  float32 n={n} d= 64: {1 / pair.ratio:4.2f} of the time without the mask")
    benchmark.extra_info.update(share=1 / pair.ratio)


def test_long(benchmark: BenchmarkFixture, report: Report, n: int) -> None:
    """The rate at eight times the length, of the same run."""
    short, long = problem(n, 64, "float32"), problem(8 * n, 64, "float32")
    pair = paired(
        benchmark,
        lambda: ag.loss_gradient(**long, threads=THREADS),
        lambda: ag.loss_gradient(**short, threads=THREADS),
        rounds=3,
    )
    relative = 64 * pair.ratio
    report(f"length  float32 n={8 * n} d= 64: {relative:4.2f} of the rate at n={n}")
    benchmark.extra_info.update(relative=relative)


def test_real_head(benchmark: BenchmarkFixture, report: Report) -> None:
    """The shifted path: a trained head whose logits need the running maximum."""
    from attngrad_rs.heads import load_heads

    head = max(load_heads(), key=lambda head: head.logit_spread)
    data = head.problem(np.float32)
    peer = lambda: ag.loss_gradient(**data | {"scale": 1e-3 * head.scale}, threads=THREADS)  # noqa: E731
    pair = paired(benchmark, lambda: ag.loss_gradient(**data, threads=THREADS), peer)
    report(f"head {head.name}: {1 / pair.ratio:4.2f} of the time with logits near zero")
