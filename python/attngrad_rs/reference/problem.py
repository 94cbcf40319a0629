"""The loss of one attention layer, its gradient, and all quantities on the way, as matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from .._inputs.masks import unmasked
from ..errors import OptionError, ShapeError
from .rows import Row, tensor_trick, unvec, vec
from .softmax import Array, Exp, exponentials, normaliser, require_finite, row_shift, visible

Weight: TypeAlias = Array | tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Problem:
    """L(X, Y) = 1/2 || f h - E ||_F^2, the paper's optimisation problem, eq. (1.1) - (1.7).

    Parameters
    ----------
    A1, A2, A3 : arrays (n, d1), (m, d2), (m, d3)
        Inputs on the query, key and value side.
    X : array (d1, d2), or a pair (W_Q, W_K) of shapes (d1, dk), (d2, dk)
        The weight of the logits; a pair means X = W_Q W_K^T.
    Y : array (d3, dv)
        The weight of the values.
    E : array (n, dv)
        The target.
    scale : number, optional
        s in S = s A1 X A2^T; default 1 / d2, the paper's 1/d.
    is_causal : bool
        Whether query j sees keys 0..j only (top-left, also where n != m).
    stable : bool
        Whether the row maximum is subtracted from the logits before the exponential, which changes
        u and alpha and nothing else, eq. (1.8). False: the paper's own u = exp(S), guarded: what
        overflows raises RangeError.
    exp : function
        The exponential, applied to whole arrays.

    Raises
    ------
    ShapeError
        If the shapes do not fit. RangeError where floats overflow, from the quantity that did.

    Notes
    -----
    Cost O(n m (d2 + dv)) time, O(n m) memory, each quantity computed once, when first asked for.
    """

    A1: Array
    A2: Array
    A3: Array
    X: Weight
    Y: Array
    E: Array
    scale: Any = None
    is_causal: bool = False
    stable: bool = True
    exp: Exp = np.exp

    def __post_init__(self) -> None:
        """Take anything array-like; check the shapes."""
        for name in ("A1", "A2", "A3", "Y", "E"):
            object.__setattr__(self, name, _matrix(name, getattr(self, name)))
        if isinstance(self.X, (tuple, list)):
            W_Q, W_K = self.X
            object.__setattr__(self, "X", (_matrix("W_Q", W_Q), _matrix("W_K", W_K)))
        else:
            object.__setattr__(self, "X", _matrix("X", self.X))
        self._check_shapes()
        if self.scale is None:
            object.__setattr__(self, "scale", 1.0 / max(self.A2.shape[1], 1))

    def _check_shapes(self) -> None:
        (n, d1), (m, d2), (m3, d3) = self.A1.shape, self.A2.shape, self.A3.shape
        if self.is_pair and self.W_Q.shape[1] != self.W_K.shape[1]:
            raise ShapeError("W_K: its width is not that of W_Q; both need dk columns")
        weight = (self.W_Q.shape[0], self.W_K.shape[0]) if self.is_pair else self.matrix_X.shape
        if m3 != m or weight != (d1, d2) or self.Y.shape[0] != d3:
            raise ShapeError(
                "the shapes do not fit: A1 (n, d1), A2 (m, d2), A3 (m, d3), X (d1, d2)"
            )
        if self.E.shape != (n, self.Y.shape[1]):
            raise ShapeError(f"E: found {self.E.shape}; expected (n, dv) = {(n, self.Y.shape[1])}")

    # Sizes and weights

    @property
    def is_pair(self) -> bool:
        """Whether X was given as (W_Q, W_K)."""
        return isinstance(self.X, tuple)

    @property
    def W_Q(self) -> Array:
        """The query weight of a pair, (d1, dk)."""
        return self._pair()[0]

    @property
    def W_K(self) -> Array:
        """The key weight of a pair, (d2, dk)."""
        return self._pair()[1]

    def _pair(self) -> tuple[Array, Array]:
        if not isinstance(self.X, tuple):
            raise OptionError("X: found one matrix; W_Q and W_K exist for X = (W_Q, W_K) only")
        return self.X

    @cached_property
    def matrix_X(self) -> Array:
        """X, or W_Q W_K^T, (d1, d2)."""
        return np.asarray(self.W_Q @ self.W_K.T) if isinstance(self.X, tuple) else self.X

    # The forward pass

    @cached_property
    def S(self) -> Array:
        """S = s A1 X A2^T, eq. (1.1): the paper's A1 X A2^T / d. Shape (n, m)."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.is_pair:
                logits = (self.A1 @ self.W_Q) @ (self.A2 @ self.W_K).T
            else:
                logits = (self.A1 @ self.matrix_X) @ self.A2.T
            S = np.asarray(self.scale * logits)
        require_finite(S, "S")
        return S

    @cached_property
    def seen(self) -> Array:
        """Whether query j sees key i, eq. (1.9); bool (n, m)."""
        return visible(self.S.shape[0], self.S.shape[1], self.is_causal)

    @cached_property
    def shift(self) -> Array:
        """The number subtracted from the logits of a row: their maximum, or 0. Shape (n, 1)."""
        if self.stable:
            return row_shift(self.S, self.seen)
        return np.zeros((self.S.shape[0], 1), dtype=int)

    @cached_property
    def u(self) -> Array:
        """u = exp(S - shift), eq. (1.2): row j0 is the paper's u(x)_j0. Shape (n, m)."""
        with np.errstate(over="ignore", under="ignore"):
            return exponentials(self.S, self.seen, self.shift, self.exp)

    @cached_property
    def alpha(self) -> Array:
        """alpha_j = <u_j, 1>, eq. (1.3): the paper's alpha(x)_j0, the diagonal of D. Shape (n,)."""
        return normaliser(self.u)[:, 0]

    @cached_property
    def f(self) -> Array:
        """f = diag(alpha)^-1 u, eq. (1.4): the paper's f(x), rows of attention. Shape (n, m)."""
        with np.errstate(under="ignore"):
            return np.asarray(self.u / self.alpha[:, None])

    @cached_property
    def h(self) -> Array:
        """h = A3 Y, eq. (1.5): the paper's h(y), the values. Shape (m, dv)."""
        return _product(self.A3, self.Y)

    @cached_property
    def o(self) -> Array:
        """o = f h, eq. (1.5): the output. Shape (n, dv); 0 where there is no key."""
        return _product(self.f, self.h)

    @cached_property
    def c(self) -> Array:
        """c = f h - E, eq. (1.6): the paper's c(x), the residual. Shape (n, dv)."""
        return np.asarray(self.o - self.E)

    @cached_property
    def loss(self) -> Any:
        """L = 1/2 sum c^2, eq. (1.7): the paper's L(X). A number; analytic in the inputs."""
        with np.errstate(over="ignore"):
            value = np.sum(self.c * self.c) / 2
        require_finite(np.asarray(value), "the loss")
        return value

    # The backward pass

    @cached_property
    def q(self) -> Array:
        """q = c h^T, eq. (2.1): the paper's q(x), dL/df. Shape (n, m)."""
        return _product(self.c, self.h.T)

    @cached_property
    def r(self) -> Array:
        """r_j = <f_j, q_j>, eq. (2.3): the paper's scalar in p2(x). Shape (n,)."""
        return np.asarray(np.sum(self.f * self.q, axis=1))

    @cached_property
    def r_from_output(self) -> Array:
        """r_j = <c_j, o_j>, eq. (2.4): the same number without any n x m matrix. Shape (n,)."""
        return np.asarray(np.sum(self.c * self.o, axis=1))

    @cached_property
    def p1(self) -> Array:
        """p1 = f o q (entrywise), eq. (2.2): the paper's p1(x). Shape (n, m)."""
        return np.asarray(self.f * self.q)

    @cached_property
    def p2(self) -> Array:
        """p2 = diag(r) f, eq. (2.2): the paper's p2(x) = f_j0 f_j0^T q_j0, row by row. (n, m)."""
        return np.asarray(self.r[:, None] * self.f)

    @cached_property
    def p(self) -> Array:
        """p = p1 - p2 = dL/dS, eq. (2.2): the paper's p(x). Rows sum to 0. Shape (n, m)."""
        return np.asarray(self.p1 - self.p2)

    # Gradients

    @cached_property
    def dX(self) -> Array:
        """dL/dX = s A1^T p A2, eq. (2.5): the paper's main formula. Shape (d1, d2)."""
        return np.asarray(self.scale * _product(self.A1.T, _product(self.p, self.A2)))

    @cached_property
    def dW_Q(self) -> Array:
        """dL/dW_Q = s A1^T p (A2 W_K), eq. (2.6). Shape (d1, dk)."""
        return np.asarray(
            self.scale * _product(self.A1.T, _product(self.p, _product(self.A2, self.W_K)))
        )

    @cached_property
    def dW_K(self) -> Array:
        """dL/dW_K = s A2^T p^T (A1 W_Q), eq. (2.7). Shape (d2, dk)."""
        return np.asarray(
            self.scale * _product(self.A2.T, _product(self.p.T, _product(self.A1, self.W_Q)))
        )

    @cached_property
    def dY(self) -> Array:
        """dL/dY = A3^T f^T c, eq. (2.8). Shape (d3, dv)."""
        return _product(self.A3.T, _product(self.f.T, self.c))

    @cached_property
    def dA1(self) -> Array:
        """dL/dA1 = s p A2 X^T, eq. (2.9). Shape (n, d1)."""
        return np.asarray(self.scale * _product(_product(self.p, self.A2), self.matrix_X.T))

    @cached_property
    def dA2(self) -> Array:
        """dL/dA2 = s p^T A1 X, eq. (2.10). Shape (m, d2)."""
        return np.asarray(self.scale * _product(_product(self.p.T, self.A1), self.matrix_X))

    @cached_property
    def dA3(self) -> Array:
        """dL/dA3 = f^T c Y^T, eq. (2.11). Shape (m, d3)."""
        return _product(_product(self.f.T, self.c), self.Y.T)

    @cached_property
    def dA(self) -> Array:
        """dL/dA for self-attention A1 = A2 = A3 = A, eq. (2.12): the sum of the three. (n, d)."""
        if not self.A1.shape == self.A2.shape == self.A3.shape:
            raise ShapeError("A: found A1, A2 and A3 of different shapes; self-attention has one")
        return np.asarray(self.dA1 + self.dA2 + self.dA3)

    def gradient(self, wrt: str = "X") -> Array:
        """dL/d(wrt), wrt one of X, W_Q, W_K, Y, A1, A2, A3, A; eq. (2.5) - (2.12).

        Raises OptionError for a name that the problem does not have.
        """
        names = ("W_Q", "W_K") if self.is_pair else ("X",)
        if wrt not in (*names, "Y", "A1", "A2", "A3", "A"):
            raise OptionError(f"wrt: found {wrt!r}; expected {names}, Y, A1, A2, A3 or A")
        return np.asarray(getattr(self, f"d{wrt}"))

    # The paper's own route: vectors and Kronecker products

    @cached_property
    def kron_A(self) -> Array:
        """A = A1 (x) A2, eq. (4.2): the paper's n m x d1 d2 matrix of the tensor trick."""
        return tensor_trick(self.A1, self.A2)

    def row(self, j: int) -> Row:
        """Row j of everything, as the paper writes it: u(x)_j0, f(x)_j0, ... from A_j0 and x."""
        n, m = self.A1.shape[0], self.A2.shape[0]
        block = self.kron_A.reshape(n, m, -1)[j][self.seen[j]]
        return Row(
            A=self.scale * block,
            x=vec(self.matrix_X),
            h=self.h[self.seen[j]],
            e=self.E[j],
            shift=self.shift[j, 0],
            exp=self.exp,
        )

    def gradient_vec(self) -> Array:
        """dL/dx = vec(s A1^T p A2) = s (A1 (x) A2)^T vec(p), eq. (4.3). Shape (d1 d2,)."""
        return np.asarray(self.scale * (self.kron_A.T @ vec(self.p)))

    def gradient_by_rows(self) -> Array:
        """The sum over j0 of the single-row gradients of the paper, eq. (4.6). Shape (d1, d2)."""
        shape = self.matrix_X.shape
        total = np.zeros(shape, dtype=self.p.dtype)
        for j in range(self.A1.shape[0]):
            total = total + unvec(self.row(j).gradient, shape)
        return total


def _matrix(name: str, value: Any) -> Array:
    array = unmasked(name, value)
    if array.ndim != 2:
        raise ShapeError(f"{name}: found {array.ndim} dimensions; expected a matrix")
    return array


def _product(a: Array, b: Array) -> Array:
    """a b; underflow to 0 is what the dtype means, overflow is an error."""
    with np.errstate(all="ignore"):
        product = np.asarray(a @ b)
    require_finite(product, "a product")
    return product


def loss(A1: Array, A2: Array, A3: Array, X: Weight, Y: Array, E: Array, **options: Any) -> Any:
    """L(X, Y), eq. (1.7). Options, errors and cost as in :class:`Problem`."""
    return Problem(A1, A2, A3, X, Y, E, **options).loss


def loss_gradient(
    A1: Array,
    A2: Array,
    A3: Array,
    X: Weight,
    Y: Array,
    E: Array,
    *,
    wrt: str = "X",
    **options: Any,
) -> Array:
    """dL/d(wrt), eq. (2.5) - (2.12). Options, errors and cost as in :class:`Problem`."""
    return Problem(A1, A2, A3, X, Y, E, **options).gradient(wrt)
