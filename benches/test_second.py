"""Gradients of the gradients, as a step with a gradient penalty has them, against torch."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import attngrad_rs as ag
import peers
from conftest import THREADS, is_smoke
from pairing import paired
from test_heads import Row

Report = Callable[[str], None]

# Lengths at which the n × n arrays of torch's path find room.
ROWS = (
    Row(1, 1, 1, 4096, 64),
    Row(1, 8, 8, 1024, 64),
    Row(1, 8, 8, 1024, 64, is_causal=True),
    Row(8, 12, 12, 128, 64),
    Row(1, 1, 1, 2048, 64, dtype="float64"),
)


def penalised_step(
    given: dict[str, Any], along: dict[str, Any], **options: Any
) -> Callable[[], Any]:
    """The forward pass, the gradients, and their gradients, from what it returned."""
    inputs = {name: given[name] for name in ("query", "key", "value")}

    def run() -> Any:
        output, lse = ag.attention(**inputs, return_lse=True, **options)
        saved = {"output": output, "lse": lse, **options}
        return ag.attention_vjp(**given, **saved), ag.attention_hvp(**given, **along, **saved)

    return run


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label.replace(" ", "-"))
def test_double_backward_against_torch(
    benchmark: BenchmarkFixture, report: Report, request: pytest.FixtureRequest, row: Row
) -> None:
    pytest.importorskip("torch")
    given = row.arrays(is_smoke(request.config))
    rng = np.random.default_rng(row.tokens)
    along = {
        f"dd{name}": rng.standard_normal(given[name].shape).astype(row.dtype)
        for name in ("query", "key", "value")
    }
    ours = penalised_step(given, along, threads=THREADS, is_causal=row.is_causal)
    peer = peers.torch_second(given, along, THREADS, is_causal=row.is_causal)
    pair = paired(benchmark, ours, peer)
    milliseconds = 1e3 * statistics.median(pair.ours)
    report(f"second  {row.label}: {pair.ratio:5.2f} x torch's n × n path, {milliseconds:.0f} ms")
    benchmark.extra_info.update(ratio=pair.ratio, milliseconds=milliseconds)
