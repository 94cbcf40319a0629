"""Figures: labelled axes with units, colours that colour-blind readers tell apart."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .errors import MissingDependencyError, OptionError

if TYPE_CHECKING:
    from .demo import DemoReport

__all__ = ["check_format", "demo_figure"]

FORMATS = (".png", ".svg")
# From the palette of Okabe and Ito; shapes and hatches tell the series apart as well.
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#666666"
SIZE_INCHES = (10.0, 4.2)
DPI = 150
BAR_WIDTH = 0.7
# The legend lies above the highest mark, where it hides none.
HEADROOM = 1.2


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


def demo_figure(report: DemoReport, file: IO[bytes], kind: str) -> None:
    """Draw the rate of each head beside the machine's peak, and the error below its certificate.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    figure = _figure()
    rate, error = figure.subplots(1, 2)
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
    # A date would make every file a different one.
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
    figure.savefig(file, format=kind, dpi=DPI, metadata=metadata)


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "--out: found no package 'matplotlib'; figures need the extra cli: "
            "pip install 'attngrad-rs[cli]'"
        ) from None
    return Figure(figsize=SIZE_INCHES, layout="constrained")
