"""The figure of the demo: time against error, of trained heads and of small entries."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .base import Row
from .calls import EXACT
from .demo import Demo
from .peers import NUMPY, TORCH
from .plots import COLOURS, GREY, MARKERS, legend_below, plain_logarithmic, rendered
from .rows import numbers, real

__all__ = ["demo_figure"]

INCHES = (14.0, 4.8)
BLUE, ORANGE, GREEN, *_ = COLOURS
# Of each way to the gradient of a head: its label, the start of its columns, and its colour.
WAYS = (
    ("attngrad, exact", "", BLUE), (NUMPY, "numpy_", ORANGE), (TORCH, "torch_", GREEN),
)  # fmt: skip
# Of all bars of a head together; and above the highest, room for the legend.
BARS, HEADROOM = 0.8, 1.25


def demo_figure(demo: Demo, kind: str) -> bytes:
    """Time against error for trained heads beside the peers, how much faster, and small entries.

    A whisker upwards ends at the certificate of the error, one across spans the quartiles of time.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    return rendered(partial(_draw, demo), INCHES, kind, "demo")


def _draw(demo: Demo, figure: Any) -> None:
    heads, times, near = figure.subplots(1, 3, width_ratios=(1.0, 0.9, 1.1))
    _heads(heads, demo)
    _times(times, demo.heads)
    _near(near, demo.near_linear)
    figure.suptitle(f"{demo.cpu}, {demo.level}, {demo.threads} threads, {demo.dtype}", fontsize=9)


def _heads(axes: Any, demo: Demo) -> None:
    """Each way to the gradient of each head; colours are ways, and markers are models."""
    models = list(dict.fromkeys(str(row["head"]).partition(" ")[0] for row in demo.heads))
    for label, start, colour in WAYS:
        for model, marker in zip(models, MARKERS, strict=False):
            rows = [
                row
                for row in demo.heads
                if str(row["head"]).startswith(f"{model} ") and row[f"{start}seconds"] is not None
            ]
            if rows:
                _points(axes, rows, start, color=colour, marker=marker, label=f"{label}, {model}")
    epsilon = float(np.finfo(demo.dtype).eps)
    axes.axhline(epsilon, color=GREY, linestyle=":", label=f"epsilon, {demo.dtype}")
    axes.set_title("trained heads: time against error", fontsize="small")
    _finish(axes)


def _times(axes: Any, rows: list[Row]) -> None:
    """Bars of how many times as fast exact is as each peer."""
    places = np.arange(len(rows))
    peers = [
        (label, f"times_{start.rstrip('_')}", colour)
        for label, start, colour in WAYS[1:]
        if all(row[f"times_{start.rstrip('_')}"] is not None for row in rows)
    ]
    width = BARS / len(peers)
    for number, (label, column, colour) in enumerate(peers):
        at = places + (number - (len(peers) - 1) / 2.0) * width
        axes.bar(at, numbers(rows, column), width, color=colour, label=label)
    axes.axhline(1.0, color="black", linewidth=1.0)
    axes.set_ylim(0.0, HEADROOM * max(real(row, column) for _, column, _ in peers for row in rows))
    names = [row["head"] for row in rows]
    axes.set_xticks(places, names, rotation=40, ha="right", fontsize="small")
    axes.set_ylabel("time of the peer by that of attngrad")
    axes.set_title("exact: how many times as fast", fontsize="small")
    axes.legend(fontsize="small", loc="upper left", ncols=2)


def _near(axes: Any, rows: list[Row]) -> None:
    for number, row in enumerate(rows):
        exact = row["method"] in (EXACT, "torch")
        _points(
            axes, [row], "", color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)], fillstyle="none" if exact else "full",
            label=_label(row),
        )  # fmt: skip
    size = "".join(f", n = {row['n']}, d = {row['d']}" for row in rows[:1])
    axes.set_title(f"small entries{size}: time against error", fontsize="small")
    _finish(axes)


def _label(row: Row) -> str:
    """A call, and the method that it took where the name does not say it."""
    planned = str(row["call"]).startswith("rtol")
    return f"{row['call']}: {row['did']}" if planned else str(row["call"])


def _points(axes: Any, rows: list[Row], start: str, **look: Any) -> None:
    middle, low, high = (
        1e3 * np.array(numbers(rows, f"{start}{name}"))
        for name in ("seconds", "seconds_low", "seconds_high")
    )
    errors = np.array(numbers(rows, f"{start}error"))
    tops = [_top(row, start) for row in rows]
    axes.errorbar(
        middle, errors, xerr=(middle - low, high - middle), yerr=(0.0 * errors, tops - errors),
        linestyle="none", capsize=3, elinewidth=0.8, markersize=6, **look,
    )  # fmt: skip


def _top(row: Row, start: str) -> float:
    """The end of the whisker of an error: its certificate, or itself without a finite one."""
    error, certificate = real(row, f"{start}error"), row.get(f"{start}certificate")
    finite = isinstance(certificate, float) and np.isfinite(certificate)
    return max(error, float(certificate)) if finite and certificate is not None else error


def _finish(axes: Any) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_logarithmic(axes.xaxis)
    axes.set_xlabel("time (ms)")
    axes.set_ylabel("relative error of dL/dX, and up to its certificate")
    axes.grid(True, which="major", alpha=0.3)
    legend_below(axes, ncols=2)
