"""What a rigorous certificate charges f, c, q, p1 and p2, against the errors that they have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .._inputs.options import Method
from ..problem import loss_gradient
from .base import Row
from .dense import Steps, attention, exponential, from_attention, relative_error, steps
from .problems import Data, Matrix

__all__ = ["DEGREES", "STEPS", "approximate_attention", "charges", "step_errors"]

STEPS = ("f", "c", "q", "p1", "p2")
DEGREES = (1, 2, 3, 4)
METHOD: Method = "polynomial"


def approximate_attention(data: Data, degree: int) -> Matrix:
    """The rows f̃ that the library's polynomial method works with, out of its own gradients. (n, m).

    With values 0 and E = I, c = −I, and dL/dA3 = f̃ᵀ c Yᵀ = −f̃ᵀ. Values have no part in the choice
    of the polynomial.
    """
    n, m = len(data.query), len(data.key)
    probe = replace(data, value=np.zeros((m, n)), target=np.eye(n))
    result = loss_gradient(**probe.arguments(), wrt="A3", method=METHOD, degree=degree)
    return np.asarray(-result.gradient.T)


def step_errors(wrong: Steps, right: Steps) -> dict[str, float]:
    """The worst row of each, in the norms that the certificate charges (docs/math.md, (9.8))."""
    f, c, q, p1, p2 = (got - want for got, want in zip(wrong, right, strict=True))
    return {
        "f": float(np.max(np.sum(np.abs(f), axis=1))),
        "c": float(np.max(np.linalg.norm(c, axis=1))),
        "q": float(np.max(np.abs(q))),
        "p1": float(np.max(np.sum(np.abs(p1), axis=1))),
        "p2": float(np.max(np.sum(np.abs(p2), axis=1))),
    }


def charges(data: Data) -> list[Row]:
    """For each degree and step: charged and measured; infinite where nothing is certified."""
    f = attention(exponential(data))
    right, truth = steps(f, data), from_attention(f, data).by_X
    rows: list[Row] = []
    for degree in DEGREES:
        wrong = approximate_attention(data, degree)
        result = loss_gradient(**data.arguments(), method=METHOD, degree=degree)
        # The rows are the library's own if they lead to its gradient.
        same = relative_error(from_attention(wrong, data).by_X, result.gradient)
        measured = step_errors(steps(wrong, data), right)
        error = float(np.linalg.norm(result.gradient - truth))
        # What a step is charged is of the size of its error, and the whole of the gradient's.
        measured["gradient"] = error
        charged = {**result.certificate.steps, "gradient": result.certificate.absolute}
        rows += [
            {
                "degree": degree, "step": step, "measured": found, "charged": charged[step],
                "ratio": charged[step] / found, "same_gradient": same,
            }
            for step, found in measured.items()
        ]  # fmt: skip
    return rows
