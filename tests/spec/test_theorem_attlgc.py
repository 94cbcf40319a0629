"""AAttLGC(n, d, ε), Definition 1.4 of the paper, by its name: eq. (12.1) of docs/math.md."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from helpers import Array, assert_ratio, largest

pytestmark = pytest.mark.spec

FEW = settings(max_examples=settings().max_examples // 4)
# Roundings of a product that B leaves room for, and more.
ROUNDING = {np.dtype(np.float64): 1e-14, np.dtype(np.float32): 1e-5}

Arrays = tuple[Array, Array, Array, Any, Array, Array]


@st.composite
def instances(draw: Any) -> Arrays:
    n, d, dv = draw(st.integers(1, 30)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from((np.float64, np.float32)))
    size = draw(st.sampled_from((0.1, 1.0, 5.0)))
    A1, A2, A3, X, Y, E = (
        rng.uniform(-1.0, 1.0, shape).astype(dtype)
        for shape in ((n, d), (n, d), (n, d), (d, d), (d, dv), (n, dv))
    )
    pair = (X, np.eye(d, dtype=dtype)) if draw(st.booleans()) else X
    return A1, dtype(size) * A2, A3, pair, Y, E


def entries(arrays: Arrays) -> float:
    """B: the largest entry of A1 X and of A2, in double precision."""
    A1, A2, _, X, *_ = arrays
    weight = X[0].astype(float) @ X[1].T.astype(float) if isinstance(X, tuple) else X.astype(float)
    return float(max(largest(A1.astype(float) @ weight), largest(A2)))


@FEW
@given(instances(), st.floats(-5.0, 0.0))
def test_every_entry_is_within_the_error(arrays: Arrays, decade: float) -> None:
    """Of the output named, whatever the method that auto takes; its certificate says so."""
    error = 10.0**decade
    wrt = "W_Q" if isinstance(arrays[3], tuple) else "X"
    got = ag.loss_gradient(*arrays, wrt=wrt, atol=error, norm="max")
    X: Any = arrays[3]
    wide = [array.astype(np.longdouble) for array in (*arrays[:3], *arrays[4:])]
    weight = (
        tuple(W.astype(np.longdouble) for W in X)
        if isinstance(X, tuple)
        else X.astype(wide[0].dtype)
    )
    of = reference.Problem(*wide[:3], weight, *wide[3:])
    assert got.certificate.norm == "max"
    if got.certificate.success:
        assert_ratio(got.gradient, of.gradient(wrt), error, 1.0, "dL/dX")
    else:
        assert got.certificate.absolute > error, "only rounding may miss it"
    room = ROUNDING[arrays[0].dtype]
    assert got.B is not None
    assert_ratio(got.B, entries(arrays), entries(arrays), room, "B")


@FEW
@given(instances(), st.floats(1e-3, 1.0))
def test_larger_entries_are_refused(arrays: Arrays, share: float) -> None:
    """B is checked where it is given, with any tolerance and for a plan too; at B it is met."""
    bound = entries(arrays)
    wrt = "W_Q" if isinstance(arrays[3], tuple) else "X"
    for options in ({}, {"atol": 1e-3, "norm": "max"}, {"rtol": 1e-3}):
        assert ag.loss_gradient(*arrays, wrt=wrt, B=bound, **options).B is not None
        below = bound * share * (1.0 - 1e-3)
        for function in (ag.loss_gradient, ag.plan_loss_gradient):
            with pytest.raises(ag.OptionError, match=r"^B: found .* the largest entry of A"):
                function(*arrays, wrt=wrt, B=below, **options)


def test_what_is_no_bound_is_refused() -> None:
    one = np.eye(2)
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ag.OptionError, match="B: found"):
            ag.loss_gradient(one, one, one, one, one, one, B=wrong)
    with pytest.raises(ag.OptionTypeError, match="B: found"):
        ag.loss_gradient(one, one, one, one, one, one, B="1")  # type: ignore[call-overload]


def test_it_is_measured_where_the_paper_has_it_alone() -> None:
    """Any other call does without the product A1 X."""
    one = np.eye(2)
    args = (one, 3.0 * one, one, one, one, one)
    assert ag.loss_gradient(*args).B is None
    assert ag.loss_gradient(*args, rtol=1e-3).B is None
    assert ag.loss_gradient(*args, atol=1e-3).B is None
    assert ag.loss_gradient(*args, atol=1e-3, norm="max").B == 3.0
