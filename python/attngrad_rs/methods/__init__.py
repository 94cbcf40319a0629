"""The methods there are. A new one is a file beside ``exact.py`` and a row in the table."""

from __future__ import annotations

from ..arguments import choice
from .base import Decision, Error, Forecast, HeadTask, Method, Outcome, Task
from .exact import EXACT
from .polynomial import POLYNOMIAL

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


def decided_by_shape(name: str, rtol: float | None) -> Decision | None:
    """The decision where no number of the arrays needs to be read for it."""
    if name == EXACT.name:
        return Decision(EXACT.name, reason="it was asked for by name")
    if name == AUTO and not rtol:
        asked = "None" if rtol is None else "0"
        return Decision(EXACT.name, reason=f"rtol is {asked}: nothing but rounding is allowed")
    return None


def choose(name: str, task: Task) -> Decision:
    """What the method of that name would run; of all, the one with the fewest operations.

    A method that would not run says why; its reason is given where another one is taken.
    """
    decided = decided_by_shape(name, task.tolerance.rtol)
    if decided is not None:
        return decided
    if name != AUTO:
        return METHODS[name].propose(task)
    proposals = [method.propose(task) for method in METHODS.values()]
    best = min(proposals, key=lambda one: one.operations)
    refused = [one.reason for one in proposals if one.method != best.method and one.reason]
    return best if best.reason else best._replace(reason="; ".join(refused))
