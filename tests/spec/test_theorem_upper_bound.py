"""The upper bound, Theorems 1.6 and D.6 of the paper: eqs. (12.13) to (12.16) of docs/math.md.

For every instance within the conditions the polynomial method is within ε, with no more features
and operations than the law says.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs.polynomials import exp_polynomial
from attngrad_rs.reference.degrees import degree_law, feature_count, sufficient_degree
from attngrad_rs.reference.moment_form import moment_gradient
from attngrad_rs.reference.upper_bound import (
    gradient_error,
    operations,
    weight_tolerance,
    work_law,
)
from helpers import Array, assert_ratio, frobenius, largest

pytestmark = pytest.mark.spec

# Enough for every way to the gradient; one example takes several of them.
FEW = settings(max_examples=settings().max_examples // 4)
# Roundings of sums of powers of logits up to 2, of either sign, relative to (12.14) at δ = 1.
ROUNDING = 1e-14
BOUNDS = st.sampled_from((0.05, 0.3, 0.7, 1.0))
ERRORS = st.sampled_from((1e-1, 1e-3, 1e-6))


@st.composite
def instances(draw: Any, generic: bool | None = None) -> tuple[reference.Problem, float]:
    """A problem of AAttLGC(n, d, ·) and its B: some entry of A1 X and of A2 is B, up to sign.

    Entries are drawn from an interval, or all of them are at its ends where ``generic`` allows.
    """
    bound = draw(BOUNDS)
    n, m, d, dv = (draw(st.integers(1, most)) for most in (12, 12, 3, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    signs = generic is not True and draw(st.booleans())
    A1, A2, A3, X, Y, E = (
        rng.uniform(-1.0, 1.0, shape)
        for shape in ((n, d), (m, d), (m, d), (d, d), (d, dv), (n, dv))
    )
    if signs:
        A1, A2 = np.sign(A1), np.sign(A2)
        X = np.eye(d)
    X *= bound / largest(A1 @ X)
    A2 *= bound / largest(A2)
    size = draw(st.sampled_from((1.0, 100.0)))
    return reference.Problem(A1, A2, size * A3, X, Y, size * E), bound


def required_degree(of: reference.Problem, bound: float, error: float) -> int:
    """g of the theorem: good to δ of (12.14) on the logits of centred keys, |t| ≤ 2 B²."""
    return sufficient_degree(2.0 * bound**2, math.log(weight_tolerance(of, error)))


def assert_within(got: Array, of: reference.Problem, error: float, what: str) -> None:
    """max |g̃ − g| ≤ ε, above rounding."""
    slack = ROUNDING * gradient_error(of, 1.0)
    assert_ratio(got, of.dX, error + slack, 1.0, what)


def arguments(of: reference.Problem) -> tuple[Any, ...]:
    return of.A1, of.A2, of.A3, of.X, of.Y, of.E


@FEW
@given(instances(), ERRORS)
def test_the_gradient_is_within_the_error(
    given_: tuple[reference.Problem, float], error: float
) -> None:
    """(12.14), by the moment form and by the factors, of relative minimax polynomials."""
    of, bound = given_
    degree = required_degree(of, bound, error)
    reach = 2.0 * bound**2
    law = degree_law(reach, min(math.log(weight_tolerance(of, error)), math.log(0.1)))
    assert degree <= law.most
    P = exp_polynomial("minimax_relative", degree, (-reach, reach))
    moment = moment_gradient(of, P.power.tolist())
    assert_within(moment.by_X, of, error, f"moment form of degree {degree}")
    assert moment.features == feature_count(of.A2.shape[1], degree + 1)
    factors = ag.factors(*arguments(of), degree=degree, kind="minimax_relative")
    assert factors.ranks["f"] <= feature_count(of.A2.shape[1], degree)
    assert_within(factors.gradient("X"), of, error, f"factors of degree {degree}")


@FEW
@given(instances(generic=True), ERRORS)
def test_the_method_named_is_within_the_error(
    given_: tuple[reference.Problem, float], error: float
) -> None:
    """The same of ``method="polynomial"``: least squares over a sample that tells of all data."""
    of, bound = given_
    degree = required_degree(of, bound, error)
    result = ag.loss_gradient(*arguments(of), method="polynomial", degree=degree)
    assert result.plan.features is not None
    assert result.plan.features <= feature_count(of.A2.shape[1], degree + 1)
    assert_within(result.gradient, of, error, f"method of degree {degree}")


@FEW
@given(instances(), ERRORS)
def test_the_method_named_certifies_its_error(
    given_: tuple[reference.Problem, float], error: float
) -> None:
    """On all data, a row unlike all that were drawn for the fit included."""
    of, bound = given_
    degree = required_degree(of, bound, error)
    result = ag.loss_gradient(*arguments(of), method="polynomial", degree=degree)
    assert result.certificate.kind == "rigorous"
    slack = ROUNDING * gradient_error(of, 1.0)
    assert frobenius(result.gradient - of.dX) <= result.certificate.absolute + slack


@FEW
@given(instances(), st.integers(0, 3))
def test_errors_of_weights_are_errors_of_the_gradient(
    given_: tuple[reference.Problem, float], degree: int
) -> None:
    """(12.13) and (12.14) with the δ that a polynomial has: no entry of dL/dX is further off."""
    of, bound = given_
    reach = 2.0 * bound**2
    P = exp_polynomial("minimax_relative", degree, (-reach, reach))
    low, high = P.ratio_bounds()
    delta = max(high - 1.0, 1.0 - low)
    if delta <= 1.0 / 3.0:
        got = moment_gradient(of, P.power.tolist()).by_X
        assert_within(got, of, gradient_error(of, delta), f"degree {degree}, δ = {delta:.2g}")


class Counted:
    """A number that counts what is done with it and its like."""

    done: ClassVar[Counter[str]] = Counter()

    def __init__(self, value: float) -> None:
        self.value = value

    def _do(self, name: str, other: Any, swap: bool = False) -> Counted:
        Counted.done[name] += 1
        x, y = self.value, float(getattr(other, "value", other))
        x, y = (y, x) if swap else (x, y)
        return Counted({"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else math.nan}[name])

    def __add__(self, other: Any) -> Counted:
        return self._do("+", other)

    def __sub__(self, other: Any) -> Counted:
        return self._do("-", other)

    def __mul__(self, other: Any) -> Counted:
        return self._do("*", other)

    def __truediv__(self, other: Any) -> Counted:
        return self._do("/", other)

    def __rsub__(self, other: Any) -> Counted:
        return self._do("-", other, swap=True)

    def __neg__(self) -> Counted:
        return Counted(-self.value)

    __radd__, __rmul__ = __add__, __mul__


def counted(array: Array) -> Array:
    return np.vectorize(Counted, otypes=[object])(array)


@pytest.mark.parametrize(("n", "m"), [(6, 5), (40, 40), (3, 30)])
@pytest.mark.parametrize("widths", [(2, 2, 2, 2), (3, 4, 2, 5)])
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_operations_are_those_of_the_law(
    n: int, m: int, widths: tuple[int, int, int, int], degree: int
) -> None:
    """(12.15), by numbers that count; and no less than 0.8 of the law, which is no looser."""
    d1, d2, d3, dv = widths
    rng = np.random.default_rng(n)
    shapes = ((n, d1), (m, d2), (m, d3), (d1, d2), (d3, dv), (n, dv))
    arrays = [rng.uniform(-0.5, 0.5, shape) for shape in shapes]
    powers = [1.0 / math.factorial(a) for a in range(degree + 1)]
    want = moment_gradient(reference.Problem(*arrays), powers)
    Counted.done.clear()
    got = moment_gradient(reference.Problem(*map(counted, arrays)), powers)
    used, law = sum(Counted.done.values()), operations(n, m, widths, degree)
    assert_ratio(
        [[x.value for x in row] for row in got.by_X], want.by_X, largest(want.by_X), 1e-12, "dL/dX"
    )
    assert used <= law, f"{used} operations, {law} by the law"
    assert used >= 0.8 * law, f"{used} operations, {law} by the law"


def test_the_exponent_of_the_law_falls_to_one() -> None:
    """(12.16) with d = log₂ n and B = 1/2, for 1/n and for a fixed relative error of the weights.

    For 1/n it does so slowly, with ln ln ln n / ln ln n: not below 2, that of the exact method,
    at any n that fits into a memory; it is 1.88 at n = 2^1000 and 1.31 at 2^(10^12).
    """
    sizes = [10.0, 20.0, 100.0, 1000.0, 1e4, 1e6, 1e9, 1e12]
    to_1_over_n = [work_law(k, 0.5, None).exponent for k in sizes]
    fixed = [work_law(k, 0.5, 1e-3).exponent for k in sizes]
    for exponents in (to_1_over_n, fixed):
        assert all(exponent > 1.0 for exponent in exponents)
        assert exponents == sorted(exponents, reverse=True)
    assert to_1_over_n[sizes.index(20.0)] > 2.0
    assert to_1_over_n[sizes.index(1000.0)] == pytest.approx(1.88, abs=0.005)
    assert to_1_over_n[-1] == pytest.approx(1.31, abs=0.005)
    assert fixed[sizes.index(20.0)] == pytest.approx(2.02, abs=0.005)
    assert fixed[sizes.index(1000.0)] == pytest.approx(1.05, abs=0.005)


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_the_work_to_a_fixed_error_is_near_linear() -> None:
    """An error of 1e-3 at d = ⌈log₂ n⌉ and B = 1 to n = 2^20: degree, features, time by n."""
    print("\n      n   d  degree  features  operations  seconds  error of rows")
    points: list[tuple[float, float, float]] = []
    for k in range(14, 21):
        n = 2**k
        rng = np.random.default_rng(k)
        A1, A2, A3, E = (rng.uniform(-1.0, 1.0, (n, k)).astype(np.float32) for _ in range(4))
        one = np.eye(k, dtype=np.float32)
        rows = rng.choice(n, 64, replace=False)
        want = ag.loss_gradient(A1[rows], A2, A3, one, one, E[rows], wrt="A1").gradient
        degree, error = 0, math.inf
        while error > 1e-3:
            degree += 1
            start = time.perf_counter()
            result = ag.loss_gradient(
                A1, A2, A3, one, one, E, wrt="A1", method="polynomial", degree=degree
            )
            seconds = time.perf_counter() - start
            error = frobenius(result.gradient[rows] - want) / frobenius(want)
        assert degree <= sufficient_degree(2.0, math.log(1e-3))
        work = operations(n, n, (k, k, k, k), degree)
        points.append((float(n), float(work), seconds))
        features = feature_count(k, degree + 1)
        print(f"{n:8d} {k:3d} {degree:6d} {features:9d} {work:11.3g} {seconds:8.3f}  {error:.1e}")
    logs = np.log(np.array(points))
    by_work, by_time = (np.polyfit(logs[:, 0], logs[:, column], 1)[0] for column in (1, 2))
    print(f"exponent of n: {by_work:.2f} by operations, {by_time:.2f} by time")
    assert by_work < 1.5, "as the law's, with d and so the features growing"
