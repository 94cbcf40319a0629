"""The vector-Jacobian product by the polynomial method: its limit, its bound, its linearity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from helpers import Array, assert_close, assert_ratio, assert_same_bits

pytestmark = pytest.mark.spec
INPUTS = ("query", "key", "value")
Heads = tuple[Array, Array, Array, Array]


def heads(
    *lead: int, n: int = 300, m: int = 260, dtype: Any = np.float64, size: float = 0.5
) -> Heads:
    """Query, key, value and dout with logits of about size² and Ev other than E."""
    rng = np.random.default_rng(n + 3 * m)
    q, k = (size * rng.standard_normal((*lead, rows, 4)) for rows in (n, m))
    v, dout = rng.standard_normal((*lead, m, 5)), rng.standard_normal((*lead, n, 5))
    return q.astype(dtype), k.astype(dtype), v.astype(dtype), dout.astype(dtype)


def polynomial(given: Heads, degree: int = 2, **options: Any) -> ag.AttentionGradients:
    return ag.attention_vjp(*given, method="polynomial", degree=degree, **options)


def wide(given: Heads) -> Heads:
    q, k, v, dout = (array.astype(np.float64) for array in given)
    return q, k, v, dout


def errors(got: ag.AttentionGradients, want: ag.AttentionGradients) -> list[float]:
    return [float(np.linalg.norm(a.astype(np.float64) - b)) for a, b in zip(got, want, strict=True)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("degree", [1, 2, 4])
@pytest.mark.parametrize("size", [0.1, 0.3, 0.6])
def test_the_certificate_holds(dtype: Any, degree: int, size: float) -> None:
    given = heads(2, dtype=dtype, size=size)
    got = polynomial(given, degree)
    want = ag.attention_vjp(*wide(given))
    for name, error in zip(INPUTS, errors(got, want), strict=True):
        certificate = got.certificates[name]
        assert error <= certificate.absolute
        assert (certificate.method, certificate.kind) == ("polynomial", "rigorous")
        assert certificate.success is None
        assert set(certificate.terms) == {"truncation", "sampling", "rounding"}
        assert certificate.absolute == pytest.approx(sum(certificate.terms.values()))
        assert all(part.dtype == dtype for part in got)
        if size == 0.1 and degree > 1:
            assert certificate.relative < 1.0
            assert certificate.steps["c"] < 1e-300, "what is given does not move"


@pytest.mark.parametrize("is_causal", [False, True])
def test_degrees_converge(is_causal: bool) -> None:
    given = heads(n=700, m=600)
    want = ag.attention_vjp(*given, is_causal=is_causal)
    worst = [
        max(errors(polynomial(given, degree, is_causal=is_causal), want)) for degree in (1, 4, 12)
    ]
    assert worst[1] < worst[0] / 10.0
    assert worst[2] < 1e-5 * worst[0]


def test_under_a_mask_nothing_is_certified() -> None:
    got = polynomial(heads(), is_causal=True)
    assert got.certificate.kind == "rigorous"
    assert got.certificate.absolute == np.inf
    assert got.certificate.success is None


@pytest.mark.parametrize("is_causal", [False, True])
def test_it_is_linear_in_dout(is_causal: bool) -> None:
    q, k, v, dout = heads(n=400, m=350)
    other = np.random.default_rng(1).standard_normal(dout.shape)
    one, two, both = (
        polynomial((q, k, v, incoming), is_causal=is_causal)
        for incoming in (dout, other, dout - 3.0 * other)
    )
    for a, b, c in zip(one, two, both, strict=True):
        assert_close(c, a - 3.0 * b, 1e-11, "linear")


@pytest.mark.parametrize("factor", [2.0**-80, 2.0**-20, 2.0**50])
def test_powers_of_two_pass_through(factor: float) -> None:
    q, k, v, dout = heads(dtype=np.float32)
    one, two = polynomial((q, k, v, dout)), polynomial((q, k, v, dout * np.float32(factor)))
    for name, a, b in zip(INPUTS, one, two, strict=True):
        assert_same_bits(a * np.float32(factor), b, name)
        assert two.certificates[name].absolute == pytest.approx(
            factor * one.certificates[name].absolute, rel=1e-5
        )


def test_leading_dimensions_are_separate_heads() -> None:
    given = heads(2, 3, n=90, m=70)
    got = polynomial(given)
    squares = dict.fromkeys(INPUTS, 0.0)
    for index in np.ndindex(2, 3):
        q, k, v, dout = (array[index] for array in given)
        one = polynomial((q, k, v, dout))
        for name, all_heads, head in zip(INPUTS, got, one, strict=True):
            assert_same_bits(all_heads[index], head, f"{name} of {index}")
            squares[name] += one.certificates[name].absolute ** 2
    for name in INPUTS:
        absolute = got.certificates[name].absolute
        assert squares[name] ** 0.5 <= absolute * (1.0 + 1e-12)
        # Terms add in squares one by one.
        assert absolute <= 1.5 * squares[name] ** 0.5


def test_kinds_are_never_mixed() -> None:
    """A head that ends with the exact method does not make the others exact."""
    q, k, v, dout = heads(2, n=100, m=90, size=0.1)
    q[1] *= 1e5
    alone = polynomial((q[1], k[1], v[1], dout[1]), degree=3)
    assert (alone.plan.method, alone.certificate.kind) == ("exact", "exact")
    got = polynomial((q, k, v, dout), degree=3)
    assert (got.plan.method, got.certificate.kind) == ("polynomial", "rigorous")
    want = ag.attention_vjp(q, k, v, dout)
    for name, error in zip(INPUTS, errors(got, want), strict=True):
        assert error <= got.certificates[name].absolute < np.inf


def test_a_few_rows_beyond_the_polynomial_are_exact() -> None:
    q, k, v, dout = heads(size=0.1)
    # In the direction in which a cubic is negative.
    cubes = np.sum(((k - k.mean(axis=0)) @ q[17]) ** 3)
    q[17] *= -1e5 * np.sign(cubes)
    got = polynomial((q, k, v, dout), degree=3)
    want = ag.attention_vjp(q, k, v, dout)
    assert got.plan.exact_rows == 1
    for name, error in zip(INPUTS, errors(got, want), strict=True):
        assert error <= min(got.certificates[name].absolute, 1e-4)
    assert_close(got.dq[17], want.dq[17], 1e-5, "the row apart")


@pytest.mark.parametrize("is_causal", [False, True])
def test_the_same_bits_for_any_number_of_threads(is_causal: bool) -> None:
    given = heads(2, n=700, m=600, dtype=np.float32)
    want = polynomial(given, is_causal=is_causal, threads=1)
    for threads in (2, 5):
        got = polynomial(given, is_causal=is_causal, threads=threads)
        for a, b in zip(got, want, strict=True):
            assert_same_bits(a, b, f"{threads} threads")


@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (1, 1), (1, 300)])
def test_small_heads(n: int, m: int) -> None:
    given = heads(2, n=n, m=m)
    got, want = polynomial(given, degree=8), ag.attention_vjp(*given)
    for a, b in zip(got, want, strict=True):
        assert_ratio(a, b, 1.0, 1e-4, "a small head")


def test_no_heads() -> None:
    got = polynomial(heads(0, 2))
    assert got.dq.shape == (0, 2, 300, 4)
    assert got.plan.method == "polynomial"


def test_zero_gives_zero() -> None:
    q, k, v, dout = heads()
    for part in polynomial((q, k, v, 0.0 * dout)):
        assert not part.any()


def test_a_tolerance_is_met_or_refused() -> None:
    given = heads(size=0.05)
    got = polynomial(given, degree=4, rtol=1e-2)
    assert got.certificate.success
    with pytest.raises(ag.ToleranceError):
        polynomial(heads(size=0.6), degree=1, rtol=1e-9)
    assert ag.attention_vjp(*given, rtol=1e-2).plan.method == "exact"


def test_the_plan_describes_it() -> None:
    q, k, v, dout = heads(2, 2)
    plan = ag.plan(q, k, v, method="polynomial", degree=2)
    assert (plan.method, plan.degree, plan.features) == ("polynomial", 2, 15)
    assert plan.predicted_seconds > 0.0
    assert plan.peak_bytes > 2 * sum(array.nbytes for array in (q, k, v))
    assert "15" in plan.explain()
    run = polynomial((q, k, v, dout)).plan
    assert (run.method, run.degree, run.features) == ("polynomial", 2, 15)
    assert run.peak_bytes >= plan.peak_bytes
    q[1, 1, 2, 3] = np.nan
    # Every head is looked at.
    with pytest.raises(ag.NonFiniteError, match="query: found nan"):
        ag.plan(q, k, v, method="polynomial", degree=2)
    q[0, 0, 2, 3] = np.nan
    with pytest.raises(ag.NonFiniteError, match="query"):
        ag.plan(q, k, v, method="polynomial", degree=2)
