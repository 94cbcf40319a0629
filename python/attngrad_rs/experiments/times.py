"""Experiment ``time``: seconds against n in regimes of B, for every method, auto, and torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from ..problem import loss_gradient
from .base import FULL, QUICK, Cell, Experiment, Point, Row, Tables, Verdict, point, select
from .calls import EXACT, asked, attempted, library_calls, timed
from .claims import SMALL
from .dense import relative_error
from .peers import TORCH, torch_gradient, torch_is_there
from .problems import make
from .rows import exponent, numbers, real
from .times_figure import draw

__all__ = ["EXPERIMENT", "crossover", "slope"]

WIDTH = 16
# B by √log n: well below the theorem's line, below it, on it, and beyond.
RATIOS = (0.25, 0.5, 1.0, 2.0)
RTOLS = (1e-2, 1e-3)
DTYPE = np.float32
# Quadratic work stops here: four times as many rows take sixteen times as long.
QUADRATIC_MOST = {QUICK: 8192, FULL: 32768}
# Runs of each call, of which a figure shows the median and the quartiles; a quick run only shows
# that it works.
REPEATS = {QUICK: 3, FULL: 9}
# A call that takes longer is left out; only quadratic ones, and rows computed one by one, do.
TIMEOUT_SECONDS = 4.0
# Errors are measured up to here, against the exact gradient in float64.
ERROR_MOST = 32768
# The slowest of all stops earlier.
TORCH_MOST = 16384
# Below, what every call costs whatever its size bends the lines.
FITTED_FROM = {QUICK: 1024, FULL: 4096}
SHORT = "so few rows take mostly what any call takes: only a full run can judge it"
# A call is fitted where it has been measured at this many sizes.
FITTED_LEAST = 3


def points(size: str) -> list[Point]:
    """One for each n and regime; all methods meet in it, so that they see the same machine."""
    sizes = [2**k for k in (range(10, 18) if size == FULL else range(10, 14))]
    return [
        point(
            n=n, ratio=ratio, quadratic=n <= QUADRATIC_MOST[size],
            fitted=n >= FITTED_FROM[size], repeats=REPEATS[size],
        )
        for n in sizes
        for ratio in (RATIOS if size == FULL else (RATIOS[0], RATIOS[-1]))
    ]  # fmt: skip


def measure(n: int, ratio: float, quadratic: bool, fitted: bool, repeats: int) -> Tables:
    """Median seconds of each call; float32, uniform entries up to B = ratio · √log n, d = 16."""
    bound = ratio * math.sqrt(math.log(n))
    data = make("uniform", n, WIDTH, bound=bound)
    arguments = data.arguments(DTYPE)
    truth = loss_gradient(**data.arguments()).gradient if n <= ERROR_MOST else None
    common: Row = {"n": n, "ratio": ratio, "B": bound, "fitted": fitted}
    rows: dict[str, Row] = {}
    runs: dict[str, Callable[[], object]] = {}
    for call in library_calls(RTOLS):
        if call.method == EXACT and not quadratic:
            continue
        found = attempted(call, arguments, TIMEOUT_SECONDS)
        if found is None or (found.plan.method == EXACT and not quadratic):
            continue
        plan = found.plan
        error = None if truth is None else relative_error(found.gradient, truth)
        rows[call.label] = {
            **common, "call": call.label, "method": plan.method, "degree": plan.degree,
            "exact_rows": plan.exact_rows, "error": error,
            "certificate": found.certificate.relative, "kind": found.certificate.kind,
        }  # fmt: skip
        runs[call.label] = partial(attempted, call, arguments)
    if quadratic and n <= TORCH_MOST and torch_is_there():
        torch = torch_gradient(data, DTYPE)
        error = None if truth is None else relative_error(torch(), truth)
        runs[TORCH] = torch
        rows[TORCH] = {**common, "call": TORCH, "method": "torch", "error": error}
    seconds = timed(runs, repeats)
    for label, row in rows.items():
        row.update(seconds[label].row(), nanoseconds_per_row=1e9 * seconds[label].median / n)
    return {"seconds": list(rows.values())}


def slope(rows: list[Row]) -> float:
    """Exponent of n by least squares in logarithms; NaN for too few sizes."""
    fitted = [row for row in rows if row["fitted"]]
    if len(fitted) < FITTED_LEAST:
        return math.nan
    return exponent(fitted, "n", "seconds")


def crossover(sizes: list[float], ratios: list[float]) -> float:
    """From which n on ``ratios`` (own seconds by those of exact) stay below one.

    Between two sizes by a straight line in logarithms. The smallest size where it is below all the
    way; infinite where it is not at the end.
    """
    if not ratios or ratios[-1] >= 1.0:
        return math.inf
    last = max((k for k, ratio in enumerate(ratios) if ratio >= 1.0), default=None)
    if last is None:
        return sizes[0]
    logs = np.log(sizes[last : last + 2]), np.log(ratios[last : last + 2])
    share = logs[1][0] / (logs[1][0] - logs[1][1])
    return float(math.exp(logs[0][0] + share * (logs[0][1] - logs[0][0])))


def summarise(tables: Tables) -> Tables:
    """For each regime and call: slope, crossover with exact, and seconds at the largest n."""
    seconds = tables["seconds"]
    rows: list[Row] = []
    for ratio in dict.fromkeys(row["ratio"] for row in seconds):
        there = select(seconds, ratio=ratio)
        exact = {row["n"]: real(row, "seconds") for row in select(there, call=EXACT)}
        for call in dict.fromkeys(row["call"] for row in there):
            own = select(there, call=call)
            common = [row for row in own if row["n"] in exact]
            ratios = [real(row, "seconds") / exact[row["n"]] for row in common]
            last = own[-1]
            rows.append(
                {
                    "ratio": ratio, "call": call, "slope": slope(own),
                    "crossover": crossover(numbers(common, "n"), ratios),
                    "largest_n": last["n"], "seconds": last["seconds"],
                    "nanoseconds_per_row": last["nanoseconds_per_row"],
                    "largest_common_n": common[-1]["n"] if common else None,
                    "times_exact": ratios[-1] if ratios else math.nan,
                    "slowest_by_exact": max(ratios, default=math.nan),
                    "error": _last_error(own),
                    "exact_share": float(np.mean([row["method"] == EXACT for row in own])),
                }
            )  # fmt: skip
    certified = [row for row in seconds if row.get("error") and row.get("certificate") is not None]
    worst = max(certified, key=_over_certificate)
    autos = [row for row in rows if str(row["call"]).startswith("auto")]
    total: Row = {
        "row": "all",
        "auto_slowest_by_exact": max(numbers(autos, "slowest_by_exact")),
        "error_over_certificate": _over_certificate(worst),
        "worst_call": worst["call"],
        "worst_ratio": worst["ratio"],
        "worst_n": worst["n"],
    }
    return {"fit": rows, "total": [total]}


def _last_error(rows: list[Row]) -> float:
    """The error at the largest n for which it is known; NaN where it is for none.

    Where too many rows are beyond a polynomial that was named, all are computed exactly: that says
    nothing of the polynomial, so it counts only where there is nothing else.
    """
    own = [row for row in rows if row["method"] != EXACT] or rows
    known = [real(row, "error") for row in own if row.get("error") is not None]
    return known[-1] if known else math.nan


def _over_certificate(row: Row) -> float:
    """A true error by what was certified of it."""
    return real(row, "error") / real(row, "certificate")


def verdicts(tables: Tables) -> list[Verdict]:
    """Slopes, crossovers, and what auto costs; judged where n is large enough for a slope."""
    return [replace(one, unjudged=QUICK, why=SHORT) for one in _verdicts(tables)]


def _fit(ratio: float, call: str, column: str) -> Cell:
    return Cell("fit", column, {"ratio": ratio, "call": call})


def _overtakes(crossover: float, **_: object) -> str:
    """The n from which on a call is faster than exact, if there is one where exact was measured."""
    if math.isfinite(crossover):
        return "faster than exact from n = {crossover:.0f} on"
    return "not faster than exact up to n = {common}"


def _verdicts(tables: Tables) -> list[Verdict]:
    low, high = RATIOS[0], RATIOS[-1]
    found = [
        Verdict(
            "Exact takes time n^{low:.2f} whatever the entries: n^{high:.2f} for entries eight "
            "times as large.",
            {"low": _fit(low, EXACT, "slope"), "high": _fit(high, EXACT, "slope")},
            lambda low, high: min(low, high) > 1.7 and abs(low - high) < 0.15,
        ),
        *_degrees(tables, low, high),
        *(one for rtol in RTOLS for one in _auto(rtol, low, high)),
        Verdict(
            "Auto takes at most {most:.2f} times the time of exact, over all regimes and n.",
            {"most": Cell("total", "auto_slowest_by_exact", {"row": "all"})},
            lambda most: most <= 1.5,
        ),
        Verdict(
            "No error exceeds its certificate; the largest is {times:.2g} times it ({call}, "
            "B = {ratio:g} √log n, n = {n}).",
            {
                "times": Cell("total", "error_over_certificate", {"row": "all"}),
                "call": Cell("total", "worst_call", {"row": "all"}),
                "ratio": Cell("total", "worst_ratio", {"row": "all"}),
                "n": Cell("total", "worst_n", {"row": "all"}),
            },
            lambda times, call, ratio, n: times <= 1.0,
        ),
    ]
    if select(tables["fit"], ratio=low, call=TORCH):
        found.append(
            Verdict(
                "torch (flash) takes time n^{slope:.2f} and {times:.1f} times that of exact at "
                "n = {n}.",
                {
                    "slope": _fit(low, TORCH, "slope"),
                    "times": _fit(low, TORCH, "times_exact"),
                    "n": _fit(low, TORCH, "largest_common_n"),
                },
                lambda slope, times, n: slope > 1.7,
            )
        )
    return found


def _wrong(error: float) -> str:
    """An error in words: from the size of the gradient on, no digit of it is right."""
    if math.isnan(error):
        return "of unknown error"
    return "wrong in all digits" if error >= 1.0 else "wrong by {error:.1%} of the gradient"


def _degrees(tables: Tables, low: float, high: float) -> list[Verdict]:
    """Fixed degrees: near-linear time where entries are small, and where they are not, wrong."""
    found = []
    for row in tables["fit"]:
        call = str(row["call"])
        if "degree" not in call:
            continue
        if row["ratio"] == low:
            found.append(
                Verdict(
                    lambda call=call, **numbers: (
                        f"B = {low:g} √log n, {call}: n^{{slope:.2f}}, {_overtakes(**numbers)}, "
                        "{ns:.0f} ns a row at n = {n}."
                    ),
                    {
                        "slope": _fit(low, call, "slope"),
                        "crossover": _fit(low, call, "crossover"),
                        "common": _fit(low, call, "largest_common_n"),
                        "ns": _fit(low, call, "nanoseconds_per_row"),
                        "n": _fit(low, call, "largest_n"),
                    },
                    lambda slope, crossover, common, ns, n: slope < 1.25,
                )
            )
        if row["ratio"] == high:
            found.append(
                Verdict(
                    lambda error, call=call: (
                        f"B = {high:g} √log n, {call}: {_wrong(error)} at the largest n where it "
                        "was used and the truth is known, however fast it is."
                    ),
                    {"error": _fit(high, call, "error")},
                )
            )
    return found


def _auto(rtol: float, low: float, high: float) -> list[Verdict]:
    call = asked(rtol)
    return [
        Verdict(
            lambda **numbers: (
                f"Auto at rtol {rtol:g} and B = {low:g} √log n: n^{{slope:.2f}}, "
                f"{_overtakes(**numbers)}."
            ),
            {
                "slope": _fit(low, call, "slope"), "crossover": _fit(low, call, "crossover"),
                "common": _fit(low, call, "largest_common_n"),
            },
            lambda slope, crossover, common: slope < 1.5 and math.isfinite(crossover),
        ),
        Verdict(
            f"Auto at rtol {rtol:g} and B = {high:g} √log n takes the exact method at "
            "{share:.0%} of all n.",
            {"share": _fit(high, call, "exact_share")},
            lambda share: share == 1.0,
        ),
    ]  # fmt: skip


def answer(tables: Tables) -> Verdict:
    """The time that small entries save, and large ones do not."""
    low, high = RATIOS[0], RATIOS[-1]
    call = asked(RTOLS[0])
    return Verdict(
        lambda **numbers: (
            f"At B = {low:g} √log n auto at rtol {RTOLS[0]:g} takes time n^{{slope:.2f}} and is "
            f"{_overtakes(**numbers)}; at {high:g} √log n it takes the exact method at "
            "{share:.0%} of all n."
        ),
        {
            "slope": _fit(low, call, "slope"), "crossover": _fit(low, call, "crossover"),
            "common": _fit(low, call, "largest_common_n"),
            "share": _fit(high, call, "exact_share"),
        },
    )  # fmt: skip


EXPERIMENT = Experiment(
    name="time",
    title="Time against n in regimes of B",
    claim=SMALL,
    aim="Below √log n the gradient is near-linear in practice: where it overtakes the exact "
    "method, what it costs, and that auto stays with exact where entries are too large.",
    points=points,
    measure=measure,
    summarise=summarise,
    verdicts=verdicts,
    answer=answer,
    draw=draw,
)
