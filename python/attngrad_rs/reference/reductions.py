"""Attention from gradients, as the paper's lower bound has it, and gradients from attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from .problem import Problem
from .softmax import Array

__all__ = ["calls_needed", "gradient_from_attention", "quadrature_bound"]

# softmax(query keyᵀ) value, without a scale.
Attention: TypeAlias = Callable[[Array, Array, Array], Array]


def quadrature_bound(calls: int, *, rows: int, reach: float, length: float) -> float:
    """At least the error of ‖o‖²_F from N calls of an exact gradient by Gauss–Legendre; (12.19).

    Parameters
    ----------
    calls : int
        N: gradients dL/dX(λX) at E = 0 and the N nodes λ in [0, 1].
    rows : int
        n.
    reach : float
        τ > 0, the largest difference of two logits of a row.
    length : float
        H, the largest norm of a row of h = A3 Y.

    Examples
    --------
    >>> error = quadrature_bound(12, rows=100, reach=4.0, length=1.0)
    >>> 1e-6 < error < 1e-5
    True
    """
    rate = _rate(reach)
    size = 32.0 * rows * reach * length**2
    return size * math.exp(-2.0 * calls * rate) / -math.expm1(-2.0 * rate)


def calls_needed(error: float, *, rows: int, reach: float, length: float) -> int:
    """The least N for which (12.19) is at most ε: O(max(1, τ) ln((1 + τ) n d / ε)), eq. (12.20).

    Examples
    --------
    >>> calls_needed(1e-6, rows=100, reach=4.0, length=1.0)
    13
    """
    at_zero = quadrature_bound(0, rows=rows, reach=reach, length=length)
    return max(math.ceil(math.log(at_zero / error) / (2.0 * _rate(reach))), 1)


def _rate(reach: float) -> float:
    """ln ρ of the Bernstein ellipse on which (12.18) holds: its smaller semi-axis is 4π/3τ."""
    return math.asinh(4.0 * math.pi / (3.0 * reach))


def gradient_from_attention(attention: Attention, problem: Problem) -> Array:
    """dL/dX from one call of any softmax attention, with d + (d + 1) dv columns of values; (12.25).

    Parameters
    ----------
    attention : function of (query, key, value)
        softmax(query keyᵀ) value, at scale 1.
    problem : Problem
        X one matrix, and no mask.

    Returns
    -------
    array (d1, d2)
        As exact as the attention: no entry of it is divided by anything.
    """
    key = problem.A2 - problem.A2.mean(axis=0)
    h = problem.h
    both = (key[:, :, None] * h[:, None, :]).reshape(len(key), -1)
    query = problem.scale * (problem.A1 @ problem.matrix_X)
    got = attention(query, key, np.hstack([h, key, both]))
    o, mean, both = np.split(got, [h.shape[1], h.shape[1] + key.shape[1]], axis=1)
    c = o - problem.E
    r = np.sum(c * o, axis=1, keepdims=True)
    w = np.einsum("jkl,jl->jk", both.reshape(len(c), key.shape[1], -1), c) - r * mean
    return np.asarray(problem.scale * problem.A1.T @ w)
