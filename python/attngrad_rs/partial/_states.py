"""States of shards, with the frame that they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from .. import _core
from .._inputs.options import wrong_type

if TYPE_CHECKING:
    from ._frame import Frame


class _Core(Protocol):
    """A state of the core."""

    @property
    def rows(self) -> int: ...
    def merge(self, other: Any) -> Any: ...
    def to_bytes(self, frame: _core.Frame) -> bytes: ...


C = TypeVar("C", bound=_Core)


class _State(Generic[C]):
    """What every state has; its numbers stay in the core."""

    _core_class: Any

    def __init__(self, frame: Frame, core: C) -> None:
        self._frame = frame
        self._core = core

    @classmethod
    def empty(cls, frame: Frame) -> Self:
        """The state of no rows, which changes nothing that it is merged with."""
        return cls(frame, cls._core_class.empty(frame._core))

    @classmethod
    def size(cls, frame: Frame) -> int:
        """Bytes of ``to_bytes``: those of every state of a frame, however many rows it has seen."""
        return int(cls._core_class.size(frame._core))

    @classmethod
    def from_bytes(cls, frame: Frame, data: bytes) -> Self:
        """The state that ``to_bytes`` wrote.

        Nothing in the bytes is executed. Raises OptionError for bytes that were cut or changed, of
        another kind or version, or of another frame: another degree, dtype, weights or outputs.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise wrong_type("data", data, "bytes")
        return cls(frame, cls._core_class.from_bytes(frame._core, bytes(data)))

    def merge(self, other: Self, /) -> Self:
        """Both together: the rows of ``other`` are those of a later shard.

        Raises OptionError for a state of another frame.
        """
        if type(other) is not type(self):
            raise wrong_type("other", other, f"a {type(self).__name__}")
        return type(self)(self._frame, self._core.merge(other._core))

    @property
    def rows(self) -> int:
        """How many rows it has seen."""
        return self._core.rows

    def to_bytes(self) -> bytes:
        """The state for a file or another process: a header, its numbers and a checksum."""
        return self._core.to_bytes(self._frame._core)

    def __repr__(self) -> str:
        """Rows seen, never the numbers."""
        return f"{type(self).__name__}(rows={self.rows})"


class KeyState(_State[_core.KeyState]):
    """The moments of some keys, made by ``Frame.keys``."""

    _core_class = _core.KeyState


class QueryState(_State[_core.QueryState]):
    """The sums over some queries, made by ``Frame.queries`` with the moments of all keys."""

    _core_class = _core.QueryState


class GradientState(_State[_core.GradientState]):
    """Sums over some keys for dL/dW_K and dL/dY, made by ``Frame.gradients``."""

    _core_class = _core.GradientState
