"""Files of arrays in, ``.npz`` or ``.safetensors``, none of them trusted; and files out."""

from .files import array_names, load_arrays, write_arrays
from .output import atomic_output, check_output

__all__ = ["array_names", "atomic_output", "check_output", "load_arrays", "write_arrays"]
