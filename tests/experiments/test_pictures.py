"""The picture of the front page against its table, and the gallery against the experiments."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from attngrad_rs.experiments.registry import EXPERIMENTS
from tool import loaded

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FIGURE_BYTES = 300_000


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return loaded("make_front_figure")


def test_the_front_figure_is_of_the_table_that_is_there(tool: ModuleType) -> None:
    content = (DOCS / "figures" / "front.svg").read_bytes()
    assert len(content) <= FIGURE_BYTES
    remedy = "python tools/make_front_figure.py makes it anew"
    assert f"time.seconds.csv: sha256 {tool.checksum()}".encode() in content, remedy


def test_the_front_figure_draws_what_was_measured(tool: ModuleType) -> None:
    """Each series has points, and no error is above its certificate."""
    table = tool.from_csv(tool.TABLE.read_bytes())
    for ratio in tool.REGIMES:
        for call in tool.CALLS:
            assert len(tool.select(table, call=call, ratio=ratio)) >= 3
        for row in tool.select(table, call=tool.AUTO, ratio=ratio):
            assert row["certificate"] <= tool.RTOL
            assert row["error"] is None or row["error"] <= row["certificate"]


@pytest.mark.parametrize("page", ["docs/index.md", "README.md"])
def test_the_front_figure_is_shown(page: str) -> None:
    assert "figures/front.svg" in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_gallery_has_every_experiment(name: str) -> None:
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert f"figures/experiments/{name}.svg" in text
