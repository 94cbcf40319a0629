"""A plan that means nothing, and calls that no function knows, are refused in our own words."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs import heads

A = np.random.default_rng(0).standard_normal((40, 3))
EYE = np.eye(3)


def run(plan: Any) -> ag.GradientResult:
    return ag.loss_gradient(A, A, A, EYE, EYE, A, plan=plan)


FIELDS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (ag.OptionError, "plan.method: found 'nystrom'", {"method": "nystrom"}),
    (ag.OptionError, "plan.method: found 'auto'", {"method": "auto"}),
    (ag.OptionTypeError, "plan.method: found None", {"method": None}),
    (ag.OptionError, "plan.degree: found -1", {"degree": -1}),
    (ag.OptionError, "plan.degree: found 31", {"degree": 31}),
    (ag.OptionTypeError, "plan.degree: found '2'", {"degree": "2"}),
    (ag.OptionTypeError, "plan.degree: found 2.0", {"degree": 2.0}),
    (ag.OptionTypeError, "plan.degree: found True", {"degree": True}),
    (ag.OptionError, "plan.degree: found 2 for method 'exact'", {"method": "exact"}),
    (ag.OptionError, "plan.samples: found -5", {"samples": -5}),
    (ag.OptionError, "plan.samples: found an integer of 201 bits", {"samples": 2**200}),
    (ag.OptionTypeError, "plan.samples: found nan", {"samples": float("nan")}),
    (ag.OptionError, "plan.features: found -1", {"features": -1}),
    (ag.OptionTypeError, "plan.exact_rows: found 'all'", {"exact_rows": "all"}),
    (ag.OptionError, "plan.predicted_error: found nan", {"predicted_error": float("nan")}),
    (ag.OptionTypeError, "plan.predicted_seconds: found '1'", {"predicted_seconds": "1"}),
    (ag.OptionError, "plan.peak_bytes: found -1", {"peak_bytes": -1}),
    (ag.OptionTypeError, "plan.reason: found None", {"reason": None}),
]


@pytest.mark.parametrize(("error", "text", "fields"), FIELDS, ids=[text for _, text, _ in FIELDS])
def test_a_field_that_means_nothing(
    error: type[Exception], text: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(error) as caught:
        ag.Plan(**{"method": "polynomial", "degree": 2, **fields})
    assert str(caught.value).startswith(text)
    # Nor when it comes from a file, where nothing is looked at before it is used.
    plan = pickle.loads(pickle.dumps(ag.Plan("polynomial", degree=2)))
    for name, value in {"degree": 2, **fields}.items():
        object.__setattr__(plan, name, value)
    with pytest.raises(error) as caught:
        run(plan)
    assert str(caught.value).startswith(text)


def test_a_plan_without_its_degree_is_no_plan() -> None:
    with pytest.raises(ag.OptionError, match=r"plan\.degree: found None for method 'polynomial'"):
        run(ag.Plan("polynomial"))


@pytest.mark.parametrize("plan", ["exact", {"method": "exact"}, 3])
def test_something_else_is_no_plan(plan: object) -> None:
    with pytest.raises(ag.OptionTypeError, match="plan: found"):
        run(plan)


def test_a_plan_by_hand_runs() -> None:
    exact = run(None)
    assert np.array_equal(run(ag.Plan("exact")).gradient, exact.gradient)
    # More rows than there are: all of them.
    for samples in (0, 10, 2**62):
        near = run(ag.Plan("polynomial", degree=np.int64(6), samples=samples))
        assert near.plan.method == "polynomial"
        assert near.certificate.kind == "rigorous"
        assert np.linalg.norm(near.gradient - exact.gradient) <= near.certificate.absolute


CALLABLES: list[tuple[Callable[..., object], int]] = [
    (ag.loss_gradient, 6),
    (ag.loss, 6),
    (ag.plan_loss_gradient, 6),
    (ag.factors, 6),
    (ag.attention, 3),
    (ag.attention_vjp, 4),
    (ag.plan, 3),
    (ag.diagnose, 2),
    (ag.Plan, 1),
    (ag.ExpFeatures, 0),
    (ag.ExpFeatures().fit, 1),
    (ag.ExpFeatures().transform_query, 1),
    (ag.ExpFeatures().transform_key, 1),
    (ag.polynomials.exp_polynomial, 3),
    (ag.polynomials.exp_polynomial("taylor", 1, (-1, 1)), 1),
    (ag.polynomials.exp_polynomial("taylor", 1, (-1, 1)).ratio_bounds, 0),
    (ag.factors(A, A, A, EYE, EYE, A, degree=1).gradient, 0),
    (heads.load_heads, 0),
    (heads.make_heads, 2),
]


@pytest.mark.parametrize(("call", "needed"), CALLABLES)
def test_calls_that_no_function_knows(call: Callable[..., object], needed: int) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'scael'"):
        call(*[A] * needed, scael=1.0)
    with pytest.raises(TypeError, match="positional argument"):
        call(*[A] * 40)
    if needed:
        with pytest.raises(TypeError, match="missing"):
            call(*[A] * (needed - 1))
