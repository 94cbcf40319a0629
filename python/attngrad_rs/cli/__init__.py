"""The command ``attngrad``: a thin door that also opens where the extra ``cli`` is missing."""

from __future__ import annotations

import sys

from ..errors import install_line
from .exit_codes import EXIT_BAD_INPUT, EXIT_INTERRUPTED

# Modules of the extra `cli` that a command may miss.
EXTRA = ("cpuinfo", "jinja2", "rich", "safetensors", "scipy", "threadpoolctl", "typer")


def main() -> int:
    """Run the command line; the return value is the exit code.

    0: done. 1: a self-check failed, or a defect. 2: bad input, with one line on standard error.
    130: interrupted.
    """
    try:
        from .commands import app
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        sys.stderr.write(
            f"attngrad: found no package {missing!r}; the commands need the extra cli: "
            f"{install_line('cli')}\n"
        )
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    app(prog_name="attngrad")
    return 0
