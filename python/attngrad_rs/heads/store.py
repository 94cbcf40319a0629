"""Files of heads: ``.npz`` or ``.safetensors``, float16, never pickled.

=========================================  ===========================================  =========
name                                       content                                      dtype
=========================================  ===========================================  =========
``format``                                 FORMAT, a number                             int64
``{model}_tokens``                         (n,) the tokens                              int32
``{model}_source``                         weights and text, UTF-8                      uint8
``{model}_q_{layer}_{head}``               (n, d), or (g, n, d) for g query heads       float16
``{model}_k_…``, ``{model}_v_…``           (n, d)                                       float16
=========================================  ===========================================  =========
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from .._inputs.arrays import Array
from .._inputs.files import load_arrays
from ..errors import ProblemFileError
from .head import Head

__all__ = ["BUNDLED", "CAUSAL", "FORMAT", "FORMAT_NAME", "load_heads"]

FORMAT = 1
# The array that a file of heads is known by.
FORMAT_NAME = "format"
BUNDLED = "heads.npz"
# The models whose heads may be in a file, and whether they are causal.
CAUSAL: Mapping[str, bool] = {"minilm": False, "smollm2": True}
_QUERY = re.compile(rf"({'|'.join(CAUSAL)})_q_(\d{{1,4}}_\d{{1,4}})\Z")


def load_heads(path: str | os.PathLike[str] | None = None) -> list[Head]:
    """The heads that come with the package, or those of a file written by ``make_heads``.

    Parameters
    ----------
    path : str or os.PathLike, optional
        A file made by ``make_heads`` (``attngrad heads``). None: four heads of all-MiniLM-L6-v2
        and three of SmolLM2-135M-Instruct, 1024 tokens each; ``data/PROVENANCE.md`` beside the
        file says how they were made and under which licences.

    Returns
    -------
    list of Head
        In the order of the file. Groups are taken apart: the members share key and value.

    Raises
    ------
    ProblemFileError
        If the file is missing, damaged, or no file of heads.
    """
    shown = os.fspath(Path(__file__).parents[1] / "data" / BUNDLED if path is None else path)
    arrays = load_arrays(shown)
    version = arrays.pop(FORMAT_NAME, np.array(None))
    if version.shape != () or version.dtype.kind not in "iu" or int(version) != FORMAT:
        raise ProblemFileError(
            f"{shown}: found no file of heads of format {FORMAT}; make one with: attngrad heads"
        )
    heads = [head for name in arrays for head in _group(shown, arrays, name)]
    if not heads:
        raise ProblemFileError(f"{shown}: found no head in it; make one with: attngrad heads")
    return heads


def _group(shown: str, arrays: Mapping[str, Array], name: str) -> Iterator[Head]:
    """The heads of one query array; nothing for the other arrays of the file."""
    if not (match := _QUERY.match(name)):
        return
    model, place = match.groups()
    partners = (f"{model}_k_{place}", f"{model}_v_{place}", f"{model}_tokens", f"{model}_source")
    if missing := [partner for partner in partners if partner not in arrays]:
        raise ProblemFileError(f"{shown}: found {name!r} without {missing[0]!r}; make it anew")
    key, value, tokens, source = (arrays[partner] for partner in partners)
    query = arrays[name] if arrays[name].ndim == 3 else arrays[name][None]
    _check(shown, name, query, key, value, tokens)
    try:
        text = source.tobytes().decode()
    except UnicodeDecodeError:
        raise ProblemFileError(f"{shown}: found no text in {partners[3]!r}; make it anew") from None
    for array in (query, key, value, tokens):
        array.setflags(write=False)
    for member, rows in enumerate(query):
        yield Head(
            place if len(query) == 1 else f"{place}.{member}", model, rows, key, value,
            is_causal=CAUSAL[model], scale=1.0 / math.sqrt(key.shape[1]), tokens=tokens,
            source=text,
        )  # fmt: skip


def _check(shown: str, name: str, query: Array, key: Array, value: Array, tokens: Array) -> None:
    """One shape, one dtype, finite numbers."""
    floats = (query, key, value)
    alike = query.shape[1:] == key.shape == value.shape and tokens.shape == key.shape[:1]
    if query.ndim != 3 or query.size == 0 or not alike:
        raise ProblemFileError(
            f"{shown}: found q {query.shape}, k {key.shape}, v {value.shape} and tokens "
            f"{tokens.shape} for {name!r}; expected (g, n, d) or (n, d), (n, d), (n, d) and (n,)"
        )
    if any(array.dtype != np.float16 for array in floats) or tokens.dtype != np.int32:
        raise ProblemFileError(f"{shown}: found other dtypes than float16 and int32 for {name!r}")
    if not all(np.isfinite(array).all() for array in floats):
        raise ProblemFileError(f"{shown}: found NaN or infinity for {name!r}; make it anew")
