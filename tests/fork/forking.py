"""Work in a forked child, with an answer within a time or none at all."""

from __future__ import annotations

import os
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# A child that needs longer hangs; the calls take milliseconds.
SECONDS = 10.0
ENDED_WELL = 0


@contextmanager
def fork_allowed() -> Iterator[None]:
    """Python 3.12 and later warn of every fork of a process with threads: what is tested here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        yield


def fork() -> int:
    with fork_allowed():
        return os.fork()


def in_child(work: Callable[[], str], seconds: float = SECONDS) -> str:
    """What `work` returns in a forked child; AssertionError if it hangs, raises or is killed."""
    reader, writer = os.pipe()
    process = fork()
    if process == 0:
        _answer(work, writer)
    os.close(writer)
    try:
        text = _read(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        status = _end(process)
    assert text is not None, f"the child hangs: no answer in {seconds} s"
    assert status == ENDED_WELL, f"the child ended with {status}: {text}"
    return text


def _answer(work: Callable[[], str], writer: int) -> None:
    """The child's whole life. It must not return into the test runner."""
    status = 1
    try:
        os.write(writer, work().encode())
        status = ENDED_WELL
    except BaseException:
        os.write(writer, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _read(reader: int, deadline: float) -> str | None:
    """Everything up to the end of the pipe; None if that does not come in time."""
    parts = []
    while (left := deadline - time.monotonic()) > 0.0:
        if not select.select([reader], [], [], left)[0]:
            break
        part = os.read(reader, 65536)
        if not part:
            return b"".join(parts).decode()
        parts.append(part)
    return None


def _end(process: int) -> int:
    """The child's exit status, negative for a signal. One that does not end by itself is killed."""
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
