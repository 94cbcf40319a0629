"""The commands, and the page: every number of every verdict stands on it, with its place."""

from __future__ import annotations

import builtins
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small
from typer.testing import CliRunner

import attngrad_rs as ag
from attngrad_rs._inputs.options import METHODS, Input
from attngrad_rs.cli import commands, exit_codes
from attngrad_rs.cli import experiments as experiment_commands
from attngrad_rs.diagnose import explain_problem
from attngrad_rs.experiments import EXPERIMENTS, claims
from attngrad_rs.experiments.base import Verdict, look_up
from attngrad_rs.experiments.cells import from_csv
from attngrad_rs.experiments.report import summary

RUN = CliRunner()
# The signs before the words of a verdict.
MARKS = ("✓", "✗", "•")


def attngrad(*arguments: object, code: int = 0) -> Any:
    result = RUN.invoke(commands.app, [str(one) for one in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


class Links(HTMLParser):
    """All that a browser would load or run, and whether tags close in order."""

    VOID = ("meta", "br", "img", "link", "use", "path", "rect", "line", "stop")

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "srcset")]
        assert tag not in ("script", "link", "iframe")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


class Text(HTMLParser):
    """The page as a reader sees it: its words, and the cells of its rows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real experiment, through the command."""
    out = tmp_path_factory.mktemp("results") / "out"
    text = attngrad("experiments", "ranks", "--quick", "--out", out).stdout
    assert "Numerical rank, without SETH: 39 points" in text
    return out


def test_every_number_of_every_verdict_is_on_the_page_with_its_place(folder: Path) -> None:
    assert "written to" in attngrad("report", folder).stdout
    html = (folder / "report.html").read_text()
    content = summary(str(folder))
    (chapter,) = content.chapters
    assert chapter.experiment.name == "ranks"
    for finding in chapter.findings:
        for value, cell in finding.numbers.values():
            file = f"ranks.{cell.table}.csv"
            rows = from_csv((folder / file).read_bytes())
            assert look_up({cell.table: rows}, cell) == value
            assert f"<code>{file}</code>, column {cell.column}" in html
    # What the run said, word for word, and once.
    entries = json.loads((folder / "ranks.json").read_text())["verdicts"]
    assert [entry["text"] for entry in entries] == [one.text for one in chapter.findings]
    words = [entry["verdict"] for entry in entries]
    seen = Text(html)
    said = [row for row in seen.rows if len(row) == 2 and row[0][:1] in MARKS]
    for entry, row in zip(entries, said, strict=True):
        assert row[0].split(" ", 1)[1] == entry["verdict"]
        assert row[1].startswith(entry["text"])
    assert set(words) == {"holds", "reported"}
    headline = (
        f"1 experiment, {len(words)} statements: {words.count('holds')} hold, "
        f"{words.count('reported')} are reported"
    )
    assert headline in "".join(seen.words)


def test_the_page_needs_no_network_and_is_well_formed(folder: Path) -> None:
    attngrad("report", folder, "-o", folder.parent / "page.html")
    html = (folder.parent / "page.html").read_text()
    links = Links()
    links.feed(html)
    links.close()
    assert links.open == []
    assert links.loaded == []
    assert not re.search(r"url\(\s*['\"]?(?!#)", html)
    for word in ("processor", "seed", "NumPy", "configuration", "not run", "<svg"):
        assert word in html
    places = [
        html.index(mark)
        for mark in (
            "<h2>In short</h2>", '<h2 id="low-rank">', '<h3 id="ranks">', "<svg", 'class="mark',
            "<summary>Where these numbers stand", "<summary>Configuration",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    # The places of numbers, and the tables, are behind a fold.
    assert "ranks.growth.csv" not in re.sub(r"(?s)<details>.*</details>", "", html)


def test_a_page_is_not_overwritten(folder: Path) -> None:
    page_file = folder.parent / "mine.html"
    page_file.write_text("mine")
    message = attngrad("report", folder, "-o", page_file, code=exit_codes.EXIT_BAD_INPUT).stderr
    assert "found an existing file; choose another name, or pass --force" in message
    assert page_file.read_text() == "mine"
    assert "written to" in attngrad("report", folder, "-o", page_file, "--force").stdout
    assert page_file.read_text() != "mine"


@pytest.mark.usefixtures("only_small")
def test_a_page_goes_by_claims_and_gives_a_reason_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(tables: Any) -> list[Verdict]:
        return [replace(one, unjudged="quick", why="so few") for one in small.verdicts(tables)[:2]]

    hard = replace(small.SMALL, name="other", claim=claims.HARD, verdicts=twice)
    monkeypatch.setitem(EXPERIMENTS, "other", hard)
    out = tmp_path / "out"
    text = attngrad("experiments", "--out", out).stdout
    assert text.count("[1]") == 3
    # Each of them stands above its experiments.
    marks = [claims.SMALL.title, "A small one: ", claims.HARD.title, "A small one: "]
    assert re.findall("|".join(map(re.escape, dict.fromkeys(marks))), text) == marks
    assert text.count("so few") == 1
    attngrad("report", out)
    html = (out / "report.html").read_text()
    order = [html.index(f'<h2 id="{one.key}">') for one in (claims.SMALL, claims.HARD)]
    assert order[0] < html.index('<h3 id="small">') < order[1] < html.index('<h3 id="other">')
    assert claims.RANKS.title not in html
    assert html.count("Only reported: so few.") == 1
    assert html.count("In all 5.300.") == 2
    assert "small</a>: 1 holds, 1 does not, 2 are reported" in html
    assert "other</a>: 2 are reported" in html


@pytest.mark.usefixtures("only_small")
def test_nor_is_the_page_in_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    attngrad("experiments", "--out", out)
    attngrad("report", out)
    (out / "report.html").write_text("mine")
    message = attngrad("report", out, code=exit_codes.EXIT_BAD_INPUT).stderr
    assert "found an existing file; choose another name, or pass --force" in message
    assert (out / "report.html").read_text() == "mine"
    attngrad("report", out, "--force")
    assert (out / "report.html").read_text() != "mine"


@pytest.mark.usefixtures("only_small")
def test_json(tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = json.loads(attngrad("experiments", "--out", out, "--json").stdout)
    (entry,) = found["experiments"]
    assert entry["experiment"] == "small"
    assert [one["verdict"] for one in entry["verdicts"]] == [
        "holds", "does not hold", "reported", "reported",
    ]  # fmt: skip
    found = json.loads(attngrad("report", out, "--json").stdout)
    assert found["experiments"]["small"][0]["text"] == "The total is 5.300."
    assert found["answers"] == {"small": "In all 5.300."}
    assert found["setting"]["size"] == "quick"
    assert json.loads(attngrad("experiments", "--list", "--json").stdout)["small"]["title"]


@pytest.mark.usefixtures("only_small")
def test_without_matplotlib_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__
    from attngrad_rs.experiments import plots

    def missing(name: str) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name=name)
        return real(name)

    monkeypatch.setattr(plots, "import_module", missing)
    out = tmp_path / "out"
    done = attngrad("experiments", "--out", out)
    assert "found no package 'matplotlib'" in done.stderr
    assert not list(out.glob("*.svg"))
    assert (out / "small.square.csv").exists()
    done = attngrad("report", out)
    assert "found no package 'matplotlib'" in done.stderr
    html = (out / "report.html").read_text()
    assert "no figures" in html
    assert "<svg" not in html


@pytest.mark.usefixtures("only_small")
def test_a_damaged_point_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    attngrad("experiments", "--out", out)
    (out / "points" / "small" / "number=2,seed=0.json").write_text("{")
    done = attngrad("experiments", "--out", out)
    assert "points/small/number=2,seed=0.json: found it damaged" in done.stderr
    assert "2 of them from before" in done.stdout


@pytest.mark.usefixtures("only_small")
def test_bad_calls(tmp_path: Path) -> None:
    for arguments, words in (
        (("large", "--out", tmp_path / "out"), "known are small"),
        (("--quick", "--full"), "expected one of them"),
        (("--out", tmp_path / "no" / "where"), "cannot be made"),
    ):
        message = attngrad("experiments", *arguments, code=exit_codes.EXIT_BAD_INPUT).stderr
        assert words in message
        assert message.count("\n") == 1
    message = attngrad("report", tmp_path, code=exit_codes.EXIT_BAD_INPUT).stderr
    assert "found no readable experiments.json" in message


@pytest.mark.usefixtures("only_small")
def test_ctrl_c_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from attngrad_rs.experiments.store import Store

    save = Store.save_point

    def stopped(self: Store, *arguments: Any) -> None:
        save(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "save_point", stopped)
    out = tmp_path / "out"
    done = attngrad("experiments", "--out", out, code=exit_codes.EXIT_INTERRUPTED)
    assert f"what is done is kept in {out}" in done.stderr
    monkeypatch.setattr(Store, "save_point", save)
    assert "1 of them from before" in attngrad("experiments", "--out", out).stdout


def test_bench_is_the_experiment_of_work_and_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPERIMENTS, experiment_commands.BENCH, small.SMALL)
    found = json.loads(attngrad("bench", "--out", tmp_path / "out", "--json").stdout)
    assert [one["experiment"] for one in found["experiments"]] == ["small"]
    calls = len(small.CALLS)
    assert (
        "from before (--again measures anew)" in attngrad("bench", "--out", tmp_path / "out").stdout
    )
    assert len(small.CALLS) == calls
    assert "from before" not in attngrad("bench", "--out", tmp_path / "out", "--again").stdout
    assert len(small.CALLS) == calls + len(small.points("quick"))
    message = attngrad("bench", "--quick", "--full", code=exit_codes.EXIT_BAD_INPUT).stderr
    assert "expected one of them" in message


def test_explain(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    A = rng.uniform(-1.0, 1.0, (40, 3))
    path = tmp_path / "p.npz"
    np.savez(path, A1=A, A2=A, A3=A, X=np.eye(3), Y=np.eye(3), E=A)
    text = attngrad("explain", path, "--rtol", "1e-2").stdout
    for word in ("diagnosis", "regime", "plan", "method", "predicted error"):
        assert word in text
    found = json.loads(attngrad("explain", path, "--json").stdout)
    assert found["rtol"] == 1e-3
    assert found["plan"]["method"] in METHODS
    assert found["diagnosis"]["regime"] in ("near-linear", "borderline", "exact")
    message = attngrad("explain", tmp_path / "no.npz", code=exit_codes.EXIT_BAD_INPUT).stderr
    assert "found no such file" in message


@pytest.mark.parametrize("pair", [False, True])
def test_the_explanation_is_of_the_logits_that_the_gradient_sees(pair: bool) -> None:
    rng = np.random.default_rng(0)
    A = rng.uniform(-1.0, 1.0, (64, 6))
    X = (2.0 * np.eye(6, 3), 3.0 * np.eye(6, 3)) if pair else 6.0 * np.eye(6)
    given = {"A1": A, "A2": A, "A3": A, "X": X, "Y": np.eye(6), "E": A, "scale": 0.5}
    wrt: tuple[Input, ...] = ("W_Q", "W_K") if pair else ("X",)
    diagnosis, plan = explain_problem(given, wrt, 1e-2, None)
    query, key = (A @ X[0], A @ X[1]) if isinstance(X, tuple) else (A @ X, A)
    assert diagnosis == ag.diagnose(query, key, scale=0.5)
    assert plan.method in METHODS
    del given["scale"]
    diagnosis, _ = explain_problem(given, wrt, 1e-2, None)
    assert diagnosis.scale == pytest.approx(1.0 / 6.0)
