"""What a call through torch costs, beside torch's own."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from conftest import is_smoke
from pairing import paired
from test_heads import Row

Report = Callable[[str], None]
# Calls of a round: one of them is too short for a clock.
CALLS = 500


@pytest.mark.parametrize("is_operator", [False, True], ids=["direct", "operator"])
def test_a_call_through_torch(
    benchmark: BenchmarkFixture, report: Report, request: pytest.FixtureRequest, is_operator: bool
) -> None:
    """One head of 16 tokens, forward and backward: all that is not arithmetic."""
    torch = pytest.importorskip("torch")
    from attngrad_rs.torch import scaled_dot_product_attention
    from attngrad_rs.torch._ops import forward_op

    given = Row(1, 1, 1, 16, 8).arrays(is_smoke(request.config))
    query, key, value, dout = (
        torch.from_numpy(given[name]).requires_grad_(name != "dout")
        for name in ("query", "key", "value", "dout")
    )
    inputs = (query, key, value)

    def operator(*tensors: Any) -> Any:
        return forward_op(*tensors, None, False, None, False, None)[0]

    def steps(attend: Callable[..., Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(CALLS):
                torch.autograd.grad(attend(*inputs), inputs, dout)

        return run

    ours = operator if is_operator else scaled_dot_product_attention
    peer = torch.nn.functional.scaled_dot_product_attention
    pair = paired(benchmark, steps(ours), steps(peer))
    microseconds = [1e6 * statistics.median(times) / CALLS for times in (pair.ours, pair.peer)]
    way = "operator" if is_operator else "direct"
    report(
        f"call    through torch, {way}: {microseconds[0]:.0f} µs where torch's own takes "
        f"{microseconds[1]:.0f}"
    )
    benchmark.extra_info.update(microseconds=microseconds[0], torch=microseconds[1])
