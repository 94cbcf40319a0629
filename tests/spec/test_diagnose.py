"""What `diagnose` says about queries and keys, against the data in full."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs.diagnose import explain_problem
from attngrad_rs.heads import load_heads
from helpers import Array, frobenius, largest

pytestmark = pytest.mark.spec

SEEDS = st.integers(0, 2**32 - 1)
# A deviation from 256 rows by 256 keys; the rows are drawn, the truth is over all.
SAMPLED_WITHIN = 0.15
# Second moments are widened by 1e-6 of their mean, each of up to five of them on both sides.
WIDENED = 2e-5
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
    assert variance == pytest.approx(found.logit_std**2, abs=WIDENED * (1 + largest(t) ** 2))
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


def test_predictions_are_those_of_the_planner() -> None:
    """One law: whatever the size, diagnose, plan and explain say the same of the same data."""
    for n, size in ((300, 1.0), (6000, 1.0), (20_000, 1.5), (20_000, 8.0)):
        q, k = uniform(n, 8, size)
        eye = np.eye(8)
        found = ag.diagnose(q, k, scale=1 / 8)
        assert [one.rtol for one in found.predictions] == [1e-1, 1e-2, 1e-3]
        plans = {
            rtol: ag.plan_loss_gradient(q, k, k, eye, eye, q, scale=1 / 8, rtol=rtol)
            for rtol in (1e-1, 1e-2, 1e-3)
        }
        for one in found.predictions:
            plan = plans[one.rtol]
            assert (one.method, one.degree, one.features) == (
                plan.method, plan.degree, plan.features,
            )  # fmt: skip
            assert (one.error, one.reason) == (plan.predicted_error, plan.reason)
            assert one.degree is None or one.features == math.comb(8 + one.degree, one.degree)
        near = [one.method != "exact" for one in found.predictions]
        regime = "near-linear" if near[1] else "borderline" if near[0] else "exact"
        assert found.regime == regime
        assert ("ask loss_gradient for rtol" in found.advice) == (regime != "exact")


def test_explain_and_plan_are_one_answer() -> None:
    """For a problem of its own, with the tolerance that was asked for among the predictions."""
    q, k = uniform(20_000, 8, 1.0)
    A3, E = uniform(20_000, 8, 3.0, seed=1)
    given = {"A1": q, "A2": k, "A3": A3, "X": np.eye(8), "Y": np.eye(8), "E": E}
    for rtol in (3e-2, 1e-3):
        diagnosis, plan = explain_problem(given, ("X",), rtol, None)
        (asked,) = (one for one in diagnosis.predictions if one.rtol == rtol)
        assert (asked.method, asked.degree) == (plan.method, plan.degree)
        assert asked.reason == plan.reason
        assert plan.reason in plan.explain()
        direct = ag.plan_loss_gradient(**given, rtol=rtol)
        assert (direct.method, direct.degree, direct.reason) == (
            asked.method, asked.degree, asked.reason,
        )  # fmt: skip


def test_the_advised_tolerance_does_what_is_said() -> None:
    q, k = uniform(20_000, 8, 1.0)
    advice = ag.diagnose(q, k, scale=1 / 8).advice
    words = re.fullmatch(
        r"ask loss_gradient for rtol: at ([\d.]+), degree (\d+) with (\d+) features does it", advice
    )
    assert words is not None, advice
    rtol, degree, features = float(words[1]), int(words[2]), int(words[3])
    E = np.random.default_rng(1).standard_normal((20_000, 8))
    eye = np.eye(8)
    result = ag.loss_gradient(q, k, k, eye, eye, E, scale=1 / 8, rtol=rtol)
    assert (result.plan.method, result.plan.features) == (
        "polynomial",
        math.comb(8 + degree, degree),
    )
    assert features == result.plan.features
    assert result.certificate.success is True


def test_smallest_degrees_hold_for_gradients() -> None:
    """The error of the gradient at the smallest degree is about the accuracy."""
    q, k = uniform(700, 4, 1.5)
    rng = np.random.default_rng(1)
    A3, E, eye = rng.uniform(-1, 1, (700, 4)), rng.standard_normal((700, 4)), np.eye(4)
    exact = reference.loss_gradient(q, k, A3, eye, eye, E, scale=0.25)
    found = ag.diagnose(q, k, scale=0.25)
    degrees = []
    for one in found.predictions:
        assert one.smallest_degree is not None
        assert one.least_error <= one.rtol
        degrees.append(one.smallest_degree)
        factors = ag.factors(q, k, A3, eye, eye, E, scale=0.25, degree=one.smallest_degree)
        assert frobenius(factors.gradient() - exact) <= 3 * one.rtol * frobenius(exact)
    assert degrees == sorted(degrees)


def test_regimes_and_their_words() -> None:
    near = ag.diagnose(*uniform(20_000, 8, 1.0), scale=1 / 8)
    assert near.regime == "near-linear"
    assert near.findings == ()
    assert near.advice.startswith("ask loss_gradient for rtol: at 0.01, degree ")
    small = ag.diagnose(*uniform(30, 8, 1.5), scale=1 / 8)
    assert small.regime == "exact"
    (text,) = small.findings
    assert text == f"time is not near-linear at this size: {small.predictions[1].reason}"
    assert small.advice == f"use the exact method: {small.predictions[1].reason}"
    large = ag.diagnose(*uniform(20_000, 8, 8.0), scale=1 / 8)
    assert large.regime == "exact"
    assert large.threshold_ratio > near.threshold_ratio
    assert any(text.startswith("error too large: the rank is too low") for text in large.findings)
    assert large.advice.startswith("use the exact method: ")
    magnitude = ag.diagnose(*(x.astype(np.float32) for x in uniform(500, 2, 4.0)), scale=1.0)
    assert any(text.startswith("numerical trouble") for text in magnitude.findings)


def test_no_advice_is_out_of_reach() -> None:
    """Trained heads: no degree is named but those that the planner would run."""
    heads = sorted(load_heads(), key=lambda one: one.logit_spread)
    for head in (heads[0], heads[-1]):
        given = head.problem(np.float32)
        found, _ = explain_problem(given, ("X",), 1e-2, None)
        planned = {one.degree for one in found.predictions if one.method != "exact"}
        assert {int(number) for number in re.findall(r"degree (\d+)", found.advice)} <= (
            planned | {int(n) for one in found.predictions
                       for n in re.findall(r"degree (\d+)", one.reason)}
        )  # fmt: skip
        if not planned:
            assert found.advice.startswith("use the exact method: ")


def test_with_rising_size_the_same_entries_become_near_linear() -> None:
    regimes = [ag.diagnose(*uniform(n, 8, 1.0), scale=1 / 8).regime for n in (30, 30_000)]
    assert regimes == ["exact", "near-linear"]


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
    assert [one.smallest_degree for one in found.predictions] == [0, 0, 0]


def test_huge_logits_are_diagnosed_too() -> None:
    found = ag.diagnose(*uniform(400, 3, 1e30))
    assert found.regime == "exact"
    assert [one.smallest_degree for one in found.predictions] == [None, None, None]
    assert [one.method for one in found.predictions] == ["exact"] * 3
    assert {text.split(":")[0] for text in found.findings} == {
        "error too large", "numerical trouble"
    }  # fmt: skip


Q, K = uniform(6, 3, 1.0)
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nothing": ({"key": None}, ag.DTypeError, "key: found dtype object"),
    "stack": ({"query": Q[None], "key": K[None]}, ag.ShapeError, "query: found shape (1, "),
    "vector": ({"key": K[0]}, ag.ShapeError, "key: found shape (3,)"),
    "widths": ({"key": K[:, :2]}, ag.ShapeError, "key: found shape (6, 2)"),
    "integers": ({"query": Q.astype(int)}, ag.DTypeError, "query: found dtype int64"),
    "mixed": ({"key": K.astype(np.float32)}, ag.DTypeError, "key: found float32"),
    "NaN": ({"query": Q * np.nan}, ag.NonFiniteError, "query: found nan"),
    "scale": ({"scale": "1"}, ag.OptionTypeError, "scale: found '1'"),
    "rng": ({"rng": 1.5}, ag.OptionTypeError, "rng: found 1.5"),
    "misspelt": ({"scales": 1.0}, TypeError, "unexpected keyword argument 'scales'"),
    "overflow": ({"query": Q * 1e300, "key": K * 1e300}, ag.RangeError, "logits of query and key"),
}  # fmt: skip


@pytest.mark.parametrize("title", WRONG)
def test_wrong_calls(title: str) -> None:
    changes, error, words = WRONG[title]
    with pytest.raises(error) as caught:
        ag.diagnose(**{"query": Q, "key": K, **changes})
    assert type(caught.value) is error
    assert words in str(caught.value)
