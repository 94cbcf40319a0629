"""The degree law with explicit constants: eqs. (12.5) to (12.8) of docs/math.md."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from attngrad_rs.polynomials import MAX_DEGREE, exp_polynomial
from attngrad_rs.reference.degrees import (
    degree_law,
    least_degree_by_growth,
    paper_degree,
    sufficient_degree,
)

pytestmark = pytest.mark.spec

# Guaranteed bounds are 0.2 % above the largest error at most.
TIGHT = 1.002
# Where rounding of the coefficients, e^2r of it, is far below the error that is asked for.
ROUNDING = 1e3 * 2.0**-53
# Decades of ε and of r.
DECADES = st.floats(1.0, 12.0)
REACHES = st.floats(-3.0, 0.7).map(lambda decade: 10.0**decade)


def error_of(reach: float, degree: int) -> float:
    """The largest |P(t) e^-t − 1| on |t| ≤ r of the best P of a degree; 0.2 % too large at most."""
    low, high = exp_polynomial("minimax_relative", degree, (-reach, reach)).ratio_bounds()
    return max(1.0 - low, high - 1.0)


def smallest_degree(reach: float, error: float) -> int | None:
    return next((g for g in range(MAX_DEGREE + 1) if error_of(reach, g) <= error), None)


@given(REACHES, DECADES)
def test_the_degree_law(reach: float, decades: float) -> None:
    """The smallest degree found lies between both sides of (12.6)."""
    assume(10.0**-decades >= ROUNDING * math.exp(2.0 * reach))
    found = smallest_degree(reach, 10.0**-decades)
    law = degree_law(reach, -decades * math.log(10.0))
    if found is None:
        assert law.most > MAX_DEGREE, f"no degree up to {MAX_DEGREE}, where {law} was promised"
        return
    assert law.least <= found <= law.most, f"degree {found}, law {law}"


@given(REACHES, DECADES)
def test_taylors_remainder_says_which_degree_is_enough(reach: float, decades: float) -> None:
    """(12.7): at the sufficient degree the best polynomial is good to ε."""
    assume(10.0**-decades >= ROUNDING * math.exp(2.0 * reach))
    degree = sufficient_degree(reach, -decades * math.log(10.0))
    assume(degree <= MAX_DEGREE)
    assert error_of(reach, degree) <= 10.0**-decades * TIGHT


@given(st.floats(-6.0, 6.0), st.floats(0.0, 6.0))
def test_both_sides_of_the_law_are_ordered_at_any_size(log_reach: float, log_wanted: float) -> None:
    """(12.6) to (12.8) far beyond what any polynomial in double precision can show."""
    reach, log_error = 10.0**log_reach, -(10.0**log_wanted) * math.log(10.0)
    law, enough = degree_law(reach, log_error), sufficient_degree(reach, log_error)
    assert law.least <= enough <= law.most
    assert law.least <= not_excluded(reach, log_error)


def not_excluded(reach: float, log_error: float) -> float:
    """A number below which (12.8) and the lower side of (7.12) exclude every degree."""
    low, high = 0.0, 1.0
    while excluded(reach, log_error, high):
        low, high = high, 2.0 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if excluded(reach, log_error, middle) else (low, middle)
    by_growth = least_degree_by_growth(reach, min(math.exp(log_error), 0.1))
    return max(by_growth, high - 1.0, 0.0)


def excluded(reach: float, log_error: float, count: float) -> bool:
    """Whether 2 (r/2)^G / (cosh(r) G!) > ε, for a real G."""
    log_cosh = reach + math.log1p(math.exp(-2.0 * reach)) - math.log(2.0)
    log_least = math.log(2.0) + count * math.log(reach / 2.0) - math.lgamma(count + 1.0) - log_cosh
    return log_least > log_error


@given(REACHES, st.integers(0, 12))
def test_no_degree_below_growth_is_good(reach: float, degree: int) -> None:
    """(12.8): a polynomial that follows e^t over a long interval has a degree in proportion."""
    error = error_of(reach, degree) / TIGHT
    assume(error < 0.9)
    assert degree >= least_degree_by_growth(reach, error)


@pytest.mark.parametrize(("reach", "decades"), [(1e-3, 6), (1e-3, 300), (0.1, 1000)])
def test_the_form_of_aggarwal_and_alman(reach: float, decades: int) -> None:
    """Where ln(1/ε) is well above r the degree is theirs, up to a constant; (12.6)."""
    wanted = decades * math.log(10.0)
    enough = sufficient_degree(reach, -wanted)
    if decades <= 300:
        assert enough + 1 <= 2 * paper_degree(reach, 10.0**-decades)
    ratio = (enough + 1) / (wanted / math.log(wanted / reach))
    assert 0.5 <= ratio <= 2.0
