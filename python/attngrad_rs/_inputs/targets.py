"""Arrays of the caller that results are written to (``out=``), checked before the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from ..errors import AttnGradError, DTypeError, OptionError, ShapeError
from .border import SINGLE, Array, Border, DType, bits_of, half_name, library_of, readable
from .options import wrong_type

# Whether two arrays share memory is looked for no longer than this; then they are taken to.
MAX_WORK = 100_000

Shape: TypeAlias = tuple[int, ...]


class Targets:
    """Arrays of the caller for some results, in their order; None where a result is a new array.

    Results are complete before the first is written: a target may be an input.
    """

    def __init__(
        self, out: object, shapes: Mapping[str, Shape], dtype: DType, border: Border | None
    ) -> None:
        """Of results of these names and shapes; all but ``lse`` have the dtype of the inputs."""
        self.given = _each(out, tuple(shapes))
        self.border = border
        self.arrays: list[Array | None] = []
        for one, (name, shape) in zip(self.given, shapes.items(), strict=True):
            of_result = SINGLE if name == "lse" and border and border.half else None
            expected = of_result or (border and border.dtype) or dtype
            label = "out" if one is out else f"out, for {name}"
            checked = None if one is None else _checked(label, one, shape, expected, border)
            self.arrays.append(checked)
        for (name, a), (other, b) in combinations(zip(shapes, self.arrays, strict=True), 2):
            if a is not None and b is not None and _overlap(a, b):
                raise OptionError(f"out: found {name} and {other} in the same memory")

    def filled(self, found: Sequence[Array]) -> list[Any]:
        """The results of the core, written where they are wanted, as the caller has them."""
        for array, one in zip(self.arrays, found, strict=True):
            if array is not None:
                np.copyto(array if one.dtype.kind == "f" else bits_of(array), one)
        if self.border is not None:
            found = [self.border.out(one) for one in found]
        both = zip(self.given, found, strict=True)
        return [one if own is None else own for own, one in both]


def _each(out: object, names: tuple[str, ...]) -> tuple[object, ...]:
    """What is given for each result: an array where there is one, otherwise a tuple of them."""
    if isinstance(out, (tuple, list)):
        if len(out) != len(names):
            raise OptionError(
                f"out: found {len(out)} arrays; expected {len(names)}, for {', '.join(names)}, "
                "None for one that is new"
            )
        return tuple(out)
    if len(names) > 1:
        expected = f"a tuple of {len(names)} arrays or None, for {', '.join(names)}"
        raise wrong_type("out", out, expected)
    return (out,)


def _checked(label: str, one: Any, shape: Shape, dtype: DType, border: Border | None) -> Array:
    """The memory of an array that a result of this shape and dtype can be written to."""
    library = library_of(one)
    expected = None if border is None else border.library
    if library is None and not isinstance(one, np.ndarray):
        raise wrong_type(label, one, "an array that can be written to, or None")
    if library is not expected:
        found, wanted = (getattr(which, "__name__", "numpy") for which in (library, expected))
        raise DTypeError(f"{label}: found an array of {found}; expected one of {wanted}")
    try:
        array = readable(label, one)
    except AttnGradError:
        raise
    except Exception as error:
        raise DTypeError(f"{label}: found an array that cannot be written to ({error})") from error
    wanted_name = half_name(dtype) or dtype.name
    if (half_name(array.dtype) or array.dtype.newbyteorder("=").name) != wanted_name:
        found_name = half_name(array.dtype) or array.dtype
        raise DTypeError(f"{label}: found dtype {found_name}; expected {wanted_name}")
    if array.shape != shape:
        raise ShapeError(f"{label}: found shape {array.shape}; expected {shape}")
    if not array.flags.writeable:
        raise OptionError(f"{label}: found an array that cannot be written to")
    if any(step == 0 and length > 1 for step, length in zip(array.strides, shape, strict=True)):
        raise OptionError(f"{label}: found an array whose entries share memory with each other")
    return np.asarray(array)


def _overlap(a: Array, b: Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=MAX_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
