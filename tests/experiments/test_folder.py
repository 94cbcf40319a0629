"""The folder of results: resumed, refused, repaired; never overwritten with something else."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import small

from attngrad_rs.errors import OptionError, OutputError, ProblemFileError
from attngrad_rs.experiments import fingerprint, run, runner
from attngrad_rs.experiments.report import summary
from attngrad_rs.experiments.store import MANIFEST, Store

pytestmark = pytest.mark.usefixtures("only_small")


def files(folder: Path) -> dict[str, Any]:
    """All files; seconds aside."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            content = json.loads(path.read_bytes())
            content.pop("seconds", None)
            found[str(path.relative_to(folder))] = content
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def done(folder: Path, size: str = "quick") -> list[runner.Outcome]:
    return list(run(out=str(folder), size=size))


def test_a_run_writes_points_tables_figure_and_verdicts(tmp_path: Path) -> None:
    (outcome,) = done(tmp_path / "out")
    assert outcome.points == 3
    assert outcome.kept == 0
    assert [finding.word for finding in outcome.findings] == [
        "holds", "does not hold", "reported", "reported",
    ]  # fmt: skip
    assert (tmp_path / "out" / "small.square.csv").read_text() == (
        'number,square,word,none\n0,0.1,"a, b",\n1,1.1,"a, b",\n2,4.1,"a, b",\n'
    )
    entry = json.loads((tmp_path / "out" / "small.json").read_text())
    number = entry["verdicts"][2]["numbers"]["two"]
    assert number == {
        "value": 4.1, "file": "small.square.csv", "column": "square", "where": {"number": 2},
    }  # fmt: skip
    assert entry["verdicts"][3]["numbers"]["x"]["value"] == "inf"


def test_a_run_that_was_stopped_gives_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only_small: list[int]
) -> None:
    done(tmp_path / "whole")
    save = Store.save_point

    def stopped(self: Store, *arguments: Any) -> None:
        save(self, *arguments)
        raise KeyboardInterrupt

    only_small.clear()
    monkeypatch.setattr(Store, "save_point", stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            done(tmp_path / "parts")
    monkeypatch.setattr(Store, "save_point", save)
    # A process that was killed while it wrote leaves this behind.
    (tmp_path / "parts" / "points" / "small" / ".attngrad-12ab.tmp").write_bytes(b"half")
    (outcome,) = done(tmp_path / "parts")
    assert outcome.kept == 2
    assert only_small == [0, 1, 2]
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_the_order_of_points_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(tmp_path / "forward")
    points = small.SMALL.points("quick")
    store = Store.open(str(tmp_path / "backward"), runner.setting("quick"))
    for one in reversed(points):
        store.save_point("small", one, small.measure(**one.arguments), 0.0)  # type: ignore[arg-type]
    (outcome,) = done(tmp_path / "backward")
    assert outcome.kept == 3
    assert files(tmp_path / "backward") == files(tmp_path / "forward")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"body": {}, "sha256": "0", "seconds": 1}',
        b'{"body": null, "sha256": 3}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_point_is_computed_again_and_named(
    tmp_path: Path, damage: bytes, only_small: list[int]
) -> None:
    done(tmp_path)
    want = files(tmp_path)
    path = tmp_path / "points" / "small" / "number=1,seed=0.json"
    path.write_bytes(damage)
    only_small.clear()
    (outcome,) = done(tmp_path)
    assert outcome.damaged == ["points/small/number=1,seed=0.json"]
    assert only_small == [1]
    assert files(tmp_path) == want


def test_a_changed_number_in_a_point_is_damage(tmp_path: Path, only_small: list[int]) -> None:
    done(tmp_path)
    path = tmp_path / "points" / "small" / "number=1,seed=0.json"
    path.write_text(path.read_text().replace("1.1", "1.2"))
    only_small.clear()
    (outcome,) = done(tmp_path)
    assert outcome.damaged
    assert only_small == [1]


def test_results_that_are_damaged_are_named_by_the_report(tmp_path: Path) -> None:
    done(tmp_path)
    path = tmp_path / "small.square.csv"
    path.write_text(path.read_text().replace("4.1", "4.2"))
    with pytest.raises(ProblemFileError, match=r"small\.square\.csv: found a damaged result"):
        summary(str(tmp_path))
    done(tmp_path)
    assert summary(str(tmp_path)).chapters[0].findings[2].text == "The square of 2 is 4.1."


@pytest.mark.parametrize("name", ["size", "attngrad", "numpy", "cpu", "experiments", "library"])
def test_another_setting_is_refused_and_nothing_is_touched(tmp_path: Path, name: str) -> None:
    done(tmp_path)
    path = tmp_path / MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, name: "other"}))
    before = {one: one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()}
    with pytest.raises(OutputError, match=f"found results with {name} 'other'"):
        run(out=str(tmp_path))
    assert before == {one: one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()}


def test_another_size_is_refused(tmp_path: Path) -> None:
    done(tmp_path)
    with pytest.raises(OutputError, match="found results with size 'quick'"):
        run(out=str(tmp_path), size="full")


def test_folders_that_are_not_ours_are_refused(
    tmp_path: Path, only_small: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="found other files"):
        run(out=str(other))
    with pytest.raises(OutputError, match="found a file"):
        run(out=str(other / "thesis.tex"))
    with pytest.raises(OutputError, match="cannot be made"):
        run(out=str(tmp_path / "no" / "parent"))
    (other / "thesis.tex").unlink()
    (other / MANIFEST).write_text("{")
    with pytest.raises(OutputError, match=r"found a damaged experiments\.json"):
        run(out=str(other))
    assert only_small == []
    assert os.listdir(other) == [MANIFEST]


def test_a_full_disk_is_refused(
    tmp_path: Path, only_small: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5, 5))
    with pytest.raises(OutputError, match="found a disk with 5 bytes left"):
        run(out=str(tmp_path / "out"))
    monkeypatch.undo()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        run(out=str(tmp_path / "out"))
    assert only_small == []
    assert os.listdir(tmp_path / "out") == []


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="found 'large'; known are small"):
        run(["large"], out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_without_results_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ProblemFileError, match=r"found no readable experiments\.json"):
        summary(str(tmp_path))


def test_a_report_of_other_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done(tmp_path)
    monkeypatch.setattr(fingerprint, "experiments", lambda: "0123456789abcdef")
    with pytest.raises(ProblemFileError, match="found results of other code of the experiments"):
        summary(str(tmp_path))
    with pytest.raises(OutputError, match="found results with experiments"):
        run(out=str(tmp_path))


def test_a_checksum_tells_files_apart() -> None:
    package = fingerprint.HERE.parent
    assert fingerprint.experiments() != fingerprint.library()
    first = package / "problem.py"
    second = package / "plans.py"
    assert fingerprint._checksum([first, second]) == fingerprint._checksum([second, first])
    assert fingerprint._checksum([first]) != fingerprint._checksum([second])
