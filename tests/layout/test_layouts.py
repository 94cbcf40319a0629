"""Layout, byte order and flags of the inputs do not matter: the same bits from the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from helpers import Array, assert_same_bits

N, M, D, DV = 70, 61, 4, 5
DTYPES = ("float32", "float64")


def _unaligned(array: Array) -> Array:
    """The same numbers, one byte off."""
    buffer = np.empty(array.nbytes + 1, np.uint8)
    out = buffer[1:].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def _read_only(array: Array) -> Array:
    out = array.copy()
    out.setflags(write=False)
    return out


def _strided(array: Array) -> Array:
    """Every second row and third column of something larger."""
    shape = (*array.shape[:-2], 2 * array.shape[-2], 3 * array.shape[-1])
    out = np.full(shape, np.nan, array.dtype)[..., ::2, ::3]
    out[...] = array
    return out


def _padded(array: Array) -> Array:
    """Rows with a gap between them."""
    shape = (*array.shape[:-1], array.shape[-1] + 3)
    out = np.full(shape, np.nan, array.dtype)[..., :-3]
    out[...] = array
    return out


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "Fortran": np.asfortranarray,
    "rows backwards": lambda array: array[..., ::-1, :].copy()[..., ::-1, :],
    "columns backwards": lambda array: array[..., ::-1].copy()[..., ::-1],
    "transposed": lambda array: np.swapaxes(np.swapaxes(array, -1, -2).copy(), -1, -2),
    "strided": _strided,
    "padded": _padded,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "little-endian": lambda array: array.astype(array.dtype.newbyteorder("<")),
    "big-endian, strided": lambda array: _strided(array.astype(array.dtype.newbyteorder(">"))),
    "read-only": _read_only,
    "unaligned": _unaligned,
}


def problem(dtype: str) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    shapes = {"A1": (N, D), "A2": (M, D), "A3": (M, D), "X": (D, D), "Y": (D, DV), "E": (N, DV)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def pair_problem(dtype: str) -> dict[str, Any]:
    given = problem(dtype)
    return {**given, "X": (given["X"], given["X"].T.copy())}


def heads(dtype: str) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    shapes = {"query": (2, N, D), "key": (2, M, D), "value": (2, M, DV), "dout": (2, N, DV)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def by_loss_gradient(given: dict[str, Any], **options: Any) -> dict[str, Array]:
    first = ("W_Q", "W_K") if isinstance(given["X"], tuple) else ("X",)
    made = ag.loss_gradient(**given, wrt=(*first, "Y", "A1", "A2", "A3"), **options)
    errors = {f"error {name}": one.absolute for name, one in made.certificates.items()}
    return {"loss": np.float64(made.loss), **made.gradients, **errors}


def by_polynomial(given: dict[str, Any]) -> dict[str, Array]:
    return by_loss_gradient(given, method="polynomial", degree=2)


def by_loss(given: dict[str, Any]) -> dict[str, Array]:
    return {"loss": np.float64(ag.loss(**given, is_causal=True))}


def by_attention(given: dict[str, Array]) -> dict[str, Array]:
    return {"output": ag.attention(given["query"], given["key"], given["value"])}


def by_vjp(given: dict[str, Array]) -> dict[str, Array]:
    made = ag.attention_vjp(**given, is_causal=True)
    errors = {f"error {name}": one.absolute for name, one in made.certificates.items()}
    return {"dq": made.dq, "dk": made.dk, "dv": made.dv, **errors}


def by_polynomial_vjp(given: dict[str, Array]) -> dict[str, Array]:
    return dict(
        zip(
            ("dq", "dk", "dv"),
            ag.attention_vjp(**given, method="polynomial", degree=2),
            strict=True,
        )
    )


def by_second(given: dict[str, Array]) -> dict[str, Array]:
    """Every array is a direction, too."""
    query, key, value, dout = (given[name] for name in ("query", "key", "value", "dout"))
    turned = ag.attention_hvp(query, key, value, dout, query, key, value, ddout=dout)
    return dict(zip(("query", "key", "value", "dout"), turned, strict=True))


CALLS: dict[str, tuple[Callable[[str], dict[str, Any]], Callable[[Any], dict[str, Array]]]] = {
    "loss_gradient": (problem, by_loss_gradient),
    "loss_gradient of a pair": (pair_problem, by_loss_gradient),
    "loss_gradient, polynomial": (problem, by_polynomial),
    "loss": (problem, by_loss),
    "attention": (heads, by_attention),
    "attention_vjp": (heads, by_vjp),
    "attention_vjp, polynomial": (heads, by_polynomial_vjp),
    "attention_hvp": (heads, by_second),
}


def laid_out(value: Any, layout: Callable[[Array], Array]) -> Any:
    return tuple(map(layout, value)) if isinstance(value, tuple) else layout(value)


def parts(value: Any) -> tuple[Array, ...]:
    return value if isinstance(value, tuple) else (value,)


def assert_same(got: dict[str, Array], want: dict[str, Array], what: str) -> None:
    assert got.keys() == want.keys()
    for name in want:
        assert np.all(np.isfinite(want[name])) or name.startswith("error"), name
        assert_same_bits(got[name], want[name], f"{what}: {name}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("call", CALLS)
def test_layout_and_byte_order_do_not_matter(call: str, layout: str, dtype: str) -> None:
    """Of all arrays at once, and of each alone beside others as NumPy makes them."""
    make, compute = CALLS[call]
    given = make(dtype)
    want = compute(given)
    other = {name: laid_out(value, LAYOUTS[layout]) for name, value in given.items()}
    kept = {name: [one.tobytes() for one in parts(value)] for name, value in other.items()}
    assert_same(compute(other), want, "all arrays")
    for name in given:
        assert_same(compute({**given, name: other[name]}), want, name)
    for name, value in other.items():
        assert [one.tobytes() for one in parts(value)] == kept[name], f"{name} was written to"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", CALLS)
def test_broadcast_arrays_are_what_they_show(call: str, dtype: str) -> None:
    """A stride of zero over rows, over columns, over all, and over heads."""
    make, compute = CALLS[call]
    given = make(dtype)
    for name, value in given.items():
        for keep in ((0,), (1,), (0, 1)):
            shown = tuple(
                np.broadcast_to(
                    one[..., *(slice(0, 1) if axis in keep else slice(None) for axis in (0, 1))],
                    one.shape,
                )
                for one in parts(value)
            )
            assert all(0 in one.strides for one in shown)
            view = shown if isinstance(value, tuple) else shown[0]
            copies = laid_out(view, np.ascontiguousarray)
            assert_same(compute({**given, name: view}), compute({**given, name: copies}), name)
    if make is heads:
        for name, value in given.items():
            view = np.broadcast_to(value[:1], value.shape)
            assert view.strides[0] == 0
            copy = np.ascontiguousarray(view)
            assert_same(compute({**given, name: view}), compute({**given, name: copy}), name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_buffer_shown_in_two_ways(dtype: str) -> None:
    """Arrays that start at the same place and have the same shape may hold other numbers."""
    square = np.random.default_rng(2).standard_normal((D, D)).astype(dtype)
    given = {"A1": square, "A2": square.T, "A3": square, "X": square.T, "Y": square, "E": square.T}
    copies = {name: array.copy() for name, array in given.items()}
    assert_same(by_loss_gradient(given), by_loss_gradient(copies), "square")
    shown = {"query": square, "key": square.T, "value": square, "dout": square.T}
    copies = {name: array.copy() for name, array in shown.items()}
    assert_same(by_vjp(shown), by_vjp(copies), "heads")
