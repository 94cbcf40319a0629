"""A problem in a file, as the arguments of ``loss_gradient``: ``.npz``, or ``.safetensors``.

Names and shapes of the arrays are those of docs/commands.md, section on problem files. Nothing is
unpickled. All arrays are float32, or all float64. float16 is read as the other arrays are, or as
float32: these hold its numbers exactly. A file of heads (``attngrad heads``) holds a problem for
each head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._inputs.files import array_names, load_arrays
from .._inputs.options import Input
from ..errors import OptionError, ProblemFileError
from ..heads import Head, load_heads
from ..heads.store import FORMAT_NAME

PROBLEM_ARRAYS = ("A1", "A2", "A3", "Y", "E")
WEIGHTS = ("X", "W_Q", "W_K")
OPTIONS = ("scale", "is_causal")


def read_problem(path: str, head: str | None = None) -> dict[str, Any]:
    """The arguments of ``loss_gradient`` from a problem file, or from a file of heads.

    ``head`` is which head of a file of heads, ``layer_head``, as ``attngrad heads`` prints them;
    it may be left out where there is one. Raises ProblemFileError for a file that is missing,
    damaged, or not a problem; the message says what it holds. OptionError for a head that is not
    in the file, or one of several that is not named.
    """
    if FORMAT_NAME in array_names(path):
        return _chosen(path, load_heads(path), head).problem(np.float32)
    found = load_arrays(path, required=PROBLEM_ARRAYS, optional=(*WEIGHTS, *OPTIONS))
    if head is not None:
        raise OptionError(
            f"head: found {head!r} for {path}, a problem; only files of heads have it"
        )
    weights = [name for name in WEIGHTS if name in found]
    if weights not in (["X"], ["W_Q", "W_K"]):
        there = ", ".join(weights) or "none"
        raise ProblemFileError(
            f"{path}: found {there} of X, W_Q, W_K; expected either X, or both W_Q and W_K"
        )
    given: dict[str, Any] = {}
    for name in OPTIONS:
        if name in found:
            value = found.pop(name)
            if value.shape != ():
                raise ProblemFileError(
                    f"{path}: found {name!r} of shape {value.shape}; expected a single number"
                )
            given[name] = value.item()
    # float16 becomes float64 where an array is that, and float32 otherwise; both hold it exactly.
    double = any(one.dtype == np.float64 for one in found.values())
    wide = np.float64 if double else np.float32
    found = {
        name: one.astype(wide) if one.dtype == np.float16 else one for name, one in found.items()
    }
    first, *others = (found[name] for name in ("A1", "A2", "A3"))
    # A file cannot say that three arrays are one; equal numbers say it.
    if all(one.dtype == first.dtype and np.array_equal(one, first) for one in others):
        found.update(A2=first, A3=first)
    parts = tuple(found.pop(name) for name in weights)
    return {**found, **given, "X": parts if len(parts) == 2 else parts[0]}


def default_names(arguments: Mapping[str, Any]) -> tuple[Input, ...]:
    """The gradients to compute where none is named: X, or the pair that stands for it."""
    return ("W_Q", "W_K") if isinstance(arguments["X"], tuple) else ("X",)


def _chosen(path: str, heads: list[Head], named: str | None) -> Head:
    """The head of that name, or the only one."""
    matching = [one for one in heads if named in (None, one.name, f"{one.model}_{one.name}")]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(f"{one.model}_{one.name}" for one in heads)
    found = "nothing" if named is None else repr(named)
    raise OptionError(f"head: found {found} for a file of heads, {path}; expected one of {names}")
