"""The error of a degree on Gaussian logits: eq. (12.26) of docs/math.md."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs.reference.degrees import spread_error
from helpers import Array, assert_ratio

pytestmark = pytest.mark.spec

# Quadrature of Gauss and Hermite of functions that are analytic everywhere, and rounding.
QUADRATURE = 1e-10
# Errors of a gradient below it are rounding.
ROUNDING = 1e-9
ROWS = 1000


@given(st.one_of(st.just(0.0), st.floats(1e-3, 30.0)), st.integers(0, 40))
def test_the_tail_is_that_of_poisson(spread: float, degree: int) -> None:
    want = math.sqrt(scipy.stats.poisson.sf(degree, spread**2))
    assert_ratio(spread_error(np.array([spread]), degree), want, want + 1e-150, 1e-9, "one query")


@given(st.floats(0.01, 2.0), st.integers(0, 6))
def test_no_polynomial_neglects_less(spread: float, degree: int) -> None:
    """The least E (P(t) − e^t)² / E e^2t over t ~ N(0, σ²) and P of degree g, by quadrature."""
    x, weights = np.polynomial.hermite_e.hermegauss(80)
    values = np.exp(spread * x)
    rows = np.polynomial.hermite_e.hermevander(x, degree) * np.sqrt(weights)[:, None]
    # In normalised polynomials the least squares are projections.
    rows /= np.linalg.norm(rows, axis=0)
    right = values * np.sqrt(weights)
    left = right - rows @ np.linalg.lstsq(rows, right, rcond=None)[0]
    got = np.linalg.norm(left) / np.linalg.norm(right)
    want = spread_error(np.array([spread]), degree)
    assert_ratio(got, want, want + QUADRATURE / max(want, QUADRATURE), 1e-6, "the least")


def relative_error(kind: str, d: int, degree: int, spread: float, seed: int) -> tuple[float, float]:
    """Of dL/dX by the polynomial method, and by the law; logits of the spread on average."""
    rng = np.random.default_rng([seed, d])

    def rows(size: float) -> Array:
        drawn = rng.uniform(-math.sqrt(3.0), math.sqrt(3.0), (ROWS, d))
        return size * (drawn if kind == "uniform" else rng.standard_normal((ROWS, d)))

    size = math.sqrt(spread * math.sqrt(d))
    A1, A2, A3 = rows(size), rows(size), rows(1.0)
    E, one = rng.standard_normal((ROWS, d)), np.eye(d)
    args: tuple[Any, ...] = (A1, A2, A3, one, one, E)
    want = ag.loss_gradient(*args).gradient
    got = ag.loss_gradient(*args, method="polynomial", degree=degree).gradient
    error = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    return error, spread_error((A1 @ A2.T / d).std(axis=1), degree)


@pytest.mark.parametrize("spread", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(
    ("kind", "d", "degrees"), [("uniform", 16, 4), ("uniform", 24, 3), ("normal", 16, 2)]
)
def test_the_law_predicts_the_gradient_within_a_factor_of_two(
    kind: str, d: int, degrees: int, spread: float
) -> None:
    """Bounded entries, as in the paper, up to degree 4, and normal ones up to degree 2."""
    for degree in range(degrees + 1):
        error, law = relative_error(kind, d, degree, spread, 0)
        if error > ROUNDING:
            assert 0.5 <= error / law <= 2.0, f"degree {degree}: {error:.3g}, {law:.3g} by the law"
