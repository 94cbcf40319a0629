"""In a process of one core from the start: the digests of the two precisions, and the pool."""

import json
import os
import sys

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

from determinism.test_same_bits import ALL, DTYPES, KEYS, QUERIES, WIDTH, make  # noqa: E402
from determinism.workload import settled_pool_threads  # noqa: E402

said = {dtype: make(dtype, True, ALL, (QUERIES, KEYS, WIDTH))(16) for dtype in DTYPES}
json.dump({**said, "pool": settled_pool_threads()}, sys.stdout)
