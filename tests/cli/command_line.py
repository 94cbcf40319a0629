"""A command, run in this process."""

from __future__ import annotations

import re
from typing import Any

from typer.testing import CliRunner

from attngrad_rs.cli import commands, exit_codes

RUN = CliRunner()


def attngrad(*arguments: object) -> Any:
    return RUN.invoke(commands.app, [str(one) for one in arguments])


def succeeds(*arguments: object) -> str:
    result = attngrad(*arguments)
    assert result.exit_code == 0, result.stderr
    text: str = result.stdout
    return text


def fails(*arguments: object) -> str:
    result = attngrad(*arguments)
    assert result.exit_code == exit_codes.EXIT_BAD_INPUT, (result.stdout, result.stderr)
    message: str = result.stderr
    assert "Traceback" not in message
    return message


def fails_in_one_line(*arguments: object) -> str:
    message = fails(*arguments)
    assert re.fullmatch(r"attngrad: [^\n]+\n", message), message
    return message
