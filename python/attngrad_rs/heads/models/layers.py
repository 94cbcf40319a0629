"""What the two models share, in NumPy: softmax attention, and the walk up to the wanted heads.

On purpose none of this calls the compiled kernel: the heads are test data for that kernel, and a
fault in it must not shape them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "Backbone",
    "Floats",
    "Ids",
    "Network",
    "Progress",
    "Triple",
    "attend",
    "softmax",
    "wanted_heads",
]

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
Progress = Callable[[float], object]
# query (n, d), or (g, n, d) for the g query heads of one group; key and value (n, d).
Triple = tuple[Floats, Floats, Floats]

# Rows of logits held at once: 256 rows x 8192 keys x 4 bytes = 8 MiB.
QUERY_BLOCK = 256


class Backbone(Protocol):
    """A stack of attention layers over one context."""

    query_heads: int
    key_heads: int

    def embed(self, tokens: Ids) -> Floats:
        """The hidden states (n, width) below the first layer."""

    def project(self, layer: int, hidden: Floats) -> Triple:
        """What the layer's attention sees: query (query_heads, n, d), key, value (key_heads, …)."""

    def finish(self, layer: int, hidden: Floats, projected: Triple) -> Floats:
        """The hidden states above the layer."""


class Network(Protocol):
    """A model as ``make_heads`` uses it."""

    layers: int
    key_heads: int
    context_limit: int | None

    def encode(self, text: str) -> Ids:
        """The tokens of a text, in the model's own vocabulary."""

    def heads(
        self, tokens: Ids, count: int, wanted: Sequence[tuple[int, int]], progress: Progress
    ) -> list[Triple]:
        """The triples of the wanted (layer, key head), for the first ``count`` tokens."""


def softmax(logits: Floats) -> Floats:
    """Rows of exp(logits), each divided by its sum; works in place."""
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits


def attend(query: Floats, key: Floats, value: Floats, *, is_causal: bool) -> Floats:
    """softmax(q kᵀ/√d) v for each query head, joined to (n, heads·d).

    query (heads, n, d); key and value (key_heads, n, d), where query head h reads key head
    h // (heads / key_heads). Time O(heads n² d), memory O(QUERY_BLOCK · n).
    """
    heads, length, width = query.shape
    group = heads // len(key)
    out = np.empty((length, heads, width), dtype=np.float32)
    scale = 1.0 / math.sqrt(width)
    for head in range(heads):
        for start in range(0, length, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, length)
            seen = stop if is_causal else length
            logits: Floats = query[head, start:stop] @ key[head // group, :seen].T
            logits *= scale
            if is_causal:
                logits[np.arange(seen) > np.arange(start, stop)[:, None]] = -np.inf
            out[start:stop, head] = softmax(logits) @ value[head // group, :seen]
    return out.reshape(length, heads * width)


def wanted_heads(
    model: Backbone, tokens: Ids, wanted: Sequence[tuple[int, int]], progress: Progress
) -> list[Triple]:
    """Run the model on one context as far as needed; the triples, in the order of ``wanted``.

    A wanted (layer, j) is key head j of that layer with every query head that reads it.
    """
    group = model.query_heads // model.key_heads
    last = max(layer for layer, _ in wanted)
    found: dict[tuple[int, int], Triple] = {}
    hidden = model.embed(tokens)
    for layer in range(last + 1):
        projected = model.project(layer, hidden)
        for _, head in (item for item in wanted if item[0] == layer):
            query, key, value = projected
            members: npt.NDArray[Any] = query[head * group : (head + 1) * group]
            found[layer, head] = (members if group > 1 else members[0], key[head], value[head])
        if layer < last:
            hidden = model.finish(layer, hidden, projected)
        progress((layer + 1) / (last + 1))
    return [found[item] for item in wanted]
