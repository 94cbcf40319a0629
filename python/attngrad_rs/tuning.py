"""Speed settings from the environment: for tests and for looking into a machine, never for results.

They change the last bits of a result, as another machine would.
"""

from __future__ import annotations

import os

from . import _core
from .errors import OptionError

__all__ = ["key_block", "level"]


def level() -> str:
    """Instruction set of the kernels: ATTNGRAD_LEVEL, by default the best of the machine."""
    return os.environ.get("ATTNGRAD_LEVEL") or _core.levels()[-1]


def key_block() -> int | None:
    """Keys that are summed in working precision at a time: ATTNGRAD_KEY_BLOCK."""
    text = os.environ.get("ATTNGRAD_KEY_BLOCK")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise OptionError(f"ATTNGRAD_KEY_BLOCK: found {text!r}; wanted a whole number from 1")
    return int(text)
