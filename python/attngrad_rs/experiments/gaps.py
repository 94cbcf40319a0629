"""Experiment ``gaps``: orthogonal vectors hidden in attention, exact and approximate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..diagnose import diagnose
from ..problem import plan_loss_gradient
from .approximations import Fit
from .base import FULL, QUICK, Cell, Experiment, Point, Row, Tables, Verdict, point, select
from .calls import EXACT
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
    overview: Row = {
        **common, "distance": distance, "distance_times_n": distance * n,
        "wrong": wrong_share(exact[:, 0], instance),
        "orthogonal_pairs": int(np.sum(instance.product == 0.0)),
        "regime": found.regime, "finding": found.findings[0] if found.findings else "none",
        "plan": plan.method, "reason": plan.reason,
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
        row["exact_where_decided"] = all(r["regime"] == EXACT for r in advised)
        row["planned_exact"] = all(r["plan"] == EXACT for r in advised)
        row["reason"] = advised[0]["reason"] if advised else None
        rows.append(row)
    return {"summary": rows}


def verdicts(tables: Tables) -> list[Verdict]:
    """Where the gap opens, and what the library says there."""
    found = []
    for row in tables["summary"]:
        where = {"n": row["n"]}
        found.append(
            Verdict(
                f"At n = {row['n']} the exact output tells all queries with an orthogonal vector "
                "from "
                "those without one once logits reach {first:g} log n; a polynomial of degree 2 "
                "then "
                "decides {wrong:.0%} of them wrongly, and the smallest degree tried that makes no "
                "mistake is {degree} (inf: none does).",
                {
                    "first": Cell("summary", "decided_from", where),
                    "wrong": Cell("summary", "wrong_at_degree_2", where),
                    "degree": Cell("summary", "smallest_degree", where),
                },
                lambda first, wrong, degree: math.isfinite(first) and wrong > 0.0,
                unjudged=QUICK,
            )
        )
        found.append(
            Verdict(
                f"Where they can be told apart at n = {row['n']}, diagnose advises the exact "
                "method: "
                "{exact}.",
                {"exact": Cell("summary", "exact_where_decided", where)},
                lambda exact: bool(exact),
            )
        )
        found.append(
            Verdict(
                f"Auto at rtol {RTOL:g} takes the exact method there: {{exact}}; it says "
                "“{reason}”.",
                {
                    "exact": Cell("summary", "planned_exact", where),
                    "reason": Cell("summary", "reason", where),
                },
                lambda exact, reason: bool(exact),
            )
        )
    return found


def draw(tables: Tables, figure: Any) -> None:
    """Wrong decisions against the size of the logits."""
    sizes = list(dict.fromkeys(row["n"] for row in tables["instance"]))
    panels = figure.subplots(1, len(sizes), sharey=True)
    for axes, n in zip(panels, sizes, strict=True):
        for number, method in enumerate(dict.fromkeys(row["method"] for row in tables["decision"])):
            rows = select(tables["decision"], n=n, method=method)
            axes.semilogx(
                [row["reach_by_log_n"] for row in rows], [row["wrong"] for row in rows],
                **style(number), label=method,
            )  # fmt: skip
        for row in select(tables["instance"], n=n):
            if row["regime"] == EXACT:
                axes.axvspan(
                    real(row, "reach_by_log_n") / math.sqrt(2.0),
                    real(row, "reach_by_log_n") * math.sqrt(2.0),
                    color=GREY, alpha=0.15, linewidth=0,
                )  # fmt: skip
        axes.set_xlabel("largest logit by log n  (1)")
        axes.set_title(f"n = {n}; grey: diagnose says exact", fontsize="small")
        axes.grid(True, which="major", alpha=0.3)
    panels[0].set_ylabel("share of queries decided wrongly  (1)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize="small")


EXPERIMENT = Experiment(
    name="gaps",
    title="Orthogonal vectors in attention",
    claim="Once logits pass a multiple of log n, attention tells which queries have an orthogonal "
    "vector among the keys, which is what no fast method can do under SETH.",
    points=points,
    measure=measure,
    summarise=summarise,
    verdicts=verdicts,
    draw=draw,
)
