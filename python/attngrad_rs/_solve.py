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
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._inputs import arrays
from ._inputs.arrays import Array, Sizes
from ._inputs.memory import check_fits, free_bytes
from ._inputs.options import Given
from .plans import Plan, Reuse
from .results import AttentionGradients, Certificate, GradientResult, deliver

# What a vector-Jacobian product is with respect to, as the core names query, key and value.
HEAD_INPUTS = {"A1": "query", "A2": "key", "A3": "value"}
STEPS = ("f", "c", "q", "p1", "p2")
# What a plan has of a decision.
DECIDED = (
    "method", "degree", "samples", "features", "exact_rows", "predicted_error", "reason",
)  # fmt: skip


class Forecast(NamedTuple):
    """Seconds, and bytes at the peak."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class _Checked:
    """A checked call: nothing has been copied or computed yet."""

    arrays: dict[str, Array]
    dtype: np.dtype[Any]
    given: Given
    usual_scale: float

    @property
    def scale(self) -> float:
        """The factor in front of the logits."""
        return self.usual_scale if self.given.scale is None else float(self.given.scale)

    @cached_property
    def options(self) -> _core.Options:
        """What changes how the call runs, as the core takes it."""
        return self.given.control()

    @cached_property
    def input_bytes(self) -> int:
        """What copies of the arrays take."""
        return arrays.total_bytes(self.arrays)

    def copies(self, title: str, needed: int) -> dict[str, Array]:
        """Private copies of the arrays, once there is room for all that is known to be needed."""
        check_fits(title, needed)
        finite, threads = self.given.check_finite, self.given.threads
        return arrays.snapshots(self.arrays, self.dtype, finite=finite, threads=threads)

    def forecast(
        self, decision: _core.Decision, sizes: Sizes, wrt: Iterable[str]
    ) -> _core.Forecast:
        """What a decision is expected to take, besides copies of the arrays."""
        shape, dtype = sizes.of_core(), str(self.dtype)
        return decision.forecast(shape, dtype, list(wrt), self.given.is_causal, self.options)

    def certificates(
        self, solution: _core.Solution, names: Mapping[str, str]
    ) -> dict[str, Certificate]:
        """The certificate of each gradient, from its name in the core to that in the result."""
        steps = dict(zip(STEPS, solution.steps or (), strict=False))
        method, given = solution.decision.method, self.given
        return {
            shown: Certificate.of_core(
                solution.certificates[name], method, given.norm, given.rtol, steps
            )
            for name, shown in names.items()
        }


@dataclass(frozen=True)
class Call(_Checked):
    """A checked call for a problem."""

    sizes: Sizes
    wrt: tuple[str, ...]
    IS_HEADS = False

    @property
    def rows(self) -> int:
        """Query rows."""
        return self.sizes.n

    def expected(self, decision: _core.Decision) -> Forecast:
        """What the call is expected to take: copies, buffers and outputs."""
        own = self.forecast(decision, self.sizes, self.wrt)
        return Forecast(own.seconds, self.input_bytes + own.peak_bytes)

    def problem(self, title: str, decision: _core.Decision | None) -> _core.Problem:
        """The problem in private copies."""
        needed = self.expected(decision).peak_bytes if decision else self.input_bytes
        copies = self.copies(title, needed)
        return _core.Problem(**copies, scale=self.scale, is_causal=self.given.is_causal)

    def foreseen(self) -> _core.Decision:
        """What would run, by a look at some rows."""
        problem = self.problem("plan_loss_gradient", None)
        return _core.foresee(problem, list(self.wrt), self.given.request(), self.options)


@dataclass(frozen=True)
class Heads(_Checked):
    """A checked call for heads of attention."""

    IS_HEADS = True

    @property
    def rows(self) -> int:
        """Query rows of a head."""
        return int(self.arrays["query"].shape[-2])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, and of the gradient that comes in."""
        return (*self.arrays["query"].shape[:-1], self.arrays["value"].shape[-1])

    def expected(self, decision: _core.Decision) -> Forecast:
        """What all heads are expected to take: copies, outputs, and the buffers of one head."""
        width, (m, dv) = self.arrays["query"].shape[-1], self.arrays["value"].shape[-2:]
        sizes = Sizes(self.rows, m, width, width, dv, dv, width, pair=False)
        head = self.forecast(decision, sizes, HEAD_INPUTS)
        outputs = sum(math.prod(self.arrays[name].shape) for name in HEAD_INPUTS.values())
        # Every head's own, and all of them in one.
        own = 2 * outputs * self.dtype.itemsize
        count = math.prod(self.output_shape[:-2])
        # Without a head nothing was decided, and its price is not known.
        seconds = count * head.seconds if count else 0.0
        return Forecast(seconds, self.input_bytes + own + head.peak_bytes)

    def stack(self, copies: Mapping[str, Array], *more: str) -> list[list[Array]]:
        """Query, key, value and ``more`` of each head."""
        names = (*HEAD_INPUTS.values(), *more)
        return [
            [copies[name][index] for name in names] for index in np.ndindex(*self.output_shape[:-2])
        ]

    def foreseen(self) -> _core.Decision:
        """What would run, by a look at some rows of each head; ``dout`` need not be known."""
        copies = self.copies("plan", self.input_bytes)
        copies["dout"] = np.zeros(self.output_shape, self.dtype)
        stack = self.stack(copies, "dout")
        return _core.decide_heads(stack, self.scale, self.given.is_causal, self.given.request())


def gradient(
    call: Call, replayed: Plan | None, again: Callable[..., GradientResult[Any]], start: float
) -> GradientResult[Any]:
    """Loss and gradients; ``again`` is how the plan of the result is executed."""
    request, decision = _settled(call, replayed)
    problem = call.problem("loss_gradient", decision)
    reuse = replayed._reuse if replayed is not None and replayed._reuse is not None else Reuse()
    # The choices behind what was prepared; the core itself knows the numbers it was made from.
    degree = None if replayed is None else replayed.degree
    asked = call.given.to_replay()._replace(threads=None)
    made_from = (call.wrt, call.scale, asked, degree, call.dtype)
    # Bytes that are free matter where it is not decided yet what will run.
    memory = free_bytes(call.input_bytes) if decision is None else None
    solution = _core.solve(
        problem, list(call.wrt), request, None if replayed is None else decision,
        reuse.prepared if reuse.made_from == made_from else None, call.given.control(memory),
    )  # fmt: skip
    if replayed is not None and solution.prepared is not None:
        reuse.made_from, reuse.prepared = made_from, solution.prepared
    result = GradientResult(
        loss=solution.loss,
        gradients={name: solution.gradients[name] for name in call.wrt},
        certificates=call.certificates(solution, dict(zip(call.wrt, call.wrt, strict=True))),
        loss_certificate=Certificate.of_core(
            solution.loss_certificate, solution.decision.method, "abs", None, {}
        ),
        plan=_made(call, solution.decision, again, reuse),
        seconds=time.perf_counter() - start,
    )
    return deliver(result, result.certificates, call.given, str(call.dtype))


def loss(call: Call) -> float:
    """The loss alone."""
    request = call.given.request()
    problem = call.problem("loss", request.settled(heads=False))
    return _core.solve(problem, [], request, None, None, call.options).loss


def plan(call: Call | Heads, again: Callable[..., Any]) -> Plan:
    """What would run, by all that is known before anything big is computed."""
    _, decision = _settled(call, None)
    return _made(call, call.foreseen() if decision is None else decision, again, Reuse())


def pull_back(
    heads: Heads, replayed: Plan | None, again: Callable[..., AttentionGradients[Any]], start: float
) -> AttentionGradients[Any]:
    """Gradients of attention with respect to query, key and value of all heads."""
    request, decision = _settled(heads, replayed)
    needed = heads.input_bytes if decision is None else heads.expected(decision).peak_bytes
    stack = heads.stack(heads.copies("attention_vjp", needed), "dout")
    form = (heads.scale, heads.given.is_causal)
    if decision is None:
        decision = _core.decide_heads(stack, *form, request)
        check_fits("attention_vjp", heads.expected(decision).peak_bytes)
    solution = _core.solve_heads(stack, *form, request, decision, heads.options)
    dq, dk, dv = (
        solution.gradients[name].reshape(heads.arrays[own].shape)
        for name, own in HEAD_INPUTS.items()
    )
    result = AttentionGradients(
        dq=dq,
        dk=dk,
        dv=dv,
        certificates=heads.certificates(solution, HEAD_INPUTS),
        plan=_made(heads, solution.decision, again, None),
        seconds=time.perf_counter() - start,
    )
    return deliver(result, result.certificates, heads.given, str(heads.dtype))


def attention(heads: Heads) -> Array:
    """The output of all heads."""
    shape = heads.output_shape
    own = math.prod(shape) * heads.dtype.itemsize
    stack = heads.stack(heads.copies("attention", heads.input_bytes + 3 * own))
    if not stack:
        return np.empty(shape, heads.dtype)
    return _core.attention(stack, heads.scale, heads.given.is_causal, heads.options).reshape(shape)


def _settled(
    call: Call | Heads, replayed: Plan | None
) -> tuple[_core.Request, _core.Decision | None]:
    """What is asked of the core, and what it is decided to do if no look at the data is needed."""
    request = call.given.request()
    request.check(str(call.dtype))
    if replayed is not None:
        return request, replayed.decision(call.rows)
    return request, request.settled(heads=call.IS_HEADS)


def _made(
    call: Call | Heads, decision: _core.Decision, again: Callable[..., Any], reuse: Reuse | None
) -> Plan:
    """A decision and its cost for the eyes of the caller."""
    expected = call.expected(decision)
    return Plan(
        **{name: getattr(decision, name) for name in DECIDED},
        predicted_seconds=expected.seconds,
        peak_bytes=expected.peak_bytes,
        _call=again,
        _reuse=reuse,
        _asked=call.given.to_replay(),
    )
