"""The library leaves the process that it lives in as it found it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from determinism.workload import child

HERE = Path(__file__).parent
TIMES = 20
IMPORTERS = 16


@pytest.fixture(scope="module")
def observed() -> Any:
    return child(HERE / "observed.py").said


@pytest.mark.parametrize("when", ["import", "calls"])
def test_state_of_the_process(observed: Any, when: str) -> None:
    assert observed[when] == observed["before"]


def test_subnormals_are_alive(observed: Any) -> None:
    for when in ("before", "import", "calls"):
        assert observed[when]["smallest subnormal"] > 0.0
        assert observed[when]["halves"] == [True, True]


def test_import_starts_no_thread(observed: Any) -> None:
    assert observed["threads"] == 0


def test_import_brings_nothing_but_itself(observed: Any) -> None:
    """No command-line, plotting or tensor library; more of NumPy may come."""
    assert set(observed["modules"]) <= {"attngrad_rs", "numpy"}


def test_sixteen_threads_import() -> None:
    for _ in range(TIMES):
        losses = child(HERE / "import_together.py").said["losses"]
        assert len(losses) == IMPORTERS
        assert set(losses) == {3.0}


@pytest.mark.parametrize("order", ["first", "second"])
def test_sub_interpreter(order: str) -> None:
    """Refused in words, not by a crash, whether or not the main interpreter has the library."""
    outcome = child(HERE / "subinterpreter.py", order).said["outcome"]
    if outcome is None:
        pytest.skip("this Python has no sub-interpreters")
    assert outcome.startswith("ImportError: ")
