"""What a method is: words, a cost law, and functions that propose and compute."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .. import _core
from ..arguments import Control, Tolerance
from ..arrays import Array, Sizes

# What a vector-Jacobian product is by, as the problem with unit weights names it.
VJP_WRT = {"A1": "query", "A2": "key", "A3": "value"}


def head_sizes(query: Array, value: Array) -> Sizes:
    """Sizes of one head, or of each of several, as a problem with unit weights."""
    n, width = query.shape[-2:]
    m, dv = value.shape[-2:]
    return Sizes(n, m, width, width, dv, dv, width, pair=False)


class Task(NamedTuple):
    """One loss-gradient problem on private copies, ready to be computed."""

    arrays: Mapping[str, Array]
    sizes: Sizes
    wrt: tuple[str, ...]
    scale: float
    is_causal: bool
    tolerance: Tolerance
    # The method that the caller named; None for "auto".
    named: str | None
    degree: int | None
    # None: a hash of the data.
    seed: int | None
    control: Control

    @property
    def given(self) -> _core.Problem:
        """The problem as the core takes it."""
        return _core.Problem(**self.arrays, scale=self.scale, is_causal=self.is_causal)


class HeadTask(NamedTuple):
    """One head of an attention VJP on private copies, ready to be computed."""

    query: Array
    key: Array
    value: Array
    dout: Array
    scale: float
    is_causal: bool
    tolerance: Tolerance
    # The degree that the caller named, for a method that has one.
    degree: int | None
    control: Control


def core_options(control: Control) -> _core.Options:
    """What every function of the core takes last."""
    return _core.Options(
        threads=control.threads, progress=control.progress, timeout=control.timeout
    )


class Judged(NamedTuple):
    """What the core says of an error, given the tolerance."""

    relative: float
    reached: bool | None
    best_rtol: float
    message: str


@dataclass(frozen=True)
class Error:
    """What is known about the error of one output: ``absolute`` is the sum of ``terms``.

    ``judged`` is the verdict that came with it, where the core has the tolerance and the result.
    """

    kind: str
    absolute: float
    terms: Mapping[str, float]
    confidence: float | None = None
    judged: Judged | None = None

    @classmethod
    def rounding(cls, absolute: float) -> Error:
        """The error of an exact result."""
        known = absolute if math.isfinite(absolute) else math.inf
        return cls("exact", known, {"rounding": known})


class Decision(NamedTuple):
    """What to run and why. ``operations`` counts in operations of the exact method."""

    method: str
    degree: int | None = None
    samples: int | None = None
    exact_rows: int | None = None
    features: int | None = None
    predicted_error: float = 0.0
    operations: float = math.inf
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """Gradients by name, each with what is known about its error in the norm asked for.

    ``decision`` is what was run in the end; ``prepared`` what another call with the same keys,
    values and weights can use again; ``steps`` what f, c, q, p1 and p2 were charged.
    """

    loss: float
    loss_error: Error
    gradients: dict[str, Array]
    errors: dict[str, Error]
    decision: Decision
    steps: Mapping[str, float] = field(default_factory=dict)
    prepared: Any = None


class Forecast(NamedTuple):
    """What a call is predicted to cost. ``peak_bytes`` leaves out copies of the inputs."""

    operations: float
    seconds: float
    peak_bytes: int


class Method(NamedTuple):
    """One row of the table of methods.

    ``needs``, ``law`` and ``cost`` are sentences for people: what the data must be like, what the
    error is, and what it costs. ``forecast`` predicts seconds and bytes of a decision from shapes;
    ``gradient(task, decision, prepared)`` computes, and may end with another method where its own
    does not reach the tolerance; ``propose_vjp(task)`` says what it would run for one head of
    attention, and ``vjp(task, decision)`` runs it.
    """

    name: str
    needs: str
    law: str
    cost: str
    forecast: Callable[[Sizes, tuple[str, ...], int, bool, int | None, Decision], Forecast]
    gradient: Callable[[Task, Decision, Any], Outcome]
    propose_vjp: Callable[[HeadTask], Decision]
    vjp: Callable[[HeadTask, Decision], Outcome]
