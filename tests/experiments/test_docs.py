"""docs/experiments.md against the tables beside it: every statement follows from the numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attngrad_rs.experiments.base import FULL, Tables, judged
from attngrad_rs.experiments.cells import from_csv
from attngrad_rs.experiments.registry import EXPERIMENTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
DATA, FIGURES = DOCS / "data" / "experiments", DOCS / "figures" / "experiments"
# What is small enough to be read, and to be kept.
DATA_BYTES, FIGURE_BYTES = 200_000, 300_000


def kept_tables(name: str) -> Tables:
    return {
        path.name.split(".")[1]: from_csv(path.read_bytes()) for path in DATA.glob(f"{name}.*.csv")
    }


def page() -> str:
    return " ".join((DOCS / "experiments.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_page_says_what_the_tables_say(name: str) -> None:
    assert json.loads((DATA / "experiments.json").read_text())["size"] == FULL
    tables, text = kept_tables(name), page()
    verdicts = EXPERIMENTS[name].verdicts(tables)
    assert verdicts
    for verdict in verdicts:
        finding = judged(verdict, tables, FULL)
        assert f"*{finding.word}*: {' '.join(finding.text.split())}" in text


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_figure_is_there_and_is_small(name: str) -> None:
    figure = FIGURES / f"{name}.svg"
    assert 0 < figure.stat().st_size <= FIGURE_BYTES
    assert f"(figures/experiments/{name}.svg)" in page()


def test_the_tables_are_small() -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir()) <= DATA_BYTES
