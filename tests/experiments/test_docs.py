"""docs/experiments.md against the tables beside it: every statement follows from the numbers."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import ModuleType

import pytest

from attngrad_rs.experiments.base import FULL, Verdict, judged, select, worded
from attngrad_rs.experiments.cells import from_csv, to_csv
from attngrad_rs.experiments.claims import CLAIMS
from attngrad_rs.experiments.registry import EXPERIMENTS
from attngrad_rs.experiments.rows import real
from tool import loaded

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DATA, FIGURES = DOCS / "data" / "experiments", DOCS / "figures" / "experiments"
# What a sentence has words for, or no place.
NO_WORDS = re.compile(r"\b(True|False|None|inf|nan)\b|-0(\.0+)?\b(?!\.?\d)|[{}]")
# What is small enough to be read, and to be kept.
DATA_BYTES, FIGURE_BYTES = 200_000, 300_000


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return loaded("make_experiments_page")


@pytest.fixture
def text() -> str:
    return (DOCS / "experiments.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_tables_say(tool: ModuleType, text: str) -> None:
    runs = json.loads((DATA / "runs.json").read_text())
    assert runs.keys() == EXPERIMENTS.keys()
    assert {run["size"] for run in runs.values()} == {FULL}
    made = tool.page()
    assert made == text, "python tools/make_experiments_page.py makes it anew"
    for name, experiment in EXPERIMENTS.items():
        assert f"\n### {experiment.title}\n" in made
        assert len(experiment.verdicts(tool.tables(name))) >= 1
    marks = sum(made.count(f"\n- *{word}*: ") for word in ("holds", "does not hold", "reported"))
    verdicts = [one for name, e in EXPERIMENTS.items() for one in e.verdicts(tool.tables(name))]
    assert marks == len(verdicts)
    for claim in CLAIMS:
        assert made.count(f"\n## {claim.title}\n") == 1


def sentences(tool: ModuleType, name: str) -> list[Verdict]:
    experiment, tables = EXPERIMENTS[name], tool.tables(name)
    return [*experiment.verdicts(tables), experiment.answer(tables)]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_sentences_are_words(tool: ModuleType, name: str) -> None:
    for verdict in sentences(tool, name):
        text = judged(verdict, tool.tables(name), FULL).text
        assert not NO_WORDS.search(text), text
        assert text.endswith("."), text
        assert "  " not in text, text


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_so_they_are_whatever_was_measured(tool: ModuleType, name: str, value: float) -> None:
    for verdict in sentences(tool, name):
        text = worded(verdict.text, dict.fromkeys(verdict.cells, value))
        assert not NO_WORDS.search(text), text


def test_another_number_is_another_page(
    tool: ModuleType, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in DATA.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    table = tmp_path / "quality.summary.csv"
    rows = from_csv(table.read_bytes())
    (row,) = select(rows, B=1.0, kind="least_squares")
    assert real(row, "gain_per_degree") > 10.0
    row["gain_per_degree"] = 2.6875
    table.write_bytes(to_csv(rows))
    monkeypatch.setattr(tool, "DATA", tmp_path)
    made = tool.page()
    assert made != text
    assert "- *does not hold*: A degree is worth a factor of 2.69" in made
    assert "each further degree divides that by 3" in made


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_figure_is_there_and_is_small(name: str, text: str) -> None:
    figure = FIGURES / f"{name}.svg"
    assert 0 < figure.stat().st_size <= FIGURE_BYTES
    assert f"(figures/experiments/{name}.svg)" in text
    # A dimensionless axis has no unit, and needs no word for that.
    assert "(1)" not in figure.read_text(encoding="utf-8")


def test_the_tables_are_small() -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir()) <= DATA_BYTES
