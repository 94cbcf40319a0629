"""Limits of memory: the machine's, the process's and those of control groups."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attngrad_rs._inputs import memory

GiB = 2**30


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up place of control groups, and nothing else that limits."""
    monkeypatch.setattr(memory, "CGROUP", str(tmp_path / "cgroup"))
    for name, kind in (("UNIFIED", memory.UNIFIED), ("LEGACY", memory.LEGACY)):
        monkeypatch.setattr(memory, name, kind._replace(roots=(str(tmp_path / name),)))
    monkeypatch.setattr(memory, "_machine_bytes", lambda: 64 * GiB)
    monkeypatch.setattr(memory, "_limit_bytes", lambda: None)
    return tmp_path


def group(folder: Path, kind: memory.Files, limit: object, used: int, spare: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / kind.limit).write_text(f"{limit}\n")
    (folder / kind.usage).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{kind.spare} {spare}\nfile 7\n")


@pytest.mark.parametrize(
    ("name", "line", "kind"),
    [
        ("UNIFIED", "0::/a/b\n", memory.UNIFIED),
        ("LEGACY", "4:cpu,memory:/a/b\n2:cpu:/x\n0::/\n", memory.LEGACY),
    ],
)
def test_the_tightest_group_on_the_way_up_counts(
    tree: Path, name: str, line: str, kind: memory.Files
) -> None:
    (tree / "cgroup").write_text(line)
    assert memory.available_bytes() == 64 * GiB
    group(tree / name / "a/b", kind, "max", GiB)
    assert memory.available_bytes() == 64 * GiB
    group(tree / name / "a/b", kind, 8 * GiB, 3 * GiB)
    assert memory.available_bytes() == 5 * GiB
    # What is spare of the usage may be had back.
    group(tree / name / "a", kind, 4 * GiB, 3 * GiB, GiB // 2)
    assert memory.available_bytes() == 3 * GiB // 2
    # A container sees its own group as the root.
    group(tree / name, kind, GiB, 2 * GiB)
    assert memory.available_bytes() == 0


@pytest.mark.parametrize("text", ["", "nonsense", "0:::\n1\n", "0::/../..\n"])
def test_what_cannot_be_read_limits_nothing(tree: Path, text: str) -> None:
    (tree / "cgroup").write_text(text)
    assert memory.available_bytes() == 64 * GiB
    (tree / "UNIFIED").mkdir()
    (tree / "UNIFIED" / memory.UNIFIED.limit).write_text("none")
    assert memory.available_bytes() == 64 * GiB


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is of Linux")
@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process_count(kind: str) -> None:
    code = f"""
import resource
from attngrad_rs._inputs import memory
memory._machine_bytes, memory._group_bytes = (lambda: 2**60), (lambda: ())
assert memory.available_bytes() == 2**60
resource.setrlimit(resource.{kind}, (2**40, 2**40))
left = memory.available_bytes()
assert 2**40 - 2**36 < left < 2**40, left
resource.setrlimit(resource.{kind}, (2**20, 2**40))
assert memory.available_bytes() == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)
