"""A run for the tests: from the files of a folder, with a checkpoint; told to die by a signal."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from attngrad_rs import out_of_core
from determinism.workload import digest

ROWS = 50
WRT = ("X", "Y", "A1", "A2")


def main(folder: Path, shards_to_live: int) -> None:
    """Kill this process after so many shards; with a negative number, finish."""
    names = ("A1", "A2", "A3", "E")
    inputs = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    left = shards_to_live

    def progress(_: float) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    result = out_of_core.loss_gradient(
        inputs["A1"], inputs["A2"], inputs["A3"], np.eye(4), np.eye(4), inputs["E"],
        degree=2, wrt=WRT, rows=ROWS, checkpoint=folder / "checkpoint", checkpoint_seconds=0.0,
        out={name: folder / f"d{name}.npy" for name in ("A1", "A2")}, progress=progress,
    )  # fmt: skip
    print(json.dumps(digest(result)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
