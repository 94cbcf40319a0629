"""What queries and keys are like, and what that means for a gradient to an accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import arguments, arrays
from .arguments import checked_signature
from .errors import ShapeError
from .features.fit import fit_polynomial, logit_interval
from .features.index_set import feature_count
from .features.sampling import Sample, sample_pairs
from .features.transform import Balance, balance
from .memory import check_fits

__all__ = ["Diagnosis", "Prediction", "diagnose"]

# The accuracies that are looked into, from rough to fine; the second decides on the regime.
TOLERANCES = (1e-1, 1e-2, 1e-3)
DECIDING = 1
# Degrees that are tried: beyond, the count of features is out of reach but for one or two
# directions, and the exact method is cheap for these.
LARGEST_DEGREE = 10
# Logits over a wider range than this are near no polynomial of such a degree.
WIDEST_RANGE = 40.0
# Operations of the moment form by features and width, and of the exact gradient by keys and width.
MOMENT_OPERATIONS = 4
EXACT_OPERATIONS = 10
# The moment form runs at about half of the rate of the exact kernel: it must save twice the work.
RATE = 2.0
# Relative rounding of the attention weights from which the numbers themselves are the trouble.
ROUNDING_TROUBLE = 1e-3


@dataclass(frozen=True)
class Prediction:
    """What one accuracy takes with a polynomial.

    Attributes
    ----------
    rtol : float
        The accuracy, as the error of eq. (106); that of a gradient is about the same.
    degree : int or None
        Smallest degree that reaches it on the sampled logits; None if none up to 10 does.
    features : int or None
        Monomials of this degree.
    error : float
        Reached at that degree; without one, the least that was reached.
    operations : float
        Of the moment form, for each row; infinite without a degree.
    exact_operations : float
        Of the exact gradient by X, for each row.
    """

    rtol: float
    degree: int | None
    features: int | None
    error: float
    operations: float
    exact_operations: float

    @property
    def gain(self) -> float:
        """How many times fewer operations than exact; 0 without a degree."""
        return self.exact_operations / self.operations if self.operations else 0.0


@dataclass(frozen=True)
class Diagnosis:
    """Statistics of queries and keys, and what follows from them.

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
        For the accuracies 0.1, 0.01 and 0.001.
    regime : str
        ``"near-linear"``, ``"borderline"`` or ``"exact"``.
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
        >>> print(ag.diagnose(q, k, scale=0.25).explain().splitlines()[-1])
        advice            ask for rtol: at 0.01, degree 2 with 15 features does it
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
    Source: docs/math.md, eq. (100), (101), (106). Cost O((n + m) E²), and a fixed sample of pairs.

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
    given, dtype = arrays.read_heads({"query": query, "key": key})
    for name, array in given.items():
        if array.ndim != 2:
            raise ShapeError(
                f"{name}: found shape {array.shape}; a matrix is wanted: pass one head at a time"
            )
    (n, width), m = given["query"].shape, len(given["key"])
    s = arguments.scale(scale, 1.0 / math.sqrt(max(width, 1)))
    # The copies, and float64 ones while means and covariances are taken.
    check_fits("diagnose", 5 * arrays.total_bytes(given))
    copies = arrays.snapshots(given, dtype, finite=True)
    change = balance(copies["query"], copies["key"], s, center_query=True)
    sample = sample_pairs(change, copies["query"], copies["key"], random)
    bound = change.logit_bound(copies["query"], copies["key"])
    largest_query, largest_key = (arrays.norm(copies[name], "max") for name in ("query", "key"))
    root = math.sqrt(largest_query) * math.sqrt(largest_key)
    B = math.sqrt(abs(s) * width) * root
    threshold_ratio = B / math.sqrt(math.log(max(n, m, 2)))
    predictions = _predictions(sample, bound, m, width)
    regime = _regime(predictions)
    return Diagnosis(
        n=n,
        m=m,
        width=width,
        scale=s,
        largest_query=largest_query,
        largest_key=largest_key,
        B=B,
        threshold_ratio=threshold_ratio,
        logit_bound=bound,
        logit_std=sample.spread,
        logit_range=sample.range,
        spectrum=tuple(float(value) for value in change.spectrum),
        effective_rank=_effective_rank(change),
        predictions=predictions,
        regime=regime,
        findings=tuple(_findings(predictions, threshold_ratio, sample, float(np.finfo(dtype).eps))),
        advice=_advice(regime, predictions, m),
    )


def _effective_rank(change: Balance) -> float:
    squares = np.square(change.spectrum / (np.max(change.spectrum, initial=0.0) or 1.0))
    total = float(np.sum(squares))
    return total**2 / float(np.sum(np.square(squares))) if total else 0.0


def _predictions(sample: Sample, bound: float, m: int, width: int) -> tuple[Prediction, ...]:
    """The smallest degree for each accuracy, from one rising sweep of degrees."""
    errors: list[float] = []
    low, high = sample.range
    if high - low <= WIDEST_RANGE:
        interval = logit_interval(sample, bound)
        for degree in range(LARGEST_DEGREE + 1):
            polynomial = fit_polynomial("least_squares", degree, interval, sample)
            errors.append(sample.error(polynomial(sample.logits)))
            if errors[-1] <= TOLERANCES[-1]:
                break
    return tuple(_prediction(rtol, errors, m, width) for rtol in TOLERANCES)


def _prediction(rtol: float, errors: list[float], m: int, width: int) -> Prediction:
    exact = float(EXACT_OPERATIONS * m * width)
    for degree, error in enumerate(errors):
        if error <= rtol:
            moments = MOMENT_OPERATIONS * feature_count(width, degree + 1) * (width + 1)
            return Prediction(
                rtol, degree, feature_count(width, degree), error, float(moments), exact
            )
    return Prediction(rtol, None, None, min(errors, default=math.inf), math.inf, exact)


def _regime(predictions: tuple[Prediction, ...]) -> str:
    if predictions[DECIDING].gain >= RATE:
        return "near-linear"
    borderline = predictions[DECIDING].gain >= 1.0 or predictions[0].gain >= RATE
    return "borderline" if borderline else "exact"


def _findings(
    predictions: tuple[Prediction, ...], threshold_ratio: float, sample: Sample, eps: float
) -> list[str]:
    """The three signatures of failure: rank too low, entries too large, magnitude."""
    findings = []
    deciding = predictions[DECIDING]
    if deciding.degree is None:
        findings.append(
            f"error too large: the rank is too low at every degree up to {LARGEST_DEGREE} "
            f"(error {deciding.error:.2g} at best, {deciding.rtol:g} wanted)"
        )
    elif deciding.gain < RATE:
        findings.append(
            f"time is not near-linear at this size: the entries are too large "
            f"(B / sqrt(log n) = {threshold_ratio:.3g}) for the number of keys; degree "
            f"{deciding.degree} needs {deciding.operations:.2g} operations a row, the exact "
            f"method {deciding.exact_operations:.2g}"
        )
    low = sample.range[0]
    # Powers of a logit t < 0 cancel down to e^t from e^-t.
    rounding = eps * math.exp(min(-2.0 * low, -math.log(eps)))
    if rounding > ROUNDING_TROUBLE:
        findings.append(
            f"numerical trouble: logits down to {low:.3g} lose up to {min(rounding, 1.0):.1g} of "
            "a weight to rounding in a polynomial; their magnitude is the reason"
        )
    return findings


def _advice(regime: str, predictions: tuple[Prediction, ...], m: int) -> str:
    deciding = predictions[DECIDING]
    if regime == "near-linear":
        return (
            f"ask for rtol: at {deciding.rtol:g}, degree {deciding.degree} "
            f"with {deciding.features} features does it"
        )
    if deciding.degree is None:
        rough = predictions[0]
        wish = f" (rtol = {rough.rtol:g} takes degree {rough.degree})" if rough.degree else ""
        return f"use the exact method, or make the logits smaller{wish}"
    if not deciding.exact_operations:
        return "use the exact method: all logits vanish, or there are no keys"
    keys = math.ceil(RATE * deciding.operations / deciding.exact_operations * m)
    wait = f"a polynomial of degree {deciding.degree} pays from about {keys} keys on"
    return f"use the exact method at this size; at rtol = {deciding.rtol:g} {wait}"


def _prediction_text(one: Prediction) -> str:
    if one.degree is None:
        return f"no degree up to {LARGEST_DEGREE}; error {one.error:.2g} at best"
    return (
        f"degree {one.degree}, {one.features} features, error {one.error:.1e}; "
        f"{one.operations:.2g} operations a row, exact {one.exact_operations:.2g}"
    )
