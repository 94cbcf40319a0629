"""A problem in an ``.npz`` file, as the arguments of ``loss_gradient``; never unpickled."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ProblemFileError
from .files import load_npz

__all__ = ["read_problem"]

PROBLEM_ARRAYS = ("A1", "A2", "A3", "Y", "E")
OPTIONAL_ARRAYS = ("X", "W_Q", "W_K", "scale", "is_causal")


def read_problem(path: str) -> dict[str, Any]:
    """The arguments of ``loss_gradient`` from a file.

    Raises
    ------
    ProblemFileError
        For a file that is missing, damaged, or not a problem; the message says what it holds.
    """
    found = load_npz(path, required=PROBLEM_ARRAYS, optional=OPTIONAL_ARRAYS)
    pair = "W_Q" in found or "W_K" in found
    if pair == ("X" in found) or ("W_Q" in found) != ("W_K" in found):
        there = ", ".join(name for name in ("X", "W_Q", "W_K") if name in found) or "none"
        raise ProblemFileError(
            f"{path}: found {there} of X, W_Q, W_K; either X, or both W_Q and W_K are wanted"
        )
    arguments: dict[str, Any] = {name: found[name] for name in PROBLEM_ARRAYS}
    # A file cannot say that three arrays are one; equal numbers say it.
    if _equal(found["A1"], found["A2"]) and _equal(found["A1"], found["A3"]):
        arguments.update(A2=found["A1"], A3=found["A1"])
    arguments["X"] = (found["W_Q"], found["W_K"]) if pair else found["X"]
    for name in ("scale", "is_causal"):
        if name in found:
            if found[name].shape != ():
                raise ProblemFileError(
                    f"{path}: found {name!r} of shape {found[name].shape}; "
                    "a single number is wanted"
                )
            arguments[name] = found[name].item()
    return arguments


def _equal(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and np.array_equal(left, right)
