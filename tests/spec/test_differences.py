"""The gradient is the derivative of the loss: differences in 60 digits, complex steps, float64."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    ratio,
    to_digits,
    truth,
)
from strategies import Case, Shape, build, tame

pytestmark = pytest.mark.spec
# 60 digits: the difference is off by step^2 = 1e-40 and by 1e-60 / step = 1e-40, times what the
# third derivative may be.
STEP = mpmath.mpf(10) ** -20
STEP_ERROR = 1e-30
# A complex step has no cancellation: any tiny step will do.
COMPLEX_STEP = 1e-60
# float64: weights of the central difference of eighth order, at one to four steps on either side.
WEIGHTS = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
# Steps in a radius within which no logit moves by more than one, so that the loss is analytic.
STEPS_IN_RADIUS = 128
# Where logits do not move the loss is quadratic, and the difference is exact at any step.
QUADRATIC_STEP = 0.25
# Logits that move by z with |z| <= 1: no row of weights grows by more than e / (e^-1 cos 1), the
# least that its normaliser falls to.
WIDEST = math.exp(2.0) / math.cos(1.0)
# Moved inputs are rounded once more, and their scale is a little larger.
MOVED = 2.0
# Of wrong gradients, those whose error along a drawn direction happens to be next to nothing.
SEEN_AS_RIGHT = 0.15
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


def largest_move(case: Case, name: str, direction: Array) -> float:
    """By how much a logit moves with one unit of the direction."""
    W_Q, W_K = case.pair or (case.X, np.eye(case.X.shape[1]))
    moved = {"A1": case.A1, "A2": case.A2, "X": case.X, "W_Q": W_Q, "W_K": W_K}
    if name not in moved:
        return 0.0
    if name == "X":
        S = case.A1 @ direction @ case.A2.T
    else:
        moved[name] = direction
        S = moved["A1"] @ moved["W_Q"] @ moved["W_K"].T @ moved["A2"].T
    return abs(case.scale) * float(largest(S))


def truncation(case: Case, wide: Any, steps: float) -> float:
    """Of the difference, where the loss is analytic in a radius of so many steps of length one.

    Coefficients of its series are at most M / radius^q (Cauchy), M = ½ n dv (|o| + |E|)² on it;
    those of odd powers from the ninth on are what the difference misses.
    """
    values = WIDEST * float(largest(wide.h)) + float(largest(case.E))
    M = 0.5 * case.E.size * values**2
    missed = (
        sum(2.0 * abs(weight) * (j + 1) ** q for j, weight in enumerate(WEIGHTS)) / steps**q
        for q in range(9, 99, 2)
    )
    return M * sum(missed)


def disagreement(case: Case, name: str, seed: int, gradient: Array) -> float:
    """How far a gradient is from the derivative of the library's loss, by what may be."""
    wide, direction = truth(case), direction_of(case, name, seed)
    move = largest_move(case, name, direction)
    step, missed = QUADRATIC_STEP, 0.0
    if move > 0.0:
        # Powers of two, so that products with the direction are exact.
        step = 2.0 ** math.floor(math.log2(1.0 / (move * STEPS_IN_RADIUS)))
        missed = truncation(case, wide, 1.0 / (move * step)) / step
    got, scale, sums = 0.0, error_scale(wide, np.float64), absolute_sums(wide, np.float64)
    for j, weight in enumerate(WEIGHTS):
        up, down = (
            attngrad_rs.loss(
                *changed(case, name, parts(case, name) + sign * (j + 1) * step * direction).args,
                **case.options,
                threads=1,
            )
            for sign in (1.0, -1.0)
        )
        got += weight * (up - down) / step
    of_losses = sum(2.0 * abs(weight) for weight in WEIGHTS) * MOVED * sums["loss"] / step
    size = scale * (of_losses + np.sum(sums[name] * abs(direction)))
    return ratio(got, np.sum(gradient * direction), PROMISE * size + missed)


@given(tame(**small), seeds)
def test_the_library_is_the_derivative_of_its_own_loss(case: Case, seed: int) -> None:
    """Differences of attngrad_rs.loss in float64, with a bound of what they miss."""
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    for k, name in enumerate(case.wrt):
        got = disagreement(case, name, seed + k, result.gradients[name])
        assert got <= 1.0, f"{case.label}: {name}: {got:.3g} times what may be"


WRONG: dict[str, Callable[[Array], Array]] = {
    "zero": np.zeros_like,
    "the other sign": np.negative,
    "of float32": lambda array: array.astype(np.float32).astype(np.float64),
    "an entry off": lambda array: array + 1e-7 * largest(array) * np.eye(*array.shape),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("logit", [1e-3, 1.0, 8.0])
def test_the_differences_see_a_wrong_gradient(kind: str, logit: float) -> None:
    """Each kind of wrong gradient, in every input: the bound is below what it is off by."""
    missed = tried = 0
    for seed in range(8):
        case = build(Shape(9, 8, 3, 3, 3, 3), seed=seed, logit=logit, is_causal=seed % 2 == 1)
        result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
        for name in case.wrt:
            wrong = WRONG[kind](result.gradients[name])
            tried += 1
            missed += disagreement(case, name, seed, wrong) <= 1.0
    print(f"{kind}, logits up to {logit}: {missed} of {tried} not seen")
    assert missed <= SEEN_AS_RIGHT * tried


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
