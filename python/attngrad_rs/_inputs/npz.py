"""Arrays of an ``.npz`` file that is not trusted: its claims are checked before they are believed.

Nothing is unpickled, and no path is taken from the content of the file. Sizes are compared with the
sizes declared by the archive before anything is allocated.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ProblemFileError
from .names import PLAIN, check_known, check_required, reading

__all__ = ["load_npz", "npz_names"]

# An archive may unpack to FREE_BYTES + EXPANSION_LIMIT x its own size. Real matrices of floating
# point numbers shrink by a factor of 1.1 to 4; zeros shrink by 1000, which is what a bomb is made
# of. A genuine file of zeros above the limit can be saved uncompressed (np.savez).
FREE_BYTES = 32 * 2**20
EXPANSION_LIMIT = 16
# NumPy's own limit for the header of an array that is not trusted.
MAX_HEADER_BYTES = 10_000
# The largest single read. It also caps the zip directory: 1 MiB of it is about 10 000 arrays, for
# which zipfile takes about 20 MiB.
READ_BYTES = 2**20
# Kinds of dtype that hold plain numbers: bool, signed, unsigned, floating, complex. What an
# argument accepts is narrower and is checked where the argument is.
PLAIN_KINDS = "biufc"
NPY_SUFFIX = ".npy"
ENCRYPTED_FLAG = 0x1
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class _Member:
    """One array of an archive, as its header describes it."""

    name: str
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int


class _CappedFile(io.FileIO):
    """A file that refuses a single read above a limit: a sparse file may claim a huge directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        if size > READ_BYTES:
            raise zipfile.BadZipFile(f"a directory of {size} bytes")
        return super().read(size) or b""


def load_npz(
    path: str | os.PathLike[str],
    *,
    required: Iterable[str] = (),
    optional: Iterable[str] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an ``.npz`` file without trusting it; parameters as ``load_arrays``.

    Returns
    -------
    dict of str to ndarray
        New arrays, in the order, dtype and byte order of the file.

    Raises
    ------
    ProblemFileError
        Naming the file, the member and what was found, before any array is read: for a file that is
        missing, is no zip archive or is truncated; for pickled objects, headers that disagree with
        the size of their member, duplicate or odd names (``../``), links, encryption, and archives
        that unpack to more than 32 MiB + 16 times their own size.

    Notes
    -----
    Memory: the arrays, and about 2 MiB. No member name is ever used as a path.
    """
    required = tuple(required)
    allowed = None if optional is None else (*required, *optional)
    with _opened(path) as (shown, archive, size):
        members = _inspect(archive, shown, allowed)
        check_required(shown, {member.name for member in members}, required)
        _check_expansion(shown, members, size)
        return {member.name: _read_array(archive, shown, member) for member in members}


def npz_names(path: str | os.PathLike[str]) -> list[str]:
    """Names of the arrays of an ``.npz`` file, none of which is read; errors as ``load_npz``."""
    with _opened(path) as (shown, archive, _):
        return [member.name for member in _inspect(archive, shown, None)]


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[str, zipfile.ZipFile, int]]:
    """The path as it is shown, its archive and the size of the file; every failure is ours."""
    with (
        reading(path, ".npz archive", "numpy.savez") as shown,
        _CappedFile(shown, "rb") as file,
        zipfile.ZipFile(file) as archive,
    ):
        yield shown, archive, os.fstat(file.fileno()).st_size


def _inspect(
    archive: zipfile.ZipFile, shown: str, allowed: tuple[str, ...] | None
) -> list[_Member]:
    """Check the directory of the archive and every header; read no data."""
    members: list[_Member] = []
    seen: set[str] = set()
    for info in archive.infolist():
        name = _member_name(shown, info)
        if name in seen:
            raise ProblemFileError(f"{shown}: found {name!r} twice; each name may occur once")
        seen.add(name)
        check_known(shown, name, allowed)
        members.append(_header(archive, shown, name, info))
    return members


def _member_name(shown: str, info: zipfile.ZipInfo) -> str:
    """The array's name, once the entry is known to be a plain file with a plain name."""
    # orig_filename is what the archive says; filename has been cleaned by zipfile already.
    raw = info.orig_filename
    if not raw.endswith(NPY_SUFFIX) or not PLAIN.match(raw):
        raise ProblemFileError(
            f"{shown}: found a member called {raw!r}; members are plain names ending in .npy"
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise ProblemFileError(f"{shown}: found the link {raw!r}; links are never followed")
    if info.flag_bits & ENCRYPTED_FLAG:
        raise ProblemFileError(f"{shown}: found {raw!r} encrypted; save it without a password")
    if info.compress_type not in _COMPRESSIONS:
        raise ProblemFileError(
            f"{shown}: found {raw!r} compressed by method {info.compress_type}; "
            "use numpy.savez or numpy.savez_compressed"
        )
    return raw.removesuffix(NPY_SUFFIX)


def _header(archive: zipfile.ZipFile, shown: str, name: str, info: zipfile.ZipInfo) -> _Member:
    """Parse one array header and hold it against the size of its member."""
    with archive.open(info) as stream:
        head = stream.read(12)
        major = head[6] if len(head) == 12 and head[:6] == b"\x93NUMPY" else 0
        # Version 3 exists for field names in UTF-8, which no plain array has.
        if major not in (1, 2):
            raise ProblemFileError(f"{shown}: found no array in {name!r}; save it with numpy.savez")
        length_bytes = 2 if major == 1 else 4
        length = int.from_bytes(head[8 : 8 + length_bytes], "little")
        if length > MAX_HEADER_BYTES:
            raise ProblemFileError(
                f"{shown}: found a header of {length} bytes in {name!r}; "
                f"at most {MAX_HEADER_BYTES} are read"
            )
        offset = 8 + length_bytes + length
        text = head[8:] + stream.read(max(offset - 12, 0))
    shape, fortran, dtype = _parse_header(shown, name, major, text)
    if dtype.hasobject or dtype.kind not in PLAIN_KINDS:
        what = "pickled Python objects" if dtype.hasobject else f"dtype {dtype}"
        raise ProblemFileError(
            f"{shown}: found {what} in {name!r}; only plain numbers are read, nothing is unpickled"
        )
    claimed, there = math.prod(shape) * dtype.itemsize, info.file_size - offset
    if claimed != there:
        raise ProblemFileError(
            f"{shown}: found {name!r} claiming shape {shape} of {dtype} ({claimed} bytes) where "
            f"the archive holds {there} bytes; the file is damaged"
        )
    return _Member(name, info, shape, fortran, dtype, offset)


def _parse_header(
    shown: str, name: str, major: int, text: bytes
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """NumPy's own parser (a literal, never code), with every way to fail made one."""
    parse = np.lib.format.read_array_header_1_0
    if major == 2:
        parse = np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = parse(io.BytesIO(text), max_header_size=MAX_HEADER_BYTES)
    except Exception as error:
        raise ProblemFileError(
            f"{shown}: found a malformed header in {name!r}; save it with numpy.savez"
        ) from error
    if any(size < 0 for size in shape):
        raise ProblemFileError(f"{shown}: found {name!r} claiming shape {shape}; sizes are >= 0")
    return shape, fortran, dtype


def _check_expansion(shown: str, members: list[_Member], file_bytes: int) -> None:
    total = sum(member.info.file_size for member in members)
    limit = FREE_BYTES + EXPANSION_LIMIT * file_bytes
    if total > limit:
        raise ProblemFileError(
            f"{shown}: found {file_bytes} bytes that unpack to {total}; at most {limit} are "
            "unpacked from a file of this size (if it is genuine, save it with numpy.savez)"
        )


def _read_array(archive: zipfile.ZipFile, shown: str, member: _Member) -> npt.NDArray[Any]:
    """Read one array in pieces, straight into its own memory."""
    flat = np.empty(math.prod(member.shape), dtype=member.dtype)
    target = flat.view(np.uint8).data
    done = 0
    with archive.open(member.info) as stream:
        stream.read(member.offset)
        while done < len(target):
            piece = stream.read(min(READ_BYTES, len(target) - done))
            if not piece:
                raise ProblemFileError(
                    f"{shown}: found only {done} of {len(target)} bytes of {member.name!r}; "
                    "the file is truncated"
                )
            target[done : done + len(piece)] = piece
            done += len(piece)
        # One more read makes zipfile compare the checksum.
        stream.read(1)
    if member.fortran:
        return flat.reshape(member.shape[::-1]).T
    return flat.reshape(member.shape)
