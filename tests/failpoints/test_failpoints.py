"""Panics in tasks and failing reservations: one clear exception, and the library works on.

Needs a build with the feature `failpoints`; elsewhere there is nothing to arm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs import _core

if not hasattr(_core, "arm"):
    pytest.skip("not a build with fail points", allow_module_level=True)

arm = _core.arm
QUERIES, KEYS, WIDTH = 300, 500, 5
PANICS = 12
RESERVATIONS = 200
WRT = ["X", ("X", "Y", "A1", "A2", "A3"), "Y"]


@pytest.fixture
def problem() -> dict[str, Any]:
    rng = np.random.default_rng(7)
    shapes = {
        "A1": (QUERIES, WIDTH),
        "A2": (KEYS, WIDTH),
        "A3": (KEYS, WIDTH),
        "X": (WIDTH, WIDTH),
        "Y": (WIDTH, WIDTH),
        "E": (QUERIES, WIDTH),
    }
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("task", 0)
    arm("reservation", 0)


def bits(result: ag.GradientResult) -> list[bytes]:
    return [gradient.tobytes() for _, gradient in sorted(result.gradients.items())]


@pytest.mark.parametrize("wrt", WRT, ids=str)
def test_a_panic_is_an_internal_error(problem: dict[str, Any], wrt: Any) -> None:
    want = bits(ag.loss_gradient(**problem, wrt=wrt))
    seen = 0
    for k in range(1, PANICS + 1):
        arm("task", k)
        try:
            result = ag.loss_gradient(**problem, wrt=wrt)
        except ag.InternalError:
            seen += 1
            arm("task", 0)
            result = ag.loss_gradient(**problem, wrt=wrt)
        arm("task", 0)
        assert bits(result) == want
    assert seen > 0


@pytest.mark.parametrize("wrt", WRT, ids=str)
def test_a_failed_reservation_is_a_memory_error(problem: dict[str, Any], wrt: Any) -> None:
    want = bits(ag.loss_gradient(**problem, wrt=wrt))
    failed = 0
    for k in range(1, RESERVATIONS + 1):
        arm("reservation", k)
        try:
            assert bits(ag.loss_gradient(**problem, wrt=wrt)) == want
        except ag.OutOfMemoryError:
            failed += 1
    assert failed > 0
