"""Certificates of attention and of its gradients by key: never below the error, and near it."""

from __future__ import annotations

import itertools
from collections import Counter
from statistics import median
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
import families
import unseen
from attngrad_rs import reference
from helpers import Array, frobenius

pytestmark = pytest.mark.sampled

N, D, DEGREE = 512, 6, 2
# Problems of each family, and draws from each: a family alone may have three times the misses.
PROBLEMS, DRAWS = 6, 8
ALLOWED, ALLOWED_IN_A_FAMILY = 0.01, 0.03
# Rows; under a mask the first chunk of 256 has no error, and later rows have less.
LENGTHS, SAMPLES = {False: N, True: 2048}, {False: 128, True: 400}
# Medians of bound / error: rows of the output are known one by one, sums by key from a sample.
BY_ROW, BY_KEY = 2.0, 12.0
# Median of a statistical bound of the output over its error.
STATISTICAL = 100.0
# Median of a rigorous bound of the output over its error, of small logits.
RIGOROUS = 5e3
INPUTS = ("query", "key", "value")
Heads = dict[str, Any]


def heads(problem: dict[str, Array], is_causal: bool = False) -> Heads:
    """One head with the logits of a problem, its values, and its target for ``dout``."""
    d = problem["A1"].shape[1]
    return {
        "query": np.ascontiguousarray(problem["A1"] @ problem["X"]),
        "key": problem["A2"],
        "value": np.ascontiguousarray(problem["A3"] @ problem["Y"]),
        "dout": problem["E"],
        "scale": 1.0 / d,
        "is_causal": is_causal,
    }


def output_and_gradients(given: Heads) -> list[Array]:
    """The truth, in double precision."""
    of = {k: v.astype(np.float64) if isinstance(v, np.ndarray) else v for k, v in given.items()}
    gradients = reference.attention_vjp(**of)
    of.pop("dout")
    return [reference.attention(**of), *gradients]


def estimates(given: Heads, draw: int, **options: Any) -> list[tuple[str, Array, ag.Certificate]]:
    """The output and the gradients as approximated, with their certificates."""
    options = {"method": "polynomial", "degree": DEGREE, "certificate": "estimated"} | options
    plan = ag.Plan("polynomial", degree=DEGREE, samples=SAMPLES[given["is_causal"]])
    gradients = ag.attention_vjp(**given, **options, rng=draw, plan=plan)
    forward = {name: of for name, of in given.items() if name != "dout"}
    found = ag.attention(**forward, **options, rng=draw, return_certificate=True)
    parts = [
        (name, g, gradients.certificates[name]) for name, g in zip(INPUTS, gradients, strict=True)
    ]
    return [("output", found.output, found.certificate), *parts]


def count(given: Heads, draws: int, counts: Counter[str], ratios: dict[str, list[float]]) -> None:
    truths = output_and_gradients(given)
    for draw in range(draws):
        for (name, got, certificate), truth in zip(estimates(given, draw), truths, strict=True):
            error = float(frobenius(got.astype(np.float64) - truth))
            if certificate.kind != "estimated":
                assert error <= certificate.absolute
                continue
            counts["stated"] += 1
            counts["missed"] += not error <= certificate.absolute
            ratios.setdefault(name, []).append(certificate.absolute / error)


@pytest.mark.parametrize("is_causal", [False, True])
def test_estimates_cover_the_error_and_are_near_it(is_causal: bool) -> None:
    total, ratios = Counter[str](), dict[str, list[float]]()
    for family in families.NAMES:
        counts = Counter[str]()
        for seed in range(3 if is_causal else PROBLEMS):
            given = heads(families.problem(family, LENGTHS[is_causal], D, seed), is_causal)
            count(given, 4 if is_causal else DRAWS, counts, ratios)
        print(family, dict(counts))
        assert counts["missed"] <= ALLOWED_IN_A_FAMILY * counts["stated"] + 1, family
        total += counts
    medians = {name: round(median(all_), 2) for name, all_ in ratios.items()}
    print(dict(total), medians)
    assert total["stated"] >= 100
    assert total["missed"] <= ALLOWED * total["stated"]
    assert max(medians["output"], medians["query"]) <= BY_ROW
    assert max(medians["key"], medians["value"]) <= BY_KEY


def test_no_needle_is_missed() -> None:
    total, ratios = Counter[str](), dict[str, list[float]]()
    for family in unseen.FAMILIES:
        counts = Counter[str]()
        for seed in range(2):
            count(heads(unseen.problem(family, N, 8, seed)), 3, counts, ratios)
        print(family, dict(counts))
        assert counts["missed"] <= ALLOWED * counts["stated"] + 1, family
        total += counts
    assert total["stated"] >= 100
    assert total["missed"] <= ALLOWED * total["stated"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_bound_of_the_output_always_holds(dtype: Any, degree: int) -> None:
    ratios = []
    for family in families.NAMES:
        for seed in range(3):
            given = heads(families.problem(family, N, D, seed, np.dtype(dtype).name))
            truth = output_and_gradients(given)[0]
            given.pop("dout")
            found = ag.attention(
                **given, method="polynomial", degree=degree, certificate="rigorous",
                return_certificate=True,
            )  # fmt: skip
            made = found.certificate
            assert made.kind in ("rigorous", "exact")
            error = float(frobenius(found.output.astype(np.float64) - truth))
            assert error <= made.absolute, family
            if family == "uniform" and made.kind == "rigorous":
                ratios.append(made.absolute / error)
                assert made.terms["rounding"] <= made.absolute
    assert median(ratios) <= RIGOROUS


def test_outputs_by_key_of_the_loss() -> None:
    """c moves with the output there, and weights may be a pair."""
    outputs = ("A2", "A3")
    counts, ratios = Counter[str](), []
    for family, seed in itertools.product(families.NAMES, range(4)):
        given = families.problem(family, N, D, seed)
        wide = families.wide(given)
        if seed % 2:
            for of in (given, wide):
                of["X"] = (of["X"], np.eye(D, dtype=of["X"].dtype))
        exact = ag.loss_gradient(**wide, wrt=outputs)
        for draw in range(3):
            got = ag.loss_gradient(
                **given, wrt=outputs, method="polynomial", degree=DEGREE,
                certificate="estimated", rng=draw,
                plan=ag.Plan("polynomial", degree=DEGREE, samples=128),
            )  # fmt: skip
            for name in outputs:
                error = float(frobenius(got.gradients[name].astype(float) - exact.gradients[name]))
                made = got.certificates[name]
                if made.kind == "estimated":
                    counts["stated"] += 1
                    counts["missed"] += not error <= made.absolute
                    ratios.append(made.absolute / error)
    print(dict(counts), median(ratios))
    assert counts["stated"] >= 100
    assert counts["missed"] <= ALLOWED * counts["stated"]
    assert median(ratios) <= BY_KEY


def test_a_statistical_bound_of_the_output_keeps_its_confidence() -> None:
    counts, ratios = Counter[str](), []
    for family, seed in itertools.product(families.NAMES, range(6)):
        given = heads(families.problem(family, N, D, seed, "float64"))
        truth = output_and_gradients(given)[0]
        given.pop("dout")
        for draw in range(6):
            found = ag.attention(
                **given, method="polynomial", degree=DEGREE, certificate="statistical", rng=draw,
                return_certificate=True,
            )  # fmt: skip
            made = found.certificate
            assert made.kind in ("statistical", "rigorous", "exact")
            error = float(frobenius(found.output - truth))
            if made.kind != "statistical":
                assert error <= made.absolute
                continue
            assert made.confidence == 0.99
            counts["stated"] += 1
            counts["missed"] += not error <= made.absolute
            ratios.append(made.absolute / error)
    print(dict(counts), median(ratios))
    assert counts["stated"] >= 100
    assert counts["missed"] <= ALLOWED * counts["stated"]
    assert median(ratios) <= STATISTICAL


SHIFTS = {"plain": {}, "values": {"value": 100.0}, "keys": {"key": 50.0}, "dout": {"dout": 100.0}}


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("shift", SHIFTS)
def test_estimates_know_the_rounding_that_no_row_shows(shift: str, is_causal: bool) -> None:
    """Logits so small that rounding is all of the error."""
    rng = np.random.default_rng(11)
    shapes = dict.fromkeys((*INPUTS, "dout"), (2048, 8))
    arrays = {name: rng.uniform(-1.0, 1.0, shape) for name, shape in shapes.items()}
    arrays |= {name: arrays[name] + by for name, by in SHIFTS[shift].items()}
    given: Heads = {name: array.astype(np.float32) for name, array in arrays.items()}
    given |= {"scale": 1e-3, "is_causal": is_causal}
    for (name, got, made), truth in zip(
        estimates(given, 0), output_and_gradients(given), strict=True
    ):
        error = float(frobenius(got.astype(np.float64) - truth))
        assert error <= made.absolute, name
        assert made.terms["rounding"] >= 0.5 * made.absolute, name


def test_several_heads_have_one_certificate() -> None:
    each = [heads(families.problem("uniform", N, D, seed)) for seed in range(3)]
    all_ = {name: np.stack([one[name] for one in each]) for name in (*INPUTS, "dout")}
    given = all_ | {"scale": 1.0 / D, "is_causal": False}
    truths = [np.stack(of) for of in zip(*map(output_and_gradients, each), strict=True)]
    for (name, got, made), truth in zip(estimates(given, 0), truths, strict=True):
        assert made.kind == "estimated", name
        assert got.shape == truth.shape
        error = float(frobenius(got.astype(np.float64) - truth))
        assert error <= made.absolute <= BY_KEY * error, name
        assert made.size == pytest.approx(float(frobenius(got)), rel=1e-5)


@pytest.mark.parametrize("norm", ["fro", "max"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_a_tolerance_is_reached(norm: str, is_causal: bool) -> None:
    rng = np.random.default_rng(3)
    shape = (40_000, 4)
    given = {name: rng.uniform(-0.7, 0.7, shape).astype(np.float32) for name in INPUTS}
    exact = ag.attention(**given, is_causal=is_causal)
    found = ag.attention(
        **given, is_causal=is_causal, rtol=1e-2, norm=norm, return_certificate=True
    )
    assert found.plan.method == "polynomial", found.plan.reason
    assert found.certificate.success
    size = frobenius if norm == "fro" else lambda array: np.abs(array).max()
    assert size(found.output - exact) <= 1e-2 * size(exact)
    assert np.array_equal(
        found.output, ag.attention(**given, is_causal=is_causal, rtol=1e-2, norm=norm)
    )


def test_what_is_out_of_reach_is_said() -> None:
    given = heads(families.problem("uniform", N, D, 0))
    given.pop("dout")
    with pytest.raises(
        ag.ToleranceError, match=r"^rtol: found 1e-06, below what method 'poly.* output; "
    ) as missed:
        ag.attention(**given, method="polynomial", degree=1, rtol=1e-6)
    result = missed.value.result
    assert isinstance(result, ag.AttentionResult)
    assert result.certificate.success is False
    assert result.certificate.best_rtol == missed.value.best_rtol > 1e-6
    exact = ag.attention(**given, rtol=1e-5, return_certificate=True)
    assert (exact.plan.method, exact.certificate.kind, exact.success) == ("exact", "exact", True)


def test_what_only_the_exact_method_has() -> None:
    given = heads(families.problem("uniform", 64, D, 0))
    given.pop("dout")
    output, lse = ag.attention(**given, rtol=1e-2, return_lse=True)
    want = ag.attention(**given, return_lse=True)
    assert np.array_equal(output, want[0])
    assert np.array_equal(lse, want[1])
    with pytest.raises(ag.OptionError, match=r"^return_lse: found True; expected False"):
        ag.attention(**given, method="polynomial", degree=1, return_lse=True)
    with pytest.raises(ag.OptionError, match=r"^method: found 'polynomial' for heads with a mask"):
        ag.attention(**given, method="polynomial", degree=1, window=(3, 3))
    masked = ag.attention(**given, rtol=1e-2, window=(3, 3), return_certificate=True)
    assert masked.plan.reason == "of the masks the polynomial method knows is_causal alone"
    assert masked.certificate.kind == "exact"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_estimate_of_rounding_is_never_below_it(dtype: Any, is_causal: bool) -> None:
    ratios = []
    for family in families.NAMES:
        for seed in range(4):
            wide = heads(families.problem(family, 300, D, seed, "float64"), is_causal)
            wide.pop("dout")
            given = {
                k: v.astype(dtype) if isinstance(v, np.ndarray) else v for k, v in wide.items()
            }
            of = {
                k: v.astype(np.longdouble) if isinstance(v, np.ndarray) else v
                for k, v in given.items()
            }
            logits = of["scale"] * of["query"] @ of["key"].T
            if is_causal:
                logits = np.where(np.tril(np.ones(logits.shape, bool)), logits, -np.inf)
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            truth = weights / weights.sum(axis=1, keepdims=True) @ of["value"]
            found = ag.attention(**given, return_certificate=True)
            error = float(np.sqrt(np.sum((found.output - truth) ** 2)))
            assert error <= found.certificate.absolute, family
            ratios.append(found.certificate.absolute / error)
    assert median(ratios) <= 1000.0


def test_the_result_says_what_it_is() -> None:
    given = heads(families.problem("uniform", 64, D, 0))
    given.pop("dout")
    found = ag.attention(**given, return_lse=True, return_certificate=True)
    assert repr(found).startswith("AttentionResult(output: (64, 6) float32, exact, relative error")
    assert "exact" in found._repr_html_()
    assert found.lse is not None
    assert found.lse.shape == (64,)
    assert found.plan.explain().startswith("method            exact, because rtol is None")
    with pytest.raises(ag.OptionError, match="not attached to arrays"):
        found.plan.execute()
