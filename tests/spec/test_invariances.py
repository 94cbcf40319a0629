"""What the gradient does when the problem is moved, permuted, balanced or scaled: end of section 2.

Each law holds exactly for the problem; the moved inputs are rounded, so the library is held to both
problems' own truths (eq. 35), and the truths to one another in extended precision.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs
from helpers import assert_promise, assert_ratio, largest, truth
from strategies import Case, tame

pytestmark = pytest.mark.spec
EPS = np.finfo(np.float64).eps
# Laws on power-of-two or permuted inputs hold to rounding; on others to the rounding of the inputs.
SLACK = 4096 * EPS
seeds = st.integers(0, 2**32 - 1)


def gradients(case: Case) -> dict[str, np.ndarray]:
    """The library's gradients, each held to the promise on the way."""
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    want = truth(case)
    for name, got in result.gradients.items():
        assert_promise(got, want, name, np.float64, case.label)
    return {"loss": np.float64(result.loss), **result.gradients}


def size_of(case: Case) -> float:
    """A common scale of all gradients: products of the largest entries and the lengths."""
    want = truth(case)
    values = 1.0 + float(largest(want.h)) + float(largest(case.E))
    inputs = 1.0 + max(float(largest(array)) for array in (case.A1, case.A2, case.A3))
    weights = 1.0 + max(float(largest(case.X)), float(largest(case.Y)))
    count = (len(case.A1) + len(case.A2)) * sum(case.X.shape + case.Y.shape)
    return values**2 * inputs**3 * weights**2 * count * (1.0 + float(largest(want.S)))


def assert_same(got: dict, want: dict, size: float, names: tuple[str, ...]) -> None:
    for name in names:
        assert_ratio(got[name], want[name], size, SLACK, name)


@given(tame(causal=None), seeds)
def test_moving_all_keys_changes_nothing(case: Case, seed: int) -> None:
    # Multiples of 1/8 of moderate keys: the shifted keys differ from the keys by one rounding.
    step = np.random.default_rng(seed).integers(-16, 17, case.A2.shape[1]) / 8.0
    moved = replace(case, A2=case.A2 + step)
    names = ("loss", "X", "Y", "A1", "A2", "A3")
    assert_same(gradients(moved), gradients(case), size_of(moved) + size_of(case), names)


@given(tame(), seeds)
def test_the_order_of_keys_does_not_matter(case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case.A2))
    got, want = gradients(replace(case, A2=case.A2[order], A3=case.A3[order])), gradients(case)
    size = size_of(case)
    assert_same(got, want, size, ("loss", "X", "Y", "A1"))
    assert_ratio(got["A2"], want["A2"][order], size, SLACK, "A2")
    assert_ratio(got["A3"], want["A3"][order], size, SLACK, "A3")


@given(tame(), seeds)
def test_the_order_of_queries_does_not_matter(case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case.A1))
    got, want = gradients(replace(case, A1=case.A1[order], E=case.E[order])), gradients(case)
    size = size_of(case)
    assert_same(got, want, size, ("loss", "X", "Y", "A2", "A3"))
    assert_ratio(got["A1"], want["A1"][order], size, SLACK, "A1")


@given(tame(causal=None), seeds)
def test_balance_maps_the_gradient_by_the_inverse_transpose(case: Case, seed: int) -> None:
    """X' = G X and A1' = A1 G^-1 keep the logits, and dL/dX' = G^-T dL/dX."""
    d1 = case.X.shape[0]
    rng = np.random.default_rng(seed)
    # Triangular with a unit diagonal and entries in {-1, 0, 1}: G and its inverse are integers.
    G = np.eye(d1) + np.tril(rng.integers(-1, 2, (d1, d1)), -1)
    inverse = np.round(np.linalg.inv(G))
    assert np.array_equal(G @ inverse, np.eye(d1))
    balanced = replace(case, X=G @ case.X, A1=case.A1 @ inverse)
    size = size_of(case) + size_of(balanced)
    got, want = gradients(balanced), gradients(case)
    assert_ratio(got["X"], inverse.T @ want["X"], size, SLACK, "X")
    assert_ratio(got["A1"], want["A1"] @ G.T, size, SLACK, "A1")
    assert_same(got, want, size, ("loss", "Y", "A2", "A3"))


@given(tame(causal=None), st.integers(-8, 8))
def test_scale_and_weight_are_one_factor(case: Case, power: int) -> None:
    """(s, X) -> (s/t, t X): the same problem; dL/dX is divided by t."""
    t = 2.0**power
    moved = replace(case, X=case.X * t, scale=case.scale / t)
    got, want = gradients(moved), gradients(case)
    assert_ratio(got["X"] * t, want["X"], size_of(case), SLACK, "X")
    assert_same(got, want, size_of(case), ("loss", "Y", "A1", "A2", "A3"))


@given(tame(causal=None), st.integers(-8, 8))
def test_the_loss_is_quadratic_in_values_and_target(case: Case, power: int) -> None:
    t = 2.0**power
    got, want = gradients(replace(case, Y=case.Y * t, E=case.E * t)), gradients(case)
    size = size_of(case)
    for name, factor in (("loss", t**2), ("X", t**2), ("A1", t**2), ("A2", t**2), ("Y", t)):
        assert_ratio(got[name] / factor, want[name], size, SLACK, name)


@given(tame(causal=None), seeds)
def test_the_target_enters_through_the_residual_only(case: Case, seed: int) -> None:
    """f, h and so the map from c to the gradient do not know E: the gradient is affine in E."""
    other = np.random.default_rng(seed).standard_normal(case.E.shape)
    zero = gradients(replace(case, E=np.zeros_like(case.E)))
    one, two = gradients(case), gradients(replace(case, E=other))
    both = gradients(replace(case, E=case.E + other))
    size = size_of(case) + size_of(replace(case, E=other))
    for name in ("X", "Y", "A1", "A2", "A3"):
        assert_ratio(both[name] + zero[name], one[name] + two[name], size, SLACK, name)


@given(tame(causal=None))
def test_hitting_the_target_gives_no_gradient(case: Case) -> None:
    """With E = o the residual, the loss and every gradient vanish to rounding."""
    reached = replace(case, E=np.asarray(truth(case).o, dtype=np.float64))
    got = gradients(reached)
    size = size_of(reached)
    assert 0.0 <= got["loss"] <= (SLACK * size) ** 2
    for name in ("X", "Y", "A1", "A2", "A3"):
        assert_ratio(got[name], np.zeros_like(got[name]), size, SLACK, name)


@given(tame(causal=None))
def test_the_gradient_by_x_does_not_see_the_mean_of_the_keys(case: Case) -> None:
    """Rows of p sum to zero, so a constant column of A2 gets no gradient."""
    constant = np.hstack([case.A2, np.full((len(case.A2), 1), 3.0)])
    X = np.hstack([case.X, np.zeros((len(case.X), 1))])
    wide = replace(case, A2=constant, X=X)
    got = gradients(wide)
    assert_ratio(got["X"][:, -1], np.zeros(len(X)), size_of(wide), SLACK, "X")
    assert_ratio(got["X"][:, :-1], gradients(case)["X"], size_of(wide), SLACK, "X")


@given(tame(causal=False))
def test_repeating_every_key_changes_nothing(case: Case) -> None:
    twice = replace(case, A2=np.repeat(case.A2, 2, axis=0), A3=np.repeat(case.A3, 2, axis=0))
    got, want = gradients(twice), gradients(case)
    size = 2 * size_of(case)
    assert_same(got, want, size, ("loss", "X", "Y", "A1"))
    assert_ratio(got["A2"][::2] + got["A2"][1::2], want["A2"], size, SLACK, "A2")
    assert_ratio(got["A3"][::2] + got["A3"][1::2], want["A3"], size, SLACK, "A3")
