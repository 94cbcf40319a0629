"""Hypothesis profiles, and what every test may rely on."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from attngrad_rs import _core

# Derandomised, so that a red gate is red for everybody. No deadline: on a busy machine it is luck.
settings.register_profile(
    "gate",
    max_examples=200,
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
settings.register_profile(
    "deep",
    parent=settings.get_profile("gate"),
    max_examples=5000,
    derandomize=False,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


# The instruction set of every test that names none: `ATTNGRAD_LEVEL=baseline pytest`.
LEVEL = os.environ.get("ATTNGRAD_LEVEL")


def pytest_report_header() -> str:
    return f"kernels: {_core.level()} of {', '.join(_core.levels())}"


@pytest.fixture(autouse=True)
def _no_tuning_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of keys are what a test makes them."""
    monkeypatch.delenv("ATTNGRAD_KEY_BLOCK", raising=False)


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Force a dispatch level and the size of a block of keys; None means that of all tests."""

    def set_(level: str | None = None, key_block: int | None = None) -> None:
        values = {"ATTNGRAD_LEVEL": level or LEVEL, "ATTNGRAD_KEY_BLOCK": key_block}
        for name, value in values.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, str(value))

    return set_
