"""Statistics of a problem, and the plan for its gradient: ``attngrad explain``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..diagnose import Diagnosis, diagnose_problem
from ..plans import Plan
from ..problem import plan_loss_gradient
from .problem_file import default_names


class Explanation(NamedTuple):
    """A diagnosis of the queries and keys, and the plan for the gradient."""

    diagnosis: Diagnosis
    plan: Plan

    def text(self) -> str:
        """Both in words, the diagnosis first."""
        return f"diagnosis\n{self.diagnosis.explain()}\n\nplan\n{self.plan.explain()}"


def explanation(
    arguments: Mapping[str, Any], rtol: float, threads: int | None = None
) -> Explanation:
    """Diagnose the queries A1 X (or A1 W_Q) and keys A2 (or A2 W_K), and plan dL/dX.

    ``arguments`` are arrays and options of ``loss_gradient``, ``rtol`` is the accuracy asked for.
    No gradient is computed. The diagnosis holds the plans for its own accuracies and for ``rtol``,
    so that it and the plan are one answer. Cost O((n + m) d²) and a fixed sample of pairs. Raises
    whatever ``plan_loss_gradient`` and ``diagnose`` raise.
    """
    wrt = default_names(arguments)
    # First: it checks all arguments.
    plan = plan_loss_gradient(**arguments, wrt=wrt, rtol=rtol, threads=threads)
    return Explanation(diagnose_problem(arguments, wrt, (rtol,), threads), plan)
