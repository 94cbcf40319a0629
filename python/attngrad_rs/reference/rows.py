"""The paper's vectors: vec, Kronecker products, and one row j0 of every quantity.

vec stacks rows (row-major), so that vec(B C D^T) = (B (x) D) vec(C).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .softmax import Array, Exp, require_finite


def vec(M: Array) -> Array:
    """The rows of M one after the other, eq. (4.1). (a, b) -> (a b,)."""
    return np.reshape(M, -1, order="C")


def unvec(v: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of :func:`vec`. (a b,) -> (a, b)."""
    return np.reshape(v, shape, order="C")


def kron(B: Array, D: Array) -> Array:
    """B (x) D, entry ((j, i), (k, l)) = B_jk D_il. (n, a), (m, b) -> (n m, a b); cost n m a b."""
    (n, a), (m, b) = B.shape, D.shape
    return (B[:, None, :, None] * D[None, :, None, :]).reshape(n * m, a * b)


def tensor_trick(A1: Array, A2: Array) -> Array:
    """A = A1 (x) A2 with A vec(X) = vec(A1 X A2^T), eq. (4.2). (n, d1), (m, d2) -> (n m, d1 d2)."""
    return kron(A1, A2)


@dataclass(frozen=True, eq=False)
class Row:
    """Row j0 of the problem, from A = s A_j0 (m, d1 d2), x = vec(X), the values h and E_j0.

    Eq. (4.4) - (4.6); the paper's definitions of u(x)_j0, alpha(x)_j0, f(x)_j0, c(x)_j0, q(x)_j0,
    p(x)_j0 and of the derivatives in x_i. Only the keys that the query sees are in it.
    Cost m d1 d2 time and memory.
    """

    A: Array
    x: Array
    h: Array
    e: Array
    shift: Any = 0
    exp: Exp = np.exp

    @cached_property
    def u(self) -> Array:
        """u_j0 = exp(A_j0 x). Shape (m,)."""
        return np.asarray(self.exp(self.A @ self.x - self.shift))

    @cached_property
    def alpha(self) -> Any:
        """alpha_j0 = <u_j0, 1>, a number."""
        return np.sum(self.u)

    @cached_property
    def f(self) -> Array:
        """f_j0 = alpha_j0^-1 u_j0. Shape (m,)."""
        return np.asarray(self.u / self.alpha)

    @cached_property
    def c(self) -> Array:
        """c_j0,i0 = <f_j0, h_i0> - E_j0,i0, for all i0. Shape (dv,)."""
        return np.asarray(self.f @ self.h - self.e)

    @cached_property
    def q(self) -> Array:
        """q_j0 = sum over i0 of c_j0,i0 h_i0. Shape (m,)."""
        return np.asarray(self.h @ self.c)

    @cached_property
    def jacobian(self) -> Array:
        """diag(f_j0) - f_j0 f_j0^T, the derivative of f_j0 by the logits. Shape (m, m)."""
        return np.asarray(np.diag(self.f) - self.f[:, None] * self.f[None, :])

    @cached_property
    def p(self) -> Array:
        """p_j0 = (diag(f_j0) - f_j0 f_j0^T) q_j0, eq. (4.5). Shape (m,)."""
        return np.asarray(self.jacobian @ self.q)

    @cached_property
    def gradient(self) -> Array:
        """dL_j0/dx = A_j0^T p_j0, eq. (4.6). Shape (d1 d2,)."""
        gradient = np.asarray(self.A.T @ self.p)
        require_finite(gradient, "the gradient of a row")
        return gradient

    def derivative(self, i: int) -> Any:
        """dL_j0/dx_i in the paper's first form, before q and p are introduced; eq. (4.4).

        Sum over i0 of c_j0,i0 (<f_j0 o A_j0,i, h_i0> - <f_j0, h_i0> <f_j0, A_j0,i>). A number.
        """
        column = self.A[:, i]
        inner = (self.f * column) @ self.h - (self.f @ self.h) * (self.f @ column)
        return np.sum(self.c * inner)
