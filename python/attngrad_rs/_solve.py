"""The one pipeline from checked arguments to a result, for problems and for heads of attention.

Nothing is decided here: memory is asked for, arrays are copied, the core is called, and what it
found is wrapped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from . import _core
from ._inputs import arrays
from ._inputs.arrays import Array
from ._inputs.memory import check_fits, free_bytes
from ._inputs.options import Control, Input, Request, Tolerance
from .plans import Asked, Plan, Reuse
from .results import AttentionGradients, Certificate, GradientResult, deliver

__all__ = ["Call", "Heads", "attention", "gradient", "loss", "plan", "plan_heads", "pull_back"]

# What a vector-Jacobian product is with respect to, as the core names query, key and value.
HEAD_INPUTS = {"A1": "query", "A2": "key", "A3": "value"}
STEPS = ("f", "c", "q", "p1", "p2")
# Of the loss, which comes along.
NO_TOLERANCE = Tolerance(None, 0.0, "fro", "any")


@dataclass(frozen=True)
class Call:
    """A checked call for a problem: nothing has been copied or computed yet."""

    problem: arrays.Problem
    wrt: tuple[Input, ...]
    scale: float
    is_causal: bool
    request: Request
    control: Control

    @cached_property
    def options(self) -> _core.Options:
        """What changes how the call runs, as the core takes it."""
        return _options(self.control)

    @cached_property
    def input_bytes(self) -> int:
        """What copies of the arrays take."""
        return arrays.total_bytes(self.problem.arrays)

    @property
    def dtype(self) -> str:
        """Name of the arrays' common dtype."""
        return str(self.problem.dtype)

    def forecast(self, decision: _core.Decision) -> _core.Forecast:
        """What a decision is expected to take, besides copies of the arrays."""
        shape = self.problem.sizes.of_core()
        return decision.forecast(shape, self.dtype, list(self.wrt), self.is_causal, self.options)

    def copied(self, title: str, decision: _core.Decision | None) -> _core.Problem:
        """Private copies of the arrays, once there is room for them and for what is decided."""
        needed = self.input_bytes + (self.forecast(decision).peak_bytes if decision else 0)
        copies = _copies(title, needed, self.problem.arrays, self.problem.dtype, self.control)
        return _core.Problem(**copies, scale=self.scale, is_causal=self.is_causal)


@dataclass(frozen=True)
class Heads:
    """A checked call for heads of attention."""

    arrays: dict[str, Array]
    dtype: np.dtype[Any]
    scale: float
    is_causal: bool
    request: Request
    control: Control

    @property
    def lead(self) -> tuple[int, ...]:
        """Leading dimensions, those of the heads."""
        return self.arrays["query"].shape[:-2]

    @cached_property
    def options(self) -> _core.Options:
        """What changes how the call runs, as the core takes it."""
        return _options(self.control)

    @cached_property
    def input_bytes(self) -> int:
        """What copies of the arrays take."""
        return arrays.total_bytes(self.arrays)

    def bytes(self, head: _core.Forecast) -> int:
        """What all is expected to take at its peak: copies, outputs, and one head."""
        outputs = sum(math.prod(self.arrays[name].shape) for name in HEAD_INPUTS.values())
        # Every head's own, and all of them in one.
        return self.input_bytes + 2 * outputs * self.dtype.itemsize + head.peak_bytes

    def forecast(self, decision: _core.Decision) -> _core.Forecast:
        """What one head is expected to take."""
        n, width = self.arrays["query"].shape[-2:]
        m, dv = self.arrays["value"].shape[-2:]
        sizes = arrays.Sizes(n, m, width, width, dv, dv, width, pair=False)
        return decision.forecast(
            sizes.of_core(), str(self.dtype), list(HEAD_INPUTS), self.is_causal, self.options
        )

    def copies(self, title: str, needed: int) -> dict[str, Array]:
        """Private copies of the arrays, once there is room for them."""
        return _copies(title, needed, self.arrays, self.dtype, self.control)

    def stack(self, copies: Mapping[str, Array], names: Iterable[str]) -> list[list[Array]]:
        """The matrices of each head."""
        names = tuple(names)
        return [[copies[name][index] for name in names] for index in np.ndindex(*self.lead)]


def gradient(
    call: Call, replayed: Plan | None, again: Callable[..., GradientResult[Any]], start: float
) -> GradientResult[Any]:
    """Loss and gradients; ``again`` is how the plan of the result is executed."""
    rows = call.problem.sizes.n
    request = call.request.of_core()
    request.check(call.dtype)
    decision = request.settled(heads=False) if replayed is None else replayed.decision(rows)
    problem = call.copied("loss_gradient", decision)
    reuse = replayed._reuse if replayed is not None and replayed._reuse is not None else Reuse()
    made_from = _choices(call, replayed)
    prepared = reuse.prepared if reuse.made_from == made_from else None
    solution = _core.solve(
        problem, list(call.wrt), request, None if replayed is None else decision, prepared,
        _options(call.control, _memory(call, decision)),
    )  # fmt: skip
    if replayed is not None and solution.prepared is not None:
        reuse.made_from, reuse.prepared = made_from, solution.prepared
    result = GradientResult(
        loss=solution.loss,
        gradients={name: solution.gradients[name] for name in call.wrt},
        certificates=_certificates(solution, call.request, {name: name for name in call.wrt}),
        loss_certificate=Certificate.of_core(
            solution.loss_certificate, solution.decision.method, NO_TOLERANCE, "abs", {}
        ),
        plan=_plan(call, solution.decision, again, reuse),
        seconds=time.perf_counter() - start,
    )
    return deliver(result, call.request.tolerance, call.dtype, call.request.method)


def loss(call: Call) -> float:
    """The loss alone."""
    request = call.request.of_core()
    problem = call.copied("loss", request.settled(heads=False))
    return _core.solve(problem, [], request, None, None, call.options).loss


def plan(call: Call, again: Callable[..., GradientResult[Any]]) -> Plan:
    """What would run, by all that is known before anything big is computed."""
    request = call.request.of_core()
    request.check(call.dtype)
    decision = request.settled(heads=False)
    if decision is None:
        problem = call.copied("plan_loss_gradient", None)
        decision = _core.foresee(problem, list(call.wrt), request, call.options)
    return _plan(call, decision, again, Reuse())


def pull_back(
    heads: Heads, replayed: Plan | None, again: Callable[..., AttentionGradients[Any]], start: float
) -> AttentionGradients[Any]:
    """Gradients of attention with respect to query, key and value of all heads."""
    request = heads.request.of_core()
    request.check(str(heads.dtype))
    rows = heads.arrays["query"].shape[-2]
    decision = request.settled(heads=True) if replayed is None else replayed.decision(rows)
    known = heads.input_bytes if decision is None else heads.bytes(heads.forecast(decision))
    copies = heads.copies("attention_vjp", known)
    stack = heads.stack(copies, (*HEAD_INPUTS.values(), "dout"))
    form = (heads.scale, heads.is_causal)
    if decision is None:
        decision = _core.decide_heads(stack, *form, request)
        check_fits("attention_vjp", heads.bytes(heads.forecast(decision)))
    solution = _core.solve_heads(stack, *form, request, decision, heads.options)
    gradients = {
        HEAD_INPUTS[name]: array.reshape(heads.arrays[HEAD_INPUTS[name]].shape)
        for name, array in solution.gradients.items()
    }
    result = AttentionGradients(
        dq=gradients["query"],
        dk=gradients["key"],
        dv=gradients["value"],
        certificates=_certificates(solution, heads.request, HEAD_INPUTS),
        plan=_plan_of_heads(heads, solution.decision, again),
        seconds=time.perf_counter() - start,
    )
    return deliver(result, heads.request.tolerance, str(heads.dtype), heads.request.method)


def plan_heads(heads: Heads, again: Callable[..., AttentionGradients[Any]]) -> Plan:
    """What would run for all heads; ``dout`` need not be known."""
    request = heads.request.of_core()
    request.check(str(heads.dtype))
    decision = request.settled(heads=True)
    if decision is None:
        copies = heads.copies("plan", heads.input_bytes)
        given = heads.arrays
        copies["dout"] = np.zeros(
            (*given["query"].shape[:-1], given["value"].shape[-1]), heads.dtype
        )
        stack = heads.stack(copies, (*HEAD_INPUTS.values(), "dout"))
        decision = _core.decide_heads(stack, heads.scale, heads.is_causal, request)
    return _plan_of_heads(heads, decision, again)


def attention(heads: Heads) -> Array:
    """The output of all heads."""
    shape = (*heads.arrays["query"].shape[:-1], heads.arrays["value"].shape[-1])
    own = math.prod(shape) * heads.dtype.itemsize
    copies = heads.copies("attention", heads.input_bytes + 3 * own)
    stack = heads.stack(copies, HEAD_INPUTS.values())
    if not stack:
        return np.empty(shape, heads.dtype)
    output = _core.attention(stack, heads.scale, heads.is_causal, heads.options)
    return output.reshape(shape)


def _copies(
    title: str,
    needed: int,
    given: Mapping[str, Array],
    dtype: np.dtype[Any],
    control: Control,
) -> dict[str, Array]:
    """Private copies, once there is room for everything that is known to be needed."""
    check_fits(title, needed)
    return arrays.snapshots(given, dtype, finite=control.check_finite, threads=control.threads)


def _options(control: Control, memory: int | None = None) -> _core.Options:
    return _core.Options(
        threads=control.threads, progress=control.progress, timeout=control.timeout, memory=memory
    )


def _memory(call: Call, decision: _core.Decision | None) -> int | None:
    """Bytes that are free, where what will run is not decided yet."""
    return free_bytes(call.input_bytes) if decision is None else None


def _choices(call: Call, replayed: Plan | None) -> tuple[object, ...]:
    """The choices behind what was prepared; the core itself knows the numbers it was made from."""
    degree = None if replayed is None else replayed.degree
    return call.wrt, call.scale, call.is_causal, call.request, degree, call.dtype


def _certificates(
    solution: _core.Solution, request: Request, names: Mapping[str, str]
) -> dict[str, Certificate]:
    steps = dict(zip(STEPS, solution.steps or (), strict=False))
    tolerance, method = request.tolerance, solution.decision.method
    return {
        shown: Certificate.of_core(
            solution.certificates[name], method, tolerance, tolerance.norm, steps
        )
        for name, shown in names.items()
    }


def _plan(call: Call, decision: _core.Decision, again: Callable[..., Any], reuse: Reuse) -> Plan:
    forecast = call.forecast(decision)
    peak_bytes = call.input_bytes + forecast.peak_bytes
    return _made(decision, forecast.seconds, peak_bytes, again, call.request, reuse)


def _plan_of_heads(heads: Heads, decision: _core.Decision, again: Callable[..., Any]) -> Plan:
    count, forecast = math.prod(heads.lead), heads.forecast(decision)
    # Without a head nothing was decided, and its price is not known.
    seconds = count * forecast.seconds if count else 0.0
    return _made(decision, seconds, heads.bytes(forecast), again, heads.request, None)


def _made(
    decision: _core.Decision,
    seconds: float,
    peak_bytes: int,
    again: Callable[..., Any],
    request: Request,
    reuse: Reuse | None,
) -> Plan:
    """A decision and its cost for the eyes of the caller."""
    return Plan(
        method=decision.method,
        degree=decision.degree,
        samples=decision.samples,
        features=decision.features,
        exact_rows=decision.exact_rows,
        predicted_seconds=seconds,
        predicted_error=decision.predicted_error,
        peak_bytes=peak_bytes,
        reason=decision.reason,
        _call=again,
        _reuse=reuse,
        _asked=Asked(
            method=request.method, degree=request.degree, rng=request.seed,
            **vars(request.tolerance),
        ),
    )  # fmt: skip
