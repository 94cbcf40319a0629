"""Facts that a report of a problem needs: versions, the machine, and a check of the answers."""

from __future__ import annotations

import contextlib
import platform
import re
from importlib import metadata
from typing import Any

import numpy as np

from .. import _core, reference
from .._inputs import memory
from .._inputs.options import Input
from ..experiments.machine import cpu_name
from ..problem import loss_gradient

DISTRIBUTION = "attngrad-rs"
# A requirement as the metadata of a wheel hold it: `rich>=13.9 ; extra == 'cli'`.
REQUIREMENT = re.compile(r"([\w.-]+)[^;]*;.*extra == ['\"]([\w-]+)['\"]")
# Self-check: a problem whose sizes are multiples of no tile.
CHECK_SHAPES = {"A1": (67, 5), "A2": (53, 7), "A3": (53, 6), "X": (5, 7), "Y": (6, 9), "E": (67, 9)}
CHECK_NAMES: tuple[Input, ...] = ("X", "Y", "A1", "A2", "A3")
# Allowed error in units of the dtype's epsilon, relative to the gradient's norm: sums of about
# a hundred terms err by a few epsilon; a wrong kernel errs by 1/epsilon.
CHECK_SLACK = 1000.0


def examine(threads: int | None = None) -> dict[str, Any]:
    """Everything as plain values; ``["healthy"]`` says whether all checks passed."""
    checks = {dtype: _self_check(dtype, threads) for dtype in ("float32", "float64")}
    # 0 where another library of the process has switched the processor to flush subnormal numbers.
    subnormals = bool((np.array([np.finfo(np.float64).tiny]) / 4.0)[0] > 0.0)
    return {
        "healthy": subnormals and all(check["passed"] for check in checks.values()),
        "attngrad_rs": _core.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
        "extras": _extras(),
        "cpu": cpu_name(),
        "levels": _core.levels(),
        "level": _core.level(),
        "threads": _core.default_threads(),
        "memory_bytes": memory.available_bytes(),
        "subnormals_kept": subnormals,
        "self_check": checks,
    }


def describe(report: dict[str, Any]) -> list[str]:
    """The report of ``examine`` as lines of text."""
    items = dict(report)
    extras, checks, free = (items.pop(name) for name in ("extras", "self_check", "memory_bytes"))
    items["levels"] = ", ".join(items["levels"])
    items["memory"] = "unknown" if free is None else f"{memory.format_bytes(free)} free"
    for extra, names in extras.items():
        found = (f"{name} {version or '(none)'}" for name, version in names.items())
        items[f"extra {extra}"] = ", ".join(found)
    for dtype, check in checks.items():
        verdict = "passed" if check["passed"] else "FAILED"
        items[f"check {dtype}"] = f"{verdict}, error {check['error']:.1e}"
    return [f"{name:16} {value}" for name, value in items.items()]


def _extras() -> dict[str, dict[str, str | None]]:
    """The distributions of each extra, as pip names them, with what is installed of them.

    Empty where the package is imported without being installed.
    """
    found: dict[str, dict[str, str | None]] = {}
    with contextlib.suppress(metadata.PackageNotFoundError):
        for match in map(REQUIREMENT.match, metadata.requires(DISTRIBUTION) or ()):
            # An extra may hold another one of ours.
            if match and match[1] != DISTRIBUTION:
                found.setdefault(match[2], {})[match[1]] = _version(match[1])
    return found


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _self_check(dtype: str, threads: int | None) -> dict[str, Any]:
    """The gradient of a small problem against the definitions in NumPy, in float64."""
    rng = np.random.default_rng(0)
    problem: dict[str, Any] = {
        name: rng.standard_normal(shape).astype(dtype) for name, shape in CHECK_SHAPES.items()
    }
    result = loss_gradient(**problem, wrt=CHECK_NAMES, threads=threads)
    exact: dict[str, Any] = {name: array.astype(np.float64) for name, array in problem.items()}
    distances = []
    for name in CHECK_NAMES:
        truth = reference.loss_gradient(**exact, wrt=name)
        distances.append(np.linalg.norm(result.gradients[name] - truth) / np.linalg.norm(truth))
    # NumPy's maximum of a NaN is NaN, which is below nothing.
    worst, allowed = float(np.max(distances)), CHECK_SLACK * float(np.finfo(dtype).eps)
    return {"passed": worst <= allowed, "error": worst, "allowed": allowed}
