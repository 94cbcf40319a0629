"""Chunks of rows: aligned, of whole rows, and none of them empty."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from dask._task_spec import Alias, DataNode, convert_legacy_graph
from dask.base import clone_key
from dask.delayed import Delayed as DelayedValue
from dask.highlevelgraph import HighLevelGraph

from .._inputs.arrays import Array
from .._inputs.options import integer, wrong_type
from ..errors import OptionError, ShapeError
from ..out_of_core._sources import places

# The values are Dask's, which has no types.
DaskArray = Any
Delayed = Any


class Shard(NamedTuple):
    """A chunk of rows: its number among the shards, and the numbers of its rows in the whole."""

    number: int
    first: int
    last: int

    def checked(self, name: str, block: object, width: int, dtype: str) -> Array:
        """The chunk of an array."""
        wanted = (self.last - self.first, width)
        return checked_block(name, block, wanted, dtype, f"shard {self.number}")


def check_arrays(named: Mapping[str, object]) -> None:
    """Dask arrays with rows; OptionTypeError and ShapeError say which is none."""
    for name, value in named.items():
        if not isinstance(value, da.Array):
            expected = "a Dask array (dask.array.from_array makes one)"
            raise wrong_type(name, value, expected)
        if 0 in value.shape:
            raise ShapeError(f"{name}: found shape {value.shape}; expected at least one row")


def check_in_memory(named: Mapping[str, object]) -> None:
    """Weights, which every task needs, are arrays in memory."""
    for name, value in named.items():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if dask.is_dask_collection(part):
                raise wrong_type(name, part, "an array in memory: .compute() gives it")


def check_split(split_every: object) -> int:
    """The number of states that a task merges."""
    expected = "a power of two of at least 2"
    number = integer("split_every", split_every, expected, 2, float("inf"))
    if number & (number - 1):
        raise OptionError(
            f"split_every: found {number}; expected {expected}, with which the order of merges "
            "is the same for all"
        )
    return number


def aligned(one: DaskArray, other: DaskArray) -> tuple[DaskArray, DaskArray]:
    """Both with the same chunks of whole rows: those of the one with more numbers in a row.

    Chunks without rows are left out.
    """
    leader = other if other.shape[1] > one.shape[1] else one
    rows = tuple(count for count in leader.chunks[0] if count)
    return one.rechunk({0: rows, 1: -1}), other.rechunk({0: rows, 1: -1})


def shards(array: DaskArray) -> list[Shard]:
    """The chunks of an array that is aligned."""
    ends = np.cumsum((0, *array.chunks[0])).tolist()
    return [Shard(number, *ends[number : number + 2]) for number in range(len(ends) - 1)]


def blocks(array: DaskArray) -> list[Delayed]:
    """The chunks of an aligned array, as values."""
    return list(array.to_delayed()[:, 0])


def anew(array: DaskArray, purpose: str) -> DaskArray:
    """The same array from tasks of its own.

    Chunks that two passes read would be kept from the first to the second, all of them. What is in
    memory already, as that of ``persist``, is shared all the same.
    """
    # dask.graph_manipulation.clone is for this, but does not know the tasks of newer releases.
    (array,) = dask.optimize(array)
    given = dict(array.__dask_graph__())
    known = convert_legacy_graph(given)
    tasks = {key: task for key, task in known.items() if not isinstance(task, DataNode)}
    keys = {key: clone_key(key, purpose) for key in tasks}
    graph = {key: value for key, value in given.items() if key not in tasks}
    graph |= {keys[key]: task.substitute(keys, keys[key]) for key, task in tasks.items()}
    for key in _flat(array.__dask_keys__()):
        if key not in tasks:
            name = clone_key(key, purpose)
            graph[name] = Alias(name, key)
    return da.Array(graph, clone_key(array.name, purpose), array.chunks, meta=array._meta)


def _flat(keys: Any) -> Iterator[Any]:
    for key in keys:
        if isinstance(key, list):
            yield from _flat(key)
        else:
            yield key


def sample(array: DaskArray) -> Delayed:
    """Rows from all over an array: those that ``out_of_core`` takes, whatever the chunks."""
    read = anew(array, "attngrad-sample")
    parts = [read[start:stop] for start, stop in places(array.shape[0])]
    return da.concatenate(parts).rechunk(-1).to_delayed()[0, 0]


def joined(parts: list[Delayed], like: DaskArray) -> DaskArray:
    """An array with the chunks of another from the values of its chunks."""
    width, dtype = like.shape[1], like.dtype.newbyteorder("=")
    made = [
        da.from_delayed(part, (shard.last - shard.first, width), dtype)
        for part, shard in zip(parts, shards(like), strict=True)
    ]
    return da.concatenate(made)


def checked_block(
    name: str, block: object, wanted: tuple[int, int], dtype: str, where: str
) -> Array:
    """Rows of an array that are what it says of them, once they are there."""
    found = np.asarray(block)
    if found.shape != wanted or found.dtype.newbyteorder("=") != dtype:
        is_ = f"found shape {found.shape} and dtype {found.dtype} in {where}"
        raise ShapeError(f"{name}: {is_}; expected {wanted} and {dtype}, as the array says")
    return found


def lazy(function: Callable[..., Any]) -> Callable[..., Delayed]:
    """The function as a task, whose name is made of its arguments."""
    made: Callable[..., Delayed] = dask.delayed(function, pure=True)
    return made


def tree(states: list[Delayed], every: int, merge: Callable[..., Delayed]) -> Delayed:
    """All states merged, so many by a task; with a power of two, along the tree of a `Fold`."""
    while len(states) > 1:
        groups = [states[at : at + every] for at in range(0, len(states), every)]
        states = [merge(*group) if len(group) > 1 else group[0] for group in groups]
    return states[0]


def constant(value: Delayed) -> Delayed:
    """The same value with its graph in one layer, for what every shard of a pass depends on.

    A graph is joined layer by layer, and the tasks of a pass have one each.
    """
    graph = HighLevelGraph({value.key: dict(value.__dask_graph__())}, {value.key: set()})
    return DelayedValue(value.key, graph)
