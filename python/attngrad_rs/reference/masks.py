"""Which keys each query of attention sees, key by key (docs/math.md, Definition 6.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .softmax import Array

BOTTOM_RIGHT = "bottom-right"


class Masks(NamedTuple):
    """Masks of heads under the names of ``attngrad_rs.attention``; all that are given hold."""

    attn_mask: Array | None = None
    window: tuple[int, int] | None = None
    key_lengths: Any = None
    cu_seqlens: Any = None
    causal_align: str = "top-left"

    def of_head(self, head: tuple[int, ...], shape: Sequence[int], is_causal: bool) -> Shown:
        """The mask of one head of arrays of a ``shape`` (..., H, L, S). Cost O(L S)."""
        *lead, n, m = shape
        length = m
        if self.key_lengths is not None:
            length = int(np.broadcast_to(self.key_lengths, lead[:-1])[head[:-1]])
        queries, keys = [0, n], [0, length]
        if self.cu_seqlens is not None:
            is_pair = np.ndim(self.cu_seqlens[0]) > 0
            queries, keys = self.cu_seqlens if is_pair else (self.cu_seqlens, self.cu_seqlens)
        before, after = self.window or (-1, -1)
        seen = np.zeros((n, m), dtype=bool)
        corner = 1 if self.causal_align == BOTTOM_RIGHT else 0
        for s in range(len(queries) - 1):
            own, theirs = (queries[s], queries[s + 1]), (keys[s], keys[s + 1])
            for j in range(*own):
                for i in range(*theirs):
                    # How far the key is behind the diagonal, which goes through a corner.
                    apart = (i - theirs[corner]) - (j - own[corner])
                    hidden = (is_causal and apart > 0) or (0 <= after < apart)
                    seen[j, i] = not hidden and (before < 0 or -apart <= before)
        added = np.zeros((n, m))
        if self.attn_mask is not None:
            mask = np.broadcast_to(self.attn_mask, tuple(shape))[head]
            if mask.dtype != bool:
                shows = mask >= np.finfo(mask.dtype).min / 8
                added, mask = np.where(shows, mask, 0), shows
            seen &= mask
        return Shown(seen, added)


class Shown(NamedTuple):
    """The mask of one head: the keys that each query sees, and what is added to their logits."""

    seen: Array
    added: Array
