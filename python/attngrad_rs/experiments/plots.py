"""The style of all figures: palette, markers, and the way to a file, the same bytes each time."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from ..errors import MissingDependencyError, OptionError, install_line
from .base import Row

__all__ = [
    "COLOURS", "GREY", "LINES", "MAP", "MARKERS", "file_kind", "legend_below",
    "plain_logarithmic", "rendered", "shades", "style", "whiskers",
]  # fmt: skip

# The palette of Okabe and Ito; markers and dashes tell series apart as well.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#8C6D1F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
GREY = "#666666"
# Sequential, even in lightness, readable without colour.
MAP = "cividis"
# The part of it that is dark enough for a line on white.
DARK = (0.0, 0.75)
POINTS = 9
DPI = 150
FORMATS = (".png", ".svg")


def style(number: int) -> dict[str, Any]:
    """Colour and marker of series ``number``."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.2,
    }


def shades(count: int) -> list[Any]:
    """Colours from dark to light, for lines that are in an order."""
    colours = import_module("matplotlib").colormaps[MAP]
    return [colours(share) for share in np.linspace(*DARK, count)]


def whiskers(axes: Any, at: Sequence[float], rows: Sequence[Row], **look: Any) -> None:
    """Median seconds of rows against ``at``, with a whisker from quartile to quartile.

    Rows of single runs have no quartiles.
    """
    middle, low, high = (
        np.array([row.get(name, row["seconds"]) for row in rows], dtype=float)
        for name in ("seconds", "seconds_low", "seconds_high")
    )
    axes.errorbar(at, middle, yerr=(middle - low, high - middle), elinewidth=2.0, **look)


def legend_below(axes: Any, *, ncols: int, fontsize: str = "small") -> None:
    """A legend under the label of the horizontal axis, where it hides no point."""
    axes.legend(fontsize=fontsize, ncols=ncols, loc="upper center", bbox_to_anchor=(0.5, -0.17))


def plain_logarithmic(axis: Any) -> None:
    """An axis of decades whose labels are numbers: 20 for 2 × 10¹."""
    ticker: Any = import_module("matplotlib.ticker")
    for labels in (axis.set_major_formatter, axis.set_minor_formatter):
        labels(ticker.LogFormatter(minor_thresholds=(1.5, 0.5)))


def rendered(
    draw: Callable[[Any], None], inches: tuple[float, float], kind: str, name: str
) -> bytes:
    """An empty figure, drawn on, as the content of a file.

    Parameters
    ----------
    draw : callable
        Draws on a figure of matplotlib.
    inches : (float, float)
        Width and height.
    kind : {"png", "svg"}
        Of the file.
    name : str
        A name that parts of an SVG file are named after.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    try:
        matplotlib: Any = import_module("matplotlib")
        figure_class: Any = import_module("matplotlib.figure").Figure
    except ImportError:
        raise MissingDependencyError(
            f"found no package 'matplotlib'; figures need the extra cli: {install_line('cli')}"
        ) from None
    # Text stays text.
    options = {"svg.hashsalt": name, "svg.fonttype": "none", "font.size": POINTS}
    with matplotlib.rc_context(options):
        figure = figure_class(figsize=inches, layout="constrained")
        draw(figure)
        out = io.BytesIO()
        # A date would make every file a different one.
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(out, format=kind, dpi=DPI, metadata=metadata)
    return out.getvalue()


def file_kind(path: str) -> str:
    """``"png"`` or ``"svg"``, from the name of the file of a figure.

    Raises
    ------
    OptionError
        For any other ending.
    """
    ending = os.path.splitext(path)[1].lower()
    if ending not in FORMATS:
        raise OptionError(f"--out: found {path!r}; expected a name ending in .png or .svg")
    return ending[1:]
