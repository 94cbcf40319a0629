"""Peak memory and seconds of one way to the gradient, in a process of its own.

    python -m attngrad_rs.experiments.footprint WAY N DEGREE

prints bytes above the inputs and the seconds of later calls as JSON. What was allocated before
would hide what is allocated later, so that each way needs a process that has done nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from ..features import ExpFeatures
from ..problem import loss_gradient, plan_loss_gradient
from .calls import Seconds, paused_seconds, spread_of
from .problems import Data, Matrix, make

__all__ = ["WAYS", "from_features", "main", "measured"]

WIDTH = 16
BOUND = 1.0
REPEATS = 9
# A smaller problem first: what is loaded once for all is not charged to a call.
WARM_ROWS = 300
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Resets the peak of the resident memory (proc(5)).
RESET_PEAK = "5"
RECOMPUTED, MOMENTS, FEATURES, EXACT = (
    "recomputed", "moments kept", "features kept", "exact",
)  # fmt: skip
WAYS = (RECOMPUTED, MOMENTS, FEATURES, EXACT)


def measured(way: str, n: int, degree: int) -> tuple[int, Seconds] | None:
    """Bytes above the inputs, and seconds of later calls; None where Linux does not tell."""
    if not CLEAR.exists():
        return None
    command = [sys.executable, "-m", __name__, way, str(n), str(degree)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return int(found["bytes"]), spread_of(found["seconds"])


def from_features(left: Matrix, right: Matrix, data: Data) -> Matrix:
    """dL/dX with ⟨left_j, right_i⟩ for exp(S_ji): products with n × N arrays, none of n × m.

    Costs O((n + m) N dv d) operations for the moments Σ_i right_i ⊗ h_i ⊗ a_i.
    """
    normaliser = left @ right.sum(axis=0)
    output = (left @ (right.T @ data.value)) / normaliser[:, None]
    c = output - data.target
    r = np.sum(c * output, axis=1)
    # w_j = Σ_i f_ji (⟨c_j, h_i⟩ − r_j) a_i.
    w = -r[:, None] * (left @ (right.T @ data.centred_key))
    for column in range(data.value.shape[1]):
        moment = right.T @ (data.value[:, column, None] * data.centred_key)
        w += c[:, column, None] * (left @ moment)
    return np.asarray(data.scale * data.query.T @ (w / normaliser[:, None]))


def _run(way: str, data: Data, degree: int) -> Callable[[], object]:
    """A function whose second call may use what the first has kept."""
    arguments = data.arguments()
    if way == EXACT:
        return lambda: loss_gradient(**arguments)
    if way == RECOMPUTED:
        return lambda: loss_gradient(**arguments, method="polynomial", degree=degree)
    if way == MOMENTS:
        plan = plan_loss_gradient(**arguments, method="polynomial", degree=degree)
        return lambda: plan.execute()
    features = ExpFeatures(degree, scale=data.scale)
    kept: list[Matrix] = []

    def run() -> Matrix:
        if not kept:
            features.fit(data.query, data.key)
            kept.append(np.asarray(features.transform_query(data.query)))
            kept.append(np.asarray(features.transform_key(data.key)))
        return from_features(kept[0], kept[1], data)

    return run


def _peak() -> int:
    """The most that was resident since the last reset; psutil does not know it."""
    with STATUS.open() as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def main(way: str, n: int, degree: int) -> None:
    """Measure, and print."""
    _run(way, make("uniform", WARM_ROWS, WIDTH, bound=BOUND), degree)()
    data = make("uniform", n, WIDTH, bound=BOUND)
    # Made here, so that it counts as an input.
    _ = data.centred_key
    run = _run(way, data, degree)
    before = psutil.Process().memory_info().rss
    CLEAR.write_text(RESET_PEAK)
    run()
    seconds = [paused_seconds(run) for _ in range(REPEATS)]
    peak = _peak() - before
    sys.stdout.write(json.dumps({"bytes": peak, "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
