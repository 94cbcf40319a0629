"""Experiment ``propagation``: how an error in f, h, c, q, p1 or p2 alone moves the gradient.

Each quantity is disturbed where it is made, and all that is computed from it is computed again.
To first order ΔG = T Δ with a linear map T for each quantity; its factor is ‖ΔG‖/‖G‖ for a relative
error of one, ‖Δ‖ = ‖quantity‖.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from .base import FULL, Cell, Experiment, Point, Row, Tables, Verdict, point, select
from .charges import STEPS, charges
from .claims import RANKS
from .dense import attention, exponential, from_attention, steps
from .problems import Data, Matrix, generator, make
from .propagation_figure import QUANTITIES, draw
from .rows import numbers, real

__all__ = ["EXPERIMENT", "QUANTITIES", "disturbed", "factor_bound"]

WIDTH = 16
# Relative sizes of the disturbance: from where rounding is far below to where squares begin.
SIZES_OF_ERROR = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
FIRST_ORDER = 1e-5
# Relative, of the square of the factor of the worst disturbance.
EIGEN_TOL = 1e-4
# Not a quantity that is disturbed, but the library's own view of all of them.
CHARGES = "charges"
# Of gradients from the same rows by two ways, in float64.
SAME = 1e-10
# For what the difference quotient of a quadratic map loses at FIRST_ORDER.
SLACK = 1.01
# A factor this close to its bound is it, as far as the eigenvalues of EIGEN_TOL can tell.
ATTAINED = 1e-3


def points(size: str) -> list[Point]:
    """One for each family, bound and quantity."""
    n = 1024 if size == FULL else 512
    families = ("uniform", "clustered", "heads") if size == FULL else ("uniform", "heads")
    bounds = (0.5, 2.0) if size == FULL else (1.0,)
    found = [
        point(family=family, n=min(n, 1024) if family == "heads" else n, B=bound, quantity=quantity)
        for family in families
        for bound in bounds
        for quantity in QUANTITIES
    ]
    small = (0.25, 0.5, 1.0, 2.0) if size == FULL else (0.25, 1.0)
    return found + [
        point(family="uniform", n=1024 if size == FULL else 512, B=bound, quantity=CHARGES)
        for bound in small
    ]


def measure(family: str, n: int, B: float, quantity: str) -> Tables:
    """Factors of a random and of the worst disturbance, their bound and range; or the charges."""
    data = make(family, n, WIDTH, bound=B)
    if quantity == CHARGES:
        common: Row = {"family": family, "n": n, "B": B}
        return {"charge": [{**common, **row} for row in charges(data)]}
    f = attention(exponential(data))
    clean = _quantities(f, data)[quantity]
    truth = from_attention(f, data).by_X
    size = float(np.linalg.norm(truth))
    noise = generator("noise", family, n, quantity).standard_normal(clean.shape) * np.abs(clean)
    noise *= np.linalg.norm(clean) / np.linalg.norm(noise)

    def moved(delta: Matrix) -> Matrix:
        return disturbed(data, f, quantity, delta) - truth

    def derivative(delta: Matrix) -> Matrix:
        # The map is at most cubic: a central difference is right to the square of its step.
        return (moved(FIRST_ORDER * delta) - moved(-FIRST_ORDER * delta)) / (2.0 * FIRST_ORDER)

    random = float(np.linalg.norm(derivative(noise))) / size
    worst = _worst(derivative, data, f, quantity, clean) / size
    common = {"family": family, "n": n, "B": B, "quantity": quantity}
    curve: list[Row] = [
        {**common, "eps": eps, "moved": float(np.linalg.norm(moved(eps * noise))) / size}
        for eps in SIZES_OF_ERROR
    ]
    bound = factor_bound(data, f, quantity) / size
    row: Row = {**common, "random": random, "worst": worst, "bound": bound}
    return {"factor": [row], "curve": curve}


def _quantities(f: Matrix, data: Data) -> dict[str, Matrix]:
    parts = steps(f, data)
    return {"f": f, "h": data.value, "c": parts.c, "q": parts.q, "p1": parts.p1, "p2": parts.p2}


def disturbed(data: Data, f: Matrix, quantity: str, delta: Matrix) -> Matrix:
    """dL/dX with ``delta`` added to one quantity where it is made, eq. (1.5) - (2.5)."""
    add = {name: delta if name == quantity else 0.0 for name in QUANTITIES}
    f = f + add["f"]
    h = data.value + add["h"]
    c = f @ h - data.target + add["c"]
    q = c @ h.T + add["q"]
    p1 = f * q + add["p1"]
    r = np.sum(f * q, axis=1, keepdims=True)
    p = p1 - (r * f + add["p2"])
    return np.asarray(data.scale * data.query.T @ (p @ data.centred_key))


def _worst(
    derivative: Callable[[Matrix], Matrix], data: Data, f: Matrix, quantity: str, clean: Matrix
) -> float:
    """‖T‖ for disturbances of the size of the quantity: T Tᵀ has but d² rows."""
    width = data.query.shape[1]
    size = float(np.linalg.norm(clean))

    def square(g: Matrix) -> Matrix:
        """T Tᵀ g, by a difference whose step is of the size that it is meant for."""
        delta = _adjoint(data, f, quantity, g.reshape(width, width))
        norm = float(np.linalg.norm(delta))
        return derivative(delta * (size / norm)).ravel() * (norm / size)

    operator = LinearOperator((width**2, width**2), matvec=square, dtype=np.float64)
    start = generator("start", quantity).standard_normal(width**2)
    (largest,) = eigsh(operator, k=1, tol=EIGEN_TOL, v0=start, return_eigenvectors=False)
    return float(np.sqrt(largest)) * size


def _adjoint(data: Data, f: Matrix, quantity: str, g: Matrix) -> Matrix:
    """Tᵀ g: the derivative of ⟨g, dL/dX⟩ by the quantity, by the chain read backwards."""
    parts = steps(f, data)
    h, q = data.value, parts.q
    # ⟨g, s A1ᵀ p A2⟩ = ⟨P, p⟩, p = f ∘ q − r f, r = Σ f ∘ q.
    P = data.scale * data.query @ g @ data.centred_key.T
    weight = np.sum(P * f, axis=1, keepdims=True)
    r = np.sum(parts.p1, axis=1, keepdims=True)
    by_q = f * (P - weight)
    by_c = by_q @ h
    if quantity == "p1":
        return P
    if quantity == "p2":
        return -P
    if quantity == "q":
        return np.asarray(by_q)
    if quantity == "c":
        return np.asarray(by_c)
    if quantity == "h":
        # Through q = c hᵀ, and through c = f h − E.
        return np.asarray(by_q.T @ parts.c + f.T @ by_c)
    return np.asarray(P * (q - r) - weight * q + by_c @ h.T)


def factor_bound(data: Data, f: Matrix, quantity: str) -> float:
    """A bound of ‖T‖ · ‖quantity‖_F from norms of the factors alone.

    With a = s ‖A1‖₂ ‖A2‖₂: ‖ΔG‖ ≤ a ‖Δp‖_F. Row by row, ‖f_j‖₂ ≤ ‖f_j‖_max^½ and |r_j| ≤ ‖q_j‖_max.
    """
    parts = steps(f, data)
    a = data.scale * _norm(data.query) * _norm(data.centred_key)
    row = float(np.sqrt(np.max(np.sum(np.square(f), axis=1))))
    top = float(np.max(f))
    largest_q = float(np.max(np.abs(parts.q)))
    # Δp1 = f ∘ Δq; Δp2 = ⟨f, Δq⟩ f.
    by_q = top + row * row
    h, c = _norm(data.value), _norm(parts.c)
    longest_q = float(np.sqrt(np.max(np.sum(np.square(parts.q), axis=1))))
    factors = {
        "p1": 1.0,
        "p2": 1.0,
        "q": by_q,
        "c": by_q * h,
        "h": by_q * (c + _norm(f) * h),
        # Δp = Δf ∘ (q − r) − ⟨Δf, q⟩ f + what moves through c.
        "f": 2.0 * largest_q + longest_q * row + by_q * h * h,
    }
    return a * factors[quantity] * float(np.linalg.norm(_quantities(f, data)[quantity]))


def _norm(matrix: Matrix) -> float:
    """The largest singular value."""
    gram = matrix.T @ matrix if matrix.shape[0] > matrix.shape[1] else matrix @ matrix.T
    return float(np.sqrt(np.linalg.eigvalsh(gram)[-1]))


def summarise(tables: Tables) -> Tables:
    """For each quantity over all problems: factors, and how tight the bound is."""
    rows: list[Row] = []
    for quantity in QUANTITIES:
        factors = select(tables["factor"], quantity=quantity)
        random, worst, bound = (
            np.array(numbers(factors, name)) for name in ("random", "worst", "bound")
        )
        curves = [row for row in tables["curve"] if row["quantity"] == quantity]
        ratios = [_linearity(curves, row) for row in factors]
        rows.append(
            {
                "quantity": quantity,
                "median_random": float(np.median(random)), "largest_random": float(np.max(random)),
                "median_worst": float(np.median(worst)), "largest_worst": float(np.max(worst)),
                "median_bound": float(np.median(bound)),
                "median_bound_over_worst": float(np.median(bound / worst)),
                "largest_worst_over_bound": float(np.max(worst / bound)),
                "largest_random_over_worst": float(np.max(random / worst)),
                "largest_deviation": float(np.max(np.abs(np.array(ratios) - 1.0))),
            }
        )  # fmt: skip
    closest = max(rows, key=lambda row: real(row, "largest_worst_over_bound"))
    most = max(rows, key=lambda row: real(row, "median_random"))
    worst_row = max(rows, key=lambda row: real(row, "median_worst"))
    total: Row = {
        "dominant_random": most["quantity"], "dominant_worst": worst_row["quantity"],
        "closest_to_bound": closest["quantity"],
        "largest_median_random": most["median_random"],
        "largest_worst_over_bound": max(numbers(rows, "largest_worst_over_bound")),
        "largest_deviation": max(numbers(rows, "largest_deviation")),
        "row": "all",
    }  # fmt: skip
    return {"summary": rows, "total": [total], "charged": _charged(tables)}


def _charged(tables: Tables) -> list[Row]:
    """For each step over all that is certified: charge by error."""
    rows: list[Row] = []
    for step in (*STEPS, "gradient"):
        every = select(tables["charge"], step=step)
        ratios = [real(r, "ratio") for r in every if np.isfinite(real(r, "charged"))]
        rows.append(
            {
                "step": step, "problems": len(every), "certified": len(ratios),
                "least_ratio": min(ratios), "median_ratio": float(np.median(ratios)),
                "largest_ratio": max(ratios),
                "same_gradient": max(numbers(every, "same_gradient")),
            }
        )  # fmt: skip
    return rows


def _linearity(curves: list[Row], factor: Row) -> float:
    """What a relative error of 1e-3 moves, by what the first-order factor says."""
    where = {name: factor[name] for name in ("family", "n", "B", "quantity")}
    (row,) = select(curves, **where, eps=1e-3)
    return real(row, "moved") / (1e-3 * real(factor, "random"))


def verdicts(tables: Tables) -> list[Verdict]:
    """Bounds hold, factors are of first order, and one step dominates."""

    def cell(column: str, quantity: str) -> Cell:
        return Cell("summary", column, {"quantity": quantity})

    total = {"row": "all"}
    labels = {name: cell("median_random", name) for name in QUANTITIES}
    return [
        Verdict(
            lambda ratio, **_: (
                "The first-order factor of the worst disturbance never exceeds its bound from "
                "norms; "
                + (
                    "for {closest} it is attained."
                    if abs(ratio - 1.0) < ATTAINED
                    else "it comes closest for {closest}, to {ratio:.2f} of it."
                )
            ),
            {
                "ratio": Cell("total", "largest_worst_over_bound", total),
                "closest": Cell("total", "closest_to_bound", total),
            },
            lambda ratio, closest: ratio <= SLACK,
        ),
        Verdict(
            "A random relative error of 1e-3 moves the gradient as its first-order factor says: "
            "the two differ by {deviation:.0e} of it at most.",
            {"deviation": Cell("total", "largest_deviation", total)},
            lambda deviation: deviation < 0.05,
        ),
        Verdict(
            "A random relative error of ε in one step moves the gradient by (median) {f:.2g} ε "
            "for f, {h:.2g} ε for h, {c:.2g} ε for c, {q:.2g} ε for q, {p1:.2g} ε for p1, "
            "{p2:.2g} ε for p2.",
            labels,
        ),
        Verdict(
            "The step whose random error moves the gradient most is {random}; with errors in the "
            "worst direction it is {worst}.",
            {
                "random": Cell("total", "dominant_random", total),
                "worst": Cell("total", "dominant_worst", total),
            },
        ),
        Verdict(
            "In the worst direction the factors are {f:.3g} (f), {h:.3g} (h), {c:.3g} (c), "
            "{q:.3g} (q), {p1:.3g} (p1), {p2:.3g} (p2): so much more do errors of low rank cost "
            "that are aligned with the data.",
            {name: cell("median_worst", name) for name in QUANTITIES},
        ),
        Verdict(
            "Bounds from norms are {p1:.3g} (p1) to {f:.3g} (f) times the worst factor in the "
            "median.",
            {
                "f": cell("median_bound_over_worst", "f"),
                "p1": cell("median_bound_over_worst", "p1"),
            },
        ),
        *_charge_verdicts(),
    ]


def _charge_verdicts() -> list[Verdict]:
    """What the library's own certificate charges each step."""

    def charged(column: str, step: str) -> Cell:
        return Cell("charged", column, {"step": step})

    names = (*STEPS, "gradient")
    return [
        Verdict(
            "A rigorous certificate never charges a step less than its error; at least it charges "
            "{f:.3g} times that of f, {c:.3g} of c, {q:.3g} of q, {p1:.3g} of p1, {p2:.3g} of p2, "
            "and {gradient:.3g} of dL/dX.",
            {name: charged("least_ratio", name) for name in names},
            lambda **least: min(least.values()) >= 1.0,
        ),
        Verdict(
            "In the median it charges {f:.3g} times the error of f, {c:.3g} of c, {q:.3g} of q, "
            "{p1:.3g} of p1, {p2:.3g} of p2, and {gradient:.3g} times that of dL/dX: the slack "
            "grows along the chain.",
            {name: charged("median_ratio", name) for name in names},
        ),
        Verdict(
            "The approximate rows f̃ that are read out of the library lead to its own gradient, "
            "to {same:.0e}.",
            {"same": charged("same_gradient", "f")},
            lambda same: same < SAME,
        ),
    ]


def answer(tables: Tables) -> Verdict:
    """The cost of an error in a step: by chance, and as the certificate charges it."""
    total = {"row": "all"}
    return Verdict(
        "A random relative error of ε in a step moves the gradient by at most {random:.2g} ε in "
        "the median ({step}); the rigorous certificate charges {gradient:.0e} times the error that "
        "the gradient has.",
        {
            "random": Cell("total", "largest_median_random", total),
            "step": Cell("total", "dominant_random", total),
            "gradient": Cell("charged", "median_ratio", {"step": "gradient"}),
        },
    )


EXPERIMENT = Experiment(
    name="propagation",
    title="Error propagation through f, h, c, q, p1, p2",
    claim=RANKS,
    aim="Errors of low rank in the steps of the gradient: which one moves the result, by how much, "
    "and what a bound from norms would charge.",
    points=points,
    measure=measure,
    summarise=summarise,
    verdicts=verdicts,
    answer=answer,
    draw=draw,
)
