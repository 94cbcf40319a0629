"""Polynomials for exp: docs/math.md, section 7, eqs. (7.1) to (7.12), against 60 digits or more."""

from __future__ import annotations

import functools
import math
from typing import Any

import flint
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import polynomials
from attngrad_rs.polynomials import ExpPolynomial, exp_polynomial
from helpers import assert_ratio

# Bits of the truth: e^512 is the largest ratio, and 2^-200 of it still tells an error of 1e-16.
BITS = 1024
# Points of the truth: between them an extremum of degree 30 hides (31 pi / 1200)^2 / 2 of itself.
POINTS = 600
HIDDEN = 0.004
# The same where the search goes on around the largest: each zoom is 4 times nearer, so it ends
# where nothing hides; the grid only has to tell the waves apart.
ZOOMED = 200
ZOOMS = 12
# A guaranteed bound is at most this much above the truth: the 0.2 % of the core, and two waves
# that the grid took for equal (31 pi / 400)^2 / 8.
BOUND_SLACK = 0.002 + 0.008
# Below a few roundings of 1 a bound of a ratio is only that.
RATIO_ROUNDING = 6 * 2.0**-53
# Extrema of a levelled error agree this well: the exchange ends at 1e-6, and points hide the rest.
LEVEL_SLACK = 2 * HIDDEN
# Rounding of the coefficients, relative to the largest value: they are sums of up to 31 terms.
COEFFICIENT_ROUNDING = 64 * 2.0**-53
# The same of a fit to N samples, times the square root of N: its sums are as long.
FIT_ROUNDING = 16 * 2.0**-53
# Lebesgue constant on [-1, 1] of the worst four of -1, -1/4, 0, 1/2, 1: those without -1.
STRETCH = 41
# Clenshaw's recurrence amplifies a rounding by at most (g + 2)^3, a few of it in practice.
VALUE_ROUNDING = 64 * 2.0**-53

WITHOUT_SAMPLES = tuple(kind for kind in polynomials.KINDS if kind != "least_squares")

# Halfwidths from tiny to far past where double precision can approximate anything.
RANGES = (0.0, 1e-9, 0.01, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0, 80.0)

kinds = st.sampled_from(WITHOUT_SAMPLES)
degrees = st.integers(0, polynomials.MAX_DEGREE)


@st.composite
def intervals(draw: Any, ranges: tuple[float, ...] = RANGES) -> tuple[float, float]:
    """Around zero, and anywhere else."""
    half = draw(st.sampled_from(ranges))
    middle = draw(st.sampled_from((0.0, 0.0, 0.5, -3.0, 40.0)))
    return middle - half, middle + half


@st.composite
def parts(draw: Any, interval: tuple[float, float]) -> tuple[float, float]:
    """An interval within another: all of it, an end, or a piece."""
    low, high = interval
    ends = sorted(draw(st.tuples(*[st.floats(0.0, 1.0)] * 2)))
    a, b = draw(st.sampled_from(((0.0, 1.0), (0.0, ends[0]), (ends[1], 1.0), tuple(ends))))
    return tuple(float(min(max(low + (high - low) * x, low), high)) for x in (a, b))  # type: ignore[return-value]


def points(low: float, high: float, count: int = POINTS) -> list[float]:
    """Denser towards the ends, as the waves of a polynomial are; both ends included."""
    inside = (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * np.arange(1, count) / count)
    return [low, *np.clip(inside, low, high).tolist(), high]


@functools.cache
def chebyshev(degree: int) -> flint.arb_poly:
    """T_g in powers, whose coefficients are whole numbers."""
    return flint.arb_poly(flint.fmpz_poly.chebyshev_t(degree))


def exact(p: ExpPolynomial, ts: list[float]) -> list[flint.arb]:
    """P(t) as eq. (7.1) defines it, from the coefficients as they are, within `workprec(BITS)`.

    In powers a polynomial of degree 30 loses 40 bits and more, of so many that nobody sees it.
    """
    low, high = p.interval
    middle = 0.5 * low + 0.5 * high
    half = max(high - middle, middle - low, 2.0**-26)
    powers = flint.arb_poly()
    for degree, coefficient in enumerate(p.chebyshev.tolist()):
        powers += chebyshev(degree) * flint.arb(coefficient)
    return [powers((flint.arb(t) - middle) / half) for t in ts]


def deviations(p: ExpPolynomial, ts: list[float]) -> tuple[Any, Any]:
    """P(t)/e^t - 1 and P(t) - e^t, rounded once."""
    with flint.ctx.workprec(BITS):
        pairs = []
        for t, value in zip(ts, exact(p, ts), strict=True):
            exp = flint.arb(t).exp()
            pairs.append((float(value / exp - 1), float(value - exp)))
    relative, absolute = np.array(pairs).T
    return relative, absolute


def extreme(error: Any, p: ExpPolynomial, low: float, high: float) -> float:
    """The largest error: on a grid with the middle, where Taylor's is zero, then ever nearer."""
    middle = 0.5 * p.interval[0] + 0.5 * p.interval[1]
    ts = sorted([*points(low, high, ZOOMED), min(max(middle, low), high)])
    for _ in range(ZOOMS):
        errors = error(ts)
        best = int(np.argmax(errors))
        ts = points(ts[max(best - 1, 0)], ts[min(best + 1, len(ts) - 1)], 8)
    return float(errors.max())


def assert_bound(bound: float, truth: float, floor: float, what: str) -> None:
    """At or above the truth, and not uselessly so."""
    assert truth <= bound, f"{what}: the bound {bound!r} is below {truth!r}"
    assert bound <= truth + BOUND_SLACK * abs(truth) + floor, f"{what}: {bound!r} for {truth!r}"


@given(kind=kinds, degree=degrees, interval=intervals(), data=st.data())
def test_bounds_hold_and_are_tight(
    kind: str, degree: int, interval: tuple[float, float], data: st.DataObject
) -> None:
    """Eqs. (7.10) and (7.11): on the interval and on any part of it."""
    p = exp_polynomial(kind, degree, interval)
    low, high = data.draw(parts(interval))
    lo, hi = p.ratio_bounds(low, high)
    what = f"{p} on [{low}, {high}]"
    least = extreme(lambda ts: -deviations(p, ts)[0], p, low, high)
    assert_bound(1.0 - lo, least, RATIO_ROUNDING, f"{what}, below")
    most = extreme(lambda ts: deviations(p, ts)[0], p, low, high)
    assert_bound(hi - 1.0, most, RATIO_ROUNDING, f"{what}, above")
    largest = extreme(lambda ts: np.abs(deviations(p, ts)[1]), p, low, high)
    assert_bound(p.absolute_bound(low, high), largest, RATIO_ROUNDING * math.exp(low), what)


@given(
    kind=st.sampled_from(("minimax", "minimax_relative")),
    degree=st.integers(0, 12),
    interval=intervals((0.01, 0.3, 1.0, 2.0, 5.0)),
)
def test_minimax_errors_alternate(kind: str, degree: int, interval: tuple[float, float]) -> None:
    """Eq. (7.9): g + 2 points where the error is largest, with signs in turn."""
    p = exp_polynomial(kind, degree, interval)
    relative, absolute = deviations(p, points(*interval))
    errors = relative if kind == "minimax_relative" else absolute
    largest = np.abs(errors).max()
    spread = interval[1] - interval[0] if kind == "minimax_relative" else interval[1]
    # Where the error is near rounding, that is what alternates.
    assume(largest > COEFFICIENT_ROUNDING / LEVEL_SLACK * math.exp(spread))
    signs = np.sign(errors[np.abs(errors) >= (1.0 - LEVEL_SLACK) * largest])
    assert np.count_nonzero(np.diff(signs)) + 1 == degree + 2, f"{p}: {signs}"


def over_factorial(x: float, count: int) -> float:
    return math.prod(x / j for j in range(1, count + 1))


@given(kind=kinds, degree=degrees, interval=intervals((0.01, 0.3, 1.0, 2.0, 5.0, 10.0)))
def test_errors_obey_their_laws(kind: str, degree: int, interval: tuple[float, float]) -> None:
    """Eq. (7.12)."""
    p = exp_polynomial(kind, degree, interval)
    low, high = interval
    middle, half = (low + high) / 2, (high - low) / 2
    taylor, best = over_factorial(half, degree + 1), 2 * over_factorial(half / 2, degree + 1)
    relative, absolute = (np.abs(errors).max() for errors in deviations(p, points(low, high)))
    if kind == "minimax_relative":
        extrema = math.pi * np.arange(degree + 2) / (degree + 1)
        ends = np.where(np.isin(np.arange(degree + 2), (0, degree + 1)), 0.5, 1.0)
        mean = float(np.sum(ends * np.exp(half * np.cos(extrema)))) / (degree + 1)
        error, lower, upper = relative, best / mean, min(1.0, best * math.exp(2 * half))
        rounding = COEFFICIENT_ROUNDING * math.exp(2 * half)
    else:
        law = taylor if kind == "taylor" else best
        error, lower, upper = absolute, math.exp(middle) * law, math.exp(high) * law
        rounding = COEFFICIENT_ROUNDING * math.exp(high)
    assert lower <= error * (1 + HIDDEN) + rounding, f"{p}: {error} is below {lower}"
    assert error <= upper * (1 + HIDDEN) + rounding, f"{p}: {error} is above {upper}"


@given(degree=st.integers(0, 20), half=st.sampled_from((0.3, 1.0, 3.0)))
def test_each_kind_is_best_at_its_own(degree: int, half: float) -> None:
    interval = (-half, half)
    errors = {}
    for kind in WITHOUT_SAMPLES:
        relative, absolute = deviations(exp_polynomial(kind, degree, interval), points(*interval))
        errors[kind] = (np.abs(absolute).max(), np.abs(relative).max())
    rounding = COEFFICIENT_ROUNDING * math.exp(2 * half)
    for absolute, relative in errors.values():
        assert errors["minimax"][0] <= absolute * (1 + HIDDEN) + rounding
        assert errors["minimax_relative"][1] <= relative * (1 + HIDDEN) + rounding


def test_interpolation_meets_exp_at_its_points() -> None:
    """Eq. (7.6)."""
    for degree in range(polynomials.MAX_DEGREE + 1):
        p = exp_polynomial("chebyshev", degree, (-2.0, 3.0))
        x = np.cos(math.pi * (2 * np.arange(degree + 1) + 1) / (2 * degree + 2))
        t = 0.5 + 2.5 * x
        scale = COEFFICIENT_ROUNDING * math.exp(3.0)
        assert_ratio(p(t), np.exp(t), scale, 1.0, f"degree {degree}")


@given(
    degree=st.integers(0, 10),
    half=st.sampled_from((0.3, 1.0, 2.0)),
    count=st.sampled_from((40, 137, 1000)),
    spread=st.sampled_from((0.0, 1.0, 3.0)),
    seed=st.integers(0, 2**32 - 1),
)
def test_least_squares_is_that_of_numpy(
    degree: int, half: float, count: int, spread: float, seed: int
) -> None:
    """Eq. (7.8). numpy.polynomial multiplies residuals, not their squares, by its weights."""
    rng = np.random.default_rng(seed)
    t = half * np.sin(rng.uniform(-math.pi / 2, math.pi / 2, count))
    weights = np.exp(spread * rng.standard_normal(count))
    p = exp_polynomial("least_squares", degree, (-half, half), samples=t, weights=weights)
    roots = np.sqrt(weights)
    want = np.polynomial.chebyshev.chebfit(t / half, np.exp(t), degree, w=roots)
    rows = np.polynomial.chebyshev.chebvander(t / half, degree) * roots[:, None]
    condition = float(np.linalg.cond(rows))
    scale = FIT_ROUNDING * math.sqrt(count) * condition * np.abs(want).max()
    assert_ratio(p.chebyshev, want, scale, 1.0, f"{p}, condition {condition:.3g}")


@given(
    degree=st.integers(0, 12),
    values=st.lists(st.sampled_from((-1.0, -0.25, 0.0, 0.5, 1.0)), max_size=12),
    zero=st.booleans(),
)
def test_few_samples_are_met_and_change_little(
    degree: int, values: list[float], zero: bool
) -> None:
    """Eq. (7.8) where samples are few, equal, or of no weight."""
    start = exp_polynomial("chebyshev", degree, (-1.0, 1.0))
    weights = np.zeros(len(values)) if zero else np.ones(len(values))
    p = exp_polynomial(
        "least_squares", degree, (-1.0, 1.0), samples=np.array(values, float), weights=weights
    )
    assert np.isfinite(p.chebyshev).all()
    if zero or not values:
        assert_ratio(p.chebyshev, start.chebyshev, COEFFICIENT_ROUNDING, 1.0, "unchanged")
        return
    if len(set(values)) <= degree + 1:
        assert_ratio(p(np.array(values)), np.exp(values), COEFFICIENT_ROUNDING * 10, 1.0, "met")
    before, after = start.absolute_bound(), p.absolute_bound()
    assert after <= (1 + STRETCH) * before + STRETCH * COEFFICIENT_ROUNDING


@given(kind=kinds, degree=degrees, interval=intervals())
def test_power_and_chebyshev_forms_agree(
    kind: str, degree: int, interval: tuple[float, float]
) -> None:
    """Eqs. (7.1), (7.2) and (7.4): to the rounding of the coefficients, and of the values."""
    p = exp_polynomial(kind, degree, interval)
    ts = points(*interval, 12)
    got = p(np.array(ts))
    with flint.ctx.workprec(BITS):
        for t, value, want in zip(ts, got.tolist(), exact(p, ts), strict=True):
            powers = sum(float(c) * flint.arb(t) ** a for a, c in enumerate(p.power))
            size = sum(abs(float(c)) * abs(flint.arb(t)) ** a for a, c in enumerate(p.power))
            # Each coefficient is rounded once; the second term is that of the smallest numbers.
            error = float(abs(powers - want))
            assert error <= 2.0**-53 * float(size) * 1.001 + 1e-300, f"{p} at {t}: {error}"
            error, scale = float(abs(value - want)), float(np.abs(p.chebyshev).sum())
            assert error <= VALUE_ROUNDING * scale, f"{p} at {t}: {error}"


def test_taylor_has_the_coefficients_of_exp() -> None:
    """Eq. (7.5) around zero."""
    p = exp_polynomial("taylor", 8, (-1.0, 1.0))
    want = [1 / math.factorial(a) for a in range(9)]
    # A power's coefficient sums those of the Chebyshev basis times integers up to 2^8.
    assert_ratio(p.power, want, 2.0**8 * COEFFICIENT_ROUNDING, 1.0, "powers")


def test_values_have_the_shape_of_their_arguments() -> None:
    p = exp_polynomial("minimax", 3, (-1, 1))
    t = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)[:, ::-1]
    assert p(t).shape == (3, 4)
    assert p(t).dtype == np.float64
    assert p(0.5).shape == ()
    assert np.isnan(p(np.array([np.nan]))).all()
    assert_ratio(p(t)[1, 2], p(float(t[1, 2])), 1.0, 0.0, "one value")


WRONG = (
    (ag.OptionError, ("exp", 2, (0, 1)), {}),
    (ag.OptionError, ("taylor", 31, (0, 1)), {}),
    (ag.OptionError, ("taylor", -1, (0, 1)), {}),
    (ag.OptionTypeError, ("taylor", 2.0, (0, 1)), {}),
    (ag.OptionTypeError, ("taylor", 2, 1.0), {}),
    (ag.OptionError, ("taylor", 2, (1, 0)), {}),
    (ag.OptionError, ("taylor", 2, (0, math.inf)), {}),
    (ag.OptionError, ("taylor", 2, (0, 257)), {}),
    (ag.OptionError, ("taylor", 2, (0, 1)), {"samples": [0.5]}),
    (ag.OptionError, ("taylor", 2, (0, 1)), {"weights": [0.5]}),
    (ag.OptionError, ("least_squares", 2, (0, 1)), {}),
    (ag.OptionError, ("least_squares", 2, (0, 1)), {"samples": [math.nan]}),
    (ag.OptionError, ("least_squares", 2, (0, 1)), {"samples": [0.5], "weights": [-1.0]}),
    (ag.ShapeError, ("least_squares", 2, (0, 1)), {"samples": [0.5], "weights": [1.0, 1.0]}),
    (ag.ShapeError, ("least_squares", 2, (0, 1)), {"samples": [[0.5]]}),
    (ag.DTypeError, ("least_squares", 2, (0, 1)), {"samples": ["a"]}),
)


@pytest.mark.parametrize(("error", "args", "options"), WRONG)
def test_wrong_calls_are_refused(
    error: type[Exception], args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    with pytest.raises(error, match=r"found .*(expected|wanted)|found .*needs|found .*use"):
        exp_polynomial(*args, **options)


def test_wrong_ranges_are_refused() -> None:
    p = exp_polynomial("taylor", 2, (-1, 1))
    with pytest.raises(ag.OptionError, match="interval: found"):
        p.ratio_bounds(0.5, 0.0)
    with pytest.raises(ag.OptionError, match="low: found nan"):
        p.absolute_bound(low=math.nan)
    with pytest.raises(ag.DTypeError, match="t: found dtype int64"):
        p(np.arange(3))
