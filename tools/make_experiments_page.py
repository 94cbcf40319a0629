"""Make docs/experiments.md: its text from a template, its numbers and statements from the tables.

    pip install '.[cli]'
    python tools/make_experiments_page.py

The tables of a run (NAME.TABLE.csv) lie in docs/data/experiments; what is said of them, and whether
it holds, is the code of the experiments.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from attngrad_rs.experiments import EXPERIMENTS, Finding
from attngrad_rs.experiments.base import FULL, Row, Tables, Value, judged, select
from attngrad_rs.experiments.cells import from_csv

DOCS = Path(__file__).resolve().parent.parent / "docs"
DATA = DOCS / "data" / "experiments"
TEMPLATE, PAGE = "experiments.md.jinja", "experiments.md"


class Chapter(NamedTuple):
    """An experiment, and what its tables say."""

    name: str
    title: str
    findings: list[Finding]


def tables(name: str) -> Tables:
    """The tables of an experiment that are kept."""
    paths = sorted(DATA.glob(f"{name}.*.csv"))
    return {path.name.split(".")[1]: from_csv(path.read_bytes()) for path in paths}


def row(name: str, table: str, **where: Value) -> Row:
    """The only row of a table that has these values."""
    (found,) = select(tables(name)[table], **where)
    return found


def page() -> str:
    """The text of the page."""
    chapters = []
    for name, experiment in EXPERIMENTS.items():
        made = tables(name)
        findings = [judged(verdict, made, FULL) for verdict in experiment.verdicts(made)]
        chapters.append(Chapter(name, experiment.title, findings))
    # Markdown, which nothing in it is to be escaped for.
    environment = Environment(
        loader=FileSystemLoader(DOCS), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template(TEMPLATE).render(chapters=chapters, row=row)


if __name__ == "__main__":
    (DOCS / PAGE).write_text(page(), encoding="utf-8")
    sys.exit(0)
