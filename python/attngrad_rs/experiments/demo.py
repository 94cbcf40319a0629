"""The demo: gradients of trained heads, and exact against near-linear where entries are small."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import _core
from .._inputs.arrays import Array
from .._inputs.memory import check_fits
from ..heads import Head
from ..problem import loss_gradient
from ..reference import loss_gradient as reference_gradient
from ..results import GradientResult
from . import machine
from .base import Row
from .calls import EXACT, Call, timed
from .dense import relative_error
from .plots import COLOURS, GREY, rendered
from .problems import make
from .rows import numbers, real

__all__ = ["CALL_COLUMNS", "HEAD_COLUMNS", "Demo", "demo_figure", "run"]

# Entries uniform in [-1, 1] at the paper's scale: its regime, at a length where it shows.
TOKENS, WIDTH, REPEATS = 32768, 16, 3
FIXED: dict[str, Any] = {"method": "polynomial", "certificate": "estimated"}
CALLS = (
    Call("exact", EXACT, {}),
    *(Call(f"degree {g}", "polynomial", {**FIXED, "degree": g}) for g in (1, 2, 3)),
    *(Call(f"rtol {rtol}", "auto", {"rtol": float(rtol)}) for rtol in ("1e-2", "1e-3")),
    Call("rtol 1e-2, statistical", "auto", {"rtol": 1e-2, "certificate": "statistical"}),
)
# Timed runs of each head.
HEAD_REPEATS = 5
# Arrays of n × n that the definitions hold at a time.
DENSE_ARRAYS = 8
# Operations of the gradient by X, in units of n² d: two for each of five products.
CONVENTION = 10.0
# Columns of the two tables, and how the rows below are shown in them.
HEAD_COLUMNS = {
    "head": "{head}", "causal": "{is_causal}", "n": "{n:d}", "d": "{d:d}",
    "spread": "{logit_spread:.2f}", "loss": "{loss:.5g}", "|dL/dX|": "{gradient_norm:.4g}",
    "s": "{seconds:.3g}", "GF/s": "{gflops:.1f}", "of peak": "{share_of_peak:.0%}",
    "error": "{error:.1e}", "bound": "{certificate:.1e}",
}  # fmt: skip
CALL_COLUMNS = {
    "call": "{call}", "method": "{method}", "degree": "{degree}", "rows": "{samples}",
    "s": "{seconds:.3g}", "x exact": "{times_exact:.1f}", "error": "{error:.1e}",
    "certificate": "{certificate:.1e}", "kind": "{kind}",
}  # fmt: skip
BLUE, ORANGE, *_ = COLOURS
INCHES = (14.0, 4.2)
BAR_WIDTH = 0.7
# The legend lies above the highest mark, where it hides none.
HEADROOM = 1.2
# Decades are roomy: names hang below the marks.
NEAR_ROOM = 10.0


@dataclass(frozen=True)
class Demo:
    """All heads, both methods on small entries, and the machine that they ran on.

    Norms are Frobenius and errors relative: those of heads against the definitions in float64,
    those of small entries against the exact gradient in float64. Rates are in the 10 n² d
    convention.
    """

    version: str
    cpu: str
    level: str
    threads: int
    dtype: str
    gemm_gflops: float
    heads: list[Row]
    near_linear: list[Row]


def run(
    dtype: str,
    threads: int | None,
    progress: Callable[[float], object],
    heads: Iterable[Head],
    *,
    tokens: int = TOKENS,
    repeats: int = REPEATS,
) -> Demo:
    """Compute every head, and ``tokens`` rows of small entries.

    Raises
    ------
    OutOfMemoryError
        For a head whose n × n arrays, which the truth takes, do not fit.
    """
    chosen = list(heads)
    for head in chosen:
        n = len(head.query)
        check_fits(f"{head.model} {head.name}", DENSE_ARRAYS * n * n * np.float64().itemsize)
    peak = machine.gemm_peak(dtype, threads)
    rows: list[Row] = []
    for number, head in enumerate(chosen):
        progress(number / len(chosen) / 2)
        rows.append(_head_row(head, dtype, threads, peak))
    progress(0.5)
    near = small_entries(dtype, threads, tokens, repeats)
    progress(1.0)
    return Demo(
        version=_core.__version__,
        cpu=machine.cpu_name(),
        level=_core.level(),
        threads=machine.thread_count(threads),
        dtype=dtype,
        gemm_gflops=peak / 1e9,
        heads=rows,
        near_linear=near,
    )


def _head_row(head: Head, dtype: str, threads: int | None, peak: float) -> Row:
    compute = partial(loss_gradient, **head.problem(dtype), threads=threads)
    result = compute()
    seconds = timed({head.name: compute}, HEAD_REPEATS)[head.name]
    n, d = head.query.shape
    rate = CONVENTION * n * n * d * (0.5 if head.is_causal else 1.0) / seconds
    return {
        "head": f"{head.model} {head.name}", "n": n, "d": d, "is_causal": head.is_causal,
        "logit_spread": head.logit_spread, "loss": result.loss,
        "gradient_norm": result.certificate.size, "seconds": seconds,
        "gflops": rate / 1e9, "share_of_peak": rate / peak,
        **_errors(result, reference_gradient(**head.problem(np.float64))),
    }  # fmt: skip


def small_entries(dtype: str, threads: int | None, tokens: int, repeats: int) -> list[Row]:
    """Every call on the same entries."""
    given = make("uniform", tokens, WIDTH).arguments(dtype)
    wide: dict[str, Any] = {name: np.float64(value) for name, value in given.items()}
    truth = loss_gradient(**wide, threads=threads).gradient
    runs = {
        call.label: partial(loss_gradient, **given, **call.options, threads=threads)
        for call in CALLS
    }
    results = {label: compute() for label, compute in runs.items()}
    seconds = timed(runs, repeats)
    return [
        {
            "call": label, "method": result.plan.method, "degree": result.plan.degree,
            "samples": result.plan.samples, "seconds": seconds[label],
            "times_exact": seconds[EXACT] / seconds[label], **_errors(result, truth),
            "kind": result.certificate.kind,
        }
        for label, result in results.items()
    ]  # fmt: skip


def _errors(result: GradientResult[Any], truth: Array) -> Row:
    error = relative_error(result.gradient.astype(np.float64), truth)
    return {"error": error, "certificate": result.certificate.relative}


def demo_figure(demo: Demo, kind: str) -> bytes:
    """Rates of heads beside the machine's peak, and errors below their certificates, as a file.

    The third panel holds exact against near-linear: seconds, error and certificate of each call.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    return rendered(partial(_draw, demo), INCHES, kind, "demo")


def _draw(demo: Demo, figure: Any) -> None:
    rate, error, near = figure.subplots(1, 3)
    rates = numbers(demo.heads, "gflops")
    places = np.arange(len(rates))
    rate.bar(places, rates, BAR_WIDTH, color=BLUE, label="gradient")
    rate.axhline(demo.gemm_gflops, color=ORANGE, linestyle="--", label="GEMM peak (NumPy)")
    rate.set_ylabel("rate, 10 n² d convention (GF/s)")
    rate.set_title(f"{demo.cpu}, {demo.level}, {demo.threads} threads", fontsize="small")
    rate.set_ylim(0.0, HEADROOM * max(demo.gemm_gflops, *rates))
    _marks(error.semilogy, places, demo.heads)
    epsilon = float(np.finfo(demo.dtype).eps)
    error.axhline(epsilon, color=GREY, linestyle=":", label=f"epsilon, {demo.dtype}")
    error.set_ylabel("relative error of dL/dX against float64 (1)")
    error.set_title("exact gradient: error and its certificate", fontsize="small")
    # The same room for the legend on an axis of decades.
    low, high = error.get_ylim()
    error.set_ylim(low, high * (high / low) ** (HEADROOM - 1.0))
    for axes in (rate, error):
        names = [row["head"] for row in demo.heads]
        axes.set_xticks(places, names, rotation=40, ha="right", fontsize="small")
        axes.set_xlabel("trained head")
        axes.legend(fontsize="small", loc="upper center", ncols=3)
    _near_panel(near, demo.near_linear)


def _near_panel(axes: Any, rows: list[Row]) -> None:
    """Work against precision: each call once with its error, once with its certificate."""
    milliseconds = [1e3 * seconds for seconds in numbers(rows, "seconds")]
    _marks(axes.loglog, milliseconds, rows)
    for row, at in zip(rows, milliseconds, strict=True):
        # The choice of auto lies close to the same degree by name: their labels go to opposite
        # sides, at two heights.
        planned = "rtol" in str(row["call"])
        place, align = ((-4, -12), "right") if planned else ((4, -4), "left")
        axes.annotate(
            row["call"], (at, real(row, "error")), place, textcoords="offset points",
            ha=align, va="top", fontsize="x-small", color=GREY,
        )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(low / NEAR_ROOM, high * NEAR_ROOM)
    axes.set_xlim(min(milliseconds) / 4, max(milliseconds) * 4)
    axes.set_xlabel("time (ms)")
    axes.set_ylabel("relative error of dL/dX (1)")
    axes.set_title("small entries: exact and near-linear", fontsize="small")
    axes.legend(fontsize="small", loc="upper right")


def _marks(plot: Callable[..., object], at: Any, rows: list[Row]) -> None:
    plot(at, numbers(rows, "certificate"), "v", color=ORANGE, label="certificate")
    plot(at, numbers(rows, "error"), "o", color=BLUE, label="error")
