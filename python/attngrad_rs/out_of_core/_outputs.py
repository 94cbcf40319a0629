"""Gradients by token, written shard by shard into arrays of the caller or into files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from .._inputs.arrays import Array
from .._inputs.options import show
from .._inputs.output import check_output
from ..errors import OptionError, OptionTypeError, OutputError, ShapeError
from ._checkpoint import sync_folder

TOKENS = ("A1", "A2", "A3")


class Output(Protocol):
    """Where the rows of one gradient go."""

    def write(self, start: int, rows: Array) -> None:
        """Put rows in their places."""
        ...

    def sync(self) -> None:
        """Make what was written last."""
        ...

    def finish(self) -> Any:
        """The whole, once all of it is there."""
        ...

    def leave(self, keeps: bool) -> None:
        """End early: keep what is there for another call, or leave nothing behind."""
        ...


class Given:
    """An array of the caller: a memmap, a Zarr array, any that takes a slice of rows."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def write(self, start: int, rows: Array) -> None:
        """Assign a slice."""
        self._array[start : start + len(rows)] = rows

    def sync(self) -> None:
        """Flush it, if it can be."""
        if isinstance(self._array, np.memmap):
            self._array.flush()

    def finish(self) -> Any:
        """The array itself."""
        self.sync()
        return self._array

    def leave(self, keeps: bool) -> None:
        """It is the caller's."""


class File:
    """A ``.npy`` file, which has another name until all of it is there.

    All of its room is taken at the start, so that a full disk is an error before any work.
    """

    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._row = shape[1] * dtype.itemsize
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False,
                  "shape": shape}  # fmt: skip
        with self._told():
            mode = "r+b" if self._partial.exists() else "x+b"
            self._file: IO[bytes] = open(self._partial, mode)  # noqa: SIM115
        with self._told():
            np.lib.format.write_array_header_1_0(self._file, header)
            self._begin = self._file.tell()
            size = self._begin + shape[0] * self._row
            self._file.truncate(size)
            if hasattr(os, "posix_fallocate") and size:
                os.posix_fallocate(self._file.fileno(), 0, size)

    @contextlib.contextmanager
    def _told(self) -> Any:
        try:
            yield
        except OSError as error:
            self.leave(False)
            text = f"{self._path}: found that it cannot be written ({error.strerror or error})"
            raise OutputError(f"{text}; nothing was left behind", path=str(self._path)) from error

    def write(self, start: int, rows: Array) -> None:
        """Write them at their place in the file."""
        with self._told():
            self._file.seek(self._begin + start * self._row)
            self._file.write(np.ascontiguousarray(rows).data.cast("B") if rows.size else b"")

    def sync(self) -> None:
        """Flush to the disk."""
        with self._told():
            self._file.flush()
            os.fsync(self._file.fileno())

    def finish(self) -> Any:
        """Give the file its name, and map it."""
        self.sync()
        self._file.close()
        with self._told():
            os.replace(self._partial, self._path)
            sync_folder(self._path.parent)
        return np.load(self._path, mmap_mode="r", allow_pickle=False)

    def leave(self, keeps: bool) -> None:
        """Close the file, and remove it where it is not kept."""
        with contextlib.suppress(OSError, AttributeError):
            self._file.close()
        if not keeps:
            with contextlib.suppress(OSError):
                self._partial.unlink()


def check_outputs(
    out: object,
    wrt: tuple[str, ...],
    shapes: Mapping[str, tuple[int, int]],
    dtype: np.dtype[Any],
    tokens: tuple[str, ...] = TOKENS,
) -> dict[str, Any]:
    """The places for the gradients by token, held against what they are to take."""
    wanted = [name for name in wrt if name in tokens]
    if not isinstance(out, Mapping):
        if out is not None or not wanted:
            if out is None:
                return {}
            raise OptionTypeError(f"out: found {show(out)}; expected a dict by the names of wrt")
        out = {}
    for name in out:
        if name not in wanted:
            raise OptionError(f"out: found {show(name)}; expected names by token of wrt: {wanted}")
    for name in wanted:
        place = out.get(name)
        if place is None:
            raise OptionError(
                f"out: found no place for {name!r}; expected a path (.npy), a memmap or a Zarr "
                "array in out={name: place} for each gradient by token"
            )
        if isinstance(place, (str, os.PathLike)):
            check_output(place)
            continue
        found = (tuple(getattr(place, "shape", ())), getattr(place, "dtype", None))
        if found != (shapes[name], dtype):
            raise ShapeError(
                f"out[{name!r}]: found shape {found[0]} and dtype {found[1]}; expected "
                f"{shapes[name]} and {dtype}"
            )
    return dict(out)


@contextlib.contextmanager
def opened(
    places: Mapping[str, Any], shapes: Mapping[str, tuple[int, int]], dtype: np.dtype[Any],
    keeps: bool,
) -> Iterator[dict[str, Output]]:  # fmt: skip
    """The outputs, ready to be written to; ``keeps`` says what becomes of half of one."""
    made: dict[str, Output] = {}
    try:
        for name, place in places.items():
            if isinstance(place, (str, os.PathLike)):
                made[name] = File(Path(place), shapes[name], dtype)
            else:
                made[name] = Given(place)
        yield made
    except BaseException:
        for output in made.values():
            output.leave(keeps)
        raise
