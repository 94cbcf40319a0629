"""Exact gradients of one head from Dask arrays: those of a single call, and the bits of shards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

da = pytest.importorskip("dask.array")

import attngrad_rs as ag  # noqa: E402
from attngrad_rs import errors, out_of_core  # noqa: E402
from attngrad_rs.dask import attention_vjp  # noqa: E402
from dask_frontend.problems import SYNCHRONOUS, THREADED  # noqa: E402
from helpers import assert_close, assert_same_bits  # noqa: E402

pytestmark = pytest.mark.peers

L, S, E, EV = 90, 70, 4, 3
NAMES = ("query", "key", "value", "dout")
# As tests/resume/test_attention_blocks.py: rounding of sums in another order.
ROUNDING = 1e-13


def heads(dtype: Any = np.float64) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    shapes = zip(NAMES, ((L, E), (S, E), (S, EV), (L, EV)), strict=True)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes}


def chunked(given: dict[str, Any], **rows: Any) -> list[Any]:
    return [da.from_array(given[name], chunks=(rows.get(name, 20), 2)) for name in NAMES]


@pytest.mark.parametrize("rows", [{}, {"query": 7, "value": 33}, {"key": -1, "dout": (1, 0, 89)}])
def test_any_chunks_give_the_gradients_of_a_call(rows: dict[str, Any]) -> None:
    given = heads()
    got = attention_vjp(*chunked(given, **rows)).compute(**SYNCHRONOUS)
    want = ag.attention_vjp(*given.values())
    for name, one, other in zip(NAMES, got, want, strict=False):
        assert_close(one, other, ROUNDING, name)
        assert got.certificates[name].kind == "exact"
        assert got.certificates[name].absolute > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("split_every", [2, 16])
def test_the_bits_are_those_of_the_shards(dtype: Any, split_every: int) -> None:
    given = heads(dtype)
    out = {name: np.empty_like(given[name]) for name in NAMES[:3]}
    want = out_of_core.attention_vjp(*given.values(), out=out, rows=20, scale=0.3)
    lazy = attention_vjp(*chunked(given), split_every=split_every, scale=0.3)
    got = lazy.compute(**THREADED)
    for name, one, other in zip(NAMES, got, want, strict=False):
        assert_same_bits(one, np.asarray(other), name)
        assert_close(
            got.certificates[name].absolute, want.certificates[name].absolute, ROUNDING, name
        )
    assert lazy.dq.chunks == ((20, 20, 20, 20, 10), (E,))


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_named_by_its_row_in_the_whole(name: str) -> None:
    given = heads()
    given[name][65, 1] = np.nan
    with pytest.raises(errors.NonFiniteError, match=rf"^{name}: found nan at index \(65, 1\)"):
        attention_vjp(*chunked(given)).compute(**SYNCHRONOUS)


def test_wrong_calls_are_refused_before_any_work() -> None:
    query, key, value, dout = chunked(heads())
    with pytest.raises(errors.ShapeError, match="value"):
        attention_vjp(query, key, value[1:], dout)
    with pytest.raises(errors.DTypeError, match=r"^dout: found float32"):
        attention_vjp(query, key, value, dout.astype("f4"))
    with pytest.raises(errors.ShapeError, match=r"^key: found an unknown number of rows"):
        attention_vjp(query, key[key[:, 0] > 0], value, dout)
    with pytest.raises(errors.ShapeError, match=r"^key: found shape \(0, 4\)"):
        attention_vjp(query, key[:0], value[:0], dout)
    with pytest.raises(errors.OptionTypeError, match=r"^dout: .*Dask array"):
        attention_vjp(query, key, value, heads()["dout"])
