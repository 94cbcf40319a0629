"""Attention for JAX against jax.nn's own, compiled: a step, and a second gradient."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from conftest import is_smoke
from pairing import paired
from test_heads import Row

Report = Callable[[str], None]
ROWS = (
    Row(1, 8, 8, 2048, 64),
    Row(1, 8, 8, 2048, 64, is_causal=True),
    Row(1, 1, 1, 8192, 64),
    # All that is not arithmetic.
    Row(1, 1, 1, 16, 8),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label.replace(" ", "-"))
def test_against_jax_nn(
    benchmark: BenchmarkFixture, report: Report, request: pytest.FixtureRequest, row: Row
) -> None:
    jax = pytest.importorskip("jax")
    from attngrad_rs.jax import dot_product_attention

    # Heads before rows elsewhere.
    given = row.arrays(is_smoke(request.config))
    query, key, value, dout = (
        jax.numpy.asarray(np.moveaxis(given[name], 1, 2))
        for name in ("query", "key", "value", "dout")
    )

    def step(attend: Any) -> Callable[[], Any]:
        @jax.jit
        def compiled(query: Any, key: Any, value: Any, dout: Any) -> Any:
            def call(*at: Any) -> Any:
                return attend(*at, is_causal=row.is_causal)

            output, back = jax.vjp(call, query, key, value)
            return output, back(dout)

        return lambda: jax.block_until_ready(compiled(query, key, value, dout))

    pair = paired(benchmark, step(dot_product_attention), step(jax.nn.dot_product_attention))
    ours, peer = (1e3 * statistics.median(seconds) for seconds in (pair.ours, pair.peer))
    report(
        f"jax     {row.label}: {pair.ratio:5.2f} x jax.nn, {ours:.2f} ms where it has {peer:.2f}"
    )
    benchmark.extra_info.update(ratio=pair.ratio, milliseconds=ours, jax_nn=peer)


@pytest.mark.parametrize("is_causal", [False, True])
def test_second_against_jax_nn(
    benchmark: BenchmarkFixture, report: Report, request: pytest.FixtureRequest, is_causal: bool
) -> None:
    """The gradient of a penalty on gradients, all of which jax.nn makes of n × n arrays."""
    jax = pytest.importorskip("jax")
    from attngrad_rs.jax import dot_product_attention

    row = Row(1, 8, 8, 1024, 64, is_causal=is_causal)
    given = row.arrays(is_smoke(request.config))
    *heads, dout = (
        jax.numpy.asarray(np.moveaxis(given[name], 1, 2))
        for name in ("query", "key", "value", "dout")
    )

    def step(attend: Any) -> Callable[[], Any]:
        def loss(*at: Any) -> Any:
            return (attend(*at, is_causal=is_causal) * dout).sum()

        def penalty(*at: Any) -> Any:
            return sum((one**2).sum() for one in jax.grad(loss, (0, 1, 2))(*at))

        compiled = jax.jit(jax.grad(penalty, (0, 1, 2)))
        return lambda: jax.block_until_ready(compiled(*heads))

    pair = paired(benchmark, step(dot_product_attention), step(jax.nn.dot_product_attention))
    ours, peer = (1e3 * statistics.median(seconds) for seconds in (pair.ours, pair.peer))
    report(
        f"jax     second, {row.label}: {pair.ratio:5.2f} x jax.nn, {ours:.1f} ms where it has"
        f" {peer:.1f}"
    )
    benchmark.extra_info.update(ratio=pair.ratio, milliseconds=ours, jax_nn=peer)
