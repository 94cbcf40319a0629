"""Softmax states of shards of keys: merged in any tree they give attention and its gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs.partial import Fold, SoftmaxState
from helpers import Array, assert_close, assert_same_bits

pytestmark = pytest.mark.spec

N, M, D, DV = 60, 90, 4, 3
# Relative error of sums of some dozens of terms in another order, beside the largest of them.
ROUNDING = {np.float32: 3e-5, np.float64: 1e-12}


class Data(NamedTuple):
    """One head with the gradient of its output."""

    query: Array
    key: Array
    value: Array
    dout: Array


def data(dtype: Any = np.float64, size: float = 1.0, n: int = N, m: int = M) -> Data:
    rng = np.random.default_rng(3)
    shapes = ((n, D), (m, D), (m, DV), (n, DV))
    query, key, value, dout = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return Data(size * query, key, value, dout)


def dense(given: Data) -> tuple[Array, Array, Array, Array, Array]:
    """Output, lse, dq, dk and dv by the definition, in double precision."""
    query, key, value, dout = (one.astype(np.float64) for one in given)
    scale = 1 / np.sqrt(D)
    logits = scale * query @ key.T
    shift = logits.max(axis=1, keepdims=True)
    weights = np.exp(logits - shift)
    total = weights.sum(axis=1, keepdims=True)
    f = weights / total
    output = f @ value
    inner = dout @ value.T
    p = scale * f * (inner - (f * inner).sum(axis=1, keepdims=True))
    lse = (shift + np.log(total))[:, 0]
    return output, lse, p @ key, p.T @ query, f.T @ dout


def cuts(rows: int) -> st.SearchStrategy[list[slice]]:
    ends = st.lists(st.integers(0, rows), max_size=4).map(sorted)
    return ends.map(lambda at: [slice(a, b) for a, b in zip([0, *at], [*at, rows], strict=True)])


def run(
    given: Data, queries: list[slice], keys: list[slice], seed: int = 0, threads: int | None = None
) -> tuple[tuple[Array, ...], list[float]]:
    """Output, lse, dq, dk and dv of tiles of shards; neighbours are merged in any order."""
    output, lse, dq = [], [], np.zeros(given.query.shape)
    dk, dv = np.zeros(given.key.shape), np.zeros(given.value.shape)
    roundings = np.zeros(3)
    for rows in queries:
        query = given.query[rows]
        states = [
            SoftmaxState.of(query, given.key[at], given.value[at], threads=threads) for at in keys
        ]
        rng = np.random.default_rng(seed)
        while len(states) > 1:
            at = int(rng.integers(len(states) - 1))
            states[at : at + 2] = [states[at].merge(states[at + 1])]
        (state,) = states
        assert (state.rows, state.keys) == (len(query), len(given.key))
        output.append(state.output)
        lse.append(state.lse)
        for part in keys:
            found = state.pull_back(
                query, given.key[part], given.value[part], given.dout[rows], threads=threads
            )
            dq[rows] += found.dq
            dk[part] += found.dk
            dv[part] += found.dv
            roundings += found.rounding
    return (np.concatenate(output), np.concatenate(lse), dq, dk, dv), list(roundings)


@given(
    queries=cuts(N), keys=cuts(M), seed=st.integers(0, 99),
    dtype=st.sampled_from([np.float32, np.float64]), size=st.sampled_from([0.1, 1.0, 30.0, 1000.0]),
)  # fmt: skip
def test_any_tiles_give_attention_and_its_gradients(
    queries: list[slice], keys: list[slice], seed: int, dtype: Any, size: float
) -> None:
    given = data(dtype, size)
    got, roundings = run(given, queries, keys, seed)
    want = dense(given)
    # What a last bit of a logit moves.
    bar = ROUNDING[dtype] * max(1.0, size)
    for name, one, other in zip(("output", "lse", "dq", "dk", "dv"), got, want, strict=True):
        assert_close(one, other, bar, name)
    for name, one, other, rounding in zip(
        ("dq", "dk", "dv"), got[2:], want[2:], roundings, strict=True
    ):
        assert np.linalg.norm(one - other) <= rounding, name


@given(queries=cuts(N), keys=cuts(M), seed=st.integers(0, 99))
def test_the_same_tiles_give_the_same_bits(
    queries: list[slice], keys: list[slice], seed: int
) -> None:
    one, other = (run(data(np.float32), queries, keys, seed, threads) for threads in (1, 2))
    assert one[1] == other[1]
    for number, (a, b) in enumerate(zip(one[0], other[0], strict=True)):
        assert_same_bits(a, b, str(number))


def test_equal_keys_in_a_shard_are_no_zero_gradient() -> None:
    given = data()
    given.key[:10] = given.key[0]
    got, _ = run(given, [slice(0, N)], [slice(0, 10), slice(10, 11), slice(11, M)])
    assert_close(got[2], dense(given)[2], ROUNDING[np.float64], "dq")


def test_no_keys_change_no_bit() -> None:
    query, key, value, _ = data()
    none = SoftmaxState.of(query, key[:0], value[:0])
    assert not none.output.any()
    assert (none.lse == -np.inf).all()
    state = SoftmaxState.of(query, key, value)
    for merged in (none.merge(state), state.merge(none)):
        assert_same_bits(merged.output, state.output, "output")
        assert_same_bits(merged.lse, state.lse, "lse")
    fold = Fold(none)
    for at in range(0, M, 30):
        fold.add(SoftmaxState.of(query, key[at : at + 30], value[at : at + 30]))
    assert_close(fold.result().output, ag.attention(query, key, value), 1e-13, "output")


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_bytes_say_the_same_and_changes_are_refused(at: float, bit: int) -> None:
    query, key, value, _ = data(np.float32)
    state = SoftmaxState.of(query, key, value)
    made = state.to_bytes()
    assert len(made) == SoftmaxState.size(N, DV)
    assert SoftmaxState.from_bytes(made).to_bytes() == made
    changed = bytearray(made)
    changed[int(at * len(made))] ^= 1 << bit
    for wrong in (bytes(changed), made[: int(at * len(made))]):
        with pytest.raises(ag.OptionError, match="state: found"):
            SoftmaxState.from_bytes(wrong)


def test_states_of_other_queries_are_refused() -> None:
    query, key, value, dout = data()
    state = SoftmaxState.of(query, key, value)
    for other in (
        SoftmaxState.of(query[::-1], key, value),
        SoftmaxState.of(query, key, value, scale=0.3),
        SoftmaxState.of(*(one.astype(np.float32) for one in (query, key, value))),
        SoftmaxState.of(query, key, value[:, :2]),
    ):
        with pytest.raises(ag.OptionError, match="state: found one of"):
            state.merge(other)
    with pytest.raises(ag.OptionError, match="state: found one of"):
        state.pull_back(query[::-1], key, value, dout)
    with pytest.raises(ag.ShapeError):
        state.pull_back(query, key, value, dout[1:])
    with pytest.raises(ag.NonFiniteError, match="key"):
        SoftmaxState.of(query, np.full_like(key, np.nan), value)
    with pytest.raises(ag.ShapeError, match="one head"):
        SoftmaxState.of(query[None], key[None], value[None])
