"""Run a model on a text and keep some of its heads."""

from __future__ import annotations

import operator
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._inputs.arrays import Array
from ..._inputs.files import write_arrays
from ..._inputs.output import atomic_output, check_output
from ...errors import AttnGradError, OptionError, OptionTypeError, RangeError
from ..store import FORMAT, FORMAT_NAME
from . import minilm, smollm2
from .layers import Ids, Network, Progress, Triple
from .packages import WeightPackage

__all__ = ["MODELS", "HeadModel", "default_text", "make_heads", "model_heads", "pack"]

_PLACE = re.compile(r"(\d{1,4})_(\d{1,4})\Z")


@dataclass(frozen=True)
class HeadModel:
    """A model that ``make_heads`` can run.

    Attributes
    ----------
    title : str
        The name that its makers gave it.
    licence : str
        The licence of its weights.
    package : WeightPackage
        Where its weights come from; ``package.install_line`` is the command that installs them.
    default_heads : tuple of str
        What ``heads=None`` means: a choice from nearly even attention to sharply peaked.
    note : str
        What to know about its heads.
    open : callable
        Reads the weights.
    """

    title: str
    licence: str
    package: WeightPackage
    default_heads: tuple[str, ...]
    note: str
    open: Callable[[], Network]


MODELS: Mapping[str, HeadModel] = {
    "minilm": HeadModel(
        title="all-MiniLM-L6-v2",
        licence="Apache-2.0",
        package=minilm.PACKAGE,
        default_heads=("0_0", "0_3", "2_6", "2_0"),
        note=f"{minilm.WINDOW}-token windows joined; the model never attends across windows",
        open=minilm.MiniLM,
    ),
    "smollm2": HeadModel(
        title="SmolLM2-135M-Instruct (Q4_1)",
        licence="Apache-2.0",
        package=smollm2.PACKAGE,
        default_heads=("12_0",),
        note="one causal context; queries and keys after the rotary embedding",
        open=smollm2.SmolLM2,
    ),
}


def make_heads(
    model: str,
    text: str,
    *,
    out: str | os.PathLike[str],
    heads: Sequence[str] | None = None,
    tokens: int | None = None,
    force: bool = False,
    text_name: str = "a text of the user",
    progress: Progress | None = None,
) -> None:
    """Run a model on a text and write q, k and v of some of its heads, for ``load_heads(out)``.

    Parameters
    ----------
    model : {"minilm", "smollm2"}
        A key of ``MODELS``.
    text : str
        Any text that has a token.
    out : str or os.PathLike
        The file, ``.npz`` or ``.safetensors`` by its name, written whole or not at all.
    heads : sequence of str, optional
        ``"layer_head"`` (minilm) or ``"layer_group"`` (smollm2), counted from 0. None: the
        model's ``default_heads``.
    tokens : int, optional
        Keep the first so many tokens. None: all of the text.
    force : bool
        Replace an existing file.
    text_name : str
        What to call the text in ``Head.source``.
    progress : callable, optional
        Called with the fraction done, now and then, from this thread.

    Raises
    ------
    MissingDependencyError
        If the extra ``models`` or the package of weights is not installed; the message holds the
        command that installs it.
    OptionError, OptionTypeError
        For an unknown model or head, an empty text, or more tokens than there are or than the
        model's context holds.
    OutputError
        If ``out`` cannot be written or exists; found before the model is run.

    Notes
    -----
    Measured on one core (AVX2): minilm, 10240 tokens, up to layer 4, 3 s; smollm2, 8192 tokens, up
    to layer 18, 40 s, 1 GB of memory.
    """
    check_output(out, force=force)
    arrays = model_heads(
        model, text, heads=heads, tokens=tokens, text_name=text_name, progress=progress
    )
    with atomic_output(out, force=force) as file:
        write_arrays(file, out, arrays)


def model_heads(
    model: str,
    text: str,
    *,
    heads: Sequence[str] | None = None,
    tokens: int | None = None,
    text_name: str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The arrays that ``make_heads`` writes; its parameters, its errors."""
    if model not in MODELS:
        raise OptionError(f"model: found {model!r}; known are {', '.join(MODELS)}")
    if not isinstance(text, str):
        raise OptionTypeError(f"text: found {type(text).__name__}; give the text itself, a str")
    info = MODELS[model]
    names = _names(info, heads)
    keep = _positive(tokens)
    network = _opened(info)
    wanted = [_place(name, network) for name in names]
    ids = network.encode(text)
    count = _count(ids, keep, network.context_limit)
    triples = network.heads(ids, count, wanted, progress or (lambda fraction: None))
    source = (
        f"{info.title}, weights {info.licence}, from {info.package.distribution} "
        f"{info.package.found_version}; {info.note}; text: {text_name}"
    )
    return pack(model, names, triples, ids[:count], source)


def pack(
    model: str, names: Sequence[str], triples: Sequence[Triple], tokens: Ids, source: str
) -> dict[str, Array]:
    """The arrays of a file, for one model.

    Raises
    ------
    RangeError
        If a number of the head does not fit into float16.
    """
    arrays: dict[str, Array] = {
        FORMAT_NAME: np.array(FORMAT, dtype=np.int64),
        f"{model}_tokens": tokens.astype(np.int32),
        f"{model}_source": np.frombuffer(source.encode(), dtype=np.uint8),
    }
    for name, triple in zip(names, triples, strict=True):
        for role, numbers in zip("qkv", triple, strict=True):
            with np.errstate(over="ignore"):
                half = numbers.astype(np.float16)
            if not np.isfinite(half).all():
                raise RangeError(
                    f"heads: found {np.abs(numbers).max():.3g} in {role} of {name}; float16 holds "
                    "numbers up to 65504, choose another head"
                )
            arrays[f"{model}_{role}_{name}"] = half
    return arrays


def default_text() -> tuple[str, str]:
    """The text that the bundled heads were made from, and its name: it comes with every CPython."""
    from pydoc_data import topics

    name = f"pydoc_data.topics of CPython {platform.python_version()}"
    return "\n\n".join(topics.topics.values()), name


def _opened(info: HeadModel) -> Network:
    """The model; a weight file that its reader chokes on is an installation to repeat."""
    try:
        return info.open()
    except (AttnGradError, MemoryError):
        raise
    except Exception as error:
        text = str(error) or type(error).__name__
        raise info.package.reject(f"weights that cannot be read ({text})") from error


def _names(info: HeadModel, heads: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(heads, str) or not all(isinstance(name, str) for name in heads or ()):
        raise OptionTypeError(f"heads: found {heads!r}; give a list of names such as ['2_6']")
    names = info.default_heads if heads is None else tuple(heads)
    if not names or len(set(names)) < len(names):
        raise OptionError(f"heads: found {list(names)}; name at least one head, and none twice")
    return names


def _place(name: str, network: Network) -> tuple[int, int]:
    """(layer, head) of a name that the model has."""
    match = _PLACE.match(name)
    layer, head = map(int, match.groups()) if match else (-1, -1)
    # The round trip refuses "02_6", which would be a second name for "2_6".
    if name != f"{layer}_{head}" or layer >= network.layers or head >= network.key_heads:
        raise OptionError(
            f"heads: found {name!r}; expected layer_head with layers 0 to {network.layers - 1} "
            f"and heads (or groups) 0 to {network.key_heads - 1}, such as '0_0'"
        )
    return layer, head


def _positive(tokens: int | None) -> int | None:
    if tokens is None:
        return None
    try:
        count = -1 if isinstance(tokens, bool) else operator.index(tokens)
    except TypeError:
        raise OptionTypeError(f"tokens: found {tokens!r}; give a whole number or None") from None
    if count < 1:
        raise OptionError(f"tokens: found {tokens!r}; give a whole number from 1 on, or None")
    return count


def _count(ids: Ids, tokens: int | None, limit: int | None) -> int:
    """How many tokens to keep, once it is known that there are so many and that they fit."""
    if len(ids) == 0:
        raise OptionError("text: found no token in it; give a text with words")
    if tokens is not None and tokens > len(ids):
        raise OptionError(
            f"tokens: found {tokens}, but the text has {len(ids)}; give a longer text or fewer"
        )
    count = len(ids) if tokens is None else tokens
    if limit is not None and count > limit:
        raise OptionError(
            f"tokens: found {count}; the model's context holds {limit}, pass tokens={limit} or less"
        )
    return count
