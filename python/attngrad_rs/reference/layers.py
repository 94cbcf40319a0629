"""Many layers of attention: the paper's Definition 1.1, its gradients, and how errors add up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .problem import Problem, Weight
from .sdpa import attention_vjp
from .softmax import Array

__all__ = ["Layer", "backward", "error_over_layers", "forward"]


@dataclass(frozen=True, eq=False)
class Layer:
    """E ↦ D^-1 exp(s E X Eᵀ) E Y, D = diag(exp(s E X Eᵀ) 1); eq. (12.2).

    The paper's layer with X = Q Kᵀ, or the pair (Q, K), and Y = V.

    Attributes
    ----------
    X : array (d, d), or a pair (W_Q, W_K) of shapes (d, dk)
        The weight of the logits.
    Y : array (d, dv)
        The weight of the values: rows of the output have dv entries.
    scale : number, optional
        s; default 1/d, the paper's.
    is_causal : bool
        Whether a row sees the rows up to its own only.
    """

    X: Weight
    Y: Array
    scale: Any = None
    is_causal: bool = False

    def problem(self, rows: Array) -> Problem:
        """The problem of one layer, A1 = A2 = A3 = E, with the target 0: its ``o`` is the output.

        Raises
        ------
        ShapeError
            If E does not fit X and Y. RangeError where floats overflow.
        """
        target = np.zeros((len(rows), np.shape(self.Y)[1]), dtype=np.asarray(rows).dtype)
        return Problem(rows, rows, rows, self.X, self.Y, target, self.scale, self.is_causal)

    def __call__(self, rows: Array) -> Array:
        """The output. Shape (n, dv); errors as :meth:`problem`."""
        return self.problem(rows).o

    def pull_back(self, rows: Array, arriving: Array) -> Array:
        """J(E)ᵀ G: dL/dE for the gradient G = dL/d(output) that arrives, eq. (12.3). Shape (n, d).

        The three gradients of (2.12) with G in the place of c.
        """
        of = self.problem(rows)
        left, right = of.X if isinstance(of.X, tuple) else (of.X, None)
        query = of.A1 @ left
        key = of.A2 if right is None else of.A2 @ right
        dq, dk, dv = attention_vjp(
            query, key, of.h, arriving, is_causal=self.is_causal, scale=of.scale
        )
        by_key = dk if right is None else dk @ right.T
        return np.asarray(dq @ left.T + by_key + dv @ of.Y.T)

    def jacobian(self, rows: Array) -> Array:
        """J(E), the derivative of vec(output) by vec(E). Shape (n dv, n d); n dv pull-backs."""
        shape = (len(rows), np.shape(self.Y)[1])
        units = np.eye(shape[0] * shape[1]).reshape(-1, *shape)
        return np.stack([self.pull_back(rows, unit).ravel() for unit in units])


PullBack: TypeAlias = Callable[[Layer, Array, Array], Array]


def forward(layers: Sequence[Layer], rows: Array) -> list[Array]:
    """E_0, E_1 = layer 0 of E_0, ..., E_M: the paper's recursion, eq. (12.2).

    Examples
    --------
    >>> import numpy as np
    >>> layer = Layer(np.zeros((1, 1)), np.full((1, 1), 2.0))
    >>> [states.ravel().tolist() for states in forward([layer, layer], np.array([[1.0], [3.0]]))]
    [[1.0, 3.0], [4.0, 4.0], [8.0, 8.0]]
    """
    states = [np.asarray(rows)]
    for layer in layers:
        states.append(layer(states[-1]))
    return states


def backward(
    layers: Sequence[Layer],
    states: Sequence[Array],
    arriving: Array,
    pull_back: PullBack = Layer.pull_back,
) -> list[Array]:
    """G_0, ..., G_M with G_l = dL/dE_l, from G_M; eq. (12.3).

    Parameters
    ----------
    layers : sequence of M layers
        In the order of the forward pass.
    states : sequence of M + 1 arrays
        E_0, ..., E_M of :func:`forward`.
    arriving : array
        G_M, of the shape of E_M.
    pull_back : function of (layer, E_l, G_(l+1)), optional
        The pull-back of one layer: ``Layer.pull_back`` itself, or an approximation of it.
    """
    gradients = [np.asarray(arriving)]
    for layer, rows in zip(reversed(layers), reversed(states[:-1]), strict=True):
        gradients.append(pull_back(layer, rows, gradients[-1]))
    return gradients[::-1]


def error_over_layers(errors: Sequence[float], norms: Sequence[float]) -> float:
    """δ_0 ≤ Σ_l ε_l Π_(i<l) ‖J_i‖, the error of G_0 = dL/dE_0; eq. (12.4).

    Parameters
    ----------
    errors : sequence
        ε_l bounds what the pull-back of layer l is off by, ‖Ĝ_l − J_lᵀ Ĝ_(l+1)‖_F; one more than
        there are layers where G_M has an error too.
    norms : sequence
        ‖J_l‖_2 of each layer.

    Examples
    --------
    >>> error_over_layers([1.0, 1.0, 1.0], [2.0, 3.0])
    9.0
    """
    bound, grown = 0.0, 1.0
    for layer, error in enumerate(errors):
        bound += error * grown
        grown *= norms[layer] if layer < len(norms) else 1.0
    return bound
