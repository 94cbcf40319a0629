"""The gradient of the paper's problem from inputs that are read in blocks."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from .. import _core
from .._inputs.arrays import Array, is_pair, read_matrices
from .._inputs.options import Input, Options, Progress, integer, real, wrong_type
from ..errors import DTypeError
from ..partial import Frame, GradientState
from ..results import GradientResult
from . import _checkpoint
from ._checkpoint import Checkpoint
from ._outputs import check_outputs, opened
from ._passes import STAGES, Clock, Runner, Work
from ._passes import in_flight as shards_in_flight
from ._sources import Source, sampled, source_of

# Numbers of one input in a shard, and its rows at most and at least: large enough that a shard
# costs more than to read it, and small beside the memory of any machine.
SHARD_NUMBERS = 2**21
SHARD_ROWS = (2**10, 2**17)

Weights = npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike]
# An array of any kind, or blocks of one.
Rows = Any


def loss_gradient(
    A1: Rows, A2: Rows, A3: Rows, X: Weights, Y: npt.ArrayLike, E: Rows,
    *,
    degree: int,
    wrt: Input | Sequence[Input] = "X",
    scale: float | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    out: Mapping[str, Any] | None = None,
    rows: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
    executor: Executor | None = None,
    in_flight: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
    check_finite: bool = True,
) -> GradientResult[Any]:  # fmt: skip
    """Gradient of the attention loss by the polynomial method, from inputs of any length.

    A pass over the keys, one over the queries and, for outputs of the key side, another over the
    keys; each reads every block once. Memory does not grow with the inputs.

    Parameters
    ----------
    A1, A2, A3, E : array of rows, or blocks of one
        As in ``attngrad_rs.loss_gradient``: a ``numpy.memmap``, a Zarr array or anything with
        ``shape``, ``dtype`` and slices of rows; or blocks of rows in a list or another object
        that can be gone through again and again.
    X, Y : array_like
        The weights, as there; X may be the pair (W_Q, W_K).
    degree : int
        Degree of the polynomial. ``result.plan.predicted_error`` is what a sample of rows lets
        expect of it.
    wrt : str or sequence of str
        As there, but not "A".
    scale, rtol, atol : float, optional
        As there; the certificates that tolerances are held against are rigorous ones.
    out : dict of paths or arrays, optional
        Places for the gradients by token, by their names: ``{"A1": "dA1.npy"}``, a memmap or a Zarr
        array. A path is written whole or not at all, and mapped in the result.
    rows : int, optional
        Rows of a shard. The bits of the result depend on it, but not on the blocks of the inputs.
    checkpoint : path, optional
        A folder. Where it has a checkpoint of the same call, the call goes on from there, and ends
        with the same bits; a call that ends early, by whatever means, can so be repeated. Rows
        that are not looked at for the plan are not compared: it is up to the caller that they are
        still the same.
    checkpoint_seconds : float
        Time from one checkpoint to the next.
    executor : concurrent.futures.Executor, optional
        Its workers compute the shards, in other processes or on other machines. A memmap and a Zarr
        array are opened there by their path; other inputs are sent. The result has the same bits.
    in_flight : int, optional
        Shards that are with the executor at a time: by default two for each of its workers, or for
        each core of this machine where it does not say how many there are.
    threads : int, optional
        Threads of each shard: by default all that the process may use, with an executor one.
    progress, timeout, check_finite
        As there; ``progress`` is called after every shard.

    Returns
    -------
    GradientResult
        As there. Gradients by token are those in ``out``.

    Raises
    ------
    AttnGradError
        As there: inputs are held against each other before any work. NonFiniteError names the shard
        and the row. OptionError also where the polynomial does not serve some queries, with the
        first. CheckpointError for a folder of another call, and OutputError with the path for
        everything that the system refuses.

    Examples
    --------
    >>> import numpy as np
    >>> from attngrad_rs import out_of_core
    >>> rng = np.random.default_rng(0)
    >>> A1, A2, A3, E = (rng.uniform(-1, 1, (5000, 4)) for _ in range(4))
    >>> X, Y = np.eye(4), np.eye(4)
    >>> result = out_of_core.loss_gradient(A1, A2, A3, X, Y, E, degree=2, rows=1000)
    >>> result.gradient.shape
    (4, 4)
    """
    start = time.perf_counter()
    if threads is None and executor is not None:
        threads = 1
    given = Options(
        scale=scale, rtol=rtol, atol=atol, method="polynomial", degree=degree, threads=threads,
        progress=progress, timeout=timeout, check_finite=check_finite,
    ).checked()  # fmt: skip
    if executor is not None and not isinstance(executor, Executor):
        raise wrong_type("executor", executor, "a concurrent.futures.Executor or None")
    seconds = real("checkpoint_seconds", checkpoint_seconds, "a number >= 0", 0.0)
    sources = read_inputs({"A1": A1, "A2": A2, "A3": A3, "E": E}, X, Y)
    dtype = sources["A1"].dtype
    samples = {name: sampled(source) for name, source in sources.items()}
    frame = Frame.fit(
        samples["A1"], samples["A2"], samples["A3"], X, Y, samples["E"],
        degree=degree, wrt=wrt, scale=given.scale,
    )  # fmt: skip
    shapes = {name: sources[name].shape for name in ("A1", "A2", "A3")}
    places = check_outputs(out, frame.wrt, shapes, dtype)
    each, flight = shard_rows(rows, sources), shards_in_flight(executor, in_flight)
    saved = None
    if checkpoint is not None:
        saved = Checkpoint(checkpoint, _problem(frame, sources, each), seconds)
    reached = _checkpoint.Progress() if saved is None else saved.load()
    stages = STAGES if frame.has_gradients else STAGES[:2]
    total = sum(sources[stage.inputs[0]].shape[0] for stage in stages)
    clock = Clock(given.timeout, given.progress, total)
    merged: list[Any] = []
    with opened(places, shapes, dtype, saved is not None) as outputs:
        runner = Runner(sources, each, outputs, clock, saved, executor, flight)
        for number, stage in enumerate(stages):
            if number < reached.stage:
                clock.advance(sources[stage.inputs[0]].shape[0])
                merged.append(stage.state.from_bytes(frame, reached.done[number]))
                continue
            before = reached.done[number - 1] if number else None
            work = Work(frame, number, before, given.threads, given.check_finite)
            merged.append(runner.run(work, reached))
        if len(merged) < len(STAGES):
            merged.append(GradientState.empty(frame))
        result = frame.gather(*merged, rtol=given.rtol, atol=given.atol)
        gradients = dict(result.gradients)
        gradients |= {name: output.finish() for name, output in outputs.items()}
    return replace(result, gradients=gradients, seconds=time.perf_counter() - start)


def read_inputs(named: Mapping[str, Rows], X: Weights, Y: npt.ArrayLike) -> dict[str, Source]:
    """The inputs, held against each other and the weights before any is read."""
    sources = {name: source_of(name, value) for name, value in named.items()}
    weights: dict[str, object] = {"X": X}
    if is_pair(X):
        weights = dict(zip(("W_Q", "W_K"), X, strict=True))
    matrices, dtype, _ = read_matrices(weights | {"Y": Y})
    for name, source in sources.items():
        if source.dtype != dtype:
            raise DTypeError(
                f"{name}: found {source.dtype} where the weights are {dtype}; expected one dtype"
            )
    known: Mapping[str, Source | Array] = {**sources, **matrices}
    _core.Shape.of_problem({name: tuple(one.shape) for name, one in known.items()})
    return sources


def shard_rows(rows: int | None, sources: Mapping[str, Source]) -> int:
    """Rows of a shard, from the shapes alone where none are asked for."""
    if rows is not None:
        return integer("rows", rows, "an integer of at least 1, or None", 1, float("inf"))
    least, most = SHARD_ROWS
    widest = max(source.shape[1] for source in sources.values())
    return min(max(SHARD_NUMBERS // max(widest, 1), least), most)


def _problem(frame: Frame, sources: Mapping[str, Source], rows: int) -> str:
    """A name for all that the bits of the result depend on, but for rows that no one looked at."""
    about = {
        "version": _core.__version__, "level": _core.level(), "rows": rows,
        "frame": hashlib.sha256(frame.to_bytes()).hexdigest(),
        "shapes": {name: source.shape for name, source in sources.items()},
    }  # fmt: skip
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
