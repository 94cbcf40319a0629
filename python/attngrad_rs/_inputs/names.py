"""What files of arrays have in common, of whatever kind: names of arrays, and ways to fail."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence

from ..errors import AttnGradError, ProblemFileError

__all__ = ["PLAIN", "check_known", "check_required", "reading"]

# Of an array: nothing that could be a path.
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*\Z")


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], kind: str, maker: str) -> Iterator[str]:
    """The path of a regular file as it is shown; every failure to read it is ours.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    kind, maker : str
        What it is expected to be, and what makes such a file.
    """
    shown = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ProblemFileError(
                f"{shown}: found no regular file; give the path of a file of arrays"
            )
        yield shown
    except AttnGradError:
        raise
    except FileNotFoundError:
        raise ProblemFileError(f"{shown}: found no such file; check the path") from None
    except MemoryError:
        raise ProblemFileError(f"{shown}: found arrays that do not fit in memory") from None
    # Whatever a damaged file sets off in its reader is the same news to the caller.
    except Exception as error:
        text = str(error) or type(error).__name__
        raise ProblemFileError(
            f"{shown}: found no readable {kind} ({text}); make one with {maker}"
        ) from error


def check_known(shown: str, name: str, allowed: Sequence[str] | None) -> None:
    """Refuse a name that is not expected; None lets every name in."""
    if allowed is not None and name not in allowed:
        raise ProblemFileError(
            f"{shown}: found an unknown array {name!r}; known are {', '.join(allowed)}"
        )


def check_required(shown: str, found: set[str], required: Sequence[str]) -> None:
    """Refuse a file that lacks an array."""
    missing = [name for name in required if name not in found]
    if missing:
        there = ", ".join(sorted(found)) or "nothing"
        raise ProblemFileError(
            f"{shown}: found {there}; {', '.join(missing)} must be there as well"
        )
