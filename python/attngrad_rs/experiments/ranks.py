"""Experiment ``ranks``: ε-ranks of f, q, p1, p2, p from the SVD; no complexity assumption."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .base import FULL, Cell, Experiment, Point, Row, Tables, Verdict, point, select
from .claims import RANKS
from .dense import attention, epsilon_ranks, exponential, steps
from .hard import hard
from .plots import GREY, style
from .problems import Data, make, trained_head
from .rows import exponent, real, whole

__all__ = ["EXPERIMENT"]

WIDTH = 8
FIXED = 1e-3
MATRICES = ("f", "q", "p1", "p2", "p")
RANDOM, HARD, TRAINED = ("uniform", "gaussian"), "hard", "trained"
# Operations of the exact gradient for each row, key and column, and of factors for each row, rank
# and column: logits, output and gradient against two products with each pair of factors.
EXACT_OPERATIONS, FACTOR_OPERATIONS = 10.0, 8.0
HEADS_COUNT = 4


def points(size: str) -> list[Point]:
    """One for each instance, size and bound of the logits; trained heads as they are."""
    full = size == FULL
    sizes = (256, 512, 1024, 2048) if full else (128, 256, 512)
    reaches = (0.5, 2.0, 8.0, 32.0) if full else (1.0, 4.0, 16.0)
    found = [
        point(family=family, n=n, reach=reach, seed=0)
        for family in (*RANDOM, HARD)
        for n in sizes
        for reach in reaches
    ]
    tokens = tuple(n for n in sizes if n <= 1024)
    found += [
        point(family=TRAINED, n=n, reach=None, seed=seed)
        for n in tokens
        for seed in range(HEADS_COUNT)
    ]
    return found


def measure(family: str, n: int, reach: float | None, seed: int) -> Tables:
    """Ranks of one instance; ``reach`` is the largest logit that the entries allow, B²."""
    name, data = _instance(family, n, reach, seed)
    f = attention(exponential(data))
    parts = steps(f, data)
    matrices = {"f": f, "q": parts.q, "p1": parts.p1, "p2": parts.p2, "p": parts.p1 - parts.p2}
    rows: list[Row] = []
    for matrix, values in matrices.items():
        for target, eps, rank in zip(
            ("fixed", "1/n"), (FIXED, 1.0 / n), epsilon_ranks(values, (FIXED, 1.0 / n)), strict=True
        ):
            rows.append(
                {
                    "family": family, "instance": name, "n": n, "d": data.query.shape[1],
                    "reach": reach, "largest_logit": float(np.max(np.abs(data.logits))),
                    "logit_std": float(np.std(data.logits)), "matrix": matrix, "target": target,
                    "eps": eps, "rank": rank, "share": rank / n,
                    # What a pass with factors of this rank costs, by what exact costs.
                    "times_exact": FACTOR_OPERATIONS * rank / (EXACT_OPERATIONS * n),
                }
            )  # fmt: skip
    return {"rank": rows}


def _instance(family: str, n: int, reach: float | None, seed: int) -> tuple[str, Data]:
    if family == TRAINED or reach is None:
        return trained_head(n, seed)
    if family == HARD:
        return HARD, hard(n, reach, seed)
    return family, make(family, n, WIDTH, bound=math.sqrt(reach), seed=seed)


def summarise(tables: Tables) -> Tables:
    """Exponents of the ranks in n, and the extremes that the paper bounds."""
    rows: list[Row] = []
    ranks = tables["rank"]
    groups = dict.fromkeys((r["instance"], r["family"], r["reach"]) for r in ranks)
    for instance, family, reach in groups:
        for matrix in MATRICES:
            chosen = select(
                ranks, instance=instance, family=family, reach=reach, matrix=matrix, target="fixed"
            )
            last = chosen[-1]
            rows.append(
                {
                    "instance": instance, "family": family, "reach": reach, "matrix": matrix,
                    "logit_std": last["logit_std"],
                    "exponent": exponent(chosen, "n", "rank"),
                    "n": last["n"], "rank": last["rank"], "share": last["share"],
                }
            )  # fmt: skip
    return {"growth": rows, "total": [_total(ranks)]}


def _total(ranks: list[Row]) -> Row:
    """Largest rank of q by dv, of p1 by that of f times dv, of p2 by that of f."""

    def by(matrix: str, other: Row) -> float:
        where = {name: other[name] for name in ("instance", "family", "reach", "n", "target")}
        (row,) = select(ranks, **where, matrix=matrix)
        return real(row, "rank")

    f = select(ranks, matrix="f")
    return {
        "row": "all",
        "largest_q_over_dv": max(by("q", row) / real(row, "d") for row in f),
        "largest_p1_over_f_dv": max(by("p1", r) / (real(r, "rank") * real(r, "d")) for r in f),
        "largest_p1_over_f": max(by("p1", row) / real(row, "rank") for row in f),
        "median_p2_over_f": float(np.median([by("p2", r) / real(r, "rank") for r in f])),
    }


def _growth(family: str, reach: Any, column: str) -> Cell:
    where = {"family": family, "instance": family, "reach": reach, "matrix": "f"}
    return Cell("growth", column, where)


def verdicts(tables: Tables) -> list[Verdict]:
    """Ranks that the paper predicts, and what large entries do to them."""
    total = {"row": "all"}
    growth = select(tables["growth"], family="uniform", matrix="f")
    low, high = growth[0]["reach"], growth[-1]["reach"]

    cell = _growth
    trained = select(tables["growth"], family=TRAINED, matrix="f")
    narrow = min(trained, key=lambda row: real(row, "share"))
    wide = max(trained, key=lambda row: real(row, "share"))
    return [
        Verdict(
            "The rank of q never exceeds dv (at most {ratio:.0%} of it), as q = c hᵀ says.",
            {"ratio": Cell("total", "largest_q_over_dv", total)},
            lambda ratio: ratio <= 1.0,
        ),
        Verdict(
            "The ε-rank of p1 = f ∘ q goes up to {times:.1f} times that of f (at most {share:.0%} "
            "of the dv times that the paper's factors have); that of p2 is {p2:.2f} times that of "
            "f in the median.",
            {
                "times": Cell("total", "largest_p1_over_f", total),
                "share": Cell("total", "largest_p1_over_f_dv", total),
                "p2": Cell("total", "median_p2_over_f", total),
            },
        ),
        Verdict(
            f"Uniform entries, ε = 1e-3: with logits up to {low:g} the ε-rank of f grows like "
            f"n^{{slow:.2f}}, with logits up to {high:g} like n^{{fast:.2f}}, to {{share:.0%}} "
            "of n.",
            {
                "slow": cell("uniform", low, "exponent"),
                "fast": cell("uniform", high, "exponent"),
                "share": cell("uniform", high, "share"),
            },
            lambda slow, fast, share: slow < fast,
        ),
        Verdict(
            f"On the hard family it grows like n^{{slow:.2f}} (logits up to {low:g}) and "
            f"n^{{fast:.2f}} (up to {high:g}), to {{share:.0%}} of n: vectors of 15 bits repeat "
            "at these n.",
            {
                "slow": cell(HARD, low, "exponent"),
                "fast": cell(HARD, high, "exponent"),
                "share": cell(HARD, high, "share"),
            },
        ),
        Verdict(
            f"Trained heads: the ε-rank of f is {{narrow:.0%}} of n for {narrow['instance']} and "
            f"{{wide:.0%}} for {wide['instance']}.",
            {
                "narrow": Cell(
                    "growth", "share",
                    {"instance": narrow["instance"], "family": TRAINED, "matrix": "f"},
                ),
                "wide": Cell(
                    "growth", "share",
                    {"instance": wide["instance"], "family": TRAINED, "matrix": "f"},
                ),
            },
        ),
    ]  # fmt: skip


def answer(tables: Tables) -> Verdict:
    """The growth of the rank of f with small logits and with large ones."""
    growth = select(tables["growth"], family="uniform", matrix="f")
    low, high = growth[0]["reach"], growth[-1]["reach"]
    return Verdict(
        f"With logits up to {low:g} the ε-rank of f grows like n^{{slow:.2f}}, with logits up to "
        f"{high:g} like n^{{fast:.2f}}; p1 has at most {{times:.1f}} times the ε-rank of f.",
        {
            "slow": _growth("uniform", low, "exponent"),
            "fast": _growth("uniform", high, "exponent"),
            "times": Cell("total", "largest_p1_over_f", {"row": "all"}),
        },
    )


def draw(tables: Tables, figure: Any) -> None:
    """ε-rank of f against n, and of all matrices against the bound of the logits."""
    figure.set_size_inches(10.0, 4.6)
    left, right = figure.subplots(1, 2)
    ranks = select(tables["rank"], target="fixed")
    reaches = list(dict.fromkeys(r["reach"] for r in ranks if r["reach"] is not None))
    for number, reach in enumerate(reaches):
        rows = select(ranks, family="uniform", reach=reach, matrix="f")
        left.plot(
            [row["n"] for row in rows], [row["rank"] for row in rows], **style(number),
            label=f"uniform, logits up to {reach:g}",
        )  # fmt: skip
    names = list(dict.fromkeys(row["instance"] for row in select(ranks, family=TRAINED)))
    for number, instance in enumerate(names):
        rows = select(ranks, instance=instance, matrix="f")
        look = {**style(number), "color": GREY, "linestyle": "--", "fillstyle": "none"}
        left.plot([r["n"] for r in rows], [r["rank"] for r in rows], **look, label=instance)
    sizes = sorted({whole(row, "n") for row in ranks})
    left.plot(sizes, sizes, color="black", linestyle=":", label="n")
    left.set_xscale("log", base=2)
    left.set_xlabel("rows n")
    left.set_ylabel("ε-rank of f, ε = 1e-3")
    left.set_title("uniform entries, and trained heads (dashed)", fontsize="small")
    for number, matrix in enumerate(MATRICES):
        for family, line in (("uniform", "-"), (HARD, "--")):
            rows = select(ranks, family=family, n=sizes[-1], matrix=matrix)
            # p runs on top of p1, which is the larger part of it.
            look = {**style(number), "linestyle": line, "linewidth": 3.5 if matrix == "p1" else 1.2}
            right.plot(
                [row["reach"] for row in rows], [row["rank"] for row in rows], **look,
                fillstyle="full" if family == "uniform" else "none",
                label=matrix if family == "uniform" else None,
            )  # fmt: skip
    right.axhline(sizes[-1], color="black", linestyle=":", label="n")
    right.set_xscale("log", base=2)
    right.set_xlabel("bound of the logits B²")
    right.set_ylabel("ε-rank, ε = 1e-3")
    title = f"n = {sizes[-1]}; solid: uniform entries, dashed: the hard family"
    right.set_title(title, fontsize="small")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.legend(fontsize="x-small", ncols=2 if axes is left else 3)
        axes.grid(True, which="major", alpha=0.3)


EXPERIMENT = Experiment(
    name="ranks",
    title="Numerical rank, without SETH",
    claim=RANKS,
    aim="Any low-rank method pays for the ε-ranks of f, q, p1 and p2. How they grow with the "
    "entries and with n is measured, whatever is true of SETH.",
    points=points,
    measure=measure,
    summarise=summarise,
    verdicts=verdicts,
    answer=answer,
    draw=draw,
)
