"""What a causal mask hides: it ends no call, and changes no bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag

N, M, D = 300, 333, 4
DTYPES = (np.float32, np.float64)


def second(q: Any, k: Any, v: Any, dout: Any, moved: Any) -> tuple[Any, ...]:
    """The second derivatives of it along a direction with zeros where queries are zero."""
    along = [q[::-1] * (q != 0.0), moved, -moved]
    return ag.attention_hvp(q, k, v, dout, *along, ddout=-dout, is_causal=True, check_finite=False)


def head(dtype: Any, keys: int = N) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    shapes = ((N, D), (keys, D), (keys, D), (N, D))
    return [rng.uniform(-1.0, 1.0, shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tail", [1, 40])
def test_keys_that_only_zero_queries_see(dtype: Any, tail: int) -> None:
    q, k, v, dout = head(dtype)
    q[-tail:] = 0.0
    along = k.copy()

    def found() -> list[Any]:
        first = ag.attention_vjp(q, k, v, dout, is_causal=True)
        turned = second(q, k, v, dout, along)
        return [ag.attention(q, k, v, is_causal=True), *turned[1:], *first, turned[0]]

    want = found()
    # A few of them may be added up.
    k[-tail:] = np.finfo(dtype).max / 64
    got = found()
    # Of the zero queries, dq holds the large keys themselves, and so does its change.
    for name in (4, -1):
        want[name], got[name] = want[name][:-tail], got[name][:-tail]
    for found, expected in zip(got, want, strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [0.0, "max", np.nan, np.inf])
def test_keys_that_no_query_sees(dtype: Any, hidden: Any) -> None:
    q, k, v, dout = head(dtype, M)
    one = np.eye(D, dtype=dtype)

    def found() -> list[np.ndarray[Any, Any]]:
        options: dict[str, Any] = {"is_causal": True, "check_finite": False}
        near: dict[str, Any] = {"method": "polynomial", "degree": 2, **options}
        wrt = ("X", "Y", "A2", "A3")
        results = [
            ag.loss_gradient(q, k, v, one, one, dout, wrt=wrt, **options).gradients,
            ag.loss_gradient(q, k, v, one, one, dout, wrt=wrt, **near).gradients,
        ]
        pulled = [
            *ag.attention_vjp(q, k, v, dout, **options),
            *ag.attention_vjp(q, k, v, dout, **near),
            *second(q, k, v, dout, k),
        ]
        loss = np.array(ag.loss(q, k, v, one, one, dout, **options))
        gradients = [one[name] for one in results for name in wrt]
        return [ag.attention(q, k, v, **options), loss, *pulled, *gradients]

    want = found()
    k[N:] = v[N:] = np.finfo(dtype).max if hidden == "max" else hidden
    for got, expected in zip(found(), want, strict=True):
        assert np.array_equal(got, expected)
        if got.shape == (M, D):
            assert not got[N:].any()
    if hidden != "max" and not np.isfinite(hidden):
        # Arrays are looked at whole, unless that was forbidden.
        with pytest.raises(ag.NonFiniteError, match=r"key: found (nan|inf) at index \(300, 0\)"):
            ag.attention(q, k, v, is_causal=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["query", "key", "value", "dout"])
def test_what_is_no_number_is_named(name: str, bad: float) -> None:
    arrays = dict(zip(("query", "key", "value", "dout"), head(np.float64), strict=True))
    arrays[name][17, 2] = bad
    with pytest.raises(ag.NonFiniteError, match=rf"{name}: found -?(NaN|inf) at row 17, column 2"):
        ag.attention_vjp(**arrays, check_finite=False)
