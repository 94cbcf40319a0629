"""Arrays of other libraries: read by their protocols, and results are arrays of the same one."""

from __future__ import annotations

import sys
import types
from typing import Any

import array_api_strict
import numpy as np
import pytest

import attngrad_rs as ag
from helpers import Array, assert_same_bits

SHAPES = {"query": (2, 7, 4), "key": (2, 9, 4), "value": (2, 9, 3), "dout": (2, 7, 3)}
INPUTS = ("query", "key", "value")


def heads() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}


class Exported:
    """An array that nothing but DLPack knows how to read."""

    def __init__(self, array: Array, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.place = array, device

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


class Derived(Exported):
    """One of a user's own, in a module of his."""


class Graph(Exported):
    """One for which a gradient is recorded."""

    requires_grad = True


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that such arrays are of."""
    made = types.ModuleType("exported")
    made.from_dlpack = lambda one: Exported(np.from_dlpack(one))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "exported", made)
    for kind in (Exported, Graph):
        monkeypatch.setattr(kind, "__module__", "exported.arrays")


def strict(array: Array) -> Any:
    return array_api_strict.asarray(array)


KINDS = pytest.mark.parametrize(
    "kind", [strict, Exported, Derived], ids=["strict", "dlpack", "own"]
)


def plain(one: Any) -> Array:
    return one.array if isinstance(one, Exported) else np.asarray(one)


@KINDS
def test_results_are_arrays_of_the_same_library(kind: Any) -> None:
    named = heads()
    given = {name: kind(array) for name, array in named.items()}
    of = type(kind(named["query"])) if kind is not Derived else Exported
    got = ag.attention(*(given[name] for name in INPUTS), return_lse=True)
    want = ag.attention(*(named[name] for name in INPUTS), return_lse=True)
    options = dict(zip(("output", "lse"), got, strict=True))
    same = dict(zip(("output", "lse"), want, strict=True))
    found, plain_found = ag.attention_vjp(**given, **options), ag.attention_vjp(**named, **same)
    moved = {f"dd{name}": given[name] for name in INPUTS}
    second = ag.attention_hvp(**given, **moved)
    plain_second = ag.attention_hvp(**named, **{f"dd{name}": named[name] for name in INPUTS})
    for one, other in zip(
        [*got, *found, *second], [*want, *plain_found, *plain_second], strict=True
    ):
        assert type(one) is of
        assert_same_bits(plain(one), other, "result")
    assert "dq: (2, 7, 4)" in repr(found)


@KINDS
def test_the_problem_too(kind: Any) -> None:
    rng = np.random.default_rng(0)
    A, X = rng.standard_normal((6, 3)), rng.standard_normal((3, 3))
    shown = kind(A)
    got = ag.loss_gradient(
        shown, shown, shown, (kind(X), kind(X)), kind(X), shown, wrt=("W_Q", "A")
    )
    want = ag.loss_gradient(A, A, A, (X, X), X, A, wrt=("W_Q", "A"))
    assert got.loss == want.loss
    for name, gradient in got.gradients.items():
        assert type(gradient) is (type(kind(X)) if kind is not Derived else Exported)
        assert_same_bits(plain(gradient), want.gradients[name], name)


@KINDS
def test_masks_may_be_of_any_library(kind: Any) -> None:
    named = heads()
    mask = np.random.default_rng(1).random((7, 9)) < 0.5
    given = [named[name] for name in INPUTS]
    want = ag.attention(*given, attn_mask=mask)
    assert_same_bits(ag.attention(*given, attn_mask=kind(mask)), want, "a mask of another library")
    lengths = np.array([5, 9])
    got = ag.attention(*(kind(one[:, None]) for one in given), key_lengths=lengths)
    want = ag.attention(*(one[:, None] for one in given), key_lengths=kind(lengths))
    assert_same_bits(plain(got), want, "lengths of another library")


def test_one_library_for_all() -> None:
    named = heads()
    mixed = {**named, "value": strict(named["value"])}
    words = r"value: found an array of array_api_strict where query is one of numpy; expected array"
    with pytest.raises(ag.DTypeError, match=words):
        ag.attention_vjp(**mixed)
    shown = {name: Exported(named[name]) for name in INPUTS}
    with pytest.raises(
        ag.DTypeError, match=r"dout: found an array of numpy where query is one of ex"
    ):
        ag.attention_vjp(**shown, dout=named["dout"].tolist())
    given = [strict(named[name]) for name in INPUTS]
    with pytest.raises(
        ag.DTypeError, match=r"out: found an array of numpy; expected one of array_api"
    ):
        ag.attention(*given, out=np.empty((2, 7, 3)))


def test_lists_are_numpys() -> None:
    named = {name: array.tolist() for name, array in heads().items()}
    assert type(ag.attention_vjp(**named).dq) is np.ndarray
    assert type(ag.attention_vjp(**{**heads(), "key": named["key"]}).dq) is np.ndarray


@pytest.mark.parametrize("function", [ag.attention, ag.attention_vjp, ag.plan])
def test_other_devices_are_refused_by_name(function: Any) -> None:
    named: dict[str, Any] = {name: Exported(array) for name, array in heads().items()}
    if function is not ag.attention_vjp:
        del named["dout"]
    named["key"] = Exported(heads()["key"], device=(2, 1))
    words = r"key: found an array on device \(2, 1\); expected one in the memory of the processor"
    with pytest.raises(ag.DTypeError, match=words):
        function(**named)
    away = array_api_strict.ones((9, 4), device=array_api_strict.Device("device1"))
    with pytest.raises(ag.DTypeError, match=r"key: .*device1"):
        ag.diagnose(named["query"], away)
    # Memory that a GPU shares is read.
    named["key"] = Exported(heads()["key"], device=(3, 0))
    assert type(ag.attention(*(named[name] for name in INPUTS))) is Exported


def test_recorded_gradients_are_not_lost_in_silence() -> None:
    named: dict[str, Any] = heads()
    named["value"] = Graph(named["value"])
    with pytest.raises(ag.DTypeError, match=r"value: found an array that requires a gradient.*"
                       r"attngrad_rs\.torch, or value\.detach\(\)"):  # fmt: skip
        ag.attention_vjp(**named)
    mask = Graph(np.ones((7, 9), bool))
    with pytest.raises(ag.DTypeError, match=r"attn_mask: found an array that requires a gradient"):
        ag.attention(*(heads()[name] for name in INPUTS), attn_mask=mask)


def test_targets_of_the_library() -> None:
    named = heads()
    for kind in (strict, Exported):
        given = {name: kind(named[name].copy()) for name in named}
        out = tuple(kind(np.empty(named[name].shape)) for name in INPUTS)
        found = ag.attention_vjp(**given, out=out)
        for one, target, want in zip(found, out, ag.attention_vjp(**named), strict=True):
            assert one is target
            assert_same_bits(plain(one), want, "written")
        frozen = kind(np.broadcast_to(0.0, (2, 7, 3)))
        words = r"out: found an array that cannot be written|share memory"
        with pytest.raises(ag.OptionError, match=words):
            ag.attention(*(given[name] for name in INPUTS), out=frozen)


def test_no_copy_is_made_of_what_is_read() -> None:
    """The core sees the memory of the library itself."""
    named = heads()
    from attngrad_rs._inputs.arrays import read_arrays

    for kind in (strict, Exported):
        shown = {name: kind(array) for name, array in named.items()}
        read, _, border = read_arrays(shown)
        for name, array in read.items():
            assert np.shares_memory(array, plain(shown[name]))
        assert border is not None
