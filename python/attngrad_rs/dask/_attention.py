"""The vector-Jacobian product of one long head from chunked arrays, exactly, as lazy values."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dask

from .._inputs.options import Options
from ..out_of_core._attention import read_heads
from ..plans import Plan
from ..results import AttentionGradients
from . import _tasks
from ._chunks import (
    DaskArray,
    Delayed,
    aligned,
    blocks,
    check_arrays,
    check_split,
    constant,
    joined,
    lazy,
    shards,
    tree,
)


@dataclass(frozen=True, eq=False)
class LazyAttentionGradients:
    """Gradients of attention that nobody has computed yet; unpacks as ``dq, dk, dv``."""

    dq: DaskArray
    """Of the shape of query, with its chunks of rows as they were aligned with those of dout."""
    dk: DaskArray
    """Of the shape of key."""
    dv: DaskArray
    """Of the shape of value, with the chunks of rows of dk."""
    certificates: Delayed
    """One for ``"query"``, ``"key"`` and ``"value"``, as a value of Dask."""

    def __iter__(self) -> Iterator[DaskArray]:
        """Unpack as dq, dk, dv."""
        return iter((self.dq, self.dk, self.dv))

    def compute(self, **options: Any) -> AttentionGradients[Any]:
        """All of it in memory; options are those of Dask."""
        start = time.perf_counter()
        certificates, (dq, dk, dv) = dask.compute(self.certificates, tuple(self), **options)
        return AttentionGradients(
            dq=dq, dk=dk, dv=dv, certificates=certificates,
            plan=Plan("exact", reason="it was asked for by name"),
            seconds=time.perf_counter() - start,
        )  # fmt: skip


def attention_vjp(
    query: DaskArray, key: DaskArray, value: DaskArray, dout: DaskArray,
    *,
    scale: float | None = None,
    split_every: int = 16,
    threads: int = 1,
    check_finite: bool = True,
) -> LazyAttentionGradients:  # fmt: skip
    """Gradients of ⟨dout, attention⟩ of one head of any length, by the exact method.

    Each chunk of queries meets each chunk of keys in two tasks, one for the softmax and one for the
    way back; a task holds that one tile. Keys, values and the sums over chunks of queries stay with
    the workers, whose memory, or disk, has room for them together.

    Parameters
    ----------
    query, key, value, dout : dask.array.Array
        Matrices (L, E), (S, E), (S, Ev) and (L, Ev) of any chunks, aligned as in
        ``attngrad_rs.dask.loss_gradient``: query with dout, and key with value.
    scale : float, optional
        As in ``attngrad_rs.attention_vjp``.
    split_every, threads, check_finite
        As in ``attngrad_rs.dask.loss_gradient``.

    Returns
    -------
    LazyAttentionGradients
        Dask values, with exact certificates. The same chunks give the same bits, whatever computes
        them.

    Raises
    ------
    AttnGradError
        As ``attngrad_rs.dask.loss_gradient``.

    Examples
    --------
    >>> import dask.array as da
    >>> import attngrad_rs.dask
    >>> rng = da.random.default_rng(0)
    >>> heads = [rng.standard_normal((3000, 8), chunks=(1000, 8)) for _ in range(4)]
    >>> dq, dk, dv = attngrad_rs.dask.attention_vjp(*heads)
    >>> dk.shape
    (3000, 8)
    """
    given = Options(scale=scale, threads=threads, check_finite=check_finite).checked()
    every = check_split(split_every)
    named = {"query": query, "key": key, "value": value, "dout": dout}
    read_heads(named)
    check_arrays(named)
    named["query"], named["dout"] = aligned(query, dout)
    named["key"], named["value"] = aligned(key, value)
    parts = {name: _checked(name, array, given.check_finite) for name, array in named.items()}
    options = {"scale": given.scale, "threads": given.threads, "check_finite": False}
    keys = list(zip(parts["key"], parts["value"], strict=True))
    of_queries: list[Delayed] = []
    of_keys: list[Delayed] = [None] * len(keys)
    for some, dout_of_some in zip(parts["query"], parts["dout"], strict=True):
        states = [lazy(_tasks.softmax_tile)(some, *tile, 0, options) for tile in keys]
        state = constant(tree(states, every, lazy(_tasks.merge_softmax)))
        sums: Delayed = None
        for number, tile in enumerate(keys):
            pulled = lazy(_tasks.pull_tile)(state, some, *tile, dout_of_some, options)
            sums = lazy(_tasks.add_of_queries)(sums, pulled)
            of_keys[number] = lazy(_tasks.add_of_keys)(of_keys[number], pulled)
        of_queries.append(sums)
    dtype = str(named["query"].dtype.newbyteorder("="))
    dq = [lazy(_tasks.rounded)(sums[0], dtype) for sums in of_queries]
    dk, dv = ([lazy(_tasks.rounded)(sums[at], dtype) for sums in of_keys] for at in (0, 1))
    total = lazy(_tasks.total)
    norms = (total(*map(lazy(_tasks.square_sum), one)) for one in (dq, dk, dv))
    certificates = lazy(_tasks.certify)(total(*(sums[1] for sums in of_queries)), *norms)
    return LazyAttentionGradients(
        joined(dq, named["query"]), joined(dk, named["key"]), joined(dv, named["value"]),
        certificates,
    )  # fmt: skip


def _checked(name: str, array: DaskArray, check_finite: bool) -> list[Delayed]:
    """The chunks, looked at once for all tiles."""
    shape = (array.shape[1], str(array.dtype.newbyteorder("=")))
    return [
        lazy(_tasks.finite_block)(name, block, shard, *shape, check_finite)
        for shard, block in zip(shards(array), blocks(array), strict=True)
    ]
