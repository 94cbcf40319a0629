"""A real cluster of two processes: the same bits, also where workers are killed in the middle."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attngrad_rs import out_of_core
from helpers import assert_same_bits

distributed = pytest.importorskip("distributed")

N, D, ROWS = 8000, 4, 200
# From the first shard on: a run takes about a second.
KILLED_AFTER = (0.05, 0.3, 0.6)

pytestmark = [
    pytest.mark.timeout(120),
    # What Dask says about workers that are gone.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(processes=True, **options) as cluster,
        distributed.Client(cluster) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder: Path = tmp_path_factory.mktemp("inputs")
    rng, found = np.random.default_rng(0), []
    for name in ("A1", "A2", "A3", "E"):
        np.save(folder / f"{name}.npy", rng.uniform(-1, 1, (N, D)))
        found.append(np.load(folder / f"{name}.npy", mmap_mode="r"))
    A1, A2, A3, E = found
    return [A1, A2, A3, np.eye(D), np.eye(D), E]


def run(inputs: list[Any], **options: Any) -> dict[str, Any]:
    made = out_of_core.loss_gradient(*inputs, degree=2, wrt=("X", "Y"), rows=ROWS, **options)
    return dict(made.gradients)


def test_a_cluster_gives_the_same_bits(client: Any, inputs: list[Any]) -> None:
    got, want = run(inputs, executor=client.get_executor(), in_flight=4), run(inputs)
    for name, array in want.items():
        assert_same_bits(got[name], array, name)
    assert not any(client.processing().values()), "no task is left behind"


@pytest.mark.parametrize("seconds", KILLED_AFTER)
def test_a_killed_worker_changes_no_bit(client: Any, inputs: list[Any], seconds: float) -> None:
    client.wait_for_workers(2, timeout=60)
    victim, *_ = client.run(os.getpid).values()
    timer = threading.Timer(seconds, os.kill, (victim, signal.SIGKILL))
    timer.start()
    got = run(inputs, executor=client.get_executor(), in_flight=4)
    timer.join()
    for name, array in run(inputs).items():
        assert_same_bits(got[name], array, name)
