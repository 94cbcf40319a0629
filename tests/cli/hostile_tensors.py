"""Files ending in .safetensors that mean harm, each with the words that its error must hold."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from npz_files import arrays
from safetensors.numpy import save

Maker = Callable[[Path], Path]
HOSTILE: dict[str, tuple[Maker, str]] = {}
GIB = 2**30


def hostile(words: str) -> Callable[[Callable[[], bytes]], Maker]:
    """Enter the content of a file into the table, with words that its error must hold."""

    def enter(content: Callable[[], bytes]) -> Maker:
        def make(path: Path) -> Path:
            target = path.with_suffix(".safetensors")
            target.write_bytes(content())
            return target

        HOSTILE[f"tensors_{content.__name__}"] = (make, words)
        return make

    return enter


def header(entries: Any, payload: bytes = bytes(16)) -> bytes:
    """A file of this header, whatever it says."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + payload


def entry(shape: list[int], begin: int, end: int, dtype: str = "F64") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def claiming(**changes: Any) -> bytes:
    """One array, which claims something else than what is there."""
    return header({"A1": entry([2, 1], 0, 16) | changes})


def problem(**changes: Any) -> bytes:
    return save({name: np.asarray(array) for name, array in arrays(**changes).items()})


@hostile("no readable .safetensors file")
def nothing() -> bytes:
    return b""


@hostile("no readable .safetensors file")
def text() -> bytes:
    return b"A1,A2\n1,2\n" * 100


@hostile("no readable .safetensors file")
def header_of_exabytes() -> bytes:
    return (2**63 - 1).to_bytes(8, "little") + bytes(64)


@hostile("no readable .safetensors file")
def header_of_megabytes() -> bytes:
    return header(b" " * (2**21))


@hostile("no readable .safetensors file")
def header_of_words() -> bytes:
    return header(b'{"A1": hello}')


@hostile("no readable .safetensors file")
def header_nested() -> bytes:
    return header(b"[" * 100_000)


@hostile("no readable .safetensors file")
def header_that_is_no_text() -> bytes:
    return header(b"\xff" * 32)


@hostile("no readable .safetensors file")
def shape_too_large() -> bytes:
    return claiming(shape=[2**40, 1024])


@hostile("no readable .safetensors file")
def shape_that_overflows() -> bytes:
    return claiming(shape=[2**32, 2**32])


@hostile("no readable .safetensors file")
def shape_too_small() -> bytes:
    return claiming(shape=[1, 1])


@hostile("no readable .safetensors file")
def shape_negative() -> bytes:
    return claiming(shape=[-1, -2])


@hostile("no readable .safetensors file")
def offsets_backwards() -> bytes:
    return claiming(data_offsets=[16, 0])


@hostile("no readable .safetensors file")
def offsets_beyond_the_end() -> bytes:
    return claiming(shape=[4, 1], data_offsets=[0, 32])


@hostile("no readable .safetensors file")
def offsets_that_overlap() -> bytes:
    return header({"A1": entry([2, 1], 0, 16), "A2": entry([1, 1], 8, 16)})


@hostile("no readable .safetensors file")
def bytes_left_over() -> bytes:
    return header({"A1": entry([1, 1], 0, 8)})


@hostile("no readable .safetensors file")
def dtype_unknown() -> bytes:
    return claiming(dtype="OBJECT")


@hostile("an array called '../A1'")
def parent_folder() -> bytes:
    return header({"../A1": entry([2, 1], 0, 16)})


@hostile("an array called ''")
def no_name() -> bytes:
    return header({"": entry([2, 1], 0, 16)})


@hostile("no readable .safetensors file")
def twice() -> bytes:
    one = json.dumps(entry([1, 1], 0, 8))
    two = json.dumps(entry([1, 1], 8, 16))
    return header(f'{{"A1": {one}, "A1": {two}}}'.encode())


@hostile("an unknown array 'Scale'")
def misspelt() -> bytes:
    return problem(Scale=np.array(0.5))


@hostile("E must be there as well")
def array_missing() -> bytes:
    made = arrays()
    del made["E"]
    return save(made)


@hostile("'bfloat16'")
def bfloat() -> bytes:
    content = problem(E=arrays(np.float16)["E"])
    assert content.count(b'"F16"') == 1
    content = content.replace(b'"F16"', b'"BF16"')
    # One more letter: the space that fills the header up gives way, or eight more are needed.
    length = int.from_bytes(content[:8], "little")
    text, payload = content[8 : 9 + length], content[9 + length :]
    return header(text.rstrip(b" ").ljust(len(text) + 7, b" "), payload)


@hostile("scale: found nan")
def scale_of_nan() -> bytes:
    return problem(scale=np.array(np.nan))


@hostile("'scale' of shape (2,)")
def scale_of_two() -> bytes:
    return problem(scale=np.zeros(2))


@hostile("A1: found nan at index (0, 1)")
def not_finite() -> bytes:
    array = arrays()["A1"]
    array[0, 1] = np.nan
    return problem(A1=array)


@hostile("A1: found dtype int64")
def integers() -> bytes:
    return problem(A1=np.ones_like(arrays()["A1"], dtype=np.int64))


def special(words: str) -> Callable[[Maker], Maker]:
    """Enter what is no file of bytes."""

    def enter(make: Maker) -> Maker:
        HOSTILE[f"tensors_{make.__name__}"] = (make, words)
        return make

    return enter


@special("no regular file")
def a_pipe(path: Path) -> Path:
    target = path.with_suffix(".safetensors")
    os.mkfifo(target)
    return target


@special("no such file")
def missing(path: Path) -> Path:
    return path.with_suffix(".safetensors")


@special("no readable .safetensors file")
def sparse(path: Path) -> Path:
    """Two GiB of nothing, behind a header that claims them."""
    target = path.with_suffix(".safetensors")
    text = json.dumps({"A1": entry([1], 0, 8, "F64")}).encode()
    with target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(2 * GIB)
    return target
