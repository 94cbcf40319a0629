"""States of shards: any split and any tree of merges give the whole, within its certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs.partial import Fold, Frame, GradientState, KeyState, QueryState
from helpers import Array, assert_close, assert_same_bits

pytestmark = pytest.mark.spec

WRT = ("X", "Y", "A1", "A2", "A3")
# Logits of at most a tenth: P of this degree misses exp by less than rounding in double precision.
DEGREE = 9
# Relative error of sums of a few hundred numbers in another order, with room; the loss of digits
# of r_j f_ji against p_ji is two digits here.
ROUNDING = 1e-11

S = TypeVar("S", KeyState, QueryState, GradientState)
Merge = Callable[[S, list[S]], S]


class Data(NamedTuple):
    """A problem with small logits."""

    A1: Array
    A2: Array
    A3: Array
    X: Array
    Y: Array
    E: Array


def data(n: int, m: int, dtype: Any = np.float64, seed: int = 0, size: float = 0.3) -> Data:
    """d = 2 and dv = 3; entries of A1 X and A2 up to ``size``."""
    rng = np.random.default_rng(seed)
    shapes = ((n, 2), (m, 2), (m, 3), (2, 2), (3, 3), (n, 3))
    A1, A2, A3, X, Y, E = (rng.uniform(-1, 1, shape) for shape in shapes)
    return Data(*(one.astype(dtype) for one in (size * A1, size * A2, A3, X, Y, E)))


def frame_of(given: Data, degree: int = DEGREE, wrt: Sequence[Any] = WRT) -> Frame:
    some = slice(None, None, 3)
    return Frame.fit(
        given.A1[some], given.A2[some], given.A3[some], given.X, given.Y, given.E[some],
        degree=degree, wrt=wrt,
    )  # fmt: skip


def cuts(rows: int) -> st.SearchStrategy[list[slice]]:
    """Shards of all rows in order, some of them empty."""
    ends = st.lists(st.integers(0, rows), max_size=5).map(sorted)
    return ends.map(lambda at: [slice(a, b) for a, b in zip([0, *at], [*at, rows], strict=True)])


@st.composite
def trees(draw: st.DrawFn) -> Callable[[Any, list[Any]], Any]:
    """A merge of neighbours in any order."""
    seed = draw(st.integers(0, 2**32 - 1))

    def merge(empty: Any, states: list[Any]) -> Any:
        rng = np.random.default_rng(seed)
        states = list(states)
        while len(states) > 1:
            at = int(rng.integers(len(states) - 1))
            states[at : at + 2] = [states[at].merge(states[at + 1])]
        return states[0] if states else empty

    return merge


def folded(empty: Any, states: list[Any]) -> Any:
    fold = Fold(empty)
    for state in states:
        fold.add(state)
    return fold.result()


class Whole(NamedTuple):
    """The result of all shards, with the gradients by token put together, and its states."""

    result: ag.GradientResult[Any]
    gradients: dict[str, Array]
    states: tuple[bytes, ...]


def run(
    frame: Frame, given: Data, keys: list[slice], queries: list[slice],
    merge: Callable[[Any, list[Any]], Any] = folded, threads: int | None = None,
) -> Whole:  # fmt: skip
    control: dict[str, Any] = {"threads": threads}
    first = [frame.keys(given.A2[at], given.A3[at], **control) for at in keys]
    K = merge(KeyState.empty(frame), first)
    second = [
        frame.queries(K, given.A1[at], given.E[at], first=at.start, **control) for at in queries
    ]
    Q = merge(QueryState.empty(frame), [state for state, _ in second])
    third = [frame.gradients(Q, given.A2[at], given.A3[at], **control) for at in keys]
    G = merge(GradientState.empty(frame), [state for state, _, _ in third])
    result = frame.gather(K, Q, G)
    gradients = dict(result.gradients)
    by_token = {"A1": [rows for _, rows in second]}
    by_token |= {"A2": [rows for _, rows, _ in third], "A3": [rows for _, _, rows in third]}
    for name, rows in by_token.items():
        if name in gradients:
            gradients[name] = np.concatenate([one for one in rows if one is not None])
    states = tuple(state.to_bytes() for state in (K, Q, G))
    return Whole(result, gradients, states)


SMALL = data(70, 50)


@given(keys=cuts(50), queries=cuts(70), merge=trees())
def test_any_split_and_tree_give_the_whole(
    keys: list[slice], queries: list[slice], merge: Callable[[Any, list[Any]], Any]
) -> None:
    got = run(frame_of(SMALL), SMALL, keys, queries, merge)
    assert_close(got.result.loss, reference.loss(*SMALL), ROUNDING, "the loss")
    for name in WRT:
        want = reference.loss_gradient(*SMALL, wrt=name)
        assert got.gradients[name].shape == want.shape
        assert_close(got.gradients[name], want, ROUNDING, f"dL/d{name}")


@given(
    keys=cuts(50), queries=cuts(70), merge=trees(), degree=st.integers(1, 3),
    dtype=st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_the_certificate_of_any_split_holds(
    keys: list[slice], queries: list[slice], merge: Any, degree: int, dtype: Any
) -> None:
    given = data(70, 50, dtype)
    got = run(frame_of(given, degree), given, keys, queries, merge)
    exact = [one.astype(np.float64) for one in given]
    for name in WRT:
        certificate = got.result.certificates[name]
        error = np.linalg.norm(got.gradients[name] - reference.loss_gradient(*exact, wrt=name))
        assert error <= certificate.absolute < np.inf
        assert certificate.kind == "rigorous"
    assert abs(got.result.loss - reference.loss(*exact)) <= got.result.loss_certificate.absolute


@given(keys=cuts(50), queries=cuts(70), merge=trees())
def test_the_same_split_and_tree_give_the_same_bits(
    keys: list[slice], queries: list[slice], merge: Any
) -> None:
    frame = frame_of(SMALL, 2)
    one, other = (run(frame, SMALL, keys, queries, merge, threads) for threads in (1, 2))
    assert one.states == other.states
    for name in WRT:
        assert_same_bits(one.gradients[name], other.gradients[name], name)


@given(dtype=st.sampled_from([np.float32, np.float64]), degree=st.integers(0, 3))
def test_one_shard_is_the_polynomial_gradient_of_the_call(dtype: Any, degree: int) -> None:
    given = data(300, 260, dtype)
    frame = Frame.fit(*given, degree=degree, wrt=WRT)
    got = run(frame, given, [slice(0, 260)], [slice(0, 300)])
    want = ag.loss_gradient(*given, wrt=WRT, method="polynomial", degree=degree)
    for name in WRT:
        assert_same_bits(got.gradients[name], want.gradients[name], name)
        assert got.result.certificates[name].absolute == want.certificates[name].absolute


def test_empty_shards_change_no_bit() -> None:
    frame = frame_of(SMALL, 2)
    plain = run(frame, SMALL, [slice(0, 50)], [slice(0, 70)])
    none = run(
        frame, SMALL, [slice(0, 0), slice(0, 50), slice(50, 50)], [slice(0, 70), slice(70, 70)]
    )
    assert plain.states == none.states


def states_of(frame: Frame, given: Data) -> list[Any]:
    K = frame.keys(given.A2, given.A3)
    Q, _ = frame.queries(K, given.A1, given.E)
    G, _, _ = frame.gradients(Q, given.A2, given.A3)
    return [K, Q, G]


def test_bytes_say_the_same_and_their_size_is_known() -> None:
    frame = frame_of(SMALL, 2)
    for state in states_of(frame, SMALL):
        made = state.to_bytes()
        assert len(made) == type(state).size(frame) == len(type(state).empty(frame).to_bytes())
        again = type(state).from_bytes(frame, made)
        assert again.to_bytes() == made
        assert again.rows == state.rows


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), which=st.integers(0, 3))
def test_changed_and_cut_bytes_are_refused(at: float, bit: int, which: int) -> None:
    frame = frame_of(SMALL, 1)
    state = [*states_of(frame, SMALL), frame][which]
    made = state.to_bytes()
    place = int(at * len(made))
    changed = bytearray(made)
    changed[place] ^= 1 << bit

    def read(data: bytes) -> Any:
        if isinstance(state, Frame):
            return Frame.from_bytes(data, SMALL.X, SMALL.Y)
        return type(state).from_bytes(frame, data)

    for wrong in (bytes(changed), made[:place], made + b"\0"):
        with pytest.raises(ag.OptionError, match="state: found"):
            read(wrong)
    assert read(made).to_bytes() == made


def test_a_frame_travels() -> None:
    frame = frame_of(SMALL, 2)
    again = Frame.from_bytes(frame.to_bytes(), SMALL.X, SMALL.Y)
    halves = ([slice(0, 20), slice(20, 50)], [slice(0, 70)])
    assert run(frame, SMALL, *halves).states == run(again, SMALL, *halves).states
    assert again.wrt == frame.wrt
    assert (again.degree, again.dtype) == (2, np.float64)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: frame_of(SMALL, 3), "degree 3"),
        (lambda: frame_of(data(70, 50, np.float32), 2), "float32"),
        (lambda: frame_of(SMALL, 2, ("X",)), "another problem or plan"),
        (lambda: frame_of(data(70, 50, seed=1), 2), "another problem or plan"),
    ],
)
def test_states_of_another_frame_are_refused(other: Callable[[], Frame], words: str) -> None:
    frame, strange = frame_of(SMALL, 2), other()
    dtype = strange.dtype
    theirs = strange.keys(SMALL.A2.astype(dtype), SMALL.A3.astype(dtype))
    ours = frame.keys(SMALL.A2, SMALL.A3)
    for call in (
        lambda: ours.merge(theirs),
        lambda: KeyState.from_bytes(frame, theirs.to_bytes()),
        lambda: frame.queries(theirs, SMALL.A1, SMALL.E),
    ):
        with pytest.raises(ag.OptionError, match=words):
            call()


def test_shards_that_do_not_fit_are_refused_before_any_work() -> None:
    frame = frame_of(SMALL, 2)
    keys = frame.keys(SMALL.A2, SMALL.A3)
    with pytest.raises(ag.ShapeError, match="A3: found shape"):
        frame.keys(SMALL.A2, SMALL.A3[1:])
    with pytest.raises(ag.ShapeError, match="A2: found shape"):
        frame.keys(SMALL.A3, SMALL.A3)
    with pytest.raises(ag.DTypeError, match="float32"):
        frame.keys(SMALL.A2.astype(np.float32), SMALL.A3.astype(np.float32))
    broken = SMALL.A2.copy()
    broken[7, 1] = np.nan
    with pytest.raises(ag.NonFiniteError, match=r"A2: found nan at index \(7, 1\)"):
        frame.keys(broken, SMALL.A3)
    with pytest.raises(ag.OptionError, match="without keys"):
        frame.queries(KeyState.empty(frame), SMALL.A1, SMALL.E)
    queries, _ = frame.queries(keys, SMALL.A1, SMALL.E)
    with pytest.raises(ag.OptionError, match="the shards of all keys"):
        frame.gather(keys, queries)
    one = np.ones((5, 2))
    with pytest.raises(ag.OptionError, match="shards of queries are not those of keys"):
        Frame.fit(one, one, one, np.eye(2), np.eye(2), one, degree=1, wrt="A")


def test_queries_that_the_polynomial_does_not_serve_are_named() -> None:
    given = data(70, 50, np.float32)
    # The square of its logits is beyond the digits of the precision.
    given.A1[41] *= 1e8
    frame = Frame.fit(given.A1[:40], given.A2, given.A3, given.X, given.Y, given.E[:40], degree=1)
    keys = frame.keys(given.A2, given.A3)
    parts = [slice(0, 40), slice(40, 70)]
    states = [frame.queries(keys, given.A1[at], given.E[at], first=at.start)[0] for at in parts]
    with pytest.raises(ag.OptionError, match="does not serve 1 queries, the first of them 41"):
        frame.gather(keys, folded(QueryState.empty(frame), states))


def test_a_tolerance_is_judged() -> None:
    frame = frame_of(SMALL, 4, ("X",))
    keys, queries, _ = states_of(frame, SMALL)
    assert frame.gather(keys, queries).success is None
    assert frame.gather(keys, queries, rtol=0.5).success
    with pytest.raises(ag.ToleranceError) as caught:
        frame.gather(keys, queries, rtol=1e-12)
    assert caught.value.result.certificate.best_rtol == caught.value.best_rtol


@given(st.integers(0, 40))
def test_a_fold_that_is_stopped_goes_on_along_the_same_tree(count: int) -> None:
    class Words(str):
        def merge(self, other: str) -> Words:
            return Words(f"({self}{other})")

    def letters(fold: Fold[Words], among: range) -> Fold[Words]:
        for i in among:
            fold.add(Words(chr(65 + i)))
        return fold

    whole = letters(Fold(Words()), range(count)).result()
    for stop in range(count + 1):
        begun = letters(Fold(Words()), range(stop))
        assert letters(Fold(Words(), begun.trees), range(stop, count)).result() == whole
        assert len(list(begun.trees)) <= stop.bit_length()
    assert whole.translate({40: None, 41: None}) == "".join(chr(65 + i) for i in range(count))
