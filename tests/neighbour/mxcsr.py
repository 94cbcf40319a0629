"""The control word of the SSE unit, read through the C library."""

from __future__ import annotations

import ctypes
import platform
import struct

# In glibc's fenv_t for x86-64, after the 28 bytes of the x87 unit.
OFFSET = 28
SIZE = 64
# The low six bits record what happened; the others say how to round and what to flush.
CONTROL_BITS = ~0x3F


def control_word() -> int | None:
    """Rounding, masks, flush-to-zero and denormals-are-zero; None where it cannot be read."""
    if platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        return None
    state = ctypes.create_string_buffer(SIZE)
    ctypes.CDLL("libm.so.6").fegetenv(state)
    (word,) = struct.unpack_from("<I", state, OFFSET)
    return int(word) & CONTROL_BITS
