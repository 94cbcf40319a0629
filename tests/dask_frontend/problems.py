"""The small problem of the tests of shards as Dask arrays."""

from __future__ import annotations

from typing import Any

import dask.array as da

import attngrad_rs as ag
from attngrad_rs.dask import LazyGradients, loss_gradient
from resume.test_out_of_core import ROWS, SMALL, WRT

INPUTS = ("A1", "A2", "A3", "E")
THREADED = {"scheduler": "threads", "num_workers": 2}
SYNCHRONOUS = {"scheduler": "synchronous"}


def chunked(chunks: Any = ROWS, given: Any = SMALL) -> Any:
    """The problem with one chunk size for all, or one for each input by its name."""
    each = chunks if isinstance(chunks, dict) else dict.fromkeys(INPUTS, (chunks, -1))
    return given._replace(
        **{name: da.from_array(getattr(given, name), chunks=each[name]) for name in INPUTS}
    )


def lazily(given: Any = None, **options: Any) -> LazyGradients:
    given = chunked() if given is None else given
    return loss_gradient(*given, **{"degree": 2, "wrt": WRT, **options})


def computed(given: Any = None, **options: Any) -> ag.GradientResult[Any]:
    return lazily(given, **options).compute(**SYNCHRONOUS)
