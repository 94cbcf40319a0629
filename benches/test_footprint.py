"""Memory above the inputs and outputs, and what importing costs."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from conftest import is_smoke

MEMORY = """
import sys
import numpy as np
import attngrad_rs as ag
sys.path.insert(0, {folder!r})
from conftest import problem

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))

ag.loss_gradient(**problem(300, 64, "float32"), wrt={wrt!r})
data = problem({n}, 64, "float32")
inputs = sum(array.nbytes for array in data.values())
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")
result = ag.loss_gradient(**data, wrt={wrt!r})
outputs = sum(array.nbytes for array in result.gradients.values())
print(status("VmHWM") - before - outputs, inputs)
"""

NEAR_LINEAR = """
import sys
import numpy as np
import attngrad_rs as ag
sys.path.insert(0, {folder!r})
from test_near_linear import uniform

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))

options = dict(method="polynomial", degree=2)
ag.loss_gradient(**uniform(300), **options)
data = uniform({n})
inputs = sum(array.nbytes for array in data.values())
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")
result = ag.loss_gradient(**data, **options)
print(status("VmHWM") - before - result.gradient.nbytes, inputs)
"""

IMPORT = """
import time, numpy
start = time.perf_counter()
import attngrad_rs
print(time.perf_counter() - start)
"""
IMPORTS = 15


def run(code: str) -> list[float]:
    """The numbers that a fresh interpreter prints."""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [float(word) for word in out.stdout.split()]


@pytest.mark.parametrize("wrt", ["X", ("X", "Y", "A1", "A2", "A3")])
def test_memory(
    benchmark: BenchmarkFixture,
    report: Callable[[str], None],
    request: pytest.FixtureRequest,
    n: int,
    wrt: str | tuple[str, ...],
) -> None:
    tokens = n if is_smoke(request.config) else 8 * n
    code = MEMORY.format(folder=str(request.path.parent), wrt=wrt, n=tokens)
    extra, inputs = benchmark.pedantic(run, args=(code,), rounds=1)
    report(
        f"memory  float32 n={tokens} d= 64, {len(wrt) if isinstance(wrt, tuple) else 1} gradients:"
        f" {extra / 2**20:.0f} MiB above inputs and outputs = {extra / inputs:.2f} x the inputs"
        f" of {inputs / 2**20:.0f} MiB"
    )


def test_memory_near_linear(
    benchmark: BenchmarkFixture, report: Callable[[str], None], request: pytest.FixtureRequest
) -> None:
    tokens = 4096 if is_smoke(request.config) else 2**20
    code = NEAR_LINEAR.format(folder=str(request.path.parent), n=tokens)
    extra, inputs = benchmark.pedantic(run, args=(code,), rounds=1)
    report(
        f"memory  near-linear float32 n={tokens} d= 16: {extra / 2**20:.0f} MiB above inputs and"
        f" outputs = {extra / inputs:.2f} x the inputs of {inputs / 2**20:.0f} MiB"
    )


def test_import(benchmark: BenchmarkFixture, report: Callable[[str], None]) -> None:
    seconds = benchmark.pedantic(lambda: [run(IMPORT)[0] for _ in range(IMPORTS)], rounds=1)
    report(f"import attngrad_rs after numpy: median {1e3 * statistics.median(seconds):.0f} ms")
