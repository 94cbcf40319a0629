"""``out=``: results in arrays of the caller, complete before the first is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from helpers import Array, assert_same_bits

SHAPES = {"query": (2, 7, 4), "key": (2, 9, 4), "value": (2, 9, 3), "dout": (2, 7, 3)}
INPUTS = ("query", "key", "value")
DTYPES = pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", ">f2"])


def heads(dtype: Any = np.float64) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}


def moved(named: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {f"{prefix}{name}": named[name] + 1 for name in INPUTS}


def attention(named: dict[str, Array], **options: Any) -> tuple[Array, ...]:
    return tuple(ag.attention(*(named[name] for name in INPUTS), return_lse=True, **options))


def attention_vjp(named: dict[str, Array], **options: Any) -> tuple[Array, ...]:
    return tuple(ag.attention_vjp(**named, **options))


def attention_jvp(named: dict[str, Array], **options: Any) -> tuple[Array, ...]:
    plain = {name: named[name] for name in INPUTS}
    return ag.attention_jvp(**plain, **moved(named, "d"), **options)


def attention_hvp(named: dict[str, Array], **options: Any) -> tuple[Array, ...]:
    return ag.attention_hvp(**named, **moved(named, "dd"), **options)


def loss_gradient(named: dict[str, Array], **options: Any) -> tuple[Array, ...]:
    A, weights = named["query"][0], named["query"][0].T[:, :4]
    found = ag.loss_gradient(A, A, A, weights, weights, A, wrt=("X", "A1", "A"), **options)
    return tuple(found.gradients.values())


Call = Callable[..., tuple[Array, ...]]
CALLS: tuple[Call, ...] = (attention, attention_vjp, attention_jvp, attention_hvp, loss_gradient)


def spread(like: Array) -> dict[str, Array]:
    """Room for an array by any strides."""
    shape, dtype = like.shape, like.dtype
    wide = np.empty((*shape[:-1], 2 * shape[-1] + 1), dtype)
    return {
        "new": np.empty(shape, dtype),
        "turned": np.empty(shape[::-1], dtype).T,
        "strided": wide[..., 1::2],
        "backwards": np.empty(shape, dtype)[::-1],
        "unaligned": np.empty(like.nbytes + 1, np.uint8)[1:].view(dtype).reshape(shape),
        "swapped": np.empty(shape, dtype.newbyteorder()),
    }


@DTYPES
@pytest.mark.parametrize("call", CALLS)
def test_results_are_written_to_any_strides(call: Call, dtype: str) -> None:
    named = heads(dtype)
    want = call(named, allow_half=True)
    for layout in spread(want[0]):
        out = tuple(spread(one)[layout] for one in want)
        got = call(named, out=out, allow_half=True)
        for one, target, new in zip(got, out, want, strict=True):
            assert one is target
            assert_same_bits(np.ascontiguousarray(one, new.dtype), new, layout)


@pytest.mark.parametrize("call", CALLS)
def test_what_is_not_given_is_new(call: Call) -> None:
    want = call(heads())
    for place, whole in enumerate(want):
        target = np.empty_like(whole)
        got = call(heads(), out=[target if i == place else None for i in range(len(want))])
        assert got[place] is target
        for one, new in zip(got, want, strict=True):
            assert_same_bits(one, new, f"{place}")


def test_one_result_is_one_array() -> None:
    named, inputs = heads(), [heads()[name] for name in INPUTS]
    want = ag.attention(*inputs)
    for out in (np.empty_like(want), (np.empty_like(want),)):
        got = ag.attention(*inputs, out=out)
        assert got is (out[0] if isinstance(out, tuple) else out)
        assert_same_bits(got, want, "output")
    plain = {name: named[name] for name in INPUTS} | moved(named, "d")
    output, lse = ag.attention(*inputs, return_lse=True)
    tangent = np.empty_like(output)
    given = ag.attention_jvp(**plain, output=output, lse=lse, out=tangent)
    assert given[0] is output
    assert given[1] is tangent
    assert_same_bits(tangent, ag.attention_jvp(**plain, output=output, lse=lse)[1], "tangent")
    A, X = named["query"][0], named["query"][0, :4]
    target = np.empty((4, 4))
    assert ag.loss_gradient(A, A, A, X, X, A, out=target).gradient is target
    assert_same_bits(target, ag.loss_gradient(A, A, A, X, X, A).gradient, "X")


def test_targets_may_be_inputs() -> None:
    named = heads()
    want, given = attention_vjp(heads()), {name: array.copy() for name, array in named.items()}
    # dq over the query, dk over the key backwards, dv over the value.
    out = (given["query"], given["key"][:, ::-1], given["value"])
    for got, whole in zip(attention_vjp(given, out=out), want, strict=True):
        assert_same_bits(np.ascontiguousarray(got), whole, "in place")
    shared = np.concatenate([named["query"], named["query"]], axis=1)
    q = shared[:, :7]
    whole = ag.attention(q, q, q)
    got = ag.attention(q, q, q, out=shared[:, 3:10])
    assert_same_bits(np.ascontiguousarray(got), whole, "overlapping")


def test_a_plan_writes_too() -> None:
    named = heads()
    inputs = [named[name] for name in INPUTS]
    out = tuple(np.empty_like(one) for one in inputs)
    found = ag.plan(*inputs).execute(dout=named["dout"], out=out)
    assert all(one is target for one, target in zip(found, out, strict=True))
    assert_same_bits(found.dq, ag.attention_vjp(**named).dq, "planned")


def test_certificates_and_results_stay_as_they_are() -> None:
    named = heads()
    out = tuple(np.empty_like(named[name]) for name in INPUTS)
    found, plain = ag.attention_vjp(**named, out=out), ag.attention_vjp(**named)
    assert found.certificates == plain.certificates
    assert found.dq is out[0]


def test_nothing_is_written_where_there_is_no_result() -> None:
    named = heads(np.float16)
    named["dout"] = named["dout"] * 1e4
    named["value"] = named["value"] * 1e3
    out = tuple(np.full_like(named[name], 7) for name in INPUTS)
    with pytest.raises(ag.RangeError):
        ag.attention_vjp(**named, out=out, allow_half=True)
    assert all(np.all(one == 7) for one in out)


def frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


GOOD = np.empty((2, 7, 4))
SHOWN = np.lib.stride_tricks.as_strided(np.empty(28), (2, 7, 4), (0, 32, 8))
BOTH = np.empty((2, 9, 7))
BAD: dict[str, tuple[object, type[Exception], str]] = {
    "no tuple": (GOOD, ag.OptionTypeError, r"out: found an array of shape .* a tuple of 3 arrays"),
    "two": ((None, None), ag.OptionError, r"out: found 2 arrays; expected 3, for query, key, val"),
    "a list": (([0.0], None, None), ag.OptionTypeError, r"out, for query: found a list"),
    "shape": ((GOOD[:, :6], None, None), ag.ShapeError, r"out, for query: found shape \(2, 6, 4\); "
              r"expected \(2, 7, 4\)"),
    "dtype": ((None, np.empty((2, 9, 4), np.float32), None), ag.DTypeError,
              r"out, for key: found dtype float32; expected float64"),
    "integers": ((np.empty((2, 7, 4), int), None, None), ag.DTypeError, r"found dtype int64"),
    "frozen": ((frozen(np.empty((2, 7, 4))), None, None), ag.OptionError,
               r"out, for query: found an array that cannot be written"),
    "broadcast": ((SHOWN, None, None), ag.OptionError,
                  r"out, for query: found an array whose entries share memory"),
    "twice": ((None, BOTH[..., :4], BOTH[..., 3:6]), ag.OptionError,
              r"out: found key and value in the same memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_targets(name: str) -> None:
    out, error, words = BAD[name]
    with pytest.raises(error, match=words):
        ag.attention_vjp(**heads(), out=out)


def test_targets_side_by_side_share_nothing() -> None:
    both = np.empty((2, 9, 7))
    out = (None, both[..., :4], both[..., 4:])
    for got, want in zip(attention_vjp(heads(), out=out), attention_vjp(heads()), strict=True):
        assert_same_bits(np.ascontiguousarray(got), want, "side by side")


def test_each_function_names_its_own() -> None:
    named = heads()
    pair = (np.empty((2, 7, 3)), np.empty((2, 7, 1)))
    with pytest.raises(ag.ShapeError, match=r"out, for lse: found shape \(2, 7, 1\)"):
        attention(named, out=pair)
    with pytest.raises(ag.ShapeError, match=r"out: found shape \(2, 7, 4\); expected \(2, 7, 3\)"):
        ag.attention(*(named[name] for name in INPUTS), out=GOOD)
    with pytest.raises(ag.OptionError, match=r"expected 4, for query, key, value, dout"):
        attention_hvp(named, out=(None,))
    with pytest.raises(ag.OptionError, match=r"expected 2, for output, tangent"):
        attention_jvp(named, out=(None,))
    out = (np.empty((2, 7, 3), np.float16), np.empty((2, 7), np.float16))
    with pytest.raises(ag.DTypeError, match=r"out, for lse: found dtype float16; expected float32"):
        attention(heads(np.float16), out=out, allow_half=True)
