"""A call of the paper's problem on its way from checked arguments to a result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from . import _core, arguments, arrays, rates
from .arguments import Control, Tolerance
from .arrays import Problem
from .certificate import Certificate, certify, deliver
from .memory import check_fits
from .methods import (
    METHODS,
    Decision,
    Forecast,
    Outcome,
    Task,
    checked_name,
    choose,
    decided_by_shape,
)
from .plans import Asked, Plan
from .results import GradientResult


class Request(NamedTuple):
    """A checked call: nothing has been copied or computed yet."""

    problem: Problem
    wrt: tuple[str, ...]
    scale: float
    is_causal: bool
    tolerance: Tolerance
    control: Control
    method: str
    degree: int | None
    seed: int | None


@dataclass
class Reuse:
    """What a plan keeps from one execution for the next, and the choices behind it."""

    made_from: tuple[object, ...] = ()
    prepared: Any = field(default=None, repr=False)


def read(
    problem: Problem,
    *,
    wrt: tuple[str, ...],
    scale: object,
    is_causal: object,
    method: object,
    degree: object,
    rng: object,
    tolerance: Tolerance,
    control: Control,
) -> Request:
    """Check what is not an array."""
    name = checked_name(method)
    named_degree = arguments.degree(degree, name, tolerance)
    # Before any number is read, and in the precision of the arrays.
    _core.check_request(str(problem.dtype), tolerance.asking(name, named_degree))
    # With d2 = 0 every logit is 0, whatever the scale.
    default_scale = 1.0 / max(problem.sizes.d2, 1)
    return Request(
        problem=problem,
        wrt=wrt,
        scale=arguments.scale(scale, default_scale),
        is_causal=arguments.flag("is_causal", is_causal),
        tolerance=tolerance,
        control=control,
        method=name,
        degree=named_degree,
        seed=arguments.rng(rng),
    )


def decide(request: Request, *, foresee: bool = False) -> tuple[Decision, Task | None]:
    """What to run, and copies of the arrays where the decision depends on their numbers.

    With ``foresee`` by all that a call knows before it computes moments.
    """
    decided = decided_by_shape(request.method, request.tolerance)
    if decided is not None:
        return decided, None
    task = _task(request, arrays.total_bytes(request.problem.arrays))
    return choose(task, foresee=foresee), task


def evaluate(request: Request, title: str, replayed: Plan | None = None) -> tuple[Outcome, Reuse]:
    """Run a request, or the plan that is replayed on it."""
    reuse = Reuse() if replayed is None or replayed._reuse is None else replayed._reuse
    if replayed is None:
        decision, task = decide(request)
    else:
        decision, task = replayed.decision(request.problem.sizes.n), None
    peak = _forecast(request, decision).peak_bytes
    task = task or _task(request, peak, title)
    check_fits(title, peak)
    method = METHODS[decision.method]
    if replayed is None:
        return method.gradient(task, decision, None), reuse
    made_from = _choices(task, decision)
    prepared = reuse.prepared if reuse.made_from == made_from else None
    outcome = method.gradient(task, decision, prepared)
    if outcome.prepared is not None:
        reuse.made_from, reuse.prepared = made_from, outcome.prepared
    return outcome, reuse


def result(
    request: Request, call: Callable[..., GradientResult], replayed: Plan | None, start: float
) -> GradientResult:
    """Run a request and say what is known about it; ``call`` is how its plan is executed."""
    outcome, reuse = evaluate(request, "loss_gradient", replayed)
    certificates = _certificates(request, outcome)
    cost = _forecast(request, outcome.decision)
    made = _plan(request, outcome.decision, cost, call, reuse)
    seconds = time.perf_counter() - start
    if replayed is None:
        # What was prepared before makes a call cheaper than its forecast.
        rates.observe(made.method, *_machine(request), seconds, cost.seconds)
    made_result = GradientResult(
        loss=outcome.loss,
        gradients=outcome.gradients,
        certificates=certificates,
        loss_certificate=_loss_certificate(outcome, request.tolerance),
        plan=made,
        seconds=seconds,
    )
    return deliver(made_result, request.tolerance, str(request.problem.dtype), request.method)


def plan(request: Request, call: Callable[..., GradientResult]) -> Plan:
    """What would run; the machine's rate is looked at."""
    decision, _ = decide(request, foresee=True)
    cost = _forecast(request, decision)
    return _plan(request, decision, cost, call, Reuse(), measure=True)


def _plan(
    request: Request,
    decision: Decision,
    cost: Forecast,
    call: Callable[..., GradientResult],
    reuse: Reuse,
    *,
    measure: bool = False,
) -> Plan:
    """A decision and its cost for the eyes of the caller."""
    speed = rates.factor(decision.method, *_machine(request), measure=measure)
    return Plan(
        method=decision.method,
        degree=decision.degree,
        samples=decision.samples,
        exact_rows=decision.exact_rows,
        features=decision.features,
        predicted_error=decision.predicted_error,
        predicted_seconds=speed * cost.seconds,
        peak_bytes=cost.peak_bytes,
        reason=decision.reason,
        _call=call,
        _reuse=reuse,
        _asked=Asked(
            method=request.method,
            degree=request.degree,
            rng=request.seed,
            **vars(request.tolerance),
        ),
    )


def _machine(request: Request) -> tuple[int, int | None]:
    """What a rate depends on besides the method: bytes of a number, and threads."""
    return request.problem.dtype.itemsize, request.control.threads


def _forecast(request: Request, decision: Decision) -> Forecast:
    """What a decision costs, the copies of the inputs included."""
    sizes, itemsize = request.problem.sizes, request.problem.dtype.itemsize
    threads = request.control.threads
    cost = METHODS[decision.method].forecast(
        sizes, request.wrt, itemsize, request.is_causal, threads, decision
    )
    copies = arrays.total_bytes(request.problem.arrays)
    return cost._replace(peak_bytes=cost.peak_bytes + copies)


def _task(request: Request, needed: int, title: str = "loss_gradient") -> Task:
    """Private copies, once there is room for them."""
    check_fits(title, needed)
    problem, control = request.problem, request.control
    finite, threads = control.check_finite, control.threads
    copies = arrays.snapshots(problem.arrays, problem.dtype, finite=finite, threads=threads)
    return Task(
        arrays=copies,
        sizes=problem.sizes,
        wrt=request.wrt,
        scale=request.scale,
        is_causal=request.is_causal,
        tolerance=request.tolerance,
        named=None if request.method == "auto" else request.method,
        degree=request.degree,
        seed=request.seed,
        control=control,
    )


def _choices(task: Task, decision: Decision) -> tuple[object, ...]:
    """The choices behind what was prepared; the core itself knows the numbers it was made from."""
    dtype = task.arrays["A1"].dtype.name
    return task.wrt, task.scale, task.is_causal, task.tolerance, task.named, decision.degree, dtype


def _certificates(request: Request, outcome: Outcome) -> dict[str, Certificate]:
    tolerance, name = request.tolerance, outcome.decision.method
    return {
        wrt: certify(
            name,
            outcome.errors[wrt],
            arrays.norm(gradient, tolerance.norm),
            tolerance.norm,
            tolerance,
            outcome.steps,
        )
        for wrt, gradient in outcome.gradients.items()
    }


def _loss_certificate(outcome: Outcome, tolerance: Tolerance) -> Certificate:
    return certify(
        outcome.decision.method,
        outcome.loss_error,
        abs(outcome.loss),
        "abs",
        replace(tolerance, rtol=None, atol=0.0),
    )
