"""Many layers, Definition 1.1 of the paper: eqs. (12.2) to (12.4) of docs/math.md."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs.reference import Layer, backward, error_over_layers, forward
from helpers import Array, assert_close, assert_ratio, frobenius, largest

pytestmark = pytest.mark.spec

FEW = settings(max_examples=settings().max_examples // 4)
# Roundings of a few dozen products, in float64.
ROUNDING = 1e-12


@st.composite
def networks(draw: Any, shortest: int = 1) -> tuple[list[Layer], Array, Array]:
    """Up to four layers of any widths of values, E_0, and a gradient that arrives at the end."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    causal, pair = draw(st.booleans()), draw(st.booleans())
    rows, layers = rng.standard_normal((n, d)), []
    for _ in range(draw(st.integers(shortest, 4))):
        wide = int(rng.integers(1, 4))
        X: Any = rng.standard_normal((d, d))
        if pair:
            X = (rng.standard_normal((d, 2)), rng.standard_normal((d, 2)))
        layers.append(Layer(X, rng.standard_normal((d, wide)), is_causal=causal))
        d = wide
    return layers, rows, rng.standard_normal((n, d))


@FEW
@given(networks())
def test_each_layer_is_the_papers(network: tuple[list[Layer], Array, Array]) -> None:
    """E_(l+1) = D^-1 exp(E_l Q Kᵀ E_lᵀ / d) E_l V, written out."""
    layers, rows, _ = network
    states = forward(layers, rows)
    assert len(states) == len(layers) + 1
    for layer, E, after in zip(layers, states, states[1:], strict=False):
        X = layer.X[0] @ layer.X[1].T if isinstance(layer.X, tuple) else layer.X
        u = np.exp(E @ X @ E.T / E.shape[1])
        u = np.tril(u) if layer.is_causal else u
        D = np.diag(u @ np.ones(len(E)))
        assert_close(after, np.linalg.inv(D) @ u @ E @ layer.Y, ROUNDING, "a layer")


@FEW
@given(networks())
def test_the_gradient_is_that_of_the_whole_network(
    network: tuple[list[Layer], Array, Array],
) -> None:
    """⟨G_0, dE_0⟩ against a central difference of ⟨G_M, E_M⟩ along a direction."""
    layers, rows, arriving = network
    gradients = backward(layers, forward(layers, rows), arriving)
    assert len(gradients) == len(layers) + 1
    direction = np.random.default_rng(0).standard_normal(rows.shape)
    step = 1e-5
    ends = [
        np.sum(arriving * forward(layers, rows + sign * step * direction)[-1]) for sign in (1, -1)
    ]
    norms = np.prod([1.0 + np.linalg.norm(layer.jacobian(E), 2)
                     for layer, E in zip(layers, forward(layers, rows), strict=False)])  # fmt: skip
    # The third derivative times the square of the step, and what the difference loses.
    scale = 1e-6 * (1.0 + float(norms)) ** 3 * frobenius(arriving)
    got = np.sum(gradients[0] * direction)
    assert_ratio(got, (ends[0] - ends[1]) / (2.0 * step), scale, 1.0, "dL/dE_0")


@FEW
@given(networks(), st.floats(-6.0, 0.0))
def test_errors_of_layers_add_up(network: tuple[list[Layer], Array, Array], decade: float) -> None:
    """(12.4): δ_0 ≤ Σ ε_l Π_(i<l) ‖J_i‖ for errors of any direction in every pull-back."""
    layers, rows, arriving = network
    states = forward(layers, rows)
    rng = np.random.default_rng(len(layers))
    errors: list[float] = []

    def wrong(layer: Layer, E: Array, after: Array) -> Array:
        added = 10.0**decade * rng.standard_normal(E.shape)
        errors.insert(0, frobenius(added))
        return layer.pull_back(E, after) + added

    want = backward(layers, states, arriving)
    got = backward(layers, states, arriving, wrong)
    norms = [
        float(np.linalg.norm(layer.jacobian(E), 2))
        for layer, E in zip(layers, states, strict=False)
    ]
    bound = error_over_layers(errors, norms)
    size = frobenius(arriving) * float(np.prod([1.0 + norm for norm in norms]))
    assert frobenius(got[0] - want[0]) <= bound + ROUNDING * size


def test_the_law_is_attained() -> None:
    """One token: each layer is a product with Y, and errors along its largest direction add up."""
    layers = [Layer(np.eye(1), np.full((1, 1), y)) for y in (3.0, -0.5, 2.0)]
    states = forward(layers, np.ones((1, 1)))
    signs = iter((1.0 * 3.0 * -0.5, 1.0 * 3.0, 1.0))

    def wrong(layer: Layer, E: Array, after: Array) -> Array:
        return layer.pull_back(E, after) + np.sign(next(signs))

    one = np.ones((1, 1))
    change = backward(layers, states, one, wrong)[0] - backward(layers, states, one)[0]
    assert_ratio(
        abs(float(change[0, 0])),
        error_over_layers([1.0] * 3, [3.0, 0.5, 2.0]),
        1.0,
        ROUNDING,
        "δ_0",
    )


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_certificates_of_the_library_go_through_the_layers(degree: int) -> None:
    """Three layers pulled back by the polynomial method; (12.4) with its bounds for ε_l."""
    rng = np.random.default_rng(degree)
    n, d = 24, 3
    layers = [Layer(0.5 * rng.standard_normal((d, d)), rng.standard_normal((d, d))) for _ in "abc"]
    rows, arriving = rng.uniform(-1.0, 1.0, (n, d)), rng.standard_normal((n, d))
    states = forward(layers, rows)
    errors: list[float] = []

    def approximate(layer: Layer, E: Array, after: Array) -> Array:
        got = ag.attention_vjp(
            E @ layer.X, E, E @ layer.Y, after, scale=1.0 / d, method="polynomial", degree=degree
        )
        query, key, value = (got.certificates[name].absolute for name in ("query", "key", "value"))
        X, Y = (float(np.linalg.norm(W, 2)) for W in (layer.X, layer.Y))
        errors.insert(0, query * X + key + value * Y)
        return np.asarray(got.dq @ layer.X.T + got.dk + got.dv @ layer.Y.T)

    got = backward(layers, states, arriving, approximate)
    want = backward(layers, states, arriving)
    norms = [
        float(np.linalg.norm(layer.jacobian(E), 2))
        for layer, E in zip(layers, states, strict=False)
    ]
    bound = error_over_layers(errors, norms)
    assert np.isfinite(bound)
    assert frobenius(got[0] - want[0]) <= bound + ROUNDING * largest(want[0])
