"""One page for a folder of results: verdicts first, then figures, then the numbers behind them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ..errors import MissingDependencyError, ProblemFileError
from . import fingerprint
from .base import Cell, Experiment, Finding, Row, Tables, Value, judged
from .cells import columns_of
from .plots import svg
from .problems import SEED
from .registry import EXPERIMENTS
from .runner import verdict_entry
from .store import Store

__all__ = ["Chapter", "Content", "page", "summary"]

# Rows of a table that the page shows; the file beside it has all.
SHOWN_ROWS = 30
MARKS = {True: ("✓", "holds"), False: ("✗", "fails"), None: ("•", "reported")}
# Where the settings of a run are explained.
WORDS = {
    "attngrad": "version of attngrad",
    "experiments": "checksum of the experiments",
    "library": "checksum of the library",
    "size": "configuration",
    "cpu": "processor",
    "level": "vector level",
    "threads": "threads",
    "python": "Python",
    "numpy": "NumPy",
    "torch": "torch",
    "matplotlib": "matplotlib",
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; }
table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #ddd;
         vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.mark { font-weight: bold; white-space: nowrap; }
.holds { color: #00664b; } .fails { color: #a33c00; } .reported { color: #555; }
.source { color: #555; font-size: 12px; } svg { max-width: 100%; height: auto; }
details { margin: .5rem 0; overflow-x: auto; } code { font-size: 12px; }
.claim { font-style: italic; }
"""


@dataclass(frozen=True)
class Chapter:
    """One experiment: what it found, its tables, its figure (empty without matplotlib)."""

    experiment: Experiment
    findings: list[Finding]
    tables: Tables
    files: dict[str, str]
    points: int
    seconds: float
    figure: str


@dataclass(frozen=True)
class Content:
    """What the page says."""

    folder: str
    setting: dict[str, Any]
    chapters: list[Chapter]
    missing: list[str]

    @property
    def figures(self) -> bool:
        """Whether there are figures."""
        return any(chapter.figure for chapter in self.chapters)

    @property
    def headline(self) -> str:
        """How many verdicts hold."""
        verdicts = [finding.holds for chapter in self.chapters for finding in chapter.findings]
        return (
            f"{len(self.chapters)} experiments, {len(verdicts)} statements: "
            f"{verdicts.count(True)} hold, {verdicts.count(False)} do not, "
            f"{verdicts.count(None)} are reported"
        )

    def to_dict(self) -> dict[str, Any]:
        """Setting and verdicts, for JSON."""
        return {
            "setting": self.setting,
            "missing": self.missing,
            "experiments": {
                chapter.experiment.name: [
                    verdict_entry(chapter.experiment.name, finding) for finding in chapter.findings
                ]
                for chapter in self.chapters
            },
        }


def summary(folder: str) -> Content:
    """Read a folder; verdicts and figures are made from the CSV files themselves.

    Raises
    ------
    ProblemFileError
        For a folder without results, or of other code, or a damaged file, which is named.
    """
    store = Store.read(folder)
    made, here = store.setting.get("experiments"), fingerprint.experiments()
    if made != here:
        # Statements of one version beside numbers of another would be about nothing.
        raise ProblemFileError(
            f"{folder}: found results of other code of the experiments ({made}, here {here}); "
            "run them again into a new folder, or report with the version that wrote them"
        )
    size = store.setting.get("size")
    chapters, missing = [], []
    for name, experiment in EXPERIMENTS.items():
        found = store.load(name)
        if found is None:
            missing.append(name)
            continue
        described, tables = found
        findings = [judged(verdict, tables, size) for verdict in experiment.verdicts(tables)]
        files = {table: part["file"] for table, part in described["tables"].items()}
        chapters.append(
            Chapter(
                experiment, findings, tables, files, len(described["points"]),
                float(described["seconds"]), _figure(experiment, tables),
            )
        )  # fmt: skip
    return Content(folder, store.setting, chapters, missing)


def _figure(experiment: Experiment, tables: Tables) -> str:
    try:
        text = svg(experiment, tables).decode()
    except MissingDependencyError:
        return ""
    # The element alone: a page has no second XML head.
    return text[text.index("<svg") :]


def page(content: Content) -> str:
    """The whole page: no network, no script, nothing beside it is needed to read it."""
    body = "".join(
        [
            "<h1>Where the theorem bites</h1>",
            "<p>Experiments of attngrad on Alman &amp; Song, <cite>The Fine-Grained Complexity of "
            "Gradient Computation for Training Large Language Models</cite> (arXiv 2402.04497). "
            f"{escape(content.headline)}. Every number below stands in a CSV file beside this page."
            "</p>",
            ""
            if content.figures
            else "<p><strong>matplotlib is not installed: no figures.</strong></p>",
            _verdicts(content.chapters),
            _configuration(content),
            *(_chapter(chapter) for chapter in content.chapters),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>attngrad: experiments</title><style>{STYLE}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def _verdicts(chapters: Sequence[Chapter]) -> str:
    parts = ["<h2>Verdicts</h2>"]
    for chapter in chapters:
        name, title = chapter.experiment.name, escape(chapter.experiment.title)
        lines = "".join(f"<tr>{_mark(f)}<td>{_said(f)}</td></tr>" for f in chapter.findings)
        parts.append(f'<h3><a href="#{name}">{title}</a></h3><table>{lines}</table>')
    return "".join(parts)


def _mark(finding: Finding) -> str:
    sign, kind = MARKS[finding.holds]
    return f'<td class="mark {kind}">{sign} {escape(finding.word)}</td>'


def _said(finding: Finding) -> str:
    note = f'<div class="source">{escape(finding.note)}</div>' if finding.note else ""
    return escape(finding.text) + note


def _configuration(content: Content) -> str:
    rows = [
        (word, "not installed" if content.setting.get(key) is None else content.setting[key])
        for key, word in WORDS.items()
    ]
    rows.append(("seed", f"{SEED}, mixed with the arguments of each point"))
    held = content.setting.get("blas_threads") is not None
    free = "as many as it likes, as threadpoolctl is not installed: last digits may differ"
    rows.append(("threads of NumPy's matrix products", "1" if held else free))
    if content.missing:
        rows.append(("not run", ", ".join(content.missing)))
    lines = "".join(f"<tr><th>{escape(a)}</th><td>{escape(str(b))}</td></tr>" for a, b in rows)
    return f"<h2>Configuration, machine, versions, seeds</h2><table>{lines}</table>"


def _chapter(chapter: Chapter) -> str:
    experiment = chapter.experiment
    return "".join(
        [
            f'<h2 id="{experiment.name}">{escape(experiment.title)}</h2>',
            f'<p class="claim">{escape(experiment.claim)}</p>',
            f'<p class="source">attngrad experiments {experiment.name}: {chapter.points} points, '
            f"{chapter.seconds:.0f} s</p>",
            chapter.figure,
            _sources(chapter),
            *(_table(chapter, name, rows) for name, rows in chapter.tables.items()),
        ]
    )


def _sources(chapter: Chapter) -> str:
    """Each verdict with the place of each of its numbers."""
    lines = []
    for finding in chapter.findings:
        places = "<br>".join(
            f"{escape(label)} = {escape(_text(value))}: {_place(chapter, cell)}"
            for label, (value, cell) in finding.numbers.items()
        )
        said = f'{_said(finding)}<div class="source">{places}</div>'
        lines.append(f"<tr>{_mark(finding)}<td>{said}</td></tr>")
    return f"<table>{''.join(lines)}</table>"


def _place(chapter: Chapter, cell: Cell) -> str:
    where = ", ".join(f"{name} = {_text(value)}" for name, value in cell.where.items())
    file = chapter.files[cell.table]
    return f"<code>{escape(file)}</code>, column {escape(cell.column)}, row {escape(where)}"


def _table(chapter: Chapter, name: str, rows: Sequence[Row]) -> str:
    file = escape(chapter.files[name])
    columns = columns_of(rows)
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = "".join(_line(row, columns) for row in rows[:SHOWN_ROWS])
    more = f"; the first {SHOWN_ROWS} are shown" if len(rows) > SHOWN_ROWS else ""
    return (
        f'<details><summary><a href="{file}">{file}</a>: {len(rows)} rows{more}</summary>'
        f"<table><tr>{head}</tr>{lines}</table></details>"
    )


def _line(row: Row, columns: Iterable[str]) -> str:
    cells = []
    for column in columns:
        value = row.get(column)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        cells.append(f"<td{' class=number' if number else ''}>{escape(_text(value))}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _text(value: Value) -> str:
    """For people: four digits are enough; the file has them all."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return str(value)
