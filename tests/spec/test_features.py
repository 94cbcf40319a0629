"""ExpFeatures: coordinates, features, and the error that is promised; eq. (10.1) - (10.7)."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import _core, reference
from attngrad_rs.features import Balance, LogitSample
from attngrad_rs.polynomials import KINDS
from helpers import Array, assert_close, assert_ratio, assert_same_bits, largest

pytestmark = pytest.mark.spec

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from((np.float32, np.float64))
# A sum of N products of factors that are a few roundings wrong each.
ROUNDINGS = 100.0
# A guaranteed bound of every entry, of data in 16 dimensions, by the error of a typical one.
USELESS_BOUND = 300.0
# What a mean may be off by, in the size of the data: it is cut to single precision.
MEAN = 2.0**-20
# Second moments of both sides are widened by 1e-6 of their mean, and means are cut to single
# precision; products of coordinates are what they were.
BALANCED, PRODUCTS = 1e-4, 1e-8
# How far the error of an estimate has to stay below a tolerance.
SAMPLING_MARGIN = 1.25


def data(seed: int, n: int = 9, m: int = 7, d: int = 3, spread: float = 1.0) -> tuple[Array, Array]:
    """Queries and keys with means that are not 0 and directions of different size."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.2, 1.0, d) * spread
    q = rng.standard_normal((n, d)) * sizes + rng.standard_normal(d)
    k = rng.standard_normal((m, d)) * sizes[::-1] + rng.standard_normal(d)
    return q, k


def parts(features: ag.ExpFeatures, q: Array, k: Array) -> tuple[Array, Array, Array]:
    """Centred logits t, and what exp(scale q kᵀ) is above exp(t): a factor by row and by column."""
    q, k = q.astype(np.longdouble), k.astype(np.longdouble)
    a, b, s = features.balance_.query_mean, features.balance_.key_mean, features.scale_
    for mean, rows in ((a, q), (b, k)):
        assert_ratio(mean, rows.mean(axis=0), largest(rows), MEAN, "means")
    t = s * (q - a) @ (k - b).T
    return t, np.exp(s * q @ b)[:, None], np.exp(s * (k - b) @ a)


def weighted_error(product: Array, logits: Array) -> float:
    """Eq. (10.7) from its definition, over all pairs."""
    logits = logits.astype(np.float64)
    u = np.exp(logits - logits.max(axis=1, keepdims=True))
    f = u / u.sum(axis=1, keepdims=True)
    relative = product / np.exp(logits) - 1.0
    return float(np.sqrt(np.sum(f * relative**2) / len(f)))


@given(SEEDS, st.integers(1, 4), st.integers(0, 5), DTYPES, st.sampled_from((-0.7, 0.3, 1.0)))
def test_features_reproduce_the_polynomial(
    seed: int, width: int, degree: int, dtype: Any, scale: float
) -> None:
    q, k = (rows.astype(dtype) for rows in data(seed, d=width))
    features = ag.ExpFeatures(degree, scale=scale, kind="taylor").fit(q, k)
    U, V = features.transform_query(q), features.transform_key(k)
    assert U.dtype == V.dtype == dtype
    assert U.shape == (len(q), features.n_features_)
    assert features.n_features_ == len(features.get_feature_names_out())
    t, rows, columns = parts(features, q, k)
    want = sum(P * t**a for a, P in enumerate(features.coefficients_)) * rows * columns
    # Eigenvectors of one coordinate system are not those of another: sizes, not the sum itself.
    size = np.exp(np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(k, axis=1) * abs(scale) * 4)
    assert_ratio(U @ V.T, want, size, ROUNDINGS * float(np.finfo(dtype).eps), "U Vᵀ")


def balance(q: Array, k: Array, scale: float, *, center_query: bool) -> tuple[Balance, float]:
    """Coordinates of the data, and the bound of their logits."""
    sample = LogitSample.draw(q, k, scale, center_query, 0, _core.Options())
    return sample.balance, sample.bound


@given(SEEDS, st.integers(1, 5), st.booleans(), st.sampled_from((-2.0, 0.25, 1.0)))
def test_balance_leaves_inner_products_and_makes_sides_alike(
    seed: int, width: int, center: bool, scale: float
) -> None:
    q, k = data(seed, n=40, m=30, d=width)
    change, bound = balance(q, k, scale, center_query=center)
    a, b = change.query_mean, change.key_mean
    assert center or not a.any()
    new_q, new_k = change.queries(q, _core.Options()), change.keys(k, _core.Options())
    size = np.linalg.norm(q - a, axis=1)[:, None] * np.linalg.norm(k - b, axis=1)
    want = scale * (q - a) @ (k - b).T
    assert_ratio(change.sign * new_q @ new_k.T, want, abs(scale) * size, PRODUCTS, "⟨q', k'⟩")
    for moment in (new_q.T @ new_q / len(q), new_k.T @ new_k / len(k)):
        assert_close(moment, np.diag(change.spectrum), BALANCED, "second moments")
    assert (np.diff(change.spectrum) <= 0).all()
    assert bound >= largest(want) * (1 - PRODUCTS)


@given(SEEDS, st.integers(1, 4))
def test_balance_maps_gradients_back(seed: int, width: int) -> None:
    """Eq. (10.3): a gradient by q' and k' is one by q and k after the transposed maps."""
    q, k = data(seed, n=8, m=6, d=width)
    rng = np.random.default_rng(seed)
    v, dout = rng.standard_normal((6, 2)), rng.standard_normal((8, 2))
    change, _ = balance(q, k, 0.5, center_query=False)
    dq, dk, dv = reference.attention_vjp(q, k, v, dout, scale=0.5)
    new = reference.attention_vjp(
        change.queries(q, _core.Options()), change.keys(k, _core.Options()), v, dout, scale=1.0
    )
    assert_close(change.query_gradient(new[0]), dq, 1e-6, "dq")
    assert_close(change.key_gradient(new[1]), dk, 1e-6, "dk")
    assert_close(new[2], dv, 1e-9, "dv")


@given(SEEDS, st.sampled_from(KINDS), st.integers(1, 4), st.booleans())
def test_error_and_bound_are_those_of_the_data(
    seed: int, kind: str, degree: int, negative: bool
) -> None:
    """On small problems the measured error is the error, and the bound holds entry by entry."""
    q, k = data(seed, spread=0.7)
    scale = -0.5 if negative else 0.5
    features = ag.ExpFeatures(degree, scale=scale, kind=kind).fit(q, k)
    product = features.transform_query(q) @ features.transform_key(k).T
    logits = scale * q @ k.T
    assert weighted_error(product, logits) == pytest.approx(features.error_, rel=1e-4, abs=1e-9)
    worst = largest(product / np.exp(logits) - 1.0)
    assert worst <= features.bound_ + 1e-9
    low, high = features.interval_
    t = parts(features, q, k)[0]
    assert low <= t.min()
    assert t.max() <= high


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rtol", [0.3, 1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize("kind", ["least_squares", "minimax_relative", "taylor"])
def test_the_tolerance_is_met_on_all_pairs(
    dtype: Any, rtol: float, anisotropic: bool, kind: str
) -> None:
    q, k = (rows.astype(dtype) for rows in data(3, n=700, m=600, d=4, spread=0.9))
    features = ag.ExpFeatures(rtol=rtol, scale=0.4, kind=kind, anisotropic=anisotropic)
    features.fit(q, k)
    product = features.transform_query(q) @ features.transform_key(k).T
    error = weighted_error(product, 0.4 * q @ k.T)
    assert error <= rtol
    # The smallest degree that does it: one less does not.
    if features.degree_ > 0 and not anisotropic:
        lower = ag.ExpFeatures(features.degree_ - 1, scale=0.4, kind=kind).fit(q, k)
        assert lower.error_ * SAMPLING_MARGIN > rtol


def heavy_tails(rng: np.random.Generator) -> tuple[Array, Array, float]:
    return *rng.standard_t(6, (2, 700, 3)), 0.1


def one_direction(rng: np.random.Generator) -> tuple[Array, Array, float]:
    return *rng.standard_normal((2, 700, 1)), 0.7


def far_from_zero(rng: np.random.Generator) -> tuple[Array, Array, float]:
    q, k = rng.standard_normal((2, 700, 3))
    return q + np.array([3.0, -2.0, 0.0]), k + np.array([1.0, 4.0, -1.0]), 0.3


@pytest.mark.parametrize("family", [heavy_tails, one_direction, far_from_zero])
def test_the_tolerance_is_met_by_moderate_logits(family: Any) -> None:
    """Over all pairs, though only a sample is looked at; and without a great deal of waste.

    Wider logits with heavy tails exceed the estimate now and then: see SAMPLING_MARGIN.
    """
    shares = []
    for seed in range(8):
        q, k, scale = family(np.random.default_rng(seed))
        for rtol in (0.2, 0.02):
            features = ag.ExpFeatures(rtol=rtol, scale=scale, max_features=4000).fit(q, k)
            product = features.transform_query(q) @ features.transform_key(k).T
            shares.append(weighted_error(product, scale * q @ k.T) / rtol)
    assert max(shares) <= 1.0
    # A degree is worth a factor of 3 to 20: the least one leaves this much on average at most.
    assert np.median(shares) >= 0.05


def test_one_degree_is_worth_a_factor() -> None:
    """Uniform entries, d = 16, s = 1/d: the errors that least squares is chosen for."""
    rng = np.random.default_rng(0)
    q, k = rng.uniform(-1, 1, (2, 600, 16))
    for degree, bar in ((1, 6e-3), (2, 3e-4), (3, 1.3e-5)):
        features = ag.ExpFeatures(degree, scale=1 / 16).fit(q, k)
        assert bar / 3 <= features.error_ <= bar
        assert features.error_ <= features.bound_ <= USELESS_BOUND * features.error_ * 4**degree


def test_least_squares_is_better_than_the_other_kinds() -> None:
    q, k = data(1, n=200, m=200, d=4, spread=0.6)
    errors = {kind: ag.ExpFeatures(3, kind=kind).fit(q, k).error_ for kind in KINDS}
    assert min(errors, key=errors.__getitem__) == "least_squares"
    bounds = {kind: ag.ExpFeatures(3, kind=kind).fit(q, k).bound_ for kind in KINDS}
    assert min(bounds, key=bounds.__getitem__) == "minimax_relative"


def test_anisotropic_sets_need_fewer_features() -> None:
    rng = np.random.default_rng(0)
    sizes = 2.0 ** -np.arange(12)
    q, k = rng.standard_normal((2, 500, 12)) * sizes
    whole = ag.ExpFeatures(rtol=1e-2, scale=0.5).fit(q, k)
    chosen = ag.ExpFeatures(rtol=1e-2, scale=0.5, anisotropic=True).fit(q, k)
    assert chosen.n_features_ * 4 < whole.n_features_
    product = chosen.transform_query(q) @ chosen.transform_key(k).T
    assert weighted_error(product, 0.5 * q @ k.T) <= 1e-2


def test_an_outlier_is_not_missed() -> None:
    """A single key far out carries the attention of many rows: no sample may leave it out."""
    q, k = data(5, n=2000, m=2000, d=3, spread=0.2)
    k[1234] = 25.0
    features = ag.ExpFeatures(3, scale=0.3).fit(q, k)
    product = features.transform_query(q) @ features.transform_key(k).T
    assert features.error_ == pytest.approx(weighted_error(product, 0.3 * q @ k.T), rel=0.2)


@given(SEEDS, DTYPES)
def test_layout_does_not_matter(seed: int, dtype: Any) -> None:
    q, k = (rows.astype(dtype) for rows in data(seed))
    plain = ag.ExpFeatures(2).fit(q, k)
    wide = np.zeros((2 * len(q), 2 * q.shape[1]), dtype)
    wide[::2, ::2] = q
    swapped = k.astype(k.dtype.newbyteorder(">"))
    swapped.setflags(write=False)
    for other_q, other_k in ((wide[::2, ::2], k), (np.asfortranarray(q), swapped)):
        other = ag.ExpFeatures(2).fit(other_q, other_k)
        U, V = other.transform_query(other_q), other.transform_key(other_k)
        assert_same_bits(U, plain.transform_query(q), "U")
        assert_same_bits(V, plain.transform_key(k), "V")


def test_parameters_are_stored_untouched() -> None:
    given_params = {
        "degree": 3, "rtol": 0.5, "scale": 0.25, "kind": "taylor", "max_features": 99,
        "anisotropic": True, "rng": np.random.default_rng(1), "threads": 2,
    }  # fmt: skip
    features = ag.ExpFeatures(**given_params)
    params = features.get_params(deep=False)
    assert list(params) == list(given_params)
    assert all(params[name] is value for name, value in given_params.items())
    clone = type(features)(**params)
    assert clone.get_params() == params
    assert features.set_params(rtol=None, degree=2) is features
    assert (features.rtol, features.degree) == (None, 2)
    with pytest.raises(ag.OptionError, match="depth"):
        features.set_params(depth=3)
    assert repr(ag.ExpFeatures()) == "ExpFeatures()"
    assert (
        repr(ag.ExpFeatures(rtol=1e-3, kind="taylor")) == "ExpFeatures(rtol=0.001, kind='taylor')"
    )


def test_a_fitted_object_travels() -> None:
    q, k = data(0)
    features = ag.ExpFeatures(rtol=1e-2).fit(q, k)
    for other in (pickle.loads(pickle.dumps(features)), copy.deepcopy(features)):
        assert_same_bits(other.transform_key(k), features.transform_key(k), "V")
    again = ag.ExpFeatures(rtol=1e-2).fit(q, k)
    assert_same_bits(again.transform_query(q), features.transform_query(q), "U")


def test_feature_names() -> None:
    q, k = data(0, d=2)
    names = ag.ExpFeatures(2).fit(q, k).get_feature_names_out()
    assert names.tolist() == ["1", "x0", "x1", "x0^2", "x0 x1", "x1^2"]


def edge_cases() -> dict[str, tuple[Array, Array]]:
    q, k = data(2, n=6, m=5, d=3)
    return {
        "single row": (q[:1], k[:1]),
        "single query": (q[:1], k),
        "single key": (q, k[:1]),
        "equal keys": (q, np.repeat(k[:1], 5, axis=0)),
        "equal rows": (np.repeat(q[:1], 6, axis=0), np.repeat(k[:1], 5, axis=0)),
        "zeros": (0 * q, 0 * k),
        "one zero side": (q, 0 * k),
        "width 1": (q[:, :1], k[:, :1]),
        "width 0": (q[:, :0], k[:, :0]),
        "flat direction": (q * [1, 0, 1], k * [1, 1, 0]),
        "no queries": (q[:0], k),
        "no keys": (q, k[:0]),
        "nothing": (q[:0], k[:0]),
        "huge and tiny": (q * 1e200, k * 1e-200),
        "equal keys, large": (np.repeat(q, 60, axis=0), np.repeat(k[:1], 400, axis=0)),
    }


@pytest.mark.parametrize("title", edge_cases())
@pytest.mark.parametrize(
    "options", [{"degree": 0}, {"degree": 3}, {"rtol": 1e-6}, {"rtol": 1e-3, "anisotropic": True}]
)
@pytest.mark.parametrize("kind", KINDS)
def test_edges(title: str, options: dict[str, Any], kind: str) -> None:
    q, k = edge_cases()[title]
    features = ag.ExpFeatures(**options, scale=0.3, kind=kind).fit(q, k)
    U, V = features.transform_query(q), features.transform_key(k)
    assert U.shape == (len(q), features.n_features_)
    assert V.shape == (len(k), features.n_features_)
    if len(q) and len(k):
        error = weighted_error(U @ V.T, 0.3 * q @ k.T)
        assert error <= options.get("rtol", features.error_ + 1e-6)


Q, K = data(0, n=6, m=5)
SPOILT = np.where(np.arange(15).reshape(5, 3) == 4, np.nan, K)
WRONG: dict[str, tuple[dict[str, Any], Any, Any, type[Exception], str]] = {
    "negative degree": ({"degree": -1}, Q, K, ag.OptionError, "degree: found -1"),
    "degree too large": ({"degree": 99}, Q, K, ag.OptionError, "degree: found 99"),
    "degree a float": ({"degree": 2.0}, Q, K, ag.OptionTypeError, "degree: found 2.0"),
    "degree a bool": ({"degree": True}, Q, K, ag.OptionTypeError, "degree: found True"),
    "too many features": (
        {"degree": 8, "max_features": 100}, Q, K, ag.OptionError,
        "degree: found 8, which has 165 features",
    ),
    "no features": ({"max_features": 0}, Q, K, ag.OptionError, "max_features: found 0"),
    "features a float": ({"max_features": 1e3}, Q, K, ag.OptionTypeError, "max_features"),
    "rtol negative": ({"rtol": -0.1}, Q, K, ag.OptionError, "rtol: found -0.1"),
    "rtol NaN": ({"rtol": float("nan")}, Q, K, ag.OptionError, "rtol: found nan"),
    "rtol a string": ({"rtol": "small"}, Q, K, ag.OptionTypeError, "rtol: found 'small'"),
    "rtol not reached": ({"rtol": 1e-9, "degree": 2}, Q, K, ag.ToleranceError, "rtol: found 1e-9"),
    "scale infinite": ({"scale": float("inf")}, Q, K, ag.OptionError, "scale: found inf"),
    "kind unknown": ({"kind": "padé"}, Q, K, ag.OptionError, "kind: found 'padé'"),
    "anisotropic a number": ({"anisotropic": 1}, Q, K, ag.OptionTypeError, "anisotropic: found 1"),
    "rng a float": ({"rng": 0.5}, Q, K, ag.OptionTypeError, "rng: found 0.5"),
    "widths differ": ({}, Q, K[:, :2], ag.ShapeError, "key: found shape"),
    "a vector": ({}, Q[0], K, ag.ShapeError, "query: found"),
    "several heads": ({}, Q[None], K[None], ag.ShapeError, "query: found shape (1, "),
    "integers": ({}, Q, np.ones((5, 3), int), ag.DTypeError, "key: found dtype int64"),
    "half precision": ({}, Q.astype(np.float16), K, ag.DTypeError, "query: found dtype float16"),
    "mixed": ({}, Q, K.astype(np.float32), ag.DTypeError, "key: found float32"),
    "NaN": ({}, Q, SPOILT, ag.NonFiniteError, "key: found nan at index (1, 1)"),
    "overflow": ({}, Q * 1e200, K * 1e200, ag.RangeError, "query"),
}  # fmt: skip


@pytest.mark.parametrize("title", WRONG)
def test_wrong_calls(title: str) -> None:
    options, q, k, error, words = WRONG[title]
    with pytest.raises(error) as caught:
        ag.ExpFeatures(**options).fit(q, k)
    assert type(caught.value) is error
    assert words in str(caught.value)


def test_best_rtol_would_have_done() -> None:
    q, k = data(0, n=400, m=300, d=4)
    for options in ({"degree": 2}, {"max_features": 60}, {"max_features": 40, "anisotropic": True}):
        with pytest.raises(ag.ToleranceError) as caught:
            ag.ExpFeatures(rtol=1e-7, **options).fit(q, k)
        best = caught.value.best_rtol
        ag.ExpFeatures(rtol=best * 1.01, **options).fit(q, k)


def test_transforms_refuse_what_was_not_fitted() -> None:
    fitted = ag.ExpFeatures(2).fit(Q, K)
    with pytest.raises(ag.OptionError, match=r"call fit\(query, key\) first"):
        ag.ExpFeatures(2).transform_query(Q)
    for transform, name in ((fitted.transform_query, "query"), (fitted.transform_key, "key")):
        with pytest.raises(ag.ShapeError, match=f"{name}: found shape"):
            transform(Q[:, :2])
        with pytest.raises(ag.NonFiniteError, match=f"{name}: found inf"):
            transform(np.full((2, 3), np.inf))
        with pytest.raises(ag.RangeError, match=f"{name}: found"):
            transform(np.full((2, 3), 1e200))


def test_features_that_do_not_fit_are_refused_before_they_are_made() -> None:
    fitted = ag.ExpFeatures(3).fit(Q, K)
    absurd = np.lib.stride_tricks.as_strided(np.zeros(1), (2**40, 3), (0, 0))
    for call in itertools.chain(
        (lambda: ag.ExpFeatures(2).fit(absurd, K),), (lambda: fitted.transform_query(absurd),)
    ):
        with pytest.raises(ag.OutOfMemoryError, match="bytes"):
            call()
