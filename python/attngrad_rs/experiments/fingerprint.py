"""What code made a result: checksums of the sources of the experiments and of the library."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["experiments", "library"]

HERE = Path(__file__).parent
# Digits of SHA-256 that are kept: enough to tell versions apart, and short enough to read.
DIGITS = 16
# Sources, and the compiled core under the names that platforms give it.
KINDS = (".py", ".so", ".pyd")


@functools.cache
def experiments() -> str:
    """Of the experiments themselves."""
    return _checksum(path for path in HERE.rglob("*") if path.suffix in KINDS)


@functools.cache
def library() -> str:
    """Of the rest of the package, its compiled core included."""
    files = (path for path in HERE.parent.rglob("*") if path.suffix in KINDS)
    return _checksum(path for path in files if HERE not in path.parents)


def _checksum(paths: Iterable[Path]) -> str:
    """Of names and contents, whatever the order in which the disk lists them."""
    sha = hashlib.sha256()
    for path in sorted(paths, key=Path.as_posix):
        sha.update(f"{path.relative_to(HERE.parent).as_posix()}\0".encode())
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()[:DIGITS]
