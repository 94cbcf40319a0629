"""``ExpFeatures``: U Vᵀ near exp(scale · q kᵀ), in the manner of scikit-learn, without it."""

from __future__ import annotations

import inspect
import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments, arrays
from ..arguments import checked_constructor, checked_signature
from ..arrays import Array
from ..errors import OptionError, RangeError, ShapeError
from ..memory import check_fits
from ..polynomials import KINDS, ExpPolynomial
from .fit import LARGEST_LOGIT, MAX_DEGREE, WANTED_DEGREE, Interval
from .index_set import feature_count
from .monomials import feature_bytes, feature_weights, monomials
from .search import Request, search
from .transform import balance

__all__ = ["ExpFeatures"]

DEFAULT_DEGREE = 2


@checked_constructor
class ExpFeatures:
    """Polynomial features of queries and keys whose inner products are near the exponential.

    ``U = transform_query(q)`` and ``V = transform_key(k)`` satisfy U Vᵀ ≈ exp(scale · q kᵀ).

    Parameters
    ----------
    degree : int, optional
        Degree g of the polynomial. By default the smallest that meets ``rtol``; 2 without either.
    rtol : float, optional
        The error to stay below: the root mean square of the relative error of the entries, a query
        drawn at random and its keys by their attention (eq. (106)). It is measured on all pairs,
        in the dtype of the data; beyond 256 rows on a side it is estimated from sampled ones and
        has to stay a fifth below. That is no guarantee, least of all for heavy tails;
        ``bound_`` is one.
    scale : float, optional
        By default 1/√E, with E the width of q and k.
    kind : str
        ``"least_squares"`` (the smallest measured error), ``"minimax_relative"`` (the smallest
        ``bound_``), ``"minimax"``, ``"chebyshev"`` or ``"taylor"``.
    max_features : int
        The most features N that are affordable; each transform makes n · N numbers.
    anisotropic : bool
        Choose monomials by what they are predicted to contribute, instead of all up to the degree:
        for data whose variance is concentrated in few directions.
    rng : int or numpy.random.Generator, optional
        For the sample; None is a fixed seed.

    Attributes
    ----------
    degree_ : int
        g.
    n_features_ : int
        N, at most C(E + g, g).
    n_features_in_ : int
        E.
    scale_ : float
        The scale in use.
    coefficients_ : (g + 1,) array
        P_0 ... P_g, by powers of the centred logit.
    polynomial_ : ExpPolynomial
        P itself.
    interval_ : (float, float)
        Holds every centred logit of the data.
    spectrum_ : (E,) array
        Second moments of the balanced coordinates, falling.
    error_ : float
        The error as measured; see ``rtol``.
    bound_ : float
        The relative error of every entry of the data is at most this, rounding aside; infinite
        where monomials up to the degree were left out.

    Notes
    -----
    Source: docs/math.md, eq. (100) - (106). Fitting costs O((n + m) E²), a transform n N.
    Nothing here is fast on purpose: it is the explicit form, for study and for use in pipelines.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> rng = np.random.default_rng(0)
    >>> q, k = rng.standard_normal((200, 4)), rng.standard_normal((100, 4))
    >>> features = ag.ExpFeatures(rtol=1e-2, scale=0.1).fit(q, k)
    >>> features.degree_, features.n_features_
    (2, 15)
    >>> U, V = features.transform_query(q), features.transform_key(k)
    >>> u = np.exp(0.1 * q @ k.T)
    >>> f = u / u.sum(axis=1, keepdims=True)
    >>> bool(np.sqrt(np.sum(f * (U @ V.T / u - 1) ** 2) / len(q)) < 1e-2)
    True
    """

    degree_: int
    n_features_: int
    n_features_in_: int
    scale_: float
    coefficients_: npt.NDArray[np.float64]
    polynomial_: ExpPolynomial
    interval_: Interval
    spectrum_: npt.NDArray[np.float64]
    error_: float
    bound_: float

    def __init__(
        self,
        degree: int | None = None,
        *,
        rtol: float | None = None,
        scale: float | None = None,
        kind: str = "least_squares",
        max_features: int = 20_000,
        anisotropic: bool = False,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        """Store the parameters, untouched; ``fit`` checks them."""
        self.degree = degree
        self.rtol = rtol
        self.scale = scale
        self.kind = kind
        self.max_features = max_features
        self.anisotropic = anisotropic
        self.rng = rng

    @checked_signature
    def fit(self, query: npt.ArrayLike, key: npt.ArrayLike) -> ExpFeatures:
        """Choose coordinates, degree and monomials for these queries and keys.

        Parameters
        ----------
        query, key : array_like, (n, E), (m, E)
            Both float32 or both float64.

        Returns
        -------
        ExpFeatures
            Itself.

        Raises
        ------
        AttnGradError
            ShapeError, DTypeError, NonFiniteError name the array; OptionError, OptionTypeError the
            parameter. OptionError also where the degree has more than ``max_features`` features.
            ToleranceError with ``best_rtol`` where ``rtol`` is not reached with the features
            allowed, RangeError where logits overflow.
        """
        request = self._request()
        given, dtype = arrays.read_heads({"query": query, "key": key})
        for name, array in given.items():
            if array.ndim != 2:
                raise ShapeError(
                    f"{name}: found shape {array.shape}; a matrix is wanted: pass one head"
                )
        # The copies, and float64 ones while means and covariances are taken.
        check_fits("ExpFeatures.fit", 5 * arrays.total_bytes(given))
        copies = arrays.snapshots(given, dtype, finite=True)
        width = given["query"].shape[1]
        scale = arguments.scale(self.scale, 1.0 / math.sqrt(max(width, 1)))
        self._balance = balance(copies["query"], copies["key"], scale, center_query=True)
        choice = search(request, self._balance, copies["query"], copies["key"])
        self._index = choice.index
        self.polynomial_ = choice.polynomial
        self.coefficients_ = np.asarray(choice.polynomial.power, dtype=np.float64)
        self.degree_ = len(self.coefficients_) - 1
        self.n_features_ = choice.index.size
        self.n_features_in_ = width
        self.scale_ = scale
        self.interval_ = choice.interval
        self.spectrum_ = self._balance.spectrum
        self.error_ = choice.error
        self.bound_ = self._bound()
        return self

    @checked_signature
    def transform_query(self, query: npt.ArrayLike) -> Array:
        """U, (n, N), of the dtype of ``query``.

        Raises
        ------
        AttnGradError
            As ``fit``; OptionError where nothing has been fitted; OutOfMemoryError, before anything
            is taken, where n · N numbers do not fit.
        """
        rows = self._rows("query", query)
        features = self._monomials(self._balance.queries(rows))
        features *= self._weights()[0].astype(rows.dtype)
        features *= self._balance.query_factors(rows)[:, None]
        return _finite("query", features)

    @checked_signature
    def transform_key(self, key: npt.ArrayLike) -> Array:
        """V, (m, N), of the dtype of ``key``; errors as ``transform_query``."""
        rows = self._rows("key", key)
        features = self._monomials(self._balance.keys(rows))
        features *= self._weights()[1].astype(rows.dtype)
        features *= self._balance.key_factors(rows)[:, None]
        return _finite("key", features)

    def get_feature_names_out(self) -> npt.NDArray[np.object_]:
        """The monomials in balanced coordinates, as ``"x0^2 x3"``; ``"1"`` for the constant."""
        self._require_fitted()
        return np.array([_monomial_name(beta) for beta in self._index.exponents], dtype=object)

    @checked_signature
    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the constructor, as they were given; ``deep`` changes nothing."""
        return {name: getattr(self, name) for name in _parameters()}

    def set_params(self, **params: Any) -> ExpFeatures:
        """Change parameters; what has been fitted stays until the next ``fit``.

        Raises
        ------
        OptionError
            If there is no parameter of such a name.
        """
        for name, value in params.items():
            if name not in _parameters():
                raise OptionError(
                    f"{arguments.show(name)}: found no such parameter; "
                    f"known are {', '.join(_parameters())}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """The parameters that are not the default."""
        changed = (
            f"{name}={arguments.show(getattr(self, name))}"
            for name, default in _parameters().items()
            if getattr(self, name) is not default and getattr(self, name) != default
        )
        return f"ExpFeatures({', '.join(changed)})"

    def _request(self) -> Request:
        """The parameters, checked."""
        degree, rtol = self.degree, self.rtol
        if degree is not None:
            degree = arguments.integer("degree", degree, 0, MAX_DEGREE, WANTED_DEGREE)
        elif rtol is None:
            degree = DEFAULT_DEGREE
        return Request(
            degree=degree,
            rtol=arguments.tolerance(rtol, 0.0, "fro", "any").rtol,
            kind=arguments.choice("kind", self.kind, KINDS),
            max_features=arguments.integer(
                "max_features", self.max_features, 1, sys.maxsize, "an integer of at least 1"
            ),
            anisotropic=arguments.flag("anisotropic", self.anisotropic),
            random=arguments.generator(self.rng),
        )

    def _require_fitted(self) -> None:
        if not hasattr(self, "_index"):
            raise OptionError("ExpFeatures: found nothing fitted; call fit(query, key) first")

    def _rows(self, name: str, value: npt.ArrayLike) -> Array:
        """A checked private copy, and the promise that its features fit in memory."""
        self._require_fitted()
        given = arrays.read_arrays({name: value})
        array = given[name]
        if array.ndim != 2 or array.shape[1] != self.n_features_in_:
            raise ShapeError(
                f"{name}: found shape {array.shape}; "
                f"(rows, {self.n_features_in_}) is wanted, as in fit"
            )
        dtype = arrays.common_dtype(given)
        features = feature_bytes(len(array), self.n_features_, dtype.itemsize)
        check_fits(f"transform_{name}", features + 3 * arrays.total_bytes(given))
        return arrays.snapshots(given, dtype, finite=True)[name]

    def _monomials(self, coordinates: Array) -> Array:
        return monomials(coordinates, self._index)

    def _weights(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return feature_weights(self.coefficients_, self._index, self._balance.sign)

    def _bound(self) -> float:
        if self.n_features_ < feature_count(self.n_features_in_, self.degree_):
            return math.inf
        if max(map(abs, self.interval_)) > LARGEST_LOGIT:
            return math.inf
        low, high = self.polynomial_.ratio_bounds(*self.interval_)
        bound = max(1.0 - low, high - 1.0)
        return bound if bound >= 0.0 else math.inf


def _parameters() -> dict[str, Any]:
    """Names and defaults of the constructor's parameters."""
    signature = inspect.signature(ExpFeatures.__init__)
    return {name: one.default for name, one in list(signature.parameters.items())[1:]}


def _finite(name: str, features: Array) -> Array:
    # One sum finds every NaN and infinity: finite features of a fitted size do not overflow in it.
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.sum(features, dtype=np.float64))
    if not math.isfinite(total):
        raise RangeError(
            f"{name}: found rows whose features leave the range of {features.dtype}; "
            "they are far from what was fitted: fit on such rows, or use float64"
        )
    return features


def _monomial_name(beta: npt.NDArray[np.intp]) -> str:
    factors = [
        f"x{axis}" if power == 1 else f"x{axis}^{power}" for axis, power in enumerate(beta) if power
    ]
    return " ".join(factors) or "1"
