"""``attngrad gradient``: what it reads, computes, writes and says, and what it refuses."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import attngrad, fails_in_one_line, succeeds
from npz_files import arrays, good

import attngrad_rs as ag
from attngrad_rs._inputs.files import write_arrays
from attngrad_rs.cli import commands
from attngrad_rs.cli.problem_file import read_problem
from attngrad_rs.experiments import demo
from attngrad_rs.heads import load_heads
from attngrad_rs.heads.models.make import pack

ENDINGS = (".npz", ".safetensors")
# What the file says of each output besides its numbers.
DESCRIBED = (
    "absolute_error", "relative_error", "norm", "method", "degree", "kind", "confidence", "success",
)  # fmt: skip
# The library's way to name an option, and words that no command takes.
PYTHON = re.compile(r"(?<!-)\b(rtol|atol|degree|threads|timeout|certificate|scale)\b(?=[:=]| [<>])|"
                    r"\b[a-z_]+=|\bNone\b|\bTrue\b")  # fmt: skip


def read_file(path: Path) -> dict[str, Any]:
    """What NumPy makes of it without unpickling anything."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_gradient_writes_what_the_library_computes(tmp_path: Path) -> None:
    given, out = good(tmp_path / "p.npz", scale=np.array(0.3)), tmp_path / "out.npz"
    text = succeeds("gradient", given, "-o", out, "--wrt", "X", "--wrt", "A2")
    result = ag.loss_gradient(**arrays(), wrt=("X", "A2"), scale=0.3)
    read = read_file(out)
    outputs = ("loss", "dX", "dA2")
    assert set(read) == {*outputs, *(f"{one}_{word}" for one in outputs for word in DESCRIBED)}
    assert float(read["loss"]) == result.loss
    for name, gradient in result.gradients.items():
        assert np.array_equal(read[f"d{name}"], gradient)
        certificate = result.certificates[name]
        assert float(read[f"d{name}_absolute_error"]) == certificate.absolute
        assert float(read[f"d{name}_relative_error"]) == certificate.relative
    assert f"loss {result.loss:.10g}" in text
    assert "dX" in text
    assert "dA2" in text


def test_gradient_of_a_pair_is_by_the_pair(tmp_path: Path) -> None:
    given = arrays()
    w_q, w_k = given.pop("X"), np.eye(4)
    path, out = tmp_path / "p.npz", tmp_path / "out.npz"
    np.savez(path, **given, W_Q=w_q, W_K=w_k, is_causal=np.array(True))
    succeeds("gradient", path, "-o", out)
    result = ag.loss_gradient(**given, X=(w_q, w_k), wrt=("W_Q", "W_K"), is_causal=True)
    read = read_file(out)
    for name, gradient in result.gradients.items():
        assert np.array_equal(read[f"d{name}"], gradient)


def test_equal_inputs_are_self_attention(tmp_path: Path) -> None:
    A = arrays()["A2"]
    path, out = tmp_path / "p.npz", tmp_path / "out.npz"
    np.savez(path, A1=A, A2=A, A3=A, X=np.eye(4), Y=np.eye(4), E=A)
    succeeds("gradient", path, "-o", out, "--wrt", "A")
    result = ag.loss_gradient(A, A, A, np.eye(4), np.eye(4), A, wrt="A")
    assert np.array_equal(read_file(out)["dA"], result.gradient)


def test_options_of_the_command_come_before_those_of_the_file(tmp_path: Path) -> None:
    given = good(tmp_path / "p.npz", scale=np.array(0.3), is_causal=np.array(False))
    out = tmp_path / "out.npz"
    succeeds("gradient", given, "-o", out, "--scale", "0.7", "--causal", "--rtol", "1e-6")
    result = ag.loss_gradient(**arrays(), scale=0.7, is_causal=True)
    assert np.array_equal(read_file(out)["dX"], result.gradient)


def test_gradient_in_json(tmp_path: Path) -> None:
    given, out = good(tmp_path / "p.npz"), tmp_path / "out.npz"
    report = json.loads(succeeds("gradient", given, "-o", out, "--json"))
    result = ag.loss_gradient(**arrays())
    assert report["loss"] == result.loss
    assert report["out"] == str(out)
    assert report["gradients"]["X"]["shape"] == [3, 4]
    assert report["gradients"]["X"]["relative"] == result.certificate.relative


def test_gradient_does_not_overwrite(tmp_path: Path) -> None:
    given, out = good(tmp_path / "p.npz"), tmp_path / "out.npz"
    out.write_bytes(b"old")
    assert "found an existing file" in fails_in_one_line("gradient", given, "-o", out)
    assert out.read_bytes() == b"old"
    succeeds("gradient", given, "-o", out, "--force")
    assert "dX" in read_file(out)


# -- what is said of each output ------------------------------------------------------------------

ROWS, WIDTH = 1500, 4
POLYNOMIAL = ("--method", "polynomial", "--degree", "2")
# Options, and the same for the library.
CALLS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "exact": ((), {}),
    "tolerance": (("--rtol", "1e-3", "--atol", "1e-6", "--norm", "max"),
                  {"rtol": 1e-3, "atol": 1e-6, "norm": "max"}),
    "rigorous": (POLYNOMIAL, {"method": "polynomial", "degree": 2}),
    "estimated": ((*POLYNOMIAL, "--certificate", "estimated", "--seed", "7"),
                  {"method": "polynomial", "degree": 2, "certificate": "estimated", "rng": 7}),
    "statistical": ((*POLYNOMIAL, "--certificate", "statistical", "--seed", "8"),
                    {"method": "polynomial", "degree": 2, "certificate": "statistical", "rng": 8}),
}  # fmt: skip


@pytest.fixture(scope="module")
def small_entries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A problem that polynomials are good for."""
    rng = np.random.default_rng(0)
    given = {name: 0.5 * rng.uniform(-1.0, 1.0, (ROWS, WIDTH)) for name in ("A1", "A2", "A3")}
    given |= {"X": np.eye(WIDTH), "Y": np.eye(WIDTH), "E": rng.standard_normal((ROWS, WIDTH))}
    path = tmp_path_factory.mktemp("problem") / "p.npz"
    np.savez(path, **given)
    return path, given


@pytest.mark.parametrize("name", CALLS)
def test_every_output_says_what_it_is(
    name: str, small_entries: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Table, JSON and file: method, degree, kind, confidence and success of each output."""
    path, given = small_entries
    options, same = CALLS[name]
    out, again = tmp_path / "out.npz", tmp_path / "again.npz"
    want = ag.loss_gradient(**given, **same)
    made = want.certificate
    polynomial = made.method == "polynomial"
    assert polynomial is (name in ("rigorous", "estimated", "statistical"))
    assert made.kind == (name if polynomial else "exact")
    found = json.loads(succeeds("gradient", path, "-o", out, *options, "--json"))
    entry = found["gradients"]["X"]
    assert entry["degree"] == (2 if polynomial else None)
    for key in ("method", "kind", "confidence", "norm", "absolute", "success", "message"):
        assert entry[key] == getattr(made, key), key
        assert found["loss_certificate"][key] == getattr(want.loss_certificate, key), key
    assert found["reason"] == want.plan.reason
    read = read_file(out)
    assert np.array_equal(read["dX"], want.gradient)
    for output, one in (("dX", made), ("loss", want.loss_certificate)):
        assert str(read[f"{output}_method"]) == one.method
        assert str(read[f"{output}_kind"]) == one.kind
        assert str(read[f"{output}_norm"]) == one.norm
        assert float(read[f"{output}_absolute_error"]) == one.absolute
        assert int(read[f"{output}_degree"]) == (2 if one.method == "polynomial" else -1)
        confidence = float(read[f"{output}_confidence"])
        assert confidence == one.confidence or (np.isnan(confidence) and one.confidence is None)
        words = {True: "reached", False: "not reached", None: "not asked for"}[one.success]
        assert str(read[f"{output}_success"]) == words
    text = succeeds("gradient", path, "-o", again, *options)
    (row,) = (line for line in text.splitlines() if "dX" in line)
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells[:3] == [
        "dX",
        "polynomial, degree 2" if polynomial else "exact",
        "statistical, 99 %" if name == "statistical" else made.kind,
    ]
    assert cells[-1] == {True: "reached", None: "not asked for"}[made.success]
    # Nothing approximate stands under "exact": neither a title nor a row has the word.
    lines = text.splitlines()
    title = next(at for at, line in enumerate(lines) if "outputs and their errors" in line)
    table = "\n".join(lines[title:])
    assert ("exact" in table) is not polynomial, table


def test_the_seed_is_the_one_given(
    small_entries: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, _ = small_entries
    sampled = (*POLYNOMIAL, "--certificate", "estimated")
    made = []
    for number, seed in enumerate(("1", "1", "2")):
        out = tmp_path / f"{number}.npz"
        succeeds("gradient", path, "-o", out, *sampled, "--seed", seed)
        made.append(float(read_file(out)["dX_absolute_error"]))
    assert made[0] == made[1] != made[2]


# -- files of heads, and half precision -----------------------------------------------------------


def heads_file(path: Path, names: tuple[str, ...], dtype: Any = np.float16) -> Path:
    rng = np.random.default_rng(1)
    drawn = [rng.standard_normal((3, 12, 4)).astype(dtype) for _ in names]
    triples = [tuple(triple) for triple in drawn]
    with path.open("wb") as file:
        write_arrays(file, path, pack("minilm", names, triples, np.arange(12), "random"))
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_heads_are_problems(tmp_path: Path, ending: str) -> None:
    path, out = heads_file(tmp_path / f"h{ending}", ("0_3",)), tmp_path / "out.npz"
    succeeds("gradient", path, "-o", out)
    (head,) = load_heads(path)
    want = ag.loss_gradient(**head.problem(np.float32))
    assert np.array_equal(read_file(out)["dX"], want.gradient)
    assert "plan" in succeeds("explain", path, "--rtol", "1e-2")


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_demo_takes_heads(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "small_entries", lambda *_: [])
    path = heads_file(tmp_path / f"h{ending}", ("0_3", "2_6"))
    found = json.loads(succeeds("demo", path, "--json"))
    assert [row["head"] for row in found["heads"]] == [
        f"minilm {one.name}" for one in load_heads(path)
    ]
    for row in found["heads"]:
        assert 0.0 <= row["error"] <= row["certificate"] <= 1e-3
    problem = good(tmp_path / f"p{ending}")
    assert "found no file of heads of format 1" in fails_in_one_line("demo", problem)


def test_both_kinds_of_file_are_one_problem(tmp_path: Path) -> None:
    extra = {"scale": np.array(0.25), "is_causal": np.array(True)}
    read = [read_problem(str(good(tmp_path / f"p{ending}", **extra))) for ending in ENDINGS]
    assert read[0].keys() == read[1].keys()
    for name, value in read[0].items():
        assert np.array_equal(value, read[1][name]), name
    assert read[1]["scale"] == 0.25
    assert read[1]["is_causal"] is True


def test_one_of_several_heads_is_named(tmp_path: Path) -> None:
    path, out = heads_file(tmp_path / "h.npz", ("0_3", "2_6")), tmp_path / "out.npz"
    succeeds("gradient", path, "-o", out, "--head", "2_6")
    want = ag.loss_gradient(**load_heads(path)[1].problem(np.float32))
    assert np.array_equal(read_file(out)["dX"], want.gradient)
    assert "plan" in succeeds("explain", path, "--head", "minilm_0_3")
    for options, words in (((), "found nothing"), (("--head", "7_7"), "found '7_7'")):
        message = fails_in_one_line("gradient", path, "-o", tmp_path / "no.npz", *options)
        assert f"--head: {words}" in message
        assert "expected one of minilm_0_3, minilm_2_6" in message
    problem = good(tmp_path / "p.npz")
    message = fails_in_one_line("gradient", problem, "-o", tmp_path / "no.npz", "--head", "2_6")
    assert "only files of heads have it" in message


@pytest.mark.parametrize("target", [np.float16, np.float32, np.float64])
def test_half_precision_is_read_as_what_holds_it(target: Any, tmp_path: Path) -> None:
    given = arrays(np.float16, E=arrays(np.float16)["E"].astype(target))
    path, out = tmp_path / "p.npz", tmp_path / "out.npz"
    np.savez(path, **given)
    succeeds("gradient", path, "-o", out)
    dtype = np.float64 if target == np.float64 else np.float32
    want = ag.loss_gradient(**{name: array.astype(dtype) for name, array in given.items()})
    assert read_file(out)["dX"].dtype == dtype
    assert np.array_equal(read_file(out)["dX"], want.gradient)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--wrt", "Z"), "--wrt: found 'Z'"),
        (("--wrt", "W_Q"), "--wrt: found 'W_Q'; expected X where X is one matrix"),
        (("--wrt", "A"), "--wrt: found 'A' where A1, A2 and A3 are not equal; make them so"),
        (("--scale", "nan"), "--scale: found nan"),
        (
            ("--rtol", "-1"),
            "--rtol: found -1.0; expected a finite number >= 0, or nothing",
        ),
        (("--rtol", "1e-40"), "--rtol: found 1e-40"),
        (("--atol", "-1"), "--atol: found -1.0"),
        (("--norm", "l2"), "--norm: found 'l2'"),
        (("--method", "magic"), "--method: found 'magic'"),
        (("--certificate", "sure"), "--certificate: found 'sure'"),
        (("--seed", "-1"), "--seed: found -1"),
        (("--method", "polynomial"), "a degree, or --rtol > 0 or --atol > 0 to choose it by"),
        (("--degree", "2"), "it belongs to --method polynomial"),
        (
            ("--method", "polynomial", "--degree", "99"),
            "--degree: found 99; expected an integer",
        ),
        (
            ("--threads", "0"),
            "--threads: found 0; expected an integer from 1 to 1024, or nothing",
        ),
        (("--timeout", "-1"), "--timeout: found -1.0"),
        ((*POLYNOMIAL, "--rtol", "1e-14"), "--rtol: found 1e-14"),
    ],
)
def test_gradient_refuses(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    """In the words of the command line."""
    given, out = good(tmp_path / "p.npz"), tmp_path / "out.npz"
    message = fails_in_one_line("gradient", given, "-o", out, *options)
    assert words in message
    assert not PYTHON.search(message), message
    assert not out.exists()


def test_a_warning_is_one_line_in_the_words_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = commands.loss_gradient

    def warned(**arguments: Any) -> Any:
        warnings.warn("rtol: found 1e-9, which is not reached; use method='auto'", stacklevel=2)
        return compute(**arguments)

    monkeypatch.setattr(commands, "loss_gradient", warned)
    out = tmp_path / "out.npz"
    done = attngrad("gradient", good(tmp_path / "p.npz"), "-o", out, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["out"] == str(out)
    assert done.stderr == (
        "attngrad: --rtol: found 1e-9, which is not reached; use --method auto\n"
    )


def test_an_output_that_is_there_is_refused_in_the_words_of_the_command(tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    out.write_bytes(b"old")
    message = fails_in_one_line("gradient", good(tmp_path / "p.npz"), "-o", out)
    assert message.endswith("choose another name, or pass --force\n")
