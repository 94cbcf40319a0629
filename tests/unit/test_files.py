"""Files in: the arrays as they were. Files out: whole or not at all."""

from __future__ import annotations

import os
import resource
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag
from attngrad_rs._inputs.files import load_arrays
from attngrad_rs._inputs.output import atomic_output, check_output

DTYPES = ["<f8", ">f8", "<f4", ">f4", "<f2", "<i8", "u1", "?", "<c16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back(tmp_path: Path, dtype: str, order: Any, save: Any) -> None:
    path = tmp_path / "a.npz"
    array = np.random.default_rng(0).integers(0, 2, (7, 5)).astype(dtype, order=order)
    given = {
        "a": array,
        "empty": array[:0],
        "number": array[:1, 0].reshape(()),
        "stack": array[None],
    }
    save(path, **given)
    read = load_arrays(path, required=("a",))
    assert set(read) == set(given)
    for name, one in read.items():
        assert one.dtype == array.dtype
        assert one.shape == np.shape(given[name])
        assert np.array_equal(one, given[name])
        assert one.flags.writeable


def test_large_arrays_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    array = np.random.default_rng(0).standard_normal((3, 100_003))
    np.savez_compressed(path, a=array)
    assert np.array_equal(load_arrays(path)["a"], array)


def test_genuine_zeros_are_read_up_to_the_free_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros((1000, 1000)))
    assert load_arrays(path)["a"].shape == (1000, 1000)


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    (tmp_path / "link.npz").symlink_to("a.npz")
    assert load_arrays(tmp_path / "link.npz")["a"].sum() == 3.0


def test_names_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.ones(3), b=np.ones(3))
    assert set(load_arrays(path)) == {"a", "b"}
    assert set(load_arrays(path, required=("a",), optional=("b", "c"))) == {"a", "b"}
    with pytest.raises(ag.ProblemFileError, match="unknown array 'b'; known are a, c"):
        load_arrays(path, required=("a",), optional=("c",))
    with pytest.raises(ag.ProblemFileError, match="found a, b; c must be there as well"):
        load_arrays(path, required=("a", "c"))


# -- output ---------------------------------------------------------------------------------------


def half_write(path: Path, error: BaseException, *, force: bool) -> None:
    with atomic_output(path, force=force) as file:
        file.write(b"half")
        raise error


def write_while_another_does(path: Path) -> None:
    with atomic_output(path) as file:
        file.write(b"mine")
        path.write_bytes(b"theirs")


def folder_holds(folder: Path, *names: str) -> bool:
    return sorted(os.listdir(folder)) == sorted(names)


def test_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    with atomic_output(path) as file:
        file.write(b"hello")
        assert not path.exists()
    assert path.read_bytes() == b"hello"
    assert folder_holds(tmp_path, "out.bin")


def test_it_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noted(*args: Any, name: str = name, real: Any = real) -> Any:
            order.append(name)
            return real(*args)

        monkeypatch.setattr(os, name, noted)
    with atomic_output(tmp_path / "out.bin") as file:
        file.write(b"hello")
    assert order == ["fsync", "replace"]


def test_it_has_the_usual_permissions(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "out.bin") as file:
        file.write(b"hello")
    (tmp_path / "plain").write_bytes(b"hello")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out.bin", "plain")}
    assert len(modes) == 1


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with (
        pytest.raises(ag.OutputError, match="found an existing file") as caught,
        atomic_output(path),
    ):
        raise AssertionError("entered")
    assert caught.value.path == str(path)
    assert path.read_bytes() == b"old"
    with atomic_output(path, force=True) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert folder_holds(tmp_path, "out.bin")


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, ag.DeadlineError])
def test_nothing_is_left_of_a_failure(
    tmp_path: Path, force: bool, error: type[BaseException]
) -> None:
    path = tmp_path / "out.bin"
    if force:
        path.write_bytes(b"old")
    with pytest.raises(error):
        half_write(path, error("stop"), force=force)
    assert folder_holds(tmp_path, *(["out.bin"] if force else []))
    assert not force or path.read_bytes() == b"old"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    with pytest.raises(ag.OutputError, match="existing"):
        write_while_another_does(path)
    assert path.read_bytes() == b"theirs"
    assert folder_holds(tmp_path, "out.bin")


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    secret, link = tmp_path / "secret", tmp_path / "out.bin"
    secret.write_bytes(b"secret")
    link.symlink_to(secret)
    with pytest.raises(ag.OutputError, match="existing"):
        check_output(link)
    with atomic_output(link, force=True) as file:
        file.write(b"new")
    assert secret.read_bytes() == b"secret"
    assert not link.is_symlink()


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    link = tmp_path / "out.bin"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ag.OutputError, match="existing"):
        check_output(link)
    assert not (tmp_path / "elsewhere").exists()


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ag.OutputError, match="found a folder"):
        check_output(tmp_path, force=True)
    with pytest.raises(ag.OutputError, match="found no folder"):
        check_output(tmp_path / "missing" / "out.bin")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ag.OutputError, match="found no folder"):
        check_output(tmp_path / "file" / "out.bin")


def test_the_longest_name_of_a_file_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    with atomic_output(path) as file:
        file.write(b"hello")
    assert path.read_bytes() == b"hello"
    with (
        pytest.raises(ag.OutputError, match="cannot be written"),
        atomic_output(tmp_path / ("x" * 256)) as file,
    ):
        file.write(b"hello")
    assert folder_holds(tmp_path, path.name)


@pytest.mark.skipif(sys.platform == "win32", reason="has no RLIMIT_FSIZE")
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(ag.OutputError) as caught, atomic_output(path, force=True) as file:
            np.savez(file, a=np.random.default_rng(0).standard_normal(2**16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert folder_holds(tmp_path, "out.npz")
