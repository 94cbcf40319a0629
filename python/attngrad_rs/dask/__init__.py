"""Gradients of chunked Dask arrays, as lazy Dask values.

Needs dask (``pip install '.[dask]'``), which nothing else of the library imports. The threads of
this process do the work where nothing is set up; with a client, the processes or machines of its
cluster do.
"""

from ..errors import MissingDependencyError, install_line

try:
    import dask.array  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        f"dask: found {error}; expected the package dask: {install_line('dask')}"
    ) from error

from ._attention import LazyAttentionGradients, attention_vjp
from ._gradient import LazyGradients, loss_gradient

__all__ = ["LazyAttentionGradients", "LazyGradients", "attention_vjp", "loss_gradient"]
