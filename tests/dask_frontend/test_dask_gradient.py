"""Gradients of Dask arrays: the numbers of the definition, the bits of the shards, clear errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

from attngrad_rs import errors, reference  # noqa: E402
from dask_frontend.problems import SYNCHRONOUS, THREADED, chunked, computed, lazily  # noqa: E402
from helpers import assert_close, assert_same_bits  # noqa: E402
from resume.test_out_of_core import DEGREE, ROUNDING, ROWS, SMALL, WRT, D, M, N, call, same  # noqa: E402

pytestmark = pytest.mark.peers

# Whole, small, of many sizes, of columns apart, and those that must be aligned.
CHUNKS: dict[str, Any] = {
    "one": -1,
    "small": 7,
    "irregular": {
        "A1": ((100, 1, 129), -1), "E": ((5, 225), -1),
        "A2": ((90, 80), -1), "A3": ((1, 100, 69), -1),
    },
    "columns": dict.fromkeys(("A1", "A2", "A3", "E"), (50, 2)),
    "empty": {
        "A1": ((0, 30, 0, 200), -1), "E": ((230, 0), -1),
        "A2": ((170, 0), -1), "A3": ((0, 100, 70), -1),
    },
}  # fmt: skip


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_any_chunks_give_the_numbers_of_the_definition(chunks: Any) -> None:
    got = computed(chunked(chunks), degree=DEGREE)
    assert_close(got.loss, reference.loss(*SMALL), ROUNDING, "the loss")
    for name in WRT:
        want = reference.loss_gradient(*SMALL, wrt=name)
        assert_close(got.gradients[name], want, ROUNDING, f"dL/d{name}")
    assert got.certificate.kind == "rigorous"
    assert (got.plan.method, got.plan.degree) == ("polynomial", DEGREE)


def test_a_pair_of_weights_is_served() -> None:
    pair = SMALL._replace(X=(SMALL.X, SMALL.Y))
    got = computed(chunked(given=pair), degree=DEGREE, wrt=("W_Q", "W_K"))
    for name in ("W_Q", "W_K"):
        want = reference.loss_gradient(*pair, wrt=name)
        assert_close(got.gradients[name], want, ROUNDING, f"dL/d{name}")


@pytest.mark.parametrize("split_every", [2, 4, 16])
@pytest.mark.parametrize("scheduler", [SYNCHRONOUS, THREADED], ids=["synchronous", "threads"])
def test_the_bits_are_those_of_the_shards(split_every: int, scheduler: dict[str, Any]) -> None:
    rows = 7
    lazy = lazily(chunked(rows), split_every=split_every)
    same(lazy.compute(**scheduler), call(rows=rows))


def test_values_are_lazy_and_those_of_dask() -> None:
    lazy = lazily()
    assert tuple(lazy.gradients) == WRT
    assert lazy.gradients["A1"].chunks == ((40, 40, 40, 40, 40, 30), (D,))
    want = call()
    # Arrays first: Dask returns values of both kinds in the wrong places where these alternate.
    rows, made, loss, kind = dask.compute(
        lazy.gradients["A2"][50:60], lazy, lazy.result.loss, lazy.result.certificates["X"].kind,
        **SYNCHRONOUS,
    )  # fmt: skip
    assert (loss, kind) == (want.loss, "rigorous")
    assert_same_bits(rows, np.asarray(want.gradients["A2"])[50:60], "rows of dL/dA2")
    assert set(made.result.gradients) == {"X", "Y"}
    for name in WRT:
        assert_same_bits(made.gradients[name], np.asarray(want.gradients[name]), name)


def test_gradients_go_to_a_store(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    lazy = lazily(wrt=("A1",))
    target = zarr.create_array(tmp_path / "dA1", shape=(N, D), chunks=(ROWS, D), dtype="f8")
    stored = lazy.gradients["A1"].store(target, compute=False, lock=False)
    result, _ = dask.compute(lazy.result, stored, **THREADED)
    assert_same_bits(target[:], np.asarray(call().gradients["A1"]), "dL/dA1")
    assert result.loss == call().loss


def test_what_is_persisted_is_not_read_again() -> None:
    read: list[int] = []

    def counted(block: Any) -> Any:
        read.append(len(block))
        return block

    def problem(persist: bool) -> Any:
        given = chunked()
        made = {name: getattr(given, name).map_blocks(counted, dtype="f8") for name in ("A2", "A3")}
        if persist:
            made = dict(zip(made, dask.persist(*made.values(), **SYNCHRONOUS), strict=True))
        read.clear()
        return given._replace(**made)

    same(computed(problem(persist=True)), call())
    assert read == []
    same(computed(problem(persist=False)), call())
    # For the sample, and in both passes over the keys: nothing is kept between.
    assert sum(read) == 3 * 2 * M


def test_no_chunk_is_kept_from_pass_to_pass() -> None:
    lazy = lazily()
    graph = dict(dask.optimize(lazy.result)[0].__dask_graph__())
    of_shards = {key: task for key, task in graph.items() if str(key).startswith("shard_state-")}
    readers: dict[Any, int] = {}
    for task in of_shards.values():
        for key in task.dependencies:
            readers[key] = readers.get(key, 0) + 1
    chunks = {key for key in readers if isinstance(key, tuple)}
    assert len(chunks) == 2 * 6 + 2 * 2 * 5
    assert {readers[key] for key in chunks} == {1}


def nan_sizes(array: Any) -> Any:
    return array[array[:, 0] > -1]


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], type, str]] = {
    "unknown sizes": (
        lambda: chunked()._replace(A2=nan_sizes(chunked().A2)), {},
        errors.ShapeError, r"^A2: found an unknown number of rows; .*sizes of its chunks",
    ),
    "keys without values": (
        lambda: chunked()._replace(A3=chunked().A3[:-1]), {}, errors.ShapeError, "A3: .*169",
    ),
    "another dtype": (
        lambda: chunked()._replace(E=chunked().E.astype("f4")), {}, errors.DTypeError,
        "^E: found float32",
    ),
    "another width": (
        lambda: chunked()._replace(A1=chunked().A1[:, 1:]), {}, errors.ShapeError, "A1",
    ),
    "no rows": (
        lambda: chunked()._replace(A1=chunked().A1[:0], E=chunked().E[:0]), {},
        errors.ShapeError, r"^A1: found shape \(0, 3\)",
    ),
    "in memory": (lambda: SMALL, {}, errors.OptionTypeError, "^A1: .*Dask array"),
    "weights of Dask": (
        lambda: chunked()._replace(Y=da.from_array(SMALL.Y)), {}, errors.OptionTypeError,
        "^Y: .*in memory",
    ),
    "split_every": (chunked, {"split_every": 10}, errors.OptionError, "^split_every: found 10"),
    "degree": (chunked, {"degree": -1}, errors.OptionError, "^degree"),
    "wrt": (chunked, {"wrt": "W_Q"}, errors.OptionError, "^wrt"),
    "the common input": (chunked, {"wrt": "A"}, errors.OptionError, "^wrt"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "options", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_calls_are_refused_before_any_work(
    given: Callable[[], Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        lazily(given(), **options)


def test_nan_is_named_by_its_row_in_the_whole() -> None:
    broken = SMALL._replace(A2=SMALL.A2.copy())
    broken.A2[123, 1] = np.nan
    with pytest.raises(errors.NonFiniteError, match=r"^A2: found nan at index \(123, 1\)"):
        computed(chunked(given=broken))


def test_nan_beside_the_sample_is_named_with_its_shard() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(-0.3, 0.3, (6000, D))
    broken = values.copy()
    broken[150, 2] = np.inf
    given = chunked(1000, SMALL._replace(A1=values, A2=values, A3=broken, E=values))
    with pytest.raises(errors.NonFiniteError, match=r"^A3: found inf at index \(150, 2\).*shard 0"):
        computed(given)


def test_chunks_that_are_not_what_they_say_are_refused() -> None:
    given = chunked()
    wrong = given.A1.map_blocks(lambda block: block[:-1], dtype="f8", chunks=given.A1.chunks)
    with pytest.raises(errors.ShapeError, match=r"^A1: found shape \(224, 3\).*as the array says"):
        computed(given._replace(A1=wrong))


def test_nothing_else_imports_dask() -> None:
    code = "import sys, attngrad_rs, attngrad_rs.out_of_core; sys.exit('dask' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
