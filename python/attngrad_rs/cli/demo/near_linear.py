"""Exact and near-linear side by side on small entries: time, certificates and true errors."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._inputs import arrays
from ...problem import loss_gradient

__all__ = ["NearRow", "run"]

# Entries uniform in [-1, 1] at the paper's scale: its regime, at a length where it shows.
TOKENS, WIDTH = 32768, 16
REPEATS = 3
FIXED: dict[str, Any] = {"method": "polynomial", "certificate": "estimated"}
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("exact", {}),
    ("degree 1", FIXED | {"degree": 1}),
    ("degree 2", FIXED | {"degree": 2}),
    ("degree 3", FIXED | {"degree": 3}),
    ("rtol 1e-2", {"rtol": 1e-2}),
    ("rtol 1e-3", {"rtol": 1e-3}),
    ("rtol 1e-2, statistical", {"rtol": 1e-2, "certificate": "statistical"}),
)


@dataclass(frozen=True)
class NearRow:
    """One call. Errors are relative and Frobenius, against the exact gradient in float64."""

    call: str
    method: str
    degree: int | None
    samples: int | None
    seconds: float
    times_exact: float
    error: float
    certificate: float
    kind: str


def problem(dtype: str, tokens: int = TOKENS) -> dict[str, Any]:
    """Uniform entries, a normal target, X and Y the identity."""
    rng = np.random.default_rng(0)
    sides = {name: rng.uniform(-1.0, 1.0, (tokens, WIDTH)) for name in ("A1", "A2", "A3")}
    eye = np.eye(WIDTH)
    made = sides | {"X": eye, "Y": eye, "E": rng.standard_normal((tokens, WIDTH))}
    return {name: array.astype(dtype) for name, array in made.items()}


def run(
    dtype: str,
    threads: int | None,
    progress: Callable[[float], object],
    tokens: int = TOKENS,
    repeats: int = REPEATS,
) -> list[NearRow]:
    """Every call of the table; times are medians after one call that warms up."""
    given = problem(dtype, tokens)
    wide = {name: array.astype(np.float64) for name, array in given.items()}
    truth = loss_gradient(**wide, threads=threads).gradient
    rows: list[NearRow] = []
    for number, (call, options) in enumerate(CALLS):
        progress((number + 1) / (len(CALLS) + 1))
        result = loss_gradient(**given, **options, threads=threads)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            loss_gradient(**given, **options, threads=threads)
            seconds.append(time.perf_counter() - start)
        median = statistics.median(seconds)
        error = arrays.norm(result.gradient.astype(np.float64) - truth) / arrays.norm(truth)
        rows.append(
            NearRow(
                call=call,
                method=result.plan.method,
                degree=result.plan.degree,
                samples=result.plan.samples,
                seconds=median,
                times_exact=(rows[0].seconds if rows else median) / median,
                error=error,
                certificate=result.certificate.relative,
                kind=result.certificate.kind,
            )
        )
    progress(1.0)
    return rows
