"""Several heads of attention as one result: what was run, and what is known of the error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from . import arrays
from .arguments import CERTIFICATE_KINDS, Tolerance
from .arrays import Array
from .certificate import Certificate, certify
from .methods import EXACT, Decision, Error, Outcome

# From what says most to what says least.
KINDS = ("exact", *reversed([kind for kind in CERTIFICATE_KINDS if kind != "any"]))


def largest(proposed: Iterable[Decision]) -> Decision:
    """One decision that serves for every head: the highest degree, and the most rows."""
    each = list(proposed)
    costliest = max(each, key=lambda one: (one.degree or 0, one.operations))
    return costliest._replace(samples=max(one.samples or 0 for one in each))


def together(asked: Decision, run: Sequence[Decision]) -> Decision:
    """What was run, in one: the costliest head that did not end with the exact method."""
    others = [one for one in run if one.method != EXACT.name]
    if asked.method == EXACT.name or not run:
        return asked
    if not others:
        return run[0]
    apart = sum(one.exact_rows or 0 for one in others)
    return max(others, key=lambda one: one.operations)._replace(exact_rows=apart)


def certificates(
    method: str, gradients: Mapping[str, Array], outcomes: Sequence[Outcome], tolerance: Tolerance
) -> dict[str, Certificate]:
    """One certificate for all heads of an output."""
    steps = {
        step: max(outcome.steps.get(step, math.inf) for outcome in outcomes)
        for step in (outcomes[0].steps if outcomes else ())
    }
    return {
        name: certify(
            method,
            _all_heads([outcome.errors[name] for outcome in outcomes], tolerance.norm),
            arrays.norm(gradient, tolerance.norm),
            tolerance.norm,
            tolerance,
            steps,
        )
        for name, gradient in gradients.items()
    }


def _all_heads(errors: Sequence[Error], norm: str) -> Error:
    """The error of all heads, of the weakest kind: those of separate heads add in squares."""

    def together(bounds: Sequence[float]) -> float:
        # A NaN compares with nothing, so that it would get lost in the maximum.
        each = [bound if bound >= 0.0 else math.inf for bound in bounds]
        return max(each, default=0.0) if norm == "max" else math.hypot(*each)

    kind = max((error.kind for error in errors), key=KINDS.index, default="exact")
    if kind == "exact":
        return Error.rounding(together([error.absolute for error in errors]))
    names = sorted({name for error in errors for name in error.terms})
    terms = {name: together([error.terms.get(name, 0.0) for error in errors]) for name in names}
    return Error(kind, math.fsum(terms.values()), terms)
