"""The statements of the paper that the experiments look into."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLAIMS", "HARD", "PRACTICE", "RANKS", "SMALL", "THRESHOLD", "Claim"]


@dataclass(frozen=True)
class Claim:
    """One statement.

    Attributes
    ----------
    key, title : str
        Its short name, fit for an anchor, and its heading.
    statement : str
        It, in a sentence or two.
    """

    key: str
    title: str
    statement: str


SMALL = Claim(
    "small-entries",
    "Small entries: almost linear time",
    "The upper bound of Alman and Song: for entries up to B = o(√log n) the gradient is computed "
    "to 1/poly(n) in time n^(1+o(1)), with a polynomial of low degree in the place of exp.",
)
RANKS = Claim(
    "low-rank",
    "Low rank on the way to the gradient",
    "Their Lemmas D.1 to D.5: f, c, q, p1 and p2 have factors of low rank, and errors in them "
    "carry over to the gradient by a bounded factor.",
)
THRESHOLD = Claim(
    "threshold",
    "One threshold, B = Θ(√log n), for output and gradient",
    "Their headline: the gradient is as easy, and as hard, as the attention that it belongs to; "
    "what decides is the bound B of the entries.",
)
HARD = Claim(
    "large-entries",
    "Large entries: no truly subquadratic time under SETH",
    "Their lower bound, for B = ω(√log n): an oracle for gradients gives the output of attention, "
    "and attention decides orthogonal vectors.",
)
PRACTICE = Claim(
    "failures",
    "Beyond the paper: how failure shows",
    "Where the conditions of the theorem do not hold, errors, time or rounding grow; a user "
    "should be told which of them.",
)
CLAIMS = (SMALL, RANKS, THRESHOLD, HARD, PRACTICE)
