"""The demo: gradients of trained heads, and exact against near-linear where entries are small.

Both stand beside peers: dense formulas in NumPy, and torch's flash attention where it is installed.
"""

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
from ..problem import loss_gradient, plan_loss_gradient
from ..reference import loss_gradient as reference_gradient
from . import machine
from .base import Row, Value, select
from .calls import EXACT, Call, paused_seconds, spread_of, timed
from .dense import relative_error
from .peers import NUMPY, TORCH, numpy_gradient, torch_gradient, torch_is_there
from .problems import Data, make
from .rows import numbers, real

__all__ = ["Demo", "run"]

# Entries uniform in [-1, 1] at the paper's scale: its regime, at a length where it shows.
TOKENS, WIDTH, REPEATS = 32768, 16, 5
FIXED: dict[str, Any] = {"method": "polynomial", "certificate": "estimated"}
CALLS = (
    Call("exact", EXACT, {}),
    *(Call(f"degree {g}", "polynomial", {**FIXED, "degree": g}) for g in (1, 2, 3)),
    *(Call(f"rtol {rtol}", "auto", {"rtol": float(rtol)}) for rtol in ("1e-2", "1e-3")),
    Call("rtol 1e-2, sure", "auto", {"rtol": 1e-2, "certificate": "statistical"}),
)
# The least that anybody would ask for: where auto takes exact here, it does for any tolerance.
LOOSEST = 1e-1
# Timed runs of each head.
HEAD_REPEATS = 7
# A peer that would take longer on the small entries is left out: its threads may find no cores.
PATIENCE_SECONDS, SHORTER = 20.0, 8
# Arrays of n × n that the definitions hold at a time.
DENSE_ARRAYS = 8
# Operations of the gradient by X, in units of n² d: two for each of five products.
CONVENTION = 10.0


@dataclass(frozen=True)
class Demo:
    """All heads, both methods on small entries, and the machine that they ran on.

    Norms are Frobenius and errors relative: those of heads against the definitions in float64,
    those of small entries against the exact gradient in float64. Rates are in the 10 n² d
    convention. Seconds are medians, beside their quartiles. What is not installed is None.
    """

    version: str
    cpu: str
    level: str
    threads: int
    dtype: str
    gemm_gflops: float
    torch: bool
    heads: list[Row]
    near_linear: list[Row]
    shown: str


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
        torch=torch_is_there(),
        heads=rows,
        near_linear=near,
        shown=_shown(rows, near),
    )


def _head_row(head: Head, dtype: str, threads: int | None, peak: float) -> Row:
    problem = head.problem(dtype)
    data = Data(problem["A1"], problem["A2"], problem["A3"], problem["E"], head.scale)
    options: dict[str, Any] = {"is_causal": head.is_causal, "threads": threads}
    truth = reference_gradient(**head.problem(np.float64))
    result = loss_gradient(**problem, threads=threads)
    runs: dict[str, Callable[[], Any]] = {
        EXACT: partial(loss_gradient, **problem, threads=threads),
        NUMPY: numpy_gradient(data, dtype, **options),
    }
    if torch_is_there():
        runs[TORCH] = torch_gradient(data, dtype, **options)
    errors = {name: _error(runs[name](), truth) for name in runs if name != EXACT}
    seconds = timed(runs, HEAD_REPEATS)
    n, d = head.query.shape
    own = seconds[EXACT]
    rate = CONVENTION * n * n * d * (0.5 if head.is_causal else 1.0) / own.median
    plan = plan_loss_gradient(**problem, rtol=LOOSEST, threads=threads)
    row: Row = {
        "head": f"{head.model} {head.name}", "n": n, "d": d, "is_causal": head.is_causal,
        "logit_spread": head.logit_spread, "loss": result.loss,
        "gradient_norm": result.certificate.size, **own.row(),
        "milliseconds": 1e3 * own.median, "gflops": rate / 1e9, "share_of_peak": rate / peak,
        "error": _error(result.gradient, truth), "certificate": result.certificate.relative,
        "loosest_plan": plan.method,
    }  # fmt: skip
    for name, word in ((NUMPY, "numpy"), (TORCH, "torch")):
        peer = seconds.get(name)
        found: Row = {} if peer is None else peer.row()
        row |= {f"{word}_{column}": found.get(column) for column in own.row()}
        row |= {
            f"{word}_error": errors.get(name),
            f"times_{word}": None if peer is None else peer.median / own.median,
        }
    return row


def small_entries(dtype: str, threads: int | None, tokens: int, repeats: int) -> list[Row]:
    """Every call on the same entries, and torch, where that does not take too long.

    Dense arrays of NumPy, n × n, would not fit.
    """
    data = make("uniform", tokens, WIDTH)
    given = data.arguments(dtype)
    wide: dict[str, Any] = {name: np.float64(value) for name, value in given.items()}
    truth = loss_gradient(**wide, threads=threads).gradient
    runs: dict[str, Callable[[], Any]] = {
        call.label: partial(loss_gradient, **given, **call.options, threads=threads)
        for call in CALLS
    }
    results = {label: compute() for label, compute in runs.items()}
    seconds = timed(runs, repeats)
    rows: list[Row] = [
        {
            "call": label, "method": result.plan.method, "degree": result.plan.degree,
            "did": _did(result.plan), "samples": result.plan.samples,
            "error": _error(result.gradient, truth), "certificate": result.certificate.relative,
            "kind": result.certificate.kind, **seconds[label].row(),
        }
        for label, result in results.items()
    ]  # fmt: skip
    if torch_is_there() and _torch_seconds(tokens, dtype, threads) < PATIENCE_SECONDS:
        rows.append(_torch_row(data, dtype, threads, truth))
    exact = seconds[EXACT].median
    return [
        {
            "n": tokens, "d": WIDTH, **row, "milliseconds": 1e3 * real(row, "seconds"),
            "times_exact": exact / real(row, "seconds"),
        }
        for row in rows
    ]  # fmt: skip


def _torch_seconds(tokens: int, dtype: str, threads: int | None) -> float:
    """A forecast of one run from one of fewer tokens: the work is quadratic."""
    compute = torch_gradient(make("uniform", tokens // SHORTER, WIDTH), dtype, threads=threads)
    compute()
    return SHORTER**2 * paused_seconds(compute)


def _torch_row(data: Data, dtype: str, threads: int | None, truth: Array) -> Row:
    """One run, which takes longer than all others together."""
    compute = torch_gradient(data, dtype, threads=threads)
    found: list[Array] = []
    seconds = spread_of([paused_seconds(lambda: found.append(compute()))])
    return {
        "call": TORCH, "method": "torch", "degree": None, "did": "exact", "samples": None,
        "error": _error(found[0], truth), "certificate": None, "kind": None, **seconds.row(),
    }  # fmt: skip


def _did(plan: Any) -> str:
    return str(plan.method) if plan.degree is None else f"degree {plan.degree}"


def _error(gradient: Array, truth: Array) -> float:
    return relative_error(gradient.astype(np.float64), truth)


def _shown(heads: list[Row], near: list[Row]) -> str:
    """The numbers in one sentence."""
    bounded = [row for row in (*heads, *near) if row["certificate"] is not None]
    within = sum(real(row, "error") <= real(row, "certificate") for row in bounded)
    parts = [
        f"{within} of {len(bounded)} gradients are within their error bars",
        f"on trained heads exact is {_times(heads, 'times_numpy')} times as fast as dense NumPy",
    ]
    if any(row["times_torch"] is not None for row in heads):
        parts[-1] += f" and {_times(heads, 'times_torch')} times as fast as torch"
    plain = sum(row["loosest_plan"] == EXACT for row in heads)
    parts[-1] += f", and it is what auto takes for {plain} of {len(heads)} even at rtol={LOOSEST:g}"
    for row in select(near, call="rtol 1e-2"):
        parts.append(
            f"on small entries rtol=1e-2 takes {row['did']} and is "
            f"{real(row, 'times_exact'):.1f} times as fast as exact"
        )
    return f"Shown: {'; '.join(parts)}."


def _times(rows: list[Row], column: str) -> str:
    """The range of a column, from its least number to its largest."""
    found: list[Value] = [row[column] for row in rows]
    known = numbers([{column: one} for one in found if one is not None], column)
    low, high = min(known), max(known)
    return f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"
