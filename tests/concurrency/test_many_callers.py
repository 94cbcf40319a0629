"""Eight threads that call at once get the bits that one gets, from one pool."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs import _core
from determinism.workload import (
    ALL,
    QUERIES,
    child,
    digest,
    heads,
    os_threads,
    pool_threads,
    problem,
    public_calls,
    public_functions,
    together,
)

CALLERS = 8
CALLS = 1000
# The interpreter then changes threads at nearly every chance it gets.
SWITCH_SECONDS = 1e-6
# One call in this many is of a size that splits; the others fit one task.
LARGE_EVERY = 50


@pytest.fixture
def _busy_interpreter() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    yield
    sys.setswitchinterval(before)


def small_and_large_calls() -> list[Callable[[], str]]:
    """Different work in different precisions, so that a mixed-up buffer would show."""
    calls: list[Callable[[], str]] = []
    for seed, dtype in enumerate(("float32", "float64")):
        args, given = problem(40, 30, 4, dtype, seed), heads(20, 25, 3, dtype, seed)
        calls += [
            lambda args=args: digest(ag.loss_gradient(*args)),
            lambda args=args: digest(ag.loss_gradient(*args, wrt=ALL, is_causal=True)),
            lambda args=args: digest(ag.loss(*args)),
            lambda given=given: digest(ag.attention(*given[:3])),
            lambda given=given: digest(ag.attention_vjp(*given)),
        ]
    large = problem(QUERIES, 200, 4, "float32", 2)
    return [*calls, lambda: digest(ag.loss_gradient(*large, wrt=ALL))]


@pytest.mark.usefixtures("_busy_interpreter")
def test_bits_are_those_of_one_caller() -> None:
    *small, large = small_and_large_calls()
    want = {call: call() for call in (*small, large)}
    base = len(os_threads()) - pool_threads()
    most: list[int] = []

    def caller(number: int) -> int:
        wrong = 0
        for i in range(CALLS):
            call = large if i % LARGE_EVERY == number else small[(i + number) % len(small)]
            wrong += call() != want[call]
            if i % LARGE_EVERY == 0:
                most.append(len(os_threads()))
        return wrong

    wrong = together([lambda k=k: caller(k) for k in range(CALLERS)])
    assert wrong == [0] * CALLERS
    assert max(most) <= base + CALLERS + _core.default_threads()


def test_one_pool_however_many_callers() -> None:
    """In a fresh process, sixteen callers race for the first call."""
    said = child(Path(__file__).with_name("first_calls.py")).said
    assert len(said["digests"]) == 1
    assert said["pool"] == said["default"]
    assert said["after"] <= said["base"] + said["default"]


@pytest.mark.usefixtures("_busy_interpreter")
def test_public_functions_at_once() -> None:
    calls = public_calls()
    assert calls.keys() == public_functions().keys()
    want = {name: call() for name, call in calls.items()}
    got = together([lambda call=call: [call() for _ in range(5)] for call in calls.values()])
    assert got == [[digest] * 5 for digest in want.values()]


def test_the_interpreter_is_released() -> None:
    """Python code of another thread runs while a call computes."""
    args = problem(12_000, 12_000, 8, "float32")
    turns, stop = 0, threading.Event()

    def spin() -> None:
        nonlocal turns
        while not stop.wait(0.001):
            turns += 1

    spinner = threading.Thread(target=spin, daemon=True)
    spinner.start()
    before = turns
    seconds = ag.loss_gradient(*args).seconds
    during = turns - before
    stop.set()
    spinner.join()
    # Held, the interpreter would give no turn at all; a busy machine gives few.
    assert during >= max(3, seconds * 1000 / 50), (during, seconds)


@pytest.mark.parametrize("deep", [False, pytest.param(True, marks=pytest.mark.deep)])
def test_neighbour_that_writes_the_inputs(deep: bool) -> None:
    """Another thread writes the inputs: no crash, no hang, finite results or a clear error."""
    args = problem(400, 300, 8)
    stop = threading.Event()
    rng = np.random.default_rng(1)

    def scribble() -> None:
        while not stop.is_set():
            for array in args:
                array[:] = rng.choice([0.5, -2.0, np.inf, 1e300])
                array[:] = 1.0

    writer = threading.Thread(target=scribble, daemon=True)
    writer.start()
    outcomes: set[Any] = set()
    try:
        # A call takes about a millisecond.
        for _ in range(10_000 if deep else 300):
            try:
                result = ag.loss_gradient(*args, wrt=ALL)
                outcomes.add(all(np.isfinite(g).all() for g in result.gradients.values()))
            except (ag.NonFiniteError, ag.RangeError) as error:
                outcomes.add(type(error))
    finally:
        stop.set()
        writer.join()
    assert outcomes <= {True, ag.NonFiniteError, ag.RangeError}
