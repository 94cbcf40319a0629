"""One page for a folder of results: verdicts first, then figures, then the numbers behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..errors import MissingDependencyError, ProblemFileError
from . import fingerprint
from .base import Experiment, Finding, Tables, Value, judged
from .cells import columns_of
from .figure import svg
from .problems import SEED
from .registry import EXPERIMENTS
from .runner import verdict_entry
from .store import Store

__all__ = ["Chapter", "Content", "page", "shown", "summary"]

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
    "scipy": "SciPy",
    "blas_threads": "threads of NumPy's matrix products",
}
TEMPLATE = "report.html"


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
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"shown": shown, "columns": columns_of}
    return environment.get_template(TEMPLATE).render(
        headline=content.headline,
        figures=content.figures,
        chapters=content.chapters,
        configuration=_configuration(content),
        marks=MARKS,
        shown_rows=SHOWN_ROWS,
    )


def _configuration(content: Content) -> list[tuple[str, object]]:
    rows = [(word, _installed(content.setting.get(key))) for key, word in WORDS.items()]
    rows.append(("seed", f"{SEED}, mixed with the arguments of each point"))
    if content.missing:
        rows.append(("not run", ", ".join(content.missing)))
    return rows


def _installed(value: object) -> object:
    return "not installed" if value is None else value


def shown(value: Value) -> str:
    """A value for people: four digits are enough; the file has them all."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return str(value)
