"""In a fresh process: sixteen callers make the first call at once; then the threads are counted."""

import json
import sys

import attngrad_rs as ag
from attngrad_rs import _core
from determinism.workload import digest, os_threads, problem, settled_pool_threads, together

CALLERS = 16

args = problem(600, 300, 4)
base = len(os_threads())
digests = together([lambda: digest(ag.loss_gradient(*args))] * CALLERS)
later = [digest(ag.loss_gradient(*args)) for _ in range(50)]
# A pool that lost the race lets its threads go, which takes a moment.
pool = settled_pool_threads()
json.dump(
    {
        "base": base,
        "after": len(os_threads()),
        "pool": pool,
        "default": _core.default_threads(),
        "digests": sorted({*digests, *later}),
    },
    sys.stdout,
)
