"""Files of arrays of either kind: the ending of the name says which."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .npz import load_npz, npz_names
from .tensors import load_tensors, tensor_bytes, tensor_names

__all__ = ["array_names", "load_arrays", "write_arrays"]

ENDING = ".safetensors"


def _is_tensors(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith(ENDING)


def load_arrays(
    path: str | os.PathLike[str],
    *,
    required: Iterable[str] = (),
    optional: Iterable[str] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a ``.safetensors`` file, where the name ends so, or of an ``.npz`` file.

    Parameters
    ----------
    path : str or os.PathLike
        The file. It must be a regular file (or a link to one).
    required : iterable of str
        Names that must be there.
    optional : iterable of str, optional
        Names that may be there. Any other name is refused, so that a misspelt one is not ignored.
        None (the default) lets every plain name in.

    Returns
    -------
    dict of str to ndarray
        New arrays.

    Raises
    ------
    ProblemFileError
        Naming the file and what was found, before any array is read.
    MissingDependencyError
        For a ``.safetensors`` file where the extra ``cli`` is not installed.
    """
    load = load_tensors if _is_tensors(path) else load_npz
    return load(path, required=required, optional=optional)


def array_names(path: str | os.PathLike[str]) -> list[str]:
    """Names of the arrays of a file, none of which is read; errors as ``load_arrays``."""
    return tensor_names(path) if _is_tensors(path) else npz_names(path)


def write_arrays(
    file: IO[bytes], path: str | os.PathLike[str], arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Write arrays as the kind of file that ``path`` names; the same arrays give the same bytes."""
    if _is_tensors(path):
        file.write(tensor_bytes(arrays))
    else:
        np.savez_compressed(file, allow_pickle=False, **dict(arrays))
