"""The commands: what they print, write, refuse, and with which exit code."""

from __future__ import annotations

import builtins
import dataclasses
import json
import math
import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import attngrad, fails, fails_in_one_line, succeeds
from npz_files import good

import attngrad_rs as ag
from attngrad_rs import cli
from attngrad_rs.cli import commands, doctor, exit_codes, terminal
from attngrad_rs.experiments import demo
from attngrad_rs.experiments.rows import real
from attngrad_rs.heads import load_heads

# Where the near-linear method begins to pay; the command's own 32768 only take longer.
TOKENS = 12288
PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
PNG_START = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gradient",), "Missing argument"),
        (("gradient", "p.npz"), "Missing option '--out'"),
        (("gradient", "p.npz", "-o", "o.npz", "--scale", "big"), "Invalid value for '--scale'"),
        (("gradient", "p.npz", "-o", "o.npz", "--tol", "1"), "No such option"),
        (("sing",), "No such command 'sing'"),
        (("doctor", "--threads", "two"), "Invalid value for '--threads'"),
    ],
)
def test_usage_errors(arguments: tuple[str, ...], words: str) -> None:
    assert words in fails(*arguments)


# -- demo -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report() -> demo.Demo:
    return demo.run("float64", None, lambda done: None, load_heads(), tokens=TOKENS, repeats=1)


def test_the_demo_is_right(report: demo.Demo) -> None:
    assert [row["head"] for row in report.heads] == [
        f"{head.model} {head.name}" for head in load_heads()
    ]
    for row in report.heads:
        assert 0.0 <= real(row, "error") <= real(row, "certificate") <= 1e-9, row
        assert real(row, "n") >= 1024
        assert real(row, "seconds") > 0.0
        assert math.isfinite(real(row, "loss"))
        rate = real(row, "gflops") / report.gemm_gflops
        assert row["share_of_peak"] == pytest.approx(rate)
        assert row["loosest_plan"] in ("exact", "polynomial")
        # Dense formulas of the same precision are right, too.
        assert 0.0 < real(row, "numpy_error") <= 1e-9
        ratio = real(row, "numpy_seconds") / real(row, "seconds")
        assert row["times_numpy"] == pytest.approx(ratio)
        assert (row["times_torch"] is not None) == report.torch
    own = [near for near in report.near_linear if near["method"] != "torch"]
    assert report.torch or len(own) == len(report.near_linear)
    for near in own:
        assert 0.0 <= real(near, "error") <= real(near, "certificate"), near
    methods = {near["call"]: near["method"] for near in own}
    assert methods["exact"] == "exact"
    assert methods["rtol 1e-2"] == methods["degree 3"] == "polynomial"


def test_the_table_and_the_figure(
    tmp_path: Path, report: demo.Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "run", lambda *_: report)
    for ending, start in (("png", PNG_START), ("svg", b"<?xml")):
        out = tmp_path / f"figure.{ending}"
        text = succeeds("demo", "--out", out)
        assert out.read_bytes().startswith(start)
        assert f"figure: {out}" in text
        for row in report.heads:
            assert str(row["head"]) in text
            assert f"{row['certificate']:.1e}" in text
        for near in report.near_linear:
            assert str(near["call"]) in text
        assert "GF/s" in text
        assert report.cpu in text
    figure = (tmp_path / "figure.svg").read_bytes()
    words = ["time against error", "attngrad, exact, minilm", "dense NumPy, smollm2", "rtol 1e-2"]
    for label in [*words, *(["torch flash, minilm"] if report.torch else [])]:
        assert label in figure.decode(), label
    succeeds("demo", "--out", tmp_path / "figure.svg", "--force")
    assert len((tmp_path / "figure.svg").read_bytes()) == pytest.approx(len(figure), rel=0.01)


@pytest.mark.parametrize("torch", [False, True])
def test_the_demo_fits_a_terminal_and_explains_itself(
    torch: bool, report: demo.Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = [{**row, "times_torch": 123.4 if torch else None} for row in report.heads]
    shown = dataclasses.replace(report, torch=torch, heads=heads)
    monkeypatch.setattr(demo, "run", lambda *_: shown)
    text = succeeds("demo")
    assert max(map(len, text.splitlines())) <= 80
    columns = ["head", "spread", "ms", "x NumPy", "error", "bound", "asked for", "did", "x exact"]
    for name in [*columns, "kind", *(["x torch"] if torch else [])]:
        # In the head of a table, and with a word on what it is.
        assert text.count(name) >= 2, name
    assert ("pip install torch" in text) != torch
    (last,) = re.findall(r"(?s)Shown: .*", text)
    assert " ".join(last.split()) == report.shown
    assert report.shown.endswith(".")
    assert not re.search(r"\b(nan|inf|None|True|False)\b", text)


def test_a_peer_that_takes_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def slow(data: Any, *_: Any, **__: Any) -> Any:
        asked.append(len(data.query))
        return lambda: np.eye(demo.WIDTH)

    monkeypatch.setattr(demo, "torch_is_there", lambda: True)
    monkeypatch.setattr(demo, "torch_gradient", slow)
    for seconds, there in ((demo.PATIENCE_SECONDS, False), (1e-4, True)):
        monkeypatch.setattr(demo, "paused_seconds", lambda run, s=seconds: (run(), s)[1])
        asked.clear()
        rows = demo.small_entries("float32", None, 512, 1)
        assert (rows[-1]["method"] == "torch") is there
        assert asked == [512 // demo.SHORTER, 512][: 1 + there]


def test_the_demo_in_json(report: demo.Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "run", lambda *_: report)
    read = json.loads(succeeds("demo", "--json"))
    assert read == terminal._plain(json.loads(json.dumps(vars(report))))
    assert read["heads"][0]["head"] == report.heads[0]["head"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--out", "figure.pdf"), "--out: found 'figure.pdf'"),
        (("--out", "/nowhere/figure.png"), "found no folder"),
        (("--dtype", "float16"), "--dtype: found 'float16'"),
        (("--threads", "-3"), "threads: found -3"),
    ],
)
def test_the_demo_refuses(
    options: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attngrad_rs.experiments.machine.gemm_peak", lambda *_: 1.0)
    assert words in fails_in_one_line("demo", *options)


def test_a_head_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attngrad_rs._inputs.memory.available_bytes", lambda: 2**20)
    monkeypatch.setattr("attngrad_rs._inputs.memory._last", (-math.inf, 0))
    assert "minilm 0_0: found shapes that need" in fails_in_one_line("demo")


# -- doctor, heads, and the door ------------------------------------------------------------------


def test_doctor() -> None:
    text = succeeds("doctor")
    for words in ("healthy          True", "check float32    passed", "check float64    passed"):
        assert words in text
    found = json.loads(succeeds("doctor", "--json"))
    assert found["healthy"] is True
    assert found["attngrad_rs"] == ag.__version__
    assert found["level"] in found["levels"]
    assert found["threads"] >= 1
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    for extra in ("cli", "models", "test"):
        wanted = {re.split("[>=<; ]", one)[0] for one in extras[extra]} - {"attngrad-rs[cli]"}
        assert set(found["extras"][extra]) == wanted, "install it anew: its metadata are older"
    assert found["extras"]["cli"]["typer"] == metadata.version("typer")


def test_doctor_finds_a_wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_args: object, wrt: str = "X", **_options: object) -> float:
        return 1.0

    monkeypatch.setattr(doctor.reference, "loss_gradient", wrong)
    result = attngrad("doctor")
    assert result.exit_code == exit_codes.EXIT_DEFECT
    assert "check float64    FAILED" in result.stdout


def test_heads_refuses(tmp_path: Path) -> None:
    out, text = tmp_path / "heads.npz", tmp_path / "text.txt"
    text.write_bytes(b"\xff\xfe")
    assert "model: found 'gpt'" in fails_in_one_line("heads", "gpt", "-o", out)
    for path in (text, tmp_path / "missing.txt"):
        message = fails_in_one_line("heads", "minilm", "-o", out, "--text", path)
        assert f"--text: found {str(path)!r}" in message
    out.write_bytes(b"old")
    assert "existing" in fails_in_one_line("heads", "minilm", "-o", out)
    assert out.read_bytes() == b"old"


def test_version_and_help() -> None:
    assert succeeds("--version") == f"attngrad {ag.__version__}\n"
    for command in ("gradient", "demo", "doctor", "heads"):
        assert command in succeeds("--help")
        assert "--help" in succeeds(command, "--help")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), exit_codes.EXIT_INTERRUPTED, "interrupted"),
        (ag.InternalError("core: found a defect"), exit_codes.EXIT_DEFECT, "core: found a defect"),
        (
            ag.OutOfMemoryError("loss: found\ntoo much"),
            exit_codes.EXIT_BAD_INPUT,
            "loss: found too much",
        ),
        (ag.DeadlineError("timeout: found 1"), exit_codes.EXIT_BAD_INPUT, "timeout: found 1"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(**_arguments: object) -> None:
        raise error

    monkeypatch.setattr(commands, "loss_gradient", stop)
    out = tmp_path / "out.npz"
    result = attngrad("gradient", good(tmp_path / "p.npz"), "-o", out)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not out.exists()


def test_json_has_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_json({"a": math.inf, "b": [math.nan, (1.0, "x")]})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, [1.0, "x"]]}


@pytest.mark.parametrize("missing", cli.EXTRA)
def test_without_the_extra(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "commands":
            raise ModuleNotFoundError(f"No module named {missing!r}", name=f"{missing}.console")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert cli.main() == exit_codes.EXIT_BAD_INPUT
    message = capsys.readouterr().err
    assert message == (
        f"attngrad: found no package {missing!r}; the commands need the extra cli: "
        "pip install '.[cli]' in the folder of its source\n"
    )


def test_without_matplotlib(
    tmp_path: Path, report: demo.Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "run", lambda *_: report)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    out = tmp_path / "figure.png"
    message = fails_in_one_line("demo", "--out", out)
    assert "pip install '.[cli]'" in message
    assert list(tmp_path.iterdir()) == []
