"""Sizes, data and the report of the benchmarks.

`pytest benches --benchmark-only` measures at n = 8192; with `-m smoke` it only shows that every
benchmark runs, at a small size whose figures mean nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import attngrad_rs
from attngrad_rs import _core
from attngrad_rs.experiments import machine

THREADS = 2
FULL, SMOKE = 8192, 256
LINES = pytest.StashKey[list[str]]()


def is_smoke(config: pytest.Config) -> bool:
    """Whether this run only shows that the benchmarks run."""
    return "smoke" in (config.getoption("markexpr") or "")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """One at a time: what runs beside a benchmark is in its figures."""
    config.option.numprocesses = 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every benchmark runs in a smoke run, unless it says otherwise."""
    for item in items:
        if item.get_closest_marker("full") is None:
            item.add_marker(pytest.mark.smoke)


@pytest.fixture
def n(request: pytest.FixtureRequest) -> int:
    """Tokens."""
    return SMOKE if is_smoke(request.config) else FULL


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Any:
    """Adds a line to the table at the end of the run."""
    return request.config.stash.setdefault(LINES, []).append


def problem(n: int, d: int, dtype: str) -> dict[str, Any]:
    """Normal inputs, and weights that keep the logits near one at the paper's scale 1/d."""
    rng = np.random.default_rng(n + d)
    draw = {name: rng.standard_normal((n, d)) for name in ("A1", "A2", "A3", "E")}
    draw |= {"X": rng.standard_normal((d, d)), "Y": rng.standard_normal((d, d)) / np.sqrt(d)}
    return {name: np.ascontiguousarray(array, dtype=dtype) for name, array in draw.items()}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table."""
    lines = config.stash.get(LINES, [])
    if lines:
        terminalreporter.section("attngrad against its peers (medians of interleaved pairs)")
        terminalreporter.write_line(
            f"attngrad {attngrad_rs.__version__} · {machine.cpu_name()} · level {_core.level()}"
            f" · {THREADS} threads · NumPy {np.__version__}"
        )
        if is_smoke(config):
            terminalreporter.write_line("a smoke run: these figures mean nothing")
        for line in lines:
            terminalreporter.write_line(line)
