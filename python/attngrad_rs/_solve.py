"""The one pipeline from checked arguments to a result, for problems and for heads of attention.

Nothing is decided here: memory is asked for, arrays are copied, the core is called, and what it
found is wrapped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from . import _core
from ._inputs import arrays
from ._inputs.arrays import Array
from ._inputs.memory import check_fits, free_bytes
from ._inputs.options import Options
from .errors import NonFiniteError
from .plans import DECIDED, Plan, Reuse
from .results import AttentionGradients, Certificate, GradientResult, deliver

# Inputs that a vector-Jacobian product is with respect to: query, key and value, by their names in
# the core.
HEAD_INPUTS = {"A1": "query", "A2": "key", "A3": "value"}
# Names of the dtypes, which NumPy takes microseconds to spell.
NAMES = {dtype: dtype.name for dtype in arrays.FLOATS}


@dataclass(frozen=True)
class Call:
    """A checked call for a problem: nothing has been copied or computed yet."""

    arrays: dict[str, Array]
    dtype: np.dtype[Any]
    shape: _core.Shape
    given: Options
    wrt: tuple[str, ...]

    @property
    def form(self) -> tuple[float | None, bool]:
        """The factor of the logits, None for the usual one, and whether there is a causal mask."""
        return self.given.scale, self.given.is_causal

    @cached_property
    def options(self) -> _core.Options:
        """Options of the core: how the call runs."""
        return self.given.control()

    @cached_property
    def input_bytes(self) -> int:
        """Bytes of the copies of the arrays."""
        return arrays.total_bytes(self.arrays)

    def forecast(self, decision: _core.Decision) -> _core.Forecast:
        """The cost of a decision for one problem, or head, beside copies of the arrays."""
        causal, dtype = self.given.is_causal, NAMES[self.dtype]
        return decision.forecast(self.shape, dtype, list(self.wrt), causal, self.options)

    def expected(self, decision: _core.Decision) -> tuple[float, int]:
        """Seconds that a decision is expected to take, and bytes at the peak: with the copies."""
        made = self.forecast(decision)
        return made.seconds, self.input_bytes + made.peak_bytes

    def copies(self, title: str, known: _core.Decision | None, more: int = 0) -> dict[str, Array]:
        """Private copies of the arrays, once there is room for all that is known to be needed."""
        needed = self.input_bytes if known is None else self.expected(known)[1]
        check_fits(title, needed + more)
        finite, threads = self.given.check_finite, self.given.threads
        return arrays.snapshots(self.arrays, self.dtype, finite=finite, threads=threads)

    def problem(self, title: str, decision: _core.Decision | None) -> _core.Problem:
        """The problem in private copies."""
        scale, is_causal = self.form
        return _core.Problem(**self.copies(title, decision), scale=scale, is_causal=is_causal)

    def foreseen(self, request: _core.Request) -> _core.Decision:
        """The decision after a look at some rows."""
        problem = self.problem("plan_loss_gradient", None)
        return _core.foresee(problem, list(self.wrt), request, self.options)


class Heads(Call):
    """A checked call for heads of attention; the shape is that of one."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, and of the gradient that comes in."""
        return (*self.arrays["query"].shape[:-1], self.arrays["value"].shape[-1])

    @property
    def count(self) -> int:
        """How many heads the query has."""
        return math.prod(self.output_shape[:-2])

    @property
    def at_once(self) -> int:
        """How many heads are computed at once, at most."""
        return min(self.given.threads or _core.default_threads(), max(self.count, 1))

    @property
    def forward_bytes(self) -> int:
        """Bytes of the forward pass: outputs, and each thread's query, key and value."""
        shapes = [self.arrays[name].shape[-2:] for name in HEAD_INPUTS.values()]
        own = 2 * self.at_once * sum(map(math.prod, shapes))
        return (own + 2 * math.prod(self.output_shape)) * self.dtype.itemsize

    def expected(self, decision: _core.Decision) -> tuple[float, int]:
        """The same for all heads, of which each thread has one at a time; nothing is copied."""
        made = self.forecast(decision)
        outputs = sum(self.arrays[name].size for name in HEAD_INPUTS.values())
        if self.given.enable_gqa:
            # Gradients of the keys for each head of the query, before they are summed.
            sides = (self.arrays[name].shape[-2:] for name in ("key", "value"))
            outputs += self.count * sum(map(math.prod, sides))
        # Without a head nothing was decided, and its price is not known.
        seconds = self.count * made.seconds if self.count else 0.0
        return seconds, self.at_once * made.peak_bytes + 2 * outputs * self.dtype.itemsize

    def stack(self, **more: Array) -> _core.Stack:
        """The heads, and what comes with them, where they are."""
        scale, is_causal = self.form
        return _core.Stack(
            **arrays.in_place(self.arrays | more, self.dtype), scale=scale, is_causal=is_causal,
            enable_gqa=self.given.enable_gqa, check_finite=self.given.check_finite,
        )  # fmt: skip

    def foreseen(self, request: _core.Request) -> _core.Decision:
        """The decision after a look at some rows of each head; ``dout`` need not be known."""
        if self.given.check_finite and (error := arrays.first_of(self.arrays)) is not None:
            raise error
        known = self.arrays.get("dout")
        dout = np.zeros(self.output_shape, self.dtype) if known is None else known
        return _core.decide_heads(self.stack(dout=dout), request)

    def named(self, error: NonFiniteError) -> NonFiniteError:
        """The error for a number that is none, of which the core knows the place in a head."""
        found = arrays.first_of(self.arrays) if self.given.check_finite else None
        return found or error


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
    made_from = (call.wrt, asked, degree, call.dtype)
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
        certificates={name: Certificate.of_core(solution.certificates[name]) for name in call.wrt},
        loss_certificate=Certificate.of_core(solution.loss_certificate),
        plan=_made(call, solution.decision, again, reuse),
        seconds=time.perf_counter() - start,
        B=solution.bound,
    )
    return deliver(result, call.given, str(call.dtype))


def loss(call: Call) -> float:
    """The loss alone."""
    request = call.given.request()
    problem = call.problem("loss", request.settled(heads=False))
    return _core.solve(problem, [], request, None, None, call.options).loss


def plan(call: Call, again: Callable[..., Any]) -> Plan:
    """The plan, from all that is known before anything big is computed."""
    request, decision = _settled(call, None)
    return _made(call, call.foreseen(request) if decision is None else decision, again, Reuse())


def pull_back(
    heads: Heads, replayed: Plan | None, again: Callable[..., AttentionGradients[Any]], start: float
) -> AttentionGradients[Any]:
    """Gradients of attention with respect to query, key and value of all heads."""
    request, decision = _settled(heads, replayed)
    decision = heads.foreseen(request) if decision is None else decision
    expected = heads.expected(decision)
    check_fits("attention_vjp", expected[1])
    try:
        solution = _core.solve_heads(heads.stack(), request, decision, heads.options)
    except NonFiniteError as error:
        raise heads.named(error) from None
    gradients, certificates = {}, {}
    for name, own in HEAD_INPUTS.items():
        gradients[own] = solution.gradients[name].reshape(heads.arrays[own].shape)
        certificates[own] = Certificate.of_core(solution.certificates[name])
    result = AttentionGradients(
        *gradients.values(),
        certificates=certificates,
        plan=_made(heads, solution.decision, again, None, expected),
        seconds=time.perf_counter() - start,
    )
    return deliver(result, heads.given, NAMES[heads.dtype])


def attention(heads: Heads, return_lse: bool) -> tuple[Array, Array | None]:
    """The output of all heads, and the logarithm of the normaliser where it is wanted."""
    shape = heads.output_shape
    check_fits("attention", heads.forward_bytes)
    try:
        found = _core.attention(heads.stack(), return_lse, heads.options)
    except NonFiniteError as error:
        raise heads.named(error) from None
    lse = None if found.lse is None else found.lse.reshape(shape[:-1])
    return found.output.reshape(shape), lse


def _settled(call: Call, replayed: Plan | None) -> tuple[_core.Request, _core.Decision | None]:
    """The request to the core, and the decision if no look at the data is needed for it."""
    request = call.given.request()
    request.check(NAMES[call.dtype])
    if replayed is not None:
        return request, replayed.decision(call.shape.n)
    return request, request.settled(heads=isinstance(call, Heads))


def _made(
    call: Call,
    decision: _core.Decision,
    again: Callable[..., Any],
    reuse: Reuse | None,
    expected: tuple[float, int] | None = None,
) -> Plan:
    """A decision and its cost for the eyes of the caller."""
    seconds, peak_bytes = expected or call.expected(decision)
    return Plan(
        **{name: getattr(decision, name) for name in DECIDED},
        predicted_seconds=seconds,
        peak_bytes=peak_bytes,
        _call=again,
        _reuse=reuse,
        _asked=call.given.to_replay(),
    )
