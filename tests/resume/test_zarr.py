"""Zarr arrays of any chunks, in and out: the bits of arrays in memory."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attngrad_rs import out_of_core
from helpers import assert_same_bits
from resume.test_out_of_core import SMALL, WRT, D, N, call, places, same

zarr = pytest.importorskip("zarr")


def stored(folder: Path, chunk: int) -> dict[str, Any]:
    """The inputs of the small problem in a store."""
    group = zarr.open_group(folder, mode="w")
    found = {}
    for name in ("A1", "A2", "A3", "E"):
        value = getattr(SMALL, name)
        found[name] = group.create_array(
            name, shape=value.shape, chunks=(chunk, value.shape[1]), dtype=value.dtype
        )
        found[name][:] = value
    return found


@pytest.mark.parametrize("chunk", [7, 40, 500])
def test_chunks_of_any_size_give_the_same_bits(chunk: int, tmp_path: Path) -> None:
    same(call(SMALL._replace(**stored(tmp_path, chunk))), call())


def test_outputs_go_to_arrays_of_a_store(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "out", mode="w")
    out = {
        name: group.create_array(name, shape=value.shape, chunks=(50, D), dtype=value.dtype)
        for name, value in places().items()
    }
    got = call(SMALL._replace(**stored(tmp_path / "in", 40)), out=out)
    want = call()
    for name in WRT:
        assert_same_bits(np.asarray(got.gradients[name][:]), np.asarray(want.gradients[name]), name)
    assert group["A1"].shape == (N, D)


def test_workers_open_the_store_by_its_path(tmp_path: Path) -> None:
    inputs = SMALL._replace(**stored(tmp_path, 40))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        got = out_of_core.loss_gradient(*inputs, degree=2, rows=40, executor=executor)
    want = out_of_core.loss_gradient(*SMALL, degree=2, rows=40)
    assert_same_bits(got.gradient, want.gradient, "X")
