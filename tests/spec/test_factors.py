"""The paper's factors against their definitions: eq. (10.8) - (10.13) of docs/math.md."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs.factors import row_kronecker
from attngrad_rs.polynomials import KINDS
from helpers import (
    Array,
    absolute_sums,
    assert_ratio,
    assert_same_bits,
    frobenius,
    largest,
    problem,
)
from strategies import Case, Shape, build, tame

pytestmark = pytest.mark.spec

EPS = float(np.finfo(np.float64).eps)
# A few dozen roundings of sums of N products, after a change of coordinates.
ROUNDINGS = 1000.0
# What the mean of the keys may be off by, in their size: it is cut to single precision.
MEAN = 2.0**-20
DEGREES = st.integers(0, 4)
# Where every kind of polynomial leaves all rows a positive normaliser.
MILD = (0.0, 1e-3, 0.5, 1.0)
# Two degrees are worth a factor of 100 at the logits tested; far less would be a defect.
WORTH = 5.0


def mild_cases(**options: Any) -> st.SearchStrategy[Case]:
    return tame(logits=MILD, longest=7, widest=3, **options)


def factors_of(case: Case, degree: int, kind: str = "least_squares") -> ag.Factors:
    return ag.factors(*case.args, degree=degree, kind=kind, scale=case.scale)


def dense(case: Case, factors: ag.Factors) -> reference.Problem:
    """The paper's definitions with P in the place of exp, for A1 W_Q and A2 W_K less their mean."""
    left, right = case.pair or (case.X, np.eye(case.A2.shape[1], dtype=case.A2.dtype))
    keys = case.A2 @ right
    assert_ratio(factors.mean, keys.mean(axis=0), largest(keys), MEAN, "mean of the keys")
    inner = replace(
        case, A1=case.A1 @ left, A2=keys - factors.mean.astype(case.A2.dtype),
        X=np.eye(keys.shape[1]), pair=None, scale=factors.scale,
    )  # fmt: skip
    return problem(inner, stable=False, exp=factors.polynomial)


def gradient(case: Case, want: reference.Problem, name: str) -> Array:
    """A gradient of the case from that of its inner problem.

    Rows of p sum to 0, so that no gradient sees the mean of the keys.
    """
    by_query, by_key = (want.gradient(inner) for inner in ("A1", "A2"))
    left, right = case.pair or (case.X, np.eye(case.A2.shape[1]))
    centred = case.A2 - case.A2.mean(axis=0)
    return {
        "X": lambda: case.A1.T @ by_query,
        "W_Q": lambda: case.A1.T @ by_query,
        "W_K": lambda: centred.T @ by_key,
        "A1": lambda: by_query @ left.T,
        "A2": lambda: by_key @ right.T,
        "Y": lambda: want.gradient("Y"),
        "A3": lambda: want.gradient("A3"),
    }[name]()


def growth(case: Case, factors: ag.Factors) -> float:
    """What cancellation between the powers in P, and the normaliser, can make of a rounding."""
    quantities = dense(case, factors)
    bound = 1.0 + largest(quantities.S) * 4
    powers = np.abs(factors.polynomial.power) @ bound ** np.arange(len(factors.polynomial.power))
    return float(powers * max(1.0, len(case.A2) * powers / np.min(quantities.alpha)))


@given(mild_cases(pair=None), DEGREES, st.sampled_from(KINDS))
def test_each_pair_is_what_the_paper_says(case: Case, degree: int, kind: str) -> None:
    got, want = factors_of(case, degree, kind), dense(case, factors_of(case, degree, kind))
    bar = ROUNDINGS * EPS * growth(case, got)
    c, h, f = largest(want.c) + largest(want.o), largest(want.h), largest(want.f)
    assert_ratio(got.U1 @ got.V1.T, want.f, f, bar, "U1 V1ᵀ = f")
    assert_ratio(got.U2 @ got.V2.T, want.q, c * h * want.E.shape[1], bar, "U2 V2ᵀ = q")
    assert_ratio(got.U3 @ got.V3.T, want.p1, f * c * h * want.E.shape[1], bar, "U3 V3ᵀ = p1")
    assert_ratio(got.U4 @ got.V4.T, want.p2, f * c * h * want.E.shape[1], bar, "U4 V4ᵀ = p2")
    assert_ratio((got.U1 @ got.V1.T).sum(axis=1), np.ones(len(got.U1)), 1.0, bar, "rows of f")
    assert_ratio(got.loss, want.loss, want.loss + c**2, bar, "L")


@given(mild_cases(pair=None), DEGREES)
def test_ranks_are_those_of_the_paper(case: Case, degree: int) -> None:
    got = factors_of(case, degree)
    width = case.A2.shape[1] if case.pair is None else case.pair[0].shape[1]
    k1, dv = math.comb(width + degree, degree), case.Y.shape[1]
    assert got.ranks == {"f": k1, "q": dv, "p1": k1 * dv, "p2": k1}
    for rank, pair in zip(
        got.ranks.values(),
        ((got.U1, got.V1), (got.U2, got.V2), (got.U3, got.V3), (got.U4, got.V4)),
        strict=True,
    ):
        assert pair[0].shape == (len(case.A1), rank)
        assert pair[1].shape == (len(case.A2), rank)


def test_ranks_are_attained() -> None:
    """With more rows than columns, the matrices have the rank that their factors allow."""
    case = build(Shape(80, 90), logit=1.0)
    got = factors_of(case, 3)
    k1, dv = 10, 2
    for left, right, rank in (
        (got.U1, got.V1, k1),
        (got.U2, got.V2, dv),
        (got.U3, got.V3, k1 * dv),
        (got.U4, got.V4, k1),
    ):
        # Cut far below the smallest singular value of a degree-3 part and far above rounding.
        assert np.linalg.matrix_rank(left @ right.T, rtol=1e-12) == rank


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4))
def test_row_wise_kronecker_products_multiply_entry_by_entry(seed: int, a: int, b: int) -> None:
    rng = np.random.default_rng(seed)
    U, V = rng.integers(-9, 9, (2, 5, a)).astype(float)
    W, Z = rng.integers(-9, 9, (2, 5, b)).astype(float)
    assert (row_kronecker(U, W) @ row_kronecker(V, Z).T == (U @ V.T) * (W @ Z.T)).all()
    for u, w, row in zip(U, W, row_kronecker(U, W), strict=True):
        assert (row == np.kron(u, w)).all()


@given(mild_cases(pair=None), DEGREES, st.sampled_from(KINDS))
def test_gradients_are_the_dense_formula_with_the_polynomial(
    case: Case, degree: int, kind: str
) -> None:
    got = factors_of(case, degree, kind)
    want = dense(case, got)
    sums = absolute_sums(problem(case), np.float64)
    bar = ROUNDINGS * EPS * growth(case, got)
    for name in case.wrt:
        size = largest(sums[name])
        assert_ratio(got.gradient(name), gradient(case, want, name), size, bar, name)


def relative_error(got: Array, want: Array) -> float:
    return float(frobenius(got - want) / frobenius(want))


@pytest.mark.parametrize("pair", [False, True])
def test_gradients_approach_the_truth_with_the_degree(pair: bool) -> None:
    case = build(Shape(60, 50, 3, 3, 3, 3, 3), logit=1.0, pair=pair)
    exact = problem(case)
    for name in case.wrt:
        errors = [
            relative_error(factors_of(case, degree).gradient(name), exact.gradient(name))
            for degree in range(1, 8)
        ]
        for lower, higher in zip(errors, errors[2:], strict=False):
            assert higher * WORTH < lower
        assert errors[-1] < 1e-6


def test_the_accuracy_of_the_p_form_at_degree_2() -> None:
    """d = 16, entries uniform in [-1, 1], E normal, s = 1/d: least squares does 3.5e-4."""
    rng = np.random.default_rng(0)
    A1, A2, A3 = rng.uniform(-1, 1, (3, 800, 16))
    eye, E = np.eye(16), rng.standard_normal((800, 16))
    exact = reference.loss_gradient(A1, A2, A3, eye, eye, E)
    errors = {
        (kind, degree): relative_error(
            ag.factors(A1, A2, A3, eye, eye, E, degree=degree, kind=kind).gradient(), exact
        )
        for kind, degree in (("least_squares", 1), ("least_squares", 2), ("taylor", 2))
    }
    assert errors["least_squares", 1] <= 7e-3
    assert errors["least_squares", 2] <= 3.5e-4
    assert errors["least_squares", 2] < errors["taylor", 2]


@given(mild_cases(dtype=np.float32), st.integers(1, 3))
def test_single_precision_stays_single(case: Case, degree: int) -> None:
    got = factors_of(case, degree)
    wide = factors_of(case.widened(np.float64), degree)
    for name in case.wrt:
        gradient = got.gradient(name)
        assert gradient.dtype == np.float32
        sums = absolute_sums(problem(case, np.float64), np.float64)
        bar = ROUNDINGS * float(np.finfo(np.float32).eps) * growth(case.widened(np.float64), wide)
        assert_ratio(gradient, wide.gradient(name), largest(sums[name]), bar, name)


def test_self_attention_has_one_more_name() -> None:
    A = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    got = ag.factors(A, A, A, np.eye(3), np.eye(3), 0 * A, degree=2)
    total = got.gradient("A1") + got.gradient("A2") + got.gradient("A3")
    assert (got.gradient("A") == total).all()


@pytest.mark.parametrize(
    ("n", "m"), [(1, 1), (1, 5), (5, 1), (0, 3), (3, 0), (0, 0)], ids=lambda size: str(size)
)
@pytest.mark.parametrize("kind", KINDS)
def test_edges(n: int, m: int, kind: str) -> None:
    case = build(Shape(n, m), logit=0.5)
    got = factors_of(case, 2, kind)
    exact = problem(case)
    # Degree 2 at logits of 0.5 (1, once keys are centred) is right to 0.2 of what there is.
    for name in case.wrt:
        sums = absolute_sums(exact, np.float64)
        assert_ratio(got.gradient(name), exact.gradient(name), largest(sums[name]), 0.2, name)


@given(st.integers(0, 2**32 - 1))
def test_equal_keys_give_the_exact_gradient(seed: int) -> None:
    """Centred, they are zero: every degree is exact."""
    case = build(Shape(6, 5), seed=seed, structure="equal keys", logit=50.0)
    got, exact = factors_of(case, 1), problem(case)
    for name in ("Y", "A3"):
        assert_ratio(
            got.gradient(name), exact.gradient(name), largest(exact.gradient(name)), 1e-9, name
        )


GOOD = build(Shape(5, 6, 3, 3, 3, 3))
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "tolerance": ({"rtol": 1e-14, "degree": 1}, ag.ToleranceError, "rtol: found 1e-14"),
    "negative degree": ({"degree": -1}, ag.OptionError, "degree: found -1"),
    "degree a float": ({"degree": 1.5}, ag.OptionTypeError, "degree: found 1.5"),
    "causal": ({"degree": 2, "is_causal": True}, ag.OptionError, "is_causal: found True"),
    "causal a number": ({"degree": 2, "is_causal": 0}, ag.OptionTypeError, "is_causal: found 0"),
    "kind": ({"degree": 2, "kind": "remez"}, ag.OptionError, "kind: found 'remez'"),
    "scale": ({"degree": 2, "scale": float("nan")}, ag.OptionError, "scale: found nan"),
    "rng": ({"degree": 2, "rng": -1}, ag.OptionError, "rng: found -1"),
    "misspelt": ({"degree": 2, "grade": 2}, TypeError, "unexpected keyword argument 'grade'"),
    "shape": ({"degree": 2, "E": np.eye(4)}, ag.ShapeError, "E: found shape (4, 4)"),
    "dtype": ({"degree": 2, "E": np.ones((5, 3), int)}, ag.DTypeError, "E: found dtype int64"),
    "NaN": ({"degree": 2, "A3": np.full((6, 3), np.nan)}, ag.NonFiniteError, "A3: found nan"),
    "overflow": ({"degree": 2, "X": np.eye(3) * 1e308}, ag.RangeError, "A1 or A2 times"),
    "negative weights": (
        {"degree": 3, "kind": "taylor", "X": np.eye(3) * -60.0}, ag.OptionError,
        "degree: found a polynomial for which the attention weights of query",
    ),
}  # fmt: skip


@pytest.mark.parametrize("title", WRONG)
def test_wrong_calls(title: str) -> None:
    changes, error, words = WRONG[title]
    arrays = dict(zip(("A1", "A2", "A3", "X", "Y", "E"), GOOD.args, strict=True))
    with pytest.raises(error) as caught:
        ag.factors(**{**arrays, **changes})
    assert type(caught.value) is error
    assert words in str(caught.value)


def test_factors_that_do_not_fit_are_refused_with_the_number() -> None:
    A = np.lib.stride_tricks.as_strided(np.zeros(1), (2**30, 8), (0, 0))
    with pytest.raises(ag.OutOfMemoryError, match=r"factors: found shapes that need \d+ bytes"):
        ag.factors(A, A, A, np.eye(8), np.eye(8), A, degree=4)


def test_wrong_names_of_gradients() -> None:
    got = factors_of(GOOD, 2)
    for name, error in (
        ("W_Q", ag.OptionError),
        ("A", ag.OptionError),
        (("X",), ag.OptionTypeError),
    ):
        with pytest.raises(error, match="wrt: found"):
            got.gradient(name)  # type: ignore[arg-type]
    assert repr(got) == "Factors(n=5, m=6, ranks={f: 10, q: 3, p1: 30, p2: 10}, float64)"


def test_factors_are_had_from_a_tolerance() -> None:
    A = np.random.default_rng(0).uniform(-1, 1, (90, 3))
    eye = np.eye(3)
    rough, fine = (ag.factors(A, A, A, eye, eye, A, rtol=rtol) for rtol in (1e-1, 1e-4))
    assert rough.error <= 1e-1
    assert fine.error <= 1e-4
    assert rough.polynomial.degree < fine.polynomial.degree
    few = ag.factors(A, A, A, eye, eye, A, degree=4, anisotropic=True, max_features=20)
    assert few.ranks["f"] <= 20
    assert ag.factors(A, A, A, eye, eye, A).polynomial.degree == 2


def test_factors_travel() -> None:
    got = factors_of(GOOD, 2)
    for other in (pickle.loads(pickle.dumps(got)), copy.deepcopy(got)):
        assert_same_bits(other.gradient(), got.gradient(), "dX")
        assert_same_bits(other.U3, got.U3, "U3")
