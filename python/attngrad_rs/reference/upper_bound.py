"""The paper's upper bound (Theorems 1.6 and D.6) with constants: errors, features, operations.

P stands for the exponential, with ``|P(t) e^-t − 1| ≤ δ`` on the range of all logits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .degrees import feature_count, log_feature_count, sufficient_degree
from .problem import Problem
from .softmax import Array

__all__ = [
    "StepErrors",
    "Work",
    "gradient_error",
    "operations",
    "step_errors",
    "weight_tolerance",
    "work_law",
]

# Beyond it the constants of (12.9) and (12.14) do not hold.
LARGEST_DELTA = 1.0 / 3.0


def gradient_error(problem: Problem, delta: float) -> float:
    """``4 δ |s| n ‖A1‖ ‖A2‖ H (H + H_E)``, at least the error of entries of dL/dX; eq. (12.14).

    ‖·‖ the largest entry, H and H_E the norms of the longest rows of h = A3 Y and of E; δ ≤ 1/3.
    """
    return _steepness(problem) * delta


def weight_tolerance(problem: Problem, error: float) -> float:
    """δ for which (12.14) says that all entries of dL/dX are within ε; at most 1/3."""
    steepness = _steepness(problem)
    return min(LARGEST_DELTA, error / steepness) if steepness > 0.0 else LARGEST_DELTA


def _steepness(problem: Problem) -> float:
    rows = [float(np.max(np.linalg.norm(A, axis=1), initial=0.0)) for A in (problem.h, problem.E)]
    entries = [float(np.max(np.abs(A), initial=0.0)) for A in (problem.A1, problem.A2)]
    count = abs(problem.scale) * len(problem.A1) * entries[0] * entries[1]
    return float(4.0 * count * rows[0] * (rows[0] + rows[1]))


class StepErrors(NamedTuple):
    """Bounds of the errors of f (n, m), c, q, p1 (n, m) and p2 (n, m), entry by entry."""

    f: Array
    c: float
    q: float
    p1: Array
    p2: Array


def step_errors(problem: Problem, delta: float) -> StepErrors:
    """Bounds of the paper's chain (Lemmas D.1 to D.5) for δ < 1; eq. (12.9) to (12.12)."""
    of = problem
    change = 2.0 * delta / (1.0 - delta)
    h, width = float(np.max(np.abs(of.h), initial=0.0)), of.h.shape[1]
    c = change * h
    q = width * c * h
    residual = float(np.max(np.abs(of.c), initial=0.0)) + c
    r = width * (c * h + residual * c)
    p1 = of.f * (change * np.abs(of.q) + (1.0 + change) * q)
    p2 = of.f * ((1.0 + change) * r + change * np.abs(of.r)[:, None])
    return StepErrors(change * of.f, c, q, p1, p2)


def operations(n: int, m: int, widths: tuple[int, int, int, int], degree: int) -> int:
    """At least the additions and multiplications of ``moment_gradient``; eq. (12.15).

    ``widths`` are d1, d2, d3, dv. For n = m it is (4 N_(g+1) + 2 N_g)(dv + 1) n, eq. (8.14), and
    what the monomials, their slopes and the products with weights and inputs take.

    Examples
    --------
    >>> operations(1000, 1000, (16, 16, 16, 16), 2) / ((4 * 969 + 2 * 153) * 17 * 1000) < 1.15
    True
    """
    d1, d2, d3, dv = widths
    low, high = feature_count(d2, degree), feature_count(d2, degree + 1)
    keys = (2 * dv + 3) * high + 2 * d3 * dv + 2 * d2
    queries = (2 * dv + 3) * low + (2 * dv + 5) * high + 4 * d1 * d2 + 4 * dv
    return m * keys + n * queries + (dv + 1) * low


class Work(NamedTuple):
    """The law at one n: degree, ln of the features, and the work as an exponent of n."""

    degree: int
    log_features: float
    exponent: float


def work_law(log2_n: float, bound: float, error: float | None) -> Work:
    """The work of (12.15) at n = 2^k with d = d_v = k, as a power of n; eq. (12.16).

    Entries of A1, A1 X and A2 are at most B, and rows of A3 Y and E at most √d long, as those of
    entries in [−1, 1]. The logits of centred keys are at most 2 B².

    Parameters
    ----------
    log2_n : float
        k.
    bound : float
        B.
    error : float, optional
        δ, the same at every n; unless given, what makes every entry of dL/dX right to 1/n.

    Examples
    --------
    >>> [round(work_law(k, 0.5, 1e-3).exponent, 2) for k in (20, 100, 1000)]
    [2.02, 1.31, 1.05]
    >>> [round(work_law(k, 0.5, None).exponent, 2) for k in (20, 100, 1000)]
    [2.67, 2.19, 1.88]
    """
    log_n = log2_n * math.log(2.0)
    # (12.14) at s = 1/d and H² = H_E² = d: δ = 1 / (8 n² B²).
    wanted = -math.log(8.0 * bound**2) - 2.0 * log_n if error is None else math.log(error)
    degree = sufficient_degree(2.0 * bound**2, wanted)
    log_features = log_feature_count(log2_n, degree + 1)
    return Work(degree, log_features, 1.0 + (log_features + math.log(6.0 * (log2_n + 1))) / log_n)
