"""A process that is interrupted: prints a line when it computes, and one with what it saw.

Every line is JSON. The clock is the system's monotonic one, which the parent reads too.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import attngrad_rs as ag
from determinism.workload import ALL, digest, heads, problem

N, WIDTH = 65_536, 16


def say(**words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def main(name: str, trials: int) -> None:
    """Be interrupted `trials` times in the call `name`, and compute something after each."""
    args = problem(N, N, WIDTH, "float32")
    given = tuple(array[:1] for array in heads(N, N, WIDTH, "float32"))
    calls: dict[str, Callable[[], Any]] = {
        "loss": lambda: ag.loss(*args),
        "loss_gradient": lambda: ag.loss_gradient(*args),
        "all": lambda: ag.loss_gradient(*args, wrt=ALL),
        "attention": lambda: ag.attention(*given[:3]),
        "attention_vjp": lambda: ag.attention_vjp(*given),
        "attention_hvp": lambda: ag.attention_hvp(*given, *given[:3]),
    }
    small = problem(600, 300, 4)
    want = digest(ag.loss_gradient(*small, wrt=ALL))
    for _ in range(trials):
        say(ready=True)
        try:
            calls[name]()
            raised = "nothing"
        except BaseException as error:
            raised = type(error).__name__
        at, cpu = time.monotonic(), time.process_time()
        # Work that went on behind the caller's back would show as processor time.
        time.sleep(0.05)
        idle = time.process_time() - cpu
        same = digest(ag.loss_gradient(*small, wrt=ALL)) == want
        say(raised=raised, at=at, idle=idle, same=same)


if __name__ == "__main__":
    # A shell's background job ignores SIGINT, its children inherit that, and Python leaves it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(sys.argv[1], int(sys.argv[2]))
