"""Attention for PyTorch on the CPU: torch's own signature, this library's exact gradients.

Needs torch (``pip install '.[torch]'``), which nothing else of the library imports.
"""

from ._monitor import Layer, Monitor, monitor
from ._served import scaled_dot_product_attention
from ._switch import Enabled, disable, enable, register_transformers

__all__ = [
    "Enabled", "Layer", "Monitor", "disable", "enable", "monitor", "register_transformers",
    "scaled_dot_product_attention",
]  # fmt: skip
