"""Masks that are wrong: one error each, which names the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import attngrad_rs as ag

N, M = 5, 6
CASES: list[tuple[Any, ...]] = [
    ("window-type", {"window": 3}, ag.OptionTypeError, "window: found 3 of type int"),
    ("window-number", {"window": (-2, 0)}, ag.OptionError, "window: found -2", "integers >= -1"),
    ("window-length", {"window": (1,)}, ag.OptionError, "window: found a tuple of length 1"),
    ("align", {"causal_align": "left"}, ag.OptionError, "causal_align: found 'left'"),
    ("dropout", {"dropout_p": 0.1}, ag.OptionError, "dropout_p: found 0.1; expected 0.0"),
    ("mask-dtype", {"attn_mask": np.ones((N, M), int)}, ag.DTypeError,
     "attn_mask: found dtype int64", "bool, or float64"),
    ("mask-precision", {"attn_mask": np.ones((N, M), np.float32)}, ag.DTypeError,
     "attn_mask: found dtype float32"),
    ("mask-shape", {"attn_mask": np.ones((M, N), bool)}, ag.ShapeError,
     "attn_mask: found shape (6, 5)", "broadcasts to"),
    ("mask-nan", {"attn_mask": np.full((N, M), np.nan)}, ag.NonFiniteError,
     "attn_mask: found NaN at row 0, column 0"),
    ("mask-causal", {"attn_mask": np.ones((N, M), bool), "is_causal": True}, ag.OptionError,
     "is_causal: found True beside attn_mask"),
    ("lengths-dtype", {"key_lengths": 2.0}, ag.DTypeError, "key_lengths: found dtype float64"),
    ("lengths-shape", {"key_lengths": [1, 2]}, ag.ShapeError, "key_lengths: found shape (2,)"),
    ("lengths-long", {"key_lengths": M + 1}, ag.OptionError, "key_lengths: found 7", "from 0 to 6"),
    ("lengths-negative", {"key_lengths": -1}, ag.OptionError, "key_lengths: found -1"),
    ("packed-sum", {"cu_seqlens": ([0, N], [0, M - 1])}, ag.OptionError,
     "cu_seqlens: found an end of 5; expected 6", "rows of key"),
    ("packed-start", {"cu_seqlens": [1, N]}, ag.OptionError, "cu_seqlens: found 1"),
    ("packed-order", {"cu_seqlens": [0, 3, 2, N]}, ag.OptionError, "cu_seqlens: found 2 after 3"),
    ("packed-count", {"cu_seqlens": ([0, N], [0, 1, M])}, ag.OptionError,
     "cu_seqlens: found 1 sequences of queries and 2 of keys"),
    ("packed-lengths", {"cu_seqlens": ([0, N], [0, M]), "key_lengths": 1}, ag.OptionError,
     "cu_seqlens: found key_lengths beside it"),
    ("packed-shape", {"cu_seqlens": np.zeros((2, 2, 2), int)}, ag.ShapeError,
     "cu_seqlens: found shape (2, 2, 2)"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_a_wrong_mask_is_named(case: tuple[Any, ...]) -> None:
    _, options, error, *words = case
    query, key, dout = (np.ones((2, rows, 3)) for rows in (N, M, N))
    for call in (
        lambda: ag.attention(query, key, key, **options),
        lambda: ag.attention_vjp(query, key, key, dout, **options),
    ):
        with pytest.raises(ag.AttnGradError) as found:
            call()
        assert type(found.value) is error
        assert all(word in str(found.value) for word in words), str(found.value)
