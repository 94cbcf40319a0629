"""Arrays in: checked first by name, then copied once into private snapshots.

The order matters. Dtypes and shapes are read from the headers of the arrays; memory is asked for
next; only then is anything copied, and what is computed on is the copy. Another thread that writes
to an input during a call changes nothing of the call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import AttnGradError, DTypeError, NonFiniteError, ShapeError
from .masks import unmasked
from .options import show

Array: TypeAlias = npt.NDArray[Any]
DType: TypeAlias = np.dtype[Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# Block-wise passes keep what NumPy allocates between two numbers below 1 MiB; at 2^16 elements the
# cost of a call of NumPy does not show.
BLOCK = 2**16
# From here on waking the threads of the core costs less than reading with one.
LARGE = 2**18
# Products of more than 10000 terms wake the threads of OpenBLAS, which then spin beside ours.
PRODUCT_BLOCK = 2**13
AXES = ("rows", "columns")
# (name, axis) must be as large as (other, axis).
HEAD_RULES = (
    ("key", -1, "query", -1),
    ("value", -2, "key", -2),
    ("dout", -2, "query", -2),
    ("dout", -1, "value", -1),
)
# Remedies for the dtypes that people really pass.
REMEDIES = {
    "b": "use A.astype(numpy.float64)",
    "i": "use A.astype(numpy.float64)",
    "u": "use A.astype(numpy.float64)",
    "f": "use A.astype(numpy.float32) or A.astype(numpy.float64)",
    "c": "complex attention is not defined here: use A.real or A.imag",
}


class Sizes(NamedTuple):
    """Sizes of a problem in the paper's letters; ``width`` is that of the logits' inner product."""

    n: int
    m: int
    d1: int
    d2: int
    d3: int
    dv: int
    width: int
    pair: bool

    def of_core(self) -> _core.Shape:
        """The same as the core takes it."""
        return _core.Shape(
            n=self.n, m=self.m, d=self.width, d1=self.d1, d2=self.d2, d3=self.d3, dv=self.dv,
            pair=self.pair,
        )  # fmt: skip


class Problem(NamedTuple):
    """The arrays of one loss-gradient problem: checked, not yet copied.

    ``arrays`` holds A1, A2, A3, Y, E and either X or W_Q and W_K. ``self_attention`` tells that A1,
    A2 and A3 were one and the same object.
    """

    arrays: dict[str, Array]
    sizes: Sizes
    dtype: DType
    self_attention: bool


def read_problem(A1: object, A2: object, A3: object, X: object, Y: object, E: object) -> Problem:
    """Check rank, dtype and shapes of the paper's problem. Copies nothing that is an array."""
    pair = is_pair(X)
    named: dict[str, object] = {"A1": A1, "A2": A2, "A3": A3}
    if pair:
        assert isinstance(X, (tuple, list))
        if len(X) != 2:
            raise ShapeError(f"X: found {len(X)} matrices; a pair (W_Q, W_K) is two")
        named.update(W_Q=X[0], W_K=X[1])
    else:
        named["X"] = X
    named.update(Y=Y, E=E)
    arrays = read_arrays(named)
    dtype = common_dtype(arrays)
    for name, array in arrays.items():
        if array.ndim != 2:
            raise ShapeError(
                f"{name}: found {_dimensions(array)}; a matrix is wanted (two dimensions)"
            )
    return Problem(arrays, _problem_sizes(arrays, pair), dtype, A1 is A2 and A2 is A3)


def is_pair(X: object) -> bool:
    """Whether X is a tuple or list of matrices, not a matrix written as nested lists of numbers."""
    if not isinstance(X, (tuple, list)):
        return False
    return any(
        getattr(part, "ndim", 0) >= 2
        or (isinstance(part, (tuple, list)) and any(isinstance(row, (tuple, list)) for row in part))
        for part in X
    )


def _problem_sizes(arrays: Mapping[str, Array], pair: bool) -> Sizes:
    left, right = ("W_Q", "W_K") if pair else ("X", "X")
    if pair:
        _same(arrays, "W_K", 1, "W_Q", 1)
    _same(arrays, "A1", 1, left, 0)
    _same(arrays, "A2", 1, right, 0 if pair else 1)
    _same(arrays, "A3", 0, "A2", 0)
    _same(arrays, "A3", 1, "Y", 0)
    _same(arrays, "E", 0, "A1", 0)
    _same(arrays, "E", 1, "Y", 1)
    (n, d1), (m, d2) = arrays["A1"].shape, arrays["A2"].shape
    d3, dv = arrays["Y"].shape
    width = arrays["W_K"].shape[1] if pair else d2
    return Sizes(n, m, d1, d2, d3, dv, width, pair)


def _same(arrays: Mapping[str, Array], name: str, axis: int, other: str, other_axis: int) -> None:
    """Hold one size of ``name`` against one of ``other``; -1 and -2 serve for stacks too."""
    wanted = arrays[other].shape[other_axis]
    if arrays[name].shape[axis] == wanted:
        return
    # Indexed by 0, 1 or by -2, -1.
    have, need = AXES[other_axis], AXES[axis]
    if wanted == 1:
        have, need = have[:-1], need[:-1]
    raise ShapeError(
        f"{name}: found shape {arrays[name].shape}; {other} has {wanted} {have}, "
        f"so {name} needs {wanted} {need}"
    )


def read_arrays(named: Mapping[str, object]) -> dict[str, Array]:
    """Everything as a NumPy array of one float dtype; the same object gives the same array."""
    seen: dict[int, Array] = {}
    arrays: dict[str, Array] = {}
    for name, value in named.items():
        if id(value) not in seen:
            seen[id(value)] = _read_array(name, value)
        arrays[name] = seen[id(value)]
    return arrays


def _read_array(name: str, value: object) -> Array:
    try:
        array = unmasked(name, value)
    except AttnGradError:
        raise
    # Anybody's __array__ may run here; a ragged list raises ValueError.
    except Exception as error:
        kind = ShapeError if isinstance(value, (list, tuple)) else DTypeError
        raise kind(
            f"{name}: found {show(value)}, of which NumPy makes no array ({error}); "
            "a matrix of float32 or float64 is wanted"
        ) from error
    dtype = array.dtype
    if dtype.newbyteorder("=") not in FLOATS:
        remedy = REMEDIES.get(dtype.kind, "a matrix of numbers is wanted")
        raise DTypeError(
            f"{name}: found dtype {dtype}; float32 or float64 is wanted: "
            f"{remedy.replace('A.', f'{name}.')}"
        )
    return array


def common_dtype(arrays: Mapping[str, Array]) -> DType:
    """The one dtype of all arrays, in native byte order; a mixture is refused."""
    (first, reference), *others = arrays.items()
    dtype = reference.dtype.newbyteorder("=")
    for name, array in others:
        if array.dtype.newbyteorder("=") != dtype:
            found = array.dtype.newbyteorder("=")
            raise DTypeError(
                f"{name}: found {found} where {first} is {dtype}; one dtype for all arrays is "
                f"wanted: use {name}.astype(numpy.{dtype}) or {first}.astype(numpy.{found})"
            )
    return dtype


def read_heads(named: Mapping[str, object]) -> tuple[dict[str, Array], DType]:
    """Check query, key, value and (where given) dout: equal leading dimensions, matching sizes."""
    arrays = read_arrays(named)
    dtype = common_dtype(arrays)
    lead = arrays["query"].shape[:-2]
    for name, array in arrays.items():
        if array.ndim < 2:
            raise ShapeError(
                f"{name}: found {_dimensions(array)}; at least two are wanted, (..., rows, columns)"
            )
        if array.shape[:-2] != lead:
            raise ShapeError(
                f"{name}: found shape {array.shape}; query has leading dimensions {lead}, "
                f"so {name} needs the same"
            )
    for name, axis, other, other_axis in HEAD_RULES:
        if name in arrays:
            _same(arrays, name, axis, other, other_axis)
    return arrays, dtype


def _dimensions(array: Array) -> str:
    return f"{array.ndim} dimension{'' if array.ndim == 1 else 's'}, shape {array.shape}"


def total_bytes(arrays: Mapping[str, Array]) -> int:
    """Bytes that ``snapshots`` will take. Exact at any size: these are Python integers."""
    held = {_view(array): _held(array) for array in arrays.values()}
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in held.values())


def snapshots(
    arrays: Mapping[str, Array], dtype: DType, *, finite: bool, threads: int | None = None
) -> dict[str, Array]:
    """Private copies in native byte order, each matrix C-contiguous; a view met twice, once.

    Heads that show the same matrix by a stride of 0 share one copy of it. With ``finite``, NaN and
    infinity are looked for in the copies, which nobody else can change, by so many ``threads``,
    None for all.
    """
    copies: dict[tuple[object, ...], Array] = {}
    result: dict[str, Array] = {}
    for name, array in arrays.items():
        view = _view(array)
        if view not in copies:
            copy = np.array(_held(array), dtype=dtype, order="C", copy=True)
            if finite:
                check_finite(name, copy, threads)
            copies[view] = copy if copy.shape == array.shape else np.broadcast_to(copy, array.shape)
        result[name] = copies[view]
    return result


def _view(array: Array) -> tuple[object, ...]:
    """What tells whether two arrays show the same numbers in the same way."""
    interface = array.__array_interface__
    return interface["data"][0], array.shape, array.strides, array.dtype


def _held(array: Array) -> Array:
    """The array with each leading axis that shows one matrix again and again cut to one."""
    return array[tuple(slice(None) if stride else slice(1) for stride in array.strides[:-2])]


def check_finite(name: str, array: Array, threads: int | None = None) -> None:
    """Raise NonFiniteError with the first index of a NaN or an infinity in a contiguous array."""
    flat = array.reshape(-1)
    if _all_finite(flat, threads):
        return
    for start in range(0, flat.size, BLOCK):
        finite = np.isfinite(flat[start : start + BLOCK])
        if not finite.all():
            position = start + int(np.argmin(finite))
            index = tuple(int(i) for i in np.unravel_index(position, array.shape))
            raise NonFiniteError(
                f"{name}: found {flat[position]} at index {index}; finite numbers are wanted "
                "(numpy.nan_to_num replaces them; check_finite=False skips this test)"
            )


def _all_finite(flat: Array, threads: int | None) -> bool:
    if flat.size >= LARGE:
        return _core.all_finite(flat.reshape(1, -1), _core.Options(threads=threads))
    # A sum of squares is finite only if all terms are, and is made at the speed of memory.
    with np.errstate(all="ignore"):
        starts = range(0, flat.size, PRODUCT_BLOCK)
        blocks = (flat[start : start + PRODUCT_BLOCK] for start in starts)
        return all(math.isfinite(np.dot(block, block)) for block in blocks)


def norm(array: Array, kind: str = "fro") -> float:
    """Frobenius norm or largest modulus, in float64, without overflow and without a large copy."""
    flat = array.reshape(-1)
    blocks = [flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK)]
    largest = max((float(np.abs(block).max()) for block in blocks), default=0.0)
    if kind == "max" or largest == 0.0 or not math.isfinite(largest):
        return largest
    total = sum(float(np.square(block.astype(np.float64) / largest).sum()) for block in blocks)
    return largest * math.sqrt(total)
