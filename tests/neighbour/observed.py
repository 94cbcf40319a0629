"""In a fresh process: what an import of the library changes, then what calls of it change."""

from __future__ import annotations

import contextlib
import gc
import json
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from mxcsr import control_word
from threadpoolctl import threadpool_info

LOOKS = 20
LOOK_SECONDS = 0.005
SIGNAL_LINES = ("SigBlk", "SigIgn", "SigCgt")


def state() -> dict[str, Any]:
    """Everything of a process that a guest must leave alone."""
    status = Path("/proc/self/status").read_text().splitlines()
    return {
        "mxcsr": control_word(),
        "mxcsr of a thread": in_a_thread(control_word),
        "smallest subnormal": float(np.finfo(float).smallest_subnormal),
        "halves": [0.5 * float(np.finfo(t).tiny) > 0 for t in (np.float32, np.float64)],
        "handlers": [repr(signal.getsignal(number)) for number in signal.valid_signals()],
        "signals of the system": [line for line in status if line.startswith(SIGNAL_LINES)],
        "blas": sorted((lib["filepath"], lib["num_threads"]) for lib in threadpool_info()),
        "warnings": [repr(entry) for entry in warnings.filters],
        "errors of numpy": repr(np.geterr()),
        "hooks": [repr(hook) for hook in (sys.excepthook, threading.excepthook, gc.callbacks)],
        "switch interval": sys.getswitchinterval(),
        "recursion limit": sys.getrecursionlimit(),
    }


def in_a_thread(work: Any) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def os_threads() -> int:
    """The fewest of several looks: a joined thread may be a moment in leaving the system's list."""
    counts = []
    for _ in range(LOOKS):
        counts.append(len(list(Path("/proc/self/task").iterdir())))
        time.sleep(LOOK_SECONDS)
    return min(counts)


def main() -> None:
    np.ones((64, 64)) @ np.ones((64, 64))  # starts what NumPy starts
    before, threads, modules = state(), os_threads(), set(sys.modules)
    start = time.perf_counter()
    import attngrad_rs

    seconds = time.perf_counter() - start
    after, new_threads = state(), os_threads() - threads
    new_modules = sorted({name.partition(".")[0] for name in sys.modules.keys() - modules})
    from determinism.workload import public_calls

    for call in public_calls().values():
        call()
    with contextlib.suppress(attngrad_rs.NonFiniteError):
        attngrad_rs.loss(*[np.full((2, 2), np.nan)] * 6)
    json.dump(
        {
            "before": before,
            "import": after,
            "calls": state(),
            "threads": new_threads,
            "modules": [name for name in new_modules if name not in sys.stdlib_module_names],
            "seconds": seconds,
        },
        sys.stdout,
    )


main()
