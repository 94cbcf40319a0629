"""Attention for JAX on the CPU: the signature of jax.nn, this library's exact gradients.

Needs jax (``pip install '.[jax]'``), which nothing else of the library imports.
"""

from ..errors import MissingDependencyError, install_line

try:
    import jax  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"jax: found {error}; expected the package jax: {install_line('jax')}"
    ) from error

from ._served import dot_product_attention

__all__ = ["dot_product_attention"]
