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
from .border import (
    BFLOAT16,
    FLOAT16,
    HALF_BYTES,
    HALVES,
    SINGLE,
    Border,
    half_name,
    library_of,
    widened,
)  # fmt: skip
from .masks import unmasked
from .memory import check_fits
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


# Arrays that are checked, and not copied; the dtype that is computed in, in native byte order; and
# the way back of results, None where they are NumPy's of that dtype. A class of its own would take
# a short call longer to make than all that is checked.
Given: TypeAlias = tuple[dict[str, Array], DType, Border | None]


class Read(NamedTuple):
    """The same for a problem, or for queries and keys, with their sizes.

    A problem has A1, A2, A3, Y, E and either X or W_Q and W_K.
    """

    arrays: dict[str, Array]
    dtype: DType
    border: Border | None
    shape: _core.Shape


def read_problem(
    A1: object, A2: object, A3: object, X: object, Y: object, E: object,
    *, allow_half: bool | None = None,
) -> Read:  # fmt: skip
    """Check rank, dtype and shapes of the paper's problem. Copies nothing that is an array."""
    weights: dict[str, object] = {"X": X}
    if is_pair(X):
        if len(X) != 2:
            raise ShapeError(f"X: found {len(X)} matrices; a pair (W_Q, W_K) is two")
        weights = {"W_Q": X[0], "W_K": X[1]}
    named = {"A1": A1, "A2": A2, "A3": A3, **weights, "Y": Y, "E": E}
    given = read_matrices(named, allow_half=allow_half)
    return Read(*given, _core.Shape.of_problem(_shapes(given[0])))


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


def read_matrices(
    named: Mapping[str, object], hint: str = "", *, allow_half: bool | None = None
) -> Given:
    """Matrices of one dtype; ``hint`` says what else may be meant."""
    given = read_arrays(named, allow_half=allow_half)
    for name, array in given[0].items():
        if array.ndim != 2:
            found = f"found shape {array.shape}"
            raise ShapeError(f"{name}: {found}; expected a matrix (two dimensions){hint}")
    return given


def read_arrays(named: Mapping[str, object], *, allow_half: bool | None = None) -> Given:
    """NumPy arrays of one dtype; the same object, the same array.

    ``allow_half`` is None for a function that has no such option.
    """
    made: dict[int, Array] = {}
    arrays: dict[str, Array] = {}
    # The first array of each dtype that was met.
    dtypes: dict[DType, str] = {}
    for name, value in named.items():
        array = value if type(value) is np.ndarray else made.get(id(value))
        if array is None:
            array = made[id(value)] = read_array(name, value, allow_half=allow_half)
        if array.dtype not in dtypes:
            dtypes.setdefault(_native(name, array.dtype, allow_half), name)
        arrays[name] = array
    # What NumPy made itself may be of another library.
    library = _one_library(named) if made else None
    (dtype, first), *others = dtypes.items()
    half = HALVES.get(dtype) if dtype.itemsize == HALF_BYTES else None
    for found, name in others:
        if half is not None and name == "lse" and found == SINGLE:
            continue
        shown, of_first = (HALVES.get(one, one) for one in (found, dtype))
        raise DTypeError(
            f"{name}: found {shown} where {first} is {of_first}; expected one dtype for all "
            f"arrays: use {name}.astype(numpy.{of_first}) or {first}.astype(numpy.{shown})"
        )
    if half is not None:
        if "lse" in arrays and half_name(arrays["lse"].dtype) is not None:
            raise DTypeError(f"lse: found {half}; expected float32, as attention returns it")
        own = arrays[first].dtype.newbyteorder("=")
        return arrays, SINGLE, Border(library, own)
    return arrays, dtype, None if library is None else Border(library, None)


def _one_library(named: Mapping[str, object]) -> Any:
    """The library that all arrays are of; None for NumPy."""
    first, *others = ((name, library_of(value)) for name, value in named.items())
    for name, library in others:
        if library is not first[1]:
            found, expected = (getattr(one, "__name__", "numpy") for one in (library, first[1]))
            raise DTypeError(
                f"{name}: found an array of {found} where {first[0]} is one of {expected}; "
                "expected arrays of one library"
            )
    return first[1]


def read_array(name: str, value: object, *, allow_half: bool | None = None) -> Array:
    """A NumPy array of float32 or float64, in whatever byte order; of half precision if allowed."""
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
    _native(name, array.dtype, allow_half)
    return array


def _native(name: str, dtype: DType, allow_half: bool | None) -> DType:
    """The dtype of an array in native byte order."""
    native = dtype if dtype.isnative else dtype.newbyteorder("=")
    if native in FLOATS:
        return native
    remedy = REMEDIES.get(dtype.kind, "expected an array of numbers").format(name=name)
    shown: object = dtype
    if (half := half_name(dtype)) is not None:
        if allow_half:
            return FLOAT16 if half == HALVES[FLOAT16] else BFLOAT16
        shown, remedy = half, f"use {name}.astype(numpy.float32)"
        if allow_half is not None:
            remedy += f", or allow_half=True, which computes in float32 and returns {half}"
    raise DTypeError(f"{name}: found dtype {shown}; expected float32 or float64: {remedy}")


def widened_arrays(
    arrays: Mapping[str, Array], half: str, options: _core.Options
) -> dict[str, Array]:
    """Arrays of half precision in single precision, in new memory, and others as they are.

    Heads that show the same matrix by a stride of 0 share one of it.
    """
    check_fits("allow_half", total_bytes(arrays))
    made: dict[tuple[object, ...], Array] = {}
    for array in arrays.values():
        if half_name(array.dtype) is not None and (view := _view(array)) not in made:
            made[view] = np.broadcast_to(widened(_held(array), half, options), array.shape)
    return {name: made.get(_view(array), array) for name, array in arrays.items()}


def read_heads(query: object, key: object) -> Read:
    """Check queries and keys of one head or several. Copies nothing that is an array."""
    given = read_arrays({"query": query, "key": key})
    return Read(*given, _core.Shape.of_heads(_shapes(given[0])))


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
    # Half precision is widened.
    least = SINGLE.itemsize
    return sum(math.prod(one.shape) * max(one.dtype.itemsize, least) for one in held.values())


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
            half = half_name(held.dtype)
            copy = np.empty(held.shape, dtype) if half is None else widened(held, half, limits)
            if half is not None:
                is_finite = not finite or _core.all_finite(_row(copy), limits)
            elif held.dtype == dtype and held.flags.c_contiguous and held.flags.aligned:
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
