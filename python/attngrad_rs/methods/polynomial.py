"""The polynomial method: exp replaced by a polynomial, near-linear in the number of tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from .. import _core
from ..arrays import Sizes
from . import exact
from .base import (
    VJP_WRT,
    Decision,
    Error,
    Forecast,
    HeadTask,
    Judged,
    Method,
    Outcome,
    Task,
    core_options,
    head_sizes,
)

# The core's constants of the same names (rust/src/constants.rs): bytes of all partial sums, and the
# least number of parts.
MOMENT_BYTES = 4 * 2**20
MOMENT_PARTS_LEAST = 2
# The same of a block of features, of which each thread has one; bytes of a feature of a row as an
# integer.
MOMENT_ROWS = 256
INTEGER_BYTES = 2
# Numbers in float64 for each query and its key: lengths, residual, caps twice by two norms, and
# room for the rows that are computed apart.
ROW_NUMBERS = 9
# Bytes of the tree for each feature: parent, coordinate, factorial.
FEATURE_BYTES = 24
STEPS = ("f", "c", "q", "p1", "p2")


def _asking(task: Task) -> tuple[str, int | None, float | None, float, str, str, int | None]:
    return task.tolerance.asking(task.named or "auto", task.degree, task.seed)


def _decision(chosen: _core.Decision) -> Decision:
    return Decision(**{name: getattr(chosen, name) for name in Decision._fields})


def planned(task: Task, *, foresee: bool = False) -> Decision:
    """What the planner of the core would run.

    A call asks for the law alone, as it looks at rows and keys that stand out itself; with
    ``foresee`` these looks are part of the answer.
    """
    problem = task.given, list(task.wrt), _asking(task)
    if foresee:
        return _decision(_core.foresee(*problem, core_options(task.control)))
    return _decision(_core.decide(*problem))


def forecast(
    sizes: Sizes,
    wrt: tuple[str, ...],
    itemsize: int,
    is_causal: bool,
    threads: int | None,
    decision: Decision,
) -> Forecast:
    """Predict cost from the operations of the decision, and memory from shapes."""
    degree = decision.degree or 0
    features = math.comb(sizes.width + degree + 1, degree + 1)
    sums = features * (sizes.dv + 1) * exact.FLOAT64_BYTES
    partial = max(MOMENT_PARTS_LEAST * sums, MOMENT_BYTES)
    rows = (decision.samples or 0) * (sizes.d1 + 2 * sizes.width + 2 * sizes.dv + sizes.d3)
    # Exact rows need the keys and values in strips.
    strips = sizes.m * (sizes.width + sizes.dv) * itemsize if decision.samples else 0
    outputs = exact.output_elements(sizes, wrt) * itemsize
    own = ROW_NUMBERS * sizes.n * exact.FLOAT64_BYTES + features * FEATURE_BYTES
    block = MOMENT_ROWS * math.comb(sizes.width + degree, degree) * (itemsize + INTEGER_BYTES)
    own += (threads or _core.default_threads()) * block
    peak = 2 * partial + rows * exact.FLOAT64_BYTES + strips + 2 * outputs + own
    operations = decision.operations
    return Forecast(operations, exact.seconds(operations, itemsize, threads), peak)


def gradient(task: Task, decision: Decision, prepared: Any) -> Outcome:
    """Loss and gradients with their certificates, by the method that reached the tolerance."""
    raw = _core.planned_gradient(
        task.given,
        list(task.wrt),
        _asking(task),
        (decision.degree or 0, decision.samples or 0),
        prepared,
        core_options(task.control),
    )
    return Outcome(
        loss=raw["loss"],
        loss_error=_error(raw["loss_certificate"]),
        gradients={name: raw["gradients"][name] for name in task.wrt},
        errors={name: _error(known) for name, known in raw["certificates"].items()},
        decision=_decision(raw["decision"]),
        steps=dict(zip(STEPS, raw["steps"] or (), strict=False)),
        prepared=raw["prepared"],
    )


def _problem(task: HeadTask) -> Task:
    """The head as a problem with unit weights whose c is dout (docs/math.md, equation 30)."""
    sizes, dtype = head_sizes(task.query, task.value), task.query.dtype
    return Task(
        arrays={
            "A1": task.query,
            "A2": task.key,
            "A3": task.value,
            "X": np.eye(sizes.width, dtype=dtype),
            "Y": np.eye(sizes.dv, dtype=dtype),
            "dout": task.dout,
        },
        sizes=sizes,
        wrt=tuple(VJP_WRT),
        scale=task.scale,
        is_causal=task.is_causal,
        tolerance=task.tolerance,
        named=POLYNOMIAL.name,
        degree=task.degree,
        seed=None,
        control=task.control,
    )


def propose_vjp(task: HeadTask) -> Decision:
    """What the planner says of one head."""
    return planned(_problem(task))


def vjp(task: HeadTask, decision: Decision) -> Outcome:
    """dq, dk and dv of one head with their certificates, or those of the exact method."""
    outcome = gradient(_problem(task), decision, None)
    return replace(
        outcome,
        gradients={VJP_WRT[name]: value for name, value in outcome.gradients.items()},
        errors={VJP_WRT[name]: error for name, error in outcome.errors.items()},
    )


def _error(known: Any) -> Error:
    kind, absolute, truncation, sampling, rounding, confidence, judged = known
    terms = {"rounding": rounding}
    if kind != "exact":
        terms = {"truncation": truncation, "sampling": sampling, **terms}
    return Error(kind, absolute, terms, confidence, Judged(*judged))


POLYNOMIAL = Method(
    name="polynomial",
    needs="small logits, and few enough dimensions that features of the degree can be afforded",
    law="of the degree and the spread of logits, measured on sampled rows or bounded rigorously",
    cost="4 n N (dv + 1) operations, N = C(d + g + 1, d) for degree g, and 8 r m d for r sampled "
    "rows; memory O((n + m) d + N dv)",
    forecast=forecast,
    gradient=gradient,
    propose_vjp=propose_vjp,
    vjp=vjp,
)
