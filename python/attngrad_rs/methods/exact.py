"""The exact method: two passes over tiles in the compiled core, never n x m in memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import _core
from ..arrays import Sizes
from .base import Decision, Error, Forecast, HeadTask, Method, Outcome, Task, core_options

# Operations of the core's law (rust/src/plan/cost.rs) per second and thread, float32; float64
# takes twice the time. Rough figures of 2-core machines at d = 32: they feed `predicted_seconds`
# and nothing else.
RATES = {"baseline": 15e9, "avx2": 75e9, "avx512": 115e9}
SLOWEST_RATE = 10e9
FLOAT32_BYTES = 4
FLOAT64_BYTES = 8
# Numbers in float64 for each query (norms, normalisers, terms of the rounding estimate) and key.
ROW_NUMBERS = 12
KEY_NUMBERS = 2
# The core's rule: up to this d3/dv, dL/dY comes from f A3 and needs no second pass.
MIXED_INPUTS_UP_TO = 2
# The core's constants of the same names (rust/src/constants.rs), for what it keeps between passes.
KEPT_BYTES = 32 * 2**20
KEPT_TILES = 2
KEY_SIDE_QUERIES = 64
WAVE_QUERIES = 256
WAVE_CHUNKS = 32
CHUNK_KEYS = 120


class _Needs(NamedTuple):
    """What the names in ``wrt`` need of the core's passes."""

    # Pass 2 at all, and its sums over queries.
    second: bool
    key_side: bool
    # f A3, which gives the output and dL/dY in pass 1.
    mixed: bool


def _needs(sizes: Sizes, wrt: tuple[str, ...]) -> _Needs:
    names = set(wrt)
    wide_values = sizes.d3 > MIXED_INPUTS_UP_TO * sizes.dv
    key_side = bool(names & {"W_K", "A2", "A3", "A"}) or ("Y" in names and wide_values)
    second = key_side or bool(names & {"X", "W_Q", "A1"})
    return _Needs(second, key_side, "Y" in names and not key_side)


def _buffer_bytes(sizes: Sizes, wrt: tuple[str, ...], itemsize: int, kept: int) -> int:
    """Bytes that the core holds at its peak, outputs included: O((n + m) d), whatever the tiles.

    Follows the life of the buffers through pass 1, pass 2 and the products after it.
    """
    n, m, width, dv = sizes.n, sizes.m, sizes.width, sizes.dv
    needs = _needs(sizes, wrt)
    # Scaled queries, which pass 2 turns into p K; keys and values in strips; keys of a pair.
    always = n * width + m * (width + dv) + (m * width if sizes.pair else 0)
    sums = m * (width + dv) if needs.key_side else 0
    output = 0 if kept else n * dv
    packing = m * dv
    first_pass = output + ((n + m) * sizes.d3 if needs.mixed else 0)
    # Sums over queries are kept in float64 until the pass is over.
    second_pass = output + sums * FLOAT64_BYTES // itemsize
    products = sums + output_elements(sizes, wrt) + (n * sizes.d1 if "A" in wrt else 0)
    if needs.key_side:
        second_pass += min(n, WAVE_QUERIES) * min(m, WAVE_CHUNKS * CHUNK_KEYS) // CHUNK_KEYS * width
    peak = always + max(packing, first_pass, second_pass + sums, products)
    return peak * itemsize + kept + FLOAT64_BYTES * (ROW_NUMBERS * n + KEY_NUMBERS * m)


def _kept_bytes(sizes: Sizes, wrt: tuple[str, ...], itemsize: int, threads: int) -> int:
    """Bytes of what pass 1 keeps for pass 2, by the core's rule; 0 where it does not fit."""
    needs = _needs(sizes, wrt)
    if not needs.second or needs.mixed or not sizes.m:
        return 0
    if needs.key_side:
        fit = KEPT_BYTES // (sizes.m * itemsize) // KEY_SIDE_QUERIES * KEY_SIDE_QUERIES
        return min(fit, WAVE_QUERIES, sizes.n) * sizes.m * itemsize
    lanes, _ = _core.tile_shape(
        _core.level(), "float32" if itemsize == FLOAT32_BYTES else "float64"
    )
    tile = lanes * sizes.m * itemsize
    return min(KEPT_BYTES // (threads * tile), KEPT_TILES) * threads * tile


def output_elements(sizes: Sizes, wrt: tuple[str, ...]) -> int:
    """Numbers in all outputs together."""
    shapes = {
        "X": sizes.d1 * sizes.d2,
        "W_Q": sizes.d1 * sizes.width,
        "W_K": sizes.d2 * sizes.width,
        "Y": sizes.d3 * sizes.dv,
        "A1": sizes.n * sizes.d1,
        "A2": sizes.m * sizes.d2,
        "A3": sizes.m * sizes.d3,
        "A": sizes.n * sizes.d1,
    }
    return sum(shapes[name] for name in wrt)


def seconds(operations: float, itemsize: int, threads: int | None) -> float:
    """Predicted time of so many operations of the exact method, or of as many as cost the same."""
    workers = threads or _core.default_threads()
    rate = RATES.get(_core.level(), SLOWEST_RATE) * workers * FLOAT32_BYTES / itemsize
    return operations / rate


def forecast(
    sizes: Sizes,
    wrt: tuple[str, ...],
    itemsize: int,
    is_causal: bool,
    threads: int | None,
    decision: Decision,
) -> Forecast:
    """Predict cost and memory from shapes alone."""
    shape = (sizes.n, sizes.m, sizes.width, sizes.d3, sizes.dv)
    operations = _core.exact_operations(shape, list(wrt), is_causal)
    kept = _kept_bytes(sizes, wrt, itemsize, threads or _core.default_threads())
    peak = _buffer_bytes(sizes, wrt, itemsize, kept)
    return Forecast(operations, seconds(operations, itemsize, threads), peak)


def gradient(task: Task, decision: Decision, prepared: Any) -> Outcome:
    """Loss and gradients; with no name in ``wrt``, the loss alone."""
    raw = _core.loss_gradient(task.given, list(task.wrt), core_options(task.control))
    return Outcome(
        loss=raw["loss"],
        loss_error=Error.rounding(raw["loss_rounding"]),
        gradients={name: raw["gradients"][name] for name in task.wrt},
        errors={name: Error.rounding(error) for name, error in raw["rounding"].items()},
        decision=decision,
    )


def propose_vjp(task: HeadTask) -> Decision:
    """As ``propose``: it serves for every head, and costs what its forecast says."""
    return Decision(EXACT.name)


def vjp(task: HeadTask, decision: Decision) -> Outcome:
    """dq, dk and dv of one head."""
    raw = _core.attention_vjp(
        [task.query, task.key, task.value, task.dout],
        (task.scale, task.is_causal),
        core_options(task.control),
    )
    return Outcome(
        loss=0.0,
        loss_error=Error.rounding(0.0),
        gradients=dict(raw["gradients"]),
        errors={name: Error.rounding(error) for name, error in raw["rounding"].items()},
        decision=decision,
    )


EXACT = Method(
    name="exact",
    needs="nothing: any shape, any logits that float32 or float64 can hold",
    law="rounding only, estimated with the result",
    cost="8 n m d operations for the gradient by X (half if causal), memory O((n + m) d)",
    forecast=forecast,
    gradient=gradient,
    propose_vjp=propose_vjp,
    vjp=vjp,
)
