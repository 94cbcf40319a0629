"""The exact method: two passes over tiles in the compiled core, never n x m in memory."""

from __future__ import annotations

from .. import _core, tuning
from ..arrays import Sizes
from .base import Forecast, HeadTask, Method, Outcome, Task

# Floating point operations per second and thread, float32, in the convention of `_flops`; float64
# takes twice the time. Rough figures of 2-core machines at d = 32: they feed `predicted_seconds`
# and nothing else.
RATES = {"baseline": 15e9, "avx2": 75e9, "avx512": 115e9}
SLOWEST_RATE = 10e9
FLOAT32_BYTES = 4
# Dispatch, packing and the pool's wake-up, below which no call gets.
CALL_SECONDS = 50e-6


def _flops(sizes: Sizes, wrt: tuple[str, ...], is_causal: bool) -> float:
    """Operations of the passes; a multiplication and an addition count as two.

    Forward: logits and output. Backward: logits again, dP, and one product for each side wanted.
    """
    per_pair = 2.0 * (sizes.width + sizes.dv)
    if wrt:
        per_pair += 2.0 * (sizes.width + sizes.dv)
    names = set(wrt)
    if names & {"X", "W_Q", "A1", "A"}:
        per_pair += 2.0 * sizes.width
    if names & {"W_K", "A2", "A"}:
        per_pair += 2.0 * sizes.width
    if names & {"Y", "A3", "A"}:
        per_pair += 2.0 * sizes.dv
    pairs = sizes.n * sizes.m * (0.5 if is_causal else 1.0)
    return pairs * per_pair


def _buffer_elements(sizes: Sizes, wrt: tuple[str, ...]) -> int:
    """Numbers held by the core at the peak: O((n + m) d), whatever the tiles."""
    n, m = sizes.n, sizes.m
    projected = n * sizes.width + m * sizes.dv + (m * sizes.width if sizes.pair else 0)
    rows = n * (2 * sizes.dv + 3)
    names = set(wrt)
    sides = n * sizes.width if names & {"X", "W_Q", "A1", "A"} else 0
    sides += m * sizes.width if names & {"W_K", "A2", "A"} else 0
    sides += m * sizes.dv if names & {"Y", "A3", "A"} else 0
    return projected + rows + sides


def _output_elements(sizes: Sizes, wrt: tuple[str, ...]) -> int:
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


def _rate() -> float:
    return RATES.get(tuning.level(), SLOWEST_RATE)


def forecast(
    sizes: Sizes, wrt: tuple[str, ...], itemsize: int, is_causal: bool, threads: int | None
) -> Forecast:
    """Predict cost and memory from shapes alone."""
    flops = _flops(sizes, wrt, is_causal)
    workers = threads or _core.default_threads()
    rate = _rate() * workers * FLOAT32_BYTES / itemsize
    elements = _buffer_elements(sizes, wrt) + _output_elements(sizes, wrt)
    return Forecast(flops, CALL_SECONDS + flops / rate, elements * itemsize)


def gradient(task: Task) -> Outcome:
    """Loss and gradients; with no name in ``wrt``, the loss alone."""
    arrays, control = task.arrays, task.control
    raw = _core.loss_gradient(
        arrays["A1"],
        arrays["A2"],
        arrays["A3"],
        arrays.get("X"),
        arrays.get("W_Q"),
        arrays.get("W_K"),
        arrays["Y"],
        arrays["E"],
        list(task.wrt),
        task.scale,
        task.is_causal,
        control.threads,
        control.progress,
        control.timeout,
        tuning.level(),
        tuning.key_block(),
    )
    gradients = {name: raw["gradients"][name] for name in task.wrt}
    return Outcome(raw["loss"], raw["loss_rounding"], gradients, dict(raw["rounding"]))


def vjp(task: HeadTask) -> Outcome:
    """dq, dk and dv of one head."""
    control = task.control
    raw = _core.attention_vjp(
        task.query,
        task.key,
        task.value,
        task.dout,
        task.scale,
        task.is_causal,
        control.threads,
        control.progress,
        control.timeout,
        tuning.level(),
        tuning.key_block(),
    )
    return Outcome(0.0, 0.0, dict(raw["gradients"]), dict(raw["rounding"]))


EXACT = Method(
    name="exact",
    needs="nothing: any shape, any logits that float32 or float64 can hold",
    law="rounding only, estimated with the result",
    cost="10 n m d operations for the gradient by X (half if causal), memory O((n + m) d)",
    forecast=forecast,
    gradient=gradient,
    vjp=vjp,
)
