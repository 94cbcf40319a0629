"""Commands that README and pages show: run where that takes seconds, read where it takes longer."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from command_line import succeeds

from attngrad_rs.cli import commands
from attngrad_rs.heads import store

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(attngrad [a-z][^`\[]*)`")
# These take minutes, or models that are not there.
LONG = ("bench", "demo", "experiments", "heads", "report")


def in_blocks(text: str) -> Iterator[str]:
    """The commands of one page that stand on lines of their own."""
    for kind, block in BLOCK.findall(text):
        # What a text shows is output, but for lines with a prompt.
        prompt = "$ " if kind == "text" else ""
        for line in block.splitlines():
            for part in line.removeprefix(prompt).partition(" #")[0].split("&&"):
                if line.startswith(prompt) and part.strip().startswith("attngrad "):
                    yield part.strip()


TEXTS = [path.read_text(encoding="utf-8") for path in PAGES]
SHOWN = list(dict.fromkeys(command for text in TEXTS for command in in_blocks(text)))
NAMED = [command for text in TEXTS for command in INLINE.findall(text)]


def words(command: str) -> list[str]:
    """The arguments of a command."""
    return shlex.split(command)[1:]


def test_commands_are_found() -> None:
    assert len(SHOWN) >= 8
    assert len(NAMED) >= 8


@pytest.mark.parametrize("command", dict.fromkeys((*SHOWN, *NAMED)))
def test_every_command_is_known(command: str) -> None:
    """Its name and options; places that a reader fills in are words too."""
    name, *arguments = words(command)
    known = typer.main.get_command(commands.app)
    assert isinstance(known, typer.core.TyperGroup)
    options = {text for one in known.commands[name].params for text in one.opts}
    asked = {word for word in arguments if word.startswith("-")}
    assert asked <= options | {"--help"}
    if command in SHOWN:
        # Raises where an argument is missing, or a value is of the wrong kind.
        known.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("command", [one for one in SHOWN if words(one)[0] not in LONG])
def test_short_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    inputs = {name: rng.uniform(-1, 1, (200, 4)) for name in ("A1", "A2", "A3", "E")}
    np.savez(tmp_path / "problem.npz", X=np.eye(4), Y=np.eye(4), **inputs)
    shutil.copy(Path(store.__file__).parents[1] / "data" / store.BUNDLED, tmp_path / "heads.npz")
    monkeypatch.chdir(tmp_path)
    assert succeeds(*words(command))
