"""An experiment that takes no time, and counts how often it is asked."""

from __future__ import annotations

from typing import Any

from attngrad_rs.experiments.base import Cell, Experiment, Point, Tables, Verdict, point
from attngrad_rs.experiments.claims import SMALL as CLAIM
from attngrad_rs.experiments.rows import real

CALLS: list[int] = []


def points(size: str) -> list[Point]:
    return [point(number=number, seed=0) for number in range(3 if size == "quick" else 5)]


def measure(number: int, seed: int) -> Tables:
    CALLS.append(number)
    return {"square": [{"number": number, "square": number**2 + 0.1, "word": "a, b", "none": None}]}


def summarise(tables: Tables) -> Tables:
    total = sum(real(row, "square") for row in tables["square"])
    return {"total": [{"row": "all", "total": total, "endless": float("inf")}]}


def verdicts(tables: Tables) -> list[Verdict]:
    total = Cell("total", "total", {"row": "all"})
    return [
        Verdict("The total is {total:.3f}.", {"total": total}, lambda total: total > 1.0),
        Verdict("It is below {total:.3f}.", {"total": total}, lambda total: total < 0.0),
        Verdict("The square of 2 is {two:.1f}.", {"two": Cell("square", "square", {"number": 2})}),
        Verdict("No end: {x}.", {"x": Cell("total", "endless", {"row": "all"})}),
    ]


def answer(tables: Tables) -> Verdict:
    return Verdict("In all {total:.3f}.", {"total": Cell("total", "total", {"row": "all"})})


def draw(tables: Tables, figure: Any) -> None:
    axes = figure.subplots()
    axes.plot([row["square"] for row in tables["square"]], label="squares")
    axes.legend()


SMALL = Experiment(
    name="small",
    title="A small one",
    claim=CLAIM,
    aim="For tests.",
    points=points,
    measure=measure,
    summarise=summarise,
    verdicts=verdicts,
    answer=answer,
    draw=draw,
)
