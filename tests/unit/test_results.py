"""Certificates, plans and results: what they say, and that what is unknown is never certified."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs import _core, rates
from attngrad_rs import certificate as certificates
from attngrad_rs.arguments import Tolerance
from attngrad_rs.arrays import Sizes
from attngrad_rs.methods import METHODS, Decision, Error, exact
from attngrad_rs.methods.base import ORDER

N, M, D = 9, 8, 4
NAN, INF = math.nan, math.inf


def problem(dtype: Any = np.float64, **changes: object) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"A1": (N, D), "A2": (M, D), "A3": (M, D), "X": (D, D), "Y": (D, D), "E": (N, D)}
    made = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    return {**made, **changes}


def tolerance(rtol: float | None, atol: float = 0.0) -> Tolerance:
    return Tolerance(rtol=rtol, atol=atol, norm="fro", certificate="any")


def certificate(**changes: Any) -> ag.Certificate:
    given = {"method": "exact", "kind": "exact", "absolute": 1.0, "relative": 0.5, **changes}
    return ag.Certificate(**given)


# -- certificates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, -NAN, INF])
def test_what_is_unknown_is_not_certified(value: float) -> None:
    one = certificate(absolute=value, relative=value, success=True)
    assert one.absolute == INF
    assert one.relative == INF
    assert one.success is False
    made = certificates.certify("exact", Error.rounding(value), 1.0, "fro", tolerance(1e-3))
    assert made.absolute == made.relative == INF
    assert made.success is False
    assert made.terms["rounding"] == INF


@pytest.mark.parametrize("size", [NAN, INF])
def test_a_norm_that_is_unknown_is_not_certified(size: float) -> None:
    made = certificates.certify("exact", Error.rounding(1e-9), size, "fro", tolerance(1e-3))
    assert made.success is (size == INF)
    assert made.relative == (0.0 if size == INF else INF)


def test_relative_is_against_the_truth() -> None:
    # The truth may be as small as 3 - 1.
    assert certificates.relative_error(1.0, 3.0) == 0.5
    assert certificates.relative_error(1.0, 1.0) == INF
    assert certificates.relative_error(2.0, 1.0) == INF
    assert certificates.relative_error(0.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("absolute", "size", "rtol", "atol", "reached"),
    [
        (1e-9, 1.0, None, 0.0, True),
        (1e-9, 1.0, 0.0, 0.0, True),
        (1e-9, 1.0, 2e-9, 0.0, True),
        (1e-9, 1.0, 5e-10, 0.0, False),
        (1e-9, 1.0, 5e-10, 1e-9, True),
        # Not to be told from zero: a zero gradient counts as reached.
        (1e-9, 1e-10, 1e-12, 0.0, True),
        (0.0, 0.0, 1e-12, 0.0, True),
    ],
)
def test_success(
    absolute: float, size: float, rtol: float | None, atol: float, reached: bool
) -> None:
    made = certificates.certify(
        "exact", Error.rounding(absolute), size, "fro", tolerance(rtol, atol)
    )
    assert made.success is reached
    assert made.kind == made.method == "exact"
    assert made.rtol_requested == rtol
    assert made.message


@pytest.mark.parametrize("atol", [0.0, 3e-10])
def test_the_best_tolerance_is_one_that_succeeds(atol: float) -> None:
    asked = tolerance(1e-12, atol)
    sizes = {"X": 1.0, "Y": 0.01}

    def made(wanted: Tolerance) -> dict[str, ag.Certificate]:
        return {
            name: certificates.certify("exact", Error.rounding(1e-9), size, "fro", wanted)
            for name, size in sizes.items()
        }

    with pytest.raises(ag.ToleranceError) as caught:
        certificates.require_reached(made(asked), asked, "float32")
    message, best = str(caught.value), caught.value.best_rtol
    assert "by Y" in message
    assert "use float64" in message
    better = tolerance(best * 1.01, atol)
    certificates.require_reached(made(better), better, "float32")
    worse = tolerance(best * 0.99, atol)
    with pytest.raises(ag.ToleranceError):
        certificates.require_reached(made(worse), worse, "float32")


@pytest.mark.parametrize("value", [1e-300, 9.96e-7, 3.3e-7, 0.123, 1.0, 5.05, 1e300])
def test_rounded_up_numbers_are_not_below(value: float) -> None:
    rounded = float(certificates.round_up(value))
    assert value * (1 - 1e-12) <= rounded <= value * 1.11


def test_the_worst_certificate() -> None:
    good = certificate(relative=1e-9)
    bad = certificate(relative=1e-3)
    missed = certificate(relative=1e-6, success=False)
    assert certificates.worst({"X": good, "Y": bad}) is bad
    assert certificates.worst({"X": good, "Y": bad, "A1": missed}) is missed


def test_certificates_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate().absolute = 0.0  # type: ignore[misc]


# -- results --------------------------------------------------------------------------------------


def test_one_gradient() -> None:
    result = ag.loss_gradient(**problem())
    assert list(result.gradients) == ["X"]
    assert result.gradient is result.gradients["X"]
    assert result.certificate is result.certificates["X"]
    assert result.certificate.success is True
    assert 0.0 < result.certificate.relative < 1e-9
    assert result.loss == ag.loss(**problem())
    assert result.loss_certificate.norm == "abs"
    assert result.seconds > 0.0
    assert "X: (4, 4) float64" in repr(result)


def test_several_gradients() -> None:
    names = ("Y", "X", "A3", "A1", "A2")
    result = ag.loss_gradient(**problem(), wrt=names)
    assert tuple(result.gradients) == tuple(result.certificates) == names
    with pytest.raises(ag.OptionError, match=r"found 5 of them .'Y', 'X', 'A3', 'A1', 'A2'."):
        _ = result.gradient
    assert result.certificate.relative == max(one.relative for one in result.certificates.values())


def test_gradients_are_shaped_like_what_they_are_by() -> None:
    given = problem(np.float32)
    result = ag.loss_gradient(**given, wrt=("X", "Y", "A1", "A2", "A3"))
    for name, gradient in result.gradients.items():
        assert gradient.shape == given[name].shape
        assert gradient.dtype == np.float32
    pair = (given["X"], given["X"])
    for name, gradient in ag.loss_gradient(
        **{**given, "X": pair}, wrt=("W_Q", "W_K")
    ).gradients.items():
        assert gradient.shape == given["X"].shape, name


def test_the_sum_for_self_attention() -> None:
    given = problem()
    A = given["A2"]
    same = {**given, "A1": A, "A2": A, "A3": A, "E": given["E"][:M]}
    result = ag.loss_gradient(**same, wrt=("A", "A1", "A2", "A3"))
    parts = result.gradients["A1"] + result.gradients["A2"] + result.gradients["A3"]
    allowed = sum(one.absolute for one in result.certificates.values())
    assert float(np.linalg.norm(result.gradients["A"] - parts)) <= allowed


def test_a_tolerance_out_of_reach() -> None:
    given = problem(np.float32)
    with pytest.raises(ag.ToleranceError) as caught:
        ag.loss_gradient(**given, rtol=1e-12)
    best = caught.value.best_rtol
    assert 0.0 < best < 1e-2
    assert ag.loss_gradient(**given, rtol=best * 1.01).certificate.success is True
    # An absolute tolerance covers it too.
    assert ag.loss_gradient(**given, rtol=1e-12, atol=1.0).certificate.success is True
    assert ag.loss_gradient(**given, rtol=0).certificate.success is True


@pytest.mark.parametrize("norm", ["fro", "max"])
def test_the_norm_is_the_one_asked_for(norm: str) -> None:
    result = ag.loss_gradient(**problem(), norm=norm)
    assert result.certificate.norm == norm


def test_a_zero_gradient_counts_as_reached() -> None:
    # One key: f = 1, so p = 0.
    given = problem()
    one = {**given, "A2": given["A2"][:1], "A3": given["A3"][:1]}
    assert ag.loss_gradient(**one, rtol=1e-10).certificate.success is True


# -- plans ----------------------------------------------------------------------------------------


def test_a_plan_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise AssertionError("computed")

    # The machine's rate is measured by the first plans, with a problem of their own.
    for _ in range(rates.LOOKS):
        ag.plan_loss_gradient(**problem(), wrt=("X", "Y"), rtol=1e-3)
    for name in ("loss_gradient", "planned_gradient"):
        monkeypatch.setattr(f"attngrad_rs._core.{name}", refuse)
    plan = ag.plan_loss_gradient(**problem(), wrt=("X", "Y"), rtol=1e-3)
    assert plan.method == "exact"
    assert plan.predicted_error == 0.0
    assert plan.predicted_seconds > 0.0
    assert plan.peak_bytes > 0
    assert plan.degree is plan.rank is plan.samples is plan.skip is plan.features is None
    for word in ("exact", plan.reason, "peak memory", "predicted time"):
        assert word in plan.explain()


def test_a_plan_can_be_executed_again() -> None:
    given = problem()
    plan = ag.plan_loss_gradient(**given, wrt=("X", "Y"))
    first = plan.execute()
    direct = ag.loss_gradient(**given, wrt=("X", "Y"))
    for name in ("X", "Y"):
        assert np.array_equal(first.gradients[name], direct.gradients[name])
    other = plan.execute(E=2.0 * given["E"], wrt="X")
    assert list(other.gradients) == ["X"]
    assert other.loss != first.loss
    given["A1"][:] *= 2.0
    assert plan.execute().loss != first.loss


def test_the_plan_of_a_result_holds_no_arrays() -> None:
    given = problem()
    plan = ag.loss_gradient(**given, wrt="Y", is_causal=True).plan
    with pytest.raises(ag.OptionTypeError, match=r"A1.*found nothing"):
        plan.execute()
    again = plan.execute(**given)
    assert list(again.gradients) == ["Y"]
    assert again.loss == ag.loss(**given, is_causal=True)


def test_a_plan_made_by_hand_does_not_run() -> None:
    with pytest.raises(ag.OptionError, match="not attached"):
        ag.Plan("exact").execute()


def test_plans_and_results_travel() -> None:
    result = ag.loss_gradient(**problem(), wrt=("X", "A1"))
    for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert other.loss == result.loss
        assert other.certificates == result.certificates
        assert other.plan == result.plan
        for name, gradient in result.gradients.items():
            assert np.array_equal(other.gradients[name], gradient)


def test_peak_bytes_grow_with_rows_not_with_their_square() -> None:
    def peak(rows: int) -> int:
        A = np.broadcast_to(0.0, (rows, D))
        return ag.plan_loss_gradient(A, A, A, np.eye(D), np.eye(D), A, wrt="A").peak_bytes

    # Above the room of fixed size that small problems use besides.
    small, large = peak(2**18), peak(2**20)
    assert 3.5 * small < large < 4.5 * small


EXACT = Decision("exact")


@pytest.mark.parametrize(
    ("wrt", "per_pair"), [("X", 8), ("Y", 4), ("A1", 8), ("A2", 12), (("X", "Y", "A3"), 12)]
)
def test_the_cost_law(wrt: str | tuple[str, ...], per_pair: int) -> None:
    names = (wrt,) if isinstance(wrt, str) else wrt
    sizes = Sizes(n=100, m=80, d1=8, d2=8, d3=8, dv=8, width=8, pair=False)
    full = METHODS["exact"].forecast(sizes, names, 4, False, 1, EXACT)
    passes = 1 if per_pair == 4 else 2
    pairs = 100 * 80 * (per_pair * 8 + passes * exact.PAIR)
    assert full.operations == exact.CALL + 90 * exact.EXACT_TOKEN + pairs
    causal = METHODS["exact"].forecast(sizes, names, 4, True, 1, EXACT)
    assert full.operations - causal.operations == pairs / 2
    wide = METHODS["exact"].forecast(sizes, names, 8, False, 1, EXACT)
    assert wide.peak_bytes > full.peak_bytes


def test_the_core_has_the_same_cost_law() -> None:
    given = problem(np.float32)
    arrays = [np.ascontiguousarray(given[name]) if name in given else None for name in ORDER]
    asking = ("auto", None, 1e-9, 0.0, "fro", "any", 0)
    method, *_, operations, _ = _core.decide(arrays, ["X"], (1.0, False), asking)
    assert method == "exact"
    plan = ag.plan_loss_gradient(**given)
    assert plan.method == "exact"
    (n, d1), (m, d2), (d3, dv) = (given[name].shape for name in ("A1", "A2", "Y"))
    sizes = Sizes(n, m, d1, d2, d3, dv, d2, pair=False)
    assert METHODS["exact"].forecast(sizes, ("X",), 4, False, 1, EXACT).operations == operations


# -- attention ------------------------------------------------------------------------------------


def heads(*shape: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    return [rng.standard_normal((*shape, rows, 3)) for rows in (N, M, M, N)]


def test_attention_gradients_unpack() -> None:
    q, k, v, dout = heads(2, 3)
    result = ag.attention_vjp(q, k, v, dout)
    dq, dk, dv = result
    assert dq is result.dq
    assert [one.shape for one in (dq, dk, dv)] == [one.shape for one in (q, k, v)]
    assert set(result.certificates) == {"query", "key", "value"}
    assert result.certificate.success is True
    assert result.plan.method == "exact"
    assert "dq: (2, 3, 9, 3) float64" in repr(result)


def test_heads_are_independent() -> None:
    q, k, v, dout = heads(2, 3)
    together = ag.attention_vjp(q, k, v, dout, is_causal=True)
    output = ag.attention(q, k, v, is_causal=True)
    for index in np.ndindex(2, 3):
        alone = ag.attention_vjp(q[index], k[index], v[index], dout[index], is_causal=True)
        for whole, part in zip(together, alone, strict=True):
            assert np.array_equal(whole[index], part)
        assert np.array_equal(
            output[index], ag.attention(q[index], k[index], v[index], is_causal=True)
        )


def test_no_heads() -> None:
    q, k, v, dout = heads(0)
    assert ag.attention(q, k, v).shape == (0, N, 3)
    result = ag.attention_vjp(q, k, v, dout)
    assert [one.shape for one in result] == [(0, N, 3), (0, M, 3), (0, M, 3)]
    assert result.certificate.success is True


def test_progress_over_heads_rises_to_one() -> None:
    seen: list[float] = []
    q, k, v, _ = heads(4)
    ag.attention(q, k, v, progress=seen.append)
    assert seen == sorted(seen)
    assert all(0.0 <= value <= 1.0 for value in seen)


def test_a_deadline_counts_for_all_heads() -> None:
    q, k, v, _ = heads(200)
    with pytest.raises(ag.DeadlineError, match="timeout: "):
        ag.attention(q, k, v, timeout=1e-9)


def test_the_tolerance_of_a_vector_jacobian_product() -> None:
    given = [one.astype(np.float32) for one in heads(2)]
    with pytest.raises(ag.ToleranceError) as caught:
        ag.attention_vjp(*given, rtol=1e-12)
    assert ag.attention_vjp(*given, rtol=caught.value.best_rtol * 1.01).certificate.success is True
