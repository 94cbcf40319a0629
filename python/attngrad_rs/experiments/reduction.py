"""Experiment ``reduction``: the paper's reduction, run: attention out of an oracle for gradients.

L(X) − L(0) = ∫₀¹ ⟨dL/dX(λX), X⟩ dλ. With E = 0 it gives ‖o‖²_F; with E = 0 and E = e_j e_lᵀ, one
entry of o.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .._inputs.options import METHODS
from ..reference.reductions import quadrature_bound
from .approximations import Fit
from .base import FULL, Cell, Experiment, Point, Row, Tables, Value, Verdict, point, select
from .calls import EXACT
from .claims import HARD
from .dense import attention, exponential, gradient
from .hard import hard
from .oracle import (
    GAUSS,
    LEFT,
    exact_oracle,
    library_oracle,
    loss,
    loss_at_zero,
    nodes,
    recovered,
    second_derivative,
    slope,
    sum_bound,
)  # fmt: skip
from .problems import Data, generator, make
from .reduction_figure import DENSE, draw
from .rows import numbers, real, whole

__all__ = ["EXPERIMENT"]

HARD_FAMILY, GENERIC = "hard", "uniform"
FAMILIES = (HARD_FAMILY, GENERIC)
WIDTH = 16
ENTRIES = 8
ENTRY_NODES = 8
GROWTH_GRID = 21
DEGREES = (1, 2, 3, 4, 6, 8)
# Of the library's own features; those of degree 5 in 16 dimensions are 20 349.
LIBRARY_DEGREES = (1, 2, 3, 4)
ORACLE_NODES = 6
TARGET = 1e-2


def points(size: str) -> list[Point]:
    """Sums by both rules, entries, growth of the second derivative, and approximate oracles."""
    full = size == FULL
    n, calls = (2048, 512) if full else (512, 64)
    reaches = (2.0, 8.0, 16.0) if full else (2.0, 8.0)
    found = []
    for reach in reaches:
        found += [
            point(what="sum", family=HARD_FAMILY, n=n, B=reach, rule=rule, most=most)
            for rule, most in ((LEFT, calls), (GAUSS, 12))
        ]
        found += [
            point(
                what="oracle",
                family=HARD_FAMILY,
                n=min(n, 1024),
                B=reach,
                rule=GAUSS,
                most=max(DEGREES),
            )
        ]
    found.append(
        point(what="entry", family=HARD_FAMILY, n=n, B=reaches[-1], rule=GAUSS, most=ENTRY_NODES)
    )
    sizes = (256, 512, 1024, 2048) if full else (256, 512)
    found += [
        point(what="growth", family=family, n=rows, B=reach, rule="none", most=GROWTH_GRID)
        for family in FAMILIES
        for rows in sizes
        for reach in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    ]
    return found


def measure(what: str, family: str, n: int, B: float, rule: str, most: int) -> Tables:
    """One piece; B bounds the logits in both families."""
    data = _problem(family, n, B)
    common: Row = {"family": family, "n": n, "B": B}
    if what == "sum":
        return {"sum": [{**common, **row} for row in _sums(data, B, rule, most)]}
    if what == "entry":
        return {"entry": [{**common, **row} for row in _entries(data, most)]}
    if what == "oracle":
        return {"oracle": [{**common, **row} for row in _oracles(data)]}
    grid = np.linspace(0.0, 1.0, most)
    largest = max(abs(second_derivative(data, float(at))) for at in grid)
    scale = B * B * n * data.value.shape[1]
    return {"growth": [{**common, "largest": largest, "by_law": largest / scale}]}


def _problem(family: str, n: int, B: float) -> Data:
    """Logits reach B: those of generic problems are at most the square of the entries."""
    if family == HARD_FAMILY:
        return hard(n, B)
    data = make(family, n, WIDTH, bound=math.sqrt(B))
    bits = generator("bits", n).integers(0, 2, data.value.shape).astype(float)
    return replace(data, value=bits, target=np.zeros_like(bits))


def _sums(data: Data, B: float, rule: str, most: int) -> list[Row]:
    truth = 2.0 * loss(data)
    change = abs(truth - 2.0 * loss_at_zero(data))
    counts = [2**k for k in range(most.bit_length())] if rule == LEFT else range(1, most + 1)
    length = float(np.linalg.norm(data.value, axis=1).max())
    rows: list[Row] = []
    for count in counts:
        got = 2.0 * recovered(exact_oracle, data, rule, count)
        if rule == LEFT:
            # ‖o‖² is twice the loss.
            bound = 2.0 * sum_bound(data, B, count)
        else:
            # Logits are in [0, B].
            bound = quadrature_bound(count, rows=len(data.query), reach=B, length=length)
        rows.append(
            {
                "rule": rule, "calls": count, "square_norm": truth, "recovered": got,
                "change": change, "error": abs(got - truth), "relative": abs(got - truth) / change,
                "bound": bound,
            }
        )  # fmt: skip
    return rows


def _entries(data: Data, count: int) -> list[Row]:
    """Some entries by polarisation, o_jl(X) − o_jl(0) = ∫ ⟨dL(E = 0) − dL(E = e_j e_lᵀ), X⟩ dλ."""
    output = attention(exponential(data)) @ data.value
    rng = generator("entries", len(output))
    n, dv = output.shape
    at, weights = nodes(GAUSS, count)
    base = [slope(exact_oracle, data, float(one)) for one in at]
    rows: list[Row] = []
    for number in range(ENTRIES):
        j, entry = int(rng.integers(n)), int(rng.integers(dv))
        target = np.zeros_like(output)
        target[j, entry] = 1.0
        single = replace(data, target=target)
        moved = [slope(exact_oracle, single, float(one)) for one in at]
        got = float(data.value[:, entry].mean() + np.dot(weights, np.subtract(base, moved)))
        rows.append(
            {
                "entry": number, "row": j, "column": entry, "truth": float(output[j, entry]),
                "recovered": got, "error": abs(got - float(output[j, entry])), "nodes": count,
                "calls_for_all": count * (1 + n * dv),
            }
        )  # fmt: skip
    return rows


def _oracles(data: Data) -> list[Row]:
    """‖o‖² recovered with approximate oracles.

    The dense gradient of a polynomial in the place of exp, and the library's approximate methods.
    """
    truth = 2.0 * loss(data)
    change = abs(truth - 2.0 * loss_at_zero(data))
    at, weights = nodes(GAUSS, ORACLE_NODES)
    fits = {float(one): Fit(replace(data, query=one * data.query)) for one in at}
    found = {
        (DENSE, degree): [_polynomial_slope(data, one, fit, degree) for one, fit in fits.items()]
        for degree in DEGREES
    }
    for name in METHODS:
        for degree in LIBRARY_DEGREES if name != EXACT else ():
            library = library_oracle(name, degree)
            found[name, degree] = [slope(library, data, one) for one in fits]
    rows: list[Row] = []
    for (oracle_name, degree), slopes in found.items():
        got = 2.0 * (loss_at_zero(data) + float(np.dot(weights, slopes)))
        error = abs(got - truth) / change
        rows.append(
            {
                "oracle": oracle_name,
                "degree": degree,
                "recovered": got,
                "relative": error if np.isfinite(error) else math.inf,
            }
        )
    return rows


def _polynomial_slope(data: Data, at: float, fit: Fit, degree: int) -> float:
    polynomial = fit.polynomial("least_squares", degree)
    if polynomial is None:
        return math.nan
    return slope(lambda scaled: gradient(polynomial(scaled.logits), scaled).by_X, data, at)


def summarise(tables: Tables) -> Tables:
    """Calls for one per cent, worst entries, and exponents of the second derivative."""
    rows: list[Row] = []
    for B in dict.fromkeys(row["B"] for row in tables["sum"]):
        row: Row = {"B": B}
        for rule, name in ((LEFT, "left"), (GAUSS, "gauss")):
            sums = select(tables["sum"], B=B, rule=rule)
            reached = [whole(r, "calls") for r in sums if real(r, "relative") <= TARGET]
            row[f"{name}_calls"] = min(reached, default=math.inf)
            row[f"{name}_best"] = min(numbers(sums, "relative"))
            row[f"{name}_most"] = max(numbers(sums, "calls"))
            ratios = [real(r, "error") / real(r, "bound") for r in sums]
            row[f"{name}_error_over_bound"] = max(ratios)
        oracle = select(tables["oracle"], B=B)
        row["oracle_at_2"] = select(oracle, oracle=DENSE, degree=2)[0]["relative"]
        row["oracle_best"] = min(numbers(oracle, "relative"))
        library = [r for r in oracle if r["oracle"] != DENSE]
        best = min(library, key=lambda r: real(r, "relative"))
        row["library_best"], row["library_best_degree"] = best["relative"], best["degree"]
        row["library_at_2"] = next(r["relative"] for r in library if r["degree"] == 2)
        rows.append(row)
    errors = numbers(tables["entry"], "error")
    entries: Row = {
        "row": "all", "largest_error": max(errors), "nodes": tables["entry"][0]["nodes"],
        "calls_for_all": tables["entry"][0]["calls_for_all"],
    }  # fmt: skip
    return {
        "calls": rows,
        "entries": [entries],
        "exponent": [_exponents(tables, f) for f in FAMILIES],
    }


def _exponents(tables: Tables, family: str) -> Row:
    """Least-squares exponents of sup |F''| ~ B^a n^b, and the largest value by B² n dv."""
    rows = select(tables["growth"], family=family)
    table = np.array([[real(r, c) for c in ("B", "n", "largest", "by_law")] for r in rows])
    logs = np.log(table[:, :3])
    small = table[:, 0] <= 4.0
    columns = np.column_stack([logs[:, 0], logs[:, 1], np.ones(len(logs))])
    (a, b, _), *_ = np.linalg.lstsq(columns[small], logs[small, 2], rcond=None)
    return {
        "family": family, "exponent_of_B": float(a), "exponent_of_n": float(b),
        "largest_by_law": float(table[:, 3].max()),
        "by_law_at_largest_B": float(table[table[:, 0] == table[:, 0].max(), 3].max()),
    }  # fmt: skip


def _calls(column: str, B: Value) -> Cell:
    return Cell("calls", column, {"B": B})


def _left_sum(B: Value) -> Verdict:
    def text(left: float, **_: object) -> str:
        reached = "{left:.0f}" if math.isfinite(left) else "more than {most:.0f}"
        return (
            f"With logits up to B = {B:g} the left sum stays within its bound (9/16) B² n dv/m (at "
            f"most {{ratio:.2%}} of it); to recover the change to one per cent takes {reached} "
            "calls of the oracle (powers of two were tried), and by Gauss–Legendre {gauss:.0f}."
        )

    return Verdict(
        text,
        {
            "ratio": _calls("left_error_over_bound", B), "left": _calls("left_calls", B),
            "most": _calls("left_most", B), "gauss": _calls("gauss_calls", B),
        },
        lambda ratio, left, most, gauss: ratio <= 1.0 and gauss < left,
    )  # fmt: skip


def _gauss(B: Value) -> Verdict:
    return Verdict(
        f"By Gauss–Legendre with logits up to {B:g} the error of ‖o‖² is below the bound that "
        "Theorem 12.11 proves, at most {ratio:.0e} of it with up to {most:.0f} calls.",
        {"ratio": _calls("gauss_error_over_bound", B), "most": _calls("gauss_most", B)},
        lambda ratio, most: ratio <= 1.0,
    )


def _growth_law(family: str, start: str, late: str) -> Verdict:
    def cell(column: str) -> Cell:
        return Cell("exponent", column, {"family": family})

    return Verdict(
        start + " sup |d²L/dλ²| grows like B^{a:.2f} n^{b:.2f} (B ≤ 4) and is at most {most:.2g} "
        "B² n dv, where 9/16 B² n dv is proved" + late,
        {
            "a": cell("exponent_of_B"), "b": cell("exponent_of_n"), "most": cell("largest_by_law"),
            "late": cell("by_law_at_largest_B"),
        },
        lambda a, b, most, late: most <= 9.0 / 16.0,
    )  # fmt: skip


def verdicts(tables: Tables) -> list[Verdict]:
    """The reduction works; what it costs; what growth and approximation do."""
    reaches = [row["B"] for row in tables["calls"]]
    first, last = reaches[0], reaches[-1]
    return [
        *map(_left_sum, reaches),
        *map(_gauss, reaches),
        Verdict(
            lambda error: (
                "Gauss–Legendre recovers ‖o‖² to "
                + ("{error:.0e}" if error else "the last bit")
                + ": who has gradients has attention."
            ),
            {"error": _calls("gauss_best", first)},
            lambda error: error < 1e-9,
        ),
        Verdict(
            "Single entries of the output are recovered to {error:.0e} by polarisation with "
            "{nodes} nodes; the whole output would take {calls} calls.",
            {
                "error": Cell("entries", "largest_error", {"row": "all"}),
                "nodes": Cell("entries", "nodes", {"row": "all"}),
                "calls": Cell("entries", "calls_for_all", {"row": "all"}),
            },
            lambda error, nodes, calls: error < 1e-3,
        ),
        _growth_law(HARD_FAMILY, "On the hard family", "; at the largest B it is {late:.2g}."),
        _growth_law(GENERIC, "On generic instances", "."),
        Verdict(
            "An approximate oracle of degree 2 recovers ‖o‖² to {small:.0e} at the smallest B, "
            "and to {large:.0e} at the largest.",
            {"small": _calls("oracle_at_2", first), "large": _calls("oracle_at_2", last)},
        ),
        Verdict(
            "The library's approximate method of degree 2 as the oracle recovers it to {small:.0e} "
            "at the smallest B and to {large:.0e} at the largest, where the exact oracle is at "
            "{exact:.0e}; its best degree up to 4 there leaves {best:.0e}.",
            {
                "small": _calls("library_at_2", first), "large": _calls("library_at_2", last),
                "best": _calls("library_best", last), "exact": _calls("gauss_best", last),
            },
            # Near-linear oracles must fail where attention is hard.
            lambda small, large, best, exact: small < large and best > exact,
        ),
    ]  # fmt: skip


def answer(tables: Tables) -> Verdict:
    """The number of gradients that give the attention away."""
    last = tables["calls"][-1]["B"]
    return Verdict(
        f"With logits up to {last:g}, {{gauss:.0f}} calls of a gradient oracle recover "
        "‖attention output‖² to one per cent, and a near-linear oracle leaves {best:.0e} of it.",
        {"gauss": _calls("gauss_calls", last), "best": _calls("library_best", last)},
    )


EXPERIMENT = Experiment(
    name="reduction",
    title="The reduction: attention out of gradients",
    claim=HARD,
    aim="The paper's hardness proof, executable: integrating a gradient oracle gives ‖attention "
    "output‖²_F and any entry, so gradients cannot be easier than attention.",
    points=points,
    measure=measure,
    summarise=summarise,
    verdicts=verdicts,
    answer=answer,
    draw=draw,
)
