"""Gradients of arrays that do not fit in memory, on one machine or with the workers of an executor.

The functions read ``numpy.memmap``, Zarr arrays and whatever else has a shape, a dtype and rows
that a slice gives, and lists or other collections of blocks. Each block is read once a pass.
"""

from ._attention import attention_vjp
from ._gradient import loss_gradient

__all__ = ["attention_vjp", "loss_gradient"]
