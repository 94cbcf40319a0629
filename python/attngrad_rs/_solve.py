"""The one pipeline from checked arguments to a result, for problems and for heads of attention.

Nothing is decided here: memory is asked for, arrays are copied, the core is called, and what it
found is wrapped.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from . import _core
from ._inputs import arrays
from ._inputs.arrays import Array
from ._inputs.attention_masks import read_masks
from ._inputs.border import Border
from ._inputs.memory import check_fits, free_bytes
from ._inputs.options import HeadOptions, Options
from ._inputs.targets import Targets
from .errors import NonFiniteError, OptionError, ShapeError
from .plans import DECIDED, Plan, Reuse
from .results import AttentionGradients, AttentionResult, Certificate, GradientResult, deliver

# Names of the dtypes, which NumPy takes microseconds to spell.
NAMES = {dtype: dtype.name for dtype in arrays.FLOATS}


@dataclass(frozen=True)
class Call:
    """A checked call for a problem: nothing has been copied or computed yet."""

    arrays: dict[str, Array]
    dtype: np.dtype[Any]
    border: Border | None
    shape: _core.Shape
    given: Options
    wrt: tuple[str, ...]
    out: object = None
    """Where gradients are written to, as the caller has it."""

    def targets(self) -> Targets | None:
        """Where gradients are written to, if that is given."""
        if self.out is None:
            return None
        shapes = {name: self.arrays["A1" if name == "A" else name].shape for name in self.wrt}
        return Targets(self.out, shapes, self.dtype, self.border)

    @cached_property
    def options(self) -> _core.Options:
        """Options of the core: how the call runs."""
        return self.given.control()

    @cached_property
    def input_bytes(self) -> int:
        """Bytes of the copies of the arrays."""
        return arrays.total_bytes(self.arrays)

    def expected(self, decision: _core.Decision) -> tuple[float, int]:
        """Seconds that a decision is expected to take, and bytes at the peak: with the copies."""
        causal, dtype = self.given.is_causal, NAMES[self.dtype]
        made = decision.forecast(self.shape, dtype, list(self.wrt), causal, self.options)
        return made.seconds, self.input_bytes + made.peak_bytes

    def problem(self, title: str, decision: _core.Decision | None) -> _core.Problem:
        """The problem in private copies, once there is room for all that is known to be needed."""
        check_fits(title, self.input_bytes if decision is None else self.expected(decision)[1])
        finite, threads = self.given.check_finite, self.given.threads
        copies = arrays.snapshots(self.arrays, self.dtype, finite=finite, threads=threads)
        return _core.Problem(**copies, scale=self.given.scale, is_causal=self.given.is_causal)

    def settled(self, request: _core.Request, replayed: Plan | None) -> _core.Decision | None:
        """The decision, if no look at the data is needed for it."""
        request.check(NAMES[self.dtype])
        return request.settled() if replayed is None else replayed.decision()

    def foreseen(self, request: _core.Request) -> _core.Decision:
        """The decision after a look at some rows."""
        problem = self.problem("plan_loss_gradient", None)
        return _core.foresee(problem, list(self.wrt), request, self.options)


class Heads:
    """A checked call for heads of attention, which are read where they are."""

    def __init__(self, named: Mapping[str, object], given: Options) -> None:
        self.given = given.checked()
        read = arrays.read_arrays(named, allow_half=self.given.allow_half)
        self.arrays, self.dtype, self.border = read
        self.options = self.given.control()
        self.half = None if self.border is None else self.border.half
        if self.half is not None:
            self.arrays = arrays.widened_arrays(self.arrays, self.half, self.options)
        self.masks = read_masks(self.given, self.dtype, self.border)
        self.stack = self._stack()

    @classmethod
    def known(cls, named: dict[str, Array], given: Options) -> Self:
        """The same for arrays of one dtype and checked options, none of which is a mask."""
        made = cls.__new__(cls)
        made.given, made.options, made.masks = given, given.control(), None
        made.border, made.half = None, None
        made.arrays, made.dtype = named, named["query"].dtype
        made.stack = made._stack()
        return made

    def _stack(self, **more: Array) -> _core.Stack:
        return self._stack_of(self.arrays | more)

    def _stack_of(self, named: Mapping[str, Array]) -> _core.Stack:
        given = self.given
        return _core.Stack(
            named, scale=given.scale, is_causal=given.is_causal, masks=self.masks,
            enable_gqa=given.enable_gqa, check_finite=given.check_finite, half=self.half,
        )  # fmt: skip

    def targets(self, out: object, *names: str) -> Targets | None:
        """Where results are written to, if that is given: of these names, which are those of inputs
        for results of their shape.
        """
        if out is None:
            return None
        rows, value = self.arrays["query"].shape[:-1], self.arrays["value"].shape
        known = {name: one.shape for name, one in self.arrays.items()}
        known |= dict.fromkeys(("output", "tangent"), (*rows, value[-1])) | {"lse": rows}
        return Targets(out, {name: known[name] for name in names}, self.dtype, self.border)

    def expected(self, decision: _core.Decision) -> tuple[float, int]:
        """Seconds that a decision is expected to take, and bytes at the peak."""
        return self.stack.forecast(decision, self.options)

    def settled(self, request: _core.Request, replayed: Plan | None) -> _core.Decision | None:
        """The decision, if no look at the data is needed for it."""
        decision = self.stack.settled(request)
        return decision if replayed is None else replayed.decision()

    def foreseen(self, request: _core.Request) -> _core.Decision:
        """The decision after a look at some rows of each head; ``dout`` need not be known."""
        if self.given.check_finite and (error := arrays.first_of(self.arrays)) is not None:
            raise error
        if "dout" in self.arrays:
            return _core.decide_heads(self.stack, request)
        query, value = self.arrays["query"], self.arrays["value"]
        dout = np.zeros((*query.shape[:-1], value.shape[-1]), self.dtype)
        return _core.decide_heads(self._stack(dout=dout), request)

    def named(self, error: NonFiniteError) -> NonFiniteError:
        """The error for a number that is none, of which the core knows the place in a head."""
        # A mask may hide the first of them.
        is_looked_for = self.given.check_finite and self.masks is None
        found = arrays.first_of(self.every()) if is_looked_for else None
        return found or error

    def every(self) -> dict[str, Array]:
        """All arrays of the call by name."""
        return self.arrays


def saved(output: object, lse: object) -> dict[str, object]:
    """The results of the forward pass that a call was given, by name: both or none."""
    if (output is None) is not (lse is None):
        missing = "output" if output is None else "lse"
        raise OptionError(f"{missing}: found None; expected output and lse, or neither of them")
    return {} if output is None else {"output": output, "lse": lse}


class MovedHeads(Heads):
    """A checked call for heads of attention with a direction: arrays of their shapes, in order."""

    def __init__(
        self, named: Mapping[str, object], along: Mapping[str, object], given: Options
    ) -> None:
        # All arrays have one dtype; those of the direction have names that mean nothing to a stack.
        super().__init__({**named, **along}, given)
        self.along = {name: self.arrays.pop(name) for name in along}
        moved: dict[str, Array] = {}
        for (of, array), (name, one) in zip(self.arrays.items(), self.along.items(), strict=False):
            if one.shape != array.shape:
                raise ShapeError(
                    f"{name}: found shape {one.shape}; {of} has shape {array.shape}, "
                    f"so {name} needs the same"
                )
            moved[of] = one
        self.direction = self._stack_of(moved)

    def every(self) -> dict[str, Array]:
        return self.arrays | self.along


def gradient(
    call: Call, replayed: Plan | None, again: Callable[..., GradientResult[Any]], start: float
) -> GradientResult[Any]:
    """Loss and gradients; ``again`` is how the plan of the result is executed."""
    request, targets = call.given.request(), call.targets()
    decision = call.settled(request, replayed)
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
        half=None if call.border is None else call.border.half,
    )  # fmt: skip
    if replayed is not None and solution.prepared is not None:
        reuse.made_from, reuse.prepared = made_from, solution.prepared
    found = tuple(solution.gradients[name] for name in call.wrt)
    result = GradientResult(
        loss=solution.loss,
        gradients=dict(zip(call.wrt, returned(found, call.border, targets), strict=True)),
        certificates=Certificate.of_all(solution),
        loss_certificate=Certificate.of_core(solution.loss_certificate),
        plan=_made(call.given, solution.decision, call.expected(solution.decision), again, reuse),
        seconds=time.perf_counter() - start,
        B=solution.bound,
    )
    return deliver(result, call.given, _precision(call))


def loss(call: Call) -> float:
    """The loss alone."""
    request = call.given.request()
    problem = call.problem("loss", request.settled())
    return _core.solve(problem, [], request, None, None, call.options).loss


def plan(call: Call | Heads, again: Callable[..., Any]) -> Plan:
    """The plan, from all that is known before anything big is computed."""
    request = call.given.request()
    decision = call.settled(request, None) or call.foreseen(request)
    return _made(call.given, decision, call.expected(decision), again, Reuse())


def pull_back(
    heads: Heads,
    replayed: Plan | None,
    function: Callable[..., AttentionGradients[Any]],
    start: float,
    out: object = None,
) -> AttentionGradients[Any]:
    """Gradients of attention with respect to query, key and value of all heads, by ``function``."""
    given, targets = heads.given, heads.targets(out, "query", "key", "value")
    request = given.request()
    decision = heads.settled(request, replayed) or heads.foreseen(request)
    expected = heads.expected(decision)
    check_fits("attention_vjp", expected[1])
    try:
        solution = _core.solve_heads(heads.stack, request, decision, heads.options)
    except NonFiniteError as error:
        raise heads.named(error) from None

    def made() -> Plan:
        again = functools.partial(function, **given.to_replay().named(HeadOptions))
        return _made(given, solution.decision, expected, again, None)

    found = returned(tuple(solution.gradients.values()), heads.border, targets)
    result = AttentionGradients.of_core(solution, found, made, time.perf_counter() - start)
    return deliver(result, given, _precision(heads))


def attention(heads: Heads, return_lse: bool, out: object = None) -> Any:
    """The output of all heads, with the logarithm of the normaliser where it is wanted."""
    found = _attended(heads, return_lse, out, None)[0]
    return found if return_lse else found[0]


def certified_attention(
    heads: Heads, return_lse: bool, start: float, out: object = None
) -> AttentionResult[Any]:
    """The same with a certificate, by the method that the options lead to."""
    request = heads.given.request()
    # Refuses what no data could meet before anything is read.
    heads.stack.settled(request)
    (output, *lse), found = _attended(heads, return_lse, out, request)
    assert found is not None
    certificate, decision, seconds, peak_bytes = found
    result = AttentionResult(
        output=output,
        lse=lse[0] if return_lse else None,
        certificates={"output": Certificate.of_core(certificate)},
        plan=_made(heads.given, decision, (seconds, peak_bytes), None, None),
        seconds=time.perf_counter() - start,
    )
    return deliver(result, heads.given, _precision(heads))


def _attended(
    heads: Heads, return_lse: bool, out: object, request: _core.Request | None
) -> tuple[tuple[Any, ...], tuple[_core.Certificate, _core.Decision, float, int] | None]:
    names = ("output", "lse") if return_lse else ("output",)
    targets = heads.targets(out, *names)
    check_fits("attention", heads.stack.forward_bytes(heads.options))
    try:
        *found, certified = _core.attention(heads.stack, return_lse, request, heads.options)
    except NonFiniteError as error:
        raise heads.named(error) from None
    return returned(tuple(found[: len(names)]), heads.border, targets), certified


def push_forward(heads: MovedHeads, saved: Any, out: object = None) -> tuple[Any, Any]:
    """The output of all heads, ``saved`` where that is given, and its change in the direction."""
    names = ("output", "tangent") if saved is None else ("tangent",)
    targets = heads.targets(out, *names)
    check_fits("attention_jvp", heads.stack.second_bytes(heads.options))
    try:
        output, tangent = _core.attention_jvp(heads.stack, heads.direction, heads.options)
    except NonFiniteError as error:
        raise heads.named(error) from None
    made = (tangent,) if output is None else (output, tangent)
    found = returned(made, heads.border, targets)
    # A list is returned as the array that was made of it.
    kept = heads.arrays.get("output") if heads.border is None else saved
    return kept if output is None else found[0], found[-1]


def pull_back_twice(heads: MovedHeads, out: object = None) -> tuple[Any, Any, Any, Any]:
    """The Hessian of <dout, output> in its four arguments times the direction."""
    targets = heads.targets(out, "query", "key", "value", "dout")
    check_fits("attention_hvp", heads.stack.second_bytes(heads.options))
    try:
        found = _core.attention_hvp(heads.stack, heads.direction, heads.options)
    except NonFiniteError as error:
        raise heads.named(error) from None
    query, key, value, dout = returned(tuple(found), heads.border, targets)
    return query, key, value, dout


def returned(
    found: tuple[Any, ...], border: Border | None, targets: Targets | None
) -> tuple[Any, ...]:
    """Results of the core as the caller has arrays, or written where they are wanted."""
    if targets is not None:
        return tuple(targets.filled(found))
    return found if border is None else tuple(border.out(one) for one in found)


def _precision(call: Call | Heads) -> str:
    """The name of the dtype of results."""
    return (call.border and call.border.half) or NAMES[call.dtype]


def _made(
    given: Options,
    decision: _core.Decision,
    expected: tuple[float, int],
    again: Callable[..., Any] | None,
    reuse: Reuse | None,
) -> Plan:
    """A decision, with its seconds and bytes, for the eyes of the caller."""
    return Plan(
        **{name: getattr(decision, name) for name in DECIDED},
        predicted_seconds=expected[0],
        peak_bytes=expected[1],
        _call=again,
        _reuse=reuse,
        _asked=given.to_replay(),
    )
