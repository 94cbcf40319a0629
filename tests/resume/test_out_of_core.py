"""Inputs in blocks: the numbers of the shards, whatever the blocks, and errors before any work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import out_of_core, reference
from attngrad_rs.out_of_core._sources import OnDisk, source_of
from helpers import Array, assert_close, assert_same_bits

N, M, D = 230, 170, 3
ROWS = 40
WRT: tuple[Any, ...] = ("X", "Y", "A1", "A2", "A3")
# As in tests/spec/test_partial_states.py: P misses exp by less than rounding.
DEGREE, ROUNDING = 9, 1e-11


class Data(NamedTuple):
    """A problem with small logits."""

    A1: Array
    A2: Array
    A3: Array
    X: Array
    Y: Array
    E: Array


def data(dtype: Any = np.float64) -> Data:
    rng = np.random.default_rng(5)
    shapes = ((N, D), (M, D), (M, D), (D, D), (D, D), (N, D))
    A1, A2, A3, X, Y, E = (rng.uniform(-0.3, 0.3, shape).astype(dtype) for shape in shapes)
    return Data(A1, A2, A3, X, Y, E)


SMALL = data()


def places(given: Data = SMALL) -> dict[str, Array]:
    return {name: np.zeros_like(getattr(given, name)) for name in ("A1", "A2", "A3")}


def call(given: Any = SMALL, **options: Any) -> ag.GradientResult[Any]:
    options = {"degree": 2, "wrt": WRT, "rows": ROWS, "out": places(), **options}
    return out_of_core.loss_gradient(*given, **options)


def same(one: ag.GradientResult[Any], other: ag.GradientResult[Any]) -> None:
    assert one.loss == other.loss
    for name in WRT:
        assert_same_bits(np.asarray(one.gradients[name]), np.asarray(other.gradients[name]), name)
        assert one.certificates[name].absolute == other.certificates[name].absolute


def test_the_numbers_are_those_of_the_definition() -> None:
    got = call(degree=DEGREE)
    assert_close(got.loss, reference.loss(*SMALL), ROUNDING, "the loss")
    for name in WRT:
        want = reference.loss_gradient(*SMALL, wrt=name)
        assert_close(got.gradients[name], want, ROUNDING, f"dL/d{name}")
    assert got.certificate.kind == "rigorous"
    assert (got.plan.method, got.plan.degree) == ("polynomial", DEGREE)


def mapped(folder: Path, given: Data = SMALL) -> list[Any]:
    """The same from files: A1 as rows in the middle of a larger file, the others as they are."""
    padded = np.concatenate([np.full((3, D), np.nan), given.A1, np.full((2, D), np.nan)])
    np.save(folder / "A1.npy", padded)
    found: list[Any] = [np.load(folder / "A1.npy", mmap_mode="r")[3:-2]]
    for name in ("A2", "A3", "E"):
        np.save(folder / f"{name}.npy", getattr(given, name))
    files = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("A2", "A3", "E")}
    return [*found, files["A2"], files["A3"], given.X, given.Y, files["E"]]


def test_a_memmap_gives_the_same_bits(tmp_path: Path) -> None:
    out = {name: tmp_path / f"d{name}.npy" for name in ("A1", "A2", "A3")}
    got = call(mapped(tmp_path), out=out)
    same(got, call())
    for name, path in out.items():
        assert_same_bits(np.load(path), np.asarray(got.gradients[name]), name)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        *(f"{name}.npy" for name in ("A1", "A2", "A3", "E")),
        "dA1.npy",
        "dA2.npy",
        "dA3.npy",
    }


class Anew:
    """Blocks that begin anew at every pass, and count the passes."""

    def __init__(self, blocks: list[Array]) -> None:
        self.blocks = blocks
        self.passes = 0

    def __iter__(self) -> Iterator[Array]:
        self.passes += 1
        return iter(self.blocks)


@cache
def whole() -> ag.GradientResult[Any]:
    """The result of arrays that are in one piece."""
    return call(degree=3)


@given(cuts=st.lists(st.integers(0, M), max_size=4).map(sorted))
def test_blocks_of_any_sizes_give_the_same_bits(cuts: list[int]) -> None:
    ends = list(zip([0, *cuts], [*cuts, M], strict=True))
    A2, A3 = (Anew([array[a:b] for a, b in ends]) for array in (SMALL.A2, SMALL.A3))
    blocks = SMALL._replace(A2=A2, A3=[SMALL.A3[a:b] for a, b in ends])
    want = whole()
    same(call(blocks, degree=3), want)
    # Once for its size, once for the sample, and once in each of the two passes over the keys.
    assert A2.passes == 4
    same(call(SMALL._replace(A2=A2, A3=A3), degree=3), want)


def executors() -> dict[str, Callable[[], Executor]]:
    return {
        "threads": lambda: ThreadPoolExecutor(2),
        "processes": lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
    }


@pytest.mark.parametrize("kind", sorted(executors()))
def test_an_executor_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    want = call()
    with executors()[kind]() as executor:
        same(call(executor=executor), want)
        same(call(mapped(tmp_path), executor=executor), want)
        broken = SMALL.A2.copy()
        broken[2 * ROWS + 7, 1] = np.inf
        sampled = Anew([broken])
        with pytest.raises(ag.NonFiniteError, match="A2: found inf"):
            call(SMALL._replace(A2=sampled), executor=executor)


def test_an_array_of_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    for value in (mapped(tmp_path)[0], mapped(tmp_path)[0][10:20]):
        source = source_of("A1", value).portable()
        assert isinstance(source, OnDisk)
        assert_same_bits(source.read(2, 7), np.array(value[2:7]), "rows")
    # Not whole rows of it one after the other.
    assert source_of("A1", mapped(tmp_path)[0][:, 1:]).portable() is None
    assert source_of("A1", SMALL.A1).portable() is None


def test_a_number_that_is_none_is_named_with_its_shard(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    A1, A2, A3, E = (rng.uniform(-1, 1, (10_000, D)) for _ in range(4))
    # The first is not among the rows that are sampled for the plan, the last one is.
    for row, where in ((200, r", in shard 5;"), (9999, ";")):
        A2[row, 1] = np.nan
        words = rf"A2: found nan at index \({row}, 1\){where}"
        with pytest.raises(ag.NonFiniteError, match=words):
            out_of_core.loss_gradient(A1, A2, A3, SMALL.X, SMALL.Y, E, degree=1, rows=ROWS)


class NeverRead:
    """An array that may not be read."""

    dtype = np.dtype(np.float64)

    def __init__(self, *shape: float) -> None:
        self.shape = shape

    def __getitem__(self, key: object) -> Array:
        raise AssertionError("read before the inputs were held against each other")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"A3": NeverRead(M - 1, D)}, ag.ShapeError, "A3: found shape"),
        ({"E": NeverRead(N, D + 1)}, ag.ShapeError, "E: found shape"),
        ({"A2": NeverRead(float("nan"), D)}, ag.ShapeError, "unknown number of rows"),
        ({"A1": NeverRead(N)}, ag.ShapeError, "expected a matrix"),
        ({"A1": SMALL.A1.astype(np.float32)}, ag.DTypeError, "float32"),
        ({"A1": SMALL.A1.astype(int)}, ag.DTypeError, "int64"),
        ({"A1": iter([SMALL.A1])}, ag.OptionTypeError, "read only once"),
        ({"A1": 3}, ag.OptionTypeError, "blocks of rows"),
        ({"A1": []}, ag.ShapeError, "found no block"),
        ({"A1": [SMALL.A1, SMALL.A1[:, :2]]}, ag.ShapeError, "block 1"),
        ({"A2": np.empty((0, D)), "A3": np.empty((0, D))}, ag.OptionError, "no rows on one side"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_before_any_work(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    others = {name: NeverRead(*getattr(SMALL, name).shape) for name in ("A1", "A2", "A3", "E")}
    if error is not ag.OptionError:
        change = others | change
    with pytest.raises(error, match=words):
        call(SMALL._replace(**change))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"out": None}, ag.OptionError, "no place for 'A1'"),
        ({"out": {"X": np.zeros((D, D))}}, ag.OptionError, "names by token"),
        ({"out": 3}, ag.OptionTypeError, "expected a dict"),
        ({"out": {**places(), "A1": np.zeros((N, D + 1))}}, ag.ShapeError, r"out\['A1'\]"),
        ({"rows": 0}, ag.OptionError, "rows: found 0"),
        ({"executor": 3}, ag.OptionTypeError, "executor"),
        ({"in_flight": 0}, ag.OptionError, "in_flight: found 0"),
        ({"degree": None}, ag.OptionTypeError, "degree"),
        ({"wrt": "A"}, ag.OptionError, "shards of queries"),
        ({"checkpoint_seconds": -1}, ag.OptionError, "checkpoint_seconds"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call(**options)


def test_an_output_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "dA1.npy").write_bytes(b"mine")
    with pytest.raises(ag.OutputError, match="existing file"):
        call(wrt="A1", out={"A1": tmp_path / "dA1.npy"})
    assert (tmp_path / "dA1.npy").read_bytes() == b"mine"


def test_what_ends_early_leaves_nothing_half_written(tmp_path: Path) -> None:
    class StopError(Exception):
        """Ours."""

    def stop(_: float) -> None:
        raise StopError

    with pytest.raises(StopError):
        call(wrt="A1", out={"A1": tmp_path / "dA1.npy"}, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_rises_to_one_and_a_timeout_ends_the_call() -> None:
    seen: list[float] = []
    call(progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    with pytest.raises(ag.DeadlineError, match="timeout"):
        call(timeout=1e-6)


def test_no_thread_is_left() -> None:
    call()
    assert not [one for one in threading.enumerate() if one.name.startswith("attngrad-read")]
