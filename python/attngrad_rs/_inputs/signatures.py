"""Signatures and documentation of functions that share options: each said once, and shown by all.

An option has one type, in a ``TypedDict`` for type checkers, one default, in ``Options``, and one
paragraph, in the docstring of the function that others refer to by ``As in``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from inspect import Parameter
from typing import Any, TypeVar

from .options import Options

T = TypeVar("T", bound=Callable[..., Any])

# Parameters in a docstring by numpydoc, and an entry there: names, type, and the text below.
SECTION = re.compile(r"(?<=Parameters\n-{10}\n).*?(?=\n\n\w+\n---|\Z)", re.DOTALL)
ENTRY = re.compile(r"^(\*{0,2}\w[\w, ]*)( : .*)?((?:\n+ {4}.*)+)", re.MULTILINE)
REFERENCE = re.compile(r"\s+As in ``(\w+)``\.?(.*)", re.DOTALL)
# The entry for all parameters that have none.
OTHERS = "**options"


def accepting(kind: type) -> Callable[[T], T]:
    """Show options, a ``TypedDict``, in the signature of a function that takes them by name."""

    def shown(function: T) -> T:
        given = inspect.signature(function)
        own = [one for one in given.parameters.values() if one.kind is not one.VAR_KEYWORD]
        # Types stay words, as those of the function itself: read at import they would bring all
        # modules that they name, numpy.random among them.
        hints = kind.__annotations__
        for name, default in Options._field_defaults.items():
            if name in hints:
                words = getattr(hints[name], "__forward_arg__", hints[name])
                option = Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=words)
                own.append(option)
        made: Any = function
        made.__signature__ = given.replace(parameters=own)
        return function

    return shown


def documented(*sources: Callable[..., Any]) -> Callable[[T], T]:
    """Put the paragraphs of ``sources`` in the place of ``As in`` and the name of one of them.

    A remark after it is kept, below the paragraph; an entry ``**options`` stands for all parameters
    that have none. Nothing happens where Python runs without docstrings.
    """

    def told(function: T) -> T:
        known = {source.__name__: dict(_entries(_section(source))) for source in sources}
        own = dict(_entries(_section(function)))
        others = [name for name in inspect.signature(function).parameters if name not in own]

        def whole(entry: re.Match[str]) -> str:
            reference = REFERENCE.fullmatch(entry[3])
            if not reference or reference[1] not in known:
                return entry[0]
            names = others if entry[1] == OTHERS else entry[1].split(", ")
            return "\n".join(f"{known[reference[1]][name]}{reference[2]}" for name in names)

        if function.__doc__ is not None:
            doc = inspect.cleandoc(function.__doc__)
            function.__doc__ = SECTION.sub(lambda found: ENTRY.sub(whole, found[0]), doc)
        return function

    return told


def _section(function: Callable[..., Any]) -> str:
    found = SECTION.search(inspect.getdoc(function) or "")
    return found[0] if found else ""


def _entries(section: str) -> Iterator[tuple[str, str]]:
    """Each parameter, and what is said of it."""
    for entry in ENTRY.finditer(section):
        for name in entry[1].split(", "):
            yield name, name + "".join(entry.groups("")[1:])
