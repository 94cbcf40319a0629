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

from . import _core, arguments, arrays, rates
from .arguments import Control, Tolerance, checked_signature
from .arrays import Array, Sizes
from .certificate import Certificate, certify, require_reached
from .errors import DeadlineError, OptionError
from .memory import check_fits
from .methods import METHODS, Error, HeadTask, Outcome, checked_name, decided_by_shape
from .methods.base import Decision, control_tuple
from .plans import Plan
from .results import AttentionGradients

__all__ = ["attention", "attention_vjp", "plan"]

Progress = Callable[[float], object]
Index = tuple[int, ...]
# What a vector-Jacobian product differentiates by, as the exact method's cost law names it.
VJP_WRT = ("A1", "A2", "A3")
INPUTS = ("query", "key", "value")


@checked_signature
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
    copies = arrays.snapshots(given, dtype, finite=control.check_finite)
    output = np.empty(shape, dtype)
    for index, share in _heads(shape[:-2], control):
        output[index] = _core.attention(
            [copies[name][index] for name in INPUTS], (factor, causal), control_tuple(share)
        )
    return output


@checked_signature
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
    rtol, atol, norm, method, threads, progress, timeout, check_finite
        As in ``loss_gradient``; the tolerance is for dq, dk and dv each, over all heads together.

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
    head (E = Ev), half if causal; memory O((L + S)(E + Ev)) beside the inputs.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, dout = (rng.standard_normal((2, 5, 3)) for _ in range(4))
    >>> dq, dk, dv = ag.attention_vjp(q, k, v, dout)
    >>> bool(abs(dk.sum(axis=1)).max() < 1e-12)
    True
    """
    start = time.perf_counter()
    tolerance = arguments.tolerance(rtol, atol, norm, "any")
    control = arguments.control(threads, progress, timeout, check_finite)
    causal = arguments.flag("is_causal", is_causal)
    decision, pull_back = _method(method, tolerance.rtol)
    given, dtype = arrays.read_heads({"query": query, "key": key, "value": value, "dout": dout})
    factor = arguments.scale(scale, _default_scale(given))
    lead = given["query"].shape[:-2]
    plan = _plan(given, dtype.itemsize, causal, control.threads, decision)
    check_fits("attention_vjp", plan.peak_bytes)
    copies = arrays.snapshots(given, dtype, finite=control.check_finite)
    gradients = {name: np.empty(given[name].shape, dtype) for name in INPUTS}
    outcomes: list[dict[str, Error]] = []
    for index, share in _heads(lead, control):
        parts = {name: copy[index] for name, copy in copies.items()}
        outcome = pull_back(HeadTask(**parts, scale=factor, is_causal=causal, control=share))
        for name in INPUTS:
            gradients[name][index] = outcome.gradients[name]
        outcomes.append(outcome.errors)
    certificates = _certificates(gradients, outcomes, tolerance)
    require_reached(certificates, tolerance, str(dtype))
    return AttentionGradients(
        dq=gradients["query"],
        dk=gradients["key"],
        dv=gradients["value"],
        certificates=certificates,
        plan=plan,
        seconds=time.perf_counter() - start,
    )


@checked_signature
def plan(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    rtol: float | None = None,
    method: str = "auto",
    threads: int | None = None,
) -> Plan:
    """What ``attention_vjp`` would run for these shapes; computes nothing big.

    Parameters
    ----------
    query, key, value : array_like, (..., L, E), (..., S, E), (..., S, Ev)
        As in ``attention``; only their shapes and dtype are looked at.
    is_causal, scale, rtol, method, threads
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
    Cost: O(1); the first plan measures the machine's rate, which takes at most 50 ms.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> q = np.zeros((2, 100, 8))
    >>> ag.plan(q, q, q, rtol=1e-3).method
    'exact'
    """
    tolerance = arguments.tolerance(rtol, 0.0, "fro", "any")
    causal = arguments.flag("is_causal", is_causal)
    workers = arguments.threads(threads)
    decision, _ = _method(method, tolerance.rtol)
    given, dtype = arrays.read_heads({"query": query, "key": key, "value": value})
    arguments.scale(scale, _default_scale(given))
    made = _plan(given, dtype.itemsize, causal, workers, decision)
    speed = rates.factor(decision.method, dtype.itemsize, workers, measure=True)
    return replace(made, predicted_seconds=speed * made.predicted_seconds)


def _plan(
    given: Mapping[str, Array],
    itemsize: int,
    is_causal: bool,
    threads: int | None,
    decision: Decision,
) -> Plan:
    """Cost and memory of all heads; copies of the inputs and the outputs included."""
    forecast = METHODS[decision.method].forecast
    cost = forecast(_head_sizes(given), VJP_WRT, itemsize, is_causal, threads, decision)
    outputs = sum(math.prod(given[name].shape) for name in INPUTS) * itemsize
    return Plan(
        decision.method,
        predicted_seconds=math.prod(given["query"].shape[:-2]) * cost.seconds,
        peak_bytes=arrays.total_bytes(given) + outputs + cost.peak_bytes,
        reason=decision.reason,
    )


def _method(name: object, rtol: float | None) -> tuple[Decision, Callable[[HeadTask], Outcome]]:
    """The method of that name, where it has a vector-Jacobian product."""
    checked = checked_name(name)
    decision = decided_by_shape(checked, rtol)
    if decision is None and checked == "auto":
        reason = "outputs by token are certified by no other method"
        decision = Decision("exact", reason=reason)
    pull_back = None if decision is None else METHODS[decision.method].vjp
    if decision is None or pull_back is None:
        raise OptionError(
            f"method: found {checked!r}, which has no vector-Jacobian product; "
            "use 'auto' or 'exact', or loss_gradient"
        )
    return decision, pull_back


def _default_scale(given: Mapping[str, Array]) -> float:
    # With E = 0 every logit is 0, whatever the scale.
    return 1.0 / math.sqrt(max(given["query"].shape[-1], 1))


def _head_sizes(given: Mapping[str, Array]) -> Sizes:
    n, width = given["query"].shape[-2:]
    m, dv = given["value"].shape[-2:]
    return Sizes(n, m, width, width, dv, dv, width, pair=False)


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


def _certificates(
    gradients: Mapping[str, Array], errors: list[dict[str, Error]], tolerance: Tolerance
) -> dict[str, Certificate]:
    """One certificate for all heads of an output: errors of separate heads add in squares."""
    certificates = {}
    for name, gradient in gradients.items():
        # A NaN compares with nothing, so that it would get lost in the maximum.
        bounds = [head[name].absolute for head in errors]
        each = [bound if bound >= 0.0 else math.inf for bound in bounds]
        together = max(each, default=0.0) if tolerance.norm == "max" else math.hypot(*each)
        size = arrays.norm(gradient, tolerance.norm)
        error = Error.rounding(together)
        certificates[name] = certify("exact", error, size, tolerance.norm, tolerance)
    return certificates
