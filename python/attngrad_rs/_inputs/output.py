"""Output files: written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import IO

from ..errors import AttnGradError, OutputError


def check_output(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Refuse an output path early, before any work is done for it.

    Raises OutputError if something is there already and ``force`` is False, if it is a folder, or
    if its folder does not exist.
    """
    shown = os.fspath(path)
    if os.path.isdir(shown):
        raise OutputError(f"{shown}: found a folder; give the path of a file", path=shown)
    # lexists: a dangling link counts as something that is there.
    if os.path.lexists(shown) and not force:
        text = f"{shown}: found an existing file; choose another name, or pass force=True"
        raise OutputError(text, path=shown)
    folder = os.path.dirname(shown) or "."
    if not os.path.isdir(folder):
        raise OutputError(f"{shown}: found no folder {folder!r}; make it first", path=shown)


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[IO[bytes]]:
    """Write a file whole or not at all; its folder must exist, ``force`` replaces what is there.

    Yields a binary file (seekable) beside the target; on leaving the block without an exception it
    is flushed to disk and renamed to ``path`` in one step. After an exception, of any kind, neither
    the target nor the temporary file has been touched or left behind. A link at ``path`` is
    replaced, not followed. Raises OutputError with the path, for everything the system refuses:
    existing file, missing folder, permission, full disk.
    """
    check_output(path, force=force)
    shown = os.fspath(path)
    # Not named after the target, whose name may already have the longest length allowed.
    temporary = os.path.join(os.path.dirname(shown), f".attngrad-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check_output(path, force=force)
        os.replace(temporary, shown)
    except AttnGradError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        text = f"{shown}: found that it cannot be written ({reason}); nothing was left behind"
        raise OutputError(text, path=shown) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
