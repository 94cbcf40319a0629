"""The paper's low-rank factors: U1 V1ᵀ ≈ f, U2 V2ᵀ ≈ q, U3 V3ᵀ ≈ p1, U4 V4ᵀ ≈ p2.

Computed by the core (``attngrad::factors`` in Rust); equations (10.8) - (10.13) of docs/math.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._inputs import arrays, options
from ._inputs.arrays import Array
from ._inputs.memory import check_fits
from ._inputs.signatures import documented
from .errors import OptionError
from .features import ExpFeatures, request
from .polynomials import ExpPolynomial, Kind
from .problem import Weights, loss_gradient

__all__ = ["Factors", "factors", "row_kronecker"]


FACTORS = ("U1", "V1", "U2", "V2", "U3", "V3", "U4", "V4")


class Factors:
    """The paper's factors of one problem, and its gradients from them.

    U3, V3 and U4 are made when they are first asked for; no gradient needs them as matrices.

    Attributes
    ----------
    U1, V1 : ndarray, (n, k1) and (m, k1)
        U1 V1ᵀ = f̃ ≈ f, the normaliser folded into U1: its rows sum to one. Eq. (10.9).
    U2, V2 : ndarray, (n, dv) and (m, dv)
        U2 V2ᵀ = c̃ hᵀ ≈ q: c̃ and h. Eq. (10.10).
    U3, V3 : ndarray, (n, k1 dv) and (m, k1 dv)
        U3 V3ᵀ = f̃ ∘ c̃ hᵀ ≈ p1: row-wise Kronecker products of the first two pairs. Eq. (10.11).
    U4, V4 : ndarray, (n, k1) and (m, k1)
        U4 V4ᵀ = diag(r̃) f̃ ≈ p2. Eq. (10.12). V4 is V1.
    """

    def __init__(
        self, inputs: Mapping[str, Array], scale: float | None, asked: Mapping[str, Any]
    ) -> None:
        """Of private copies; :func:`factors` is the door to it."""
        self._asked = asked
        problem = _core.Problem(**inputs, scale=scale, is_causal=False)
        needed = _core.factors_bytes(problem, asked["degree"] or 0)
        check_fits("factors", needed + arrays.total_bytes(inputs))
        self._options = _core.Options(threads=asked["threads"])
        self._core = _core.factors(problem, request(asked), self._options)
        self.inputs: Mapping[str, Array] = inputs
        """Private copies of A1, A2, A3, Y, E and of X or W_Q and W_K, by name."""
        self.scale: float = self._core.scale
        """s."""
        self.loss: float = self._core.loss
        """L of c̃, eq. (1.7)."""
        self.error: float = self._core.error
        """The root mean square relative error of an entry of U1 V1ᵀ, as ``ExpFeatures.error_``."""
        self.mean: npt.NDArray[np.float64] = self._core.mean
        """(d,): the row that keys are centred at, their mean as far as float32 tells it."""
        self.polynomial: ExpPolynomial = ExpPolynomial(asked["kind"], self._core.polynomial)
        """P, which stands for the exponential of the logits of centred keys."""

    def __getattr__(self, name: str) -> Array:
        """A factor, made when it is first asked for and kept."""
        if name not in FACTORS:
            raise AttributeError(f"Factors: found no attribute {name!r}")
        factor = self.V1 if name == "V4" else self._core.factor(name, self._options)
        self.__dict__[name] = factor
        return factor

    @property
    def ranks(self) -> dict[str, int]:
        """Columns of each pair, which bound its rank: k1, dv, k1 dv, k1."""
        return dict(zip(("f", "q", "p1", "p2"), self._core.ranks, strict=True))

    def gradient(self, wrt: options.Input = "X") -> Array:
        """dL/d(wrt) by eq. (2.5) - (2.12) with the factors in the place of f and p, eq. (10.13).

        Parameters
        ----------
        wrt : str
            X, or W_Q or W_K where X is a pair; Y, A1, A2, A3, or A for self-attention.

        Returns
        -------
        ndarray
            Of the shape and dtype of what it is a gradient with respect to.

        Raises
        ------
        OptionError, OptionTypeError
            If the problem has no such name.
        RangeError
            If the gradient leaves the range of the dtype.

        Notes
        -----
        Cost O((n + m) k1 dv d), no n × m matrix.
        """
        (name,) = options.wrt_names(options.choice("wrt", wrt, options.WRT_NAMES), self.inputs)
        return self._core.gradient(name, self._options)

    def __repr__(self) -> str:
        """Sizes, on one line; never the numbers."""
        ranks = ", ".join(f"{name}: {rank}" for name, rank in self.ranks.items())
        n, m = len(self.inputs["A1"]), len(self.inputs["A2"])
        return f"Factors(n={n}, m={m}, ranks={{{ranks}}}, {self.inputs['A1'].dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        """The inputs travel, and the same bits are made from them again."""
        return Factors, (self.inputs, self.scale, self._asked)


@documented(ExpFeatures, loss_gradient)
def factors(
    A1: npt.ArrayLike, A2: npt.ArrayLike, A3: npt.ArrayLike,
    X: Weights, Y: npt.ArrayLike, E: npt.ArrayLike,
    *,
    degree: int | None = None,
    rtol: float | None = None,
    scale: float | None = None,
    kind: Kind = "least_squares",
    max_features: int = 20_000,
    anisotropic: bool = False,
    is_causal: bool = False,
    rng: int | np.random.Generator | None = None,
    threads: int | None = None,
) -> Factors:  # fmt: skip
    """The low-rank factors of the paper for a polynomial, explicitly.

    Parameters
    ----------
    A1, A2, A3, X, Y, E, scale
        As in ``loss_gradient``.
    degree
        As in ``ExpFeatures``.
        With all monomials of degree g the rank k1 of f̃ is C(d + g, g), with d the width of the
        logits' inner product.
    rtol, kind, max_features, anisotropic, rng, threads
        As in ``ExpFeatures``.
    is_causal : bool
        Only False: a causal f is not of low rank, its factors hold for full attention.

    Returns
    -------
    Factors
        U1, V1 ... U4, V4, their ranks, and ``gradient(wrt)``.

    Raises
    ------
    AttnGradError
        As ``loss_gradient``; the message names the argument. OptionError where P gives a row of f̃
        a normaliser that is not positive, ToleranceError where ``rtol`` is not reached.
        OutOfMemoryError, before anything is taken, where the factors do not fit.

    Notes
    -----
    Source: docs/math.md, eq. (10.8) - (10.13). Cost O((n + m)(k1 + d + dv)) time and memory beside
    the fit; U3 and V3 take (n + m) k1 dv more where they are asked for.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> rng = np.random.default_rng(0)
    >>> A = rng.uniform(-1, 1, (50, 4))
    >>> parts = ag.factors(A, A, A, np.eye(4), np.eye(4), A, degree=3)
    >>> parts.ranks
    {'f': 35, 'q': 4, 'p1': 140, 'p2': 35}
    >>> parts.U3.shape, parts.gradient("Y").shape
    ((50, 140), (4, 4))
    >>> exact = ag.loss_gradient(A, A, A, np.eye(4), np.eye(4), A).gradient
    >>> bool(np.linalg.norm(parts.gradient("X") - exact) < 1e-3 * np.linalg.norm(exact))
    True
    """
    asked = {
        "degree": degree, "rtol": rtol, "scale": None, "kind": kind, "max_features": max_features,
        "anisotropic": anisotropic, "rng": options.rng(rng),
        "threads": options.number("threads", threads),
    }  # fmt: skip
    request(asked)
    if options.flag("is_causal", is_causal):
        raise OptionError(
            "is_causal: found True; expected False, as a causal mask is not of low rank: "
            "loss_gradient(..., is_causal=True) computes causal gradients"
        )
    s = options.number("scale", scale)
    problem = arrays.read_problem(A1, A2, A3, X, Y, E)
    check_fits("factors", arrays.total_bytes(problem.arrays))
    return Factors(arrays.snapshots(problem.arrays, problem.dtype, finite=True), s, asked)


def row_kronecker(U: npt.ArrayLike, W: npt.ArrayLike, *, threads: int | None = None) -> Array:
    """Row j is U_j ⊗ W_j (Khatri-Rao by rows), so (U ⊘ W)(V ⊘ Z)ᵀ = UVᵀ ∘ WZᵀ; eq. (10.11).

    Parameters
    ----------
    U, W : array_like, (n, a), (n, b)
        Both float32 or both float64.
    threads : int, optional
        By default all that the process may use.

    Returns
    -------
    ndarray, (n, a b)

    Raises
    ------
    AttnGradError
        ShapeError, DTypeError name the array; OutOfMemoryError where the product does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from attngrad_rs.factors import row_kronecker
    >>> row_kronecker(np.array([[1.0, 2.0]]), np.array([[10.0, 1.0]]))
    array([[10.,  1., 20.,  2.]])
    """
    given, dtype, _ = arrays.read_matrices({"U": U, "W": W})
    size = len(given["U"]) * given["U"].shape[1] * given["W"].shape[1] * dtype.itemsize
    check_fits("row_kronecker", size + arrays.total_bytes(given))
    copies = arrays.snapshots(given, dtype, finite=False)
    control = _core.Options(threads=options.number("threads", threads))
    return _core.row_kronecker(copies["U"], copies["W"], control)
