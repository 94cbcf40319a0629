"""Files that mean harm, each with the words that its error must hold."""

from __future__ import annotations

import functools
import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from npz_files import N, archive, arrays, good, header, npy, problem_members

MIB = 2**20
BOMB_BYTES = 1024 * MIB
BOMB_ROWS = BOMB_BYTES // 24

Maker = Callable[[Path], Path]
HOSTILE: dict[str, tuple[Maker, str]] = {}


def hostile(words: str) -> Callable[[Maker], Maker]:
    """Enter a file into the table, with words that its error must hold."""

    def enter(make: Maker) -> Maker:
        HOSTILE[make.__name__] = (make, words)
        return make

    return enter


def spoilt(path: Path, name: str, content: bytes) -> Path:
    return archive(path, {**problem_members(), f"{name}.npy": content})


def claiming(path: Path, text: str, payload: bytes = b"\0" * 16) -> Path:
    return spoilt(path, "A1", header(text) + payload)


class Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.mark, "w")


@hostile("pickled Python objects in 'A1'")
def pickled(path: Path) -> Path:
    content = npy(np.array([[Payload(f"{path}.ran")]], dtype=object))
    return spoilt(path, "A1", content)


@hostile("pickled Python objects in 'A1'")
def pickled_field(path: Path) -> Path:
    return claiming(path, "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (2,)}")


@hostile("no array in 'A1'")
def bare_pickle(path: Path) -> Path:
    return spoilt(path, "A1", b"\x80\x04cos\nsystem\n.")


@hostile("dtype |S4 in 'A1'")
def byte_strings(path: Path) -> Path:
    return spoilt(path, "A1", npy(np.array([[b"abcd"]])))


@hostile("[('a', '<f8')] in 'A1'")
def records(path: Path) -> Path:
    return spoilt(path, "A1", npy(np.zeros(2, dtype=[("a", "<f8")])))


@hostile("('<f8', (3,)) in 'A1'")
def subarray(path: Path) -> Path:
    return claiming(path, "{'descr': ('<f8', (3,)), 'fortran_order': False, 'shape': (2,)}")


@hostile("claiming shape (1099511627776, 1024)")
def header_too_large(path: Path) -> Path:
    return claiming(path, f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**40}, 1024)}}")


@hostile("where the archive holds 16 bytes")
def header_too_small(path: Path) -> Path:
    return claiming(path, "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1)}")


@hostile("claiming shape (-1, -2)")
def header_negative(path: Path) -> Path:
    return claiming(path, "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -2)}")


@hostile("no array in 'A1'")
def header_of_words(path: Path) -> Path:
    return claiming(path, "{'descr': '<f8', 'fortran_order': False, 'shape': ('a', 'b')}")


@hostile("no array in 'A1'")
def header_of_code(path: Path) -> Path:
    return claiming(path, f"__import__('builtins').open({f'{path}.ran'!r}, 'w')")


@hostile("no array in 'A1'")
def header_nested(path: Path) -> Path:
    return claiming(path, "(" * 4000 + ")" * 4000)


@hostile("no array in 'A1'")
def header_missing_key(path: Path) -> Path:
    return claiming(path, "{'descr': '<f8', 'shape': (2, 1)}")


@hostile("no array in 'A1'")
def header_long(path: Path) -> Path:
    return claiming(path, " " * 60_000)


@hostile("no array in 'A1'")
def header_of_gigabytes(path: Path) -> Path:
    length = (4_000_000_000).to_bytes(4, "little")
    return spoilt(path, "A1", b"\x93NUMPY\x02\x00" + length + b" " * 64)


@hostile("no array in 'A1'")
def header_of_the_future(path: Path) -> Path:
    return spoilt(path, "A1", header("{}", version=(9, 0)))


@hostile("no array in 'A1'")
def member_empty(path: Path) -> Path:
    return spoilt(path, "A1", b"")


def header_of_bomb() -> bytes:
    return header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({BOMB_ROWS}, 3)}}")


@hostile("at most")
def bomb(path: Path) -> Path:
    """1 GiB of zeros in 1 MiB."""
    path.write_bytes(bomb_content())
    return path


@functools.cache
def bomb_content() -> bytes:
    """Made once: it takes seconds."""
    zeros, content = bytes(MIB), io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, member in problem_members().items():
            if name != "A1.npy":
                file.writestr(name, member)
        with file.open("A1.npy", "w", force_zip64=True) as large:
            large.write(header_of_bomb())
            left = BOMB_ROWS * 3 * 8
            while left:
                large.write(zeros[: min(left, MIB)])
                left -= min(left, MIB)
    return content.getvalue()


def lying_bomb(path: Path) -> Path:
    """The same, with a directory that claims 1 KiB in place of 1 GiB."""
    claimed = (len(header_of_bomb()) + BOMB_ROWS * 3 * 8).to_bytes(8, "little")
    content = bomb_content()
    assert claimed[:4] in content
    path.write_bytes(content.replace(claimed[:4], (1024).to_bytes(4, "little")))
    return path


@hostile("'../A1.npy'")
def parent_folder(path: Path) -> Path:
    return archive(path, {**problem_members(), "../A1.npy": npy(np.zeros((2, 2)))})


@hostile("'/tmp/A1.npy'")
def absolute_name(path: Path) -> Path:
    return archive(path, {**problem_members(), "/tmp/A1.npy": npy(np.zeros((2, 2)))})


@hostile("members are plain names")
def windows_name(path: Path) -> Path:
    return archive(path, {**problem_members(), "..\\A1.npy": npy(np.zeros((2, 2)))})


@hostile("members are plain names")
def folder(path: Path) -> Path:
    return archive(path, {**problem_members(), "inside/": b""})


@hostile("members are plain names")
def name_with_zero_byte(path: Path) -> Path:
    archive(path, {**problem_members(), "A1_.npy#": npy(np.zeros((2, 2)))})
    path.write_bytes(path.read_bytes().replace(b"A1_.npy#", b"A1.npy\0#"))
    return path


@hostile("'readme.txt'")
def other_member(path: Path) -> Path:
    return archive(path, {**problem_members(), "readme.txt": b"hello"})


@hostile("an unknown array 'Scale'")
def misspelt(path: Path) -> Path:
    return archive(path, {**problem_members(), "Scale.npy": npy(np.array(0.5))})


@hostile("'A1' twice")
def twice(path: Path) -> Path:
    good(path)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as file:
        file.writestr("A1.npy", npy(np.zeros((2, 2))))
    return path


@hostile("no array in 'A1'")
def link_inside(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in problem_members().items():
            info = zipfile.ZipInfo(name)
            if name == "A1.npy":
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                content = b"/etc/passwd"
            file.writestr(info, content)
    return path


@hostile("compressed by method 14")
def lzma(path: Path) -> Path:
    return archive(path, problem_members(), zipfile.ZIP_LZMA)


@hostile("'A1.npy' encrypted")
def encrypted(path: Path) -> Path:
    content = bytearray(archive(path, problem_members()).read_bytes())
    # The flags lie 6 bytes behind the signature of an entry, 8 behind that of the directory's.
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    return path


@hostile("no readable .npz archive")
def directory_of_gigabytes(path: Path) -> Path:
    """A sparse file whose last bytes claim a directory of 2 GiB."""
    size = 2 * BOMB_BYTES
    with path.open("wb") as file:
        file.seek(size)
        end = b"PK\x05\x06" + bytes(4) + (1).to_bytes(2, "little") * 2
        file.write(end + size.to_bytes(4, "little") + bytes(4) + bytes(2))
    return path


@hostile("no readable .npz archive")
def no_archive(path: Path) -> Path:
    path.write_bytes(b"A1,A2\n1,2\n" * 100)
    return path


@hostile("no readable .npz archive")
def nothing(path: Path) -> Path:
    path.write_bytes(b"")
    return path


@hostile("no readable .npz archive")
def one_array(path: Path) -> Path:
    path.write_bytes(npy(np.zeros((2, 2))))
    return path


@hostile("no such file")
def missing(path: Path) -> Path:
    return path


@hostile("no regular file")
def a_folder(path: Path) -> Path:
    path.mkdir()
    return path


@hostile("no regular file")
def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


@hostile("no regular file")
def device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


@hostile("no readable .npz archive")
def link_to_a_secret(path: Path) -> Path:
    path.symlink_to("/etc/passwd")
    return path


@hostile("no such file")
def link_to_nothing(path: Path) -> Path:
    path.symlink_to(path.with_name("nothing"))
    return path


@hostile("E must be there as well")
def array_missing(path: Path) -> Path:
    return archive(path, {k: v for k, v in problem_members().items() if k != "E.npy"})


@hostile("either X, or both W_Q and W_K")
def weights_twice(path: Path) -> Path:
    return archive(path, {**problem_members(), "W_Q.npy": npy(np.zeros((2, 2)))})


@hostile("'scale' of shape (2,)")
def scale_of_two(path: Path) -> Path:
    return archive(path, {**problem_members(), "scale.npy": npy(np.zeros(2))})


@hostile("scale: found nan")
def scale_of_nan(path: Path) -> Path:
    return archive(path, {**problem_members(), "scale.npy": npy(np.array(np.nan))})


@hostile("A1: found nan at index (0, 1)")
def not_finite(path: Path) -> Path:
    array = arrays()["A1"]
    array[0, 1] = np.nan
    return spoilt(path, "A1", npy(array))


@hostile("A1: found dtype int64")
def integers(path: Path) -> Path:
    return spoilt(path, "A1", npy(np.ones((N, 3), dtype=np.int64)))
