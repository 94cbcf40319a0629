"""The exact gradients of one head from blocks: the numbers of the call, and the same bits again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs import out_of_core
from helpers import Array, assert_close, assert_same_bits

N, M, D, DV = 130, 170, 4, 3
ROWS = 40
# Relative error of sums of a hundred terms in another order, beside the largest of them.
ROUNDING = {np.float32: 1e-5, np.float64: 1e-12}
NAMES = ("query", "key", "value")


class Data(NamedTuple):
    """One head with the gradient of its output."""

    query: Array
    key: Array
    value: Array
    dout: Array


def data(dtype: Any = np.float64) -> Data:
    rng = np.random.default_rng(3)
    shapes = ((N, D), (M, D), (M, DV), (N, DV))
    return Data(*(rng.standard_normal(shape).astype(dtype) for shape in shapes))


def places(given: Data) -> dict[str, Array]:
    return {name: np.zeros_like(getattr(given, name)) for name in NAMES}


def call(given: Any, **options: Any) -> ag.AttentionGradients[Any]:
    options = {"rows": ROWS, **options}
    options.setdefault("out", places(given))
    return out_of_core.attention_vjp(*given, **options)


def same(one: ag.AttentionGradients[Any], other: ag.AttentionGradients[Any]) -> None:
    for name, a, b in zip(NAMES, one, other, strict=True):
        assert_same_bits(np.asarray(a), np.asarray(b), name)
        assert one.certificates[name].absolute == other.certificates[name].absolute


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [7, 40, 1000])
def test_the_numbers_are_those_of_the_call(dtype: Any, rows: int) -> None:
    given = data(dtype)
    got = call(given, rows=rows)
    want = ag.attention_vjp(*(one.astype(np.float64) for one in given))
    for name, one, other in zip(NAMES, got, want, strict=True):
        assert one.dtype == dtype
        assert_close(one, other, ROUNDING[dtype], name)
        certificate = got.certificates[name]
        assert np.linalg.norm(one - other) <= certificate.absolute
        assert (certificate.kind, certificate.success) == ("exact", True)
        assert certificate.size == pytest.approx(np.linalg.norm(other), rel=1e-4)


def test_files_and_executors_give_the_same_bits(tmp_path: Path) -> None:
    given = data(np.float32)
    want = call(given)
    for name in Data._fields:
        np.save(tmp_path / f"{name}.npy", getattr(given, name))
    mapped = Data(*(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in Data._fields))
    out = {name: tmp_path / f"d{name}.npy" for name in NAMES}
    got = call(mapped, out=out)
    same(got, want)
    assert_same_bits(np.load(out["query"]), want.dq, "dq")
    with ThreadPoolExecutor(2) as executor:
        same(call(given, executor=executor), want)
        same(call(mapped, executor=executor), want)


class StopError(Exception):
    """Ours."""


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
@pytest.mark.parametrize("damage", [False, True])
def test_a_stopped_call_goes_on_to_the_same_bits(shards: int, damage: bool, tmp_path: Path) -> None:
    given = data()
    left = shards

    def stop(_: float) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StopError

    out = {name: tmp_path / f"d{name}.npy" for name in NAMES}
    with pytest.raises(StopError):
        call(given, out=out, checkpoint=tmp_path / "run", progress=stop)
    newest = sorted((tmp_path / "run").glob("generation-*"), key=lambda one: one.stat().st_mtime_ns)
    if damage and len(newest) > 1:
        newest[-1].write_bytes(newest[-1].read_bytes()[:-1])
    seen: list[float] = []
    got = call(given, out=out, checkpoint=tmp_path / "run", progress=seen.append)
    same(got, call(given))
    assert seen[0] > 0.0 or (damage and shards == 1)
    with pytest.raises(ag.CheckpointError, match="another problem"):
        call(given, scale=0.1, checkpoint=tmp_path / "run")


def test_nothing_is_left_behind_by_a_call_that_ends_early(tmp_path: Path) -> None:
    given = data()

    def stop(_: float) -> None:
        raise StopError

    with pytest.raises(StopError):
        call(given, out={name: tmp_path / f"{name}.npy" for name in NAMES}, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"value": np.zeros((M - 1, DV))}, ag.ShapeError, "value: found shape"),
        ({"dout": np.zeros((N, DV + 1))}, ag.ShapeError, "dout: found shape"),
        ({"key": np.zeros((M, D), np.float32)}, ag.DTypeError, "key: found float32"),
        ({"key": [np.zeros((M, D))]}, ag.OptionTypeError, "key: found blocks"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call(data()._replace(**change), out=places(data()))
    with pytest.raises(ag.OptionError, match="no place for 'value'"):
        call(data(), out={name: places(data())[name] for name in NAMES[:2]})


def test_a_number_that_is_none_is_named() -> None:
    for name, row in (("query", 3), ("key", 100), ("value", 169), ("dout", 99)):
        given = data()
        getattr(given, name)[row, 1] = np.nan
        with pytest.raises(ag.NonFiniteError, match=rf"{name}: found nan at index \({row}, 1\)"):
            call(given)
