"""The demo as two tables with their columns explained, in 80 columns of text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import typer

from .terminal import print_table

if TYPE_CHECKING:
    from ..experiments.demo import Demo

__all__ = ["WIDTH", "print_demo"]

# Of a terminal that nobody has widened.
WIDTH = 79
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


def print_demo(demo: Demo, figure: str | None) -> None:
    """Both tables, a legend below each, the file of the figure, and at the end what was shown."""
    columns = {name: text for name, text in HEADS.items() if demo.torch or name != TORCH}
    print_table("Trained heads: exact gradient by X", columns, demo.heads, narrow=True)
    rates = [float(str(row["gflops"])) for row in demo.heads]
    _say(
        "head: model and layer_head, n tokens, d columns. spread: standard deviation of its "
        "logits. ms: median of several runs. x NumPy: times as fast as the same formulas with "
        "dense n × n arrays in NumPy."
        + (
            " x torch: times as fast as torch's flash attention, forward and backward."
            if demo.torch
            else " ('pip install torch' adds a column that compares with it.)"
        )
    )
    _say(
        "error: of the result, relative, against the paper's definitions in float64. bound: the "
        "library's certificate of that error, stated without knowing the truth; rounding only."
    )
    _say(
        f"{demo.cpu}, {demo.level}, {demo.threads} threads, {demo.dtype}. Rate: {min(rates):.0f} "
        f"to {max(rates):.0f} GF/s of 10 n² d operations (causal heads, those of smollm2: half); "
        f"NumPy's matrix product reaches {demo.gemm_gflops:.0f} GF/s."
    )
    if demo.near_linear:
        first = demo.near_linear[0]
        title = f"Entries uniform in [-1, 1], n = {first['n']}, d = {first['d']}: gradient by X"
        print_table(title, CALLS, demo.near_linear, narrow=True)
        _say(
            "asked for: a fixed degree of the polynomial in the place of exp, or a relative "
            "tolerance, rtol; 'sure' wants a bound with a stated confidence. did: the method that "
            "ran. x exact: times as fast as the exact method."
        )
        _say(
            "kind of the bound: exact (rounding only), estimated (a standard error with a safety "
            "factor), statistical (with a confidence). Where nothing cheaper can be certified as "
            "asked, exact runs, and the time to find that out is lost."
        )
    if figure is not None:
        typer.echo(f"figure: {figure}\n")
    typer.echo(textwrap.fill(demo.shown, WIDTH))


def _say(text: str) -> None:
    typer.echo(textwrap.fill(text, WIDTH) + "\n")
