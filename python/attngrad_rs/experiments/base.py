"""What an experiment is: independent points, tables, and verdicts that read their numbers there."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..errors import InternalError
from .claims import Claim

__all__ = [
    "FULL", "QUICK", "SIZES", "Cell", "Experiment", "Finding", "Point", "Row", "Tables", "Value",
    "Verdict", "finite", "judged", "look_up", "plain", "point", "select", "worded",
]  # fmt: skip

QUICK, FULL = "quick", "full"
SIZES = (QUICK, FULL)
SEEN = "put into words after data of this size had been seen: only other draws can judge it"
# How a sentence says what is no finite number.
WORDS = {True: "yes", False: "no", None: "none"}
ENDLESS, UNKNOWN = "infinite", "undefined"

Value: TypeAlias = float | int | str | bool | None
Row: TypeAlias = dict[str, Value]
Tables: TypeAlias = dict[str, list[Row]]


@dataclass(frozen=True)
class Point:
    """One independent piece of an experiment.

    Attributes
    ----------
    key : str
        Its name, which says all arguments; fit for a file name.
    arguments : mapping
        What the experiment's ``measure`` is called with. The seed is among them, so that a result
        does not depend on what ran before.
    """

    key: str
    arguments: Mapping[str, Value]


def point(**arguments: Value) -> Point:
    """The point of these arguments."""
    return Point(",".join(f"{name}={value}" for name, value in arguments.items()), arguments)


@dataclass(frozen=True)
class Cell:
    """One number of a table: its column in the only row that has these values."""

    table: str
    column: str
    where: Mapping[str, Value]


@dataclass(frozen=True)
class Verdict:
    """A statement about the data.

    Attributes
    ----------
    text : str or callable
        A sentence with a placeholder of ``str.format`` for each number: none is typed by hand.
        A function gets the numbers by name and returns the sentence, where it depends on them.
    cells : mapping of str to Cell
        Where each number stands.
    judge : callable, optional
        Called with the numbers by name: whether the data says so. Without it the numbers are
        reported, and nothing is claimed.
    unjudged : str, optional
        The size of run in which the statement is only reported, for the reason ``why``.
    why : str
        By default that it was put into words, or its design chosen, after the data of that size had
        been seen: data cannot confirm what was read off it. Other sizes draw other problems.
    """

    text: str | Callable[..., str]
    cells: Mapping[str, Cell]
    judge: Callable[..., bool] | None = None
    unjudged: str | None = None
    why: str = SEEN


@dataclass(frozen=True)
class Finding:
    """A verdict read off the data: ``holds`` is None where numbers are only reported.

    ``note`` says why something that could be judged is not.
    """

    text: str
    holds: bool | None
    numbers: Mapping[str, tuple[Value, Cell]]
    note: str = ""

    @property
    def word(self) -> str:
        """``holds``, ``does not hold`` or ``reported``."""
        return {True: "holds", False: "does not hold", None: "reported"}[self.holds]


@dataclass(frozen=True)
class Experiment:
    """One row of the table of experiments.

    Attributes
    ----------
    name, title : str
        What it is called on the command line, and in the report.
    claim : Claim
        The statement of the paper that it looks into.
    aim : str
        How it does so, for a reader who knows the paper.
    points : callable
        From a size, ``"quick"`` or ``"full"``, to the points.
    measure : callable
        From the arguments of a point to tables: pure, and seeded by its arguments.
    summarise : callable
        From all rows of all points to further tables: fits, counts, extremes.
    verdicts : callable
        From all tables to the verdicts.
    answer : callable
        From all tables to one verdict without a judge: what came of it, in a sentence.
    draw : callable
        Draws all tables on an empty matplotlib figure.
    """

    name: str
    title: str
    claim: Claim
    aim: str
    points: Callable[[str], list[Point]]
    measure: Callable[..., Tables]
    summarise: Callable[[Tables], Tables]
    verdicts: Callable[[Tables], Sequence[Verdict]]
    answer: Callable[[Tables], Verdict]
    draw: Callable[[Tables, Any], None]


def select(rows: Sequence[Row], **where: Value) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in where.items())]


def look_up(tables: Tables, cell: Cell) -> Value:
    """The number that a cell names.

    Raises
    ------
    InternalError
        If there is no such row, or more than one.
    """
    rows = select(tables.get(cell.table, []), **cell.where)
    if len(rows) != 1 or cell.column not in rows[0]:
        raise InternalError(
            f"{cell.table}: found {len(rows)} rows with {dict(cell.where)} for the column "
            f"{cell.column}; expected one"
        )
    return rows[0][cell.column]


class _Sentence(string.Formatter):
    """``str.format`` for people: words for what is no finite number, and no minus before zero."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None or isinstance(value, bool):
            return WORDS[value]
        if isinstance(value, float) and not math.isfinite(value):
            return UNKNOWN if math.isnan(value) else ENDLESS
        text = str(super().format_field(value, format_spec))
        return re.sub(r"^-(?=[0.]*%?$)", "", text)


def worded(text: str | Callable[..., str], values: Mapping[str, Value]) -> str:
    """The sentence of a verdict with its numbers in it."""
    template = text if isinstance(text, str) else text(**values)
    return _Sentence().vformat(template, (), values)


def judged(verdict: Verdict, tables: Tables, size: str | None = None) -> Finding:
    """Read the numbers of a verdict off the tables of a run of this size, and judge them."""
    numbers = {name: (look_up(tables, cell), cell) for name, cell in verdict.cells.items()}
    values = {name: value for name, (value, _) in numbers.items()}
    text = worded(verdict.text, values)
    if verdict.unjudged is not None and verdict.unjudged == size:
        return Finding(text, None, numbers, verdict.why)
    holds = None if verdict.judge is None else bool(verdict.judge(**values))
    return Finding(text, holds, numbers)


def plain(value: object) -> Value:
    """A number of NumPy as one of Python.

    Raises
    ------
    InternalError
        For anything that is no plain value.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InternalError(f"found {type(value).__name__} in a table; expected a plain value")


def finite(value: Value) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)
