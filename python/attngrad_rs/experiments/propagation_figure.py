"""The figure of the experiment ``propagation``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Tables, select
from .charges import STEPS
from .plots import GREY, legend_below, style
from .rows import real

__all__ = ["QUANTITIES", "draw"]

QUANTITIES = ("f", "h", "c", "q", "p1", "p2")
# Factors of each quantity: the column, its marker and its colour, and how far beside its place.
LOOKS = {
    "random": ("o", "#0072B2", -0.2), "worst": ("s", "#E69F00", 0.0), "bound": ("v", GREY, 0.2),
}  # fmt: skip
LABELS = {"random": "random error", "worst": "worst error", "bound": "bound from norms"}


def draw(tables: Tables, figure: Any) -> None:
    """Departures from first order, the factors of each step, and the charges."""
    figure.set_size_inches(10.0, 4.4)
    first, factors, charges = figure.subplots(1, 3)
    _first_order(first, tables)
    _factors(factors, tables)
    _charges(charges, tables)
    for axes in (first, factors, charges):
        legend_below(axes, ncols=2 if axes is factors else 3)
        axes.grid(True, which="major", alpha=0.3)


def _first_order(axes: Any, tables: Tables) -> None:
    """The changes themselves lie on top of each other: their factors are nearly the same."""
    problem = tables["factor"][0]
    where = {name: problem[name] for name in ("family", "n", "B")}
    for number, quantity in enumerate(QUANTITIES):
        (factor,) = select(tables["factor"], **where, quantity=quantity)
        rows = select(tables["curve"], **where, quantity=quantity)
        sizes = np.array([real(row, "eps") for row in rows])
        moved = np.array([real(row, "moved") for row in rows])
        apart = np.abs(moved / (sizes * real(factor, "random")) - 1.0)
        axes.loglog(sizes, apart, **style(number), label=quantity)
    axes.set_xlabel("relative error ε of one quantity, random")
    axes.set_ylabel("|change of dL/dX by factor · ε − 1|")
    title = (
        f"departure from first order ({problem['family']}, B = {problem['B']:g})\n"
        "c, q, p1, p2 enter linearly: rounding"
    )
    axes.set_title(title, fontsize="small")


def _factors(axes: Any, tables: Tables) -> None:
    for column, (marker, colour, aside) in LOOKS.items():
        at = [aside + QUANTITIES.index(str(row["quantity"])) for row in tables["factor"]]
        axes.semilogy(
            at, [row[column] for row in tables["factor"]], marker, color=colour, markersize=4,
            alpha=0.6, label=LABELS[column],
        )  # fmt: skip
    axes.set_xticks(range(len(QUANTITIES)), QUANTITIES)
    axes.set_xlabel("quantity with the error")
    axes.set_ylabel("factor: change of dL/dX by ε")
    axes.set_title("factors, all problems", fontsize="small")


def _charges(axes: Any, tables: Tables) -> None:
    for number, step in enumerate((*STEPS, "gradient")):
        rows = [r for r in select(tables["charge"], step=step) if np.isfinite(real(r, "charged"))]
        axes.loglog(
            [row["measured"] for row in rows], [row["charged"] for row in rows],
            **{**style(number), "linestyle": "none"}, label=step,
        )  # fmt: skip
    ends = axes.get_xlim()
    axes.loglog(ends, ends, color=GREY, linestyle=":", label="no slack")
    axes.set_xlabel("error that a step has (worst row)")
    axes.set_ylabel("error that is charged for it")
    axes.set_title("rigorous certificate, degrees 1 to 4", fontsize="small")
