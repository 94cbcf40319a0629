"""Experiment ``quality``: error of the gradient against degree and features, for small entries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._inputs.options import METHODS, Method
from ..errors import AttnGradError
from ..polynomials import KINDS
from ..problem import loss_gradient
from ..reference.degrees import feature_count
from .approximations import Fit, favor, sup_error_law
from .base import FULL, QUICK, Cell, Experiment, Point, Row, Tables, Verdict, point, select
from .claims import SMALL
from .dense import exponential, gradient, relative_error
from .plots import GREY, LINES, style
from .problems import Data, make
from .rows import numbers, whole

__all__ = ["EXPERIMENT"]

WIDTH = 16
FAVOR = "favor"
SEEDS = 3
# Where the kinds are compared in words: the paper's regime, and the features of degree 2 and 3.
BOUND, DEGREE = 1.0, 2
SAMPLED_DEGREE = 3
# Labels and widths of lines: three of them run on top of each other, the widest below.
LOOKS = {
    "taylor": ("Taylor", 1.2), "chebyshev": ("Chebyshev interpolation", 4.0),
    "minimax": ("minimax", 2.4), "minimax_relative": ("relative minimax", 0.9),
    "least_squares": ("least squares", 1.2), FAVOR: ("FAVOR+, random features", 1.2),
}  # fmt: skip


def points(size: str) -> list[Point]:
    """One for each bound of the entries and kind of approximation, and for each method."""
    n, largest = (2048, 8) if size == FULL else (1024, 5)
    bounds = (0.5, 1.0, 2.0, 4.0) if size == FULL else (0.5, 1.0, 2.0)
    found = []
    for bound in bounds:
        common = {"n": n, "B": bound}
        found += [point(what=kind, **common, largest=largest) for kind in KINDS]
        found += [
            point(what=FAVOR, **common, largest=min(largest, 4), seed=s) for s in range(SEEDS)
        ]
        found += [point(what="floor", **common, largest=0)]
        found += [point(what=name, **common, largest=4) for name in METHODS if name != "exact"]
    return found


def measure(what: str, n: int, B: float, largest: int, seed: int = 0) -> Tables:
    """Errors of dL/dX for one approximation, degree 0 to ``largest``; E normal, s = 1/16."""
    data = make("uniform", n, WIDTH, bound=B)
    truth = gradient(exponential(data), data)
    if what == "floor":
        return {"floor": _floor(data, B, truth.by_X)}
    if what in METHODS:
        return {"method": _method(what, data, B, truth.by_X, largest)}
    rows: list[Row] = []
    fit = Fit(data)
    reach = float(np.max(np.abs(data.logits)))
    for degree in range(largest + 1):
        features = feature_count(WIDTH, degree)
        bound = math.inf
        if what == FAVOR:
            weights = favor(data, features, seed)
        else:
            polynomial = fit.polynomial(what, degree)
            if polynomial is None:
                continue
            weights = polynomial(data.logits)
            low, high = polynomial.ratio_bounds(-reach, reach)
            bound = max(1.0 - low, high - 1.0)
        got = gradient(weights, data)
        rows.append(
            {
                "B": B, "kind": what, "seed": seed, "degree": degree, "features": features,
                "error": relative_error(got.by_X, truth.by_X),
                "output_error": relative_error(got.output, truth.output),
                "sup_bound": bound, "law": sup_error_law(reach, degree), "largest_logit": reach,
            }
        )  # fmt: skip
    return {"error": rows}


def _floor(data: Data, B: float, truth: Any) -> list[Row]:
    """What rounding alone leaves: the exact method in both precisions."""
    rows: list[Row] = []
    for dtype in ("float32", "float64"):
        result = loss_gradient(**data.arguments(dtype))
        rows.append(
            {
                "B": B, "dtype": dtype, "error": relative_error(result.gradient, truth),
                "certificate": result.certificate.relative,
            }
        )  # fmt: skip
    return rows


def _method(name: Method, data: Data, B: float, truth: Any, largest: int) -> list[Row]:
    """A method of the library at each size, with its certificate."""
    rows: list[Row] = []
    size = float(np.linalg.norm(truth))
    for degree in range(1, largest + 1):
        try:
            result = loss_gradient(**data.arguments(), method=name, degree=degree)
        except AttnGradError:
            continue
        certificate = result.certificate
        rows.append(
            {
                "B": B, "method": name, "degree": degree, "features": result.plan.features,
                "error": relative_error(result.gradient, truth),
                "certificate": certificate.absolute / size, "kind": certificate.kind,
            }
        )  # fmt: skip
    return rows


def summarise(tables: Tables) -> Tables:
    """For each B and kind: what a degree is worth, and the ratio to least squares at degree 2."""
    rows: list[Row] = []
    errors = tables["error"]
    for bound in dict.fromkeys(row["B"] for row in errors):
        best = _median(select(errors, B=bound, kind="least_squares", degree=DEGREE))
        for kind in dict.fromkeys(row["kind"] for row in errors):
            of_kind = select(errors, B=bound, kind=kind)
            degrees = sorted({whole(row, "degree") for row in of_kind})
            medians = [_median(select(of_kind, degree=degree)) for degree in degrees]
            # What is infinite at two degrees has no gain, and is NaN.
            with np.errstate(invalid="ignore"):
                gains = np.log(medians[1:-1]) - np.log(medians[2:])
            rows.append(
                {
                    "B": bound, "kind": kind,
                    "median_at_2": medians[DEGREE],
                    "median_at_3": medians[SAMPLED_DEGREE],
                    "times_least_squares": medians[DEGREE] / best,
                    "gain_per_degree": math.exp(float(np.mean(gains))),
                }
            )  # fmt: skip
    return {"summary": rows}


def _median(rows: Sequence[Row]) -> float:
    return float(np.median(numbers(rows, "error")))


def _summary(column: str, kind: str) -> Cell:
    return Cell("summary", column, {"B": BOUND, "kind": kind})


def verdicts(tables: Tables) -> list[Verdict]:
    """What one degree is worth, and which P is best."""

    cell = _summary
    found = [
        Verdict(
            "At B = 1 and degree 2 (153 features) the relative error of dL/dX is {ls:.1e} with "
            "least "
            "squares; Taylor leaves {taylor:.2g} and Chebyshev interpolation on the range "
            "{chebyshev:.2g} times as much.",
            {
                "ls": cell("median_at_2", "least_squares"),
                "taylor": cell("times_least_squares", "taylor"),
                "chebyshev": cell("times_least_squares", "chebyshev"),
            },
            lambda ls, taylor, chebyshev: ls < 1e-3 and taylor > 1.0 and chebyshev > 1.0,
        ),
        Verdict(
            "Minimax polynomials, which are best for a guarantee, are not best for the error: "
            "absolute minimax leaves {minimax:.2g}, relative minimax {relative:.2g} times the "
            "error of least squares.",
            {
                "minimax": cell("times_least_squares", "minimax"),
                "relative": cell("times_least_squares", "minimax_relative"),
            },
            lambda minimax, relative: minimax > 1.0 and relative > 1.0,
            unjudged=QUICK,
        ),
        Verdict(
            "A degree is worth a factor of {gain:.3g} at B = 1 with least squares.",
            {"gain": cell("gain_per_degree", "least_squares")},
            lambda gain: gain > 5.0,
            unjudged=QUICK,
        ),
        Verdict(
            "With 969 features, FAVOR+ leaves {favor:.1e} where degree 3 leaves {ls:.1e}.",
            {"favor": cell("median_at_3", FAVOR), "ls": cell("median_at_3", "least_squares")},
            lambda favor, ls: ls < favor,
        ),
        Verdict(
            "Rounding leaves {single:.1e} in float32 and {double:.1e} in float64: no approximation "
            "is better than that.",
            {
                "single": Cell("floor", "error", {"B": BOUND, "dtype": "float32"}),
                "double": Cell("floor", "error", {"B": BOUND, "dtype": "float64"}),
            },
        ),
    ]
    where = {"B": BOUND, "degree": DEGREE}
    for row in select(tables.get("method", []), **where):
        there = {**where, "method": row["method"]}
        found.append(
            Verdict(
                _certified,
                {
                    "method": Cell("method", "method", there),
                    "error": Cell("method", "error", there),
                    "certificate": Cell("method", "certificate", there),
                },
                lambda method, error, certificate: error <= certificate,
            )
        )
    return found


def _certified(certificate: float, **_: object) -> str:
    """A bound of the size of the gradient itself, or more, is of no use, and is said to be none."""
    text = "The library's method “{method}” at degree 2 has an error of {error:.1e}; "
    if certificate < 1.0:
        return text + "its rigorous certificate, {certificate:.1e}, is above it."
    return text + (
        "its rigorous certificate is above it, but with {certificate:.3g} times the gradient it "
        "rules nothing out."
    )


def answer(tables: Tables) -> Verdict:
    """The error that a few features leave."""
    return Verdict(
        "At B = 1 a polynomial of degree 2, 153 features in 16 dimensions, leaves {ls:.1e} of the "
        "gradient, and each further degree divides that by {gain:.0f}.",
        {
            "ls": _summary("median_at_2", "least_squares"),
            "gain": _summary("gain_per_degree", "least_squares"),
        },
    )


def draw(tables: Tables, figure: Any) -> None:
    """One panel for each B: error against features."""
    figure.set_size_inches(10.0, 4.4)
    errors = tables["error"]
    bounds = list(dict.fromkeys(row["B"] for row in errors))
    panels = figure.subplots(1, len(bounds), sharey=True)
    for axes, bound in zip(panels, bounds, strict=True):
        _panel(axes, tables, bound)
        axes.set_title(f"entries up to B = {bound:g}", fontsize="small")
        axes.set_xlabel("features (degrees 0, 1, 2, …)")
    panels[0].set_ylabel("relative error of dL/dX")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize="small")


def _panel(axes: Any, tables: Tables, bound: Any) -> None:
    errors = select(tables["error"], B=bound)
    for number, (kind, (label, width)) in enumerate(LOOKS.items()):
        rows = select(errors, kind=kind)
        features = sorted({whole(row, "features") for row in rows})
        medians = [_median(select(rows, features=one)) for one in features]
        axes.loglog(features, medians, **{**style(number), "linewidth": width}, label=label)
    law = select(errors, kind="taylor")
    axes.loglog(
        [row["features"] for row in law], [row["law"] for row in law], color=GREY,
        linestyle=LINES[1], label="best of its degree on the whole range",
    )  # fmt: skip
    for name in dict.fromkeys(row["method"] for row in tables.get("method", [])):
        rows = select(tables["method"], B=bound, method=name)
        # No line: between two of them there may be one that is infinite.
        axes.loglog(
            [row["features"] for row in rows], [row["certificate"] for row in rows], "kv",
            fillstyle="none", markersize=6, label=f"rigorous certificate, where finite ({name})",
        )  # fmt: skip
    for row, line in zip(select(tables["floor"], B=bound), LINES[2:], strict=True):
        axes.axhline(row["error"], color=GREY, linestyle=line, label=f"rounding, {row['dtype']}")
    axes.grid(True, which="major", alpha=0.3)


EXPERIMENT = Experiment(
    name="quality",
    title="Gradient quality against rank",
    claim=SMALL,
    aim="For small entries, a polynomial of low degree in the place of exp gives the gradient; "
    "its error falls by a constant factor with each degree, and which polynomial matters.",
    points=points,
    measure=measure,
    summarise=summarise,
    verdicts=verdicts,
    answer=answer,
    draw=draw,
)
