"""What the commands share: tables, a progress bar, JSON, and errors as one line."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, get_type_hints

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from typer.models import OptionInfo

from ..errors import AttnGradError, InternalError
from .exit_codes import EXIT_BAD_INPUT, EXIT_DEFECT, EXIT_INTERRUPTED
from .wording import spoken

__all__ = ["guarded", "output_console", "print_json", "progress_bar"]

P = ParamSpec("P")
# Wide enough for the widest table, where nobody's window says how wide it is (a pipe, a file).
PIPE_WIDTH = 120


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn errors of our own tree into one line on standard error and an exit code.

    Warnings become such lines too, without the place in the code that a program would want.
    """
    flags = _flags(command)

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with _warnings_told(flags):
                command(*args, **kwargs)
        except AttnGradError as error:
            _tell(error, flags)
            defect = isinstance(error, InternalError)
            raise typer.Exit(EXIT_DEFECT if defect else EXIT_BAD_INPUT) from error
        except KeyboardInterrupt:
            typer.echo("attngrad: interrupted; nothing was written", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None

    return run


def _tell(news: object, flags: Mapping[str, str]) -> None:
    typer.echo(f"attngrad: {spoken(' '.join(str(news).split()), flags)}", err=True)


@contextlib.contextmanager
def _warnings_told(flags: Mapping[str, str]) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for one in found:
                _tell(one.message, flags)


def _flags(command: Callable[..., None]) -> dict[str, str]:
    """The flag of every option of a command, by its name in the library."""
    found = {}
    for name, hint in get_type_hints(command, include_extras=True).items():
        for one in getattr(hint, "__metadata__", ()):
            if isinstance(one, OptionInfo):
                given = [flag for flag in one.param_decls or () if flag.startswith("--")]
                found[name] = given[0] if given else f"--{name}"
    return found


def output_console() -> Console:
    """Standard output; where it is not a terminal, plain and wide."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=PIPE_WIDTH, highlight=False)


@contextlib.contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Callable[[float], None]]:
    """A bar on standard error, moved by a number from 0 to 1; hidden where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(title, total=1.0)

        def move(done: float) -> None:
            bar.update(task, completed=done)

        yield move


def print_json(value: Any) -> None:
    """Strict JSON on standard output: what is not finite becomes null."""
    typer.echo(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
