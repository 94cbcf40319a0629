"""How much memory there is, asked before any is taken: an absurd shape is refused at once."""

from __future__ import annotations

import contextlib
import math
import time

from .. import _core
from ..errors import OutOfMemoryError

# Free memory is asked for only above this size: it takes as long as a small problem ...
ASK_ABOVE_BYTES = 2**20
# ... and for no more than this part of what was free so many seconds ago: nobody is so fast.
FRESH_SECONDS = 0.25
FRESH_SHARE = 16


def available_bytes() -> int | None:
    """Bytes that can be taken now, None where unknown.

    The least of what the machine, the process's limits and the container's limits leave.
    """
    # Not while the package is imported: small problems need none of it.
    import psutil

    known = [_core.limited_memory()]
    with contextlib.suppress(OSError, psutil.Error):
        known.append(int(psutil.virtual_memory().available))
    return min((amount for amount in known if amount is not None), default=None)


# When free memory was last asked for, and what there was.
_last = (-math.inf, 0)


def check_fits(title: str, needed: int) -> None:
    """Raise OutOfMemoryError, naming the bytes, if they are more than there are."""
    available = free_bytes(needed)
    if available is not None and needed > available:
        raise OutOfMemoryError(
            f"{title}: found shapes that need {needed} bytes ({format_bytes(needed)}) where "
            f"{available} ({format_bytes(available)}) are free; use fewer rows, or float32"
        )


def free_bytes(needed: int) -> int | None:
    """Bytes that are free, as they were a moment ago where that is enough by far.

    None where that is unknown, or so little is needed that it is not worth a look.
    """
    global _last
    if needed <= ASK_ABOVE_BYTES:
        return None
    now, (when, found) = time.monotonic(), _last
    if needed * FRESH_SHARE <= found and now - when <= FRESH_SECONDS:
        return found
    available = available_bytes()
    _last = now, available or 0
    return available


def format_bytes(amount: float) -> str:
    """Bytes for people: ``1536`` is ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} PiB"
