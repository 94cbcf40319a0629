"""The state of the exact method: a softmax over some of the keys."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy.typing as npt

from .. import _core
from .._inputs import arrays
from .._inputs.arrays import Array
from .._inputs.options import Options, Progress, wrong_type


class PartialGradients(NamedTuple):
    """Contributions of a shard of keys to the gradients of a block of queries.

    ``dq`` adds up over shards of keys, ``dk`` and ``dv`` over blocks of queries; so do the
    estimates of the rounding error of each, in the Frobenius norm, in ``rounding``.
    """

    dq: Array
    dk: Array
    dv: Array
    rounding: tuple[float, float, float]


class SoftmaxState:
    """Row maxima, row sums and outputs of a block of queries over some of the keys.

    States of the same queries are merged over shards of keys; with all of them, ``pull_back`` goes
    through one shard of keys after the other. Queries, keys and values are matrices: one head, no
    mask. Results have the same bits for any number of threads.
    """

    def __init__(self, core: _core.SoftmaxState) -> None:
        self._core = core

    @classmethod
    def of(
        cls, query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike, *,
        scale: float | None = None, threads: int | None = None, progress: Progress | None = None,
        timeout: float | None = None, check_finite: bool = True,
    ) -> Self:  # fmt: skip
        """The state of a block of queries and a shard of keys, which may have no rows.

        Options, and errors, are those of ``attention``.
        """
        given = _given(scale, threads, progress, timeout, check_finite)
        named = {"query": query, "key": key, "value": value}
        return cls(_core.SoftmaxState.of(_stack(named, given), given.control()))

    def pull_back(
        self, query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike, dout: npt.ArrayLike,
        *, scale: float | None = None, threads: int | None = None,
        progress: Progress | None = None, timeout: float | None = None, check_finite: bool = True,
    ) -> PartialGradients:  # fmt: skip
        """The part that a shard of keys has in the gradients of ⟨dout, output⟩.

        The state has seen all keys; ``query`` are its own queries, with the same ``scale``: others
        are an OptionError. Options, and errors, are those of ``attention_vjp``.
        """
        given = _given(scale, threads, progress, timeout, check_finite)
        named = {"query": query, "key": key, "value": value, "dout": dout}
        found = self._core.pull_back(_stack(named, given), given.control())
        (dq, of_dq), (dk, of_dk), (dv, of_dv) = found
        return PartialGradients(dq, dk, dv, (of_dq, of_dk, of_dv))

    def merge(self, other: Self, /) -> Self:
        """Both together: the same queries over the keys of both.

        Raises OptionError for other queries, another scale or dtype.
        """
        if not isinstance(other, SoftmaxState):
            raise wrong_type("other", other, "a SoftmaxState")
        return type(self)(self._core.merge(other._core))

    @property
    def rows(self) -> int:
        """How many queries."""
        return self._core.rows

    @property
    def keys(self) -> int:
        """How many keys it has seen."""
        return self._core.keys

    @property
    def output(self) -> Array:
        """The output of the keys so far, one row a query; zeros where there are none."""
        return self._core.output()

    @property
    def lse(self) -> Array:
        """The logarithm of the normaliser of each query, in float64; -inf where there are no keys.

        Within rounding; -inf where a query has seen no keys.
        """
        return self._core.lse()

    @staticmethod
    def size(rows: int, width: int) -> int:
        """Bytes of ``to_bytes`` for so many queries and values of this width."""
        return _core.SoftmaxState.size(rows, width)

    def to_bytes(self) -> bytes:
        """The state for a file or another process: a header, its numbers and a checksum."""
        return self._core.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The state that ``to_bytes`` wrote.

        Nothing in the bytes is executed. Raises OptionError for bytes that were cut or changed, or
        of another kind or version.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise wrong_type("data", data, "bytes")
        return cls(_core.SoftmaxState.from_bytes(bytes(data)))

    def __repr__(self) -> str:
        """Queries and keys, never the numbers."""
        return f"SoftmaxState(rows={self.rows}, keys={self.keys})"


def _given(
    scale: float | None, threads: int | None, progress: Progress | None, timeout: float | None,
    check_finite: bool,
) -> Options:  # fmt: skip
    return Options(
        scale=scale, threads=threads, progress=progress, timeout=timeout, check_finite=check_finite
    ).checked()


def _stack(named: dict[str, Any], given: Options) -> _core.Stack:
    """Private copies of one head."""
    read, dtype, _ = arrays.read_matrices(named, ": one head, one state each")
    copies = arrays.snapshots(read, dtype, finite=given.check_finite, threads=given.threads)
    return _core.Stack(
        copies, scale=given.scale, is_causal=False, masks=None, enable_gqa=False,
        check_finite=False,
    )  # fmt: skip
