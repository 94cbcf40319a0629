"""The figure of the demo, with units on all axes."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np

from ...errors import OptionError
from ..plots import COLOURS, GREY, rendered
from .report import DemoReport

__all__ = ["check_format", "demo_figure"]

FORMATS = (".png", ".svg")
BLUE, ORANGE, *_ = COLOURS
INCHES = (14.0, 4.2)
BAR_WIDTH = 0.7
# The legend lies above the highest mark, where it hides none.
HEADROOM = 1.2
# Decades are roomy: names hang below the marks.
NEAR_ROOM = 10.0


def check_format(path: str) -> str:
    """``"png"`` or ``"svg"``, from the name of the file.

    Raises
    ------
    OptionError
        For any other ending.
    """
    ending = os.path.splitext(path)[1].lower()
    if ending not in FORMATS:
        raise OptionError(f"--out: found {path!r}; a name ending in .png or .svg is wanted")
    return ending[1:]


def demo_figure(report: DemoReport, kind: str) -> bytes:
    """Rates of heads beside the machine's peak, and errors below their certificates, as a file.

    The third panel holds exact against near-linear: seconds, error and certificate of each call.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    return rendered(partial(_draw, report), INCHES, kind, "demo")


def _draw(report: DemoReport, figure: Any) -> None:
    rate, error, near = figure.subplots(1, 3)
    names = [row.head for row in report.heads]
    places = np.arange(len(names))
    rate.bar(places, [row.gflops for row in report.heads], BAR_WIDTH, color=BLUE, label="gradient")
    rate.axhline(report.gemm_gflops, color=ORANGE, linestyle="--", label="GEMM peak (NumPy)")
    rate.set_ylabel("rate, 10 n² d convention (GF/s)")
    rate.set_title(f"{report.cpu}, {report.level}, {report.threads} threads", fontsize="small")
    error.semilogy(
        places, [row.certificate for row in report.heads], "v", color=ORANGE, label="certificate"
    )
    error.semilogy(places, [row.error for row in report.heads], "o", color=BLUE, label="error")
    epsilon = float(np.finfo(report.dtype).eps)
    error.axhline(epsilon, color=GREY, linestyle=":", label=f"epsilon, {report.dtype}")
    error.set_ylabel("relative error of dL/dX against float64 (1)")
    error.set_title("exact gradient: error and its certificate", fontsize="small")
    rate.set_ylim(0.0, HEADROOM * max(report.gemm_gflops, *(row.gflops for row in report.heads)))
    # The same room for the legend on an axis of decades.
    low, high = error.get_ylim()
    error.set_ylim(low, high * (high / low) ** (HEADROOM - 1.0))
    for axes in (rate, error):
        axes.set_xticks(places, names, rotation=40, ha="right", fontsize="small")
        axes.set_xlabel("trained head")
        axes.legend(fontsize="small", loc="upper center", ncols=3)
    _near_panel(near, report)


def _near_panel(axes: Any, report: DemoReport) -> None:
    """Work against precision: each call once with its error, once with its certificate."""
    rows = report.near_linear
    seconds = [1e3 * row.seconds for row in rows]
    axes.loglog(seconds, [row.certificate for row in rows], "v", color=ORANGE, label="certificate")
    axes.loglog(seconds, [row.error for row in rows], "o", color=BLUE, label="error")
    for row, at in zip(rows, seconds, strict=True):
        # What auto chose lies close to the same degree by name: their labels go to opposite sides,
        # at two heights.
        planned = "rtol" in row.call
        place, align = ((-4, -12), "right") if planned else ((4, -4), "left")
        axes.annotate(
            row.call, (at, row.error), place, textcoords="offset points",
            ha=align, va="top", fontsize="x-small", color=GREY,
        )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(low / NEAR_ROOM, high * NEAR_ROOM)
    axes.set_xlim(min(seconds) / 4, max(seconds) * 4)
    axes.set_xlabel("time (ms)")
    axes.set_ylabel("relative error of dL/dX (1)")
    axes.set_title("small entries: exact and near-linear", fontsize="small")
    axes.legend(fontsize="small", loc="upper right")
