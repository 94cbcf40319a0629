"""Certificates: one judge says whether a tolerance is reached, and what is unknown never is."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs import results as certificates
from attngrad_rs._inputs.options import Options

NAN, INF = math.nan, math.inf


def tolerance(rtol: float | None, atol: float = 0.0, method: str = "auto") -> Options:
    return Options(method=method, rtol=rtol, atol=atol)


def certificate(**changes: Any) -> ag.Certificate:
    given = {"method": "exact", "kind": "exact", "absolute": 1.0, "relative": 0.5, **changes}
    return ag.Certificate(**given)


@pytest.mark.parametrize("value", [NAN, -NAN, INF])
def test_what_is_unknown_is_not_certified(value: float) -> None:
    one = certificate(absolute=value, relative=value, success=True)
    assert one.absolute == INF
    assert one.relative == INF
    assert one.success is False


def judged(absolute: float, size: float, wanted: Options) -> ag.Certificate:
    """What the core says of an exact result, by the definitions of its figures."""
    error, truth = Fraction(absolute), Fraction(size) - Fraction(absolute)
    rtol, atol = Fraction(wanted.rtol or 0.0), Fraction(wanted.atol)
    return certificate(
        absolute=absolute,
        relative=float(error / truth),
        rtol_requested=wanted.rtol,
        best_rtol=float(max(error - atol, Fraction(0)) / truth),
        success=error <= rtol * truth + atol,
    )


class Made(NamedTuple):
    certificates: dict[str, ag.Certificate]


def delivered(wanted: Options) -> Made:
    sizes = {"X": 1.0, "Y": 0.01}
    made = {name: judged(1e-9, size, wanted) for name, size in sizes.items()}
    return certificates.deliver(Made(made), wanted, "float32")


@pytest.mark.parametrize("atol", [0.0, 3e-10])
def test_the_best_tolerance_is_one_that_succeeds(atol: float) -> None:
    with pytest.raises(ag.ToleranceError) as caught:
        delivered(tolerance(1e-12, atol, "exact"))
    message, best = str(caught.value), caught.value.best_rtol
    assert "with respect to Y" in message
    assert "use float64" in message
    assert caught.value.result.certificates["Y"].best_rtol == best
    assert caught.value.result.certificates["X"].success is False
    few = 4 * np.finfo(float).eps
    for method in ("exact", "auto"):
        delivered(tolerance(best * (1 + few), atol, method))
    with pytest.raises(ag.ToleranceError):
        delivered(tolerance(best * (1 - few), atol, "exact"))
    with pytest.warns(ag.PrecisionWarning, match="success=False") as warned:
        delivered(tolerance(best * (1 - few), atol))
    # It points at the caller.
    assert warned[0].filename == __file__


@pytest.mark.parametrize("rtol", [None, 0.0])
def test_an_absolute_tolerance_out_of_reach_names_one_that_is(rtol: float | None) -> None:
    with pytest.raises(ag.ToleranceError, match=r"^atol: found 1e-10, .*give atol >= 1e-09"):
        delivered(tolerance(rtol, 1e-10, "exact"))
    delivered(tolerance(rtol, 1e-9, "exact"))


@pytest.mark.parametrize("value", [1e-300, 9.96e-7, 3.3e-7, 0.123, 1.0, 5.05, 1e300])
def test_rounded_up_numbers_are_not_below(value: float) -> None:
    rounded = float(certificates.round_up(value))
    assert value * (1 - 1e-12) <= rounded <= value * 1.11


def result(found: dict[str, ag.Certificate]) -> ag.GradientResult[Any]:
    gradients = {name: np.zeros(1) for name in found}
    return ag.GradientResult(
        0.0, gradients, certificate(), certificates=found, plan=ag.Plan("exact"), seconds=0.0
    )


def test_the_worst_certificate() -> None:
    good = certificate(relative=1e-9)
    bad = certificate(relative=1e-3)
    missed = certificate(relative=1e-6, success=False)
    assert result({"X": good, "Y": bad}).certificate is bad
    assert result({"X": good, "Y": bad, "A1": missed}).certificate is missed


def test_certificates_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate().absolute = 0.0  # type: ignore[misc]
