"""Stacks of heads, forward and backward as a training step has them, against torch.

Masks of heads against none.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import attngrad_rs as ag
import peers
from conftest import THREADS, is_smoke
from pairing import paired

Report = Callable[[str], None]
# Tokens in a smoke run at most.
SMOKE = 64


class Row(NamedTuple):
    """Sizes of a stack: leading dimensions with the heads, key heads, tokens, width."""

    batch: int
    heads: int
    shared: int
    tokens: int
    width: int
    is_causal: bool = False
    dtype: str = "float32"

    @property
    def label(self) -> str:
        shared = f"/{self.shared}" if self.shared != self.heads else ""
        causal = " causal" if self.is_causal else ""
        sizes = f"{self.batch} x {self.heads}{shared} heads, {self.tokens} x {self.width}"
        return f"{self.dtype} {sizes}{causal}"

    @property
    def operations(self) -> float:
        """14 n² d for each head, half under the mask."""
        half = 0.5 if self.is_causal else 1.0
        return half * 14.0 * self.batch * self.heads * self.tokens**2 * self.width

    def arrays(self, is_short: bool) -> dict[str, Any]:
        """Normal numbers: logits of size one at the scale 1/√E."""
        tokens = min(self.tokens, SMOKE) if is_short else self.tokens
        rng = np.random.default_rng(tokens + self.width)
        heads = {"query": self.heads, "key": self.shared, "value": self.shared, "dout": self.heads}
        shapes = {name: (self.batch, count, tokens, self.width) for name, count in heads.items()}
        return {
            name: rng.standard_normal(shape).astype(self.dtype) for name, shape in shapes.items()
        }


ROWS = (
    Row(1, 1, 1, 8192, 16),
    Row(1, 1, 1, 8192, 64),
    Row(1, 1, 1, 8192, 128),
    Row(1, 1, 1, 8192, 64, is_causal=True),
    Row(1, 1, 1, 8192, 128, is_causal=True),
    Row(1, 8, 8, 2048, 32),
    Row(1, 8, 8, 2048, 64),
    Row(1, 8, 8, 2048, 128),
    Row(1, 12, 12, 2048, 64, is_causal=True),
    Row(8, 12, 12, 512, 64),
    Row(8, 12, 12, 512, 64, is_causal=True),
    Row(32, 12, 12, 128, 64),
    Row(2, 8, 8, 64, 32),
    Row(1, 1, 1, 4096, 64, dtype="float64"),
    Row(1, 9, 3, 2048, 64, is_causal=True),
)


def training_step(given: dict[str, Any], **options: Any) -> Callable[[], Any]:
    """The forward pass, and the backward pass from what it returned."""
    inputs = {name: given[name] for name in ("query", "key", "value")}

    def run() -> Any:
        output, lse = ag.attention(**inputs, return_lse=True, **options)
        return ag.attention_vjp(**given, output=output, lse=lse, **options)

    return run


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label.replace(" ", "-"))
def test_heads_against_torch(
    benchmark: BenchmarkFixture, report: Report, request: pytest.FixtureRequest, row: Row
) -> None:
    pytest.importorskip("torch")
    given = row.arrays(is_smoke(request.config))
    options = {"is_causal": row.is_causal, "enable_gqa": row.shared != row.heads}
    peer = peers.torch_heads(given, THREADS, **options)
    pair = paired(benchmark, training_step(given, threads=THREADS, **options), peer)
    speed = row.operations / statistics.median(pair.ours) * 1e-9
    peak = peers.gemm_peak(row.dtype, THREADS)
    report(
        f"heads   {row.label}: {pair.ratio:5.2f} x torch flash,"
        f" {speed:5.1f} GF/s = {speed / peak:4.0%} of the GEMM peak {peak:.0f}"
    )
    benchmark.extra_info.update(ratio=pair.ratio, gflops=speed, gemm_peak=peak)


def masks(tokens: int) -> dict[str, dict[str, Any]]:
    """Masks of self-attention by what they are called."""
    j = np.arange(tokens)
    lower = j[:, None] >= j
    near = lower & (j[:, None] - j <= tokens // 8)
    parts = list(range(0, tokens + 1, tokens // 8))
    return {
        "is_causal": {"is_causal": True},
        "window (n/8, 0)": {"window": (tokens // 8, 0)},
        "key_lengths n/2": {"key_lengths": tokens // 2},
        "cu_seqlens, 8 sequences": {"cu_seqlens": parts},
        "attn_mask of bool, all True": {"attn_mask": np.ones((tokens, tokens), bool)},
        "attn_mask of bool, causal": {"attn_mask": lower},
        "attn_mask of bool, a window": {"attn_mask": near},
        "attn_mask added, causal": {"attn_mask": np.where(lower, 0, -np.inf).astype(np.float32)},
        "attn_mask of bool, nothing": {"attn_mask": np.zeros((tokens, tokens), bool)},
    }


@pytest.mark.parametrize("name", masks(SMOKE))
def test_masks_against_none(
    benchmark: BenchmarkFixture, report: Report, request: pytest.FixtureRequest, name: str
) -> None:
    """What a mask hides is not computed."""
    row = Row(1, 8, 8, 2048, 64)
    given = row.arrays(is_smoke(request.config))
    options = masks(given["query"].shape[-2])[name]
    masked = training_step(given, threads=THREADS, **options)
    pair = paired(benchmark, masked, training_step(given, threads=THREADS))
    report(f"masks   {name}: {1.0 / pair.ratio:5.2f} of the time without a mask")
    benchmark.extra_info.update(share=1.0 / pair.ratio)


def test_the_cost_of_a_call(benchmark: BenchmarkFixture, report: Report) -> None:
    """One head of 16 tokens: all that is not arithmetic."""
    row = Row(1, 1, 1, 16, 8)
    given = {name: array[0, 0] for name, array in row.arrays(is_short=False).items()}
    pair = paired(benchmark, training_step(given), peers.numpy_heads(given), rounds=201)
    microseconds = 1e6 * statistics.median(pair.ours)
    report(f"call    one head, 16 x 8: {pair.ratio:5.2f} x dense NumPy, {microseconds:.0f} µs")
    benchmark.extra_info.update(ratio=pair.ratio, microseconds=microseconds)
