"""The frame, which is all that the shards of a problem have in common, and their states."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from .. import _core
from .._inputs import arrays, options
from .._inputs.arrays import Array
from .._inputs.options import Input, Options, Progress, wrong_type
from ..plans import DECIDED, Plan
from ..results import Certificate, GradientResult, deliver

Weights = npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike]

# Arrays of the problem that are weights.
WEIGHTS = ("X", "W_Q", "W_K", "Y")


class Frame:
    """What the shards of a problem have in common: weights, scale, outputs, polynomial.

    ``Frame.fit`` chooses the coordinates and the polynomial from some rows of both sides, which
    should be drawn from all over the data. Each method takes one shard; arrays are copied before
    the work begins, and results have the same bits for any number of threads.
    """

    def __init__(
        self, core: _core.Frame, weights: Mapping[str, Array], scale: float | None
    ) -> None:
        self._core = core
        self._weights = dict(weights)
        self._scale = scale

    @classmethod
    def fit(
        cls,
        A1: npt.ArrayLike, A2: npt.ArrayLike, A3: npt.ArrayLike,
        X: Weights, Y: npt.ArrayLike, E: npt.ArrayLike,
        *,
        degree: int,
        wrt: Input | Sequence[Input] = "X",
        scale: float | None = None,
    ) -> Frame:  # fmt: skip
        """Choose coordinates and polynomial from a sample.

        Parameters
        ----------
        A1, A2, A3, E : array_like
            Some rows of each input, from all over the data: a few hundred will do.
        X, Y : array_like
            The weights, as in ``loss_gradient``.
        degree : int
            Degree of the polynomial.
        wrt : str or sequence of str
            The gradients that are made, as in ``loss_gradient``, but not "A".
        scale : float, optional
            As in ``loss_gradient``.

        Returns
        -------
        Frame
            The frame.

        Raises
        ------
        AttnGradError
            As ``loss_gradient`` for arrays and options that do not fit; OptionError also for an
            empty sample, and where logits are too large for any polynomial.
        """
        read = arrays.read_problem(A1, A2, A3, X, Y, E)
        names = options.wrt_names(wrt, {"A1": None, "A2": None, "A3": None})
        given = Options(scale=scale, method="polynomial", degree=degree).checked()
        if given.degree is None:
            raise options.wrong_type("degree", degree, options.DEGREE)
        copies = arrays.snapshots(read.arrays, read.dtype, finite=True)
        sample = _core.Problem(**copies, scale=given.scale, is_causal=False)
        core = _core.Frame.fit(sample, list(names), given.degree, given.control())
        weights = {name: copies[name] for name in WEIGHTS if name in copies}
        return cls(core, weights, given.scale)

    @property
    def degree(self) -> int:
        """Degree of the polynomial."""
        return self._core.degree

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of all arrays."""
        return np.dtype(self._core.dtype)

    @property
    def wrt(self) -> tuple[str, ...]:
        """The gradients that are made."""
        return tuple(self._core.wrt)

    @property
    def predicted_error(self) -> float:
        """Relative error of the gradient that the sample lets expect, beyond rounding."""
        return self._core.predicted_error

    @property
    def has_gradients(self) -> bool:
        """Whether an output needs ``gradients``: a last pass over the keys."""
        return bool({"W_K", "Y", "A2", "A3"} & set(self.wrt))

    def keys(
        self, A2: npt.ArrayLike, A3: npt.ArrayLike, *,
        threads: int | None = None, progress: Progress | None = None,
        timeout: float | None = None, check_finite: bool = True,
    ) -> KeyState:  # fmt: skip
        """The moments of a shard of keys, any number of rows of A2 and A3.

        Options, and errors, are those of ``loss_gradient``.
        """
        given = _given(threads, progress, timeout, check_finite)
        shard = self._shard(given, A2=A2, A3=A3)
        return KeyState(self, self._core.keys(shard, given.control()))

    def queries(
        self, keys: KeyState, A1: npt.ArrayLike, E: npt.ArrayLike, *, first: int = 0,
        threads: int | None = None, progress: Progress | None = None,
        timeout: float | None = None, check_finite: bool = True,
    ) -> tuple[QueryState, Array | None]:  # fmt: skip
        """The sums over a shard of queries, and its rows of dL/dA1 where they are wanted.

        ``keys`` are the moments of all keys; ``first`` is the number of the first query among all,
        for messages. Other options, and errors, are those of ``loss_gradient``.
        """
        given = _given(threads, progress, timeout, check_finite)
        shard = self._shard(given, A1=A1, E=E)
        state, rows = self._core.queries(keys._core, shard, first, given.control())
        return QueryState(self, state), rows

    def gradients(
        self, queries: QueryState, A2: npt.ArrayLike, A3: npt.ArrayLike, *,
        threads: int | None = None, progress: Progress | None = None,
        timeout: float | None = None, check_finite: bool = True,
    ) -> tuple[GradientState, Array | None, Array | None]:  # fmt: skip
        """The sums over a shard of keys, and its rows of dL/dA2 and dL/dA3 where they are wanted.

        ``queries`` are the sums over all queries. Options, and errors, are those of
        ``loss_gradient``.
        """
        given = _given(threads, progress, timeout, check_finite)
        shard = self._shard(given, A2=A2, A3=A3)
        state, *rows = self._core.gradients(queries._core, shard, given.control())
        return GradientState(self, state), rows[0], rows[1]

    def gather(
        self, keys: KeyState, queries: QueryState, gradients: GradientState | None = None, *,
        rtol: float | None = None, atol: float = 0.0, seconds: float = 0.0,
    ) -> GradientResult[Any]:  # fmt: skip
        """The result of all shards: loss, gradients, and a rigorous certificate of each.

        Gradients by token have no rows here: they left with their shards. ``gradients`` are needed
        where ``has_gradients`` says so. ``rtol`` and ``atol`` are held against the certificates as
        in ``loss_gradient``. Raises OptionError where the polynomial does not serve some queries;
        the message names the first.
        """
        start = time.perf_counter()
        given = Options(rtol=rtol, atol=atol, method="polynomial", degree=self.degree).checked()
        if gradients is None:
            gradients = GradientState.empty(self)
        request = given.request()
        states = (keys._core, queries._core, gradients._core)
        found = self._core.gather(self._shard(given), states, request, given.control())
        decision = found.decision
        result: GradientResult[Any] = GradientResult(
            loss=found.loss,
            gradients={name: found.gradients[name] for name in self.wrt},
            certificates=Certificate.of_all(found),
            loss_certificate=Certificate.of_core(found.loss_certificate),
            plan=Plan(**{name: getattr(decision, name) for name in DECIDED}),
            seconds=seconds + time.perf_counter() - start,
        )
        return deliver(result, given, str(self.dtype))

    def to_bytes(self) -> bytes:
        """The frame for a file or another process, without the weights: see ``from_bytes``."""
        return self._core.to_bytes()

    @classmethod
    def from_bytes(
        cls, data: bytes, X: Weights, Y: npt.ArrayLike, *, scale: float | None = None
    ) -> Frame:
        """The frame that ``to_bytes`` wrote, with the same weights and scale.

        Raises OptionError for bytes that were cut or changed, or are of something else; other
        weights are refused when the first shard comes.
        """
        named: dict[str, object] = {"X": X, "Y": Y}
        if arrays.is_pair(X):
            named = {"W_Q": X[0], "W_K": X[1], "Y": Y}
        read, dtype, _ = arrays.read_matrices(named)
        weights = arrays.snapshots(read, dtype, finite=True)
        given = Options(scale=scale).checked()
        return cls(_core.Frame.from_bytes(bytes(data), given.control()), weights, given.scale)

    def __reduce__(self) -> tuple[Any, ...]:
        """For executors: the bytes, and the weights."""
        pair = "W_Q" in self._weights
        X: Any = (self._weights["W_Q"], self._weights["W_K"]) if pair else self._weights["X"]
        return _rebuilt, (self.to_bytes(), X, self._weights["Y"], self._scale)

    def __repr__(self) -> str:
        """Degree and outputs."""
        return f"Frame(degree={self.degree}, wrt={self.wrt}, dtype={self.dtype})"

    def _shard(self, given: Options, **rows: object) -> _core.Problem:
        """Private copies of the rows, beside sides without rows."""
        of_queries = self._weights.get("X", self._weights.get("W_Q"))
        of_keys = self._weights.get("W_K")
        Y = self._weights["Y"]
        assert of_queries is not None
        d2 = of_queries.shape[1] if of_keys is None else of_keys.shape[0]
        widths = {"A1": of_queries.shape[0], "A2": d2, "A3": Y.shape[0], "E": Y.shape[1]}
        named = {name: np.empty((0, width), self.dtype) for name, width in widths.items()} | rows
        pair = "W_Q" in self._weights
        X = (self._weights["W_Q"], self._weights["W_K"]) if pair else self._weights["X"]
        read = arrays.read_problem(named["A1"], named["A2"], named["A3"], X, Y, named["E"])
        copied = {name: read.arrays[name] for name in rows}
        copies = arrays.snapshots(
            copied, read.dtype, finite=given.check_finite, threads=given.threads
        )
        return _core.Problem(**read.arrays | copies, scale=self._scale, is_causal=False)


def _rebuilt(data: bytes, X: Any, Y: Any, scale: float | None) -> Frame:
    return Frame.from_bytes(data, X, Y, scale=scale)


def _given(
    threads: int | None, progress: Progress | None, timeout: float | None, check_finite: bool
) -> Options:
    return Options(
        threads=threads, progress=progress, timeout=timeout, check_finite=check_finite
    ).checked()


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
