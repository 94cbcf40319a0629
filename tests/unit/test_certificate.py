"""Certificates: one judge says whether a tolerance is reached, and what is unknown never is."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs import certificate as certificates
from attngrad_rs.arguments import Tolerance
from attngrad_rs.methods import Error

NAN, INF = math.nan, math.inf


def tolerance(rtol: float | None, atol: float = 0.0) -> Tolerance:
    return Tolerance(rtol=rtol, atol=atol, norm="fro", certificate="any")


def certificate(**changes: Any) -> ag.Certificate:
    given = {"method": "exact", "kind": "exact", "absolute": 1.0, "relative": 0.5, **changes}
    return ag.Certificate(**given)


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
    def relative(absolute: float, size: float) -> float:
        known = Error.rounding(absolute)
        return certificates.certify("exact", known, size, "fro", tolerance(1e-3)).relative

    # The truth may be as small as 3 - 1.
    assert relative(1.0, 3.0) == 0.5
    assert relative(1.0, 1.0) == INF
    assert relative(2.0, 1.0) == INF
    assert relative(0.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("absolute", "size", "rtol", "atol", "reached"),
    [
        (1e-9, 1.0, None, 0.0, True),
        (1e-9, 1.0, 0.0, 0.0, True),
        (1e-9, 1.0, 2e-9, 0.0, True),
        (1e-9, 1.0, 5e-10, 0.0, False),
        (1e-9, 1.0, 5e-10, 1e-9, True),
        # An absolute tolerance alone, without a relative one or with one of 0.
        (1e-9, 1.0, None, 1e-9, True),
        (1e-9, 1.0, None, 9e-10, False),
        (1e-9, 1.0, 0.0, 1e-9, True),
        (1e-9, 1.0, 0.0, 9e-10, False),
        # It covers an error that is larger than the result.
        (1e-9, 0.0, 1e-3, 1e-9, True),
        # Merely below its rounding bound.
        (1e-9, 1e-10, 1e-12, 0.0, False),
        (1e-9, 1e-10, 1e3, 0.0, False),
        (1e-9, 0.0, 1e-3, 0.0, False),
        # Zero by structure.
        (0.0, 0.0, 1e-12, 0.0, True),
        (INF, 1.0, None, 0.0, False),
        (INF, 1.0, 0.0, 0.0, False),
        (INF, INF, 1e-3, 0.0, False),
        (NAN, 1.0, 1e-3, 1.0, False),
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


@pytest.mark.parametrize(
    ("rtol", "atol", "reached"), [(None, 0.0, None), (0.0, 0.0, False), (0.0, 1e-9, True)]
)
def test_success_of_an_approximation(rtol: float | None, atol: float, reached: bool | None) -> None:
    for kind in ("estimated", "statistical", "rigorous"):
        known = Error(kind, 1e-9, {"sampling": 1e-9})
        made = certificates.certify("polynomial", known, 1.0, "fro", tolerance(rtol, atol))
        assert made.success is reached
        assert kind in made.message


class Made(NamedTuple):
    certificates: dict[str, ag.Certificate]


def delivered(wanted: Tolerance, method: str) -> Made:
    sizes = {"X": 1.0, "Y": 0.01}
    made = {
        name: certificates.certify("exact", Error.rounding(1e-9), size, "fro", wanted)
        for name, size in sizes.items()
    }
    return certificates.deliver(Made(made), wanted, "float32", method)


@pytest.mark.parametrize("atol", [0.0, 3e-10])
def test_the_best_tolerance_is_one_that_succeeds(atol: float) -> None:
    with pytest.raises(ag.ToleranceError) as caught:
        delivered(tolerance(1e-12, atol), "exact")
    message, best = str(caught.value), caught.value.best_rtol
    assert "by Y" in message
    assert "use float64" in message
    assert caught.value.result.certificates["Y"].best_rtol == best
    assert caught.value.result.certificates["X"].success is False
    few = 4 * np.finfo(float).eps
    for method in ("exact", "auto"):
        delivered(tolerance(best * (1 + few), atol), method)
    with pytest.raises(ag.ToleranceError):
        delivered(tolerance(best * (1 - few), atol), "exact")
    with pytest.warns(ag.PrecisionWarning, match="success=False") as warned:
        delivered(tolerance(best * (1 - few), atol), "auto")
    # It points at the caller.
    assert warned[0].filename == __file__


@pytest.mark.parametrize("rtol", [None, 0.0])
def test_an_absolute_tolerance_out_of_reach_names_one_that_is(rtol: float | None) -> None:
    with pytest.raises(ag.ToleranceError, match=r"^atol: found 1e-10, .*give atol >= 1e-09"):
        delivered(tolerance(rtol, 1e-10), "exact")
    delivered(tolerance(rtol, 1e-9), "exact")


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
