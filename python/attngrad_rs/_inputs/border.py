"""The border for arrays of other libraries and of half precision: in, and results back.

Other libraries are known by the protocols of the array API and DLPack: none is imported here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import DTypeError

Array = npt.NDArray[Any]
DType = np.dtype[Any]

FLOAT16, SINGLE, BITS = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.uint16)
# NumPy has no such dtype of its own, and no library of those that have one is needed for bits that
# say what they are.
BFLOAT16 = np.dtype([("bfloat16", BITS)])
HALVES, HALF_BYTES = {FLOAT16: "float16", BFLOAT16: "bfloat16"}, 2
# Kinds of memory that the processor reads, as DLPack numbers them: its own, and memory that it
# shares with a GPU.
HOST = (1, 3, 11, 13)


@dataclass(frozen=True)
class Border:
    """What the caller's arrays are, where they are not NumPy's of the dtype that is computed in."""

    library: ModuleType | None
    """The namespace of the library; None for NumPy."""
    dtype: DType | None
    """The dtype of half precision; None where there is none."""

    @property
    def half(self) -> str | None:
        """The name of the half precision, if there is one."""
        return None if self.dtype is None else half_name(self.dtype)

    def out(self, found: Array) -> Any:
        """A result of the core as the caller's library and dtype have it. Nothing is copied."""
        is_half = found.dtype == BITS and self.dtype is not None
        if self.library is None:
            return found.view(self.dtype) if is_half else found
        if is_half and self.half == "bfloat16":
            return self._taken(found.view(np.int16)).view(self.library.bfloat16)
        return self._taken(found.view(np.float16) if is_half else found)

    def _taken(self, found: Array) -> Any:
        library: Any = self.library
        taken = getattr(library, "from_dlpack", None) or library.asarray
        return taken(found)


def library_of(value: object) -> ModuleType | None:
    """The namespace of an array of another library; None for all that NumPy reads by itself."""
    kind = type(value)
    if issubclass(kind, (np.ndarray, np.generic)):
        return None
    if (own := getattr(value, "__array_namespace__", None)) is not None:
        found: ModuleType = own()
        return found
    # Tensors of torch do not say where they are from: the class that can be exported does.
    owner = next((one for one in kind.__mro__ if "__dlpack__" in vars(one)), object)
    package = sys.modules.get(owner.__module__.partition(".")[0])
    return package if hasattr(package, "from_dlpack") else None


def readable(name: str, value: Any) -> Any:
    """The array that NumPy makes of an array of another library, which is not copied.

    DTypeError where it cannot: on another device, or where a gradient is recorded for it.
    """
    library = library_of(value)
    if library is None:
        return np.asanyarray(value)
    _require_host(name, value)
    if getattr(value, "requires_grad", False) is True:
        raise DTypeError(
            f"{name}: found an array that requires a gradient, and none is recorded here; "
            f"use attngrad_rs.torch, or {name}.detach()"
        )
    if hasattr(library, "bfloat16") and value.dtype == library.bfloat16:
        return np.asanyarray(value.view(library.int16)).view(BFLOAT16)
    # NumPy's own protocol first: libraries refuse there what has no numbers in memory, or their
    # negatives, where by DLPack they give away what lies there.
    return np.asanyarray(value) if hasattr(type(value), "__array__") else np.from_dlpack(value)


def _require_host(name: str, value: Any) -> None:
    """Refuse an array that is not in memory which the processor reads."""
    if not hasattr(value, "__dlpack_device__"):
        return
    kind, number = value.__dlpack_device__()
    if int(kind) not in HOST:
        device = getattr(value, "device", f"({int(kind)}, {int(number)})")
        raise DTypeError(
            f"{name}: found an array on device {device}; expected one in the memory of the "
            "processor: copy it there first"
        )


def half_name(dtype: DType) -> str | None:
    """float16 or bfloat16, whoever's dtype that is; None for others."""
    if dtype.itemsize != HALF_BYTES:
        return None
    return HALVES.get(dtype.newbyteorder("="), "bfloat16" if dtype.name == "bfloat16" else None)


def bits_of(array: Array) -> Array:
    """The same memory as integers in the byte order of the array."""
    return array.view(BITS if array.dtype.isnative else BITS.newbyteorder())


def widened(array: Array, half: str, options: _core.Options) -> Array:
    """Numbers of half precision in single precision, in new memory."""
    return _core.widened(bits_of(array).astype(BITS, copy=False), half, options)
