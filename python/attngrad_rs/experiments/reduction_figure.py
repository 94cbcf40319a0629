"""The figure of the experiment ``reduction``."""

from __future__ import annotations

from typing import Any

from .base import Tables, select
from .oracle import GAUSS, LEFT
from .plots import GREY, LINES, legend_below, shades, style
from .rows import real

__all__ = ["DENSE", "draw"]

# Errors below this are the rounding of the sums.
ROUNDING = 1e-16
DENSE = "dense polynomial"
# How the bound of a rule is drawn, a thin line in the colour of its measured error.
BOUNDS = {LEFT: ":", GAUSS: "-."}


def draw(tables: Tables, figure: Any) -> None:
    """Error against calls, growth of the second derivative, and approximate oracles."""
    figure.set_size_inches(10.0, 4.6)
    sums, growth, oracle = figure.subplots(1, 3)
    _sums(sums, tables)
    _growth(growth, tables)
    _oracles(oracle, tables)
    for axes in (sums, growth, oracle):
        legend_below(axes, ncols=2, fontsize="x-small")
        axes.grid(True, which="major", alpha=0.3)


def _sums(axes: Any, tables: Tables) -> None:
    for number, B in enumerate(dict.fromkeys(row["B"] for row in tables["sum"])):
        for rule, line in ((LEFT, "-"), (GAUSS, "--")):
            rows = select(tables["sum"], B=B, rule=rule)
            axes.loglog(
                [row["calls"] for row in rows],
                [max(real(row, "relative"), ROUNDING) for row in rows],
                **{**style(number), "linestyle": line}, label=f"{rule}, B = {B:g}",
            )  # fmt: skip
            axes.loglog(
                [row["calls"] for row in rows],
                [real(row, "bound") / real(row, "change") for row in rows],
                color=style(number)["color"], linestyle=BOUNDS[rule], linewidth=0.8,
                label=f"bound of {rule}, B = {B:g}",
            )  # fmt: skip
    axes.set_xlabel("calls of the gradient oracle")
    axes.set_ylabel("error of ‖o‖² by its change from X = 0")
    axes.set_title("attention out of gradients", fontsize="small")


def _growth(axes: Any, tables: Tables) -> None:
    for number, family in enumerate(dict.fromkeys(row["family"] for row in tables["growth"])):
        sizes = dict.fromkeys(row["n"] for row in select(tables["growth"], family=family))
        for n, colour in zip(sizes, shades(len(sizes)), strict=True):
            rows = select(tables["growth"], family=family, n=n)
            look = {**style(number), "color": colour, "linestyle": LINES[number]}
            axes.loglog(
                [row["B"] for row in rows], [row["by_law"] for row in rows], **look,
                label=f"{family}, n = {n}",
            )  # fmt: skip
    axes.axhline(9.0 / 16.0, color=GREY, linestyle=":", label="bound, 9/16")
    axes.set_xlabel("largest logit B")
    axes.set_ylabel("sup |d²L/dλ²| / (B² n dv)")
    axes.set_title("second derivative along X", fontsize="small")


def _oracles(axes: Any, tables: Tables) -> None:
    for number, B in enumerate(dict.fromkeys(row["B"] for row in tables["oracle"])):
        for kind in dict.fromkeys(row["oracle"] for row in tables["oracle"]):
            rows = select(tables["oracle"], B=B, oracle=kind)
            dense = kind == DENSE
            axes.semilogy(
                [row["degree"] for row in rows], [row["relative"] for row in rows],
                **{**style(number), "linestyle": "-" if dense else "--"},
                fillstyle="full" if dense else "none",
                label=f"{'dense' if dense else 'the library'}, B = {B:g}",
            )  # fmt: skip
    axes.set_xlabel("degree of the oracle")
    axes.set_ylabel("error of ‖o‖² by its change from X = 0")
    axes.set_title("oracles with a polynomial for exp", fontsize="small")
