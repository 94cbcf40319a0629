"""What is accepted, and what it becomes: options and arrays on their way in."""

from __future__ import annotations

import fractions
import math
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs._inputs import arrays, memory
from attngrad_rs._inputs import options as arguments
from attngrad_rs._inputs.arrays import Array

N, D = 6, 3
# Numbers enough for several threads to look at.
LARGE = 2**20


def matrix(seed: int = 0, rows: int = N, columns: int = D) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, columns))


@pytest.mark.parametrize(
    "value", [1, 0, -2.5, np.float32(0.5), np.int64(3), fractions.Fraction(1, 2)]
)
def test_any_real_number_is_a_scale(value: Any) -> None:
    assert arguments.number("scale", value) == float(value)


def test_defaults() -> None:
    for name in ("scale", "threads", "timeout", "rtol"):
        assert arguments.number(name, None) is None


def test_numpy_scalars_pass() -> None:
    assert arguments.flag("is_causal", np.True_) is True
    assert arguments.number("threads", np.int32(2)) == 2
    assert arguments.number("timeout", np.float32(2)) == 2.0
    assert arguments.number("rtol", np.float32(0.5)) == 0.5


@pytest.mark.parametrize("value", [None, 0, 12345, np.int64(3), 2**80])
def test_sources_of_randomness(value: Any) -> None:
    # None leaves the seed of sampled rows to a hash of the data.
    assert arguments.rng(value) == (None if value is None else int(value) % 2**64)


def test_a_generator_gives_its_next_number() -> None:
    given, same = np.random.default_rng(5), np.random.default_rng(5)
    assert arguments.rng(given) == int(same.integers(2**64 - 1, dtype=np.uint64))
    assert given.bit_generator.state == same.bit_generator.state


def test_functions_draw_what_they_use() -> None:
    """One number of a Generator, the same for the same one."""
    q, k = matrix(0), matrix(1)
    given = np.random.default_rng(5)
    features = ag.ExpFeatures(degree=1, rng=given).fit(q, k)
    after = given.bit_generator.state
    again = ag.ExpFeatures(degree=1, rng=np.random.default_rng(5)).fit(q, k)
    assert np.array_equal(again.coefficients_, features.coefficients_)
    assert given.bit_generator.state == after


# Arrays of a problem, as far as they tell what can be asked of it; the rest is the core's.
SAME = dict.fromkeys(("A1", "A2", "A3"))


@pytest.mark.parametrize("value", ["X", ["X"], ("X",)])
def test_wrt_is_a_name_or_a_sequence(value: object) -> None:
    assert arguments.wrt_names(value, SAME) == ("X",)


def test_wrt_keeps_its_order() -> None:
    names = ("Y", "A3", "W_K", "A", "W_Q", "A1")
    assert arguments.wrt_names(names, SAME) == names


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10**4000, "an integer of 13288 bits"),
        ("x" * 500, "xxx..."),
        (np.zeros((2, 3)), "an array of shape (2, 3) and dtype float64"),
        ([0] * 9, "a list of length 9"),
        (object(), "an object of type object"),
    ],
)
def test_messages_stay_short(value: object, text: str) -> None:
    shown = arguments.show(value)
    assert text in shown
    assert len(shown) <= arguments.MAX_SHOWN


@pytest.mark.parametrize(
    ("value", "pair"),
    [
        ((matrix(), matrix()), True),
        ([matrix(), matrix()], True),
        ((matrix(),), True),
        ((matrix().tolist(), matrix().tolist()), True),
        (matrix(), False),
        (matrix().tolist(), False),
        (tuple(map(tuple, matrix().tolist())), False),
        ([list(matrix()[0]), list(matrix()[1])], False),
        (np.zeros((2, 3, 3)), False),
        ([], False),
    ],
)
def test_a_pair_is_told_from_a_matrix(value: object, pair: bool) -> None:
    assert arrays.is_pair(value) is pair


def test_nested_lists_are_matrices() -> None:
    listed = [matrix(seed).tolist() for seed in range(4)]
    problem = arrays.read_problem(*listed[:3], np.eye(D), np.eye(D), listed[3])
    assert problem.dtype == np.float64
    assert [problem.arrays[name].shape for name in ("A1", "A2", "A3", "E")] == [(N, D)] * 4


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_snapshots_are_private_native_and_contiguous(dtype: str, order: Any) -> None:
    given = np.array(matrix(), dtype=dtype, order=order)
    strided = np.array(np.repeat(matrix(), 2, axis=1), dtype=dtype)[::-1, ::2]
    read, native, border = arrays.read_arrays({"A1": given, "A2": strided})
    assert native.isnative
    assert border is None
    copies = arrays.snapshots(read, native, finite=True)
    for name, original in read.items():
        copy = copies[name]
        assert copy.flags.c_contiguous
        assert copy.flags.aligned
        assert copy.flags.writeable
        assert copy.dtype == native
        assert not np.shares_memory(copy, original)
        assert np.array_equal(copy, original)


def test_one_object_is_copied_once() -> None:
    shared = matrix()
    problem = arrays.read_problem(shared, shared, shared, np.eye(D), np.eye(D), matrix(1))
    copies = arrays.snapshots(problem.arrays, problem.dtype, finite=True)
    assert copies["A1"] is copies["A2"] is copies["A3"]
    assert copies["E"] is not copies["A1"]
    expected = (2 * shared.size + 2 * D * D) * shared.itemsize
    assert arrays.total_bytes(problem.arrays) == expected


def test_a_view_met_twice_is_copied_once() -> None:
    base = matrix()
    read = arrays.read_arrays({"A1": base[1:], "A2": base[1:], "A3": base[:-1]})[0]
    copies = arrays.snapshots(read, base.dtype, finite=True)
    assert copies["A1"] is copies["A2"]
    assert copies["A3"] is not copies["A1"]
    assert arrays.total_bytes(read) == 2 * base[1:].nbytes


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3)])
def test_heads_that_show_one_matrix_share_its_copy(order: Any) -> None:
    held = np.random.default_rng(0).standard_normal((3, 1, 5, 4)).transpose(order)
    shown = np.broadcast_to(held, tuple(3 if size == 1 else size for size in held.shape))
    copies = arrays.snapshots({"key": shown}, shown.dtype, finite=True)
    copy = copies["key"]
    assert np.array_equal(copy, shown)
    assert not np.shares_memory(copy, shown)
    for index in np.ndindex(*shown.shape[:2]):
        assert copy[index].flags.c_contiguous
    low, high = np.lib.array_utils.byte_bounds(copy)
    assert high - low == held.nbytes == arrays.total_bytes({"key": shown})


def test_a_number_that_many_heads_show_is_found() -> None:
    held = np.ones((1, 5, 4))
    held[0, 2, 3] = np.nan
    shown = {"key": np.broadcast_to(held, (7, 5, 4))}
    with pytest.raises(ag.NonFiniteError, match=r"key: found nan at index \(0, 2, 3\)"):
        arrays.snapshots(shown, held.dtype, finite=True)


def test_equal_arrays_are_not_one_object() -> None:
    one, other = matrix(), matrix()
    problem = arrays.read_problem(one, other, other, np.eye(D), np.eye(D), one)
    with pytest.raises(
        ag.OptionError, match="wrt: found 'A' where A1, A2 and A3 are not one object"
    ):
        arguments.wrt_names("A", problem.arrays)
    problem = arrays.read_problem(one, one, one, np.eye(D), np.eye(D), one)
    assert arguments.wrt_names("A", problem.arrays) == ("A",)


@pytest.mark.parametrize("position", [0, 1, LARGE - 1, LARGE, 3 * LARGE - 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", ["C", "F", "swapped", "shifted"])
def test_the_first_number_that_is_not_finite_is_named(
    position: int, value: float, layout: str
) -> None:
    array = np.zeros((3 * LARGE // 8, 8), dtype=np.float32)
    array.reshape(-1)[-1] = np.nan
    array.reshape(-1)[position] = value
    index = (position // 8, position % 8)
    if layout == "F":
        array = np.asfortranarray(array)
    elif layout == "swapped":
        array = array.astype(array.dtype.newbyteorder())
    elif layout == "shifted":
        # Not where a number may begin.
        bytes_of = np.zeros(array.nbytes + 1, dtype=np.uint8)[1:]
        bytes_of[:] = array.reshape(-1).view(np.uint8)
        array = bytes_of.view(np.float32).reshape(array.shape)
    with pytest.raises(ag.NonFiniteError) as caught:
        arrays.snapshots({"E": array}, np.dtype(np.float32), finite=True)
    assert f"E: found {value} at index {index};" in str(caught.value)
    copy = arrays.snapshots({"E": array}, np.dtype(np.float32), finite=False)["E"]
    assert copy.dtype == np.float32
    assert copy.flags.c_contiguous
    assert copy.tobytes() == array.astype(np.float32, order="C").tobytes()


def test_finite_arrays_pass() -> None:
    """The largest numbers included, whose squares overflow."""
    largest = np.full((2, 2), np.finfo(np.float64).max)
    shapes = ((0, 3), (3, 0), (1, 1), (LARGE, 2))
    for array in (largest, -largest, *map(np.ones, shapes)):
        copies = arrays.snapshots({"E": array}, array.dtype, finite=True)
        assert np.array_equal(copies["E"], array)
        assert copies["E"] is not array


def test_memory_is_asked_for_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_last", (-math.inf, 0))
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**21)
    memory.check_fits("loss", 2**21)
    with pytest.raises(ag.OutOfMemoryError, match="loss: found shapes that need 2097153 bytes"):
        memory.check_fits("loss", 2**21 + 1)
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.check_fits("loss", 2**60)


def test_memory_is_asked_for_again_where_a_call_is_large_or_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(memory, "available_bytes", lambda: asked.append(1) or 2**30)
    monkeypatch.setattr(memory, "_last", (-math.inf, 0))
    for needed, looks in [(2**20, 0), (2**22, 1), (2**26, 1), (2**26 + 1, 2), (2**22, 2)]:
        memory.check_fits("loss", needed)
        assert len(asked) == looks, needed
    when, found = memory._last
    monkeypatch.setattr(memory, "_last", (when - 2 * memory.FRESH_SECONDS, found))
    memory.check_fits("loss", 2**22)
    assert len(asked) == 3


def test_memory_of_this_machine() -> None:
    free = memory.available_bytes()
    assert free is None or free > 0


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**60, "1024.0 PiB")]
)
def test_bytes_for_people(amount: int, text: str) -> None:
    assert memory.format_bytes(amount) == text
