"""The small experiment in the place of all others."""

from __future__ import annotations

import pytest
import small

from attngrad_rs.experiments.registry import EXPERIMENTS


@pytest.fixture
def only_small(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns the list of points that were measured."""
    # They come back in the opposite order, which then is the order that they had.
    for name in reversed(list(EXPERIMENTS)):
        monkeypatch.delitem(EXPERIMENTS, name)
    monkeypatch.setitem(EXPERIMENTS, "small", small.SMALL)
    small.CALLS.clear()
    return small.CALLS
