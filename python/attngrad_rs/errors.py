"""The exceptions of attngrad_rs: one tree, and each leaf is also the built-in a caller would catch.

Every message reads ``<argument>: found <what>; <what is expected, or what to do>``. The compiled
core raises these same classes, so that one ``except AttnGradError`` catches all that the library
raises on purpose.

``PrecisionWarning``, a ``UserWarning``, is the one warning: an exact result misses its tolerance.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AttnGradError", "CheckpointError", "DTypeError", "DeadlineError", "InternalError",
    "MissingDependencyError",
    "NonFiniteError", "OptionError", "OptionTypeError", "OutOfMemoryError", "OutputError",
    "PrecisionWarning", "ProblemFileError", "RangeError", "ShapeError", "ThreadError",
    "ToleranceError",
]  # fmt: skip


class AttnGradError(Exception):
    """Base of every exception that attngrad_rs raises on purpose."""


class ShapeError(AttnGradError, ValueError):
    """An array has the wrong number of dimensions, or a size that does not fit the others."""


class DTypeError(AttnGradError, TypeError):
    """An array is neither float32 nor float64, on another device, or not of one kind with others.

    Kinds are dtypes and libraries.
    """


class OptionError(AttnGradError, ValueError):
    """An option has a value outside of its range, or one that contradicts another argument."""


class OptionTypeError(AttnGradError, TypeError):
    """An option has the wrong type."""


class NonFiniteError(AttnGradError, ValueError):
    """An input array holds NaN or infinity; the message names the array and the index."""


class RangeError(AttnGradError, ValueError):
    """Logits, or a result, overflow the dtype: the answer is not representable in it."""


class ToleranceError(AttnGradError, ArithmeticError):
    """The tolerance asked for is below what can be reached."""

    def __init__(self, message: str, best_rtol: float = float("inf"), result: Any = None) -> None:
        super().__init__(message)
        self.best_rtol: float = float(best_rtol)
        """The smallest ``rtol`` that this problem can be certified to, in this dtype, with this
        method and beside the same ``atol``; infinite where no relative tolerance can be certified.
        Where ``result`` is None nothing was computed, as no data could reach the tolerance: then it
        is the least that some data could reach in this dtype.
        """
        self.result: Any = result
        """The GradientResult or AttentionGradients that was computed, with its certificates."""


class PrecisionWarning(UserWarning):
    """Rounding is larger than the tolerance asked of ``method="auto"``.

    The exact result is returned, its certificate with ``success=False``: as at the end of a
    training, where the gradient is small beside what it is rounded from.
    """


class DeadlineError(AttnGradError, TimeoutError):
    """The seconds given by ``timeout=`` passed before the result was ready."""


# The built-in first: otherwise it is not its own __new__ that makes an instance, and an error that
# a worker of Dask sends could not be made again by its receiver.
class OutOfMemoryError(MemoryError, AttnGradError):
    """The work needs more memory than there is; the message names the bytes."""


class ThreadError(AttnGradError, RuntimeError):
    """The system does not let the process start a single thread for the work."""


class InternalError(AttnGradError, RuntimeError):
    """A defect of this library. The process and later calls are unharmed; please report it."""


class ProblemFileError(AttnGradError, ValueError):
    """A problem file (``.npz``) is missing, malformed or hostile."""


class CheckpointError(AttnGradError, OSError):
    """A checkpoint is of another call, is damaged, or cannot be read or written."""


class OutputError(AttnGradError, OSError):
    """An output file cannot be written; nothing of it is left behind."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path: str = path
        """The file that could not be written."""


class MissingDependencyError(AttnGradError, ImportError):
    """An optional dependency is missing; the message holds the command that installs it."""


def install_line(extra: str) -> str:
    """The command that installs an extra; no registry has the package, so it names the tree."""
    return f"pip install '.[{extra}]' in the folder of its source"
