"""A process that has computed may fork: the child computes too, same bits, and nobody hangs.

A pool of threads does not survive a fork, and a call that waits for it would wait for ever.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from forking import SECONDS, fork_allowed, in_child

import attngrad_rs as ag
from attngrad_rs import _core
from determinism.workload import (
    digest,
    pool_threads,
    problem,
    public_calls,
    public_functions,
    settled_pool_threads,
)

REPEATS = [pytest.param(3, id="gate"), pytest.param(50, id="deep", marks=pytest.mark.deep)]
NAMES = sorted(public_functions())
CALLS = public_calls()
WORKERS = 2
DELAYS = (0.0, 0.003, 0.01)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def want() -> dict[str, str]:
    """The parent's own digests; making them warms the pool up."""
    return {name: call() for name, call in CALLS.items()}


def called(name: str) -> str:
    return CALLS[name]()


def test_every_public_function_is_here() -> None:
    assert sorted(CALLS) == NAMES


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize("name", NAMES)
def test_fork_after_a_call(name: str, repeats: int, want: dict[str, str]) -> None:
    for _ in range(repeats):
        assert in_child(CALLS[name]) == want[name]
        # The parent's pool is as it was.
        assert CALLS[name]() == want[name]


@pytest.mark.parametrize("repeats", REPEATS)
def test_every_function_in_one_child(repeats: int, want: dict[str, str]) -> None:
    for _ in range(repeats):
        digests = in_child(lambda: " ".join(CALLS[name]() for name in NAMES))
        assert digests.split() == [want[name] for name in NAMES]


@pytest.mark.parametrize("repeats", REPEATS)
def test_process_pool(repeats: int, want: dict[str, str]) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(repeats):
        with fork_allowed(), ProcessPoolExecutor(WORKERS, mp_context=context) as executor:
            jobs = {name: executor.submit(called, name) for name in NAMES * 2}
            got = {name: job.result(timeout=SECONDS) for name, job in jobs.items()}
        assert got == want


@pytest.fixture
def wait_until_busy() -> Iterator[Callable[[], bool]]:
    """Another thread that computes all the time; the function returns in the middle of a call."""
    args, stop, inside = problem(8000, 8000, 16, "float32"), threading.Event(), threading.Event()

    def report(done: float) -> None:
        if 0.0 < done < 1.0:
            inside.set()

    def work() -> None:
        while not stop.is_set():
            ag.loss_gradient(
                *args, progress=lambda done: inside.set() if 0.0 < done < 1.0 else None
            )

    def wait() -> bool:
        inside.clear()
        return inside.wait(SECONDS)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield wait
    stop.set()
    thread.join(SECONDS)
    assert not thread.is_alive(), "the parent's own call hangs after the forks"


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize("name", NAMES)
def test_fork_during_a_call(
    name: str, repeats: int, want: dict[str, str], wait_until_busy: Callable[[], bool]
) -> None:
    for repeat in range(repeats):
        assert wait_until_busy()
        # At different moments of the other thread's call.
        time.sleep(DELAYS[repeat % len(DELAYS)])
        assert in_child(CALLS[name]) == want[name]


@pytest.mark.parametrize("repeats", REPEATS)
def test_fork_of_a_fork(repeats: int, want: dict[str, str]) -> None:
    """The child has computed too when it forks."""

    def child() -> str:
        first = CALLS["loss_gradient"]()
        return f"{first} {in_child(CALLS['attention_vjp'])}"

    for _ in range(repeats):
        assert in_child(child).split() == [want["loss_gradient"], want["attention_vjp"]]


def test_child_that_does_not_compute(want: dict[str, str]) -> None:
    """It leaves the parent's pool alone, and ends."""
    assert in_child(lambda: "") == ""
    assert CALLS["loss_gradient"]() == want["loss_gradient"]


@pytest.mark.usefixtures("want")
def test_child_has_its_own_pool() -> None:
    def child() -> str:
        inherited = pool_threads()
        digest(ag.loss_gradient(*problem(600, 300, 4)))
        return f"{inherited} {settled_pool_threads()}"

    assert in_child(child).split() == ["0", str(_core.default_threads())]


def test_errors_in_a_child() -> None:
    """An error from within a computation crosses the boundary in a child as well."""
    args = problem(6000, 6000, 8, "float32")

    def child() -> str:
        try:
            ag.loss_gradient(*args, timeout=0.02)
        except ag.DeadlineError:
            return "stopped"
        return "not stopped"

    assert in_child(child) == "stopped"
