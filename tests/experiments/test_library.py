"""What the experiments ask of the library: times, charges, plans, oracles, memory."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs._inputs.options import METHODS
from attngrad_rs.experiments import (
    calls,
    charges,
    dense,
    footprint,
    peers,
    precision,
    switch,
    times,
)
from attngrad_rs.experiments.approximations import Fit, favor, favor_features
from attngrad_rs.experiments.base import select
from attngrad_rs.experiments.gaps import measure as measure_gap
from attngrad_rs.experiments.hard import hard
from attngrad_rs.experiments.oracle import exact_oracle, library_oracle
from attngrad_rs.experiments.problems import Data, make
from attngrad_rs.experiments.rows import real
from attngrad_rs.experiments.threshold import measure as measure_threshold
from attngrad_rs.features import ExpFeatures
from helpers import assert_close

# Of sums of a few hundred float64 numbers, which polynomials of degree 3 amplify a little.
ROUNDING = 1e-11


def data(n: int = 96, bound: float = 0.7) -> Data:
    return make("uniform", n, 4, bound=bound)


# -- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_slope_of_a_power_is_its_exponent(power: float) -> None:
    sizes = (10, 200, 400, 800)
    rows: list[Any] = [{"n": n, "seconds": 3.0 * n**power, "fitted": n > 100} for n in sizes]
    rows[0]["seconds"] = 1e9
    assert times.slope(rows) == pytest.approx(power)
    assert math.isnan(times.slope(rows[:3]))


@pytest.mark.parametrize(
    ("ratios", "want"),
    [
        ([4.0, 2.0, 0.5], 200.0 * math.sqrt(2.0)),
        ([0.5, 4.0, 0.25], 200.0 * math.sqrt(2.0)),
        ([0.5, 0.4, 0.3], 100.0),
        ([0.5, 0.4, 1.0], math.inf),
        ([], math.inf),
    ],
)
def test_the_crossover_is_where_it_stays_faster(ratios: list[float], want: float) -> None:
    assert times.crossover([100.0, 200.0, 400.0][: len(ratios)], ratios) == pytest.approx(want)


def test_every_method_of_the_registry_is_timed() -> None:
    found = {call.method for call in calls.library_calls((1e-2,))}
    assert found == {*METHODS, "auto"}


def test_a_method_that_is_registered_later_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "METHODS", (*METHODS, "later"))
    labels = [call.label for call in calls.library_calls((1e-2,))]
    assert "later, degree 1" in labels
    assert "later, rtol 0.01" in labels


def test_the_rows_of_the_time_experiment_say_what_ran() -> None:
    rows = times.measure(512, 0.25, True, True, 1)["seconds"]
    labels = [row["call"] for row in rows]
    assert "exact" in labels
    assert "polynomial, degree 2" in labels
    assert ("torch flash" in labels) == peers.torch_is_there()
    for row in rows:
        assert 0.0 < real(row, "seconds_low") <= real(row, "seconds") <= real(row, "seconds_high")
        assert real(row, "error") < 0.1
    # Quadratic calls are left out where they would take too long.
    labels = [row["call"] for row in times.measure(512, 2.0, False, True, 1)["seconds"]]
    assert not {"exact", "auto, rtol 0.001", "torch flash"} & set(labels)


def test_without_torch_its_line_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name=name)

    monkeypatch.setattr(peers, "import_module", missing)
    labels = [row["call"] for row in times.measure(256, 0.25, True, True, 1)["seconds"]]
    assert "torch flash" not in labels
    assert "exact" in labels


def test_times_are_medians_between_quartiles() -> None:
    found = calls.spread_of([5.0, 1.0, 2.0, 3.0, 4.0])
    assert found == calls.Seconds(3.0, 2.0, 4.0)
    assert found.row() == {"seconds": 3.0, "seconds_low": 2.0, "seconds_high": 4.0}
    assert calls.spread_of([2.0]) == calls.Seconds(2.0, 2.0, 2.0)


def test_long_calls_are_repeated_less(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"short": 0.01, "long": calls.ENOUGH_SECONDS}
    runs: dict[str, int] = dict.fromkeys(taken, 0)

    def run(name: str) -> str:
        runs[name] += 1
        return name

    monkeypatch.setattr(calls, "paused_seconds", lambda one: taken[one()])
    found = calls.timed({name: partial(run, name) for name in taken}, 9)
    assert runs == {"short": 9, "long": calls.LEAST_REPEATS}
    assert found["long"].median == calls.ENOUGH_SECONDS


# -- peers and memory -----------------------------------------------------------------------------


def test_peers_compute_the_gradient() -> None:
    one = data()
    for is_causal in (False, True):
        want = reference.Problem(**one.arguments(), is_causal=is_causal).dX
        got = peers.numpy_gradient(one, np.float64, is_causal=is_causal)()
        assert_close(got, want, ROUNDING, f"dense NumPy, causal {is_causal}")
        if peers.torch_is_there():
            got = peers.torch_gradient(one, np.float64, is_causal=is_causal)()
            assert_close(got, want, ROUNDING, f"torch, causal {is_causal}")


def test_features_lead_to_the_gradient_of_their_products() -> None:
    one = data()
    features = ExpFeatures(3, scale=one.scale).fit(one.query, one.key)
    pairs = [
        (features.transform_query(one.query), features.transform_key(one.key)),
        favor_features(one, 64, 0),
    ]
    for left, right in pairs:
        want = dense.gradient(left @ right.T, one).by_X
        assert_close(footprint.from_features(left, right, one), want, ROUNDING, "from features")
    left, right = favor_features(one, 64, 0)
    assert_close(favor(one, 64, 0), left @ right.T, ROUNDING, "random features")


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    kept = footprint.measured(footprint.FEATURES, 8192, 2)
    again = footprint.measured(footprint.RECOMPUTED, 8192, 2)
    if kept is None or again is None:
        pytest.skip("only Linux tells")
    # Two arrays of n × 153 numbers at least.
    assert kept[0] >= 2 * 8192 * 153 * 8
    assert again[0] < kept[0]
    assert 0.0 < kept[1].low <= kept[1].median <= kept[1].high


def test_certificates_are_above_errors_in_the_work_diagram() -> None:
    rows = precision.measure("work", 256, "float64")["work"]
    assert select(rows, call="exact")
    for row in rows:
        if row.get("certificate") is not None:
            assert real(row, "error") <= real(row, "certificate")


# -- charges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [1, 3])
def test_the_rows_that_the_library_works_with_are_read_out(degree: int) -> None:
    one = data()
    rows = charges.approximate_attention(one, degree)
    assert_close(rows.sum(axis=1), np.ones(len(rows)), ROUNDING, "sums of rows")
    result = ag.loss_gradient(**one.arguments(), method="polynomial", degree=degree)
    assert_close(dense.from_attention(rows, one).by_X, result.gradient, ROUNDING, "dL/dX")
    # They are an approximation, and not the exact rows.
    assert dense.relative_error(rows, dense.attention(dense.exponential(one))) > 1e-9


def test_charges_are_above_errors() -> None:
    rows = charges.charges(data(bound=0.5))
    assert len(rows) == len(charges.DEGREES) * (len(charges.STEPS) + 1)
    for row in rows:
        assert real(row, "ratio") >= 1.0
    assert any(math.isfinite(real(row, "charged")) for row in rows)


def test_step_errors_are_those_of_the_worst_row() -> None:
    one = data(n=24)
    f = dense.attention(dense.exponential(one))
    right = dense.steps(f, one)
    moved = f.copy()
    moved[3, 0] += 0.25
    moved[3, 1] -= 0.25
    moved[5, 2] += 0.125
    found = charges.step_errors(dense.steps(moved, one), right)
    assert found["f"] == pytest.approx(0.5)
    assert found["c"] == pytest.approx(
        np.linalg.norm((moved - f) @ one.value, axis=1).max(), rel=1e-10
    )


# -- decisions and oracles ------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.1, 0.7, 3.0])
def test_the_turning_point_is_found_from_below(limit: float) -> None:
    found = switch.turning_point(lambda ratio: (ratio <= limit, ""))
    assert limit / switch.STEP <= found <= limit
    assert switch.turning_point(lambda ratio: (False, "")) == 0.0


def test_the_threshold_tells_where_auto_turns() -> None:
    rows = measure_threshold("switch", 8192, 16, None, None, None)["switch"]
    names = [switch.DIAGNOSE, *(calls.asked(rtol) for rtol in switch.RTOLS)]
    assert [row["asked"] for row in rows] == names
    for row in rows[1:]:
        rtol = float(str(row["asked"]).rpartition(" ")[2])
        methods = []
        for factor in (0.98, switch.STEP * 1.02):
            one = make("uniform", 8192, 16, bound=factor * real(row, "switch_B"))
            methods.append(ag.plan_loss_gradient(**one.arguments(np.float32), rtol=rtol).method)
        assert methods == ["polynomial", "exact"]
        assert row["reason"]
    # The law of diagnose is the planner's own, at the accuracy that it decides by.
    assert rows[0]["switch"] == rows[1]["switch"]


def test_auto_takes_exact_on_a_gap_and_says_why() -> None:
    (row,) = measure_gap(128, 8.0, 0)["instance"]
    assert row["plan"] == "exact"
    assert row["reason"]
    # So short that the logits have no part in it.
    assert row["exact_for_its_length"] is True


def test_the_library_as_an_oracle() -> None:
    one = hard(64, 1.0)
    exact, near = exact_oracle(one), library_oracle("polynomial", 3)(one)
    assert 0.0 < dense.relative_error(near, exact) < 1e-2
    assert np.isnan(library_oracle("polynomial", 10_000)(one)).all()
    assert Fit(one).polynomial("least_squares", 3) is not None
