"""Limits of memory: the machine's, the process's and those of control groups."""

from __future__ import annotations

import subprocess
import sys

import pytest

from attngrad_rs import _core
from attngrad_rs._inputs import memory

psutil = pytest.importorskip("psutil")
GiB = 2**30


def test_the_tightest_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = type("Memory", (), {"available": 64 * GiB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    for limited, expected in ((None, 64), (65 * GiB, 64), (3 * GiB, 3), (0, 0)):
        monkeypatch.setattr(_core, "limited_memory", lambda limited=limited: limited)
        assert memory.available_bytes() == expected * GiB


def test_a_machine_that_tells_nothing_limits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    for limited in (None, 3 * GiB):
        monkeypatch.setattr(_core, "limited_memory", lambda limited=limited: limited)
        assert memory.available_bytes() == limited


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is of Linux")
@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process_count(kind: str) -> None:
    code = f"""
import resource
from attngrad_rs import _core
unlimited = _core.limited_memory()
if unlimited is None or unlimited > 2**40:
    resource.setrlimit(resource.{kind}, (2**40, 2**40))
    left = _core.limited_memory()
    # A control group may leave less.
    assert 2**40 - 2**36 < left < 2**40 or left == unlimited, left
resource.setrlimit(resource.{kind}, (2**20, 2**40))
assert _core.limited_memory() == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True)
