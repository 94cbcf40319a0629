"""A run that is killed ends with the same bits; damaged and strange files are named."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import out_of_core
from attngrad_rs.out_of_core._checkpoint import NAMES, Checkpoint, Progress
from determinism.workload import child, digest, environment, problem

SCRIPT = Path(__file__).with_name("killed.py")
N, M, D = 420, 330, 4
# Shards of the three passes over so many rows, and one more for what is done when a pass begins.
SHARDS = 7 + 9 + 7


def write(folder: Path) -> None:
    A1, A2, A3, _, _, E = problem(N, M, D)
    for name, array in {"A1": A1, "A2": A2, "A3": A3, "E": E}.items():
        np.save(folder / f"{name}.npy", 0.3 * array)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    write(folder)
    said: str = child(SCRIPT, folder, -1).said
    return said


@pytest.mark.parametrize("kills", [(1,), (5,), (8,), (9, 3), (17, 2, 3), (21,)])
def test_a_killed_run_ends_with_the_same_bits(
    kills: tuple[int, ...], whole: str, tmp_path: Path
) -> None:
    write(tmp_path)
    for shards in kills:
        command = [sys.executable, str(SCRIPT), str(tmp_path), str(shards)]
        done = subprocess.run(command, env=environment(), timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL
        assert not (tmp_path / "dA1.npy").exists()
    assert child(SCRIPT, tmp_path, -1).said == whole
    # What it leaves behind says that all is done.
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == sorted(NAMES)


def run(folder: Path, **options: Any) -> ag.GradientResult[Any]:
    A1, A2, A3, _, _, E = (0.3 * one for one in problem(N, M, D))
    options = {"degree": 2, "rows": 50, "checkpoint_seconds": 0.0, **options}
    return out_of_core.loss_gradient(
        A1, A2, A3, np.eye(D), np.eye(D), E, checkpoint=folder, **options
    )


class StopError(Exception):
    """Ours."""


def begin(folder: Path, shards: int) -> None:
    """A run that ends after so many shards."""
    left = shards

    def stop(_: float) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise StopError

    with pytest.raises(StopError):
        run(folder, progress=stop)


def test_no_shard_is_done_twice(tmp_path: Path) -> None:
    seen: list[float] = []
    begin(tmp_path, 5)
    run(tmp_path, progress=seen.append)
    # The first call says how far it is already: four shards whose progress was told, and the fifth.
    assert seen[0] == pytest.approx(4 * 50 / (N + M))
    assert len(seen) == 1 + 3 + 1 + 9


def test_a_damaged_generation_costs_no_more_than_the_last_interval(tmp_path: Path) -> None:
    begin(tmp_path / "run", 5)
    want = digest(run(tmp_path / "other"))
    newest = max(
        (tmp_path / "run" / name for name in NAMES), key=lambda path: path.stat().st_mtime_ns
    )
    data = newest.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(20):
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "run", copy)
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        (copy / newest.name).write_bytes(damaged if rng.random() < 0.5 else data[: len(data) // 3])
        assert digest(run(copy)) == want
        shutil.rmtree(copy)
    for name in NAMES:
        (tmp_path / "run" / name).write_bytes(data[:-1])
    with pytest.raises(ag.CheckpointError, match="damaged"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    "options", [{"degree": 3}, {"rows": 60}, {"wrt": ("X", "Y")}, {"scale": 0.1}]
)
def test_the_checkpoint_of_another_call_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    begin(tmp_path, 3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ag.CheckpointError, match="another problem"):
        run(tmp_path, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_is_an_error_and_the_last_generations_stay(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "problem", 0.0)
    checkpoint.save(Progress(stage=1, done=[b"state"]))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ag.CheckpointError, match="cannot be written"):
            checkpoint.save(Progress(stage=2, done=[b"x" * 5000]))
        with pytest.raises(ag.OutputError, match="nothing was left behind"):
            run(tmp_path / "run", wrt="A1", out={"A1": tmp_path / "dA1.npy"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert checkpoint.load().done == [b"state"]
    assert not list(tmp_path.glob("*.tmp"))
    assert not list(tmp_path.glob("*dA1*"))


@given(
    states=st.lists(st.binary(max_size=50), max_size=3),
    trees=st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=50)), max_size=4),
)
def test_progress_survives_its_file(states: list[bytes], trees: list[tuple[int, bytes]]) -> None:
    progress = Progress(stage=len(states), done=states, trees=trees)
    data = progress.to_bytes("problem", 7)
    again, header = Progress.from_bytes(data)
    assert again == progress
    assert (header["problem"], header["generation"]) == ("problem", 7)
    with pytest.raises(ValueError, match="cut short"):
        Progress.from_bytes(data[:-1])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ag.CheckpointError, match=str(tmp_path / "file")):
        run(tmp_path / "file" / "checkpoint")
    assert json.dumps(os.listdir(tmp_path)) == '["file"]'
