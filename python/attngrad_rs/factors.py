"""The paper's low-rank factors, written out: U1 V1ᵀ ≈ f, U2 V2ᵀ ≈ q, U3 V3ᵀ ≈ p1, U4 V4ᵀ ≈ p2.

For study: these matrices have n · rank entries each. Equations (107) - (112) of docs/math.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from . import arguments, arrays
from .arguments import checked_signature
from .arrays import Array, Problem
from .errors import OptionError, RangeError
from .features.fit import MAX_DEGREE, WANTED_DEGREE, fit_polynomial, logit_interval
from .features.index_set import feature_count, total_degree
from .features.monomials import feature_bytes, feature_weights, monomials
from .features.sampling import sample_pairs
from .features.transform import balance
from .memory import check_fits
from .polynomials import KINDS, ExpPolynomial

__all__ = ["Factors", "factors", "row_kronecker"]


@dataclass(frozen=True, eq=False, repr=False)
class Factors:
    """The paper's factors of one problem, and its gradients from them.

    Attributes
    ----------
    U1, V1 : (n, k1), (m, k1) arrays
        U1 V1ᵀ = f̃ ≈ f, the normaliser folded into U1: its rows sum to one. Eq. (108).
    U2, V2 : (n, dv), (m, dv) arrays
        U2 V2ᵀ = c̃ hᵀ ≈ q: c̃ and h. Eq. (109).
    U3, V3 : (n, k1 dv), (m, k1 dv) arrays
        U3 V3ᵀ = f̃ ∘ c̃ hᵀ ≈ p1: row-wise Kronecker products of the first two pairs. Eq. (110).
    U4, V4 : (n, k1), (m, k1) arrays
        U4 V4ᵀ = diag(r̃) f̃ ≈ p2. Eq. (111). V4 is V1.
    scale : float
        s.
    polynomial : ExpPolynomial
        P, which stands for the exponential of the logits of centred keys.
    inputs : mapping of str to ndarray
        Private copies of A1, A2, A3, Y, E and of X or W_Q and W_K.
    """

    U1: Array
    V1: Array
    U2: Array
    V2: Array
    U3: Array
    V3: Array
    U4: Array
    V4: Array
    scale: float
    polynomial: ExpPolynomial
    inputs: Mapping[str, Array] = field(repr=False)

    @property
    def ranks(self) -> dict[str, int]:
        """Columns of each pair, which bound its rank: k1, dv, k1 dv, k1."""
        pairs = {"f": self.U1, "q": self.U2, "p1": self.U3, "p2": self.U4}
        return {name: left.shape[1] for name, left in pairs.items()}

    @property
    def loss(self) -> float:
        """L of c̃, eq. (7)."""
        return float(np.sum(np.square(self.U2, dtype=np.float64)) / 2.0)

    @checked_signature
    def gradient(self, wrt: str = "X") -> Array:
        """dL/d(wrt) by eq. (15) - (22) with the factors in the place of f and p, eq. (112).

        Parameters
        ----------
        wrt : str
            X, or W_Q or W_K where X is a pair; Y, A1, A2, A3, or A for self-attention.

        Returns
        -------
        ndarray
            Of the shape and dtype of what it is a gradient by.

        Raises
        ------
        OptionError, OptionTypeError
            If the problem has no such name.

        Notes
        -----
        Cost O((n + m) k1 dv d), no n × m matrix.
        """
        name = arguments.choice("wrt", wrt, arguments.WRT_NAMES)
        arguments.wrt_names(
            name, pair="X" not in self.inputs, self_attention=self._is_self_attention
        )
        parts = arguments.INPUT_NAMES if name == arguments.SUM_NAME else (name,)
        # BLAS kernels for small matrices compute on what lies beside them in memory: their flag of
        # an invalid operation says nothing of the result. A number beyond the range still warns.
        with np.errstate(invalid="ignore"):
            first, *others = (self._gradient(part) for part in parts)
            return np.asarray(sum(others, start=first))

    def __repr__(self) -> str:
        """Sizes, on one line; never the numbers."""
        ranks = ", ".join(f"{name}: {rank}" for name, rank in self.ranks.items())
        n, m = len(self.U1), len(self.V1)
        return f"Factors(n={n}, m={m}, ranks={{{ranks}}}, {self.U1.dtype})"

    @property
    def _is_self_attention(self) -> bool:
        A1, A2, A3 = (self.inputs[name] for name in arguments.INPUT_NAMES)
        return A1 is A2 and A2 is A3

    def _gradient(self, name: str) -> Array:
        A1, A2, A3, Y = (self.inputs[part] for part in ("A1", "A2", "A3", "Y"))
        # Rows of p̃ sum to zero: the mean of the keys would add nothing but rounding.
        A2 = A2 - np.mean(A2, axis=0) if len(A2) else A2
        s, c = A1.dtype.type(self.scale), self.U2
        if name == "X":
            gradient = s * A1.T @ self._p(A2)
        elif name == "W_Q":
            gradient = s * A1.T @ self._p(A2 @ self.inputs["W_K"])
        elif name == "W_K":
            gradient = s * A2.T @ self._p_transposed(A1 @ self.inputs["W_Q"])
        elif name == "Y":
            gradient = A3.T @ (self.V1 @ (self.U1.T @ c))
        elif name == "A1":
            gradient = s * self._times_weight(self._p(A2), transposed=True)
        elif name == "A2":
            gradient = s * self._p_transposed(self._times_weight(A1, transposed=False))
        else:
            gradient = (self.V1 @ (self.U1.T @ c)) @ Y.T
        return np.asarray(gradient)

    def _p(self, M: Array) -> Array:
        """p̃ M = U3 (V3ᵀ M) - U4 (V4ᵀ M)."""
        return np.asarray(self.U3 @ (self.V3.T @ M) - self.U4 @ (self.V4.T @ M))

    def _p_transposed(self, M: Array) -> Array:
        """p̃ᵀ M = V3 (U3ᵀ M) - V4 (U4ᵀ M)."""
        return np.asarray(self.V3 @ (self.U3.T @ M) - self.V4 @ (self.U4.T @ M))

    def _times_weight(self, M: Array, *, transposed: bool) -> Array:
        """M X or M Xᵀ, by way of the pair where there is one."""
        if "X" in self.inputs:
            X = self.inputs["X"]
            return np.asarray(M @ (X.T if transposed else X))
        first, second = self.inputs["W_Q"], self.inputs["W_K"]
        if transposed:
            first, second = second, first
        return np.asarray((M @ first) @ second.T)


@checked_signature
def factors(
    A1: npt.ArrayLike,
    A2: npt.ArrayLike,
    A3: npt.ArrayLike,
    X: npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike],
    Y: npt.ArrayLike,
    E: npt.ArrayLike,
    *,
    degree: int,
    scale: float | None = None,
    kind: str = "least_squares",
    is_causal: bool = False,
    rng: int | np.random.Generator | None = None,
) -> Factors:
    """The low-rank factors of the paper for a polynomial of the given degree, explicitly.

    Parameters
    ----------
    A1, A2, A3, X, Y, E
        As in ``loss_gradient``; X may be a pair (W_Q, W_K).
    degree : int
        g; the rank k1 of f̃ is C(d + g, g), with d the width of the logits' inner product.
    scale : float, optional
        By default 1/d2, as in ``loss_gradient``.
    kind : str
        Of polynomial, as in ``ExpFeatures``.
    is_causal : bool
        Only False: a causal f is not of low rank, its factors hold for full attention.
    rng : int or numpy.random.Generator, optional
        For the sampled logits that ``"least_squares"`` fits to; None is a fixed seed.

    Returns
    -------
    Factors
        U1, V1 ... U4, V4, their ranks, and ``gradient(wrt)``.

    Raises
    ------
    AttnGradError
        As ``loss_gradient``; the message names the argument. OptionError where P gives a row of f̃
        a normaliser that is not positive. OutOfMemoryError, before anything is taken, where the
        factors do not fit.

    Notes
    -----
    Source: docs/math.md, eq. (107) - (112). Cost O((n + m) k1 dv) time and memory.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> rng = np.random.default_rng(0)
    >>> A = rng.uniform(-1, 1, (50, 4))
    >>> parts = ag.factors(A, A, A, np.eye(4), np.eye(4), A, degree=3)
    >>> parts.ranks
    {'f': 35, 'q': 4, 'p1': 140, 'p2': 35}
    >>> exact = ag.loss_gradient(A, A, A, np.eye(4), np.eye(4), A).gradient
    >>> bool(np.linalg.norm(parts.gradient("X") - exact) < 1e-3 * np.linalg.norm(exact))
    True
    """
    degree = arguments.integer("degree", degree, 0, MAX_DEGREE, WANTED_DEGREE)
    kind = arguments.choice("kind", kind, KINDS)
    if arguments.flag("is_causal", is_causal):
        raise OptionError(
            "is_causal: found True; a causal mask is not of low rank, so False is wanted: "
            "loss_gradient(..., is_causal=True) computes causal gradients"
        )
    random = arguments.generator(rng)
    problem = arrays.read_problem(A1, A2, A3, X, Y, E)
    s = arguments.scale(scale, 1.0 / max(problem.sizes.d2, 1))
    check_fits("factors", _bytes(problem, degree))
    inputs = arrays.snapshots(problem.arrays, problem.dtype, finite=True)
    query, key = _queries_and_keys(inputs)
    # Queries stay where they are: f is P of the logits of centred keys and of nothing else.
    change = balance(query, key, s, center_query=False)
    queries, keys = change.queries(query), change.keys(key)
    sample = sample_pairs(change, query, key, random)
    interval = logit_interval(sample, change.logit_bound(query, key))
    polynomial = fit_polynomial(kind, degree, interval, sample)
    index = total_degree(queries.shape[1], degree)
    weights = feature_weights(polynomial.power, index, change.sign)
    U, V = (
        monomials(rows, index) * weight.astype(problem.dtype)
        for rows, weight in zip((queries, keys), weights, strict=True)
    )
    U1, V1 = U / _normaliser(U, V)[:, None], V
    h = inputs["A3"] @ inputs["Y"]
    o = U1 @ (V1.T @ h)
    c = o - inputs["E"]
    r = np.sum(c * o, axis=1)
    return Factors(
        U1=U1,
        V1=V1,
        U2=c,
        V2=h,
        U3=row_kronecker(U1, c),
        V3=row_kronecker(V1, h),
        U4=r[:, None] * U1,
        V4=V1,
        scale=s,
        polynomial=polynomial,
        inputs=inputs,
    )


def row_kronecker(U: Array, W: Array) -> Array:
    """Row j is U_j ⊗ W_j (Khatri-Rao by rows), so (U ⊘ W)(V ⊘ Z)ᵀ = UVᵀ ∘ WZᵀ; eq. (110).

    (n, a), (n, b) -> (n, a b).
    """
    return (U[:, :, None] * W[:, None, :]).reshape(len(U), U.shape[1] * W.shape[1])


def _queries_and_keys(inputs: Mapping[str, Array]) -> tuple[Array, Array]:
    """A1 X and A2, or A1 W_Q and A2 W_K: rows whose inner products are the logits over s."""
    with np.errstate(over="ignore", invalid="ignore"):
        if "X" in inputs:
            query, key = inputs["A1"] @ inputs["X"], inputs["A2"]
        else:
            query, key = inputs["A1"] @ inputs["W_Q"], inputs["A2"] @ inputs["W_K"]
    for name, rows in (("A1", query), ("A2", key)):
        if not np.all(np.isfinite(rows)):
            raise RangeError(
                f"{name}: found an overflow in its product with the weights; "
                "scale the inputs down, or use float64"
            )
    return query, key


def _normaliser(U: Array, V: Array) -> Array:
    """Row sums of U Vᵀ, eq. (107); ones where there is no key."""
    if not len(V):
        return np.ones(len(U), dtype=U.dtype)
    sums = np.asarray(U @ np.sum(V, axis=0))
    if np.all(sums > 0.0):
        return sums
    worst = int(np.argmin(np.where(np.isnan(sums), -np.inf, sums)))
    raise OptionError(
        f"degree: found a polynomial for which the attention weights of query {worst} sum to "
        f"{sums[worst]:.3g}, where a positive number is wanted: the logits are too large for it; "
        'use a higher degree, or kind="minimax_relative"'
    )


def _bytes(problem: Problem, degree: int) -> int:
    """Bytes of everything that is made, as an exact Python integer."""
    n, m, dv = problem.sizes.n, problem.sizes.m, problem.sizes.dv
    rank = feature_count(problem.sizes.width, degree)
    itemsize = problem.dtype.itemsize
    # U and V before and after the weights, U1 and U4; then U3 and V3 with one more of them.
    narrow = feature_bytes(3 * (n + m), rank, itemsize)
    wide = feature_bytes(n + m, rank * dv, itemsize)
    # The copies, and those in float64 that the coordinates are made from.
    return narrow + wide + 5 * arrays.total_bytes(problem.arrays)
