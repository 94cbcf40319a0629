"""The commands that show the theorem at work: demo, experiments, bench, report, and explain."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from .._inputs import options
from .._inputs.output import atomic_output, check_output
from ..diagnose import explain_problem
from ..errors import OptionError, install_line
from ..heads import load_heads
from .exit_codes import EXIT_INTERRUPTED
from .problem_file import default_names, read_problem
from .terminal import Force, Json, Threads, guarded, print_json, print_table, progress_bar

app = typer.Typer()

PROBLEM_HELP = (
    "An .npz or .safetensors file with A1, A2, A3, X (or W_Q, W_K), Y, E; or a file of heads."
)
Again = Annotated[
    bool, typer.Option("--again", help="Measure again what the folder holds already.")
]
HeadName = Annotated[str | None, typer.Option(help="Which head of a file of heads.")]
WORDS = {True: "holds", False: "DOES NOT HOLD", None: "reported"}
REPORT = "report.html"
DEFAULT_RTOL = 1e-3
# Of a terminal that nobody has widened.
WIDTH = 79
BENCH = "precision"
NO_FIGURES = f"found no package 'matplotlib'; figures are left out: {install_line('cli')}"


@app.command()
@guarded
def demo(
    file: Annotated[
        str | None,
        typer.Argument(help="A file of heads; by default those that come with the package."),
    ] = None,
    json: Json = False,
    out: Annotated[str | None, typer.Option(help="Write a figure: a .png or .svg file.")] = None,
    threads: Threads = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    force: Force = False,
) -> None:
    """Gradients of real trained heads, and exact against near-linear where entries are small."""
    from ..experiments import demo as demonstration
    from ..experiments.demo_figure import demo_figure
    from ..experiments.demo_tables import tables
    from ..experiments.plots import file_kind

    options.choice("--dtype", dtype, ("float32", "float64"))
    kind = "" if out is None else file_kind(out)
    if out is not None:
        check_output(out, force=force)
    chosen = load_heads(file)
    with progress_bar("demo", quiet=json) as move:
        found = demonstration.run(dtype, threads, move, chosen)
    if out is not None:
        with atomic_output(out, force=force) as target:
            target.write(demo_figure(found, kind))
    if json:
        print_json(found)
        return
    for table in tables(found):
        print_table(table.title, table.columns, table.rows, narrow=True)
        for paragraph in table.legend:
            typer.echo(f"{textwrap.fill(paragraph, WIDTH)}\n")
    if out is not None:
        typer.echo(f"figure: {out}\n")
    typer.echo(textwrap.fill(found.shown, WIDTH))


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
    again: Again = False,
    known: Annotated[bool, typer.Option("--list", help="List the experiments, and stop.")] = False,
    json: Json = False,
) -> None:
    """Run experiments; one that was stopped is continued by the same command."""
    from .. import experiments as package

    if known:
        _list(package.EXPERIMENTS, json)
        return
    size = _size(quick, full)
    _run(names or (), out or f"attngrad-{size}", size, again, json)


@app.command()
@guarded
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Seconds; the default.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Longer sequences.")] = False,
    out: Annotated[
        str | None, typer.Option(help="Folder of the results; by default attngrad-bench-quick.")
    ] = None,
    again: Again = False,
    json: Json = False,
) -> None:
    """Seconds against reached error, and against peak memory: CSV files and a figure."""
    size = _size(quick, full)
    _run((BENCH,), out or f"attngrad-bench-{size}", size, again, json)


def _size(quick: bool, full: bool) -> str:
    from ..experiments.base import FULL, QUICK

    if quick and full:
        raise OptionError("--quick: found --full as well; expected one of them")
    return FULL if full else QUICK


def _run(names: Sequence[str], folder: str, size: str, again: bool, json: bool) -> None:
    """Run experiments, and tell each as soon as it is done."""
    from .. import experiments as package
    from ..experiments.runner import outcome_entry

    outcomes = package.run(names, out=folder, size=size, again=again, progress=_Bars(json))
    entries = []
    claim = None
    try:
        for outcome in outcomes:
            entries.append(outcome_entry(outcome))
            if not json and outcome.experiment.claim is not claim:
                claim = outcome.experiment.claim
                typer.echo(f"\n{claim.title}\n{'=' * len(claim.title)}")
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
        print_json(
            {
                name: {"title": one.title, "claim": one.claim.title, "aim": one.aim}
                for name, one in known.items()
            }
        )
        return
    columns = {"name": "{name}", "title": "{title}"}
    print_table("experiments", columns, map(vars, known.values()))


def _tell(outcome: Any, json: bool) -> None:
    """Verdicts on standard output; what a person has to know besides, on standard error."""
    for file in outcome.damaged:
        typer.echo(f"attngrad: {file}: found it damaged; it has been computed again", err=True)
    if outcome.figure is None:
        typer.echo(f"attngrad: {outcome.experiment.name}: {NO_FIGURES}", err=True)
    if json:
        return
    kept = f", {outcome.kept} of them from before (--again measures anew)" if outcome.kept else ""
    title = f"{outcome.experiment.title}: {outcome.points} points{kept}, {outcome.seconds:.0f} s"
    typer.echo(title)
    notes = list(dict.fromkeys(one.note for one in outcome.findings if one.note))
    rows = []
    for finding in outcome.findings:
        note = f" [{notes.index(finding.note) + 1}]" if finding.note else ""
        rows.append({"verdict": WORDS[finding.holds], "text": finding.text + note})
    print_table(None, {"": "{verdict}", "verdict": "{text}"}, rows)
    for number, note in enumerate(notes, start=1):
        typer.echo(f"[{number}] Only reported: {note}.")


@app.command()
@guarded
def report(
    folder: Annotated[str, typer.Argument(help="A folder that 'attngrad experiments' wrote.")],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="The page; by default report.html there."),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """One HTML page with verdicts, figures and tables; it needs no network."""
    from ..experiments.report import page, summary

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


@app.command()
@guarded
def explain(
    problem: Annotated[str, typer.Argument(help=PROBLEM_HELP)],
    head: HeadName = None,
    rtol: Annotated[float, typer.Option(help="The accuracy asked for.")] = DEFAULT_RTOL,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Statistics of a problem in a file, and how its gradient would be computed."""
    with progress_bar("explain", quiet=json):
        arguments = read_problem(problem, head)
        diagnosis, plan = explain_problem(arguments, default_names(arguments), rtol, threads)
    if json:
        print_json({"problem": problem, "rtol": rtol, "diagnosis": diagnosis, "plan": plan})
    else:
        typer.echo(f"diagnosis\n{diagnosis.explain()}\n\nplan\n{plan.explain()}")
