"""The methods there are. A new one is a file beside ``exact.py`` and a row in the table."""

from __future__ import annotations

from ..arguments import Tolerance, choice
from .base import Decision, Error, Forecast, HeadTask, Method, Outcome, Task
from .exact import EXACT
from .polynomial import POLYNOMIAL, planned

__all__ = [
    "AUTO",
    "EXACT",
    "METHODS",
    "Decision",
    "Error",
    "Forecast",
    "HeadTask",
    "Method",
    "Outcome",
    "Task",
    "checked_name",
    "choose",
    "decided_by_shape",
]

AUTO = "auto"
METHODS: dict[str, Method] = {method.name: method for method in (EXACT, POLYNOMIAL)}


def checked_name(name: object) -> str:
    """A name of the table, or "auto".

    Raises
    ------
    OptionError, OptionTypeError
        For another one, naming those that there are.
    """
    return choice("method", name, (AUTO, *METHODS))


def decided_by_shape(name: str, tolerance: Tolerance) -> Decision | None:
    """The decision where no number of the arrays needs to be read for it."""
    if name == EXACT.name:
        return Decision(EXACT.name, reason="it was asked for by name")
    if name == AUTO and tolerance.is_exact:
        asked = "None" if tolerance.rtol is None else "0"
        return Decision(EXACT.name, reason=f"rtol is {asked}: nothing but rounding is allowed")
    return None


def choose(task: Task, *, foresee: bool = False) -> Decision:
    """What the planner of the core says, with its reason."""
    decided = decided_by_shape(task.named or AUTO, task.tolerance)
    return decided or planned(task, foresee=foresee)
