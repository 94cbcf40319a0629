"""Inputs that are read in windows of rows: the same windows, whatever the blocks they come in."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .._inputs.arrays import Array, read_array
from .._inputs.options import show
from ..errors import DTypeError, NonFiniteError, OptionTypeError, ShapeError

# Places of an input that rows are sampled at, and rows there: as many chunks are read, at most.
PLACES = 32
ROWS = 128


def places(count: int) -> list[tuple[int, int]]:
    """The rows that are sampled of so many: evenly apart, whatever the blocks they come in."""
    if count <= PLACES * ROWS:
        return [(0, count)]
    starts = [place * (count - ROWS) // (PLACES - 1) for place in range(PLACES)]
    return [(start, start + ROWS) for start in starts]


def sampled(source: Source) -> Array:
    """The sample of an input; NonFiniteError names the row in the whole."""
    return finite_sample(source.name, source.sample(), source.shape[0])


def finite_sample(name: str, rows: Array, count: int) -> Array:
    """The rows that were sampled of so many, where all are finite."""
    if not (good := np.isfinite(rows)).all():
        at, column = map(int, np.unravel_index(int(np.argmin(good)), rows.shape))
        every = np.concatenate([np.arange(*ends) for ends in places(count)])
        raise not_finite(name, rows[at, column], (int(every[at]), column))
    return rows


def not_finite(name: str, found: Any, index: tuple[int, int], where: str = "") -> NonFiniteError:
    """The error for a number of an input that is none, with its place in the whole."""
    return NonFiniteError(
        f"{name}: found {found} at index {index}{where}; expected finite numbers "
        "(check_finite=False skips this test)"
    )


class Source(Protocol):
    """An input: rows that are read in windows."""

    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def sample(self) -> Array:
        """Some rows from all over it, the same at every call."""
        ...

    def windows(self, rows: int, first: int) -> Iterator[Array]:
        """So many rows at a time, from a window on."""
        ...

    def portable(self) -> Source | None:
        """The same for another process, which opens it by its path; None where it has none."""
        ...

    def read(self, start: int, stop: int) -> Array:
        """The rows from ``start`` to ``stop``; of one that is portable."""
        ...


@dataclass
class Sliced:
    """An array of any kind of which a slice gives rows."""

    name: str
    value: Any
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, start: int, stop: int) -> Array:
        """The rows from ``start`` to ``stop``."""
        rows = np.asarray(self.value[start:stop])
        wanted = (stop - start, self.shape[1])
        if rows.shape != wanted or rows.dtype != self.dtype:
            found = f"found shape {rows.shape} and dtype {rows.dtype} for rows {start} to {stop}"
            raise ShapeError(f"{self.name}: {found}; expected {wanted} and {self.dtype}")
        return rows

    def sample(self) -> Array:
        """Rows at the places."""
        return np.concatenate([self.read(*ends) for ends in places(self.shape[0])])

    def windows(self, rows: int, first: int) -> Iterator[Array]:
        """Slices."""
        count = self.shape[0]
        for start in range(first * rows, count, rows):
            yield self.read(start, min(start + rows, count))

    def portable(self) -> Source | None:
        """The same by its path: a memmap of whole rows, or a Zarr array."""
        if isinstance(self.value, np.memmap):
            return OnDisk.of(self)
        return self if type(self.value).__module__.partition(".")[0] == "zarr" else None


@dataclass
class OnDisk:
    """Rows of a file, opened where they are read."""

    name: str
    path: str
    offset: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, source: Sliced) -> OnDisk | None:
        """That of a memmap, or of whole rows of one."""
        value: np.memmap[Any, Any] = source.value
        mapped = getattr(value, "_mmap", None)
        if value.filename is None or mapped is None or not value.flags.c_contiguous:
            return None
        begin = np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
        # The map begins at the page before what was asked for; a view keeps the offset of that.
        page = value.offset - value.offset % mmap.ALLOCATIONGRANULARITY
        offset = page + value.__array_interface__["data"][0] - begin
        return cls(source.name, str(value.filename), offset, source.shape, source.dtype)

    def read(self, start: int, stop: int) -> Array:
        """The rows from ``start`` to ``stop``."""
        width = self.shape[1]
        offset = self.offset + start * width * self.dtype.itemsize
        rows = np.fromfile(self.path, self.dtype, (stop - start) * width, offset=offset)
        return rows.reshape(stop - start, width)

    def sample(self) -> Array:
        """As that of the memmap."""
        return Sliced(self.name, np.memmap(self.path, self.dtype, "r", self.offset, self.shape),
                      self.shape, self.dtype).sample()  # fmt: skip

    def windows(self, rows: int, first: int) -> Iterator[Array]:
        """Reads of the file."""
        count = self.shape[0]
        for start in range(first * rows, count, rows):
            yield self.read(start, min(start + rows, count))

    def portable(self) -> Source | None:
        """Itself."""
        return self


class Blocks:
    """A collection of blocks of rows that can be gone through again and again.

    It is gone through once for its size and once for the sample. Blocks may be of any numbers of
    rows; neither windows nor the sample depend on them.
    """

    def __init__(self, name: str, blocks: Iterable[object]) -> None:
        self.name = name
        self._blocks = blocks
        count, first = 0, None
        for block in self._read():
            first = block if first is None else first
            count += len(block)
        if first is None:
            raise ShapeError(f"{name}: found no block; expected at least one")
        self.shape: tuple[int, int] = (count, first.shape[1])
        self.dtype: np.dtype[Any] = first.dtype

    def _read(self) -> Iterator[Array]:
        shape, dtype = None, None
        for number, value in enumerate(self._blocks):
            block = read_array(f"{self.name}, block {number}", value)
            if block.ndim != 2 or (shape is not None and block.shape[1] != shape[1]):
                wanted = "a matrix" if shape is None else f"{shape[1]} columns as in block 0"
                found = f"found shape {block.shape}"
                raise ShapeError(f"{self.name}, block {number}: {found}; expected {wanted}")
            if dtype is not None and block.dtype != dtype:
                found = f"found {block.dtype} where block 0 is {dtype}"
                raise DTypeError(f"{self.name}, block {number}: {found}; expected one dtype")
            shape, dtype = block.shape, block.dtype
            yield block

    def sample(self) -> Array:
        """Rows at the places."""
        wanted, parts, start = places(self.shape[0]), list[Array](), 0
        for block in self._read():
            for first, last in wanted:
                part = block[max(first - start, 0) : max(last - start, 0)]
                if len(part):
                    parts.append(np.array(part))
            start += len(block)
        return np.concatenate(parts) if parts else np.empty((0, self.shape[1]), self.dtype)

    def windows(self, rows: int, first: int) -> Iterator[Array]:
        """Rows put together from the blocks."""
        skip, parts, have, seen = first * rows, list[Array](), 0, 0
        for block in self._read():
            seen += len(block)
            skipped = min(skip, len(block))
            skip, rest = skip - skipped, block[skipped:]
            while len(rest):
                part = rest[: rows - have]
                parts.append(part)
                have, rest = have + len(part), rest[len(part) :]
                if have == rows:
                    yield np.concatenate(parts)
                    parts, have = [], 0
        if seen != self.shape[0]:
            found = f"found {seen} rows where there were {self.shape[0]} before"
            raise ShapeError(f"{self.name}: {found}; expected the same blocks at every pass")
        if parts:
            yield np.concatenate(parts)

    def portable(self) -> Source | None:
        """None: blocks are sent."""
        return None

    def read(self, start: int, stop: int) -> Array:
        """Blocks have no rows of their own."""
        raise NotImplementedError


def source_of(name: str, value: object) -> Source:
    """The input that an argument is."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and hasattr(value, "__getitem__"):
        if len(shape) != 2:
            raise ShapeError(f"{name}: found shape {tuple(shape)}; expected a matrix")
        if any(size != size for size in shape):
            found = "found an unknown number of rows"
            raise ShapeError(f"{name}: {found}; compute the sizes of its chunks first")
        # Whatever it is, its dtype is one of NumPy, with the message of any other call.
        native = read_array(name, np.empty((0, 0), dtype)).dtype
        return Sliced(name, value, (int(shape[0]), int(shape[1])), native)
    if isinstance(value, Iterator):
        raise OptionTypeError(
            f"{name}: found {show(value)}, which can be read only once; expected an array, or "
            "blocks that can be gone through again: a list, or an object whose __iter__ begins anew"
        )
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        # A matrix written as a list of rows is small: it is one block.
        if isinstance(value, Sequence) and value and not hasattr(value[0], "ndim"):
            value = [read_array(name, value)]
        return Blocks(name, value)
    raise OptionTypeError(f"{name}: found {show(value)}; expected an array, or blocks of rows")
