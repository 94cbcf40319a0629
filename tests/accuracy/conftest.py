"""Keeps the worst ratio of each promise and prints it: a bar never near says too little."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_worst: dict[str, tuple[float, str]] = {}


@pytest.fixture
def record() -> Callable[[str, float, str], None]:
    """Note a ratio under a title, with what it came from; the largest is printed at the end."""

    def note(title: str, value: float, label: str) -> None:
        if value >= _worst.get(title, (0.0, ""))[0]:
            _worst[title] = (value, label)

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _worst:
        return
    terminalreporter.section("worst ratios")
    for title, (value, label) in sorted(_worst.items()):
        terminalreporter.write_line(f"{title}: {value:.3g}  ({label})")
