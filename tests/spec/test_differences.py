"""The gradient is the derivative of the loss: differences in 60 digits, complex steps, float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs
from helpers import (
    DIGITS,
    PROMISE,
    Array,
    absolute_sums,
    assert_promise,
    assert_ratio,
    digits_problem,
    directional,
    error_scale,
    largest,
    problem,
    to_digits,
    truth,
)
from strategies import Case, tame

pytestmark = pytest.mark.spec
# 60 digits: the difference is off by step^2 = 1e-40 and by 1e-60 / step = 1e-40, times what the
# third derivative may be.
STEP = mpmath.mpf(10) ** -20
STEP_ERROR = 1e-30
# A complex step has no cancellation: any tiny step will do.
COMPLEX_STEP = 1e-60
# float64: truncation step^2, rounding eps / step, times what the loss's third derivative may be.
PLAIN_STEP = 2.0**-17
PLAIN_SLACK = 1e-6
seeds = st.integers(0, 2**32 - 1)
small: dict[str, Any] = {"causal": None, "pair": None, "longest": 4, "widest": 3}


def parts(case: Case, name: str) -> Array:
    if name in ("W_Q", "W_K"):
        assert case.pair is not None
        return case.pair[name == "W_K"]
    return np.asarray(getattr(case, name))


def changed(case: Case, name: str, value: Array) -> Case:
    if name in ("W_Q", "W_K"):
        assert case.pair is not None
        pair = (value, case.pair[1]) if name == "W_Q" else (case.pair[0], value)
        return replace(case, pair=pair)
    return replace(case, **{name: value})


def direction_of(case: Case, name: str, seed: int) -> Array:
    # Multiples of 1/16: exact in every number type.
    rng = np.random.default_rng(seed)
    return rng.integers(-16, 17, parts(case, name).shape) / 16.0


def moved_loss(case: Case, directions: dict[str, Array], step: Any) -> Any:
    """The loss in 60 digits, with every input moved by step times its direction."""
    start = digits_problem(case)
    weights = start.X if isinstance(start.X, tuple) else (start.X,)
    moved = tuple(
        weight + step * directions[name] for name, weight in zip(case.wrt, weights, strict=False)
    )
    others = {
        name: getattr(start, name) + step * directions[name] for name in ("Y", "A1", "A2", "A3")
    }
    return replace(start, **others, X=moved if case.pair else moved[0]).loss


@given(tame(**small), seeds)
def test_the_library_is_the_difference_quotient_in_60_digits(case: Case, seed: int) -> None:
    """All inputs moved at once: the derivative along a direction is the sum of inner products."""
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    directions = {name: direction_of(case, name, seed + k) for k, name in enumerate(case.wrt)}
    with mpmath.workdps(DIGITS):
        losses = [moved_loss(case, directions, step) for step in (STEP, -STEP)]
        want = float(directional(losses, STEP))
    got = sum(np.sum(result.gradients[name] * directions[name]) for name in case.wrt)
    wide = truth(case)
    sums = absolute_sums(wide, np.float64)
    size = sum(np.sum(sums[name] * abs(directions[name])) for name in case.wrt)
    assert_ratio(got, want, error_scale(wide, np.float64) * size + STEP_ERROR, PROMISE, case.label)


@given(tame(**small), seeds)
def test_the_reference_is_the_complex_step_derivative(case: Case, seed: int) -> None:
    """L(x + i t d) has the imaginary part t <dL/dx, d>, without any cancellation."""
    quantities = problem(case)
    for k, name in enumerate(case.wrt):
        direction = direction_of(case, name, seed + k)
        moved = changed(case, name, parts(case, name) + 1j * COMPLEX_STEP * direction)
        got = problem(moved).loss.imag / COMPLEX_STEP
        want = np.sum(quantities.gradient(name) * direction)
        sums = absolute_sums(quantities, np.float64)[name]
        size = error_scale(quantities, np.float64) * np.sum(sums * abs(direction)) + 1e-300
        assert_ratio(got, want, size, PROMISE, name)


@given(tame(**small), seeds)
def test_the_library_is_the_derivative_of_its_own_loss(case: Case, seed: int) -> None:
    """Central differences of attngrad_rs.loss in float64."""
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    wide = truth(case)
    inputs = 1.0 + max(float(largest(parts(case, name))) for name in case.wrt)
    values = 1.0 + float(largest(wide.h)) + float(largest(case.E))
    # The third derivative along a unit direction, and the rounding of the loss over the step.
    size = values**2 * inputs**6 * case.A1.size * case.A2.size * (1.0 + float(largest(wide.S)))
    for k, name in enumerate(case.wrt):
        direction = direction_of(case, name, seed + k)
        losses = [
            attngrad_rs.loss(
                *changed(case, name, parts(case, name) + step * direction).args, **case.options
            )
            for step in (PLAIN_STEP, -PLAIN_STEP)
        ]
        want = np.sum(result.gradients[name] * direction)
        assert_ratio(directional(losses, PLAIN_STEP), want, size, PLAIN_SLACK, name)


@given(tame(**small))
def test_the_library_agrees_with_60_digits_entry_by_entry(case: Case) -> None:
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    wide = truth(case)
    with mpmath.workdps(DIGITS):
        exact = digits_problem(case)
        for name, got in result.gradients.items():
            # The extended-precision truth, used everywhere else, is itself checked here.
            error = (to_digits(wide.gradient(name)) - exact.gradient(name)).astype(np.float64)
            scale = error_scale(wide, np.longdouble) * absolute_sums(wide, np.longdouble)[name]
            assert_ratio(error, np.zeros(got.shape), scale, PROMISE, f"{case.label}: {name}")
            assert_promise(got, wide, name, np.float64, case.label)
