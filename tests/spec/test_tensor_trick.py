"""The tensor trick vec(A1 X A2^T) = (A1 (x) A2) vec(X), and single rows: eq. (4.1) - (4.6)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import attngrad_rs
from attngrad_rs import reference
from helpers import ALGEBRA, assert_promise, assert_ratio, largest, problem, truth
from strategies import Case, tame

pytestmark = pytest.mark.spec
SLACK = 256 * np.finfo(np.float64).eps


@ALGEBRA
@given(tame())
def test_kron_is_every_product_of_entries(case: Case) -> None:
    B, D = case.A1, case.A2
    K = reference.kron(B, D)
    assert K.shape == (len(B) * len(D), B.shape[1] * D.shape[1])
    assert np.array_equal(K, np.kron(B, D))
    for j in range(len(B)):
        for i in range(len(D)):
            assert np.array_equal(K[j * len(D) + i], np.outer(B[j], D[i]).ravel())


@ALGEBRA
@given(tame())
def test_vec_and_unvec_are_inverse_and_row_major(case: Case) -> None:
    v = reference.vec(case.E)
    n, dv = case.E.shape
    assert all(v[j * dv + i] == case.E[j, i] for j in range(n) for i in range(dv))
    assert np.array_equal(reference.unvec(v, case.E.shape), case.E)


@ALGEBRA
@given(tame())
def test_the_tensor_trick(case: Case) -> None:
    got = reference.tensor_trick(case.A1, case.A2) @ reference.vec(case.X)
    want = reference.vec(case.A1 @ case.X @ case.A2.T)
    size = reference.vec(abs(case.A1) @ abs(case.X) @ abs(case.A2).T) + 1e-300
    assert_ratio(got, want, size, SLACK, "the tensor trick")


@ALGEBRA
@given(tame(causal=None, longest=5, widest=3))
def test_the_gradient_is_the_transposed_kronecker_product_on_p(case: Case) -> None:
    quantities = problem(case)
    got = reference.unvec(quantities.gradient_vec(), case.X.shape)
    assert_promise(got, truth(case), "X", np.float64, case.label)


@ALGEBRA
@given(tame(causal=None, longest=5, widest=3))
def test_single_rows_are_rows_of_the_matrices(case: Case) -> None:
    quantities = problem(case)
    width = case.Y.shape[1]
    size = (1.0 + largest(quantities.h) * largest(quantities.c)) * width
    for j in range(len(case.A1)):
        row, seen = quantities.row(j), quantities.seen[j]
        for name, bar in (("u", 1.0), ("f", 1.0), ("q", size), ("p", size)):
            want = getattr(quantities, name)[j][seen]
            assert_ratio(getattr(row, name), want, bar, SLACK, f"{name}_{j}")
        assert_ratio(row.alpha, quantities.alpha[j], quantities.alpha[j], SLACK, "alpha")
        assert_ratio(row.c, quantities.c[j], 1.0 + largest(quantities.h), SLACK, "c")


@ALGEBRA
@given(tame(causal=None, longest=5, widest=3))
def test_row_gradients_add_up(case: Case) -> None:
    got = problem(case).gradient_by_rows()
    assert_promise(got, truth(case), "X", np.float64, case.label)


@ALGEBRA
@given(tame(causal=None, longest=4, widest=2))
def test_the_first_form_of_the_derivative(case: Case) -> None:
    """Eq. (4.4), entry by entry, before q and p are introduced."""
    quantities = problem(case)
    entries = [
        sum(quantities.row(j).derivative(t) for j in range(len(case.A1)))
        for t in range(case.X.size)
    ]
    got = reference.unvec(np.array(entries), case.X.shape)
    assert_promise(got, truth(case), "X", np.float64, case.label)


@given(tame(causal=None, longest=5, widest=3))
def test_the_library_gives_the_vector_of_the_paper(case: Case) -> None:
    got = attngrad_rs.loss_gradient(*case.args, **case.options).gradient
    wide = truth(case)
    assert_promise(got, wide, "X", np.float64, case.label)
    size = 1e-13 * (1.0 + largest(wide.dX)) * case.X.size
    size = size * (1.0 + largest(case.A1)) * (1.0 + largest(case.A2)) * (1.0 + largest(wide.p))
    assert_ratio(reference.vec(got), wide.gradient_vec(), size * len(case.A1), 1.0, "vec")
