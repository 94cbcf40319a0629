"""Experiment ``precision``: seconds against reached error, and seconds against peak memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .approximations import favor_features
from .base import FULL, Cell, Experiment, Point, Row, Tables, Verdict, point, select
from .calls import EXACT, attempted, library_calls, timed
from .dense import exponential, gradient, relative_error
from .footprint import FEATURES, MOMENTS, RECOMPUTED, WAYS, from_features, measured
from .peers import NUMPY, TORCH, numpy_gradient, torch_gradient, torch_is_there
from .plots import style
from .problems import Data, make
from .rows import real

__all__ = ["EXPERIMENT"]

WIDTH = 16
BOUND = 1.0
DEGREES = (1, 2, 3, 4)
RTOLS = (1e-1, 1e-2, 1e-3)
FAVOR, FAVOR_FEATURES = "FAVOR+ (NumPy)", (16, 64, 256, 1024)
REPEATS = 3
MEMORY_DEGREE = 2
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
        "peak_mebibytes": peak / MEGA, "bytes_per_row": peak / n, "seconds": seconds,
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
    return [
        {**common, "call": label, **row, "seconds": seconds[label]} for label, row in rows.items()
    ]


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
    for wanted in (1e-1, 1e-2, 1e-3, 1e-5):
        good = [row for row in tables["work"] if real(row, "error") <= wanted]
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
    return {"fastest": rows, "total": [{"row": "all", "error_over_certificate": worst}]}


def verdicts(tables: Tables) -> list[Verdict]:
    """Who is fastest for an error, whether certificates hold, and what memory buys."""

    def fastest(wanted: float, column: str) -> Cell:
        return Cell("fastest", column, {"wanted": wanted})

    found = [
        Verdict(
            f"The fastest way to an error of {wanted:g} is {{call}} ({{dtype}}): {{seconds:.2g}} s,"
            " {times:.1f} times as fast as exact in that precision.",
            {
                "call": fastest(wanted, "call"), "dtype": fastest(wanted, "dtype"),
                "seconds": fastest(wanted, "seconds"),
                "times": fastest(wanted, "times_faster_than_exact"),
            },
        )
        for wanted in (1e-1, 1e-2, 1e-3, 1e-5)
    ]  # fmt: skip
    found.append(
        Verdict(
            "No error exceeds its certificate: the largest ratio is {ratio:.2g}.",
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
                    "n": Cell("memory", "n", {"way": RECOMPUTED}),
                    "moments": Cell("memory", "peak_mebibytes", {"way": MOMENTS}),
                    "fast": Cell("memory", "seconds", {"way": MOMENTS}),
                    "features": Cell("memory", "peak_mebibytes", {"way": FEATURES}),
                    "slow": Cell("memory", "seconds", {"way": FEATURES}),
                },
                lambda n, moments, fast, features, slow: moments < features and fast < slow,
            ),
            # How much keeping moments gains depends on n, and at small n is within the noise.
            Verdict(
                "Where nothing is kept, a call takes {nothing:.0f} MiB and {again:.2g} s.",
                {
                    "nothing": Cell("memory", "peak_mebibytes", {"way": RECOMPUTED}),
                    "again": Cell("memory", "seconds", {"way": RECOMPUTED}),
                },
            ),
        ]
    return found


def draw(tables: Tables, figure: Any) -> None:
    """Work against precision, and seconds against memory."""
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    work = tables["work"]
    for number, method in enumerate(dict.fromkeys(row["method"] for row in work)):
        for dtype, line, fill in (("float32", "-", "full"), ("float64", "--", "none")):
            rows = [row for row in select(work, method=method, dtype=dtype)]
            rows = [row for row in rows if np.isfinite(real(row, "error"))]
            rows.sort(key=lambda row: real(row, "error"))
            left.loglog(
                [row["error"] for row in rows], [row["seconds"] for row in rows],
                **{**style(number), "linestyle": line, "fillstyle": fill, "markersize": 5},
                label=method if (dtype == "float32") != (method == FAVOR) else None,
            )  # fmt: skip
    left.set_xlabel("relative error of dL/dX that is reached  (1); hollow, dashed: float64")
    left.set_ylabel("time  (s)")
    left.set_title(f"n = {work[0]['n']}, d = {WIDTH}, B = {BOUND:g}", fontsize="small")
    left.legend(fontsize="x-small", ncols=2)
    memory = tables.get("memory", [])
    for number, row in enumerate(memory):
        right.loglog(
            [row["peak_mebibytes"]], [row["seconds"]], **{**style(number), "markersize": 8},
            label=row["way"],
        )  # fmt: skip
    right.set_xlabel("peak memory above the inputs  (MiB)")
    right.set_ylabel("time of the second call  (s)")
    title = f"n = {memory[0]['n']}, degree {MEMORY_DEGREE}" if memory else "measured on Linux only"
    right.set_title(title, fontsize="small")
    right.margins(0.3)
    # Within a decade they run into each other.
    right.tick_params(axis="x", which="minor", labelbottom=False)
    right.legend(fontsize="x-small")
    for axes in (left, right):
        axes.grid(True, which="major", alpha=0.3)


EXPERIMENT = Experiment(
    name="precision",
    title="Work and precision, time and memory",
    claim="What an error costs in seconds, for every method and the peers that are installed; and "
    "what keeping moments, or whole features, costs in memory.",
    points=points,
    measure=measure,
    summarise=summarise,
    verdicts=verdicts,
    draw=draw,
)
