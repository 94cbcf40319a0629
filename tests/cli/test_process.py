"""The command as a process of its own: the entry point, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from npz_files import good

import attngrad_rs as ag

SECONDS = 60
# A problem that takes minutes, and the time that the command is given to be in the middle of it.
LARGE = 300_000
WORK_SECONDS = 0.5
# The command, which says when it begins to compute. A shell's background job ignores SIGINT, its
# children inherit that, and Python leaves it.
ANNOUNCED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from attngrad_rs import cli
from attngrad_rs.cli import commands
compute = commands.loss_gradient
def announced(**arguments):
    print("started", flush=True)
    return compute(**arguments)
commands.loss_gradient = announced
sys.exit(cli.main())
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attngrad_rs", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_the_module_is_the_command(tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    done = run("gradient", good(tmp_path / "p.npz"), "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["out"] == str(out)
    assert out.exists()
    done = run("gradient", tmp_path / "missing.npz", "-o", tmp_path / "other.npz")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"attngrad: {tmp_path / 'missing.npz'}: found no such file; check the path\n"
    )


def test_the_entry_point_is_installed() -> None:
    command = Path(sys.executable).with_name("attngrad")
    if not command.exists():
        pytest.skip("the package is not installed in this environment")
    done = subprocess.run(
        [command, "--version"], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert done.stdout == f"attngrad {ag.__version__}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c(tmp_path: Path) -> None:
    path, out = tmp_path / "p.npz", tmp_path / "out.npz"
    rng = np.random.default_rng(0)
    A = rng.standard_normal((LARGE, 16)).astype(np.float32)
    square = np.eye(16, dtype=np.float32)
    np.savez(path, A1=A, A2=A, A3=A, X=square, Y=square, E=A)
    command = [sys.executable, "-c", ANNOUNCED, "gradient", str(path), "-o", str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        time.sleep(WORK_SECONDS)
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        _, message = child.communicate(timeout=SECONDS)
    assert child.returncode == 130, message
    assert message == "attngrad: interrupted; nothing was written\n"
    assert sorted(tmp_path.iterdir()) == [path]
