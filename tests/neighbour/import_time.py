"""In a fresh process: how long the import takes once NumPy is there."""

import json
import sys
import time

import numpy  # noqa: F401

start = time.perf_counter()
import attngrad_rs  # noqa: E402, F401

json.dump({"seconds": time.perf_counter() - start}, sys.stdout)
