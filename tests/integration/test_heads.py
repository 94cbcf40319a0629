"""Files of heads: the bundled one against its PROVENANCE.md, and what a damaged one says."""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attngrad_rs.errors import DTypeError, ProblemFileError
from attngrad_rs.heads import Head, load_heads

# PROVENANCE.md prints four decimals.
PRINTED = 0.5e-4
# A second moment and a sum over n² pairs of the same float64 numbers.
ROUNDING = 1e-12
MAX_BYTES = 2_000_000
MIN_TOKENS = 1024


def bundled_files() -> tuple[bytes, str]:
    folder = resources.files("attngrad_rs") / "data"
    return (folder / "heads.npz").read_bytes(), (folder / "PROVENANCE.md").read_text("utf-8")


def test_bundled_file_is_the_one_that_provenance_describes() -> None:
    content, provenance = bundled_files()
    assert len(content) <= MAX_BYTES
    assert f"{len(content)} bytes" in provenance
    assert hashlib.sha256(content).hexdigest() in provenance


def test_bundled_spreads_are_those_in_provenance() -> None:
    _, provenance = bundled_files()
    rows = re.findall(r"^\| (\w+) \| ([\d_.]+) \| (\d+) \| (\d+) \| ([\d.]+) \|$", provenance, re.M)
    heads = load_heads()
    assert [row[:2] for row in rows] == [(head.model, head.name) for head in heads]
    for row, head in zip(rows, heads, strict=True):
        assert head.query.shape == (int(row[2]), int(row[3]))
        assert abs(head.logit_spread - float(row[4])) <= PRINTED, head.name


def test_bundled_heads_cover_what_is_promised() -> None:
    heads = load_heads()
    minilm = [head for head in heads if head.model == "minilm"]
    group = [head for head in heads if head.model == "smollm2"]
    assert len(minilm) >= 4
    assert len({round(head.logit_spread, 1) for head in minilm}) >= 4
    assert len(group) == 3
    assert all(head.key is group[0].key and head.value is group[0].value for head in group)
    assert all(head.is_causal == (head.model == "smollm2") for head in heads)
    for head in heads:
        n, d = head.query.shape
        assert n >= MIN_TOKENS
        assert head.key.shape == head.value.shape == (n, d)
        assert head.tokens.shape == (n,)
        assert head.scale == 1.0 / math.sqrt(d)
        assert head.query.dtype == head.key.dtype == head.value.dtype == np.float16
        assert "Apache-2.0" in head.source
        assert "PSF-2.0" in head.source


def test_loaded_arrays_cannot_be_changed() -> None:
    head = load_heads()[0]
    for array in (head.query, head.key, head.value, head.tokens):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def make_head(n: int = 12, d: int = 4) -> Head:
    rng = np.random.default_rng(3)
    q, k, v = (rng.normal(size=(n, d)).astype(np.float16) for _ in range(3))
    tokens = np.arange(n, dtype=np.int32)
    return Head("0_0", "minilm", q, k, v, False, 1.0 / math.sqrt(d), tokens, "random")


def test_logit_spread_is_the_deviation_of_all_centred_logits() -> None:
    head = make_head()
    query, key = head.query.astype(np.float64), head.key.astype(np.float64)
    logits = head.scale * query @ key.T
    centred = logits - logits.mean(axis=1, keepdims=True)
    assert abs(head.logit_spread / centred.std() - 1.0) <= ROUNDING


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_problem_is_the_trained_attention_with_the_next_value_as_target(dtype: Any) -> None:
    head = make_head()
    problem = head.problem(dtype)
    assert sorted(problem) == ["A1", "A2", "A3", "E", "X", "Y", "is_causal", "scale"]
    arrays = {name: problem[name] for name in ("A1", "A2", "A3", "E", "X", "Y")}
    assert all(array.dtype == dtype for array in arrays.values())
    assert np.array_equal(arrays["A1"], head.query)
    assert np.array_equal(arrays["A2"], head.key)
    assert np.array_equal(arrays["A3"], head.value)
    assert np.array_equal(arrays["X"], np.eye(4))
    assert np.array_equal(arrays["Y"], np.eye(4))
    assert np.array_equal(arrays["E"][:-1], head.value[1:])
    assert np.array_equal(arrays["E"][-1], head.value[-1])
    assert problem["scale"] == head.scale
    assert problem["is_causal"] is False


@pytest.mark.parametrize("dtype", [np.float16, np.int32, "nonsense", np.complex64])
def test_problem_refuses_other_dtypes(dtype: Any) -> None:
    with pytest.raises(DTypeError, match=r"^dtype: found .*; use numpy\.float32 or"):
        make_head().problem(dtype)


def good_arrays() -> dict[str, Any]:
    half = np.ones((5, 4), dtype=np.float16)
    return {
        "format": np.array(1),
        "minilm_tokens": np.arange(5, dtype=np.int32),
        "minilm_source": np.frombuffer("a é".encode(), dtype=np.uint8),
        "minilm_q_0_3": half,
        "minilm_k_0_3": half,
        "minilm_v_0_3": half,
    }


def test_a_file_is_read_back(tmp_path: Path) -> None:
    np.savez(tmp_path / "heads.npz", **good_arrays())
    (head,) = load_heads(tmp_path / "heads.npz")
    assert (head.name, head.model, head.source, head.is_causal) == ("0_3", "minilm", "a é", False)
    assert head.query.shape == (5, 4)


NAN = np.full((5, 4), np.nan, dtype=np.float16)
DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "format is absent": ({"format": None}, "no file of heads of format 1"),
    "format is of later": ({"format": np.array(2)}, "no file of heads of format 1"),
    "format is no number": ({"format": np.ones(2)}, "no file of heads of format 1"),
    "no head": ({"minilm_q_0_3": None}, "no head in it"),
    "no key": ({"minilm_k_0_3": None}, "without 'minilm_k_0_3'"),
    "no tokens": ({"minilm_tokens": None}, "without 'minilm_tokens'"),
    "key too short": ({"minilm_k_0_3": np.ones((4, 4), np.float16)}, "k (4, 4)"),
    "value too wide": ({"minilm_v_0_3": np.ones((5, 6), np.float16)}, "v (5, 6)"),
    "query of rank 1": ({"minilm_q_0_3": np.ones(5, np.float16)}, "q (1, 5)"),
    "group of none": ({"minilm_q_0_3": np.ones((0, 5, 4), np.float16)}, "q (0, 5, 4)"),
    "key of rank 0": ({"minilm_k_0_3": np.float16(1)}, "k ()"),
    "tokens too many": ({"minilm_tokens": np.arange(6, dtype=np.int32)}, "tokens (6,)"),
    "float64": ({"minilm_q_0_3": np.ones((5, 4))}, "other dtypes than float16 and int32"),
    "tokens of int64": ({"minilm_tokens": np.arange(5)}, "other dtypes than float16 and int32"),
    "NaN": ({"minilm_v_0_3": NAN}, "NaN or infinity"),
    "no UTF-8": ({"minilm_source": np.full(3, 255, np.uint8)}, "no text in 'minilm_source'"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_one_clear_error(case: str, tmp_path: Path) -> None:
    changes, message = DAMAGED[case]
    arrays = {k: v for k, v in (good_arrays() | changes).items() if v is not None}
    path = tmp_path / "heads.npz"
    np.savez(path, **arrays)
    with pytest.raises(ProblemFileError, match=re.escape(message)) as caught:
        load_heads(path)
    assert str(caught.value).startswith(f"{path}: found ")


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ProblemFileError, match="no such file"):
        load_heads(tmp_path / "absent.npz")


def test_loading_heads_imports_nothing_but_numpy() -> None:
    code = (
        "import sys; from attngrad_rs.heads import load_heads; load_heads(); "
        "print(*{'gguf', 'tokenizers', 'safetensors', 'torch', 'typer'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
