"""Attention under the names and shapes that torch uses: output, and its vector-Jacobian product.

(The name of the module is short for scaled dot-product attention.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from . import _core, all_heads, arguments, arrays, rates
from .arguments import Control, Tolerance
from .arrays import Array
from .certificate import deliver
from .errors import DeadlineError
from .memory import check_fits
from .methods import (
    AUTO,
    EXACT,
    METHODS,
    Decision,
    HeadTask,
    Outcome,
    checked_name,
    decided_by_shape,
)
from .methods.base import VJP_WRT, core_options, head_sizes
from .plans import Plan
from .results import AttentionGradients

__all__ = ["attention", "attention_vjp", "plan"]

Progress = Callable[[float], object]
Index = tuple[int, ...]
INPUTS = tuple(VJP_WRT.values())


def attention(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
    check_finite: bool = True,
) -> Array:
    """Softmax attention, softmax(scale · query keyᵀ) value.

    Parameters
    ----------
    query : array_like, (..., L, E)
        All arrays are float32 or all float64, of any layout and byte order.
    key : array_like, (..., S, E)
        The leading dimensions of all arrays are equal.
    value : array_like, (..., S, Ev)
        Ev may differ from E.
    is_causal : bool
        Query j sees the keys 0 ... j only (aligned at the top left, also where L ≠ S).
    scale : float, optional
        By default 1/√E.
    threads, progress, timeout, check_finite
        As in ``loss_gradient``.

    Returns
    -------
    ndarray, (..., L, Ev)
        Of the inputs' dtype in native byte order; zeros where S = 0.

    Raises
    ------
    AttnGradError
        As ``loss_gradient``; the message names the argument.

    Notes
    -----
    Source: docs/math.md, section on attention. Cost: 2 L S (E + Ev) operations for each head, half
    if causal; memory O((L + S)(E + Ev)) beside the inputs.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> q = np.zeros((2, 3, 4))
    >>> v = np.arange(6.0).reshape(2, 3, 1)
    >>> ag.attention(q, q, v, is_causal=True)[0].ravel()
    array([0. , 0.5, 1. ])
    """
    control = arguments.control(threads, progress, timeout, check_finite)
    causal = arguments.flag("is_causal", is_causal)
    given, dtype = arrays.read_heads({"query": query, "key": key, "value": value})
    factor = arguments.scale(scale, _default_scale(given))
    shape = (*given["query"].shape[:-1], given["value"].shape[-1])
    own_bytes = math.prod(shape) * dtype.itemsize
    check_fits("attention", arrays.total_bytes(given) + 2 * own_bytes)
    finite, threads = control.check_finite, control.threads
    copies = arrays.snapshots(given, dtype, finite=finite, threads=threads)
    output = np.empty(shape, dtype)
    for index, share in _heads(shape[:-2], control):
        output[index] = _core.attention(
            [copies[name][index] for name in INPUTS], (factor, causal), core_options(share)
        )
    return output


def attention_vjp(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    dout: npt.ArrayLike,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    norm: str = "fro",
    method: str = "auto",
    degree: int | None = None,
    certificate: str = "any",
    threads: int | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
    check_finite: bool = True,
) -> AttentionGradients:
    """Gradients of attention: dq, dk, dv for an incoming gradient ``dout`` of the output.

    Parameters
    ----------
    query, key, value : array_like, (..., L, E), (..., S, E), (..., S, Ev)
        As in ``attention``.
    dout : array_like, (..., L, Ev)
        Gradient of a scalar by the output of ``attention``.
    is_causal, scale
        As in ``attention``.
    rtol, atol, norm, certificate, threads, progress, timeout, check_finite
        As in ``loss_gradient``; the tolerance is for dq, dk and dv each, over all heads together.
    method : {"auto", "exact", "polynomial"}
        "auto" is exact for every tolerance: dk and dv are certified by nothing cheaper.
        "polynomial" puts a polynomial in the place of exp, near-linear in L and S, for small
        logits; all heads are looked at before its degree is chosen, and a head with too many rows
        beyond it is computed exactly.
    degree : int, optional
        As in ``loss_gradient``. With ``rtol=None`` each certificate is the rigorous bound that
        comes with the degree, infinite where it must be, as always with ``is_causal``.

    Returns
    -------
    AttentionGradients
        Unpacks as three arrays shaped like query, key and value; ``.certificate``,
        ``.certificates``, ``.plan``.

    Raises
    ------
    AttnGradError
        As ``loss_gradient``; the message names the argument.

    Notes
    -----
    Source: docs/math.md, section on the vector-Jacobian product. Cost: 12 L S E operations for each
    head (E = Ev), half if causal; memory O((L + S)(E + Ev)) beside the inputs. Polynomial, section
    on the moment form: 4 (L + S) N (Ev + 1) with N = C(E + g + 1, g + 1) features for degree g, and
    memory O(N Ev) more. The certificate of several heads is as weak as the weakest of theirs.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, dout = (rng.standard_normal((2, 5, 3)) for _ in range(4))
    >>> dq, dk, dv = ag.attention_vjp(q, k, v, dout)
    >>> bool(abs(dk.sum(axis=1)).max() < 1e-12)
    True
    >>> near = ag.attention_vjp(q / 10, k / 10, v, dout, method="polynomial", degree=2)
    >>> near.certificate.kind, near.certificate.success
    ('rigorous', None)
    """
    start = time.perf_counter()
    tolerance = arguments.tolerance(rtol, atol, norm, certificate)
    control = arguments.control(threads, progress, timeout, check_finite)
    causal = arguments.flag("is_causal", is_causal)
    decision, named_degree = _decided(method, degree, tolerance)
    given, dtype = arrays.read_heads({"query": query, "key": key, "value": value, "dout": dout})
    _core.check_request(str(dtype), tolerance.asking(method, named_degree))
    factor = arguments.scale(scale, _default_scale(given))
    lead = given["query"].shape[:-2]
    task = _tasks(factor, causal, tolerance, named_degree)
    forecast = _forecast(given, dtype.itemsize, causal, control.threads)
    check_fits("attention_vjp", forecast(decision).peak_bytes)
    finite, threads = control.check_finite, control.threads
    copies = arrays.snapshots(given, dtype, finite=finite, threads=threads)
    if decision.method != EXACT.name and math.prod(lead):
        decision = all_heads.largest(
            METHODS[decision.method].propose_vjp(
                task({name: copy[index] for name, copy in copies.items()}, control)
            )
            for index in np.ndindex(*lead)
        )
        check_fits("attention_vjp", forecast(decision).peak_bytes)
    gradients = {name: np.empty(given[name].shape, dtype) for name in INPUTS}
    # What is left of an outcome once its arrays are in their place.
    outcomes: list[Outcome] = []
    for index, share in _heads(lead, control):
        parts = {name: copy[index] for name, copy in copies.items()}
        outcome = METHODS[decision.method].vjp(task(parts, share), decision)
        for name in INPUTS:
            gradients[name][index] = outcome.gradients[name]
        outcomes.append(replace(outcome, gradients={}, prepared=None))
    plan = forecast(all_heads.together(decision, [outcome.decision for outcome in outcomes]))
    certificates = all_heads.certificates(plan.method, gradients, outcomes, tolerance)
    machine = dtype.itemsize, control.threads
    speed = rates.factor(plan.method, *machine, measure=False)
    seconds = time.perf_counter() - start
    rates.observe(plan.method, *machine, seconds, plan.predicted_seconds)
    result = AttentionGradients(
        dq=gradients["query"],
        dk=gradients["key"],
        dv=gradients["value"],
        certificates=certificates,
        plan=replace(plan, predicted_seconds=speed * plan.predicted_seconds),
        seconds=seconds,
    )
    return deliver(result, tolerance, str(dtype), method)


def plan(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    norm: str = "fro",
    method: str = "auto",
    degree: int | None = None,
    certificate: str = "any",
    threads: int | None = None,
) -> Plan:
    """What ``attention_vjp`` would run for these shapes; computes nothing big.

    Parameters
    ----------
    query, key, value : array_like, (..., L, E), (..., S, E), (..., S, Ev)
        As in ``attention``; only their shapes and dtype are looked at, for the polynomial method
        some rows of every head as well.
    is_causal, scale, rtol, atol, norm, method, degree, certificate, threads
        As in ``attention_vjp``.

    Returns
    -------
    Plan
        ``.explain()`` says it in words.

    Raises
    ------
    AttnGradError
        As ``attention_vjp``.

    Notes
    -----
    Cost: O(1), for the polynomial method a copy of one head at a time; the first plans measure the
    machine's rate, which takes at most 50 ms each.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> q = np.zeros((2, 100, 8))
    >>> ag.plan(q, q, q, rtol=1e-3).method
    'exact'
    """
    tolerance = arguments.tolerance(rtol, atol, norm, certificate)
    causal = arguments.flag("is_causal", is_causal)
    workers = arguments.threads(threads)
    decision, named_degree = _decided(method, degree, tolerance)
    given, dtype = arrays.read_heads({"query": query, "key": key, "value": value})
    _core.check_request(str(dtype), tolerance.asking(method, named_degree))
    factor = arguments.scale(scale, _default_scale(given))
    lead = given["query"].shape[:-2]
    if decision.method != EXACT.name and math.prod(lead):
        task = _tasks(factor, causal, tolerance, named_degree)
        control = Control(workers, None, None, check_finite=True)

        def proposed(index: Index) -> Decision:
            head = {name: array[index] for name, array in given.items()}
            check_fits("plan", arrays.total_bytes(head))
            parts = arrays.snapshots(head, dtype, finite=True, threads=workers)
            parts["dout"] = np.zeros((len(parts["query"]), parts["value"].shape[1]), dtype)
            return METHODS[decision.method].propose_vjp(task(parts, control))

        chosen = all_heads.largest(proposed(index) for index in np.ndindex(*lead))
    else:
        chosen = decision
    made = _forecast(given, dtype.itemsize, causal, workers)(chosen)
    speed = rates.factor(chosen.method, dtype.itemsize, workers, measure=True)
    return replace(made, predicted_seconds=speed * made.predicted_seconds)


def _forecast(
    given: Mapping[str, Array], itemsize: int, is_causal: bool, threads: int | None
) -> Callable[[Decision], Plan]:
    """From what one head runs to cost and memory of all; copies of the inputs and outputs count."""

    def made(decision: Decision) -> Plan:
        forecast = METHODS[decision.method].forecast
        sizes = head_sizes(given["query"], given["value"])
        cost = forecast(sizes, tuple(VJP_WRT), itemsize, is_causal, threads, decision)
        outputs = sum(math.prod(given[name].shape) for name in INPUTS) * itemsize
        heads = math.prod(given["query"].shape[:-2])
        return Plan(
            decision.method,
            degree=decision.degree,
            samples=decision.samples,
            features=decision.features,
            exact_rows=decision.exact_rows,
            # Without a head nothing was decided, and its price is not known.
            predicted_seconds=heads * cost.seconds if heads else 0.0,
            predicted_error=decision.predicted_error,
            peak_bytes=arrays.total_bytes(given) + outputs + cost.peak_bytes,
            reason=decision.reason,
            _of="attention_vjp",
        )

    return made


def _decided(name: object, degree: object, tolerance: Tolerance) -> tuple[Decision, int | None]:
    """What shapes and names alone decide, and the degree that was named."""
    checked = checked_name(name)
    named = arguments.degree(degree, checked, tolerance)
    decision = decided_by_shape(checked, tolerance)
    if decision is None and checked == AUTO:
        decision = Decision(EXACT.name, reason="dk and dv are certified by no other method")
    return decision or Decision(checked), named


def _tasks(
    scale: float, is_causal: bool, tolerance: Tolerance, degree: int | None
) -> Callable[[Mapping[str, Array], Control], HeadTask]:
    """Tasks from the arrays of a head and its share of the control."""
    return lambda parts, control: HeadTask(
        **parts, scale=scale, is_causal=is_causal, tolerance=tolerance, degree=degree,
        control=control,
    )  # fmt: skip


def _default_scale(given: Mapping[str, Array]) -> float:
    # With E = 0 every logit is 0, whatever the scale.
    return 1.0 / math.sqrt(max(given["query"].shape[-1], 1))


def _heads(lead: Index, control: Control) -> Iterator[tuple[Index, Control]]:
    """Every head with its share of the control: what is left of the time, its part of the bar."""
    total = math.prod(lead)
    deadline = None if control.timeout is None else time.monotonic() + control.timeout
    for number, index in enumerate(np.ndindex(*lead)):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0.0:
            raise DeadlineError(
                f"timeout: found {control.timeout:g} s passed after {number} of {total} heads; "
                "allow more, or pass fewer heads at a time"
            )
        yield index, Control(control.threads, _part(control, number, total), left, False)


def _part(control: Control, number: int, total: int) -> Progress | None:
    report = control.progress
    if report is None or total == 1:
        return report
    return lambda done: report((number + done) / total)
