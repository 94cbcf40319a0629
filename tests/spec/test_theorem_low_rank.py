"""Low ranks of f, c, q, p1 and p2, Lemmas D.1 to D.5 of the paper: eqs. (12.9) to (12.12)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs.reference.degrees import feature_count
from attngrad_rs.reference.upper_bound import step_errors
from helpers import Array, assert_ratio, frobenius, largest

pytestmark = pytest.mark.spec

HALF = settings(max_examples=settings().max_examples // 2)
# Roundings of sums of some hundred products, and of sums of powers with signs in turn.
ROUNDING = 1e-11
# Singular values below this part of the largest are rounding; those of the fourth powers of logits
# of size 1 are far above it.
CUT = 1e-12


@st.composite
def problems(draw: Any) -> reference.Problem:
    """Logits of centred keys up to about one; more rows than any rank here."""
    d, dv = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    n, m = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from((0.2, 0.6, 1.0)))
    A1, A2, A3, Y, E = (
        rng.uniform(-1.0, 1.0, shape) for shape in ((n, d), (m, d), (m, d), (d, dv), (n, dv))
    )
    return reference.Problem(size * A1, A2, A3, np.eye(d), Y, E)


def factored(of: reference.Problem, degree: int) -> ag.Factors:
    return ag.factors(of.A1, of.A2, of.A3, of.X, of.Y, of.E, degree=degree, kind="minimax_relative")


def pairs(got: ag.Factors) -> dict[str, Array]:
    """f̃, c̃, q̃, p̃1, p̃2 as matrices."""
    return {
        "f": got.U1 @ got.V1.T,
        "c": got.U2,
        "q": got.U2 @ got.V2.T,
        "p1": got.U3 @ got.V3.T,
        "p2": got.U4 @ got.V4.T,
    }


def delta_of(of: reference.Problem, got: ag.Factors) -> float:
    """The largest |P(t) e^-t − 1| over the interval that holds the logits of centred keys."""
    t = of.scale * (of.A1 @ of.matrix_X) @ (of.A2 - got.mean).T
    low, high = got.polynomial.ratio_bounds(float(t.min()), float(t.max()))
    return max(high - 1.0, 1.0 - low)


@HALF
@given(problems(), st.integers(1, 5))
def test_every_step_is_within_its_error(of: reference.Problem, degree: int) -> None:
    """Entry by entry, with the δ that the polynomial has on these logits."""
    got = factored(of, degree)
    bounds = step_errors(of, delta_of(of, got))
    wanted = {"f": of.f, "c": of.c, "q": of.q, "p1": of.p1, "p2": of.p2}
    for name, matrix in pairs(got).items():
        slack = ROUNDING * (1.0 + largest(wanted[name]))
        assert_ratio(matrix, wanted[name], getattr(bounds, name) + slack, 1.0, name)


@HALF
@given(problems(), st.integers(0, 4))
def test_ranks_are_ours_and_at_most_the_papers(of: reference.Problem, degree: int) -> None:
    """k1 = C(d + g, g) of f and p2, dv of c and q, k1 dv of p1.

    The paper's: C(2 (g + d), 2 g) for k1, and max(k1, d) + d for the rank of q.
    """
    d, dv = of.A2.shape[1], of.Y.shape[1]
    k1 = feature_count(d, degree)
    ranks = {"f": k1, "c": dv, "q": dv, "p1": k1 * dv, "p2": k1}
    paper = math.comb(2 * (degree + d), 2 * degree)
    assert k1 <= paper
    assert dv <= max(paper, dv) + dv
    got = factored(of, degree)
    for name, matrix in pairs(got).items():
        values = np.linalg.svd(matrix, compute_uv=False)
        beyond = values[ranks[name] :]
        assert frobenius(beyond) <= CUT * values[0], f"{name}: rank above {ranks[name]}"
    assert got.ranks == {name: ranks[name] for name in ("f", "q", "p1", "p2")}


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_ranks_are_attained(degree: int) -> None:
    """No rank of the lemmas can be lower for all data: a random problem has all of them."""
    rng = np.random.default_rng(degree)
    n, d, dv = 60, 2, 3
    A1, A2, A3, Y, E = (
        rng.uniform(-1.0, 1.0, shape)
        for shape in ((n, d), (n, d), (n, d + 1), (d + 1, dv), (n, dv))
    )
    of = reference.Problem(A1, A2, A3, np.eye(d), Y, E)
    k1 = feature_count(d, degree)
    ranks = {"f": k1, "c": dv, "q": dv, "p1": k1 * dv, "p2": k1}
    for name, matrix in pairs(factored(of, degree)).items():
        assert np.linalg.matrix_rank(matrix, rtol=CUT) == ranks[name], name
