"""Tiny random models as real files (safetensors, GGUF), and their forward passes as plain loops.

The loops read one token and one head at a time, in float64, and decode the 4-bit weights
themselves: they share nothing with the code under test but the definition of the models.
"""

from __future__ import annotations

import cmath
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def package(folder: Path, name: str) -> Path:
    """An installed package whose code must not run."""
    made = folder / name
    made.mkdir(parents=True)
    (made / "__init__.py").write_text("raise RuntimeError('a package of weights was imported')")
    return made


def loop_attention(query: Array, keys: Array, values: Array) -> Array:
    """One query over the keys it may see."""
    weights = [math.exp(float(query @ key) / math.sqrt(len(query))) for key in keys]
    out: Array = sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights)
    return out


# --- MiniLM: width 12, 3 heads of 4, 2 layers

WORDS = [
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *["the", "cat", "saw", "dogs", ",", ".", "1", "2", "12", "[", "]", "sep"],
]
WIDTH, HEADS, INNER = 12, 3, 20


def minilm_weights(rng: np.random.Generator) -> dict[str, Array]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": (256, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(2):
        at = f"encoder.layer.{layer}"
        dense = {f"attention.self.{x}": (WIDTH, WIDTH) for x in ("query", "key", "value")}
        dense |= {"attention.output.dense": (WIDTH, WIDTH)}
        dense |= {"intermediate.dense": (INNER, WIDTH), "output.dense": (WIDTH, INNER)}
        for name, shape in dense.items():
            shapes[f"{at}.{name}.weight"], shapes[f"{at}.{name}.bias"] = shape, shape[:1]
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    for name in norms:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (WIDTH,)
    return {k: rng.normal(size=shape, scale=0.6).astype(np.float32) for k, shape in shapes.items()}


def tiny_minilm(folder: Path) -> dict[str, Array]:
    """Write the model into a folder; its weights, in float64."""
    import tokenizers
    from safetensors.numpy import save_file

    config = {"model_type": "bert", "hidden_act": "gelu", "num_hidden_layers": 2}
    config |= {"num_attention_heads": HEADS, "layer_norm_eps": 1e-6}
    (folder / "config.json").write_text(json.dumps(config))
    weights = minilm_weights(np.random.default_rng(11))
    save_file(weights, folder / "model.safetensors")
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[UNK]"])
    # As in the real file: both must be switched off again.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    return {name: array.astype(np.float64) for name, array in weights.items()}


def minilm_loops(w: dict[str, Array], tokens: Array) -> Iterator[list[Array]]:
    """query, key, value (n, heads, d) of each layer, for one window."""

    def norm(name: str, row: Array) -> Array:
        unit = (row - row.mean()) / math.sqrt(row.var() + 1e-6)
        out: Array = unit * w[f"{name}.weight"] + w[f"{name}.bias"]
        return out

    def dense(name: str, row: Array) -> Array:
        out: Array = w[f"{name}.weight"] @ row + w[f"{name}.bias"]
        return out

    word, place, kind = (
        w[f"embeddings.{x}_embeddings.weight"] for x in ("word", "position", "token_type")
    )
    rows = [
        norm("embeddings.LayerNorm", word[t] + place[i] + kind[0]) for i, t in enumerate(tokens)
    ]
    for at in ("encoder.layer.0", "encoder.layer.1"):
        q, k, v = (
            np.array([dense(f"{at}.attention.self.{x}", row).reshape(HEADS, -1) for row in rows])
            for x in ("query", "key", "value")
        )
        yield [q, k, v]
        for i, row in enumerate(rows):
            heads = [loop_attention(q[i, h], k[:, h], v[:, h]) for h in range(HEADS)]
            mixed = dense(f"{at}.attention.output.dense", np.concatenate(heads))
            row = norm(f"{at}.attention.output.LayerNorm", row + mixed)
            inner = dense(f"{at}.intermediate.dense", row)
            gelu = np.array([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in inner])
            rows[i] = norm(f"{at}.output.LayerNorm", row + dense(f"{at}.output.dense", gelu))


# --- SmolLM2: width 64, 4 query heads of 16 in 2 groups, 2 layers, context 40

BASE, EPSILON, CONTEXT = 50.0, 1e-5, 40
LLAMA_SHAPES = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64)}
LLAMA_SHAPES |= {"ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96)}


def tiny_gguf(path: Path, architecture: str = "llama", gain: float = 0.15) -> dict[str, Array]:
    """Write the model; what the file holds, decoded by hand to float64."""
    import gguf
    import tokenizers

    rng = np.random.default_rng(12)
    words = [*sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), "th", "Ġth", "Ġthe", "12"]
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in (("block_count", 2), ("context_length", CONTEXT)):
        writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    # "1 2" must never be used: digits are taken one by one.
    writer.add_token_merges(["t h", "Ġ th", "Ġth e", "1 2"])
    kinds = gguf.GGMLQuantizationType
    shapes = {"token_embd": (len(words), 64)}
    shapes |= {f"blk.{i}.{name}": shape for i in range(2) for name, shape in LLAMA_SHAPES.items()}
    held: dict[str, Array] = {}
    for name, shape in shapes.items():
        # An offset, so that the minimum of each 4-bit block matters.
        matrix = rng.normal(size=shape, scale=gain, loc=gain / 10).astype(np.float32)
        kind = kinds.Q8_0 if name == "token_embd" else kinds.Q4_1
        coded = gguf.quantize(matrix, kind)
        writer.add_tensor(f"{name}.weight", coded, raw_dtype=kind)
        held[name] = (decode_q8_0 if kind is kinds.Q8_0 else decode_q4_1)(coded, shape)
    for name in ("output_norm", *(f"blk.{i}.{x}_norm" for i in range(2) for x in ("attn", "ffn"))):
        held[name] = rng.uniform(0.5, 1.5, size=64).astype(np.float32)
        writer.add_tensor(f"{name}.weight", held[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {name: array.astype(np.float64) for name, array in held.items()}


def decode_q4_1(coded: Array, shape: tuple[int, ...]) -> Array:
    """Blocks of 32: step and minimum (float16), then 16 bytes whose low halves come first."""
    out = []
    for block in coded.reshape(-1, 20):
        step, least = block[:4].view(np.float16).astype(np.float64)
        digits = [byte & 15 for byte in block[4:]] + [byte >> 4 for byte in block[4:]]
        out += [step * int(digit) + least for digit in digits]
    return np.array(out).reshape(shape)


def decode_q8_0(coded: Array, shape: tuple[int, ...]) -> Array:
    """Blocks of 32: a step (float16), then 32 signed bytes."""
    blocks = coded.reshape(-1, 34)
    steps = [float(block[:2].view(np.float16)[0]) for block in blocks]
    rows = [s * b[2:].view(np.int8).astype(np.float64) for s, b in zip(steps, blocks, strict=True)]
    return np.array(rows).reshape(shape)


def turned(row: Array, place: int) -> Array:
    """The rotary embedding as it is meant: pairs are complex numbers, each turned by its angle."""
    out = np.empty_like(row)
    for i in range(0, len(row), 2):
        angle = place * BASE ** (-i / len(row))
        number = complex(row[i], row[i + 1]) * cmath.exp(1j * angle)
        out[i], out[i + 1] = number.real, number.imag
    return out


def smollm2_loops(w: dict[str, Array], tokens: Array) -> tuple[list[list[Array]], float]:
    """query, key, value (n, heads, 16) of each layer, and the mean negative log-likelihood."""

    def norm(name: str, row: Array) -> Array:
        return row / math.sqrt(np.mean(row * row) + EPSILON) * w[name]

    rows = [w["token_embd"][token] for token in tokens]
    layers = []
    for at in ("blk.0", "blk.1"):
        inputs = [norm(f"{at}.attn_norm", row) for row in rows]
        q, k, v = (
            np.array([(w[f"{at}.attn_{x}"] @ row).reshape(-1, 16) for row in inputs]) for x in "qkv"
        )
        q, k = (np.array([[turned(h, i) for h in row] for i, row in enumerate(a)]) for a in (q, k))
        layers.append([q, k, v])
        for i, row in enumerate(rows):
            seen = slice(i + 1)
            heads = [loop_attention(q[i, h], k[seen, h // 2], v[seen, h // 2]) for h in range(4)]
            row = row + w[f"{at}.attn_output"] @ np.concatenate(heads)
            x = norm(f"{at}.ffn_norm", row)
            gate = np.array([g / (1 + math.exp(-g)) for g in w[f"{at}.ffn_gate"] @ x])
            rows[i] = row + w[f"{at}.ffn_down"] @ (gate * (w[f"{at}.ffn_up"] @ x))
    costs = []
    for row, following in zip(rows[:-1], tokens[1:], strict=True):
        logits = w["token_embd"] @ norm("output_norm", row)
        costs.append(math.log(sum(math.exp(x) for x in logits)) - logits[following])
    return layers, sum(costs) / len(costs)
