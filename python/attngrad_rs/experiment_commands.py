"""The commands that show the theorem at work: ``attngrad experiments`` and ``attngrad report``."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from rich.table import Table

from .cli import EXIT_INTERRUPTED
from .errors import OptionError
from .files import atomic_output, check_output
from .terminal import guarded, output_console, print_json, progress_bar

__all__ = ["app"]

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
WORDS = {True: "holds", False: "DOES NOT HOLD", None: "reported"}
REPORT = "report.html"
NO_FIGURES = "found no package 'matplotlib'; figures are left out: pip install 'attngrad-rs[cli]'"


@app.command()
@guarded
def experiments(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which; all by default.", show_default=False)
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes; the default.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Up to an hour.")] = False,
    out: Annotated[
        str | None,
        typer.Option(help="Folder of the results; by default attngrad-quick or attngrad-full."),
    ] = None,
    known: Annotated[bool, typer.Option("--list", help="List the experiments, and stop.")] = False,
    json: Json = False,
) -> None:
    """Run experiments; one that was stopped is continued by the same command."""
    from . import experiments as package
    from .experiments.base import FULL, QUICK
    from .experiments.runner import outcome_entry

    if known:
        _list(package.EXPERIMENTS, json)
        return
    if quick and full:
        raise OptionError("--quick: found --full as well; one of them is wanted")
    size = FULL if full else QUICK
    folder = out or f"attngrad-{size}"
    outcomes = package.run(names or (), out=folder, size=size, progress=_Bars(json))
    entries = []
    try:
        for outcome in outcomes:
            entries.append(outcome_entry(outcome))
            _tell(outcome, json)
    except KeyboardInterrupt:
        typer.echo(
            f"attngrad: interrupted; what is done is kept in {folder}, "
            "and the same command goes on",
            err=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if json:
        print_json({"out": folder, "size": size, "experiments": entries})
    else:
        typer.echo(f"written to {folder}; 'attngrad report {folder}' puts it on one page")


class _Bars:
    """A progress bar for each experiment."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def __call__(self, name: str) -> Any:
        return progress_bar(name, quiet=self.quiet)


def _list(known: Any, json: bool) -> None:
    if json:
        print_json({name: {"title": one.title, "claim": one.claim} for name, one in known.items()})
        return
    table = Table("name", "title")
    for name, one in known.items():
        table.add_row(name, one.title)
    output_console().print(table)


def _tell(outcome: Any, json: bool) -> None:
    """Verdicts on standard output; what a person has to know besides, on standard error."""
    for file in outcome.damaged:
        typer.echo(f"attngrad: {file}: found it damaged; it has been computed again", err=True)
    if outcome.figure is None:
        typer.echo(f"attngrad: {outcome.experiment.name}: {NO_FIGURES}", err=True)
    if json:
        return
    kept = f", {outcome.kept} of them from before" if outcome.kept else ""
    title = f"{outcome.experiment.title}: {outcome.points} points{kept}, {outcome.seconds:.0f} s"
    typer.echo(title)
    table = Table("", "verdict", show_header=False)
    for finding in outcome.findings:
        table.add_row(WORDS[finding.holds], finding.text)
    output_console().print(table)


@app.command()
@guarded
def report(
    folder: Annotated[str, typer.Argument(help="A folder that 'attngrad experiments' wrote.")],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="The page; by default report.html there."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing page.")] = False,
    json: Json = False,
) -> None:
    """One HTML page with verdicts, figures and tables; it needs no network."""
    from .experiments.report import page, summary

    # The page in the folder itself is made from it, and is made anew.
    force = force or out is None
    path = out or os.path.join(folder, REPORT)
    content = summary(folder)
    check_output(path, force=force)
    html = page(content)
    with atomic_output(path, force=force) as file:
        file.write(html.encode())
    if not content.figures:
        typer.echo(f"attngrad: {NO_FIGURES}", err=True)
    if json:
        print_json({"out": path, **content.to_dict()})
        return
    typer.echo(f"written to {path}: {content.headline}")
