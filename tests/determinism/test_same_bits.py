"""One result, bit for bit, whatever the threads, the other callers and the cores."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import attngrad_rs as ag
from determinism.workload import ALL, KEYS, QUERIES, WIDTH, child, digest, heads, problem, together

THREADS = (1, 2, 3, 4, 7, 16)
RUNS = 100
# At the deep number the sizes are such that every phase has more tasks than a machine has cores.
DEEP_QUERIES, DEEP_KEYS, DEEP_WIDTH = 5000, 4500, 17
DTYPES = ("float32", "float64")

Call = Callable[[int], str]


def make(dtype: str, is_causal: bool, wrt: Any, sizes: tuple[int, int, int]) -> Call:
    args = problem(*sizes, dtype)
    # Large enough that the running shift moves, so that the order of the keys would show.
    scale = 4.0
    return lambda threads: digest(
        ag.loss_gradient(*args, wrt=wrt, scale=scale, is_causal=is_causal, threads=threads)
    )


def alone(call: Call, runs: int) -> set[str]:
    return {call(threads) for threads in THREADS for _ in range(runs)}


def two_callers(call: Call, runs: int) -> set[str]:
    """The second caller goes through the thread counts backwards, so that the pairs differ."""
    orders = (THREADS, THREADS[::-1])
    works = [lambda order=order: {call(t) for t in order for _ in range(runs)} for order in orders]
    return set(itertools.chain(*together(works)))


def pinned(call: Call, runs: int) -> set[str]:
    with one_core():
        return alone(call, runs)


@contextmanager
def one_core() -> Iterator[None]:
    """Every thread of this process, those of the pool included, on one core."""
    before = os.sched_getaffinity(0)
    pin({min(before)})
    try:
        yield
    finally:
        pin(before)


def pin(cores: set[int]) -> None:
    for task in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(task.name), cores)
        except ProcessLookupError:
            continue  # the thread ended meanwhile


@pytest.mark.parametrize("manner", [alone, two_callers, pinned])
@pytest.mark.parametrize("wrt", ["X", ALL], ids=["X", "all"])
@pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_digest(
    dtype: str, is_causal: bool, wrt: Any, manner: Callable[[Call, int], set[str]]
) -> None:
    call = make(dtype, is_causal, wrt, (QUERIES, KEYS, WIDTH))
    want = call(1)
    assert manner(call, RUNS) == {want}


@pytest.mark.deep
@pytest.mark.parametrize("manner", [alone, two_callers, pinned])
@pytest.mark.parametrize("wrt", ["X", ALL], ids=["X", "all"])
@pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_digest_of_many_tasks(
    dtype: str, is_causal: bool, wrt: Any, manner: Callable[[Call, int], set[str]]
) -> None:
    call = make(dtype, is_causal, wrt, (DEEP_QUERIES, DEEP_KEYS, DEEP_WIDTH))
    runs = 5  # 30 calls each; a few hundred milliseconds a call
    want = call(1)
    assert manner(call, runs) == {want}


@pytest.mark.parametrize("wrt", ["W_Q", "W_K", "Y", ("A2", "W_Q", "Y")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_given_as_a_pair(dtype: str, wrt: Any) -> None:
    A1, A2, A3, X, Y, E = problem(QUERIES, KEYS, WIDTH, dtype)
    args = (A1, A2, A3, (X, Y), Y, E)
    digests = {digest(ag.loss_gradient(*args, wrt=wrt, threads=t)) for t in THREADS * 5}
    assert len(digests) == 1


@pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_and_its_vjp(dtype: str, is_causal: bool) -> None:
    given = heads(QUERIES, KEYS, WIDTH, dtype)
    options = {"is_causal": is_causal}
    outputs = {digest(ag.attention(*given[:3], threads=t, **options)) for t in THREADS * 5}
    gradients = {digest(ag.attention_vjp(*given, threads=t, **options)) for t in THREADS * 5}
    assert (len(outputs), len(gradients)) == (1, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_level_and_block_of_keys(dtype: str, tune: Callable[..., None]) -> None:
    """Bits may differ between levels and block sizes, never between thread counts."""
    call = make(dtype, True, ALL, (QUERIES, KEYS, WIDTH))
    for level in ag._core.levels():
        for key_block in (1, 20, None):
            tune(level=level, key_block=key_block)
            digests = {call(threads) for threads in (1, 2, 16)}
            assert len(digests) == 1, (level, key_block)


def test_a_pool_of_one_thread() -> None:
    """A process that may use one core only has a pool of one, and the bits of this process."""
    said = child(Path(__file__).with_name("one_core.py")).said
    assert said["pool"] == 1
    for dtype in DTYPES:
        assert said[dtype] == make(dtype, True, ALL, (QUERIES, KEYS, WIDTH))(16)


def test_digests_can_differ() -> None:
    """The digest sees a change of one bit."""
    args = problem(40, 30, 4)
    result = ag.loss_gradient(*args)
    before = digest(result)
    result.gradient.view("uint64")[0, 0] ^= 1
    assert digest(result) != before
