"""The gradient by every weight and input, dL/dx = vec(A1^T p A2) first: eq. (2.5) - (2.12)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import attngrad_rs
from attngrad_rs import reference
from helpers import ALGEBRA, assert_promise, assert_ratio, problem, truth
from strategies import Case, cases, tame

pytestmark = pytest.mark.spec
SLACK = 64 * np.finfo(np.float64).eps


def jacobian_gradients(case: Case) -> dict[str, np.ndarray]:
    """Every gradient from the full Jacobians of the output, by the chain rule and nothing else.

    dS and dh for a unit change of each entry of each input, then df by the softmax Jacobian.
    """
    quantities = truth(case)
    f, h, c = quantities.f, quantities.h, quantities.c
    jacobian = np.einsum("ja,ab->jab", f, np.eye(f.shape[1])) - np.einsum("ja,jb->jab", f, f)
    s, X, Y = quantities.scale, quantities.matrix_X, quantities.Y
    A1, A2, A3 = quantities.A1, quantities.A2, quantities.A3

    def by_logits(dS: np.ndarray) -> np.ndarray:
        # dS has the indices of the input first, then j and i.
        df = np.einsum("jab,...jb->...ja", jacobian, s * dS)
        return np.einsum("...ja,ac,jc->...", df, h, c)

    n, m = f.shape
    dS_X = np.einsum("ja,ib->abji", A1, A2)
    dS_A1 = np.einsum("kj,ai->kaji", np.eye(n), X @ A2.T)
    dS_A2 = np.einsum("ki,ja->kaji", np.eye(m), A1 @ X)
    return {
        "X": by_logits(dS_X),
        "A1": by_logits(dS_A1),
        "A2": by_logits(dS_A2),
        "Y": np.einsum("ji,ia,jc->ac", f, A3, c),
        "A3": np.einsum("ji,ac,jc->ia", f, Y, c),
    }


@ALGEBRA
@given(tame(causal=None, longest=5, widest=3))
def test_the_formulas_are_the_chain_rule(case: Case) -> None:
    quantities = problem(case)
    for name, want in jacobian_gradients(case).items():
        assert_promise(quantities.gradient(name), truth(case), name, np.float64, case.label)
        size = 1e-12 * (1.0 + np.max(np.abs(want), initial=0.0))
        assert_ratio(truth(case).gradient(name), want, size, 1.0, name)


@ALGEBRA
@given(tame(causal=None, pair=True))
def test_a_pair_is_the_chain_rule_on_the_product(case: Case) -> None:
    """dW_Q = dX W_K and dW_K = dX^T W_Q."""
    quantities = truth(case)
    single = reference.Problem(
        quantities.A1, quantities.A2, quantities.A3, quantities.matrix_X, quantities.Y,
        quantities.E, **case.options,
    )  # fmt: skip
    size = 1e-15 * (1.0 + np.sum(np.abs(single.dX)) * np.max(np.abs(quantities.W_Q), initial=1.0))
    size = size * (1.0 + np.max(np.abs(quantities.W_K), initial=0.0))
    assert_ratio(quantities.dW_Q, single.dX @ quantities.W_K, size, 1.0, "dW_Q")
    assert_ratio(quantities.dW_K, single.dX.T @ quantities.W_Q, size, 1.0, "dW_K")
    for name in ("Y", "A1", "A2", "A3"):
        scale = 1e-15 * (1.0 + np.max(np.abs(single.gradient(name)), initial=0.0)) * 100.0
        assert_ratio(quantities.gradient(name), single.gradient(name), scale, 1.0, name)


@given(cases(causal=None))
def test_the_library_gives_the_gradient_by_x(case: Case) -> None:
    got = attngrad_rs.loss_gradient(*case.args, **case.options).gradient
    assert_promise(got, truth(case), "X", np.float64, case.label)


@given(cases(causal=None, dtype=np.float32))
def test_the_library_gives_the_gradient_by_x_in_float32(case: Case) -> None:
    got = attngrad_rs.loss_gradient(*case.args, **case.options).gradient
    assert got.dtype == np.float32
    assert_promise(got, truth(case), "X", np.float32, case.label)


@given(cases(causal=None, pair=None))
def test_the_library_gives_every_gradient(case: Case) -> None:
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    want = truth(case)
    for name, got in result.gradients.items():
        assert_promise(got, want, name, np.float64, case.label)


@given(cases(causal=None, pair=None, dtype=np.float32))
def test_the_library_gives_every_gradient_in_float32(case: Case) -> None:
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    want = truth(case)
    for name, got in result.gradients.items():
        assert got.dtype == np.float32
        assert_promise(got, want, name, np.float32, case.label)


@given(cases(causal=None, pair=None))
def test_one_gradient_alone_is_as_good(case: Case) -> None:
    """What is asked for decides which passes run; each route must keep the promise."""
    want = truth(case)
    for name in case.wrt:
        got = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=name).gradient
        assert_promise(got, want, name, np.float64, case.label)


@given(cases(causal=None, smallest=0, longest=3, widest=2, pair=None))
def test_empty_sizes_have_zero_or_empty_gradients(case: Case) -> None:
    result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=case.wrt)
    want = truth(case)
    for name, got in result.gradients.items():
        assert got.shape == want.gradient(name).shape
        assert_promise(got, want, name, np.float64, case.label)
