"""The demo as two tables, with their columns explained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .base import Row
from .demo import Demo
from .rows import numbers

__all__ = ["DemoTable", "tables"]

HEADS = {
    "head": "{head}", "n": "{n:d}", "d": "{d:d}", "spread": "{logit_spread:.1f}",
    "ms": "{milliseconds:.1f}", "x NumPy": "{times_numpy:.1f}", "x torch": "{times_torch:.1f}",
    "error": "{error:.1e}", "bound": "{certificate:.1e}",
}  # fmt: skip
CALLS = {
    "asked for": "{call}", "did": "{did}", "ms": "{milliseconds:.0f}",
    "x exact": "{times_exact:.2g}", "error": "{error:.1e}", "bound": "{certificate:.1e}",
    "kind": "{kind}",
}  # fmt: skip
TORCH = "x torch"


class DemoTable(NamedTuple):
    """A table: headings with the format of what stands below them, rows, and paragraphs on both."""

    title: str
    columns: dict[str, str]
    rows: list[Row]
    legend: tuple[str, ...]


def tables(demo: Demo) -> Iterator[DemoTable]:
    """The heads, and the small entries where there are some."""
    columns = {name: text for name, text in HEADS.items() if demo.torch or name != TORCH}
    yield DemoTable("Trained heads: exact gradient by X", columns, demo.heads, _of_heads(demo))
    if demo.near_linear:
        first = demo.near_linear[0]
        title = f"Entries uniform in [-1, 1], n = {first['n']}, d = {first['d']}: gradient by X"
        legend = (
            "asked for: a fixed degree of the polynomial in the place of exp, or a relative "
            "tolerance, rtol; 'sure' wants a bound with a stated confidence. did: the method that "
            "ran. x exact: times as fast as the exact method.",
            "kind of the bound: exact (rounding only), estimated (a standard error with a safety "
            "factor), statistical (with a confidence). Where nothing cheaper can be certified as "
            "asked, exact runs, and the time to find that out is lost.",
        )
        yield DemoTable(title, CALLS, demo.near_linear, legend)


def _of_heads(demo: Demo) -> tuple[str, ...]:
    rates = numbers(demo.heads, "gflops")
    torch = (
        "x torch: times as fast as torch's flash attention, forward and backward."
        if demo.torch
        else "('pip install torch' adds a column that compares with it.)"
    )
    return (
        "head: model and layer_head, n tokens, d columns. spread: standard deviation of its "
        "logits. ms: median of several runs. x NumPy: times as fast as the same formulas with "
        f"dense n × n arrays in NumPy. {torch}",
        "error: of the result, relative, against the paper's definitions in float64. bound: the "
        "library's certificate of that error, stated without knowing the truth; rounding only.",
        f"{demo.cpu}, {demo.level}, {demo.threads} threads, {demo.dtype}. Rate: {min(rates):.0f} "
        f"to {max(rates):.0f} GF/s of 10 n² d operations (causal heads, those of smollm2: half); "
        f"NumPy's matrix product reaches {demo.gemm_gflops:.0f} GF/s.",
    )
