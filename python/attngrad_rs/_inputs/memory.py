"""How much memory there is, asked before any is taken: an absurd shape is refused at once."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import OutOfMemoryError

CGROUP = "/proc/self/cgroup"


class Files(NamedTuple):
    """Where control groups of one version keep the limit of memory, and what counts against it."""

    roots: tuple[str, ...]
    limit: str
    usage: str
    spare: str


UNIFIED = Files(
    ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"), "memory.max", "memory.current", "inactive_file"
)
LEGACY = Files(
    ("/sys/fs/cgroup/memory",), "memory.limit_in_bytes", "memory.usage_in_bytes",
    "total_inactive_file",
)  # fmt: skip
# Free memory is asked for only above this size: it takes as long as a small problem ...
ASK_ABOVE_BYTES = 2**20
# ... and for no more than this part of what was free so many seconds ago: nobody is so fast.
FRESH_SECONDS = 0.25
FRESH_SHARE = 16


def available_bytes() -> int | None:
    """Bytes that can be taken now, None where unknown.

    The least of what the machine, the process's limit and the container's limits leave.
    """
    known = [_machine_bytes(), _limit_bytes(), *_group_bytes()]
    return min((amount for amount in known if amount is not None), default=None)


def _machine_bytes() -> int | None:
    # Not while the package is imported: small problems need none of it.
    import psutil

    try:
        return int(psutil.virtual_memory().available)
    except (OSError, psutil.Error):
        return None


def _limit_bytes() -> int | None:
    """Bytes that the process's own limits leave, of its address space and of its data."""
    import psutil

    process = psutil.Process()
    # Where the system has such limits; elsewhere there are none to find.
    if not hasattr(process, "rlimit"):
        return None
    try:
        used = process.memory_info()
        limits = (psutil.RLIMIT_AS, used.vms), (psutil.RLIMIT_DATA, used.data)
        soft = [(process.rlimit(kind)[0], taken) for kind, taken in limits]
    except (OSError, psutil.Error):
        return None
    left = [max(limit - taken, 0) for limit, taken in soft if limit != psutil.RLIM_INFINITY]
    return min(left, default=None)


def _group_bytes() -> Iterator[int]:
    """Bytes that each control group leaves which the process is in, or is below of."""
    try:
        lines = [line.split(":", 2) for line in _text(CGROUP).splitlines()]
    except (OSError, ValueError):
        return
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers and "memory" not in controllers.split(","):
            continue
        kind = LEGACY if controllers else UNIFIED
        # A container may see its own group as the root, under whatever path the host has for it.
        parts = path.strip("/").split("/")
        for root in kind.roots:
            for group in {"/".join(parts[:depth]) for depth in range(len(parts) + 1)}:
                # No such group, or no limit: the word "max".
                with contextlib.suppress(OSError, ValueError, IndexError):
                    yield _group_left(os.path.join(root, group), kind)


def _group_left(folder: str, kind: Files) -> int:
    """Limit less usage of one group; pages of files that nobody reads can be had back."""
    limit, used = (int(_text(os.path.join(folder, name))) for name in (kind.limit, kind.usage))
    fields = (line.split() for line in _text(os.path.join(folder, "memory.stat")).splitlines())
    spare = next((int(field[1]) for field in fields if field[0] == kind.spare), 0)
    return max(limit - used + spare, 0)


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


class Look(NamedTuple):
    """When free memory was last asked for, and what there was."""

    when: float
    found: int


_last = Look(-math.inf, 0)


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
    now = time.monotonic()
    if needed * FRESH_SHARE <= _last.found and now - _last.when <= FRESH_SECONDS:
        return _last.found
    available = available_bytes()
    _last = Look(now, available or 0)
    return available


def format_bytes(amount: float) -> str:
    """Bytes for people: ``1536`` is ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} PiB"
