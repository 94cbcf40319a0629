"""Make docs/experiments.md: its text from a template, its numbers and statements from the tables.

    pip install '.[cli]'
    python tools/make_experiments_page.py            # from the tables in docs/data/experiments
    python tools/make_experiments_page.py results    # from a full run, whose tables it takes first

The tables of a run (NAME.TABLE.csv) lie in docs/data/experiments, its figures in
docs/figures/experiments, and runs.json has the setting that each experiment was measured in. Of a
run the measured points of those experiments are taken that it has finished; what they come to, what
is said of them, and whether it holds, is the code of the experiments as it stands. With
``--unfinished NAME`` an experiment is taken as far as it has come, and the page says how far.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from attngrad_rs.experiments import EXPERIMENTS, Experiment, Finding
from attngrad_rs.experiments.base import FULL, Row, Tables, Value, judged, select
from attngrad_rs.experiments.cells import from_csv, to_csv
from attngrad_rs.experiments.claims import CLAIMS, Claim
from attngrad_rs.experiments.figure import svg
from attngrad_rs.experiments.runner import with_summary
from attngrad_rs.experiments.store import Store

DOCS = Path(__file__).resolve().parent.parent / "docs"
DATA = DOCS / "data" / "experiments"
FIGURES = DOCS / "figures" / "experiments"
TEMPLATE, PAGE, RUNS = "experiments.md.jinja", "experiments.md", "runs.json"
# Measured rows that no statement reads, and that would be most of what is kept.
LEFT_OUT = {
    "quality": {"error"}, "distribution": {"error"}, "ranks": {"rank"},
    "propagation": {"factor", "curve"}, "reduction": {"sum", "growth", "oracle", "entry"},
    "gaps": {"decision"}, "signatures": {"curve"}, "threshold": {"needed", "curve"},
}  # fmt: skip


class Chapter(NamedTuple):
    """An experiment, and what its tables say."""

    name: str
    experiment: Experiment
    answer: str
    findings: list[Finding]


class Section(NamedTuple):
    """A claim of the paper, and the experiments on it."""

    claim: Claim
    chapters: list[Chapter]


def take(folder: str, unfinished: Sequence[str] = ()) -> None:
    """Put tables, figures and setting of a full run into the documentation."""
    store = Store.read(folder)
    known = runs()
    for name, experiment in EXPERIMENTS.items():
        measured, missing = points(store, experiment)
        if missing and name not in unfinished:
            sys.stdout.write(f"{name}: not finished in {folder}; it stays as it is\n")
            continue
        everything = with_summary(experiment, measured)
        for path in DATA.glob(f"{name}.*.csv"):
            path.unlink()
        for table in everything.keys() - LEFT_OUT.get(name, set()):
            (DATA / f"{name}.{table}.csv").write_bytes(to_csv(everything[table]))
        (FIGURES / f"{name}.svg").write_bytes(svg(experiment, everything))
        known[name] = {**store.setting, "missing_points": missing}
    text = json.dumps(known, indent=1, ensure_ascii=False)
    (DATA / RUNS).write_text(text + "\n", encoding="utf-8")


def points(store: Store, experiment: Experiment) -> tuple[Tables, int]:
    """The measured rows of the points of a full run, and the number of points that are missing."""
    measured: Tables = {}
    missing = 0
    for point in experiment.points(FULL):
        found = store.load_point(experiment.name, point)
        if found is None:
            missing += 1
            continue
        for table, rows in found[0].items():
            measured.setdefault(table, []).extend(rows)
    return measured, missing


def runs() -> dict[str, dict[str, Any]]:
    """The setting of the run that each experiment is of."""
    found: dict[str, dict[str, Any]] = json.loads((DATA / RUNS).read_text(encoding="utf-8"))
    return found


def machines() -> dict[str, list[str]]:
    """The machines in words, and the experiments that were measured on each."""
    found: dict[str, list[str]] = {}
    for name, run in runs().items():
        torch = f"torch {run['torch']}" if run["torch"] else "no torch"
        machine = f"{run['cpu']}, {run['level']}, {run['threads']} threads, {torch}"
        count = run.get("missing_points", 0)
        total = len(EXPERIMENTS[name].points(FULL))
        note = f" ({count} of {total} points are missing)" if count else ""
        found.setdefault(machine, []).append(f"`{name}`{note}")
    return found


def tables(name: str) -> Tables:
    """The tables of an experiment that are kept."""
    paths = sorted(DATA.glob(f"{name}.*.csv"))
    return {path.name.split(".")[1]: from_csv(path.read_bytes()) for path in paths}


def row(name: str, table: str, **where: Value) -> Row:
    """The only row of a table that has these values."""
    (found,) = select(tables(name)[table], **where)
    return found


def chapter(name: str) -> Chapter:
    """The statements on one experiment, from its tables."""
    experiment, made = EXPERIMENTS[name], tables(name)
    findings = [judged(verdict, made, FULL) for verdict in experiment.verdicts(made)]
    return Chapter(name, experiment, judged(experiment.answer(made), made).text, findings)


def page() -> str:
    """The text of the page."""
    chapters = [chapter(name) for name in EXPERIMENTS]
    sections = [
        Section(claim, [one for one in chapters if one.experiment.claim is claim])
        for claim in CLAIMS
    ]
    # Markdown, which nothing in it is to be escaped for.
    environment = Environment(
        loader=FileSystemLoader(DOCS), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template(TEMPLATE).render(
        sections=sections, row=row, machines=machines()
    )


def main() -> None:
    """Take a run, if one is given, and write the page."""
    parser = argparse.ArgumentParser(description="Make docs/experiments.md.")
    parser.add_argument("folder", nargs="?", help="of a full run, whose tables are taken first")
    parser.add_argument("--unfinished", nargs="*", default=(), metavar="NAME")
    given = parser.parse_args()
    if given.folder is not None:
        take(given.folder, given.unfinished)
    (DOCS / PAGE).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
