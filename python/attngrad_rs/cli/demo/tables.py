"""The tables of the demo."""

from __future__ import annotations

from rich.table import Table

from .near_linear import TOKENS, WIDTH, NearRow
from .report import HeadRow

__all__ = ["heads_table", "near_table"]


def heads_table(rows: list[HeadRow]) -> Table:
    """One line for each head."""
    table = Table(title="exact gradient by X of trained attention heads")
    table.add_column("head", no_wrap=True)
    for title in ("n", "d", "spread", "loss", "|dL/dX|", "ms", "GF/s", "of peak", "error", "bound"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row.head}{' causal' if row.is_causal else ''}",
            str(row.n),
            str(row.d),
            f"{row.logit_spread:.2f}",
            f"{row.loss:.5g}",
            f"{row.gradient_norm:.4g}",
            f"{1e3 * row.seconds:.2f}",
            f"{row.gflops:.1f}",
            f"{100 * row.share_of_peak:.0f} %",
            f"{row.error:.1e}",
            f"{row.certificate:.1e}",
        )
    return table


def near_table(rows: list[NearRow]) -> Table:
    """One line for each call."""
    title = f"gradient by X, n = {TOKENS}, d = {WIDTH}, entries uniform in [-1, 1]"
    table = Table(title=title)
    table.add_column("call", no_wrap=True)
    for column in ("method", "degree", "rows", "ms", "x exact", "error", "certificate", "kind"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.call,
            row.method,
            "" if row.degree is None else str(row.degree),
            "" if row.samples is None else str(row.samples),
            f"{1e3 * row.seconds:.1f}",
            f"{row.times_exact:.1f}",
            f"{row.error:.1e}",
            f"{row.certificate:.1e}",
            row.kind,
        )
    return table
