"""Parts that the commands share: tables, a progress bar, JSON, and errors as one line."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import re
import string
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, ParamSpec, get_type_hints

import typer
from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer.models import OptionInfo

from ..errors import AttnGradError, InternalError
from ..results import public_fields
from .exit_codes import EXIT_BAD_INPUT, EXIT_DEFECT, EXIT_INTERRUPTED

# Options that several commands have.
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Threads = Annotated[int | None, typer.Option(help="Threads to use; by default all cores.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output file.")]

P = ParamSpec("P")
# Wide enough for the widest table, where nobody's window says how wide it is (a pipe, a file).
PIPE_WIDTH = 120
# Options whose flag is not their name in the library.
RENAMED = {"rng": "seed", "is_causal": "causal", "heads": "head"}
# Advice for a call of the library, and the same for a file and a command. Patterns are tried in
# turn, after the names of options have become flags.
PHRASES = (
    (r"are not one object; pass the same array three times", "are not equal; make them so"),
    (r"a numpy\.random\.Generator or None", "or nothing"),
    (r"\b(found|or) None\b", r"\1 nothing"),
)


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn errors of our own tree into one line on standard error and an exit code.

    Warnings become such lines too, without the place in the code that a program would need.
    """
    flags = _flags(command)

    def tell(news: object) -> None:
        typer.echo(f"attngrad: {spoken(' '.join(str(news).split()), flags)}", err=True)

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = lambda message, *_args, **_more: tell(message)
            try:
                command(*args, **kwargs)
            except AttnGradError as error:
                tell(error)
                defect = isinstance(error, InternalError)
                raise typer.Exit(EXIT_DEFECT if defect else EXIT_BAD_INPUT) from error
            except KeyboardInterrupt:
                typer.echo("attngrad: interrupted; nothing was written", err=True)
                raise typer.Exit(EXIT_INTERRUPTED) from None

    return run


def _flags(command: Callable[..., None]) -> dict[str, str]:
    """The flag of every option of a command, by its name in the library."""
    found = {}
    for name, hint in get_type_hints(command, include_extras=True).items():
        for one in getattr(hint, "__metadata__", ()):
            if isinstance(one, OptionInfo):
                given = [flag for flag in one.param_decls or () if flag.startswith("--")]
                found[name] = given[0] if given else f"--{name}"
    return found


def spoken(message: str, flags: Mapping[str, str]) -> str:
    """A message with options as flags; ``flags`` maps names of options to them."""
    known = {**flags, **{name: flags[own] for name, own in RENAMED.items() if own in flags}}

    def flag(found: re.Match[str]) -> str:
        value = found["text"] or found["word"] or ""
        if value == "None":
            return f"no {known[found['name']]}"
        return known[found["name"]] + (f" {value}" if value not in ("", "True") else "")

    if known:
        names = "|".join(sorted(known, key=len, reverse=True))
        # name='auto', name=None, name=True, name=0.1, name= and "name: found", "name >= 0.1"
        given = r"=(?:'(?P<text>[^']*)'|(?P<word>[\w.+-]*\w))?|(?=:| [<>]=? )"
        message = re.sub(rf"(?<![\w'\"/.-])(?P<name>{names})(?:{given})", flag, message)
    for pattern, words in PHRASES:
        message = re.sub(pattern, words, message)
    return message


@contextlib.contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Callable[[float], None]]:
    """A bar on standard error, moved by a number from 0 to 1; hidden where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda done: bar.update(task, completed=done)


class _Cells(string.Formatter):
    """``str.format`` that shows None as nothing."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return "" if value is None else str(super().format_field(value, format_spec))


def print_table(
    title: str | None,
    columns: Mapping[str, str],
    rows: Iterable[Mapping[str, Any]],
    *,
    narrow: bool = False,
) -> None:
    """A table on standard output; where that is not a terminal, plain and wide.

    ``columns`` are headings and what ``str.format`` makes of a row; those that format numbers are
    aligned at the right, and None is shown as nothing. Without a title there are no headings. A
    narrow one has less between its columns.
    """
    table = Table(
        title=title, show_header=title is not None, collapse_padding=narrow,
        box=SIMPLE_HEAD if narrow else HEAVY_HEAD,
    )  # fmt: skip
    for heading, text in columns.items():
        number = ":" in text
        table.add_column(heading, justify="right" if number else "left", no_wrap=number)
    cells = _Cells()
    for row in rows:
        table.add_row(*(cells.vformat(text, (), row) for text in columns.values()))
    console = Console(highlight=False)
    (console if console.is_terminal else Console(width=PIPE_WIDTH, highlight=False)).print(table)


def print_json(value: Any) -> None:
    """Strict JSON on standard output: what is not finite becomes null, results their fields."""
    typer.echo(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        value = public_fields(type(value), value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
