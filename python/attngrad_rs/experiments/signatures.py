"""Experiment ``signatures``: the three failures that the paper's summary names, provoked."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..diagnose import diagnose
from ..features import ExpFeatures
from ..reference.degrees import feature_count
from .approximations import Fit
from .base import (
    FULL,
    QUICK,
    Cell,
    Experiment,
    Point,
    Row,
    Tables,
    Verdict,
    finite,
    point,
    select,
)  # fmt: skip
from .claims import PRACTICE
from .dense import attention, exponential, from_attention, gradient, relative_error
from .plots import GREY, style
from .problems import Data, make
from .rows import numbers

__all__ = ["EXPERIMENT"]

# The accuracy that diagnose decides by.
WANTED = 1e-2
LARGEST_DEGREE = 10
# Degree of the features whose powers cancel.
ROUNDING_DEGREE = 20
# Of the keys of the third problem, one in so many is large; the others are this much smaller.
LARGE_EVERY, SMALL_KEYS = 64, 5e-3

# Rows of the problem in which nothing fails: long enough that its length is no reason for exact.
LONG = 65536
# Operations of the moment form by features and width, and of the exact gradient by keys and width.
MOMENT_OPERATIONS, EXACT_OPERATIONS = 4, 10

# What provokes each failure: width, bound of the entries, and the words that diagnose has for it.
RANK, TIME, MAGNITUDE, NONE = "rank too low", "time not near-linear", "magnitude", "none"
# Half of the keys at zero and half at the bound: a false alarm, which is shown as what it is.
TWO_LEVELS = "two levels"
PROVOKED = {
    RANK: (16, 9.0, "error too large"),
    TIME: (48, 2.5, "time is not near-linear"),
    MAGNITUDE: (1, 20.0, "numerical trouble"),
    TWO_LEVELS: (1, 12.0, "numerical trouble"),
    NONE: (4, 1.0, ""),
}


def points(size: str) -> list[Point]:
    """One for each failure, and one where nothing fails.

    What costs time has to be long enough that its length is no reason for the exact method.
    """
    sizes = {TIME: 8192 if size == FULL else 1024}
    n = 2048 if size == FULL else 1024
    return [point(signature=signature, n=sizes.get(signature, n)) for signature in PROVOKED]


def measure(signature: str, n: int) -> Tables:
    """What goes wrong, in numbers, and what ``diagnose`` says of queries and keys alone."""
    width, bound, words = PROVOKED[signature]
    data = _problem(signature, n, width, bound)
    seen = data if signature != NONE else _problem(signature, LONG, width, bound)
    found = diagnose(seen.query.astype(np.float32), seen.key.astype(np.float32), scale=seen.scale)
    findings = "; ".join(found.findings) or "nothing"
    named = [text for text in found.findings if words and text.startswith(words)]
    errors = _errors(data)
    needed = next((g for g, error in enumerate(errors) if error <= WANTED), None)
    overview: Row = {
        "signature": signature, "n": n, "d": width, "B": bound,
        "best_error": min(errors), "needed_degree": needed,
        "needed_features": np.inf if needed is None else feature_count(width, needed),
        "operations_by_exact": np.inf if needed is None else _operations(width, needed, n),
        "rounding": _rounding(data) if width == 1 else None,
        "regime": found.regime, "findings": len(found.findings), "named": bool(named),
        "says": _name(named[0] if named else findings), "advice": found.advice,
    }  # fmt: skip
    curve: list[Row] = [
        {"signature": signature, "degree": degree, "error": error}
        for degree, error in enumerate(errors)
    ]
    return {"signature": [overview], "curve": curve}


def _name(finding: str) -> str:
    """The words that name a failure; what follows the colon are its numbers."""
    return finding.partition(":")[0]


def _operations(width: int, degree: int, keys: int) -> float:
    """Of the moment form by those of the exact gradient, as counts (docs/math.md, section 8)."""
    moments = MOMENT_OPERATIONS * feature_count(width, degree + 1) * (width + 1)
    return moments / (EXACT_OPERATIONS * keys * width)


def _problem(signature: str, n: int, width: int, bound: float) -> Data:
    """Uniform entries; queries up to one and special keys where magnitude is the matter.

    For the third failure small keys but for a few; for the false alarm keys of two sizes.
    """
    data = make("uniform", n, width, bound=bound)
    if signature not in (MAGNITUDE, TWO_LEVELS):
        return data
    key = SMALL_KEYS * data.key if signature == MAGNITUDE else np.zeros_like(data.key)
    key[:: LARGE_EVERY if signature == MAGNITUDE else 2] = -bound
    return replace(data, query=data.query / bound, key=key)


def _errors(data: Data) -> list[float]:
    """Relative error of dL/dX by degree, dense formulas in float64."""
    truth = from_attention(attention(exponential(data)), data)
    fit = Fit(data)
    errors = []
    for degree in range(LARGEST_DEGREE + 1):
        polynomial = fit.polynomial("least_squares", degree)
        got = None if polynomial is None else gradient(polynomial(data.logits), data)
        errors.append(np.inf if got is None else relative_error(got.by_X, truth.by_X))
    return errors


def _rounding(data: Data) -> float:
    """How far features in float32 are from the same features in float64: rounding alone."""
    found = []
    for dtype in (np.float32, np.float64):
        query, key = data.query.astype(dtype), data.key.astype(dtype)
        features = ExpFeatures(ROUNDING_DEGREE, scale=data.scale).fit(query, key)
        weights = features.transform_query(query) @ features.transform_key(key).T
        found.append(gradient(weights.astype(np.float64), data).by_X)
    return relative_error(*found)


def summarise(tables: Tables) -> Tables:
    """Numbers of failures that are named, and of false alarms."""
    failures = [r for r in tables["signature"] if r["signature"] in (RANK, TIME, MAGNITUDE)]
    alarms = [r for r in tables["signature"] if r["signature"] in (TWO_LEVELS, NONE)]
    named = sum(bool(row["named"]) for row in failures)
    false = sum(row["findings"] != 0 for row in alarms)
    total: Row = {"row": "all", "failures": len(failures), "named": named, "false": false}
    return {"total": [total]}


def verdicts(tables: Tables) -> list[Verdict]:
    """Each failure happens, and is named."""

    def cell(signature: str, column: str) -> Cell:
        return Cell("signature", column, {"signature": signature})

    return [
        Verdict(
            lambda error, **_: (
                "Rank too low: "
                + (
                    "no degree up to 10 brings the error below {error:.2g}"
                    if math.isfinite(error)
                    else "no degree up to 10 leaves a gradient at all"
                )
                + ", and diagnose names it (“{says}”)."
            ),
            {
                "error": cell(RANK, "best_error"),
                "says": cell(RANK, "says"),
                "named": cell(RANK, "named"),
            },
            lambda error, says, named: error > WANTED and named,
            unjudged=QUICK,
        ),
        Verdict(
            "Time not near-linear: degree {degree} is good enough, but its features cost "
            "{times:.2g} times the operations of exact, and diagnose names it (“{says}”).",
            {
                "degree": cell(TIME, "needed_degree"),
                "times": cell(TIME, "operations_by_exact"),
                "says": cell(TIME, "says"),
                "named": cell(TIME, "named"),
            },
            lambda degree, times, says, named: times > 1.0 and named,
            unjudged=QUICK,
        ),
        Verdict(
            "Magnitude: in float32 features of degree 20 lose {rounding:.1%} of the gradient to "
            "rounding alone, and diagnose names it (“{says}”).",
            {
                "rounding": cell(MAGNITUDE, "rounding"),
                "says": cell(MAGNITUDE, "says"),
                "named": cell(MAGNITUDE, "named"),
            },
            lambda rounding, says, named: rounding > 1e-3 and named,
            unjudged=QUICK,
        ),
        Verdict(
            "A false alarm: with keys of two sizes (0 and -12), diagnose says “{says}” as well, "
            "and features of degree 20 in float32 lose no more than {rounding:.1e} of the gradient "
            "to rounding. It warns of what logits of that size may cost, not of what they do cost "
            "here.",
            {"says": cell(TWO_LEVELS, "says"), "rounding": cell(TWO_LEVELS, "rounding")},
        ),
        Verdict(
            "Where nothing fails (d = 4, B = 1), degree {degree} reaches 1e-2, and diagnose has "
            f"nothing to say at n = {LONG} ({{findings}} findings).",
            {"degree": cell(NONE, "needed_degree"), "findings": cell(NONE, "findings")},
            lambda degree, findings: findings == 0,
        ),
    ]


def answer(tables: Tables) -> Verdict:
    """The alarms of diagnose, right and false."""
    total = {"row": "all"}
    return Verdict(
        lambda false, **_: (
            "diagnose names {named} of {failures} failures that were provoked, and raises "
            + ("{false} false alarm of 2 possible ones." if false else "no false alarm.")
        ),
        {name: Cell("total", name, total) for name in ("named", "failures", "false")},
    )


def draw(tables: Tables, figure: Any) -> None:
    """Error against degree for all problems."""
    axes = figure.subplots()
    top = 3.0 * max(error for error in numbers(tables["curve"], "error") if finite(error))
    for number, signature in enumerate(PROVOKED):
        rows = select(tables["curve"], signature=signature)
        (overview,) = select(tables["signature"], signature=signature)
        axes.semilogy(
            [row["degree"] for row in rows], [row["error"] for row in rows], **style(number),
            label=f"{signature}: d = {overview['d']}, B = {overview['B']:g}, {overview['regime']}",
        )  # fmt: skip
        lost = [row["degree"] for row in rows if not finite(row["error"])]
        axes.plot(lost, [top] * len(lost), "x", color=style(number)["color"], markersize=7)
    axes.plot([], [], "x", color=GREY, label="no gradient: rows of weights with no positive sum")
    axes.axhline(WANTED, color="black", linestyle=":", label=f"wanted: {WANTED:g}")
    axes.set_xlabel("degree")
    axes.set_ylabel("relative error of dL/dX, float64")
    axes.legend(fontsize="small", loc="lower left")
    axes.grid(True, which="major", alpha=0.3)


EXPERIMENT = Experiment(
    name="signatures",
    title="Failure signatures",
    claim=PRACTICE,
    aim="Three are known: large errors (rank too low), time beyond near-linear (entries too "
    "large), numerical trouble (magnitude). Each is provoked; diagnose must name it.",
    points=points,
    measure=measure,
    summarise=summarise,
    verdicts=verdicts,
    answer=answer,
    draw=draw,
)
