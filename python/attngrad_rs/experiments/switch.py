"""The bound of the entries at which the library turns to the exact method."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from ..diagnose import diagnose
from ..problem import plan_loss_gradient
from .base import Row
from .calls import EXACT, asked
from .problems import Data, make

__all__ = ["DIAGNOSE", "RTOLS", "switches", "turning_point"]

# What auto is asked for; and the advice of ``diagnose``, which is asked for nothing.
RTOLS = (1e-2, 1e-3)
DIAGNOSE = "diagnose"
NEAR_LINEAR = "near-linear"
# B/√log n is looked for between these, to this factor.
LEAST, MOST, STEP = 0.0625, 4.0, 1.02
# No n × n matrix is made.
DTYPE = np.float32

# Whether a near-linear method is taken for a problem, and why.
Question = Callable[[Data], tuple[bool, str]]


def turning_point(answer: Callable[[float], tuple[bool, str]]) -> float:
    """The largest ratio at which a near-linear method is taken, to a factor; 0 where it never is.

    By bisection: below it is taken, and above it is not, as far as was looked.
    """
    if not answer(LEAST)[0]:
        return 0.0
    low, high = LEAST, MOST
    while high > STEP * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if answer(middle)[0] else (low, middle)
    return low


def switches(n: int, d: int) -> list[Row]:
    """One row for each question: the switch by √log n, and the reason just beyond it."""
    unit = math.sqrt(math.log(n))
    flat = make("uniform", n, d)
    questions = {DIAGNOSE: _advice, **{asked(rtol): _plan(rtol) for rtol in RTOLS}}
    rows: list[Row] = []
    for name, question in questions.items():
        answer = partial(_answer, question, flat, unit)
        ratio = turning_point(answer)
        _, reason = answer(STEP * max(ratio, LEAST))
        rows.append({"asked": name, "switch": ratio, "switch_B": ratio * unit, "reason": reason})
    return rows


def _answer(question: Question, flat: Data, unit: float, ratio: float) -> tuple[bool, str]:
    """The answer to a question about the same problem with entries up to so many units."""
    bound = ratio * unit
    return question(replace(flat, query=bound * flat.query, key=bound * flat.key))


def _advice(data: Data) -> tuple[bool, str]:
    arguments = data.arguments(DTYPE)
    found = diagnose(arguments["A1"], arguments["A2"], scale=data.scale)
    return found.regime == NEAR_LINEAR, found.advice


def _plan(rtol: float) -> Question:
    def ask(data: Data) -> tuple[bool, str]:
        plan = plan_loss_gradient(**data.arguments(DTYPE), rtol=rtol)
        return plan.method != EXACT, plan.reason

    return ask
