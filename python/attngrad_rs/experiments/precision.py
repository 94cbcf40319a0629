"""Experiment ``precision``: seconds against reached error, and seconds against peak memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._inputs.options import AUTO
from .approximations import favor_features
from .base import FULL, Cell, Experiment, Point, Row, Tables, Verdict, point, select
from .calls import EXACT, attempted, library_calls, timed
from .claims import SMALL
from .dense import exponential, gradient, relative_error
from .footprint import FEATURES, MOMENTS, RECOMPUTED, WAYS, from_features, measured
from .peers import NUMPY, TORCH, numpy_gradient, torch_gradient, torch_is_there
from .plots import style, whiskers
from .problems import Data, make
from .rows import numbers, real

__all__ = ["EXPERIMENT"]

WIDTH = 16
BOUND = 1.0
DEGREES = (1, 2, 3, 4)
RTOLS = (1e-1, 1e-2, 1e-3)
FAVOR, FAVOR_FEATURES = "FAVOR+ (NumPy)", (16, 64, 256, 1024)
REPEATS = 9
MEMORY_DEGREE = 2
# The errors for which the fastest way is looked for.
WANTED = (1e-1, 1e-2, 1e-3, 1e-5)
MEGA = 2.0**20


def points(size: str) -> list[Point]:
    """One for each precision, and one for each way to keep things."""
    n, rows = (8192, 65536) if size == FULL else (2048, 16384)
    found = [point(what="work", n=n, way=dtype) for dtype in ("float32", "float64")]
    return found + [point(what="memory", n=rows, way=way) for way in WAYS if way != EXACT]


def measure(what: str, n: int, way: str) -> Tables:
    """Uniform entries up to B = 1, d = 16."""
    if what == "work":
        return {"work": _work(n, way)}
    found = measured(way, n, MEMORY_DEGREE)
    if found is None:
        return {"memory": []}
    peak, seconds = found
    row: Row = {
        "way": way, "n": n, "degree": MEMORY_DEGREE, "peak_bytes": peak,
        "peak_mebibytes": peak / MEGA, "bytes_per_row": peak / n, **seconds.row(),
    }  # fmt: skip
    return {"memory": [row]}


def _work(n: int, dtype: str) -> list[Row]:
    """Median seconds and true errors of all methods in one precision."""
    data = make("uniform", n, WIDTH, bound=BOUND)
    truth = gradient(exponential(data), data).by_X
    arguments = data.arguments(dtype)
    rows: dict[str, Row] = {}
    runs: dict[str, Callable[[], Any]] = {}
    for call in library_calls(RTOLS, DEGREES):
        found = attempted(call, arguments)
        if found is None:
            continue
        rows[call.label] = {
            "method": call.method, "ran": found.plan.method, "degree": found.plan.degree,
            "error": relative_error(found.gradient, truth),
            "certificate": found.certificate.relative, "kind": found.certificate.kind,
        }  # fmt: skip
        runs[call.label] = partial(attempted, call, arguments)
    for label, run in _peers(data, dtype).items():
        method = label.partition(",")[0]
        rows[label] = {"method": method, "ran": method, "error": relative_error(run(), truth)}
        runs[label] = run
    seconds = timed(runs, REPEATS)
    common: Row = {"n": n, "dtype": dtype}
    return [{**common, "call": label, **row, **seconds[label].row()} for label, row in rows.items()]


def _peers(data: Data, dtype: str) -> dict[str, Callable[[], Any]]:
    """Dense NumPy, torch where it is installed, and random features in float64."""
    found: dict[str, Callable[[], Any]] = {NUMPY: numpy_gradient(data, dtype)}
    if torch_is_there():
        found[TORCH] = torch_gradient(data, dtype)
    if dtype == "float64":
        for features in FAVOR_FEATURES:
            found[f"{FAVOR}, {features}"] = _favor(data, features)
    return found


def _favor(data: Data, features: int) -> Callable[[], Any]:
    return lambda: from_features(*favor_features(data, features, 0), data)


def summarise(tables: Tables) -> Tables:
    """The fastest call for each error, and what keeping things is worth."""
    rows: list[Row] = []
    # Where auto takes the exact method, it is exact that is measured a second time.
    ways = [row for row in tables["work"] if row["method"] != AUTO or row["ran"] != EXACT]
    for wanted in WANTED:
        good = [row for row in ways if real(row, "error") <= wanted]
        best = min(good, key=lambda row: real(row, "seconds"))
        (exact,) = select(tables["work"], call=EXACT, dtype=best["dtype"])
        rows.append(
            {
                "wanted": wanted, "call": best["call"], "dtype": best["dtype"],
                "seconds": best["seconds"], "error": best["error"],
                "times_faster_than_exact": real(exact, "seconds") / real(best, "seconds"),
            }
        )  # fmt: skip
    worst = max(
        (
            real(row, "error") / real(row, "certificate")
            for row in tables["work"]
            if row.get("certificate") is not None
        ),
        default=math.nan,
    )
    best = min(tables["work"], key=lambda row: real(row, "error"))
    total: Row = {
        "row": "all", "error_over_certificate": worst, "best_error": best["error"],
        "best_call": f"{best['call']} ({best['dtype']})",
    }  # fmt: skip
    return {"fastest": rows, "total": [total]}


def _fastest(wanted: float, column: str) -> Cell:
    return Cell("fastest", column, {"wanted": wanted})


def _how_fast(call: str, **_: object) -> str:
    """The exact method is not compared with itself."""
    return "" if call == EXACT else ", {times:.1f} times as fast as exact in that precision"


def _fastest_way(wanted: float) -> Verdict:
    return Verdict(
        lambda **numbers: (
            f"The fastest way to an error of {wanted:g} is {{call}} ({{dtype}}): {{seconds:.2g}} s"
            f"{_how_fast(**numbers)}."
        ),
        {
            "call": _fastest(wanted, "call"), "dtype": _fastest(wanted, "dtype"),
            "seconds": _fastest(wanted, "seconds"),
            "times": _fastest(wanted, "times_faster_than_exact"),
        },
    )  # fmt: skip


def _memory(column: str, way: str) -> Cell:
    return Cell("memory", column, {"way": way})


def verdicts(tables: Tables) -> list[Verdict]:
    """Who is fastest for an error, whether certificates hold, and what memory buys."""
    found = [_fastest_way(wanted) for wanted in WANTED]
    found.append(
        Verdict(
            "No error exceeds its certificate: the largest is {ratio:.2g} times it.",
            {"ratio": Cell("total", "error_over_certificate", {"row": "all"})},
            lambda ratio: ratio <= 1.0,
        )
    )
    if tables.get("memory"):
        found += [
            Verdict(
                "At n = {n}, moments that are kept take less memory and less time a call "
                "({moments:.0f} MiB, {fast:.2g} s) than features that are kept "
                "({features:.0f} MiB, {slow:.2g} s).",
                {
                    "n": _memory("n", RECOMPUTED),
                    "moments": _memory("peak_mebibytes", MOMENTS),
                    "fast": _memory("seconds", MOMENTS),
                    "features": _memory("peak_mebibytes", FEATURES),
                    "slow": _memory("seconds", FEATURES),
                },
                lambda n, moments, fast, features, slow: moments < features and fast < slow,
            ),
            # How much keeping moments gains depends on n, and at small n is within the noise.
            Verdict(
                "Where nothing is kept, a call takes {nothing:.0f} MiB and {again:.2g} s.",
                {
                    "nothing": _memory("peak_mebibytes", RECOMPUTED),
                    "again": _memory("seconds", RECOMPUTED),
                },
            ),
        ]
    return found


def answer(tables: Tables) -> Verdict:
    """The price of an error of 1e-3, and the least error of all."""
    n = tables["work"][0]["n"]
    return Verdict(
        lambda call, **numbers: (
            f"At n = {n} and B = {BOUND:g} an error of 1e-3 takes {{seconds:.2g}} s with {{call}}"
            f"{_how_fast(call)}; the best error of all, {{best:.0e}}, is that of {{most}}."
        ),
        {
            "seconds": _fastest(1e-3, "seconds"), "call": _fastest(1e-3, "call"),
            "times": _fastest(1e-3, "times_faster_than_exact"),
            "best": Cell("total", "best_error", {"row": "all"}),
            "most": Cell("total", "best_call", {"row": "all"}),
        },
    )  # fmt: skip


def draw(tables: Tables, figure: Any) -> None:
    """Work against precision, and seconds against memory."""
    figure.set_size_inches(10.0, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    work = tables["work"]
    for number, method in enumerate(dict.fromkeys(row["method"] for row in work)):
        for dtype, fill in (("float32", "full"), ("float64", "none")):
            rows = [
                row
                for row in select(work, method=method, dtype=dtype)
                if np.isfinite(real(row, "error"))
            ]
            # No lines: what is between two of them nobody has measured.
            look = {**style(number), "linestyle": "none", "fillstyle": fill, "markersize": 6}
            whiskers(left, numbers(rows, "error"), rows, **look)
        left.plot([], [], **{**style(number), "linestyle": "none", "markersize": 6}, label=method)
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("relative error of dL/dX that is reached")
    left.set_ylabel("seconds (median and quartiles)")
    title = f"n = {work[0]['n']}, d = {WIDTH}, B = {BOUND:g}; filled: float32, hollow: float64"
    left.set_title(title, fontsize="small")
    left.legend(fontsize="small", ncols=2)
    memory = tables.get("memory", [])
    for number, row in enumerate(memory):
        look = {**style(number), "linestyle": "none", "markersize": 8}
        whiskers(right, [real(row, "peak_mebibytes")], [row], **look, label=row["way"])
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel("peak memory above the inputs (MiB)")
    right.set_ylabel("seconds of a later call (median and quartiles)")
    title = f"n = {memory[0]['n']}, degree {MEMORY_DEGREE}" if memory else "measured on Linux only"
    right.set_title(title, fontsize="small")
    right.margins(0.3)
    # Within a decade they run into each other.
    right.tick_params(axis="x", which="minor", labelbottom=False)
    right.legend(fontsize="small")
    for axes in (left, right):
        axes.grid(True, which="major", alpha=0.3)


EXPERIMENT = Experiment(
    name="precision",
    title="Work and precision, time and memory",
    claim=SMALL,
    aim="What an error costs in seconds, for every method and the peers that are installed; and "
    "what keeping moments, or whole features, costs in memory.",
    points=points,
    measure=measure,
    summarise=summarise,
    verdicts=verdicts,
    answer=answer,
    draw=draw,
)
