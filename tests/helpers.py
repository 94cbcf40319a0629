"""Comparisons that can fail, and the truths they compare with.

`assert_ratio` is the one way to hold an error against a bar: NaN fails, and a zero scale asks for
equality.
"""

from __future__ import annotations

import functools
from typing import Any

import flint
import mpmath
import numpy as np
import numpy.typing as npt
from hypothesis import settings

from attngrad_rs import reference
from strategies import Case

Array = npt.NDArray[Any]

# Bits of the balls: enough that their radii are nothing beside float64's rounding.
BALL_BITS = 128
# Digits of the differences: h = 10^-20 in 60 digits leaves 20 digits of the derivative and more.
DIGITS = 60

# Truths that a test looks at again and again, with their scales: those of its last few problems.
KEPT_TRUTHS = 8

_mp_exp = np.frompyfunc(mpmath.exp, 1, 1)
_ball_exp = np.frompyfunc(lambda x: x.exp(), 1, 1)
# For properties of the reference alone, which changes seldom and is what all else is held against:
# a quarter of the examples that the library gets.
ALGEBRA = settings(max_examples=settings().max_examples // 4)


def ratio(got: Any, want: Any, scale: Any) -> float:
    """max |got - want| / scale; infinite for NaN, for an infinity, or an error where scale is 0."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"shape {got.shape}, wanted {want.shape}"
    if got.size == 0:
        return 0.0
    with np.errstate(all="ignore"):
        error = np.abs(got - want)
        scaled = np.where(error == 0, np.zeros_like(error), error / np.asarray(scale))
    worst = np.max(scaled)
    return float(worst) if np.isfinite(worst) else float("inf")


def assert_ratio(got: Any, want: Any, scale: Any, bar: float, what: str) -> float:
    """|got - want| <= bar * scale, entry by entry; returns the worst ratio."""
    worst = ratio(got, want, scale)
    assert worst <= bar, (
        f"{what}: error is {worst:.3g} times its scale; at most {bar:.3g} is allowed"
    )
    return worst


def assert_close(got: Any, want: Any, bar: float, what: str) -> None:
    """max |got - want| <= bar * max(|got|, |want|): for results of one common size."""
    size = max(largest(got), largest(want))
    assert_ratio(got, want, size, bar, what)


def largest(array: Any) -> Any:
    return np.max(np.abs(np.asarray(array)), initial=0)


def assert_same_bits(got: Any, want: Any, what: str) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, wanted {want.dtype}"
    assert got.shape == want.shape, f"{what}: shape {got.shape}, wanted {want.shape}"
    assert got.tobytes() == want.tobytes(), f"{what}: the bits differ"


def frobenius(array: Any) -> Any:
    """The Frobenius norm, without overflow or underflow on the way."""
    array = np.asarray(array)
    size = largest(array)
    if size == 0 or not np.isfinite(size):
        return size
    return size * np.sqrt(np.sum((array / size) ** 2))


def problem(case: Case, dtype: Any = None, **options: Any) -> reference.Problem:
    """The reference's view of a case, in its own dtype or widened to another."""
    case = case if dtype is None else case.widened(dtype)
    return reference.Problem(*case.args, **case.options, **options)


def truth(case: Case) -> reference.Problem:
    """The same numbers in extended precision (80 bits): truth for float32 and for float64."""
    return _kept_truth(case) if case.is_small else problem(case, np.longdouble)


@functools.lru_cache(maxsize=KEPT_TRUTHS)
def _kept_truth(case: Case) -> reference.Problem:
    return problem(case, np.longdouble)


def truth_f64(case: Case) -> reference.Problem:
    """The same numbers in float64: truth for float32 at sizes where extended precision is slow."""
    return problem(case, np.float64)


def _objects(case: Case, number: Any) -> Case:
    def change(array: Array) -> Array:
        out = np.empty(array.shape, dtype=object)
        for index, value in np.ndenumerate(array):
            out[index] = number(float(value))
        return out

    return case.mapped(change)


def ball_problem(case: Case) -> reference.Problem:
    """The same numbers as balls that enclose every result. Call within `flint.ctx` of BALL_BITS."""
    balls = _objects(case, flint.arb)
    options = {**case.options, "scale": flint.arb(case.scale)}
    return reference.Problem(*balls.args, **options, exp=_ball_exp)


def digits_problem(case: Case) -> reference.Problem:
    """The same numbers in mpmath; call within `mpmath.workdps(DIGITS)`."""
    numbers = _objects(case, mpmath.mpf)
    options = {**case.options, "scale": mpmath.mpf(case.scale)}
    return reference.Problem(*numbers.args, **options, exp=_mp_exp)


def to_digits(array: Array) -> Array:
    """Extended-precision numbers as mpmath's, without loss: mpmath reads float64 only."""
    high = array.astype(np.float64)
    low = (array - high).astype(np.float64)
    as_digits = np.frompyfunc(lambda a, b: mpmath.mpf(float(a)) + mpmath.mpf(float(b)), 2, 1)
    return np.asarray(as_digits(high, low))


# Weights below this part of the row's largest are zero: docs/math.md, section 5. The reference in
# another precision drops what underflows, and nothing before.
DROPPED = {"float32": 2.0**-99, "float64": 2.0**-959}


def absolute_sums(problem: reference.Problem, dtype: Any) -> dict[str, Array]:
    """The sums behind each gradient, o, c and p, with absolute values throughout: their scale.

    h, o and c too are taken with absolute values, so that cancellation in o - E counts as rounding.
    A weight below DROPPED may be lost whole, however much the weights X multiply it by: each f
    counts as at least that number / eps.
    """
    A1, A2, A3, Y, X = (abs(getattr(problem, name)) for name in ("A1", "A2", "A3", "Y", "matrix_X"))
    if problem.is_pair:
        W_Q, W_K = abs(problem.W_Q), abs(problem.W_K)
        X = W_Q @ W_K.T
    s = abs(problem.scale)
    info = np.finfo(dtype)
    f = problem.f + problem.seen * (DROPPED.get(np.dtype(dtype).name, info.tiny) / info.eps)
    with np.errstate(all="ignore"):
        h = A3 @ Y
        o = f @ h
        c = o + abs(problem.E)
        p = f * (c @ h.T) + np.sum(c * o, axis=1)[:, None] * f
        sums = {
            "o": o,
            "c": c,
            "p": p,
            "loss": np.sum(c * c) / 2,
            "X": s * A1.T @ (p @ A2),
            "Y": A3.T @ (f.T @ c),
            "A1": s * (p @ A2) @ X.T,
            "A2": s * (p.T @ A1) @ X,
            "A3": (f.T @ c) @ Y.T,
        }
        if problem.is_pair:
            sums["W_Q"] = s * A1.T @ (p @ (A2 @ W_K))
            sums["W_K"] = s * A2.T @ (p.T @ (A1 @ W_Q))
    return sums


def error_scale(problem: reference.Problem, dtype: Any) -> float:
    """eps * (1 + L + log2 max(n, m)), L the largest logit in absolute terms: eq. (5.13)."""
    n, m = problem.S.shape
    pair = problem.is_pair
    queries = abs(problem.A1 @ (problem.W_Q if pair else problem.matrix_X))
    keys = abs(problem.A2 @ problem.W_K) if pair else abs(problem.A2)
    length = float(largest(problem.scale * (queries @ keys.T))) + np.log2(max(n, m, 1))
    return float(np.finfo(dtype).eps) * (1.0 + length)


def directional(values: Any, step: Any) -> Any:
    """Central difference from f(+step) and f(-step)."""
    high, low = values
    return (high - low) / (2 * step)


# Eq. (5.13) of docs/math.md: the accuracy that is promised of every entry of every result.
PROMISE = 30.0


def assert_promise(got: Any, want: reference.Problem, name: str, dtype: Any, what: str) -> float:
    """Entries of `name` (a gradient, "o", "loss") against `want` by eq. (5.13); returns the ratio.

    `want` is the problem in a wider type. What underflows in `dtype` is allowed for: a result may
    miss by the smallest normal number where the sums themselves are that small.
    """
    attribute = name if name in ("o", "loss", "p") else f"d{name}"
    scale = error_scale(want, dtype) * absolute_sums(want, dtype)[name] + np.finfo(dtype).tiny
    return assert_ratio(got, getattr(want, attribute), scale, PROMISE, f"{what}: {name}")
