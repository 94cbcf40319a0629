"""Files that a problem may be read from, good and hostile."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from attngrad_rs._inputs.arrays import Array

N, M, D1, D2, D3, DV = 9, 8, 3, 4, 2, 5
SHAPES = {"A1": (N, D1), "A2": (M, D2), "A3": (M, D3), "X": (D1, D2), "Y": (D3, DV), "E": (N, DV)}


def arrays(dtype: Any = np.float64, **changes: Any) -> dict[str, Any]:
    """The arrays of a small problem."""
    rng = np.random.default_rng(0)
    made = {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}
    return {**made, **changes}


def good(path: Path, **changes: Any) -> Path:
    """A file that is as it should be, of the kind that its name says."""
    made = arrays(**changes)
    if path.suffix == ".safetensors":
        save_file({name: np.asarray(array) for name, array in made.items()}, path)
    else:
        np.savez(path, **made)
    return path


def npy(array: Array) -> bytes:
    """One array as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """An .npy header that says what it is told to say."""
    body = text.encode() + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(body))
    return b"\x93NUMPY" + bytes(version) + length + body


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """A zip file of these members, whatever they are."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def problem_members() -> dict[str, bytes]:
    """The members of a good file, to be spoilt."""
    return {f"{name}.npy": npy(array) for name, array in arrays().items()}
