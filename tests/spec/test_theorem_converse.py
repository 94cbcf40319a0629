"""The converse reduction: dL/dX from the outputs of any softmax attention, eq. (12.25)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs.reference.reductions import gradient_from_attention
from helpers import Array, assert_ratio, largest

pytestmark = pytest.mark.spec

FEW = settings(max_examples=settings().max_examples // 4)
# Roundings of float64, and of float32, relative to the sums of absolute values.
SLACK = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-4}


@st.composite
def problems(draw: Any) -> reference.Problem:
    n, m, d, d3, dv = (draw(st.integers(1, most)) for most in (8, 9, 4, 3, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    A1, A2, A3, X, Y, E = (
        rng.standard_normal(shape)
        for shape in ((n, d), (m, d + 1), (m, d3), (d, d + 1), (d3, dv), (n, dv))
    )
    size = draw(st.sampled_from((0.0, 0.5, 3.0)))
    return reference.Problem(A1, A2, A3, size * X, Y, E)


def scale_of(of: reference.Problem) -> float:
    """At least the sum behind any entry of dL/dX, with absolute values."""
    size = largest(of.A1) * largest(of.A2) * largest(of.h) * (largest(of.h) + largest(of.E))
    return float(of.scale) * len(of.A1) * of.h.shape[1] * float(size) * (1.0 + largest(of.S))


def by_reference(query: Array, key: Array, value: Array) -> Array:
    return reference.attention(query, key, value, scale=1.0)


def by_library(query: Array, key: Array, value: Array) -> Array:
    return np.asarray(ag.attention(query, key, value, scale=1.0))


@FEW
@given(problems(), st.sampled_from((by_reference, by_library)))
def test_attention_gives_the_gradient(of: reference.Problem, attention: Any) -> None:
    """(12.25): one call with value columns [h, k, h ⊗ k], of the literal formulas and of ours."""
    got = gradient_from_attention(attention, of)
    assert_ratio(got, of.dX, scale_of(of), SLACK[np.dtype(np.float64)], "dL/dX")


@FEW
@given(problems())
def test_it_takes_one_call_of_so_many_columns(of: reference.Problem) -> None:
    """d + (d + 1) dv columns of values, and queries and keys as they are."""
    widths = []

    def counting(query: Array, key: Array, value: Array) -> Array:
        widths.append(value.shape[1])
        return by_reference(query, key, value)

    gradient_from_attention(counting, of)
    d, dv = of.A2.shape[1], of.Y.shape[1]
    assert widths == [d + (d + 1) * dv]


@FEW
@given(problems(), st.floats(-12.0, -2.0))
def test_errors_of_attention_are_errors_of_the_gradient(
    of: reference.Problem, decade: float
) -> None:
    """Each column off by at most η of its largest value: dL/dX by at most 6 η of the sums."""
    share = 10.0**decade
    rng = np.random.default_rng(of.A1.shape[0])

    def wrong(query: Array, key: Array, value: Array) -> Array:
        signs = rng.choice([-1.0, 1.0], (len(query), value.shape[1]))
        return by_reference(query, key, value) + share * signs * np.max(np.abs(value), axis=0)

    got = gradient_from_attention(wrong, of)
    h = np.max(np.linalg.norm(np.maximum(np.abs(of.h), np.abs(of.h).max(axis=0)), axis=1))
    keys = np.max(np.abs(of.A2 - of.A2.mean(axis=0)))
    rows = h * (h + np.max(np.linalg.norm(of.E, axis=1)))
    bound = of.scale * len(of.A1) * largest(of.A1) * keys * rows
    slack = SLACK[np.dtype(np.float64)] * scale_of(of)
    assert_ratio(got, of.dX, 6.0 * share * bound + slack, 1.0, "dL/dX")


@pytest.mark.peers
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_attention_of_torch_gives_the_gradient(dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    n, m, d, dv = 200, 150, 8, 5
    A1, A2, A3, E = (rng.standard_normal(s) for s in ((n, d), (m, d), (m, dv), (n, dv)))
    of = reference.Problem(A1, A2, A3, np.eye(d) / math.sqrt(d), np.eye(dv), E)

    def by_torch(query: Array, key: Array, value: Array) -> Array:
        tensors = (torch.from_numpy(x.astype(dtype)) for x in (query, key, value))
        got = torch.nn.functional.scaled_dot_product_attention(*tensors, scale=1.0)
        return np.asarray(got.numpy(), np.float64)

    got = gradient_from_attention(by_torch, of)
    assert_ratio(got, of.dX, scale_of(of), SLACK[np.dtype(dtype)], "dL/dX")
