"""What a problem is like, and what the library would do about it: ``attngrad explain``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .._inputs import arrays
from .._inputs.options import Input
from ..diagnose import Diagnosis, diagnose_problem
from ..plans import Plan
from ..problem import plan_loss_gradient

__all__ = ["Explanation", "explanation"]

# The arrays of a problem, as functions take them.
PROBLEM = ("A1", "A2", "A3", "X", "Y", "E")


@dataclass(frozen=True)
class Explanation:
    """A diagnosis of the queries and keys, and the plan for the gradient."""

    diagnosis: Diagnosis
    plan: Plan

    def text(self) -> str:
        """Both in words, the diagnosis first."""
        return f"diagnosis\n{self.diagnosis.explain()}\n\nplan\n{self.plan.explain()}"

    def to_dict(self) -> dict[str, Any]:
        """Both as plain values."""
        public = [one.name for one in fields(self.plan) if not one.name.startswith("_")]
        return {
            "diagnosis": {
                name: value
                for name, value in asdict(self.diagnosis).items()
                if not name.startswith("_")
            },
            "plan": {name: getattr(self.plan, name) for name in public},
        }


def explanation(
    arguments: Mapping[str, Any], rtol: float, threads: int | None = None
) -> Explanation:
    """Diagnose the queries A1 X (or A1 W_Q) and keys A2 (or A2 W_K), and plan the gradient by X.

    Parameters
    ----------
    arguments : mapping
        Arrays and options of ``loss_gradient``.
    rtol : float
        The accuracy that is wanted.
    threads : int, optional
        By default all cores.

    Raises
    ------
    AttnGradError
        Whatever ``plan_loss_gradient`` and ``diagnose`` raise.

    Notes
    -----
    No gradient is computed. The diagnosis holds the plans for its own accuracies and for ``rtol``,
    so that it and the plan are one answer. Cost O((n + m) d²) and a fixed sample of pairs.
    """
    pair = isinstance(arguments["X"], tuple)
    wrt: tuple[Input, ...] = ("W_Q", "W_K") if pair else ("X",)
    # First: it checks all arrays against each other.
    plan = plan_loss_gradient(**arguments, wrt=wrt, rtol=rtol, threads=threads)
    others = {name: value for name, value in arguments.items() if name not in PROBLEM}
    problem = arrays.read_problem(*(arguments[name] for name in PROBLEM))
    copies = arrays.snapshots(problem.arrays, problem.dtype, finite=True, threads=threads)
    diagnosis = diagnose_problem(
        copies,
        wrt,
        (rtol,),
        scale=others.get("scale", 1.0 / max(problem.sizes.d2, 1)),
        is_causal=others.get("is_causal", False),
        threads=threads,
    )
    return Explanation(diagnosis, plan)
