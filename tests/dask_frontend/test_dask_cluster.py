"""A cluster of two processes: the bits of one thread, also where a worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

import attngrad_rs as ag  # noqa: E402
from attngrad_rs import errors  # noqa: E402
from attngrad_rs.dask import attention_vjp, loss_gradient  # noqa: E402
from dask_frontend.problems import SYNCHRONOUS  # noqa: E402
from helpers import assert_same_bits  # noqa: E402

N, D, ROWS = 8000, 4, 400
WRT: tuple[Any, ...] = ("X", "Y", "A1")
# A chunk in the middle.
KILLED_AT = 10

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(120),
    # What Dask says about workers that are gone.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(processes=True, **options) as cluster,
        distributed.Client(cluster, set_as_default=False) as found,
    ):
        yield found


def problem() -> list[Any]:
    rng = da.random.default_rng(0)
    A1, A2, A3, E = (rng.uniform(-1, 1, (N, D), chunks=(ROWS, D)) for _ in range(4))
    return [A1, A2, A3, np.eye(D), np.eye(D), E]


def run(inputs: list[Any], **options: Any) -> ag.GradientResult[Any]:
    return loss_gradient(*inputs, degree=2, wrt=WRT).compute(**options)


def same(got: ag.GradientResult[Any], want: ag.GradientResult[Any]) -> None:
    assert got.loss == want.loss
    for name in WRT:
        assert_same_bits(got.gradients[name], want.gradients[name], name)


def test_a_cluster_gives_the_same_bits(client: Any) -> None:
    want = run(problem(), **SYNCHRONOUS)
    same(run(problem(), scheduler=client), want)
    A1, A2, A3, X, Y, E = problem()
    persisted = [client.persist(array) for array in (A1, A2, A3, E)]
    same(run([*persisted[:3], X, Y, persisted[3]], scheduler=client), want)
    assert not any(client.processing().values()), "no task is left behind"


def test_a_cluster_gives_the_same_bits_of_attention(client: Any) -> None:
    rng = da.random.default_rng(1)
    lazy = attention_vjp(*(rng.standard_normal((300, D), chunks=(100, D)) for _ in range(4)))
    got, want = lazy.compute(scheduler=client), lazy.compute(**SYNCHRONOUS)
    for name, one, other in zip(("dq", "dk", "dv"), got, want, strict=True):
        assert_same_bits(one, other, name)


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_of_a_worker_arrive(client: Any, name: str) -> None:
    def fail() -> None:
        raise getattr(errors, name)("A1: found 1")

    with pytest.raises(getattr(errors, name), match=r"^A1: found 1$"):
        client.submit(fail, pure=False).result()


def deadly(array: Any, reads: Path) -> Any:
    """The same array; who comes to the marked chunk in the pass over it is killed, once."""

    def deadly_block(block: Any, block_id: tuple[int, int]) -> Any:
        if block_id[0] == KILLED_AT:
            with reads.open("ab") as file:
                file.write(b"1")
            # The first read is that of the sample.
            if reads.stat().st_size == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        return block

    return array.map_blocks(deadly_block, dtype=array.dtype, meta=array._meta)


def test_a_killed_worker_changes_no_bit(client: Any, tmp_path: Path) -> None:
    client.wait_for_workers(2, timeout=60)
    given, reads = problem(), tmp_path / "reads"
    given[0] = deadly(given[0], reads)
    got = run(given, scheduler=client)
    assert reads.stat().st_size > 2, "somebody was killed, and another read the chunk again"
    same(got, run(problem(), **SYNCHRONOUS))
