"""Statistics of queries and keys, and the planner's answer for a gradient to an accuracy.

Which method runs is the planner's law (docs/math.md, section 11) and nobody else's: here it is
asked, and its reasons are passed on. Figures of this module only describe the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import arguments, arrays
from .api import plan_loss_gradient
from .arguments import checked_signature
from .errors import ShapeError
from .features.fit import fit_polynomial, logit_interval
from .features.sampling import Sample, sample_pairs
from .features.transform import Balance, balance
from .memory import check_fits
from .plans import Plan

__all__ = ["TOLERANCES", "Diagnosis", "Prediction", "describe", "diagnose"]

# The accuracies that are looked into, from rough to fine.
TOLERANCES = (1e-1, 1e-2, 1e-3)
# That of the three by which data are called near-linear or not.
DECIDING = 1e-2
# Degrees that are tried on the sampled logits; the count of features of more is out of reach.
LARGEST_DEGREE = 10
# Logits over a wider range than this are near no polynomial of such a degree.
WIDEST_RANGE = 40.0
# Relative rounding of the attention weights from which the numbers themselves are the trouble.
ROUNDING_TROUBLE = 1e-3
EXACT = "exact"


@dataclass(frozen=True)
class Prediction:
    """The planner's answer to one accuracy, and what the sampled logits say of it.

    Attributes
    ----------
    rtol : float
        The accuracy.
    method : str
        The method that ``method="auto"`` plans for it.
    degree, features : int or None
        Degree of its polynomial and number of monomials; None for the exact method.
    error : float
        The error beyond rounding that the planner expects; 0 for the exact method.
    reason : str
        Why this method, in the planner's words.
    smallest_degree : int or None
        Smallest degree whose polynomial is within ``rtol`` of exp on the sampled logits (eq. 106),
        whatever it costs; None if none up to 10 is.
    least_error : float
        Reached at that degree; without one, the least that was reached.
    """

    rtol: float
    method: str
    degree: int | None
    features: int | None
    error: float
    reason: str
    smallest_degree: int | None
    least_error: float


@dataclass(frozen=True)
class Diagnosis:
    """Statistics of queries and keys, and the planner's answers for them.

    Attributes
    ----------
    n, m, width : int
        Queries, keys, and entries of each.
    scale : float
        s.
    largest_query, largest_key : float
        Largest entries, in absolute value.
    B : float
        The paper's bound of the entries, √(abs(s) E · largest_query · largest_key), at the paper's
        s = 1/E their geometric mean: no logit exceeds B².
    threshold_ratio : float
        B / √(log n): the paper's near-linear algorithm needs it small.
    logit_bound : float
        No logit of centred queries and keys exceeds it (Cauchy and Schwarz).
    logit_std : float
        Standard deviation of the centred logits, sampled.
    logit_range : (float, float)
        Smallest and largest of the sampled centred logits.
    spectrum : tuple of float
        Second moments of the balanced coordinates, falling; their squares add up to the variance
        of the logits.
    effective_rank : float
        (Σ σ²)² / Σ σ⁴ of the spectrum σ: how many directions carry the logits.
    predictions : tuple of Prediction
        For the accuracies 0.1, 0.01 and 0.001, of the gradient by X.
    regime : str
        ``"near-linear"`` where the planner takes a near-linear method at 0.01, ``"borderline"``
        where it does at 0.1 only, and ``"exact"``.
    findings : tuple of str
        What stands in the way, in words.
    advice : str
        What to do.
    """

    n: int
    m: int
    width: int
    scale: float
    largest_query: float
    largest_key: float
    B: float
    threshold_ratio: float
    logit_bound: float
    logit_std: float
    logit_range: tuple[float, float]
    spectrum: tuple[float, ...]
    effective_rank: float
    predictions: tuple[Prediction, ...]
    regime: str
    findings: tuple[str, ...]
    advice: str

    def explain(self) -> str:
        """All of it as text, one item a line.

        Examples
        --------
        >>> import numpy as np
        >>> import attngrad_rs as ag
        >>> rng = np.random.default_rng(0)
        >>> q, k = rng.uniform(-1, 1, (2, 50_000, 4))
        >>> print(ag.diagnose(q, k, scale=0.25).explain().splitlines()[-2])
        regime            near-linear
        """
        low, high = self.logit_range
        lines = [
            ("sizes", f"{self.n} queries, {self.m} keys, width {self.width}, scale {self.scale:g}"),
            ("entries", f"B = {self.B:.3g}, B / sqrt(log n) = {self.threshold_ratio:.3g}"),
            (
                "centred logits",
                f"standard deviation {self.logit_std:.3g}, sampled from {low:.3g} to {high:.3g}, "
                f"at most {self.logit_bound:.3g}",
            ),
            ("effective rank", f"{self.effective_rank:.3g} of {self.width}"),
            *((f"rtol {one.rtol:g}", _prediction_text(one)) for one in self.predictions),
            ("regime", self.regime),
            *(("finding", text) for text in self.findings),
            ("advice", self.advice),
        ]
        return "\n".join(f"{title:18}{text}" for title, text in lines)


@checked_signature
def diagnose(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    *,
    scale: float | None = None,
    rng: int | np.random.Generator | None = None,
) -> Diagnosis:
    """Whether gradients of softmax(scale · query keyᵀ) can be had in near-linear time, and how.

    The answers are those of the planner, for the gradient of the loss by X where values and target
    are as wide as the keys; ``plan_loss_gradient`` gives them for any problem, and ``plan`` those
    for ``attention_vjp``, which has to certify more.

    Parameters
    ----------
    query, key : array_like, (n, E), (m, E)
        One head; both float32 or both float64.
    scale : float, optional
        By default 1/√E.
    rng : int or numpy.random.Generator, optional
        For the sampled pairs; None is a fixed seed.

    Returns
    -------
    Diagnosis
        Statistics, predictions, regime and advice; ``explain()`` puts them in words.

    Raises
    ------
    AttnGradError
        ShapeError, DTypeError, NonFiniteError name the array, OptionError, OptionTypeError the
        option; RangeError where logits leave the range of the dtype.

    Notes
    -----
    Source: docs/math.md, eq. (100), (101), (106), and section 11. Cost O((n + m) E²), a fixed
    sample of pairs, and one plan for each accuracy.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> rng = np.random.default_rng(0)
    >>> ag.diagnose(*rng.uniform(-1, 1, (2, 50_000, 4)), scale=0.25).regime
    'near-linear'
    >>> ag.diagnose(*rng.uniform(-9, 9, (2, 50_000, 4)), scale=0.25).regime
    'exact'
    """
    random = arguments.generator(rng)
    given, _ = arrays.read_heads({"query": query, "key": key})
    for name, array in given.items():
        if array.ndim != 2:
            raise ShapeError(
                f"{name}: found shape {array.shape}; a matrix is wanted: pass one head at a time"
            )
    width = given["query"].shape[1]
    s = arguments.scale(scale, 1.0 / math.sqrt(max(width, 1)))
    q, k, eye = given["query"], given["key"], np.eye(width, dtype=given["query"].dtype)
    data = _data(q, k, s, random)
    plans = {
        rtol: plan_loss_gradient(q, k, k, eye, eye, q, scale=s, rtol=rtol) for rtol in TOLERANCES
    }
    return _diagnosis(data, plans)


def describe(
    query: npt.ArrayLike, key: npt.ArrayLike, scale: float, plans: Mapping[float, Plan]
) -> Diagnosis:
    """The diagnosis of a problem whose plans have been made, by their tolerances.

    ``plans`` holds one for each of ``TOLERANCES``, and may hold others; queries and keys are those
    of its logits.
    """
    given, _ = arrays.read_heads({"query": query, "key": key})
    return _diagnosis(_data(given["query"], given["key"], scale, arguments.generator(None)), plans)


@dataclass(frozen=True)
class _Data:
    """Figures that describe queries and keys; none of them decides anything."""

    n: int
    m: int
    width: int
    scale: float
    eps: float
    largest_query: float
    largest_key: float
    change: Balance
    bound: float
    sample: Sample


def _data(
    query: arrays.Array, key: arrays.Array, scale: float, random: np.random.Generator
) -> _Data:
    given = {"query": query, "key": key}
    # The copies, and float64 ones while means and covariances are taken.
    check_fits("diagnose", 5 * arrays.total_bytes(given))
    copies = arrays.snapshots(given, query.dtype, finite=True)
    change = balance(copies["query"], copies["key"], scale, center_query=True)
    largest_query, largest_key = (arrays.norm(copies[name], "max") for name in ("query", "key"))
    return _Data(
        n=len(query),
        m=len(key),
        width=query.shape[1],
        scale=scale,
        eps=float(np.finfo(query.dtype).eps),
        largest_query=largest_query,
        largest_key=largest_key,
        change=change,
        bound=change.logit_bound(copies["query"], copies["key"]),
        sample=sample_pairs(change, copies["query"], copies["key"], random),
    )


def _diagnosis(data: _Data, plans: Mapping[float, Plan]) -> Diagnosis:
    root = math.sqrt(data.largest_query) * math.sqrt(data.largest_key)
    B = math.sqrt(abs(data.scale) * data.width) * root
    predictions = _predictions(data, plans)
    regime = _regime(predictions)
    return Diagnosis(
        n=data.n,
        m=data.m,
        width=data.width,
        scale=data.scale,
        largest_query=data.largest_query,
        largest_key=data.largest_key,
        B=B,
        threshold_ratio=B / math.sqrt(math.log(max(data.n, data.m, 2))),
        logit_bound=data.bound,
        logit_std=data.sample.spread,
        logit_range=data.sample.range,
        spectrum=tuple(float(value) for value in data.change.spectrum),
        effective_rank=_effective_rank(data.change),
        predictions=predictions,
        regime=regime,
        findings=tuple(_findings(predictions, data)),
        advice=_advice(predictions, regime),
    )


def _effective_rank(change: Balance) -> float:
    squares = np.square(change.spectrum / (np.max(change.spectrum, initial=0.0) or 1.0))
    total = float(np.sum(squares))
    return total**2 / float(np.sum(np.square(squares))) if total else 0.0


def _predictions(data: _Data, plans: Mapping[float, Plan]) -> tuple[Prediction, ...]:
    """What is planned for each accuracy, beside the errors of one rising sweep of degrees."""
    errors: list[float] = []
    low, high = data.sample.range
    if high - low <= WIDEST_RANGE:
        interval = logit_interval(data.sample, data.bound)
        for degree in range(LARGEST_DEGREE + 1):
            polynomial = fit_polynomial("least_squares", degree, interval, data.sample)
            errors.append(data.sample.error(polynomial(data.sample.logits)))
            if errors[-1] <= min(plans):
                break
    by_size = sorted(plans.items(), reverse=True)
    return tuple(_prediction(rtol, plan, errors) for rtol, plan in by_size)


def _prediction(rtol: float, plan: Plan, errors: list[float]) -> Prediction:
    enough = [(degree, error) for degree, error in enumerate(errors) if error <= rtol]
    degree, error = enough[0] if enough else (None, min(errors, default=math.inf))
    return Prediction(
        rtol=rtol,
        method=plan.method,
        degree=plan.degree,
        features=plan.features,
        error=plan.predicted_error,
        reason=plan.reason,
        smallest_degree=degree,
        least_error=error,
    )


def _at(predictions: tuple[Prediction, ...], rtol: float) -> Prediction:
    return next(one for one in predictions if one.rtol == rtol)


def _regime(predictions: tuple[Prediction, ...]) -> str:
    if _at(predictions, DECIDING).method != EXACT:
        return "near-linear"
    return "exact" if _at(predictions, TOLERANCES[0]).method == EXACT else "borderline"


def _findings(predictions: tuple[Prediction, ...], data: _Data) -> list[str]:
    """The three signatures of failure: rank too low, time not near-linear, magnitude."""
    findings = []
    deciding = _at(predictions, DECIDING)
    if deciding.method == EXACT and deciding.smallest_degree is None:
        findings.append(
            f"error too large: the rank is too low at every degree up to {LARGEST_DEGREE} "
            f"(error {deciding.least_error:.2g} at best, {deciding.rtol:g} wanted)"
        )
    elif deciding.method == EXACT:
        findings.append(f"time is not near-linear at this size: {deciding.reason}")
    low = data.sample.range[0]
    # Powers of a logit t < 0 cancel down to e^t from e^-t.
    rounding = data.eps * math.exp(min(-2.0 * low, -math.log(data.eps)))
    if rounding > ROUNDING_TROUBLE:
        findings.append(
            f"numerical trouble: logits down to {low:.3g} lose up to {min(rounding, 1.0):.1g} of "
            "a weight to rounding in a polynomial; their magnitude is the reason"
        )
    return findings


def _advice(predictions: tuple[Prediction, ...], regime: str) -> str:
    deciding = _at(predictions, DECIDING)
    if regime == "exact":
        return f"use the exact method: {deciding.reason}"
    near = deciding if regime == "near-linear" else _at(predictions, TOLERANCES[0])
    advice = f"at {near.rtol:g}, degree {near.degree} with {near.features} features does it"
    if regime == "near-linear":
        return f"ask loss_gradient for rtol: {advice}"
    return (
        f"ask loss_gradient for rtol, or use the exact method: {advice}; "
        f"at {deciding.rtol:g}, {deciding.reason}"
    )


def _prediction_text(one: Prediction) -> str:
    if one.method == EXACT:
        return f"exact: {one.reason}"
    return (
        f"{one.method}, degree {one.degree} with {one.features} features, "
        f"error about {one.error:.1e}"
    )
