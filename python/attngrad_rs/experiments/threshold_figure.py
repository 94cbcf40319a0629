"""The figure of the experiment ``threshold``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .base import Tables, select
from .calls import EXACT
from .plots import GREY, MAP, style
from .rows import real, whole

__all__ = ["draw"]


def draw(tables: Tables, figure: Any) -> None:
    """Heat maps of features for both sides, growth along the curves, and the library's advice."""
    figure.set_size_inches(10.0, 7.2)
    panels = figure.subplots(2, 2)
    sides = (("forward", "output o"), ("gradient", "dL/dX"))
    for axes, (side, name) in zip(panels[0], sides, strict=True):
        _heat_map(figure, axes, tables, side)
        axes.set_title(f"{name}: features for an error of 1e-3, d = 16", fontsize="small")
    _curves(panels[1][0], tables)
    _advice(panels[1][1], tables)


def _heat_map(figure: Any, axes: Any, tables: Tables, side: str) -> None:
    rows = select(tables["needed"], target="fixed", width=16)
    ratios = sorted({real(row, "ratio") for row in rows})
    sizes = sorted({whole(row, "n") for row in rows})
    values = np.full((len(sizes), len(ratios)), np.nan)
    for row in rows:
        place = sizes.index(whole(row, "n")), ratios.index(real(row, "ratio"))
        features = real(row, f"{side}_features")
        values[place] = math.log10(features) if math.isfinite(features) else np.nan
    mesh = axes.pcolormesh(
        range(len(ratios) + 1), range(len(sizes) + 1), values, cmap=MAP, vmin=0.0, vmax=8.0,
        edgecolors="white", linewidth=0.5,
    )  # fmt: skip
    axes.set_facecolor("#d9d9d9")
    for (i, j), value in np.ndenumerate(values):
        text = (
            "none" if np.isnan(value) else f"{10**value:.4g}" if value < 4 else f"{10**value:.0e}"
        )
        colour = "black" if np.isnan(value) or value > 4.5 else "white"
        axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=6, color=colour)
        if np.isnan(value) or value > math.log10(sizes[i]):
            axes.plot(j + 0.9, i + 0.15, ".", color="#D55E00", markersize=3)
    axes.axvline(ratios.index(1.0) + 0.5, color="#D55E00", linewidth=1.5)
    _draw_switch(axes, tables, ratios, sizes)
    axes.set_xticks(np.arange(len(ratios)) + 0.5, [f"{ratio:g}" for ratio in ratios])
    axes.set_yticks(np.arange(len(sizes)) + 0.5, [str(n) for n in sizes])
    axes.set_xlabel(
        "B / √log n  (1); red line: the theorem, red dot: more features than rows,\n"
        "white and black: auto takes exact right of it",
        fontsize="small",
    )
    axes.set_ylabel("n  (rows)")
    figure.colorbar(mesh, ax=axes, label="log10 of features  (1)")


def _draw_switch(axes: Any, tables: Tables, ratios: list[float], sizes: list[int]) -> None:
    """A stair to the right of the last cell for which auto plans a near-linear method."""
    places = []
    for n in sizes:
        (row,) = select(tables["switch"], n=n)
        last = real(row, "largest_planned_ratio")
        places.append(ratios.index(last) + 1 if last else 0)
    across = np.repeat(places, 2)
    up = np.repeat(np.arange(len(sizes) + 1), 2)[1:-1]
    axes.plot(across, up, color="white", linewidth=3.5, solid_capstyle="butt", clip_on=False)
    axes.plot(across, up, color="black", linewidth=1.5, linestyle="--", clip_on=False)


def _curves(axes: Any, tables: Tables) -> None:
    for number, gamma in enumerate(dict.fromkeys(row["gamma"] for row in tables["growth"])):
        rows = select(tables["curve"], gamma=gamma, target="1/n")
        sizes = [row["n"] for row in rows]
        axes.loglog(
            sizes, [row["gradient_rank"] for row in rows], **style(number), label=f"γ = {gamma:g}"
        )
        axes.loglog(
            sizes, [row["forward_rank"] for row in rows], **{**style(number), "linestyle": "--"}
        )
    axes.loglog(sizes, sizes, color=GREY, linestyle=":", label="n")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("n  (rows)")
    axes.set_ylabel("ε-rank, ε = 1/n  (1)")
    axes.set_title("B = c (log n)^γ; solid: p (gradient), dashed: f (forward)", fontsize="small")
    axes.legend(fontsize="x-small", ncols=2)
    axes.grid(True, which="major", alpha=0.3)


def _advice(axes: Any, tables: Tables) -> None:
    """The view of diagnose, and where auto plans a near-linear method: a ring."""
    looks = {"near-linear": style(0), "borderline": style(1), "exact": style(4)}
    for regime, options in looks.items():
        rows = select(tables["regime"], regime=regime)
        axes.plot(
            [row["ratio"] for row in rows], [row["n"] for row in rows],
            **{**options, "linestyle": "none", "markersize": 6}, label=regime,
        )  # fmt: skip
    planned = [row for row in tables["regime"] if row["plan"] != EXACT]
    axes.plot(
        [row["ratio"] for row in planned], [row["n"] for row in planned], "o", color="black",
        markersize=11, fillstyle="none", label="auto plans near-linear",
    )  # fmt: skip
    axes.axvline(1.0, color="#D55E00", linewidth=1.5, label="theorem: B = Θ(√log n)")
    axes.set_yscale("log", base=2)
    axes.set_xlabel("B / √log n  (1)")
    axes.set_ylabel("n  (rows)")
    axes.set_title(
        "what diagnose advises, and auto plans, at rtol = 1e-2, d = 16", fontsize="small"
    )
    axes.legend(fontsize="x-small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
