"""The figure of the experiment ``threshold``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .base import Row, Tables, select
from .plots import GREY, MAP, style
from .rows import real, whole
from .switch import DIAGNOSE

__all__ = ["draw"]

LINE = "#D55E00"
NAMES: dict[int | str, str] = {16: "d = 16", "log2": "d = ⌈log₂ n⌉"}
# Of the logarithm of the features, and from where on black is read better than white.
LARGEST, LIGHT = 8.0, 4.5
NONE = "#d9d9d9"
# Numbers of features from here on are written with their power of ten alone.
WHOLE = 1e5


def draw(tables: Tables, figure: Any) -> None:
    """Maps of features for both widths, growth along the curves, and where auto turns to exact."""
    figure.set_size_inches(10.0, 7.8)
    maps, lines = figure.subplots(2, 2, height_ratios=(1.1, 1.0))
    for axes, (width, name) in zip(maps, NAMES.items(), strict=True):
        mesh = _heat_map(axes, select(tables["needed"], target="fixed", width=width))
        axes.set_title(f"features for an error of dL/dX of 1e-3, {name}", fontsize="small")
    figure.colorbar(mesh, ax=list(maps), label="log10 of features")
    _curves(lines[0], tables)
    _switch(lines[1], tables)


def _heat_map(axes: Any, rows: list[Row]) -> Any:
    """Degree and features in each cell; in italics where there are more features than rows."""
    ratios = sorted({real(row, "ratio") for row in rows})
    sizes = sorted({whole(row, "n") for row in rows})
    values = np.full((len(sizes), len(ratios)), np.nan)
    for row in rows:
        i, j = sizes.index(whole(row, "n")), ratios.index(real(row, "ratio"))
        features = real(row, "gradient_features")
        found = math.isfinite(features)
        values[i, j] = math.log10(features) if found else np.nan
        if not found:
            axes.fill_between((j, j + 1), i, i + 1, color=NONE, linewidth=0)
        many = not found or features > sizes[i]
        words = f"{_degrees(row)}\n{_short(features)}" if found else "none"
        colour = "black" if not found or values[i, j] > LIGHT else "white"
        axes.text(
            j + 0.5, i + 0.5, words, ha="center", va="center", fontsize=7, color=colour,
            style="italic" if many else "normal",
        )  # fmt: skip
    mesh = axes.pcolormesh(
        range(len(ratios) + 1), range(len(sizes) + 1), values, cmap=MAP, vmin=0.0, vmax=LARGEST,
        edgecolors="white", linewidth=0.5,
    )  # fmt: skip
    ticks = [f"{ratio:g}" for ratio in ratios]
    axes.set_xticks(np.arange(len(ratios)) + 0.5, ticks)
    # The theorem's line is one of the columns; it is framed, so that nothing in it is struck out.
    place = ratios.index(1.0)
    frame = ([place, place + 1, place + 1, place, place], [0, 0, len(sizes), len(sizes), 0])
    axes.plot(*frame, color=LINE, linewidth=2.5, clip_on=False, zorder=3)
    axes.set_yticks(np.arange(len(sizes)) + 0.5, [str(n) for n in sizes])
    axes.set_xlabel(
        "B / √log n (framed: the theorem's line)\n"
        "degree g (and of o, where it is another), and features (italic: more than rows)",
        fontsize="small",
    )
    axes.set_ylabel("rows n")
    return mesh


def _degrees(row: Row) -> str:
    """The degree that the gradient needs, and where it is another, that of the output."""
    gradient, output = row["gradient_degree"], row["forward_degree"]
    return f"g = {gradient}" if gradient == output else f"{gradient} (o: {output})"


def _short(features: float) -> str:
    return f"{features:.0f}" if features < WHOLE else f"{features:.0e}"


def _curves(axes: Any, tables: Tables) -> None:
    for number, gamma in enumerate(dict.fromkeys(row["gamma"] for row in tables["growth"])):
        rows = select(tables["curve"], gamma=gamma, target="1/n")
        sizes = [row["n"] for row in rows]
        for column, line in (("gradient_rank", "-"), ("forward_rank", "--")):
            look = {**style(number), "linestyle": line}
            label = f"γ = {gamma:g}" if line == "-" else None
            axes.plot(sizes, [row[column] for row in rows], **look, label=label)
    axes.plot(sizes, sizes, color=GREY, linestyle=":", label="n")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("rows n")
    axes.set_ylabel("ε-rank, ε = 1/n")
    axes.set_title("B = c (log n)^γ; solid: p (gradient), dashed: f (output)", fontsize="small")
    axes.legend(fontsize="small", ncols=2)
    axes.grid(True, which="major", alpha=0.3)


def _switch(axes: Any, tables: Tables) -> None:
    """B at which auto turns to exact, by √log n; where it never takes another, nothing."""
    rows = tables["switch"]
    sizes = sorted({whole(row, "n") for row in rows})
    names = dict.fromkeys(row["asked"] for row in rows if row["asked"] != DIAGNOSE)
    for number, name in enumerate(names):
        for (width, label), line in zip(NAMES.items(), ("-", "--"), strict=True):
            taken = [
                row for row in select(rows, asked=name, width=width) if real(row, "switch") > 0.0
            ]
            look = {**style(number), "linestyle": line}
            axes.plot(
                [row["n"] for row in taken], [row["switch"] for row in taken], **look,
                fillstyle="full" if line == "-" else "none", label=f"{name}, {label}",
            )  # fmt: skip
    axes.axhline(1.0, color=LINE, linewidth=2.5, label="the theorem's line, B = √log n")
    short = [n for n in sizes if all(real(r, "switch") == 0.0 for r in select(rows, n=n))]
    if short:
        axes.axvspan(sizes[0] / 1.4, max(short) * 1.4, color=NONE, linewidth=0)
        axes.text(sizes[0], 0.05, "exact for\nits length", fontsize=7, va="bottom")
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.4, sizes[-1] * 1.4)
    axes.set_ylim(0.0, 1.6)
    axes.set_xlabel("rows n")
    axes.set_ylabel("B / √log n")
    axes.set_title("auto turns to the exact method above the lines", fontsize="small")
    axes.legend(fontsize="x-small", ncols=2, loc="upper left")
    axes.grid(True, which="major", alpha=0.3)
