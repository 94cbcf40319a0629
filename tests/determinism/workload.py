"""What the tests of behaviour share: problems that split into tasks, digests, subprocesses."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import attngrad_rs as ag
from attngrad_rs import _core, out_of_core

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]

TESTS = Path(__file__).resolve().parents[1]
ALL = ("X", "Y", "A1", "A2", "A3")
# Sizes that split everywhere: tasks of 128 queries, waves of 1024 queries, blocks of 240 keys and
# chunks of 120 keys. A size that fits one task would never meet the other threads.
QUERIES, KEYS, WIDTH = 1100, 300, 4
POOL_THREAD = "attngrad-"
SETTLE_SECONDS = 2.0


def problem(n: int, m: int, d: int, dtype: str = "float64", seed: int = 0) -> Arrays:
    """A1, A2, A3, X, Y, E, made without temporaries that would show in the peak of the memory."""
    rng = np.random.default_rng(seed)
    shapes = ((n, d), (m, d), (m, d), (d, d), (d, d), (n, d))
    return tuple(rng.standard_normal(shape, dtype=dtype) for shape in shapes)


def heads(n: int, m: int, d: int, dtype: str = "float64", seed: int = 0) -> Arrays:
    """Query, key, value and dout of two heads."""
    rng = np.random.default_rng(seed)
    shapes = ((2, n, d), (2, m, d), (2, m, d), (2, n, d))
    return tuple(rng.standard_normal(shape, dtype=dtype) for shape in shapes)


def digest(result: Any) -> str:
    """SHA-256 of every number in a result, error bars included."""
    sha = hashlib.sha256()
    for number in _numbers(result):
        array = np.asarray(number)
        sha.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return sha.hexdigest()


def _numbers(result: Any) -> list[Any]:
    if isinstance(result, ag.GradientResult):
        bars = [bar.absolute for bar in result.certificates.values()]
        return [result.loss, result.loss_certificate.absolute, *result.gradients.values(), *bars]
    if isinstance(result, tuple):
        return list(result)
    if isinstance(result, ag.AttentionGradients):
        return [*result, *(bar.absolute for bar in result.certificates.values())]
    if isinstance(result, ag.AttentionResult):
        return [result.output, result.certificate.absolute]
    if isinstance(result, ag.Plan):
        return _numbers(result.execute())
    if isinstance(result, ag.Factors):
        names = ("U1", "V1", "U2", "V2", "U3", "V3", "U4", "V4")
        return [getattr(result, name) for name in names]
    if isinstance(result, ag.Diagnosis):
        return [result.explain()]
    return [result]


def long_head(*given: Array) -> ag.AttentionGradients[Any]:
    """The gradients of one head in two shards of queries, in arrays of their own."""
    out = {name: np.empty_like(given[at]) for at, name in enumerate(("query", "key", "value"))}
    return out_of_core.attention_vjp(*given, out=out, rows=QUERIES // 2)


def public_functions() -> dict[str, Callable[..., Any]]:
    """Every function in `__all__`, and those of the modules that are imported by name."""
    named = {name: getattr(ag, name) for name in ag.__all__}
    named |= {f"out_of_core.{name}": getattr(out_of_core, name) for name in out_of_core.__all__}
    return {name: value for name, value in named.items() if inspect.isfunction(value)}


def public_calls() -> dict[str, Callable[[], str]]:
    """One call, of a size that splits, for every public function; each returns its digest."""
    args = problem(QUERIES, KEYS, WIDTH)
    given = heads(QUERIES, KEYS, WIDTH)
    # Long and flat enough for the near-linear method.
    near = tuple(0.5 * array for array in problem(4 * QUERIES, 8 * KEYS, WIDTH, "float32"))
    estimated: dict[str, Any] = {"method": "polynomial", "degree": 1, "certificate": "estimated"}
    return {
        "loss": lambda: digest(ag.loss(*args)),
        "loss_gradient": lambda: digest(ag.loss_gradient(*args, wrt=ALL)),
        "plan_loss_gradient": lambda: digest(ag.plan_loss_gradient(*near, rtol=0.1)),
        "plan": lambda: digest(ag.plan(*given[:3]).explain().splitlines()[0]),
        "attention": lambda: (
            digest(ag.attention(*given[:3]))
            + digest(ag.attention(*near[:3], return_certificate=True, **estimated))
        ),
        "attention_vjp": lambda: (
            digest(ag.attention_vjp(*given))
            + digest(ag.attention_vjp(*near[:3], near[5], **estimated))
        ),
        "attention_jvp": lambda: digest(ag.attention_jvp(*given[:3], *given[:3])),
        "attention_hvp": lambda: digest(ag.attention_hvp(*given, *given[:3])),
        "factors": lambda: digest(ag.factors(*args, degree=1)),
        "diagnose": lambda: digest(ag.diagnose(given[0][0], given[1][0])),
        "out_of_core.attention_vjp": lambda: digest(long_head(*(one[0] for one in given))),
        "out_of_core.loss_gradient": lambda: digest(
            out_of_core.loss_gradient(*near, degree=2, wrt=("X", "Y"), rows=QUERIES)
        ),
    }


def os_threads() -> list[str]:
    """The names of this process's threads, by the operating system's count."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between the listing and the reading
    return names


def pool_threads() -> int:
    return sum(name.startswith(POOL_THREAD) for name in os_threads())


def settled_pool_threads() -> int:
    """The same once new threads have got their names and those of a lost race have ended."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (count := pool_threads()) != _core.default_threads() and time.monotonic() < deadline:
        time.sleep(0.005)
    return count


class Outcome(NamedTuple):
    """What a child said in JSON on its last line, and its standard error."""

    said: Any
    stderr: str


def environment() -> dict[str, str]:
    """This process's, with the folder of the tests importable and blocks of keys as they are."""
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    kept = {name: value for name, value in os.environ.items() if name != "ATTNGRAD_KEY_BLOCK"}
    return {**kept, "PYTHONPATH": path, "PYTHONWARNINGS": "error"}


def child(script: Path, *arguments: object, timeout: float = 60.0) -> Outcome:
    """Run a script of the tests; it must end by itself, with status 0, having printed JSON."""
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{script.name} ended with {done.returncode}:\n{done.stderr}"
    return Outcome(json.loads(done.stdout.splitlines()[-1]), done.stderr)


def together(works: list[Callable[[], Any]], timeout: float = 120.0) -> list[Any]:
    """Do each in a thread of its own, all let go at once; raises what the first of them raised."""
    barrier = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            barrier.wait(timeout)
            results[index] = works[index]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
        assert not thread.is_alive(), f"a caller hangs after {timeout} s"
    if errors:
        raise errors[0]
    return results
