"""One page for a folder of results, by claims of the paper: answers first, then each experiment.

An experiment has its figure, its verdicts, and behind folds the places of all numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..errors import MissingDependencyError, ProblemFileError
from . import fingerprint
from .base import Experiment, Finding, Tables, Value, judged
from .cells import columns_of
from .claims import CLAIMS, Claim
from .figure import svg
from .problems import SEED
from .registry import EXPERIMENTS
from .runner import verdict_entry
from .store import Store

__all__ = ["Chapter", "Content", "Section", "page", "shown", "summary"]

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
    """One experiment: its answer, verdicts, tables, and figure (empty without matplotlib)."""

    experiment: Experiment
    answer: str
    findings: list[Finding]
    tables: Tables
    files: dict[str, str]
    points: int
    seconds: float
    figure: str

    @property
    def notes(self) -> list[str]:
        """Reasons why verdicts are not judged, each once."""
        return list(dict.fromkeys(finding.note for finding in self.findings if finding.note))

    @property
    def tally(self) -> str:
        """Numbers of verdicts that hold, do not hold, and are reported."""
        return _tally(self.findings)


@dataclass(frozen=True)
class Section:
    """One claim of the paper, and the experiments on it."""

    claim: Claim
    chapters: list[Chapter]


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
    def sections(self) -> list[Section]:
        """The chapters by claim."""
        found = [
            Section(claim, [one for one in self.chapters if one.experiment.claim is claim])
            for claim in CLAIMS
        ]
        return [section for section in found if section.chapters]

    @property
    def headline(self) -> str:
        """Numbers of experiments, and of verdicts that hold."""
        findings = [finding for chapter in self.chapters for finding in chapter.findings]
        count = len(self.chapters)
        noun = "experiment" if count == 1 else "experiments"
        return f"{count} {noun}, {len(findings)} statements: {_tally(findings)}"

    def to_dict(self) -> dict[str, Any]:
        """Setting and verdicts, for JSON."""
        return {
            "setting": self.setting,
            "missing": self.missing,
            "answers": {one.experiment.name: one.answer for one in self.chapters},
            "experiments": {
                chapter.experiment.name: [
                    verdict_entry(chapter.experiment.name, finding) for finding in chapter.findings
                ]
                for chapter in self.chapters
            },
        }


def _tally(findings: list[Finding]) -> str:
    """Numbers of each kind, without those of which there is none."""
    words = {
        "holds": ("holds", "hold"), "does not hold": ("does not", "do not"),
        "reported": ("is reported", "are reported"),
    }  # fmt: skip
    counts = {word: sum(finding.word == word for finding in findings) for word in words}
    parts = [f"{n} {words[word][n != 1]}" for word, n in counts.items() if n]
    return ", ".join(parts)


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
                experiment, judged(experiment.answer(tables), tables).text, findings, tables,
                files, len(described["points"]), float(described["seconds"]),
                _figure(experiment, tables),
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
        sections=content.sections,
        machine=_machine(content.setting),
        configuration=_configuration(content),
        marks=MARKS,
        shown_rows=SHOWN_ROWS,
    )


def _machine(setting: dict[str, Any]) -> str:
    """A machine in a line, as far as the folder says."""
    return (
        f"{setting.get('size')} run, {setting.get('cpu')}, level {setting.get('level')}, "
        f"{setting.get('threads')} threads, attngrad {setting.get('attngrad')}"
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
