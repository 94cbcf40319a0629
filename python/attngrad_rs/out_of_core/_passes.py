"""A pass over shards: read, computed here or by an executor, merged in order, and saved."""

from __future__ import annotations

import functools
import math
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .._inputs.arrays import Array
from .._inputs.options import integer
from ..errors import DeadlineError, NonFiniteError
from ..partial import Fold, Frame, GradientState, KeyState, QueryState
from ._checkpoint import Checkpoint, Progress
from ._outputs import Output
from ._sources import Source, not_finite

State = KeyState | QueryState | GradientState
R = TypeVar("R")

# Shards in flight for each worker of an executor: one that is computed, one that waits.
EACH = 2


class Stage(NamedTuple):
    """A pass: the state that it makes, and the inputs that it reads."""

    state: type[KeyState] | type[QueryState] | type[GradientState]
    inputs: tuple[str, str]


STAGES = (
    Stage(KeyState, ("A2", "A3")),
    Stage(QueryState, ("A1", "E")),
    Stage(GradientState, ("A2", "A3")),
)


@dataclass(frozen=True)
class Work:
    """What is done to each shard of a pass, here or elsewhere."""

    frame: Frame
    stage: int
    before: bytes | None
    """The merged state of the pass before."""
    threads: int | None
    check_finite: bool

    @functools.cached_property
    def _before(self) -> Any:
        return STAGES[self.stage - 1].state.from_bytes(self.frame, self.before or b"")

    def __call__(
        self, shard: int, first: int, blocks: tuple[Array, ...], timeout: float | None = None
    ) -> tuple[State, dict[str, Array]]:
        """The state of a shard, and its rows of the gradients by token that are wanted.

        ``first`` is the number of its first row in the whole.
        """
        options: dict[str, Any] = {
            "threads": self.threads, "timeout": timeout, "check_finite": self.check_finite,
        }  # fmt: skip
        found: dict[str, Array | None] = {}
        state: State
        try:
            if self.stage == 0:
                state = self.frame.keys(*blocks, **options)
            elif self.stage == 1:
                state, rows = self.frame.queries(self._before, *blocks, first=first, **options)
                found = {"A1": rows}
            else:
                state, keys, values = self.frame.gradients(self._before, *blocks, **options)
                found = {"A2": keys, "A3": values}
        except NonFiniteError as error:
            raise self._named(shard, first, blocks) or error from None
        return state, {name: rows for name, rows in found.items() if rows is not None}

    def _named(self, shard: int, first: int, blocks: tuple[Array, ...]) -> NonFiniteError | None:
        """The error that names the shard, and the row in the whole input."""
        for name, block in zip(STAGES[self.stage].inputs, blocks, strict=True):
            if not (good := np.isfinite(block)).all():
                row, column = map(int, np.unravel_index(int(np.argmin(good)), block.shape))
                place = (first + row, column)
                return not_finite(name, block[row, column], place, f", in shard {shard}")
        return None


@functools.lru_cache(maxsize=2)
def _unpacked(work: bytes) -> tuple[Work, tuple[Source, ...] | None]:
    made: tuple[Work, tuple[Source, ...] | None] = pickle.loads(work)
    return made


def _remote(
    work: bytes, shard: int, ends: tuple[int, int], blocks: tuple[Array, ...] | None
) -> tuple[bytes, dict[str, Array]]:
    """One shard, in another process or thread: read there, where its inputs have a path."""
    made, sources = _unpacked(work)
    if blocks is None:
        blocks = tuple(source.read(*ends) for source in sources or ())
    state, rows = made(shard, ends[0], blocks)
    return state.to_bytes(), rows


def in_flight(executor: Executor | None, given: int | None) -> int:
    """Shards that are with an executor at a time: enough for all of its workers, if it tells."""
    if given is not None:
        return integer("in_flight", given, "an integer of at least 1, or None", 1, math.inf)
    return EACH * (getattr(executor, "_max_workers", None) or os.cpu_count() or 1)


class Clock:
    """The time that is left of a call, and how far it has come."""

    def __init__(
        self, timeout: float | None, progress: Callable[[float], object] | None, total: int
    ) -> None:
        self._timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout
        self._progress = progress
        self._total = max(total, 1)
        self._done = 0

    def left(self) -> float | None:
        """Seconds; DeadlineError where there are none."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineError(
                f"timeout: not finished within {self._timeout:g} s; allow more time (with "
                "checkpoint= the next call goes on from here)"
            )
        return left

    def advance(self, rows: int) -> None:
        """So many rows more are done."""
        self._done += rows
        if self._progress is not None:
            self._progress(self._done / self._total)


@dataclass
class Runner:
    """How the passes of one call run."""

    sources: Mapping[str, Source]
    rows: int
    outputs: Mapping[str, Output]
    clock: Clock
    checkpoint: Checkpoint | None
    executor: Executor | None
    in_flight: int

    def run(self, work: Work, progress: Progress) -> State:
        """The merged state of a pass, from where ``progress`` says that it is."""
        stage = STAGES[work.stage]
        sources = tuple(self.sources[name] for name in stage.inputs)
        frame, make = work.frame, stage.state.from_bytes
        trees = [(height, make(frame, data)) for height, data in progress.trees]
        fold: Fold[Any] = Fold(stage.state.empty(frame), trees)
        count = sources[0].shape[0]
        self.clock.advance(min(fold.count * self.rows, count))
        each = self._local if self.executor is None else self._elsewhere
        shards = each(work, sources, fold.count)
        try:
            for state, rows in shards:
                start = fold.count * self.rows
                for name, part in rows.items():
                    self.outputs[name].write(start, part)
                fold.add(state)
                self.clock.advance(min(self.rows, count - start))
                if self.checkpoint is not None and self.checkpoint.is_due:
                    self._save(progress, fold)
        except BaseException:
            shards.close()
            if self.checkpoint is not None:
                self._save(progress, fold)
            raise
        merged: State = fold.result()
        progress.stage += 1
        progress.trees = []
        progress.done.append(merged.to_bytes())
        if self.checkpoint is not None:
            self._save(progress, None)
        return merged

    def _save(self, progress: Progress, fold: Fold[Any] | None) -> None:
        """A checkpoint, once the rows that it stands for are on the disk."""
        assert self.checkpoint is not None
        for output in self.outputs.values():
            output.sync()
        if fold is not None:
            progress.trees = [(height, state.to_bytes()) for height, state in fold.trees]
        self.checkpoint.save(progress)

    def _local(
        self, work: Work, sources: tuple[Source, ...], first: int
    ) -> Generator[tuple[State, dict[str, Array]], None, None]:
        """Every shard in this process, the next one being read meanwhile."""
        with ThreadPoolExecutor(1, thread_name_prefix="attngrad-read") as reader:
            blocks = zip(*(source.windows(self.rows, first) for source in sources), strict=True)
            read = reader.submit(_next, blocks)
            shard = first
            while (now := read.result()) is not None:
                read = reader.submit(_next, blocks)
                yield work(shard, shard * self.rows, now, self.clock.left())
                shard += 1

    def _elsewhere(
        self, work: Work, sources: tuple[Source, ...], first: int
    ) -> Generator[tuple[State, dict[str, Array]], None, None]:
        """Every shard by the workers of the executor, a few at a time, in order."""
        assert self.executor is not None
        portable = [source.portable() for source in sources]
        known = tuple(one for one in portable if one is not None)
        by_path = len(known) == len(sources)
        packed = pickle.dumps((work, known if by_path else None))
        make = STAGES[work.stage].state.from_bytes
        waiting: deque[Future[tuple[bytes, dict[str, Array]]]] = deque()
        count = sources[0].shape[0]
        windows = zip(*(source.windows(self.rows, first) for source in sources), strict=True)
        try:
            for shard in range(first, -(-count // self.rows)):
                blocks = None if by_path else tuple(map(np.ascontiguousarray, next(windows)))
                ends = (shard * self.rows, min((shard + 1) * self.rows, count))
                waiting.append(self.executor.submit(_remote, packed, shard, ends, blocks))
                while len(waiting) >= self.in_flight:
                    state, rows = waiting.popleft().result(self.clock.left())
                    yield make(work.frame, state), rows
            while waiting:
                state, rows = waiting.popleft().result(self.clock.left())
                yield make(work.frame, state), rows
        except TimeoutError:
            self.clock.left()
            raise
        finally:
            # Nothing is left to run for a caller that is gone.
            for future in waiting:
                future.cancel()


def _next(blocks: Iterator[tuple[Array, ...]]) -> tuple[Array, ...] | None:
    """The next blocks, read from wherever they are; None behind the last."""
    found = next(blocks, None)
    return None if found is None else tuple(np.array(block) for block in found)
