"""Polynomial features: φ(q) · φ(k) = P(⟨q, k⟩) for a polynomial P near the exponential.

``ExpFeatures`` fits them; ``Balance``, ``IndexSet`` and ``LogitSample`` are what they are made of.
Everything is computed by the core (``attngrad::features`` in Rust); docs/math.md, section 10.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._core import Balance, IndexSet, LogitSample
from ._inputs import arrays, options
from ._inputs.arrays import Array
from ._inputs.memory import check_fits
from .errors import OptionError
from .polynomials import KINDS, ExpPolynomial, Kind

__all__ = ["Balance", "ExpFeatures", "IndexSet", "LogitSample", "request"]


class ExpFeatures:
    """Polynomial features of queries and keys whose inner products are near the exponential.

    ``U = transform_query(q)`` and ``V = transform_key(k)`` satisfy U Vᵀ ≈ exp(scale · q kᵀ).

    Parameters
    ----------
    degree : int, optional
        Degree g of the polynomial. By default the smallest that meets ``rtol``; 2 without either.
    rtol : float, optional
        The error to stay below: the root mean square of the relative error of the entries, a query
        drawn at random and its keys by their attention (eq. (10.7)). It is measured on all pairs,
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
    threads : int, optional
        Threads to use; by default all that the process may use. No bit depends on it.

    Attributes
    ----------
    degree_, n_features_, n_features_in_ : int
        g, N and E; N is at most C(E + g, g).
    scale_ : float
        The scale in use.
    coefficients_ : ndarray, (g + 1,)
        P_0 ... P_g, by powers of the centred logit.
    polynomial_ : ExpPolynomial
        P itself.
    interval_ : tuple of two floats
        A pair that holds every centred logit of the data.
    spectrum_ : ndarray, (E,)
        Second moments of the balanced coordinates, falling.
    balance_ : Balance
        The coordinates.
    index_set_ : IndexSet
        The monomials, one for each feature.
    error_ : float
        The error as measured; see ``rtol``.
    bound_ : float
        The relative error of every entry of the data is at most this, rounding aside; infinite
        where monomials up to the degree were left out.

    Notes
    -----
    Source: docs/math.md, eq. (10.1) - (10.7). Fitting costs O((n + m) E²), a transform n (N + E²).

    In a scikit-learn ``Pipeline`` rows are their own keys: ``fit(X)`` is ``fit(X, X)``, and
    ``transform`` is ``transform_query``.

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

    def __init__(
        self,
        degree: int | None = None,
        *,
        rtol: float | None = None,
        scale: float | None = None,
        kind: Kind = "least_squares",
        max_features: int = 20_000,
        anisotropic: bool = False,
        rng: int | np.random.Generator | None = None,
        threads: int | None = None,
    ) -> None:
        """Store the parameters, untouched; ``fit`` checks them."""
        self.degree, self.rtol, self.scale, self.kind = degree, rtol, scale, kind
        self.max_features, self.anisotropic = max_features, anisotropic
        self.rng, self.threads = rng, threads

    def fit(self, query: npt.ArrayLike, key: npt.ArrayLike | None = None) -> ExpFeatures:
        """Choose coordinates, degree and monomials for these queries and keys.

        Parameters
        ----------
        query : array_like, (n, E)
            All float32 or all float64.
        key : array_like, (m, E), optional
            By default the queries.

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
        asked, control = request(self.get_params()), self._options()
        copies = one_head("ExpFeatures.fit", query, query if key is None else key, self.threads)
        self._take(_core.ExpFeatures.fit(*copies, asked, control))
        return self

    def _take(self, fitted: _core.ExpFeatures) -> None:
        self._fitted = fitted
        self.polynomial_ = ExpPolynomial(self.kind, fitted.polynomial)
        self.coefficients_ = self.polynomial_.power
        self.degree_ = self.polynomial_.degree
        self.balance_ = fitted.balance
        self.index_set_ = fitted.index_set
        self.n_features_ = fitted.count
        self.n_features_in_ = self.index_set_.dimension
        self.scale_ = self.balance_.scale
        self.spectrum_ = self.balance_.spectrum
        self.interval_ = fitted.interval
        self.error_ = fitted.error
        self.bound_ = fitted.bound

    def transform_query(self, query: npt.ArrayLike) -> Array:
        """U, (n, N), of the dtype of ``query``.

        Raises
        ------
        AttnGradError
            As ``fit``; OptionError where nothing has been fitted; RangeError for rows so far from
            those that were fitted that their features overflow; OutOfMemoryError, before anything
            is taken, where n · N numbers do not fit.
        """
        rows = self._rows("query", query)
        return self._fitted.transform_query(rows, self._options())

    def transform_key(self, key: npt.ArrayLike) -> Array:
        """V, (m, N), of the dtype of ``key``; errors as ``transform_query``."""
        rows = self._rows("key", key)
        return self._fitted.transform_key(rows, self._options())

    def transform(self, X: npt.ArrayLike) -> Array:
        """``transform_query``, under the name that scikit-learn calls."""
        return self.transform_query(X)

    def fit_transform(self, X: npt.ArrayLike, y: object = None) -> Array:
        """``fit(X).transform(X)``; ``y`` is not looked at."""
        return self.fit(X).transform(X)

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """The monomials in balanced coordinates, as ``"x0^2 x3"``; ``"1"`` for the constant."""
        self._require_fitted()
        names = []
        for powers in self.index_set_.exponents:
            used = ((axis, power) for axis, power in enumerate(powers) if power)
            factors = (f"x{axis}" if power == 1 else f"x{axis}^{power}" for axis, power in used)
            names.append(" ".join(factors) or "1")
        return np.array(names, dtype=object)

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
            setattr(self, options.choice("set_params", name, list(_parameters())), value)
        return self

    def __repr__(self) -> str:
        """The parameters that are not the default."""
        changed = (
            f"{name}={options.show(getattr(self, name))}"
            for name, default in _parameters().items()
            if getattr(self, name) is not default and getattr(self, name) != default
        )
        return f"ExpFeatures({', '.join(changed)})"

    def __getstate__(self) -> dict[str, Any]:
        """Parameters and what was fitted, from which all attributes are made again."""
        kept = (*_parameters(), "_fitted")
        return {name: self.__dict__[name] for name in kept if name in self.__dict__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See ``__getstate__``."""
        self.__dict__.update(state)
        if "_fitted" in state:
            self._take(state["_fitted"])

    def __sklearn_is_fitted__(self) -> bool:
        """Whether ``fit`` has been called, for scikit-learn."""
        return hasattr(self, "_fitted")

    def __sklearn_tags__(self) -> Any:
        """The kind of estimator, for scikit-learn, which is imported by nobody but itself."""
        from sklearn.utils import Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
        )

    def _options(self) -> _core.Options:
        return _core.Options(threads=options.number("threads", self.threads))

    def _require_fitted(self) -> None:
        if not hasattr(self, "_fitted"):
            raise OptionError("ExpFeatures: found nothing fitted; call fit(query, key) first")

    def _rows(self, name: str, value: npt.ArrayLike) -> Array:
        """A checked private copy, and the promise that its features fit in memory."""
        self._require_fitted()
        given, dtype, _ = arrays.read_matrices({name: value})
        needed = self._fitted.transform_bytes(len(given[name]), dtype.itemsize)
        check_fits(f"transform_{name}", needed + arrays.total_bytes(given))
        return arrays.snapshots(given, dtype, finite=True)[name]


def request(asked: Mapping[str, Any]) -> _core.FeatureRequest:
    """Parameters of ``ExpFeatures``, checked as far as their types go; the rest is the core's."""
    numbers = ("degree", "rtol", "scale", "max_features")
    return _core.FeatureRequest(
        **{name: options.number(name, asked[name]) for name in numbers},
        kind=options.choice("kind", asked["kind"], KINDS),
        anisotropic=options.flag("anisotropic", asked["anisotropic"]),
        seed=options.rng(asked["rng"]) or 0,
    )


def one_head(title: str, query: object, key: object, threads: int | None) -> tuple[Array, Array]:
    """Private copies of queries and keys, once there is room for them and for a look at them."""
    read = arrays.read_heads(query, key)
    given, dtype, _ = arrays.read_matrices(read.arrays, ": pass one head at a time")
    look_bytes = _core.ExpFeatures.fit_bytes(sum(map(len, given.values())))
    check_fits(title, arrays.total_bytes(given) + look_bytes)
    copies = arrays.snapshots(given, dtype, finite=True, threads=threads)
    return copies["query"], copies["key"]


def _parameters() -> dict[str, Any]:
    """Names and defaults of the constructor's parameters."""
    signature = inspect.signature(ExpFeatures.__init__)
    return {name: one.default for name, one in list(signature.parameters.items())[1:]}
