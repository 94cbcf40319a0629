"""A problem in a file, as the arguments of ``loss_gradient``: ``.npz``, or ``.safetensors``.

==================  ===================  =====================================================
name                shape                content
==================  ===================  =====================================================
``A1, A2, A3``      (n, d1), (m, d2),    inputs on the query, key and value side
                    (m, d3)
``X``               (d1, d2)             weights of the logits, or in its place ...
``W_Q, W_K``        (d1, k), (d2, k)     ... the pair with X = W_Q W_Kᵀ
``Y``               (d3, dv)             weights of the values
``E``               (n, dv)              target
``scale``           ()                   factor of the logits; 1/d2 where it is left out
``is_causal``       ()                   whether query j sees keys up to j only; not by default
==================  ===================  =====================================================

Nothing is unpickled. All arrays are float32, or all float64. float16 is read as the other arrays
are, or as float32: these hold its numbers exactly. A file of heads (``attngrad heads``) holds a
problem for each head.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._inputs.files import array_names, load_arrays
from ..errors import OptionError, ProblemFileError
from ..heads import Head, load_heads
from ..heads.store import FORMAT_NAME

__all__ = ["read_problem"]

PROBLEM_ARRAYS = ("A1", "A2", "A3", "Y", "E")
WEIGHTS = ("X", "W_Q", "W_K")
OPTIONS = ("scale", "is_causal")


def read_problem(path: str, head: str | None = None) -> dict[str, Any]:
    """The arguments of ``loss_gradient`` from a file.

    Parameters
    ----------
    path : str
        A problem file, or a file of heads.
    head : str, optional
        Which head of a file of heads: ``layer_head``, as ``attngrad heads`` prints them. It may be
        left out where there is one.

    Raises
    ------
    ProblemFileError
        For a file that is missing, damaged, or not a problem; the message says what it holds.
    OptionError
        For a head that is not in the file, or one of several that is not named.
    """
    if FORMAT_NAME in array_names(path):
        return _chosen(path, load_heads(path), head).problem(np.float32)
    found = load_arrays(path, required=PROBLEM_ARRAYS, optional=(*WEIGHTS, *OPTIONS))
    if head is not None:
        raise OptionError(
            f"head: found {head!r} for {path}, a problem; only files of heads have it"
        )
    pair = "W_Q" in found or "W_K" in found
    if pair == ("X" in found) or ("W_Q" in found) != ("W_K" in found):
        there = ", ".join(name for name in WEIGHTS if name in found) or "none"
        raise ProblemFileError(
            f"{path}: found {there} of X, W_Q, W_K; either X, or both W_Q and W_K are wanted"
        )
    _widen(found)
    arguments: dict[str, Any] = {name: found[name] for name in PROBLEM_ARRAYS}
    # A file cannot say that three arrays are one; equal numbers say it.
    if _equal(found["A1"], found["A2"]) and _equal(found["A1"], found["A3"]):
        arguments.update(A2=found["A1"], A3=found["A1"])
    arguments["X"] = (found["W_Q"], found["W_K"]) if pair else found["X"]
    for name in OPTIONS:
        if name in found:
            if found[name].shape != ():
                raise ProblemFileError(
                    f"{path}: found {name!r} of shape {found[name].shape}; "
                    "a single number is wanted"
                )
            arguments[name] = found[name].item()
    return arguments


def _chosen(path: str, heads: list[Head], wanted: str | None) -> Head:
    """The head of that name, or the only one."""
    matching = [one for one in heads if wanted in (None, one.name, f"{one.model}_{one.name}")]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(f"{one.model}_{one.name}" for one in heads)
    found = "nothing" if wanted is None else repr(wanted)
    raise OptionError(f"head: found {found} for a file of heads, {path}; one of {names} is wanted")


def _widen(found: dict[str, Any]) -> None:
    """float16 as float64 where an array is that, as float32 otherwise; both hold it exactly."""
    arrays = [name for name in (*PROBLEM_ARRAYS, *WEIGHTS) if name in found]
    double = any(found[name].dtype == np.float64 for name in arrays)
    for name in arrays:
        if found[name].dtype == np.float16:
            found[name] = found[name].astype(np.float64 if double else np.float32)


def _equal(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and np.array_equal(left, right)
