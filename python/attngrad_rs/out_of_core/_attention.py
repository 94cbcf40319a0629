"""The vector-Jacobian product of one long head, exactly, from inputs that are read in blocks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import _core
from .._inputs.arrays import Array
from .._inputs.options import Options, Progress, wrong_type
from ..errors import DTypeError, OptionTypeError
from ..partial import Fold, PartialGradients, SoftmaxState
from ..plans import Plan
from ..results import AttentionGradients, Certificate
from . import _checkpoint
from ._checkpoint import Checkpoint
from ._gradient import shard_rows
from ._outputs import check_outputs, opened
from ._passes import Clock
from ._passes import in_flight as shards_in_flight
from ._sources import Blocks, Source, not_finite, source_of

NAMES = ("query", "key", "value")
# Sums over the queries of earlier shards: behind a shard, before it, and before the one before, to
# which an older checkpoint goes back.
SUMS = ("sums-0", "sums-1", "sums-2")

Rows = Any
R = TypeVar("R")


def attention_vjp(
    query: Rows, key: Rows, value: Rows, dout: Rows,
    *,
    out: Mapping[str, Any],
    scale: float | None = None,
    rows: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    in_flight: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
    check_finite: bool = True,
) -> AttentionGradients[Any]:  # fmt: skip
    """Gradients of ⟨dout, attention⟩ of one head of any length, by the exact method.

    Shards of queries meet shards of keys: the softmax of a shard of queries is merged over all
    shards of keys, and then the gradient goes back through these. Memory is that of one such pair
    for each worker; keys are read twice for each shard of queries.

    Parameters
    ----------
    query, key, value, dout : array of rows
        Matrices (L, E), (S, E), (S, Ev) and (L, Ev): a ``numpy.memmap``, a Zarr array or anything
        with ``shape``, ``dtype`` and slices of rows.
    out : dict of paths or arrays
        Places for the gradients: ``{"query": "dq.npy", "key": "dk.npy", "value": "dv.npy"}``, each
        a path, a memmap or a Zarr array. A path is written whole or not at all, and mapped in the
        result.
    scale : float, optional
        As in ``attngrad_rs.attention_vjp``.
    rows, checkpoint, executor, in_flight, threads, progress, timeout, check_finite
        As in ``out_of_core.loss_gradient``; a checkpoint is saved after each shard of queries, and
        its folder then also holds the sums over queries so far, (S, E + Ev) in float64, three
        times.

    Returns
    -------
    AttentionGradients
        The gradients in ``out``, with exact certificates.

    Raises
    ------
    AttnGradError
        As ``out_of_core.loss_gradient``.

    Examples
    --------
    >>> import numpy as np
    >>> from attngrad_rs import out_of_core
    >>> rng = np.random.default_rng(0)
    >>> query, key, value, dout = (rng.standard_normal((3000, 8)) for _ in range(4))
    >>> out = {name: np.empty((3000, 8)) for name in ("query", "key", "value")}
    >>> dq, dk, dv = out_of_core.attention_vjp(query, key, value, dout, out=out, rows=1000)
    >>> dq is out["query"]
    True
    """
    start = time.perf_counter()
    if threads is None and executor is not None:
        threads = 1
    given = Options(
        scale=scale, threads=threads, progress=progress, timeout=timeout, check_finite=check_finite
    ).checked()
    if executor is not None and not isinstance(executor, Executor):
        raise wrong_type("executor", executor, "a concurrent.futures.Executor or None")
    sources = read_heads({"query": query, "key": key, "value": value, "dout": dout})
    dtype = sources["query"].dtype
    shapes = {name: sources[name].shape for name in NAMES}
    places = check_outputs(out, NAMES, shapes, dtype, NAMES)
    each, flight = shard_rows(rows, sources), shards_in_flight(executor, in_flight)
    saved = None
    if checkpoint is not None:
        saved = Checkpoint(checkpoint, _problem(sources, each, given), 0.0)
    reached = _checkpoint.Progress() if saved is None else saved.load()
    (n, _), (m, _) = shapes["query"], shapes["key"]
    clock = Clock(given.timeout, given.progress, max(n, 1))
    tiles = _Tiles(sources, each, given, clock, executor, flight)
    keeps = saved is not None
    with opened(places, shapes, dtype, keeps) as outputs, _folder(checkpoint) as folder:
        sums = _Sums(folder, m, shapes["key"][1] + shapes["value"][1])
        errors = _Errors.of(reached.done)
        clock.advance(min(reached.stage * each, n))
        for number in range(reached.stage, -(-n // each)):
            ends = (number * each, min((number + 1) * each, n))
            dq, rounding = tiles.shard(ends, number, sums)
            outputs["query"].write(ends[0], dq)
            errors.add(rounding, dq)
            if saved is not None:
                outputs["query"].sync()
                sums.sync(number + 1)
                saved.save(_checkpoint.Progress(number + 1, errors.to_bytes()))
            clock.advance(ends[1] - ends[0])
        for first in range(0, m, each):
            parts = sums.read(-(-n // each), first, min(first + each, m)).astype(dtype)
            dk, dv = np.split(parts, [shapes["key"][1]], axis=1)
            outputs["key"].write(first, dk)
            outputs["value"].write(first, dv)
            errors.squares[1:] += [np.square(one, dtype=np.float64).sum() for one in (dk, dv)]
        gradients = {name: outputs[name].finish() for name in NAMES}
    certificates = {
        name: Certificate.of_core(_core.exact_certificate(rounding, math.sqrt(square)))
        for name, rounding, square in zip(NAMES, errors.rounding, errors.squares, strict=True)
    }
    return AttentionGradients(
        dq=gradients["query"], dk=gradients["key"], dv=gradients["value"],
        certificates=certificates, plan=Plan("exact", reason="it was asked for by name"),
        seconds=time.perf_counter() - start,
    )  # fmt: skip


def read_heads(named: Mapping[str, Rows]) -> dict[str, Source]:
    """The inputs, held against each other before any is read."""
    sources = {name: source_of(name, value) for name, value in named.items()}
    dtype = sources["query"].dtype
    for name, source in sources.items():
        if isinstance(source, Blocks):
            raise OptionTypeError(
                f"{name}: found blocks of rows; expected an array of which a slice gives rows, as "
                "keys are read once for each shard of queries"
            )
        if source.dtype != dtype:
            found = f"found {source.dtype} where query is {dtype}"
            raise DTypeError(f"{name}: {found}; expected one dtype")
    shapes = {name: source.shape for name, source in sources.items()}
    _core.Shape.of_heads(shapes)
    return sources


def _problem(sources: Mapping[str, Source], rows: int, given: Options) -> str:
    """A name for all that the bits of the result depend on, but for rows that no one looked at."""
    samples = {name: hashlib.sha256(one.sample().tobytes()) for name, one in sources.items()}
    about = {
        "version": _core.__version__, "level": _core.level(), "rows": rows, "scale": given.scale,
        "shapes": {name: [*one.shape, str(one.dtype)] for name, one in sources.items()},
        "samples": {name: digest.hexdigest() for name, digest in samples.items()},
    }  # fmt: skip
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _folder(checkpoint: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder of the sums: that of the checkpoint, or one that is gone afterwards."""
    if checkpoint is not None:
        Path(checkpoint).mkdir(parents=True, exist_ok=True)
        yield Path(checkpoint)
        return
    with tempfile.TemporaryDirectory(prefix="attngrad-") as name:
        yield Path(name)


class _Errors:
    """Rounding estimates of the three gradients, and the squares of their norms."""

    def __init__(self, rounding: Array, squares: Array) -> None:
        self.rounding = rounding
        self.squares = squares

    @classmethod
    def of(cls, done: Sequence[bytes]) -> _Errors:
        """Those of a checkpoint, or of nothing yet."""
        numbers = np.frombuffer(done[0]) if done else np.zeros(2 * len(NAMES))
        return cls(*np.array(np.split(numbers, 2)))

    def to_bytes(self) -> list[bytes]:
        """The way to a checkpoint."""
        return [np.concatenate([self.rounding, self.squares]).tobytes()]

    def add(self, rounding: Array, dq: Array) -> None:
        """Count a shard of queries in."""
        self.rounding = self.rounding + rounding
        self.squares[0] += np.square(dq, dtype=np.float64).sum()


class _Sums:
    """Rows of dk and dv, side by side, summed over shards of queries in float64: on the disk."""

    def __init__(self, folder: Path, rows: int, width: int) -> None:
        self._paths = [folder / name for name in SUMS]
        self._row = 8 * width
        self._width = width
        for path in self._paths:
            with open(path, "ab") as file:
                if hasattr(os, "posix_fallocate") and rows * width:
                    os.posix_fallocate(file.fileno(), 0, rows * self._row)

    def read(self, shards: int, start: int, stop: int) -> Array:
        """The sums over so many shards of queries."""
        if shards == 0:
            return np.zeros((stop - start, self._width))
        path, count = self._paths[shards % len(SUMS)], (stop - start) * self._width
        numbers = np.fromfile(path, np.float64, count, offset=start * self._row)
        return numbers.reshape(stop - start, self._width)

    def add(self, shards: int, start: int, parts: Array) -> None:
        """Rows of the sums over one shard more."""
        sums = self.read(shards, start, start + len(parts)) + parts
        with open(self._paths[(shards + 1) % len(SUMS)], "r+b") as file:
            file.seek(start * self._row)
            file.write(sums.tobytes())

    def sync(self, shards: int) -> None:
        """Flush the sums over so many shards to the disk."""
        with open(self._paths[shards % len(SUMS)], "r+b") as file:
            os.fsync(file.fileno())


# Rows that are there, or where they are to be read.
Place = Array | tuple[Source, tuple[int, int]]


def rows_of(name: str, place: Place, first: int, check_finite: bool) -> Array:
    """The rows themselves; the error names one that is not finite by its number in the whole."""
    rows = place[0].read(*place[1]) if isinstance(place, tuple) else place
    if check_finite and not (good := np.isfinite(rows)).all():
        row, column = map(int, np.unravel_index(int(np.argmin(good)), rows.shape))
        raise not_finite(name, rows[row, column], (first + row, column))
    return rows


def softmax_tile(
    query: Array, key: Place, value: Place, first: int, options: dict[str, Any]
) -> bytes:
    """The state of a tile."""
    check = options["check_finite"]
    parts = (rows_of("key", key, first, check), rows_of("value", value, first, check))
    return SoftmaxState.of(query, *parts, **options).to_bytes()


def pull_tile(
    state: bytes, query: Array, key: Place, value: Place, dout: Array, options: dict[str, Any]
) -> PartialGradients:
    """The gradients of a tile."""
    parts = (rows_of("key", key, 0, False), rows_of("value", value, 0, False))
    return SoftmaxState.from_bytes(state).pull_back(query, *parts, dout, **options)


class _Tiles:
    """The shards of keys that a shard of queries meets."""

    def __init__(
        self, sources: Mapping[str, Source], rows: int, given: Options, clock: Clock,
        executor: Executor | None, in_flight: int,
    ) -> None:  # fmt: skip
        self._sources = sources
        self._given = given
        self._clock = clock
        self._executor = executor
        self._in_flight = in_flight
        count = sources["key"].shape[0]
        self._keys = [(at, min(at + rows, count)) for at in range(0, count, rows)]
        portable = [sources[name].portable() for name in ("key", "value")]
        self._by_path = executor is not None and None not in portable
        self._places = dict(zip(("key", "value"), portable, strict=True))

    def shard(self, ends: tuple[int, int], number: int, sums: _Sums) -> tuple[Array, Array]:
        """dq of a shard of queries, and the rounding estimates; dk and dv go to the sums."""
        given = self._given
        options = {"scale": given.scale, "threads": given.threads}
        check = given.check_finite
        query = rows_of("query", self._sources["query"].read(*ends), ends[0], check)
        dout = rows_of("dout", self._sources["dout"].read(*ends), ends[0], check)
        none = [np.empty((0, self._sources[name].shape[1]), query.dtype) for name in NAMES[1:]]
        fold = Fold(SoftmaxState.of(query, *none, **options))
        checked = {**options, "check_finite": check}
        tiles = ((query, *self._tile(at), at[0], checked) for at in self._keys)
        for state in self._in_order(softmax_tile, tiles):
            fold.add(SoftmaxState.from_bytes(state))
        state = fold.result().to_bytes()
        dq, rounding = np.zeros(query.shape), np.zeros(len(NAMES))
        known = {**options, "check_finite": False}
        pulled = ((state, query, *self._tile(at), dout, known) for at in self._keys)
        for (start, _), part in zip(self._keys, self._in_order(pull_tile, pulled), strict=True):
            dq += part.dq
            rounding += part.rounding
            sums.add(number, start, np.concatenate([part.dk, part.dv], axis=1, dtype=np.float64))
        return dq.astype(query.dtype), rounding

    def _tile(self, ends: tuple[int, int]) -> tuple[Any, Any]:
        """Keys and values, or where they are."""
        if self._by_path:
            return (self._places["key"], ends), (self._places["value"], ends)
        return self._sources["key"].read(*ends), self._sources["value"].read(*ends)

    def _in_order(
        self, work: Callable[..., R], tasks: Iterable[tuple[Any, ...]]
    ) -> Generator[R, None, None]:
        """The results of tasks in their order, by the executor where there is one."""
        if self._executor is None:
            for task in tasks:
                self._clock.left()
                yield work(*task)
            return
        waiting: deque[Future[R]] = deque()
        try:
            for task in tasks:
                waiting.append(self._executor.submit(work, *task))
                if len(waiting) >= self._in_flight:
                    yield waiting.popleft().result(self._clock.left())
            while waiting:
                yield waiting.popleft().result(self._clock.left())
        except TimeoutError:
            self._clock.left()
            raise
        finally:
            for future in waiting:
                future.cancel()
