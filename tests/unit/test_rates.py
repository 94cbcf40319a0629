"""Rates feed predictions of time: what calls took is remembered, and only that changes with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs import rates

KEY = ("polynomial", 4, 1)


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_known", {})


def problem(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    A1, A2, A3, E = rng.uniform(-1.0, 1.0, (4, n, 8))
    return {"A1": A1, "A2": A2, "A3": A3, "X": np.eye(8), "Y": np.eye(8), "E": E}


def known() -> float:
    return rates.factor(*KEY, measure=False)


def test_a_rate_is_one_until_it_is_known() -> None:
    assert known() == 1.0


def test_a_rate_is_a_mean_of_what_calls_took() -> None:
    for ratio in (2.0, 8.0):
        rates.observe(*KEY, ratio, 1.0)
    assert math.isclose(known(), 4.0)
    assert rates.factor("exact", 4, 1, measure=False) == 1.0


def test_the_latest_calls_count_most() -> None:
    for _ in range(10 * rates.MEMORY):
        rates.observe(*KEY, 1.0, 1.0)
    rates.observe(*KEY, 100.0, 1.0)
    assert known() < 1.06
    for _ in range(4 * rates.MEMORY):
        rates.observe(*KEY, 3.0, 1.0)
    assert 2.8 < known() <= 3.0


def test_calls_of_no_time_tell_nothing() -> None:
    rates.observe(*KEY, 0.5 * rates.LEAST_SECONDS, 1.0)
    rates.observe(*KEY, 1.0, 0.5 * rates.LEAST_SECONDS)
    assert known() == 1.0


def test_the_machine_is_looked_at_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([2.0] * rates.LOOKS)
    monkeypatch.setattr(rates, "_measured", lambda *_: next(looks))
    for _ in range(2 * rates.LOOKS):
        assert rates.factor(*KEY, measure=True) == pytest.approx(2.0)
    assert next(looks, None) is None


def test_calls_are_remembered_and_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = problem(4096)
    plan = ag.plan_loss_gradient(**given, rtol=1e-2)
    first = ag.loss_gradient(**given, rtol=1e-2)
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(rates, "observe", lambda *call: seen.append(call))
    second = ag.loss_gradient(**given, rtol=1e-2)
    ((method, itemsize, threads, seconds, predicted),) = seen
    assert (method, itemsize, threads) == (first.plan.method, 8, None)
    assert seconds == second.seconds
    assert predicted > 0.0
    assert np.array_equal(first.gradient, second.gradient)
    assert (plan.method, plan.degree) == (second.plan.method, second.plan.degree)
    assert first.plan.samples == second.plan.samples
    # What was prepared before says nothing of a call that prepares.
    plan.execute()
    assert len(seen) == 1
