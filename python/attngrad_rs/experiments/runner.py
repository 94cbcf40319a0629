"""Run experiments: point by point, each stored as soon as it is there."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from .. import _core
from .._inputs import options
from ..errors import MissingDependencyError, OptionError
from . import fingerprint, machine
from .base import QUICK, SIZES, Experiment, Finding, Point, Tables, judged, plain
from .figure import svg
from .registry import EXPERIMENTS
from .store import PointResult, Store

__all__ = [
    "Outcome", "chosen", "outcome_entry", "run", "run_one", "setting", "verdict_entry",
    "with_summary",
]  # fmt: skip

# The version of the layout of the folder.
FORMAT = 1
# Packages that a result may depend on.
PEERS = ("torch", "matplotlib", "scipy")
# Of NumPy's matrix products: the same bits on any machine, and no waiting where cores are shared.
BLAS_THREADS = 1

Progress = Callable[[float], object]


@dataclass(frozen=True)
class Outcome:
    """What became of one experiment.

    Attributes
    ----------
    experiment : Experiment
        Which.
    findings : list of Finding
        Its verdicts.
    tables : mapping
        All its tables.
    points, kept : int
        How many points it has, and how many of them were there already.
    damaged : list of str
        Files that were damaged and have been computed again.
    figure : str or None
        The file of the figure; None without matplotlib.
    seconds : float
        That the points took, in this run or the one before.
    """

    experiment: Experiment
    findings: list[Finding]
    tables: Tables
    points: int
    kept: int
    damaged: list[str]
    figure: str | None
    seconds: float


def chosen(names: Sequence[str]) -> list[Experiment]:
    """Experiments by name, in the order of the table; all without a name.

    Raises
    ------
    OptionError
        For an unknown name, listing those there are.
    """
    for name in names:
        if name not in EXPERIMENTS:
            raise OptionError(f"experiment: found {name!r}; known are {', '.join(EXPERIMENTS)}")
    return [one for name, one in EXPERIMENTS.items() if not names or name in names]


def setting(size: str) -> dict[str, Any]:
    """What all results of one folder share: configuration, machine, versions."""
    options.choice("size", size, SIZES)
    return {
        "format": FORMAT,
        "attngrad": _core.__version__,
        "experiments": fingerprint.experiments(),
        "library": fingerprint.library(),
        "size": size,
        "cpu": machine.cpu_name(),
        "level": _core.level(),
        "threads": machine.thread_count(None),
        "blas_threads": BLAS_THREADS,
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{name: _version(name) for name in PEERS},
    }


def run(
    names: Sequence[str] = (),
    *,
    out: str,
    size: str = QUICK,
    again: bool = False,
    progress: Callable[[str], AbstractContextManager[Progress]] | None = None,
) -> Iterator[Outcome]:
    """Run experiments, one after the other; stored points are not computed again.

    Parameters
    ----------
    names : sequence of str
        Which; all by default.
    out : str
        The folder of the results, made if it is missing; its parent has to be there.
    size : {"quick", "full"}
        Minutes on two cores, or up to an hour.
    again : bool
        Compute stored points too, and put the new ones in their place.
    progress : callable, optional
        From the name of an experiment that begins to a context, which yields a function that is
        called with a number that rises from 0 to 1.

    Returns
    -------
    iterator of Outcome
        Each as soon as the experiment is done; the folder has been checked before.

    Raises
    ------
    OptionError
        For unknown names or sizes.
    OutputError
        Before any work, where the folder is not one for these results; later, where the disk
        fills up.
    """
    experiments = chosen(names)
    store = Store.open(out, setting(size))
    return _each(experiments, store, again, progress or (lambda _: nullcontext(_ignore)))


def _each(
    experiments: list[Experiment],
    store: Store,
    again: bool,
    progress: Callable[[str], AbstractContextManager[Progress]],
) -> Iterator[Outcome]:
    for experiment in experiments:
        with progress(experiment.name) as move:
            outcome = run_one(experiment, store, move, again=again)
        yield outcome


def run_one(
    experiment: Experiment, store: Store, progress: Progress, *, again: bool = False
) -> Outcome:
    """Compute what is not yet stored, then write tables, figure and verdicts."""
    points = experiment.points(store.setting["size"])
    before = len(store.damaged)
    tables: Tables = {}
    kept, seconds = 0, 0.0
    for number, one in enumerate(points):
        progress(number / len(points))
        stored = None if again else store.load_point(experiment.name, one)
        if stored is None:
            stored = _measured(experiment, one)
            store.save_point(experiment.name, one, *stored)
        else:
            kept += 1
        seconds += stored[1]
        for table, rows in stored[0].items():
            tables.setdefault(table, []).extend(rows)
    tables = with_summary(experiment, tables)
    size = store.setting["size"]
    findings = [judged(verdict, tables, size) for verdict in experiment.verdicts(tables)]
    answer = judged(experiment.answer(tables), tables).text
    described = store.save_tables(experiment, tables)
    figure = _save_figure(experiment, store, tables)
    store.save_summary(
        experiment.name,
        {
            "experiment": experiment.name,
            "title": experiment.title,
            "claim": experiment.claim.title,
            "aim": experiment.aim,
            "answer": answer,
            "setting": store.setting,
            "points": [dict(one.arguments) for one in points],
            "tables": described,
            "verdicts": [verdict_entry(experiment.name, finding) for finding in findings],
            "figure": figure,
            "seconds": seconds,
        },
    )
    progress(1.0)
    return Outcome(
        experiment, findings, tables, len(points), kept, store.damaged[before:], figure, seconds
    )


def _measured(experiment: Experiment, one: Point) -> PointResult:
    """One point, and the seconds it took."""
    start = time.perf_counter()
    with machine.blas_threads(BLAS_THREADS):
        tables = _plain_tables(experiment.measure(**one.arguments))
    return tables, time.perf_counter() - start


def outcome_entry(outcome: Outcome) -> dict[str, Any]:
    """An outcome for JSON."""
    name = outcome.experiment.name
    return {
        "experiment": name,
        "title": outcome.experiment.title,
        "points": outcome.points,
        "kept": outcome.kept,
        "damaged": outcome.damaged,
        "figure": outcome.figure,
        "seconds": outcome.seconds,
        "verdicts": [verdict_entry(name, finding) for finding in outcome.findings],
    }


def verdict_entry(name: str, finding: Finding) -> dict[str, Any]:
    """A verdict for JSON: each number with the file, column and row that it stands in."""
    numbers = {
        label: {
            # JSON has no word for what is not finite.
            "value": value if not isinstance(value, float) or np.isfinite(value) else repr(value),
            "file": f"{name}.{cell.table}.csv",
            "column": cell.column,
            "where": dict(cell.where),
        }
        for label, (value, cell) in finding.numbers.items()
    }
    entry = {"text": finding.text, "verdict": finding.word, "numbers": numbers}
    return {**entry, "note": finding.note} if finding.note else entry


def _save_figure(experiment: Experiment, store: Store, tables: Tables) -> str | None:
    try:
        content = svg(experiment, tables)
    except MissingDependencyError:
        return None
    file = f"{experiment.name}.svg"
    store.write(file, content)
    return file


def with_summary(experiment: Experiment, measured: Tables) -> Tables:
    """All tables of an experiment, from those of its points."""
    return {**measured, **_plain_tables(experiment.summarise(measured))}


def _plain_tables(tables: Tables) -> Tables:
    return {
        table: [{column: plain(value) for column, value in row.items()} for row in rows]
        for table, rows in tables.items()
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _ignore(_: float) -> None:
    return None
