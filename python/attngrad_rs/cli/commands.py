"""The commands of ``attngrad``: arguments in, a call of the library, a table or JSON out."""

from __future__ import annotations

import os
from typing import Annotated, Any

import numpy as np
import typer

from .._core import __version__
from .._inputs.output import atomic_output, check_output
from ..errors import ProblemFileError
from ..heads import load_heads
from ..problem import loss_gradient
from . import output
from .exit_codes import EXIT_DEFECT
from .experiments import PROBLEM_HELP, HeadName
from .experiments import app as experiment_app
from .problem_file import default_names, read_problem
from .terminal import Force, Json, Threads, guarded, print_json, progress_bar

app = typer.Typer(
    name="attngrad", help="Gradients of softmax attention, with an error bar.",
    no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    pretty_exceptions_enable=False,
)  # fmt: skip
app.add_typer(experiment_app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"attngrad {__version__}")
        raise typer.Exit


@app.callback()
def attngrad(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Gradients of softmax attention, with an error bar."""


@app.command()
@guarded
def gradient(
    problem: Annotated[str, typer.Argument(help=PROBLEM_HELP)],
    out: Annotated[str, typer.Option("--out", "-o", help="The .npz file to write.")],
    head: HeadName = None,
    wrt: Annotated[
        list[str] | None, typer.Option(help="X, W_Q, W_K, Y, A1, A2, A3 or A; may be repeated.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Factor of the logits; by default 1/d2.")
    ] = None,
    causal: Annotated[bool | None, typer.Option(help="Query j sees keys up to j only.")] = None,
    rtol: Annotated[
        float | None, typer.Option(help="Relative accuracy to certify; by default exact.")
    ] = None,
    atol: Annotated[float, typer.Option(help="Absolute accuracy to certify.")] = 0.0,
    norm: Annotated[str, typer.Option(help="The norm of both: fro or max.")] = "fro",
    certificate: Annotated[
        str, typer.Option(help="At least this kind: any, estimated, statistical or rigorous.")
    ] = "any",
    method: Annotated[str, typer.Option(help="auto, exact or polynomial.")] = "auto",
    degree: Annotated[
        int | None, typer.Option(help="Degree of the polynomial, for --method polynomial.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed that sampled rows are drawn with.")] = None,
    threads: Threads = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which to give up.")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Loss and gradients of a problem in a file; the file is never unpickled."""
    check_output(out, force=force)
    arguments = read_problem(problem, head)
    asked: dict[str, Any] = {
        "wrt": wrt or default_names(arguments), "scale": scale, "is_causal": causal, "rtol": rtol,
        "atol": atol, "norm": norm, "certificate": certificate, "method": method, "degree": degree,
        "rng": seed, "threads": threads, "timeout": timeout,
    }  # fmt: skip
    # The command comes first, then the file, then the default.
    asked = {name: value for name, value in asked.items() if value is not None}
    with progress_bar("gradient", quiet=json) as move:
        result = loss_gradient(**{**arguments, **asked}, progress=move)
    with atomic_output(out, force=force) as file:
        np.savez(file, allow_pickle=False, **output.result_arrays(result))
    if json:
        print_json({"out": out, **output.summary(result)})
    else:
        output.print_result(result, out)


@app.command()
@guarded
def doctor(json: Json = False, threads: Threads = None) -> None:
    """Versions, the machine, and a self-check of the gradient."""
    from .doctor import describe, examine

    report = examine(threads)
    if json:
        print_json(report)
    else:
        typer.echo("\n".join(describe(report)))
    if not report["healthy"]:
        raise typer.Exit(EXIT_DEFECT)


@app.command()
@guarded
def heads(
    model: Annotated[str, typer.Argument(help="minilm or smollm2.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="The .npz or .safetensors file to write.")
    ],
    text: Annotated[
        str | None, typer.Option(help="A UTF-8 text file; by default Python's own language manual.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="Keep the first so many tokens.")] = None,
    head: Annotated[
        list[str] | None, typer.Option(help="layer_head, such as 2_6; may be repeated.")
    ] = None,
    force: Force = False,
) -> None:
    """Queries, keys and values of a trained model on a text of yours: problems for gradient."""
    from ..heads.models import make as models

    check_output(out, force=force)
    if text is None:
        words, name = models.default_text()
    else:
        words, name = _read_text(text), os.path.basename(text)
    with progress_bar(model) as move:
        models.make_heads(
            model, words, out=out, heads=head, tokens=tokens, force=force, text_name=name,
            progress=move,
        )  # fmt: skip
    made = [one.name for one in load_heads(out)]
    typer.echo(f"written to {out}: {', '.join(made)}")
    # One cannot be mistaken for another, and needs no name.
    choice = f" --head {made[0]}" if len(made) > 1 else ""
    typer.echo(
        f"'attngrad gradient {out}{choice} -o gradient.npz' takes it from here, "
        f"and so do 'attngrad explain {out}{choice}' and 'attngrad demo {out}'"
    )


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ProblemFileError(f"--text: found {path!r}, which cannot be read ({reason})") from None
