"""Arrays in: checked first by name, then copied once into private snapshots.

The order matters. Dtypes and shapes are read from the headers of the arrays; memory is asked for
next; only then is anything copied, and what is computed on is the copy. Another thread that writes
to an input during a call changes nothing of the call. Heads of attention are read where they are:
copies of them take as long as short heads do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import AttnGradError, DTypeError, NonFiniteError, ShapeError
from .masks import unmasked
from .options import show

Array: TypeAlias = npt.NDArray[Any]
DType: TypeAlias = np.dtype[Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# Remedies for the dtypes that people really pass.
REMEDIES = {
    **dict.fromkeys("biu", "use {name}.astype(numpy.float64)"),
    "f": "use {name}.astype(numpy.float32) or {name}.astype(numpy.float64)",
    "c": "complex attention is not defined here: use {name}.real or {name}.imag",
}


class Read(NamedTuple):
    """The arrays of a problem, or queries and keys: checked, not yet copied.

    A problem has A1, A2, A3, Y, E and either X or W_Q and W_K.
    """

    arrays: dict[str, Array]
    dtype: DType
    shape: _core.Shape


def read_problem(A1: object, A2: object, A3: object, X: object, Y: object, E: object) -> Read:
    """Check rank, dtype and shapes of the paper's problem. Copies nothing that is an array."""
    weights: dict[str, object] = {"X": X}
    if is_pair(X):
        if len(X) != 2:
            raise ShapeError(f"X: found {len(X)} matrices; a pair (W_Q, W_K) is two")
        weights = {"W_Q": X[0], "W_K": X[1]}
    named = {"A1": A1, "A2": A2, "A3": A3, **weights, "Y": Y, "E": E}
    arrays, dtype = read_matrices(named)
    return Read(arrays, dtype, _core.Shape.of_problem(_shapes(arrays)))


def is_pair(X: object) -> TypeGuard[Sequence[object]]:
    """Whether X is a tuple or list of matrices, not a matrix written as nested lists of numbers."""
    if not isinstance(X, (tuple, list)):
        return False
    return any(
        getattr(part, "ndim", 0) >= 2
        or (isinstance(part, (tuple, list)) and any(isinstance(row, (tuple, list)) for row in part))
        for part in X
    )


def _shapes(arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def read_matrices(named: Mapping[str, object], hint: str = "") -> tuple[dict[str, Array], DType]:
    """Matrices of one dtype; ``hint`` says what else may be meant."""
    arrays, dtype = read_arrays(named)
    for name, array in arrays.items():
        if array.ndim != 2:
            found = f"found shape {array.shape}"
            raise ShapeError(f"{name}: {found}; expected a matrix (two dimensions){hint}")
    return arrays, dtype


def read_arrays(named: Mapping[str, object]) -> tuple[dict[str, Array], DType]:
    """NumPy arrays, and their one dtype in native byte order; the same object, the same array."""
    made: dict[int, Array] = {}
    arrays: dict[str, Array] = {}
    # The first array of each dtype that was met.
    dtypes: dict[DType, str] = {}
    for name, value in named.items():
        array = value if type(value) is np.ndarray else made.get(id(value))
        if array is None:
            array = made[id(value)] = read_array(name, value)
        if array.dtype not in dtypes:
            dtypes.setdefault(_native(name, array.dtype), name)
        arrays[name] = array
    (dtype, first), *others = dtypes.items()
    for found, name in others:
        raise DTypeError(
            f"{name}: found {found} where {first} is {dtype}; expected one dtype for all "
            f"arrays: use {name}.astype(numpy.{dtype}) or {first}.astype(numpy.{found})"
        )
    return arrays, dtype


def read_array(name: str, value: object) -> Array:
    """A NumPy array of float32 or float64, in whatever byte order."""
    try:
        array = unmasked(name, value)
    except AttnGradError:
        raise
    # Anybody's __array__ may run here; a ragged list raises ValueError.
    except Exception as error:
        kind = ShapeError if isinstance(value, (list, tuple)) else DTypeError
        raise kind(
            f"{name}: found {show(value)}, of which NumPy makes no array ({error}); "
            "expected an array of float32 or float64"
        ) from error
    _native(name, array.dtype)
    return array


def _native(name: str, dtype: DType) -> DType:
    """The dtype of an array in native byte order."""
    native = dtype if dtype.isnative else dtype.newbyteorder("=")
    if native not in FLOATS:
        remedy = REMEDIES.get(dtype.kind, "expected an array of numbers").format(name=name)
        raise DTypeError(f"{name}: found dtype {dtype}; expected float32 or float64: {remedy}")
    return native


def read_heads(query: object, key: object) -> Read:
    """Check queries and keys of one head or several. Copies nothing that is an array."""
    arrays, dtype = read_arrays({"query": query, "key": key})
    return Read(arrays, dtype, _core.Shape.of_heads(_shapes(arrays)))


def first_of(arrays: Mapping[str, Array]) -> NonFiniteError | None:
    """The error for the first NaN or infinity in one of the arrays; -inf is a logarithm."""
    for name, array in arrays.items():
        good = np.isfinite(array)
        if name == "lse":
            good |= array == -np.inf
        if not good.all():
            return _not_finite(name, array, int(np.argmin(good)))
    return None


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
    limits = _core.Options(threads=threads)
    copies: dict[tuple[object, ...], Array] = {}
    result: dict[str, Array] = {}
    for name, array in arrays.items():
        view = _view(array)
        if view not in copies:
            held = _held(array)
            copy = np.empty(held.shape, dtype)
            if held.dtype == dtype and held.flags.c_contiguous and held.flags.aligned:
                is_finite = _core.all_finite(_row(held), limits, copy=_row(copy))
            else:
                copy[...] = held
                is_finite = not finite or _core.all_finite(_row(copy), limits)
            if finite and not is_finite:
                raise _not_finite(name, copy, int(np.argmin(np.isfinite(copy))))
            copies[view] = copy if copy.shape == array.shape else np.broadcast_to(copy, array.shape)
        result[name] = copies[view]
    return result


def _view(array: Array) -> tuple[object, ...]:
    """A key that is equal for arrays that show the same numbers in the same way."""
    interface = array.__array_interface__
    return interface["data"][0], array.shape, array.strides, array.dtype


def _held(array: Array) -> Array:
    """The array with each leading axis that shows one matrix again and again cut to one."""
    return array[tuple(slice(None) if stride else slice(1) for stride in array.strides[:-2])]


def _row(array: Array) -> Array:
    """A contiguous array as one row."""
    return array.reshape(1, -1)


def _not_finite(name: str, array: Array, position: int) -> NonFiniteError:
    """The error that names the index of a NaN or an infinity, from its place in C order."""
    index = tuple(map(int, np.unravel_index(position, array.shape)))
    return NonFiniteError(
        f"{name}: found {array[index]} at index {index}; expected finite numbers "
        "(numpy.nan_to_num replaces them; check_finite=False skips this test)"
    )
