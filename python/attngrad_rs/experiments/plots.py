"""What the figures share: size, palette, and one way to SVG that gives the same bytes each time."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

from ..errors import MissingDependencyError, install_line
from .base import Experiment, Tables

__all__ = ["COLOURS", "GREY", "LINES", "MARKERS", "legend_above", "style", "svg"]

# The palette of Okabe and Ito; markers and dashes tell series apart as well.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#8C6D1F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
GREY = "#666666"
WIDTH_INCHES = 10.0
# Sequential, even in lightness, readable without colour.
MAP = "cividis"


def style(number: int) -> dict[str, Any]:
    """Colour and marker of series ``number``."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.2,
    }


def legend_above(axes: Any, **options: Any) -> None:
    """A legend over the axes, where it hides nothing."""
    columns = options.pop("ncols", 3)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, fontsize="x-small",
        frameon=False, **options,
    )  # fmt: skip


def svg(experiment: Experiment, tables: Tables) -> bytes:
    """The figure of an experiment.

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
    # The salt names what the parts of the file are called; text stays text.
    options = {"svg.hashsalt": experiment.name, "svg.fonttype": "none", "font.size": 9}
    with matplotlib.rc_context(options):
        figure = figure_class(figsize=(WIDTH_INCHES, 4.0), layout="constrained")
        experiment.draw(tables, figure)
        out = io.BytesIO()
        # A date would make every file a different one.
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
