"""What a problem is like, and what the library would do about it: ``attngrad explain``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..api import plan_loss_gradient
from ..diagnose import TOLERANCES, Diagnosis, describe
from ..plans import Plan

__all__ = ["Explanation", "explanation"]


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
            "diagnosis": asdict(self.diagnosis),
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
    weights = arguments["X"]
    pair = isinstance(weights, tuple)
    wrt = ("W_Q", "W_K") if pair else ("X",)
    # First: they check all arrays against each other.
    plans = {
        one: plan_loss_gradient(**arguments, wrt=wrt, rtol=one, threads=threads)
        for one in dict.fromkeys((rtol, *TOLERANCES))
    }
    query = np.asarray(arguments["A1"]) @ np.asarray(weights[0] if pair else weights)
    key = np.asarray(arguments["A2"])
    if pair:
        key = key @ np.asarray(weights[1])
    # The default of loss_gradient is one over the width of A2, not that of diagnose.
    scale = arguments.get("scale", 1.0 / max(np.asarray(arguments["A2"]).shape[1], 1))
    return Explanation(describe(query, key, scale, plans), plans[rtol])
