"""The integral of an oracle for gradients: L(X) − L(0) = ∫₀¹ ⟨dL/dX(λX), X⟩ dλ, by two rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .._inputs.options import Method
from ..errors import AttnGradError
from ..problem import loss_gradient
from .dense import attention, exponential, gradient
from .problems import Data, Matrix

__all__ = [
    "GAUSS",
    "LEFT",
    "exact_oracle",
    "library_oracle",
    "loss",
    "loss_at_zero",
    "nodes",
    "recovered",
    "second_derivative",
    "slope",
    "sum_bound",
]

LEFT, GAUSS = "left Riemann", "Gauss-Legendre"

Oracle = Callable[[Data], Matrix]


def exact_oracle(data: Data) -> Matrix:
    """dL/dX by the library."""
    return np.asarray(loss_gradient(**data.arguments()).gradient)


def library_oracle(method: Method, degree: int) -> Oracle:
    """dL/dX by an approximate method of the library; NaN where it is refused."""

    def ask(data: Data) -> Matrix:
        try:
            return np.asarray(
                loss_gradient(**data.arguments(), method=method, degree=degree).gradient
            )
        except AttnGradError:
            return np.full((data.query.shape[1], data.key.shape[1]), np.nan)

    return ask


def slope(oracle: Oracle, data: Data, at: float) -> float:
    """⟨dL/dX(λX), X⟩ with X = I: the oracle is asked for queries λ A1, as A1 (λX) = (λ A1) X."""
    scaled = replace(data, query=at * data.query)
    # dL/dX(λX) = s A1ᵀ p A2 has A1 where the scaled problem has λ A1.
    return float(np.trace(oracle(scaled))) / at if at else _slope_at_zero(data)


def _slope_at_zero(data: Data) -> float:
    """At λ = 0 attention is flat: f = 1/m."""
    flat = np.full((len(data.query), len(data.key)), 1.0 / len(data.key))
    return float(np.trace(gradient(flat, data).by_X))


def loss_at_zero(data: Data) -> float:
    """L(0): every row of the output is the mean value."""
    return float(np.sum(np.square(data.value.mean(axis=0) - data.target))) / 2.0


def nodes(rule: str, count: int) -> tuple[Matrix, Matrix]:
    """Nodes in [0, 1] and weights of a rule with so many calls."""
    if rule == LEFT:
        return np.arange(count) / count, np.full(count, 1.0 / count)
    at, weights = np.polynomial.legendre.leggauss(count)
    return (at + 1.0) / 2.0, weights / 2.0


def recovered(oracle: Oracle, data: Data, rule: str, count: int) -> float:
    """L(X) from ``count`` calls of the oracle."""
    at, weights = nodes(rule, count)
    slopes = [slope(oracle, data, float(one)) for one in at]
    return loss_at_zero(data) + float(np.dot(weights, slopes))


def sum_bound(data: Data, B: float, count: int) -> float:
    """What the left sum may be off: sup |F''| / (2 m) ≤ (9/32) B² n dv / m.

    Values are in [0, 1] and E = 0.
    An entry o of the output has |o'| ≤ B/4 and |o''| ≤ B²/2 along λ, so (o²/2)'' ≤ (1/16 + 1/2) B².
    """
    n, dv = len(data.query), data.value.shape[1]
    return 9.0 / 32.0 * B * B * float(n * dv) / count


def loss(data: Data) -> float:
    """L(X), by the dense formulas."""
    output = attention(exponential(data)) @ data.value
    return float(np.sum(np.square(output - data.target))) / 2.0


def second_derivative(data: Data, at: float) -> float:
    """d²L(λX)/dλ² at λ.

    With row means E under f: o' = E[(S − ES) h], o'' = E[((S − ES)² − var S) h], and the derivative
    of ½‖o − E‖² is ‖o'‖² + ⟨o − E, o''⟩, row by row.
    """
    logits = data.logits
    f = attention(np.exp(at * logits - (at * logits).max(axis=1, keepdims=True)))
    moved = logits - np.sum(f * logits, axis=1, keepdims=True)
    square = np.square(moved)
    square -= np.sum(f * square, axis=1, keepdims=True)
    output = f @ data.value
    first, second = (f * moved) @ data.value, (f * square) @ data.value
    return float(np.sum(np.square(first)) + np.sum((output - data.target) * second))
