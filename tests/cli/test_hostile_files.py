"""Hostile files: no code of theirs runs, nothing is written, and little memory is taken."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import hostile_files
import hostile_tensors
import numpy as np
import pytest
from hostile_files import MIB, lying_bomb
from npz_files import good

import attngrad_rs as ag
from attngrad_rs._inputs.files import load_arrays

pytestmark = pytest.mark.hostile

# What reading a hostile file may add to the memory of a process.
RSS_LIMIT = 64 * MIB
SUBPROCESS_SECONDS = 120
FLIPS = 300
HOSTILE = hostile_files.HOSTILE | hostile_tensors.HOSTILE
LEAST_FILES = 40

# Runs the command inside a fresh process and reports its peak memory above the imports.
SCRIPT = """
import json, resource, sys
import attngrad_rs.cli.commands, attngrad_rs.cli as cli
def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
results = []
for path, out in json.load(sys.stdin):
    before = peak()
    sys.argv = ["attngrad", "gradient", path, "-o", out]
    try:
        code = cli.main()
    except SystemExit as end:
        code = end.code
    sys.stderr.write("\\0")
    results.append([code, peak() - before])
print(json.dumps(results))
"""


def run_all(jobs: list[tuple[str, str]]) -> tuple[list[list[int]], list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_SECONDS,
        check=True,
    )
    results: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
    return results, done.stderr.split("\0")


def test_the_table_is_whole() -> None:
    assert len(HOSTILE) >= LEAST_FILES


def test_hostile_files_through_the_command(tmp_path: Path) -> None:
    jobs = []
    before: dict[str, set[Path]] = {}
    for title, (make, _) in HOSTILE.items():
        folder_of = tmp_path / title
        folder_of.mkdir()
        path = make(folder_of / "problem.npz")
        before[title] = set(folder_of.iterdir())
        jobs.append((str(path), str(folder_of / "out.npz")))
    results, messages = run_all(jobs)
    for (title, (_, words)), (code, memory), message in zip(
        HOSTILE.items(), results, messages[:-1], strict=True
    ):
        assert code == 2, (title, code, message)
        assert words in message, (title, message)
        # One line, no traceback.
        assert message.startswith("attngrad: "), title
        assert message.count("\n") == 1, title
        assert memory <= RSS_LIMIT, (title, memory)
        # No output, no temporary file, and no mark of code that ran.
        assert set((tmp_path / title).iterdir()) == before[title], title
    assert {path.name for path in tmp_path.iterdir()} == set(HOSTILE)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_truncated_anywhere(tmp_path: Path, ending: str) -> None:
    whole = good(tmp_path / f"good.{ending}").read_bytes()
    for cut in range(0, len(whole) - 1, 37):
        path = tmp_path / f"cut.{ending}"
        path.write_bytes(whole[:cut])
        with pytest.raises(ag.ProblemFileError, match=re.escape(f"cut.{ending}: found")):
            load_arrays(path)


def test_bits_of_tensors_flipped_anywhere(tmp_path: Path) -> None:
    """There is no checksum: a flip gives other numbers, or is found; nothing else happens."""
    whole = good(tmp_path / "good.safetensors").read_bytes()
    wanted = load_arrays(tmp_path / "good.safetensors")
    start = 8 + int.from_bytes(whole[:8], "little")
    path = tmp_path / "flipped.safetensors"
    found = 0
    # One bit in five of the header, so that each bit of a byte has its turn.
    for bit in (*range(0, 8 * start, 5), *range(8 * start, 8 * len(whole), 997)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            read = load_arrays(path)
        except ag.ProblemFileError:
            found += 1
            continue
        off = sum(
            array.tobytes() != wanted[name].tobytes()
            for name, array in read.items()
            if name in wanted and array.shape == wanted[name].shape
        )
        assert off <= 1
        assert sum(array.nbytes for array in read.values()) <= len(whole)
    assert found > start


def test_bits_flipped_anywhere(tmp_path: Path) -> None:
    """Each flip is found or harmless: what is read is what was written."""
    whole = good(tmp_path / "good.npz").read_bytes()
    wanted = load_arrays(tmp_path / "good.npz")
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.npz"
    found = 0
    for _ in range(FLIPS):
        content = bytearray(whole)
        content[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            read = load_arrays(path)
        except ag.ProblemFileError:
            found += 1
            continue
        for name in wanted.keys() & read.keys():
            assert read[name].dtype == wanted[name].dtype, name
            assert np.array_equal(read[name], wanted[name]), name
    assert found > 0


def test_a_bomb_that_claims_to_be_small(tmp_path: Path) -> None:
    """A deflated gigabyte whose directory claims a kilobyte: no more than that is unpacked."""
    path = lying_bomb(tmp_path / "bomb.npz")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ag.ProblemFileError):
        load_arrays(path)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) <= RSS_LIMIT
