"""Certificates, plans and results: what they say, and that what is unknown is never certified."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs import _core

N, M, D = 9, 8, 4
NAN, INF = math.nan, math.inf


def problem(dtype: Any = np.float64, **changes: object) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"A1": (N, D), "A2": (M, D), "A3": (M, D), "X": (D, D), "Y": (D, D), "E": (N, D)}
    made = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    return {**made, **changes}


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
        ag.loss_gradient(**given, rtol=3e-7, method="exact")
    best = caught.value.best_rtol
    assert 0.0 < best < 1e-2
    exact = ag.loss_gradient(**given)
    assert np.array_equal(caught.value.result.gradient, exact.gradient)
    assert caught.value.result.certificate.success is False
    again = ag.loss_gradient(**given, rtol=best * (1 + 1e-12), method="exact")
    assert again.certificate.success is True
    # Auto has nothing better, and gives what there is.
    with pytest.warns(ag.PrecisionWarning):
        found = ag.loss_gradient(**given, rtol=3e-7)
    assert found.certificate.success is False
    assert "rtol 3e-7 not reached" in found.certificate.message
    assert np.array_equal(found.gradient, exact.gradient)
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

    monkeypatch.setattr("attngrad_rs._core.solve", refuse)
    plan = ag.plan_loss_gradient(**problem(), wrt=("X", "Y"), rtol=1e-3)
    assert plan.method == "exact"
    assert plan.predicted_error == 0.0
    assert plan.predicted_seconds > 0.0
    assert plan.peak_bytes > 0
    assert plan.degree is plan.samples is plan.features is plan.exact_rows is None
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
    with pytest.raises(TypeError, match=r"missing 6 required .* 'A1'"):
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


def forecast(wrt: tuple[str, ...], dtype: str, *, is_causal: bool) -> _core.Forecast:
    asked = _core.Request(
        method="exact",
        degree=None,
        rtol=None,
        atol=0.0,
        norm="fro",
        certificate="any",
        seed=None,
        bound=None,
    )
    decision = asked.settled()
    assert decision is not None
    rows = {"A1": 100, "A2": 80, "A3": 80, "X": 8, "Y": 8, "E": 100}
    shape = _core.Shape.of_problem({name: (count, 8) for name, count in rows.items()})
    return decision.forecast(shape, dtype, list(wrt), is_causal, _core.Options(threads=1))


def pairs(*wrt: str) -> float:
    """Operations of the pairs: a causal problem has half of them."""
    full, causal = (forecast(wrt, "float32", is_causal=is_causal) for is_causal in (False, True))
    return 2.0 * (full.operations - causal.operations)


def test_the_cost_of_a_pair() -> None:
    """Passes over all pairs: two for dL/dX, one for dL/dY, one product more for the keys."""
    close = partial(pytest.approx, rel=1e-9)
    assert pairs("X") == pairs("A1") == close(2.0 * pairs("Y"))
    assert pairs("A2") == pairs("X", "Y", "A3")
    assert pairs("X") < pairs("A2") < 1.5 * pairs("X")
    memory = [
        forecast(("X",), dtype, is_causal=False).peak_bytes for dtype in ("float32", "float64")
    ]
    assert memory[0] < memory[1]


def test_what_calls_took_makes_later_forecasts() -> None:
    """Of a call that is long enough: the forecast is within a factor of what it takes again."""
    rng = np.random.default_rng(0)
    A = rng.uniform(-1.0, 1.0, (4096, 16)).astype(np.float32)
    eye = np.eye(16, dtype=np.float32)
    given = (A, A, A, eye, eye, A)
    for _ in range(3):
        plan = ag.loss_gradient(*given, threads=1).plan
    assert ag.plan_loss_gradient(*given, threads=1).predicted_seconds == plan.predicted_seconds


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
    options = {"method": "exact"}
    with pytest.raises(ag.ToleranceError) as caught:
        ag.attention_vjp(*given, rtol=3e-7, **options)
    best = caught.value.best_rtol * (1 + 1e-12)
    assert ag.attention_vjp(*given, rtol=best, **options).certificate.success is True
    made = caught.value.result
    with pytest.warns(ag.PrecisionWarning, match=r"^rtol: found 3e-07, ") as warned:
        auto = ag.attention_vjp(*given, rtol=3e-7)
    assert warned[0].filename == __file__
    assert auto.certificate.success is False
    for one, other in zip(made, auto, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("options", [{}, {"method": "polynomial", "degree": 2}])
def test_a_plan_of_attention_is_executed(options: dict[str, Any]) -> None:
    q, k, v, dout = (0.3 * one for one in heads(2, 3))
    plan = ag.plan(q, k, v, is_causal=True, scale=0.5, **options)
    direct = ag.attention_vjp(q, k, v, dout, is_causal=True, scale=0.5, **options)
    assert plan.method == direct.plan.method == options.get("method", "exact")
    for run in (
        plan.execute(dout=dout),
        direct.plan.execute(query=q, key=k, value=v, dout=dout),
        ag.attention_vjp(q, k, v, dout, is_causal=True, scale=0.5, plan=plan),
    ):
        assert run.plan.method == plan.method
        assert run.certificates == direct.certificates
        for one, other in zip(run, direct, strict=True):
            assert np.array_equal(one, other)
    with pytest.raises(TypeError, match="'dout'"):
        plan.execute()


def test_rows_of_heads_are_drawn_by_the_seed() -> None:
    rng = np.random.default_rng(0)
    q, k, v, dout = rng.uniform(-1.0, 1.0, (4, 2, 3000, 2))
    given = {"method": "polynomial", "degree": 4, "certificate": "estimated", "norm": "max"}

    def error(seed: object) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return ag.attention_vjp(q, k, v, dout, rng=seed, **given).certificates["query"].absolute

    assert error(1) == error(1) == error(np.int64(1))
    assert error(1) != error(2)


# -- for notebooks --------------------------------------------------------------------------------


def test_success_is_that_of_the_worst() -> None:
    exact = ag.loss_gradient(**problem(), wrt=("X", "Y"))
    assert exact.success is True
    assert ag.loss_gradient(**problem(), method="polynomial", degree=1).success is None
    assert ag.attention_vjp(*heads(2)).success is True


def test_tables_say_what_words_say() -> None:
    result = ag.loss_gradient(**problem(), wrt=("X", "A1"))
    vjp = ag.attention_vjp(*heads(2))
    for table, words in (
        (result._repr_html_(), ["gradient, X", "gradient, A1", "(9, 4) float64", "method"]),
        (vjp._repr_html_(), ["gradient, query", "(2, 9, 3) float64"]),
        (result.plan._repr_html_(), ["peak memory", result.plan.reason]),
        (result.certificate._repr_html_(), ["kind", result.certificate.message]),
    ):
        assert table.startswith("<table>")
        assert table.count("<tr>") == table.count("</tr>") > 1
        assert all(word in table for word in words), table
    hostile = ag.Plan("exact", reason="<b>&")
    assert "&lt;b&gt;&amp;" in hostile._repr_html_()
