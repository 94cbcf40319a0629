"""Arrays from a ``.safetensors`` file that is not trusted, and arrays as such a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MissingDependencyError, ProblemFileError, install_line
from .names import PLAIN, check_known, check_required, reading

__all__ = ["load_tensors", "tensor_bytes", "tensor_names"]

# The header is JSON, and is held in memory several times over; a hundred bytes of it are an array.
MAX_HEADER_BYTES = 2**20
# What NumPy has as well: bfloat16 and the eight-bit floats are missing.
KINDS = (
    "BOOL", "U8", "U16", "U32", "U64", "I8", "I16", "I32", "I64", "F16", "F32", "F64",
)  # fmt: skip


def load_tensors(
    path: str | os.PathLike[str],
    *,
    required: Iterable[str] = (),
    optional: Iterable[str] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a ``.safetensors`` file; parameters and errors as ``load_arrays``.

    The reader of the package safetensors holds the header against the size of the file; names,
    kinds and the length of the header are checked here, before any array is read.
    """
    required = tuple(required)
    allowed = None if optional is None else (*required, *optional)
    with _opened(path) as (shown, file):
        names = _names(shown, file)
        for name in names:
            check_known(shown, name, allowed)
        check_required(shown, set(names), required)
        for name in names:
            kind = file.get_slice(name).get_dtype()
            if kind not in KINDS:
                raise ProblemFileError(
                    f"{shown}: found dtype {kind} in {name!r}, which NumPy does not have; "
                    "save it as float32"
                )
        return {name: file.get_tensor(name) for name in names}


def tensor_names(path: str | os.PathLike[str]) -> list[str]:
    """Names of the arrays, none of which is read; errors as ``load_tensors``."""
    with _opened(path) as (shown, file):
        return _names(shown, file)


def tensor_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The arrays as the content of a file; the same arrays give the same bytes."""
    plain = {
        name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()
    }
    content: bytes = _module("safetensors.numpy").save(plain)
    return content


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise MissingDependencyError(
            f"found no package 'safetensors', which .safetensors files need: {install_line('cli')}"
        ) from None


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """The path as it is shown, and the open file."""
    module = _module("safetensors")
    with reading(path, ".safetensors file", "safetensors.numpy.save_file") as shown:
        with open(shown, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > min(os.path.getsize(shown), MAX_HEADER_BYTES):
            raise ProblemFileError(
                f"{shown}: found a header of {length} bytes; at most {MAX_HEADER_BYTES} are read"
            )
        with module.safe_open(shown, framework="numpy") as tensors:
            yield shown, tensors


def _names(shown: str, file: Any) -> list[str]:
    names = list(file.keys())
    for name in names:
        if not PLAIN.match(name):
            raise ProblemFileError(f"{shown}: found an array called {name!r}; names are plain")
    return names
