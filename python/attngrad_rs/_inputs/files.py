"""Arrays in files that are not trusted, ``.npz`` or ``.safetensors`` by the ending of the name.

The claims of a file are checked before they are believed: nothing is unpickled, no path is taken
from its content, and sizes are compared with what is there before anything is allocated.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import IO, Any, TypeAlias

import numpy as np

from ..errors import MissingDependencyError, ProblemFileError, install_line
from .arrays import Array

Path: TypeAlias = str | os.PathLike[str]
Readers: TypeAlias = dict[str, Callable[[], Array]]

# The name of an array: nothing that could be a path.
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*\Z")
# An archive may unpack to FREE_BYTES + EXPANSION_LIMIT x its own size. Real matrices of floating
# point numbers shrink by a factor of 1.1 to 4; zeros shrink by 1000, which is what a bomb is made
# of. A genuine file of zeros above the limit can be saved uncompressed (np.savez).
FREE_BYTES = 32 * 2**20
EXPANSION_LIMIT = 16
# zipfile bounds what it unpacks of these; lzma would unpack all at once.
ENCRYPTED = 0x1
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# Bool, signed, unsigned, floating, complex. An argument accepts fewer.
PLAIN_KINDS = "biufc"
# The largest single read. It also caps the zip directory: 1 MiB of it is about 10 000 arrays.
READ_BYTES = 2**20


def load_arrays(
    path: Path, *, required: Iterable[str] = (), optional: Iterable[str] | None = None
) -> dict[str, Array]:
    """The arrays of a ``.safetensors`` file, where the name ends so, or of an ``.npz`` file.

    New arrays, in the order, dtype and byte order of the file, which must be a regular one (or a
    link to one). ``required`` are names that must be there, ``optional`` those that may be: any
    other is refused, so that a misspelt one is not ignored; None lets every plain name in.

    Raises ProblemFileError, naming the file, the array and what was found, before that array is
    read; MissingDependencyError for a ``.safetensors`` file where the extra ``cli`` is not
    installed. Memory: the arrays, and about 2 MiB.
    """
    required = tuple(required)
    with _opened(path) as readers:
        known = readers if optional is None else (*required, *optional)
        if unknown := [name for name in readers if name not in known]:
            raise ProblemFileError(
                f"found an unknown array {unknown[0]!r}; known are {', '.join(known)}"
            )
        if missing := [name for name in required if name not in readers]:
            there = ", ".join(sorted(readers)) or "nothing"
            raise ProblemFileError(f"found {there}; {', '.join(missing)} must be there as well")
        return {name: read() for name, read in readers.items()}


def array_names(path: Path) -> list[str]:
    """Names of the arrays of a file, none of which is read; errors as ``load_arrays``."""
    with _opened(path) as readers:
        return list(readers)


def write_arrays(file: IO[bytes], path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as the kind of file that ``path`` names; the same arrays give the same bytes."""
    if _is_tensors(path):
        plain = {name: np.array(array, order="C") for name, array in arrays.items()}
        file.write(_safetensors("safetensors.numpy").save(plain))
    else:
        np.savez_compressed(file, allow_pickle=False, **dict(arrays))


def _is_tensors(path: Path) -> bool:
    return os.fspath(path).lower().endswith(".safetensors")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Readers]:
    """A reader for each array; every failure to read is ours, and names the file."""
    shown = os.fspath(path)
    kind, maker, open_file = ".npz archive", "numpy.savez", _npz_readers
    if _is_tensors(path):
        kind, maker = ".safetensors file", "safetensors.numpy.save_file"
        open_file = _tensor_readers
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ProblemFileError("found no regular file; give the path of a file of arrays")
        with open_file(shown) as readers:
            yield readers
    except ProblemFileError as error:
        raise ProblemFileError(f"{shown}: {error}") from error.__cause__
    except MissingDependencyError:
        raise
    except FileNotFoundError:
        raise ProblemFileError(f"{shown}: found no such file; check the path") from None
    except MemoryError:
        raise ProblemFileError(f"{shown}: found arrays that do not fit in memory") from None
    # Anything that a damaged file sets off in its reader is the same news to the caller.
    except Exception as error:
        text = str(error) or type(error).__name__
        raise ProblemFileError(
            f"{shown}: found no readable {kind} ({text}); make one with {maker}"
        ) from error


class _CappedFile(io.FileIO):
    """A file that refuses a single read above a limit: a sparse file may claim a huge directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        most = READ_BYTES + 1
        data = super().read(most if size is None or size < 0 else min(size, most)) or b""
        if len(data) > READ_BYTES:
            raise zipfile.BadZipFile(f"a part of more than {READ_BYTES} bytes")
        return data


@contextlib.contextmanager
def _npz_readers(path: str) -> Iterator[Readers]:
    with (
        warnings.catch_warnings(action="ignore"),
        _CappedFile(path, "rb") as file,
        zipfile.ZipFile(file) as archive,
    ):
        members: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            # orig_filename is what the archive says; filename has been cleaned by zipfile already.
            raw = info.orig_filename
            name = raw.removesuffix(".npy")
            if name == raw or not PLAIN.match(name):
                raise ProblemFileError(
                    f"found a member called {raw!r}; members are plain names ending in .npy"
                )
            if name in members:
                raise ProblemFileError(f"found {name!r} twice; each name may occur once")
            if info.flag_bits & ENCRYPTED or info.compress_type not in COMPRESSIONS:
                raise ProblemFileError(
                    f"found {raw!r} encrypted, or compressed by method {info.compress_type}; "
                    "use numpy.savez or numpy.savez_compressed"
                )
            members[name] = info
        size, total = os.path.getsize(path), sum(info.file_size for info in members.values())
        if total > (limit := FREE_BYTES + EXPANSION_LIMIT * size):
            raise ProblemFileError(
                f"found {size} bytes that unpack to {total}; at most {limit} are unpacked from a "
                "file of this size (if it is genuine, save it with numpy.savez)"
            )
        yield {name: partial(_member, archive, name, info) for name, info in members.items()}


def _member(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Array:
    """One array, once its header agrees with the size of its member.

    NumPy limits the header, and reads in pieces; at the end zipfile compares the checksum.
    """
    with archive.open(info) as stream:
        try:
            parse = NPY_HEADERS[np.lib.format.read_magic(stream)]
            shape, _, dtype = parse(stream)
        except Exception as error:
            raise ProblemFileError(
                f"found no array in {name!r} that NumPy reads; save it with numpy.savez"
            ) from error
        if dtype.kind not in PLAIN_KINDS:
            what = "pickled Python objects" if dtype.hasobject else f"dtype {dtype}"
            raise ProblemFileError(
                f"found {what} in {name!r}; only plain numbers are read, nothing is unpickled"
            )
        claimed, there = math.prod(shape) * dtype.itemsize, info.file_size - stream.tell()
        if claimed != there or min(shape, default=0) < 0:
            raise ProblemFileError(
                f"found {name!r} claiming shape {shape} of {dtype} ({claimed} bytes) where "
                f"the archive holds {there} bytes; the file is damaged"
            )
        stream.seek(0)
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


@contextlib.contextmanager
def _tensor_readers(path: str) -> Iterator[Readers]:
    """The package holds the header against the size of the file, and maps its memory."""
    with _safetensors("safetensors").safe_open(path, framework="numpy") as tensors:
        names = tensors.keys()
        if odd := [name for name in names if not PLAIN.match(name)]:
            raise ProblemFileError(f"found an array called {odd[0]!r}; names are plain")
        yield {name: partial(tensors.get_tensor, name) for name in names}


def _safetensors(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise MissingDependencyError(
            f"found no package 'safetensors', which .safetensors files need: {install_line('cli')}"
        ) from None
