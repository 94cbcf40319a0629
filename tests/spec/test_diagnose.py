"""What `diagnose` says about queries and keys, against the data in full."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs.features.index_set import feature_count
from helpers import Array, frobenius, largest

pytestmark = pytest.mark.spec

SEEDS = st.integers(0, 2**32 - 1)
# A deviation from 256 rows by 256 keys; the rows are drawn, the truth is over all.
SAMPLED_WITHIN = 0.15
# Rounding of a bound, and of sums.
SLACK = 1e-9


def uniform(n: int, d: int, size: float, seed: int = 0) -> tuple[Array, Array]:
    q, k = np.random.default_rng(seed).uniform(-size, size, (2, n, d))
    return q, k


def centred_logits(q: Array, k: Array, scale: float) -> Array:
    return np.asarray(scale * (q - q.mean(axis=0)) @ (k - k.mean(axis=0)).T)


@given(SEEDS, st.integers(1, 40), st.integers(1, 5), st.floats(-2.0, 2.0))
def test_statistics_of_small_problems_are_exact(seed: int, n: int, d: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((n, d)), rng.standard_normal((n + 3, d)) + 1.0
    found, t = ag.diagnose(q, k, scale=scale), centred_logits(q, k, scale)
    assert (found.n, found.m, found.width, found.scale) == (n, n + 3, d, scale)
    assert (found.largest_query, found.largest_key) == (largest(q), largest(k))
    assert largest(scale * q @ k.T) <= found.B**2 * (1 + SLACK)
    assert found.threshold_ratio == pytest.approx(found.B / math.sqrt(math.log(n + 3)))
    assert found.logit_std == pytest.approx(t.std(), abs=1e-6 * (1 + largest(t)))
    assert largest(t) <= found.logit_bound * (1 + 1e-6)
    assert found.logit_range == pytest.approx((t.min(), t.max()), abs=1e-6 * (1 + largest(t)))
    variance = math.fsum(size**2 for size in found.spectrum)
    assert variance == pytest.approx(found.logit_std**2, abs=1e-6 * (1 + largest(t) ** 2))
    assert 0.0 <= found.effective_rank <= d * (1 + SLACK)


def test_statistics_of_large_problems_are_near() -> None:
    q, k = uniform(3000, 8, 1.0)
    found, t = ag.diagnose(q, k), centred_logits(q, k, 8**-0.5)
    assert found.logit_std == pytest.approx(t.std(), rel=SAMPLED_WITHIN)
    assert largest(t) <= found.logit_bound <= 4 * largest(t)
    assert found.effective_rank == pytest.approx(8, rel=SAMPLED_WITHIN)


def test_effective_rank_counts_directions() -> None:
    q, k = uniform(500, 6, 1.0)
    for kept in (1, 2, 4):
        some = np.arange(6) < kept
        found = ag.diagnose(q * some, k)
        assert found.effective_rank == pytest.approx(kept, rel=SAMPLED_WITHIN)


def test_predictions_hold_for_gradients() -> None:
    """The error of the gradient at the degree predicted is about the accuracy asked for."""
    q, k = uniform(700, 4, 1.5)
    rng = np.random.default_rng(1)
    A3, E, eye = rng.uniform(-1, 1, (700, 4)), rng.standard_normal((700, 4)), np.eye(4)
    exact = reference.loss_gradient(q, k, A3, eye, eye, E, scale=0.25)
    found = ag.diagnose(q, k, scale=0.25)
    for one in found.predictions:
        assert one.degree is not None
        assert one.features == feature_count(4, one.degree)
        assert one.error <= one.rtol
        got = ag.factors(q, k, A3, eye, eye, E, scale=0.25, degree=one.degree).gradient()
        assert frobenius(got - exact) <= 3 * one.rtol * frobenius(exact)
        assert one.exact_operations == 10 * 700 * 4
        assert one.operations == 4 * feature_count(4, one.degree + 1) * 5
        assert one.gain == one.exact_operations / one.operations
    assert [one.rtol for one in found.predictions] == [1e-1, 1e-2, 1e-3]
    degrees = [one.degree or 0 for one in found.predictions]
    assert degrees == sorted(degrees)


def test_regimes_and_their_words() -> None:
    near = ag.diagnose(*uniform(20_000, 8, 1.5), scale=1 / 8)
    assert near.regime == "near-linear"
    assert near.findings == ()
    assert "ask for rtol" in near.advice
    small = ag.diagnose(*uniform(30, 8, 1.5), scale=1 / 8)
    assert small.regime == "exact"
    assert any(text.startswith("time is not near-linear") for text in small.findings)
    assert "pays from about" in small.advice
    large = ag.diagnose(*uniform(20_000, 8, 8.0), scale=1 / 8)
    assert large.regime == "exact"
    assert large.threshold_ratio > near.threshold_ratio
    assert any(text.startswith("error too large: the rank is too low") for text in large.findings)
    assert "use the exact method" in large.advice
    magnitude = ag.diagnose(*(x.astype(np.float32) for x in uniform(500, 2, 4.0)), scale=1.0)
    assert any(text.startswith("numerical trouble") for text in magnitude.findings)


def test_between_the_regimes() -> None:
    """With rising size the same entries go from exact through borderline to near-linear."""
    regimes = [ag.diagnose(*uniform(n, 8, 1.5), scale=1 / 8).regime for n in (30, 100, 1000)]
    assert regimes == ["exact", "borderline", "near-linear"]


def test_the_advised_number_of_keys_is_where_it_pays() -> None:
    q, k = uniform(30, 8, 1.5)
    advice = ag.diagnose(q, k, scale=1 / 8).advice
    keys = int(advice.split("from about ")[1].split()[0])
    repeated = [np.tile(x, (keys // 30 + 1, 1)) for x in (q, k)]
    assert ag.diagnose(*repeated, scale=1 / 8).regime == "near-linear"


def test_explanation_has_every_figure() -> None:
    found = ag.diagnose(*uniform(300, 4, 2.0))
    text = found.explain()
    titles = [line[:18].strip() for line in text.splitlines()]
    assert titles[:4] == ["sizes", "entries", "centred logits", "effective rank"]
    assert titles[4:8] == ["rtol 0.1", "rtol 0.01", "rtol 0.001", "regime"]
    assert titles[-1] == "advice"
    for figure in (f"B = {found.B:.3g}", f"{found.logit_std:.3g}", found.regime, *found.findings):
        assert figure in text


def test_the_same_each_time() -> None:
    q, k = uniform(1000, 4, 1.0)
    assert ag.diagnose(q, k) == ag.diagnose(q.copy(), np.asfortranarray(k))
    assert ag.diagnose(q, k, rng=1) != ag.diagnose(q, k)


@pytest.mark.parametrize(
    ("n", "m", "d"), [(1, 1, 3), (1, 5, 2), (5, 1, 1), (0, 4, 2), (4, 0, 2), (0, 0, 3), (4, 5, 0)]
)
def test_edges(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(0)
    found = ag.diagnose(rng.standard_normal((n, d)), rng.standard_normal((m, d)))
    assert all(math.isfinite(number) for number in (found.B, found.logit_std, found.logit_bound))
    assert found.explain()


def test_no_variance_needs_no_features() -> None:
    found = ag.diagnose(np.ones((50, 3)), np.ones((60, 3)))
    assert found.logit_std <= SLACK
    assert [one.degree for one in found.predictions] == [0, 0, 0]


def test_huge_logits_are_diagnosed_too() -> None:
    found = ag.diagnose(*uniform(400, 3, 1e30))
    assert found.regime == "exact"
    assert [one.degree for one in found.predictions] == [None, None, None]
    assert {text.split(":")[0] for text in found.findings} == {
        "error too large", "numerical trouble"
    }  # fmt: skip


Q, K = uniform(6, 3, 1.0)
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nothing": ({"key": None}, ag.DTypeError, "key: found dtype object"),
    "stack": ({"query": Q[None], "key": K[None]}, ag.ShapeError, "query: found shape (1, 6, 3)"),
    "vector": ({"key": K[0]}, ag.ShapeError, "key: found 1 dimension"),
    "widths": ({"key": K[:, :2]}, ag.ShapeError, "key: found shape (6, 2)"),
    "integers": ({"query": Q.astype(int)}, ag.DTypeError, "query: found dtype int64"),
    "mixed": ({"key": K.astype(np.float32)}, ag.DTypeError, "key: found float32"),
    "NaN": ({"query": Q * np.nan}, ag.NonFiniteError, "query: found nan"),
    "scale": ({"scale": "1"}, ag.OptionTypeError, "scale: found '1'"),
    "rng": ({"rng": 1.5}, ag.OptionTypeError, "rng: found 1.5"),
    "misspelt": ({"scales": 1.0}, ag.OptionTypeError, "unknown option 'scales'"),
    "overflow": ({"query": Q * 1e300, "key": K * 1e300}, ag.RangeError, "query: found logits"),
}  # fmt: skip


@pytest.mark.parametrize("title", WRONG)
def test_wrong_calls(title: str) -> None:
    changes, error, words = WRONG[title]
    with pytest.raises(error) as caught:
        ag.diagnose(**{"query": Q, "key": K, **changes})
    assert type(caught.value) is error
    assert words in str(caught.value)
