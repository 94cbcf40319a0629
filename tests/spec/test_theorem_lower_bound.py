"""The lower bound, Theorems 1.5 and E.5 of the paper, repaired: eqs. (12.17) to (12.24).

Attention from an oracle of gradients: ‖o‖²_F by Gauss–Legendre in a number of calls that grows with
the logits and with ln(1/ε), which decides orthogonal vectors; where the paper's left sum needs a
power of n.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs.experiments.hard import orthogonal_vectors
from attngrad_rs.reference.reductions import calls_needed, quadrature_bound
from helpers import Array, assert_ratio

pytestmark = pytest.mark.spec

FEW = settings(max_examples=settings().max_examples // 4)
# Roundings of some hundred numbers, relative to their sum.
ROUNDING = 1e-12

Oracle = Callable[[reference.Problem], Array]


def library(of: reference.Problem) -> Array:
    """dL/dX by the library."""
    args = (of.A1, of.A2, of.A3, of.X, of.Y, of.E)
    return np.asarray(ag.loss_gradient(*args, scale=of.scale).gradient)


def at(of: reference.Problem, share: float) -> reference.Problem:
    """The problem with λX for X."""
    return reference.Problem(of.A1, of.A2, of.A3, share * of.matrix_X, of.Y, of.E, of.scale)


def slopes(oracle: Oracle, of: reference.Problem, nodes: Array) -> list[float]:
    """⟨dL/dX(λX), X⟩."""
    return [float(np.sum(oracle(at(of, float(node))) * of.matrix_X)) for node in nodes]


def gauss(oracle: Oracle, of: reference.Problem, calls: int) -> float:
    """L(X) by N calls: L(0) + ∫₀¹ ⟨dL/dX(λX), X⟩ dλ, (12.17)."""
    nodes, weights = np.polynomial.legendre.leggauss(calls)
    found = slopes(oracle, of, (nodes + 1.0) / 2.0)
    return float(at(of, 0.0).loss) + float(np.dot(weights, found)) / 2.0


@st.composite
def problems(draw: Any, logits: tuple[float, ...] = (0.01, 1.0, 10.0, 50.0)) -> reference.Problem:
    """E = 0, and logits of rows that differ by up to τ, from flat to sharp."""
    n, m, d, dv = (draw(st.integers(1, most)) for most in (6, 8, 3, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    A1, A2, A3 = (rng.standard_normal(shape) for shape in ((n, d), (m, d), (m, dv)))
    if draw(st.booleans()):
        A1, A2, A3 = np.sign(A1), np.sign(A2), np.sign(A3)
    size = draw(st.sampled_from(logits))
    return reference.Problem(A1, A2, A3, size * np.eye(d), np.eye(dv), np.zeros((n, dv)))


def sizes(of: reference.Problem) -> dict[str, Any]:
    """n, τ and H of a problem."""
    reach = float(np.max(np.ptp(of.S, axis=1)))
    length = float(np.max(np.linalg.norm(of.h, axis=1)))
    return {"rows": len(of.A1), "reach": max(reach, 1e-12), "length": length}


@FEW
@given(problems(), st.sampled_from((1, 2, 3, 5, 8, 13, 30)))
def test_gauss_legendre_is_within_its_bound(of: reference.Problem, calls: int) -> None:
    """(12.19), with the exact oracle of the library."""
    want = 2.0 * float(of.loss)
    size = len(of.A1) * sizes(of)["length"] ** 2 * (1.0 + sizes(of)["reach"])
    bound = quadrature_bound(calls, **sizes(of))
    got = 2.0 * gauss(library, of, calls)
    assert_ratio(got, want, bound + ROUNDING * size, 1.0, f"{calls} calls")


@given(st.floats(1e-3, 1e4), st.floats(1e-15, 1.0), st.integers(1, 10**9), st.floats(1e-3, 1e6))
def test_calls_grow_with_the_logits_and_the_digits(
    reach: float, error: float, rows: int, length: float
) -> None:
    """(12.20): N ≤ 1 + 0.57 max(1, τ/4.18) ln(39 n τ H² max(1, τ/4.18) / ε), and that is enough."""
    options = {"rows": rows, "reach": reach, "length": length}
    calls = calls_needed(error, **options)
    assert quadrature_bound(calls, **options) <= error * (1.0 + 1e-9)
    assert calls == 1 or quadrature_bound(calls - 1, **options) > error * (1.0 - 1e-9)
    longer = max(1.0, reach / 4.18)
    wanted = math.log(max(39.0 * rows * reach * length**2 * longer / error, 1.0))
    assert calls <= 1.0 + 0.57 * longer * wanted


@FEW
@given(problems((0.01, 1.0)), st.data())
def test_any_entry_is_recovered_by_polarisation(of: reference.Problem, data: st.DataObject) -> None:
    """(12.24): o_jl from L at E = 0 and at E = e_j e_lᵀ."""
    j = data.draw(st.integers(0, len(of.A1) - 1))
    column = data.draw(st.integers(0, of.E.shape[1] - 1))
    one = np.zeros_like(of.E)
    one[j, column] = 1.0
    single = reference.Problem(of.A1, of.A2, of.A3, of.X, of.Y, one, of.scale)
    error = 1e-6
    calls = calls_needed(error, **sizes(of)) + calls_needed(
        error, rows=1, reach=sizes(of)["reach"], length=1.0 + sizes(of)["length"]
    )
    got = gauss(library, of, calls) - gauss(library, single, calls) + 0.5
    assert_ratio(got, float(of.o[j, column]), 4.0 * error, 1.0, "an entry")


@st.composite
def vectors(draw: Any) -> tuple[Array, Array]:
    """n vectors of t bits on either side, with an orthogonal pair or without any."""
    n, bits = draw(st.integers(6, 20)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a, b = (rng.integers(0, 2, (n, bits)).astype(float) for _ in range(2))
    # A bit that all have leaves no orthogonal pair.
    a[:, 0] = b[:, 0] = 1.0
    if draw(st.booleans()):
        j, i = (draw(st.integers(0, n - 1)) for _ in range(2))
        b[i] = 1.0 - a[j]
    return a, b


def budget(n: int, bits: int) -> tuple[int, float]:
    """(12.23): calls, and the error ε of an oracle of AAttLGC(n, 2t, ε), that suffice to decide."""
    allowed = 1.0 / (8.0 * (n + 1) ** 2)
    calls = calls_needed(allowed, rows=n, reach=2.0 * bits * math.log(n), length=1.0)
    return calls, allowed / (4.0 * bits)


@FEW
@given(vectors(), st.booleans())
def test_gradients_decide_orthogonal_vectors(pair: tuple[Array, Array], wrong: bool) -> None:
    """By ‖o‖²_F against 1/2(n + 1)², be every entry of every gradient wrong by the ε of (12.23)."""
    a, b = pair
    n, bits = a.shape
    data = orthogonal_vectors(a, b)
    of = reference.Problem(
        data.query, data.key, data.value, np.eye(2 * bits), np.eye(1), data.target, data.scale
    )
    assert np.max(np.abs(data.query)) <= math.sqrt(2.0 * math.log(n)) * (1.0 + ROUNDING)
    calls, error = budget(n, bits)
    rng = np.random.default_rng(n)
    sign = float(rng.choice([-1.0, 1.0]))

    def oracle(asked: reference.Problem) -> Array:
        # All errors of one sign along X = I do the most.
        return library(asked) + (sign * error if wrong else 0.0)

    found = 2.0 * gauss(oracle, of, calls) > 1.0 / (2.0 * (n + 1) ** 2)
    assert found == bool(np.any(a @ b.T == 0.0))


@pytest.mark.parametrize(("n", "bits"), [(8, 4), (16, 5)])
def test_the_left_sum_needs_a_power_of_n(n: int, bits: int) -> None:
    """(12.21): its error is |F'(1) − F'(0)| / 2N, so that N ≥ n³ ln n for the error of (12.23)."""
    rng = np.random.default_rng(n)
    a, b = (rng.integers(0, 2, (n, bits)).astype(float) for _ in range(2))
    a[:, 0] = b[:, 0] = 1.0
    data = orthogonal_vectors(a, b)
    one = np.eye(2 * bits)
    of = reference.Problem(data.query, data.key, data.value, one, np.eye(1), data.target, 1.0)
    ends = slopes(library, of, np.array([0.0, 1.0]))
    jump = 2.0 * abs(ends[1] - ends[0])
    assert jump >= 0.5 * n * math.log(n)
    truth = 2.0 * float(of.loss)
    for calls in (512, 1024):
        nodes = np.arange(calls) / calls
        left = 2.0 * (float(at(of, 0.0).loss) + float(np.mean(slopes(library, of, nodes))))
        assert abs(left - truth) == pytest.approx(jump / (2.0 * calls), rel=0.1)
    enough, _ = budget(n, bits)
    assert jump / 2.0 * 8.0 * (n + 1) ** 2 > 100 * enough
