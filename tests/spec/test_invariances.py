"""What the gradient does when the problem is moved, permuted, balanced or scaled: end of section 2.

Each law holds exactly for the problem; the moved inputs are rounded, so the library is held to both
problems' own truths (eq. 5.13), and the truths to one another in extended precision.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs
from helpers import PROMISE, Array, absolute_sums, assert_promise, assert_ratio, error_scale, truth
from strategies import Case, tame

pytestmark = pytest.mark.spec
seeds = st.integers(0, 2**32 - 1)
Found = dict[str, Array]


def gradients(case: Case) -> Found:
    """The library's gradients, each held to the promise on the way."""
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt, threads=1)
    want = truth(case)
    for name, got in result.gradients.items():
        assert_promise(got, want, name, np.float64, case.label)
    return {"loss": np.float64(result.loss), **result.gradients}


def scales(case: Case) -> Found:
    """What each entry may be off by, over the promise: eq. (5.13) of docs/math.md."""
    want = truth(case)
    sums, size = absolute_sums(want, np.float64), error_scale(want, np.float64)
    tiny = np.finfo(np.float64).tiny
    return {name: size * sums[name] + tiny for name in ("loss", "X", "Y", "A1", "A2", "A3")}


def assert_law(got: Array, want: Array, scale: Array, name: str) -> None:
    """Both sides of a law, of which each may miss by what is promised of it."""
    assert_ratio(got, want, scale, PROMISE, name)


def assert_same(case: Case, other: Case, got: Found, want: Found, names: tuple[str, ...]) -> None:
    one, two = scales(case), scales(other)
    for name in names:
        assert_law(got[name], want[name], one[name] + two[name], name)


@given(tame(causal=None), seeds)
def test_moving_all_keys_changes_nothing(case: Case, seed: int) -> None:
    # Multiples of 1/8 of moderate keys: the shifted keys differ from the keys by one rounding.
    step = np.random.default_rng(seed).integers(-16, 17, case.A2.shape[1]) / 8.0
    moved = replace(case, A2=case.A2 + step)
    names = ("loss", "X", "Y", "A1", "A2", "A3")
    assert_same(moved, case, gradients(moved), gradients(case), names)


@given(tame(), seeds)
def test_the_order_of_keys_does_not_matter(case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case.A2))
    other = replace(case, A2=case.A2[order], A3=case.A3[order])
    got, want = gradients(other), gradients(case)
    assert_same(other, case, got, want, ("loss", "X", "Y", "A1"))
    size = scales(other)
    for name in ("A2", "A3"):
        assert_law(got[name], want[name][order], 2.0 * size[name], name)


@given(tame(), seeds)
def test_the_order_of_queries_does_not_matter(case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case.A1))
    other = replace(case, A1=case.A1[order], E=case.E[order])
    got, want = gradients(other), gradients(case)
    assert_same(other, case, got, want, ("loss", "X", "Y", "A2", "A3"))
    assert_law(got["A1"], want["A1"][order], 2.0 * scales(other)["A1"], "A1")


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
    got, want = gradients(balanced), gradients(case)
    one, two = scales(balanced), scales(case)
    assert_law(got["X"], inverse.T @ want["X"], one["X"] + abs(inverse.T) @ two["X"], "X")
    assert_law(got["A1"], want["A1"] @ G.T, one["A1"] + two["A1"] @ abs(G.T), "A1")
    assert_same(balanced, case, got, want, ("loss", "Y", "A2", "A3"))


@given(tame(causal=None), st.integers(-8, 8))
def test_scale_and_weight_are_one_factor(case: Case, power: int) -> None:
    """(s, X) -> (s/t, t X): the same problem; dL/dX is divided by t."""
    t = 2.0**power
    moved = replace(case, X=case.X * t, scale=case.scale / t)
    got, want = gradients(moved), gradients(case)
    assert_law(got["X"] * t, want["X"], 2.0 * scales(case)["X"], "X")
    assert_same(moved, case, got, want, ("loss", "Y", "A1", "A2", "A3"))


@given(tame(causal=None), st.integers(-8, 8))
def test_the_loss_is_quadratic_in_values_and_target(case: Case, power: int) -> None:
    t = 2.0**power
    got, want = gradients(replace(case, Y=case.Y * t, E=case.E * t)), gradients(case)
    size = scales(case)
    for name, factor in (("loss", t**2), ("X", t**2), ("A1", t**2), ("A2", t**2), ("Y", t)):
        assert_law(got[name] / factor, want[name], 2.0 * size[name], name)


@given(tame(causal=None), seeds)
def test_the_target_enters_through_the_residual_only(case: Case, seed: int) -> None:
    """f, h and so the map from c to the gradient do not know E: the gradient is affine in E."""
    other = np.random.default_rng(seed).standard_normal(case.E.shape)
    targets = (np.zeros_like(case.E), case.E, other, case.E + other)
    four = [replace(case, E=target) for target in targets]
    zero, one, two, both = (gradients(one) for one in four)
    sizes = [scales(one) for one in four]
    for name in ("X", "Y", "A1", "A2", "A3"):
        size = sum(one[name] for one in sizes)
        assert_law(both[name] + zero[name], one[name] + two[name], size, name)


@given(tame(causal=None))
def test_hitting_the_target_gives_no_gradient(case: Case) -> None:
    """With E = o the residual, the loss and every gradient vanish to rounding."""
    reached = replace(case, E=np.asarray(truth(case).o, dtype=np.float64))
    got, size = gradients(reached), scales(reached)
    # The residual is a rounding of the output, and the loss half its square.
    sums = absolute_sums(truth(reached), np.float64)["o"]
    residual = PROMISE * error_scale(truth(reached), np.float64) * sums
    assert 0.0 <= got["loss"] <= 0.5 * np.sum(residual**2)
    for name in ("X", "Y", "A1", "A2", "A3"):
        assert_law(got[name], np.zeros_like(got[name]), size[name], name)


@given(tame(causal=None))
def test_the_gradient_by_x_does_not_see_the_mean_of_the_keys(case: Case) -> None:
    """Rows of p sum to zero, so a constant column of A2 gets no gradient."""
    constant = np.hstack([case.A2, np.full((len(case.A2), 1), 3.0)])
    X = np.hstack([case.X, np.zeros((len(case.X), 1))])
    wide = replace(case, A2=constant, X=X)
    got, size = gradients(wide), scales(wide)["X"]
    assert_law(got["X"][:, -1], np.zeros(len(X)), size[:, -1], "X")
    assert_law(got["X"][:, :-1], gradients(case)["X"], 2.0 * size[:, :-1], "X")


@given(tame(causal=False))
def test_repeating_every_key_changes_nothing(case: Case) -> None:
    twice = replace(case, A2=np.repeat(case.A2, 2, axis=0), A3=np.repeat(case.A3, 2, axis=0))
    got, want = gradients(twice), gradients(case)
    assert_same(twice, case, got, want, ("loss", "X", "Y", "A1"))
    size = scales(case)
    for name in ("A2", "A3"):
        # Each half may miss by half of what the whole may.
        assert_law(got[name][::2] + got[name][1::2], want[name], 3.0 * size[name], name)
