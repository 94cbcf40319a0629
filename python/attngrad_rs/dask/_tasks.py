"""The tasks. Each holds a chunk or a tile, and a state; states travel as bytes.

What other tasks make is an argument of its own: Dask goes through the graph for each list of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .. import _core
from .._inputs.arrays import Array
from ..out_of_core._attention import NAMES, pull_tile, rows_of, softmax_tile
from ..out_of_core._passes import STAGES, Work
from ..out_of_core._sources import finite_sample, places
from ..partial import (
    Fold,
    Frame,
    GradientState,
    KeyState,
    PartialGradients,
    QueryState,
    SoftmaxState,
)
from ..results import Certificate, GradientResult
from ._chunks import Shard, checked_block

__all__ = [
    "BY_TOKEN", "OF_STAGE",
    "add_of_keys", "add_of_queries", "certify", "finite_block", "fit_frame", "gather",
    "gradient_of", "merge_softmax", "merge_states", "pull_tile", "rounded", "shard_state",
    "softmax_tile", "square_sum", "state_of", "token_rows", "total",
]  # fmt: skip

# Gradients that have a row for each token, and so leave with the shards of a pass.
OF_STAGE: tuple[tuple[str, ...], ...] = ((), ("A1",), ("A2", "A3"))
BY_TOKEN = sum(OF_STAGE, ())


def fit_frame(
    shapes: Mapping[str, tuple[int, int]], dtype: str, X: Any, Y: Any,
    options: Mapping[str, Any], *samples: Any,
) -> Frame:  # fmt: skip
    """The frame, from rows of inputs of these shapes, in their order."""
    rows = {}
    for (name, (count, width)), sample in zip(shapes.items(), samples, strict=True):
        wanted = (sum(stop - start for start, stop in places(count)), width)
        some = checked_block(name, sample, wanted, dtype, "the sample")
        rows[name] = finite_sample(name, some, count)
    return Frame.fit(rows["A1"], rows["A2"], rows["A3"], X, Y, rows["E"], **options)


def shard_state(
    stage: int, frame: Frame, before: bytes | None, shard: Shard, options: Mapping[str, Any],
    *given: Any,
) -> tuple[bytes, dict[str, Array]]:  # fmt: skip
    """The state of a shard in one of the passes, and its rows of gradients by token."""
    widths = options["widths"]
    chunks = tuple(
        shard.checked(name, block, widths[name], str(frame.dtype))
        for name, block in zip(STAGES[stage].inputs, given, strict=True)
    )
    work = Work(frame, stage, before, options["threads"], options["check_finite"])
    state, rows = work(shard.number, shard.first, chunks)
    return state.to_bytes(), rows


def state_of(found: tuple[bytes, Any]) -> bytes:
    """The state alone, so that rows need not stay until it is merged."""
    return found[0]


def token_rows(found: tuple[bytes, dict[str, Array]], name: str) -> Array:
    """The rows of one gradient."""
    return found[1][name]


def merge_states(stage: int, frame: Frame, *states: bytes) -> bytes:
    """States of neighbouring shards as one."""
    kind = STAGES[stage].state
    fold: Fold[Any] = Fold(kind.empty(frame))
    for state in states:
        fold.add(kind.from_bytes(frame, state))
    merged: bytes = fold.result().to_bytes()
    return merged


def gather(
    frame: Frame, keys: bytes, queries: bytes, gradients: bytes | None,
    options: Mapping[str, Any],
) -> GradientResult[Any]:  # fmt: skip
    """The result of all shards, without the gradients by token, which left with them."""
    last = None if gradients is None else GradientState.from_bytes(frame, gradients)
    states = (KeyState.from_bytes(frame, keys), QueryState.from_bytes(frame, queries))
    result = frame.gather(*states, last, **options)
    of_weights = {name: one for name, one in result.gradients.items() if name not in BY_TOKEN}
    made: GradientResult[Any] = replace(result, gradients=of_weights)
    return made


def gradient_of(result: GradientResult[Any], name: str) -> Array:
    """One gradient of a result."""
    return result.gradients[name]


def finite_block(
    name: str, block: object, shard: Shard, width: int, dtype: str, check_finite: bool
) -> Array:
    """A chunk of heads; the error names a number that is none by its row in the whole."""
    rows = shard.checked(name, block, width, dtype)
    return rows_of(name, rows, shard.first, check_finite)


def merge_softmax(*states: bytes) -> bytes:
    """States of the same queries over neighbouring shards of keys as one."""
    known = [SoftmaxState.from_bytes(state) for state in states]
    fold = Fold(known[0])
    for state in known:
        fold.add(state)
    return fold.result().to_bytes()


def add_of_queries(sums: tuple[Array, Array] | None, part: PartialGradients) -> tuple[Array, Array]:
    """dq and the rounding estimates of a chunk of queries, with one more chunk of keys."""
    dq, rounding = (np.zeros(part.dq.shape), np.zeros(len(NAMES))) if sums is None else sums
    return dq + part.dq, rounding + part.rounding


def add_of_keys(sums: tuple[Array, Array] | None, part: PartialGradients) -> tuple[Array, Array]:
    """dk and dv of a chunk of keys, in float64, with one more chunk of queries."""
    dk, dv = (np.zeros(part.dk.shape), np.zeros(part.dv.shape)) if sums is None else sums
    return dk + part.dk, dv + part.dv


def rounded(sums: Array, dtype: str) -> Array:
    """The sums in the precision of the inputs."""
    return sums.astype(dtype)


def square_sum(rows: Array) -> float:
    """The square of the Frobenius norm."""
    return float(np.square(rows, dtype=np.float64).sum())


def total(*parts: Any) -> Any:
    """The sum of parts, in their order."""
    return sum(parts[1:], start=parts[0])


def certify(rounding: Array, *squares: float) -> dict[str, Certificate]:
    """Exact certificates from the rounding estimates, and the squares of the three norms."""
    return {
        name: Certificate.of_core(_core.exact_certificate(float(one), math.sqrt(square)))
        for name, one, square in zip(NAMES, rounding, squares, strict=True)
    }
