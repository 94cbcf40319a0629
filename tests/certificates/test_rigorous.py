"""A rigorous bound is never below the truth: every shape, output and degree that the API takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, target
from hypothesis import strategies as st

import attngrad_rs as ag
from helpers import frobenius, truth
from strategies import Case, cases

pytestmark = pytest.mark.rigorous

ROUNDINGS = 64


def outputs(case: Case) -> tuple[str, ...]:
    return ("W_Q", "W_K", "Y", "A1", "A2", "A3") if case.pair else ("X", "Y", "A1", "A2", "A3")


def slack(case: Case, name: str, want: Any) -> float:
    """What the truth itself may be off: some roundings of its largest terms."""
    wide = case.widened(np.longdouble)
    left, right = wide.pair if wide.pair else (wide.X, np.eye(wide.X.shape[1]))
    A1, A2, A3, h, c = (frobenius(one) for one in (wide.A1, wide.A2, wide.A3, want.h, want.c))
    left, right, Y = frobenius(left), frobenius(right), frobenius(wide.Y)
    p = abs(case.scale) * h * c
    size = {
        "X": p * A1 * A2, "W_Q": p * A1 * A2 * right, "W_K": p * A1 * A2 * left, "Y": A3 * c,
        "A1": p * A2 * left * right, "A2": p * A1 * left * right, "A3": c * Y,
    }[name]  # fmt: skip
    logit = abs(case.scale) * left * right * A1 * A2
    return float(ROUNDINGS * np.finfo(np.longdouble).eps * size * (1 + logit))


@given(case=cases(), degree=st.integers(0, 4))
def test_never_below_the_truth(case: Case, degree: int) -> None:
    names = outputs(case)
    try:
        result = ag.loss_gradient(
            *case.args, **case.options, wrt=names, method="polynomial", degree=degree
        )
    except (ag.RangeError, ag.OptionError):
        # Numbers that do not fit the precision, or features that do not fit the memory.
        return
    want = truth(case)
    for name in names:
        made = result.certificates[name]
        assert made.kind in ("rigorous", "exact")
        assert made.success is None or made.kind == "exact"
        error = float(frobenius(result.gradients[name] - want.gradient(name)))
        assert error <= made.absolute + slack(case, name, want), (name, error, made)
        if math.isfinite(made.absolute) and made.absolute > 0.0:
            target(error / made.absolute, label=name)
    error = abs(float(result.loss - want.loss))
    assert error <= result.loss_certificate.absolute + 1e-15 * abs(float(want.loss))


def small(seed: int, entries: float, dtype: str = "float64") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shape = (200, 3)
    sides = {name: rng.uniform(-entries, entries, shape) for name in ("A1", "A2", "A3")}
    target_ = rng.standard_normal(shape)
    arrays = {**sides, "X": np.eye(3), "Y": np.eye(3), "E": target_}
    return {key: array.astype(dtype) for key, array in arrays.items()}


# Norms over 200 x 200 pairs add up where errors cancel; that is twice what was measured.
MOST_ABOVE = {0.1: 2600.0, 0.25: 2900.0, 0.5: 3800.0, 1.0: 11500.0}


@pytest.mark.parametrize("entries", MOST_ABOVE)
def test_not_uselessly_above(entries: float) -> None:
    arrays = small(1, entries)
    result = ag.loss_gradient(**arrays, method="polynomial", degree=3)
    exact = ag.loss_gradient(**arrays)
    error = float(frobenius(result.gradient - exact.gradient))
    assert error <= result.certificate.absolute <= MOST_ABOVE[entries] * error


def test_steps_are_charged() -> None:
    result = ag.loss_gradient(**small(2, 0.3), method="polynomial", degree=2)
    assert list(result.certificate.steps) == ["f", "c", "q", "p1", "p2"]
    assert all(0.0 < charge < math.inf for charge in result.certificate.steps.values())


def test_what_is_not_known_is_infinite() -> None:
    # Logits of a hundred: P(t) e^-t is not bounded away from zero.
    arrays = small(3, 30.0)
    result = ag.loss_gradient(**arrays, method="polynomial", degree=1)
    assert result.certificate.kind == "exact" or result.certificate.absolute == math.inf
    assert result.certificate.success is not True or result.certificate.kind == "exact"


def test_a_rigorous_certificate_is_asked_for() -> None:
    arrays = small(4, 0.05)
    result = ag.loss_gradient(**arrays, rtol=1e-4, certificate="rigorous")
    assert result.certificate.kind in ("rigorous", "exact")
    named = ag.loss_gradient(
        **arrays, rtol=1e-4, certificate="rigorous", method="polynomial", degree=4
    )
    assert named.certificate.kind == "rigorous"
    assert named.certificate.success is True
