"""How much memory there is, asked before any is taken: an absurd shape is refused at once."""

from __future__ import annotations

import os

from .errors import OutOfMemoryError

__all__ = ["available_bytes", "check_fits", "format_bytes"]

MEMINFO = "/proc/meminfo"
STATM = "/proc/self/statm"
# Free memory is asked for only above this size: reading /proc takes as long as a small problem.
ASK_ABOVE_BYTES = 2**20


def available_bytes() -> int | None:
    """Bytes that can be taken now: the machine's, and the process's limit; None where unknown."""
    known = [amount for amount in (_machine_bytes(), _limit_bytes()) if amount is not None]
    return min(known) if known else None


def _machine_bytes() -> int | None:
    try:
        with open(MEMINFO, encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _limit_bytes() -> int | None:
    """What RLIMIT_AS leaves of the address space."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        with open(STATM, encoding="ascii") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError, IndexError):
        return None
    return max(limit - used, 0)


def check_fits(title: str, needed: int) -> None:
    """Raise OutOfMemoryError, naming the bytes, if they are more than there are."""
    if needed <= ASK_ABOVE_BYTES:
        return
    available = available_bytes()
    if available is not None and needed > available:
        raise OutOfMemoryError(
            f"{title}: found shapes that need {needed} bytes ({format_bytes(needed)}) where "
            f"{available} ({format_bytes(available)}) are free; use fewer rows, or float32"
        )


def format_bytes(amount: float) -> str:
    """Bytes for people: ``1536`` is ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} PiB"
