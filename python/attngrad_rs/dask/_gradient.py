"""The gradient of the paper's problem from chunked arrays, as lazy values."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt

from .._inputs.arrays import is_pair
from .._inputs.options import Input, Options
from ..out_of_core._gradient import read_inputs
from ..out_of_core._passes import STAGES
from ..partial import Frame
from ..results import GradientResult
from . import _tasks
from ._chunks import (
    DaskArray,
    Delayed,
    aligned,
    anew,
    blocks,
    check_arrays,
    check_in_memory,
    check_split,
    constant,
    joined,
    lazy,
    sample,
    shards,
    tree,
)

Weights = npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike]


@dataclass(frozen=True, eq=False)
class LazyGradients:
    """Gradients that nobody has computed yet. ``dask.compute`` takes it as it is."""

    gradients: Mapping[str, DaskArray]
    """A Dask array for each name in ``wrt``: those of weights of one chunk, those by token with
    the chunks of their inputs, as they were aligned.
    """
    result: Delayed
    """The ``GradientResult`` with loss, certificates, plan and the gradients of weights, as a value
    of Dask: ``result.loss`` and ``result.certificates["X"]`` are values too.
    """

    def compute(self, **options: Any) -> GradientResult[Any]:
        """The ``GradientResult`` with all gradients, in memory; options are those of Dask."""
        start = time.perf_counter()
        result, gradients = dask.compute(self.result, dict(self.gradients), **options)
        made: GradientResult[Any] = replace(
            result, gradients=gradients, seconds=time.perf_counter() - start
        )
        return made


def loss_gradient(
    A1: DaskArray, A2: DaskArray, A3: DaskArray, X: Weights, Y: npt.ArrayLike, E: DaskArray,
    *,
    degree: int,
    wrt: Input | Sequence[Input] = "X",
    scale: float | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    split_every: int = 16,
    threads: int = 1,
    check_finite: bool = True,
) -> LazyGradients:  # fmt: skip
    """Gradient of the attention loss by the polynomial method, from Dask arrays of any chunks.

    Nothing of the arrays is computed before the result is asked for; then each chunk of the keys
    is a task, and each chunk of the queries, and for outputs of the key side each chunk of the keys
    once more. Tasks hold a chunk and a state, which does not grow with the arrays.

    Parameters
    ----------
    A1, A2, A3, E : dask.array.Array
        As in ``attngrad_rs.loss_gradient``. A chunk of whole rows is a shard: columns become one
        chunk, and where A1 and E, or A2 and A3, have other chunks of rows, the one with fewer
        columns is rechunked to those of the other. Chunks without rows are left out.
    X, Y : array_like
        The weights, in memory; X may be the pair (W_Q, W_K).
    degree : int
        Degree of the polynomial. The plan is a task too, made from at most 4096 rows of each input
        from all over it; ``result.plan.predicted_error`` is what these let expect.
    wrt : str or sequence of str
        As there, but not "A".
    scale, rtol, atol : float, optional
        As there; the certificates that tolerances are held against are rigorous ones.
    split_every : int
        States that are merged by one task, a power of two. States are merged in the order of the
        chunks along one tree, which is the same for every ``split_every``.
    threads : int
        Threads of each task; Dask runs as many tasks at a time as it has threads itself.
    check_finite : bool
        As there.

    Returns
    -------
    LazyGradients
        Dask values. The same chunks give the same bits, whatever computes them, and those of
        ``out_of_core.loss_gradient`` where its shards are the chunks. Inputs are computed once for
        the sample and once a pass, so that they are not kept; ``persist`` what is slow to make.
        Gradients by token leave before it is known whether the polynomial serves all queries:
        compute ``result`` beside them.

    Raises
    ------
    AttnGradError
        As there, for shapes, dtypes and options at once, chunks of unknown sizes included; what
        depends on the numbers is raised when they are computed. NonFiniteError names the shard, and
        the row in the whole.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import attngrad_rs.dask
    >>> rng = da.random.default_rng(0)
    >>> A1, A2, A3, E = (rng.uniform(-1, 1, (5000, 4), chunks=(1000, 4)) for _ in range(4))
    >>> lazy = attngrad_rs.dask.loss_gradient(
    ...     A1, A2, A3, np.eye(4), np.eye(4), E, degree=2, wrt=("X", "A1")
    ... )
    >>> lazy.gradients["A1"].chunks[0]
    (1000, 1000, 1000, 1000, 1000)
    >>> lazy.compute().certificates["X"].kind
    'rigorous'
    """
    given = Options(
        scale=scale, rtol=rtol, atol=atol, method="polynomial", degree=degree, threads=threads,
        check_finite=check_finite,
    ).checked()  # fmt: skip
    every = check_split(split_every)
    named = {"A1": A1, "A2": A2, "A3": A3, "E": E}
    check_in_memory({"X": X, "Y": Y})
    sources = read_inputs(named, X, Y)
    check_arrays(named)
    widths = {name: source.shape[1] for name, source in sources.items()}
    fit = {"degree": degree, "wrt": wrt, "scale": given.scale}
    # One that sees no rows, for the checks of all else.
    none = {name: np.zeros((1, width), sources[name].dtype) for name, width in widths.items()}
    known = Frame.fit(none["A1"], none["A2"], none["A3"], X, Y, none["E"], **fit)
    sizes = {name: source.shape for name, source in sources.items()}
    samples = map(sample, named.values())
    frame = constant(lazy(_tasks.fit_frame)(sizes, str(known.dtype), X, Y, fit, *samples))
    named["A1"], named["E"] = aligned(A1, E)
    named["A2"], named["A3"] = aligned(A2, A3)
    options = {"threads": given.threads, "check_finite": given.check_finite, "widths": widths}
    merged: list[Delayed] = []
    gradients: dict[str, DaskArray] = {}
    for stage in range(3 if known.has_gradients else 2):
        inputs = [named[name] for name in STAGES[stage].inputs]
        if stage == 2:
            inputs = [anew(array, "attngrad-gradients") for array in inputs]
        before = merged[-1] if merged else None
        found = [
            lazy(_tasks.shard_state)(stage, frame, before, shard, options, *chunks)
            for shard, *chunks in zip(shards(inputs[0]), *map(blocks, inputs), strict=True)
        ]
        states = [lazy(_tasks.state_of)(one) for one in found]
        merge = partial(lazy(_tasks.merge_states), stage, frame)
        merged.append(constant(tree(states, every, merge)))
        for name in _tasks.OF_STAGE[stage]:
            if name not in known.wrt:
                continue
            rows = [lazy(_tasks.token_rows)(one, name) for one in found]
            gradients[name] = joined(rows, named[name])
    last = merged[2] if known.has_gradients else None
    asked = {"rtol": given.rtol, "atol": given.atol}
    result = lazy(_tasks.gather)(frame, merged[0], merged[1], last, asked)
    shapes = _shapes(X, Y)
    for name in shapes.keys() & set(known.wrt):
        part = lazy(_tasks.gradient_of)(result, name)
        gradients[name] = da.from_delayed(part, shapes[name], known.dtype)
    return LazyGradients({name: gradients[name] for name in known.wrt}, result)


def _shapes(X: Any, Y: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the gradients of weights."""
    named: dict[str, Any] = {"X": X, "Y": Y}
    if is_pair(X):
        named = {"W_Q": X[0], "W_K": X[1], "Y": Y}
    return {name: np.shape(value) for name, value in named.items()}
