"""What hides entries behind a mask is refused by name, however it arrives."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs._inputs import arrays, masks

N, D = 6, 3


def matrix(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((N, D))


def masked(hide: bool = True) -> Any:
    array = np.ma.MaskedArray(matrix(), mask=np.zeros((N, D), bool))
    if hide:
        array[2] = np.ma.masked
    return array


class Behind:
    """An object that NumPy asks for an array."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array if dtype is None else self.array.astype(dtype)


class Sequence:
    """What NumPy takes for a sequence, of no known class."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class OtherMask(np.ndarray[Any, Any]):
    """A subclass with a mask of its own, as astropy has one."""

    mask = np.ones(1, bool)


class Extension:
    """A column of pandas whose numbers may be missing."""

    dtype = object()

    def __init__(self, missing: int) -> None:
        self.missing = missing

    def isna(self) -> Any:
        return np.arange(N) < self.missing

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.where(self.isna(), np.nan, 1.0)


class Arrow(Extension):
    """An array of Arrow: it counts its nulls."""

    isna = None  # type: ignore[assignment]

    def __init__(self, missing: int) -> None:
        super().__init__(missing)
        self.null_count = missing

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.full(N, np.nan if self.missing else 1.0)


ARRANGEMENTS: dict[str, Callable[[], Any]] = {
    "array": masked,
    "nothing hidden": lambda: masked(hide=False),
    "behind": lambda: Behind(masked()),
    "list of rows": lambda: list(masked()),
    "tuple of rows": lambda: tuple(masked()),
    "list of behinds": lambda: [Behind(row) for row in masked()],
    "deque": lambda: collections.deque(masked()),
    "user list": lambda: collections.UserList(masked()),
    "sequence": lambda: Sequence(*masked()),
    "one of the rows": lambda: [*matrix()[:-1], masked()[2]],
    "one masked number": lambda: [[*row] for row in masked()],
    "nested": lambda: [Sequence(*map(Behind, row.reshape(D, 1))) for row in masked()],
    "another mask": lambda: matrix().view(OtherMask),
    "list of another mask": lambda: list(matrix().view(OtherMask)),
    "extension": lambda: [Extension(1)] * N,
    "arrow": lambda: [Arrow(2)] * N,
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_a_mask_is_refused_by_name(arrangement: Callable[[], Any]) -> None:
    for check_finite in (True, False):
        with pytest.raises(ag.DTypeError, match=r"A2: found (a masked array|\d+ missing values)"):
            ag.loss_gradient(
                matrix(), arrangement(), matrix(), np.eye(D), np.eye(D), matrix(),
                check_finite=check_finite,
            )  # fmt: skip


@pytest.mark.parametrize("arrangement", ["array", "behind", "list of rows"])
def test_every_door_refuses_it(arrangement: str) -> None:
    q, hidden = matrix(), ARRANGEMENTS[arrangement]
    stack = [q, q]
    calls: dict[str, Callable[[], object]] = {
        "key": lambda: ag.attention(stack, [hidden(), hidden()], stack),
        "value": lambda: ag.attention(q, q, hidden()),
        "dout": lambda: ag.attention_vjp(q, q, q, hidden()),
        "W_K": lambda: (
            ag.loss(q, q, q, (np.eye(D), hidden()[:D]), np.eye(D), q)
            if arrangement == "array"
            else ag.diagnose(q, hidden())
        ),
        "query": lambda: ag.ExpFeatures().fit(hidden(), q),
        "samples": lambda: ag.polynomials.exp_polynomial(
            "least_squares", 1, (-1, 1), samples=ARRANGEMENTS["array"]()[0]
        ),
        "t": lambda: ag.polynomials.exp_polynomial("taylor", 1, (-1, 1))(hidden()),
        "A1": lambda: reference.Problem(hidden(), q, q, np.eye(D), np.eye(D), q).loss,
    }
    for name, call in calls.items():
        with pytest.raises(ag.DTypeError, match="masked array") as caught:
            call()
        assert str(caught.value).startswith((f"{name}:", "key:")), name


def test_what_hides_nothing_passes() -> None:
    want = matrix()
    whole = np.ones(N)
    for given, expected in [
        (want, want),
        (want.tolist(), want),
        (list(want), want),
        (Behind(want), want),
        ([Behind(row) for row in want], want),
        (Sequence(*want.tolist()), want),
        (collections.deque(want.tolist()), want),
        (memoryview(want), want),
        (want.view(np.recarray), want),
        (np.float64(2.0), np.float64(2.0)),
        ([Extension(0), Arrow(0)], np.stack([whole, whole])),
    ]:
        array = masks.unmasked("A1", given)
        assert type(array) is np.ndarray
        assert array.dtype == np.float64
        assert np.array_equal(array, expected)


def test_lists_without_an_end_are_refused() -> None:
    endless: list[Any] = [1.0]
    endless.append(endless)
    with pytest.raises(ag.ShapeError, match="A1: found a list of length 2"):
        arrays.read_arrays({"A1": endless})


def test_the_same_numbers_are_missing_in_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    holes = pandas.array([1.0, None] * D, dtype="Float64")
    full = pandas.array([1.0, 2.0] * D, dtype="Float64")
    for column in (holes, pandas.Series(holes)):
        with pytest.raises(ag.DTypeError, match="A1: found 3 missing values"):
            arrays.read_arrays({"A1": column})
    with pytest.raises(ag.DTypeError, match="A1: found 6 missing values"):
        arrays.read_arrays({"A1": pandas.DataFrame({"a": holes, "b": holes})})
    read = arrays.read_arrays({"A1": pandas.DataFrame({"a": full})})[0]
    assert np.array_equal(read["A1"], full.to_numpy(float)[:, None])
