"""Merges along one tree, whichever shard is done first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, Self, TypeVar


class Mergeable(Protocol):
    """A state that another one, of later rows, is merged into."""

    def merge(self, other: Self, /) -> Self:
        """Both together."""
        ...


S = TypeVar("S", bound=Mergeable)


class Fold(Generic[S]):
    """States of shards, merged in their order along a tree that depends on their number alone.

    Two trees of the same height become one as soon as both are there, as digits of a binary counter
    do, so that no more states are kept than the number of shards has binary digits.

    Parameters
    ----------
    empty : state
        The state of no rows.
    trees : iterable of (int, state)
        Where to go on: the ``trees`` of a fold that was stopped.

    Examples
    --------
    >>> from attngrad_rs.partial import Fold
    >>> class Words(str):
    ...     def merge(self, other):
    ...         return Words(f"({self}{other})")
    >>> fold = Fold(Words())
    >>> for shard in "abcde":
    ...     fold.add(Words(shard))
    >>> fold.result()
    '(((ab)(cd))e)'
    """

    def __init__(self, empty: S, trees: Iterable[tuple[int, S]] = ()) -> None:
        self._empty = empty
        self._trees = list(trees)

    def add(self, state: S) -> None:
        """Count the next shard in."""
        height, trees = 0, list(self._trees)
        while trees and trees[-1][0] == height:
            _, before = trees.pop()
            state = before.merge(state)
            height += 1
        trees.append((height, state))
        # In one step, so that who is interrupted has all of a shard or nothing.
        self._trees = trees

    @property
    def count(self) -> int:
        """Shards so far."""
        return sum(1 << height for height, _ in self._trees)

    @property
    def trees(self) -> Iterator[tuple[int, S]]:
        """Heights and states of the trees that are not merged yet, the first shards first."""
        return iter(self._trees)

    def result(self) -> S:
        """All shards together; the fold itself stays as it is."""
        if not self._trees:
            return self._empty
        *others, (_, state) = self._trees
        for _, before in reversed(others):
            state = before.merge(state)
        return state
