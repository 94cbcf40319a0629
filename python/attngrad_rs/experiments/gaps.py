"""Experiment ``gaps``: orthogonal vectors hidden in attention, exact and approximate."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..diagnose import diagnose
from ..problem import plan_loss_gradient
from .approximations import Fit
from .base import FULL, QUICK, Cell, Experiment, Point, Row, Tables, Verdict, point, select
from .calls import EXACT
from .claims import HARD
from .dense import attention, exponential
from .hard import Gap, gap
from .plots import GREY, style
from .problems import Matrix
from .rows import real, whole

__all__ = ["EXPERIMENT", "wrong_share"]

BITS = 64
# Largest logit, by log n.
REACHES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
DEGREES = (2, 4, 8, 16, 24)
RTOL = 1e-3
SMALL = 1e-3
# What diagnose calls a rank that no degree makes up for.
NAMED = "error too large"


def points(size: str) -> list[Point]:
    """One for each size and largest logit."""
    # At the last one the planner looks at the logits: below, no polynomial of so many coordinates
    # is cheaper whatever they are.
    sizes = (512, 2048, 8192) if size == FULL else (256, 512)
    return [point(n=n, reach_by_log_n=reach, seed=0) for n in sizes for reach in REACHES]


def measure(n: int, reach_by_log_n: float, seed: int) -> Tables:
    """Rows decided wrongly from exact and approximate attention, and what the library advises."""
    reach = reach_by_log_n * math.log(n)
    instance = gap(n, reach, BITS, seed)
    data = instance.data
    exact = attention(exponential(data)) @ data.value
    common: Row = {"n": n, "reach_by_log_n": reach_by_log_n, "reach": reach}
    planted = instance.planted > 0.0
    # An error of the output below half of this distance leaves every decision possible.
    distance = float(exact[planted].min() - exact[~planted].max())
    found = diagnose(data.query, data.key, scale=data.scale)
    plan = plan_loss_gradient(**data.arguments(), rtol=RTOL)
    # Where logits are next to nothing, only the length can be a reason for the exact method.
    small = replace(data, query=SMALL * data.query)
    by_length = plan_loss_gradient(**small.arguments(), rtol=RTOL).method == EXACT
    overview: Row = {
        **common, "distance": distance, "distance_times_n": distance * n,
        "wrong": wrong_share(exact[:, 0], instance),
        "orthogonal_pairs": int(np.sum(instance.product == 0.0)),
        "regime": found.regime, "finding": found.findings[0] if found.findings else "none",
        "plan": plan.method, "reason": plan.reason, "exact_for_its_length": by_length,
    }  # fmt: skip
    decisions: list[Row] = [{**common, "method": EXACT, "degree": None, "wrong": overview["wrong"]}]
    fit = Fit(data, seed)
    for degree in DEGREES:
        polynomial = fit.polynomial("least_squares", degree)
        output = np.full(n, np.nan)
        if polynomial is not None:
            output = (attention(polynomial(data.logits)) @ data.value)[:, 0]
        decisions.append(
            {**common, "method": f"degree {degree}", "degree": degree,
             "wrong": wrong_share(output, instance)}
        )  # fmt: skip
    return {"instance": [overview], "decision": decisions}


def wrong_share(output: Matrix, instance: Gap) -> float:
    """Share of queries for which o_j ≥ 1/(n/2 + 1), that is z_j ≥ 1, is not what was planted.

    What is NaN decides nothing, and is wrong.
    """
    half = instance.product.shape[1]
    # Planted rows reach the threshold exactly where nothing else adds to them: half a unit less.
    says = np.where(np.isnan(output), 1.0 - instance.planted, output >= 0.5 / (half + 0.5))
    return float(np.mean(says != instance.planted))


def summarise(tables: Tables) -> Tables:
    """For each n: from which logits on the exact output decides all rows, and who else does."""
    rows: list[Row] = []
    for n in dict.fromkeys(row["n"] for row in tables["instance"]):
        there = select(tables["instance"], n=n)
        decided = [real(r, "reach_by_log_n") for r in there if r["wrong"] == 0.0]
        first = min(decided, default=math.inf)
        row: Row = {"n": n, "decided_from": first}
        at_first = select(tables["decision"], n=n, reach_by_log_n=first)
        polynomials = [r for r in at_first if r["degree"] is not None]
        right = [whole(r, "degree") for r in polynomials if r["wrong"] == 0.0]
        row["smallest_degree"] = min(right, default=math.inf)
        row["wrong_at_degree_2"] = next(
            (r["wrong"] for r in polynomials if r["degree"] == 2), math.nan
        )
        advised = [r for r in there if real(r, "reach_by_log_n") >= first]
        named = [str(r["finding"]).startswith(NAMED) for r in advised]
        row["named"] = float(np.mean(named)) if named else math.nan
        planned = [r["plan"] == EXACT for r in advised]
        row["planned_exact"] = float(np.mean(planned)) if planned else math.nan
        row["for_its_length"] = all(r["exact_for_its_length"] for r in there)
        row["reason"] = advised[0]["reason"] if advised else None
        row["largest_degree"] = max(DEGREES)
        rows.append(row)
    return {"summary": rows}


def verdicts(tables: Tables) -> list[Verdict]:
    """Where the gap opens, and what the library says there."""
    return [one for row in tables["summary"] for one in _of_size(row)]


def _of_size(row: Row) -> list[Verdict]:
    n, where = row["n"], {"n": row["n"]}

    def cell(column: str) -> Cell:
        return Cell("summary", column, where)

    found = [
        Verdict(
            lambda **numbers: f"At n = {n} {_told_apart(**numbers)}",
            {
                "first": cell("decided_from"), "wrong": cell("wrong_at_degree_2"),
                "degree": cell("smallest_degree"), "largest": cell("largest_degree"),
            },
            lambda first, wrong, degree, largest: math.isfinite(first) and wrong > 0.0,
            unjudged=QUICK,
        ),
        Verdict(
            f"There diagnose says “{NAMED}” (n = {n}: of {{named:.0%}} of the problems with "
            "logits of that size and more).",
            {"named": cell("named")},
            lambda named: named == 1.0,
        ),
    ]  # fmt: skip
    if row["for_its_length"]:
        # Says nothing of the logits, so that there is nothing to judge.
        found.append(
            Verdict(
                f"Auto takes the exact method at n = {n} because of the length alone, with "
                "logits of any size: “{reason}”.",
                {"reason": cell("reason")},
            )
        )
    else:
        found.append(
            Verdict(
                f"Auto at rtol {RTOL:g} takes the exact method there (n = {n}: for {{exact:.0%}} "
                "of them), and not for the length, as with small logits it takes a polynomial; it "
                "says “{reason}”.",
                {"exact": cell("planned_exact"), "reason": cell("reason")},
                lambda exact, reason: exact == 1.0,
            )
        )
    return found


def _told_apart(first: float, degree: float, **_: object) -> str:
    if not math.isfinite(first):
        return "not even the exact output tells all queries apart at the logits tried."
    text = (
        "the exact output tells all queries with an orthogonal vector from those without one once "
        "logits reach {first:g} log n; there a polynomial of degree 2 decides {wrong:.0%} of them "
        "wrongly, and "
    )
    if math.isfinite(degree):
        return text + "degree {degree} is the smallest tried that makes no mistake."
    return text + "none of the degrees tried, up to {largest}, is without a mistake."


def answer(tables: Tables) -> Verdict:
    """The largest instance in a sentence."""
    n = tables["summary"][-1]["n"]
    return Verdict(
        lambda **numbers: f"At n = {n} {_told_apart(**numbers)}",
        {
            "first": Cell("summary", "decided_from", {"n": n}),
            "wrong": Cell("summary", "wrong_at_degree_2", {"n": n}),
            "degree": Cell("summary", "smallest_degree", {"n": n}),
            "largest": Cell("summary", "largest_degree", {"n": n}),
        },
    )


def draw(tables: Tables, figure: Any) -> None:
    """Wrong decisions against the size of the logits."""
    sizes = list(dict.fromkeys(row["n"] for row in tables["instance"]))
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    methods = list(dict.fromkeys(row["method"] for row in tables["decision"]))
    for axes, n in zip(panels, sizes, strict=True):
        for number, method in enumerate(methods):
            rows = select(tables["decision"], n=n, method=method)
            look = style(number)
            if method == EXACT:
                # Below the others, and wide enough to be seen beside them.
                look = {"linewidth": 6.0, "color": GREY, "alpha": 0.4}
            axes.plot(
                [row["reach_by_log_n"] for row in rows], [row["wrong"] for row in rows], **look,
                label=method,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("largest logit by log n")
        axes.set_title(f"n = {n}", fontsize="small")
        axes.grid(True, which="major", alpha=0.3)
    panels[0].set_ylabel("share of queries decided wrongly")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize="small")


EXPERIMENT = Experiment(
    name="gaps",
    title="Orthogonal vectors in attention",
    claim=HARD,
    aim="Once logits pass a multiple of log n, attention tells which queries have an orthogonal "
    "vector among the keys, which is what no fast method can do under SETH.",
    points=points,
    measure=measure,
    summarise=summarise,
    verdicts=verdicts,
    answer=answer,
    draw=draw,
)
