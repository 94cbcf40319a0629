"""Arrays from anything that NumPy or DLPack takes for one, but for what a mask hides entries of.

NumPy drops the mask of a masked array that it meets inside a list, behind ``__array__``, or as a
subclass; what lies under the mask would then be computed with.
"""

from __future__ import annotations

import array as standard
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DTypeError
from .border import readable

# Any of them makes NumPy take an object for an array, and not for a sequence.
PROTOCOLS = ("__array__", "__array_interface__", "__array_struct__", "__dlpack__")
# Nothing is inside of these.
LEAVES = (numbers.Number, np.generic, str, bytes, bytearray, memoryview, standard.array)


def unmasked(name: str, value: object) -> npt.NDArray[Any]:
    """``value`` as a plain array.

    Raises DTypeError if there is a mask anywhere in it, whether or not it hides anything, or an
    array on another device, and whatever NumPy, or the ``__array__`` of an object, raises.
    """
    return np.asarray(_opened(name, value))


def _opened(name: str, value: object) -> object:
    """The same with every array inside of it a NumPy one, and none of them masked."""
    if isinstance(value, np.ndarray):
        return _plain(name, value)
    if value is None or isinstance(value, LEAVES):
        return value
    if any(hasattr(type(value), protocol) for protocol in PROTOCOLS):
        _refuse_missing(name, value)
        # Subclasses come through here, the masked ones too.
        return _plain(name, readable(name, value))
    # NumPy takes these for sequences.
    sequence = hasattr(type(value), "__len__") and hasattr(type(value), "__getitem__")
    if sequence and not isinstance(value, Mapping):
        length = len(value)  # type: ignore[arg-type]
        return [_opened(name, value[i]) for i in range(length)]  # type: ignore[index]
    return value


def _plain(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array without a mask; other classes than NumPy's own have masks under the same name."""
    if type(array) is np.ndarray:
        return array
    mask = getattr(array, "mask", None)
    if isinstance(array, np.ma.MaskedArray) or (mask is not None and not callable(mask)):
        raise DTypeError(
            f"{name}: found a masked array; its mask would be ignored: "
            "use numpy.ma.filled, or leave the masked rows out"
        )
    return np.asarray(array)


def _refuse_missing(name: str, value: Any) -> None:
    """Missing values of pandas and Arrow, which would turn into NaN on the way to NumPy."""
    missing = getattr(value, "null_count", 0)
    if callable(getattr(value, "isna", None)):
        dtypes = np.ravel(
            np.asarray(getattr(value, "dtypes", getattr(value, "dtype", None)), object)
        )
        # A NaN among plain numbers is not missing: the test for finite numbers is there for it.
        if not all(isinstance(dtype, np.dtype) for dtype in dtypes):
            missing = int(np.sum(np.asarray(value.isna())))
    if isinstance(missing, (int, np.integer)) and missing > 0:
        raise DTypeError(
            f"{name}: found {missing} missing values, which are no numbers; "
            "fill them, or leave their rows out"
        )
