"""The methods there are. A new one is a file beside ``exact.py`` and a row in the table."""

from __future__ import annotations

from ..arguments import choice
from .base import Forecast, HeadTask, Method, Outcome, Task
from .exact import EXACT

__all__ = ["AUTO", "METHODS", "Forecast", "HeadTask", "Method", "Outcome", "Task", "choose"]

AUTO = "auto"
METHODS: dict[str, Method] = {method.name: method for method in (EXACT,)}


def choose(name: object, rtol: float | None) -> tuple[Method, str]:
    """The method to run, and the reason in words.

    Raises
    ------
    OptionError, OptionTypeError
        For a name that is not in the table, naming those that are.
    """
    chosen = choice("method", name, (AUTO, *METHODS))
    if chosen != AUTO:
        return METHODS[chosen], "it was asked for by name"
    if not rtol:
        asked = "None" if rtol is None else "0"
        return EXACT, f"rtol is {asked}: nothing but rounding is allowed"
    return EXACT, "it is the only method there is for this problem"
