"""Options, checked: one small function per kind of option, one message form for all.

Nothing here touches an array. What leaves this module is a plain Python value that the rest of the
library, and the compiled core, may trust.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, get_args

import numpy as np

from .. import _core
from ..errors import OptionError, OptionTypeError

Input: TypeAlias = Literal["X", "W_Q", "W_K", "Y", "A1", "A2", "A3", "A"]
Norm: TypeAlias = Literal["fro", "max"]
CertificateKind: TypeAlias = Literal["any", "estimated", "statistical", "rigorous"]
Method: TypeAlias = Literal["auto", "exact", "polynomial"]

# The precision of arrays that come in is that of those that come out.
F = TypeVar("F", bound=np.floating[Any])


class CallOptions(TypedDict, total=False):
    """Options of every function that computes, for a type checker."""

    scale: float | None
    is_causal: bool
    threads: int | None
    progress: Callable[[float], object] | None
    timeout: float | None
    check_finite: bool


class GradientOptions(CallOptions, total=False):
    """Options of every function that computes gradients."""

    rtol: float | None
    atol: float
    norm: Norm
    method: Method
    degree: int | None
    certificate: CertificateKind
    rng: int | np.random.Generator | None


INPUT_NAMES = ("A1", "A2", "A3")
SUM_NAME = "A"
WRT_NAMES: tuple[Input, ...] = get_args(Input)
NORMS: tuple[Norm, ...] = get_args(Norm)
CERTIFICATE_KINDS: tuple[CertificateKind, ...] = get_args(CertificateKind)
AUTO: Method = "auto"
METHODS: tuple[Method, ...] = tuple(name for name in get_args(Method) if name != AUTO)

# A thread needs a stack and a scheduler slot; more than this is a slip, not a wish.
MAX_THREADS = 1024
# 31 years: beyond it a deadline cannot be represented by every clock, and None says the same.
MAX_TIMEOUT_SECONDS = 1e9
# Shown in messages; a longer value helps nobody.
MAX_SHOWN = 60
# Of what is drawn for a look at data, where none is given: the same from call to call.
DEFAULT_SEED = 0
SEED_BITS = 64
# The core's limit (rust/src/polynomial): features of more are out of reach.
MAX_DEGREE = 30
# Python refuses to print integers of more than 4300 digits.
MAX_SHOWN_BITS = 128


Word = TypeVar("Word", bound=str)


@dataclass(frozen=True)
class Tolerance:
    """The accuracy asked for: ``error <= rtol * ||gradient|| + atol`` in ``norm``, for each output.

    ``rtol=None`` with ``atol=0`` asks for no more than the method's own accuracy.
    """

    rtol: float | None
    atol: float
    norm: Norm
    certificate: CertificateKind

    @property
    def is_exact(self) -> bool:
        """Whether nothing but rounding is allowed."""
        return not self.rtol and not self.atol

    def shown(self) -> str:
        """The tolerance as a message names it."""
        absolute = f"atol: found {self.atol:g}"
        if not self.rtol and self.atol:
            return absolute
        relative = f"rtol: found {self.rtol or 0.0:g}"
        return f"{relative}, {absolute}" if self.atol else relative


@dataclass(frozen=True)
class Request:
    """A method and an accuracy, checked.

    ``seed`` is that of sampled rows; None is a hash of the data.
    """

    method: str
    degree: int | None
    tolerance: Tolerance
    seed: int | None

    def of_core(self) -> _core.Request:
        """The same as the core takes it."""
        return _core.Request(
            method=self.method,
            degree=self.degree,
            rtol=self.tolerance.rtol,
            atol=self.tolerance.atol,
            norm=self.tolerance.norm,
            certificate=self.tolerance.certificate,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Control:
    """What changes how a computation runs, and never what it returns."""

    threads: int | None
    progress: Callable[[float], object] | None
    timeout: float | None
    check_finite: bool


def show(value: object) -> str:
    """A value as it appears in a message: short, never a whole array, never somebody's own repr."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, int) and value.bit_length() > MAX_SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, (int, float, complex, str, bytes, np.generic)):
        text = repr(value)
        return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"an object of type {type(value).__name__}"


def show_type(value: object) -> str:
    """The same where the type is what is wrong."""
    if value is None or isinstance(value, (int, float, complex, str, bytes, np.generic)):
        return f"{show(value)} of type {type(value).__name__}"
    return show(value)


def real(name: str, value: object, wanted: str) -> float:
    """A finite real number as a float; bool, str, complex, arrays, NaN and infinity are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise OptionTypeError(f"{name}: found {show_type(value)}; {wanted} is wanted")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise OptionError(f"{name}: found {show(value)}; {wanted} is wanted")
    return number


def integer(name: str, value: object, low: int, high: int, wanted: str) -> int:
    """An integer from low to high, of any integer type; bool, floats and strings are refused."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise OptionTypeError(f"{name}: found {show_type(value)}; {wanted} is wanted")
    try:
        number = operator.index(value)
    except TypeError:
        raise OptionTypeError(f"{name}: found {show(value)}; {wanted} is wanted") from None
    if not low <= number <= high:
        raise OptionError(f"{name}: found {show(number)}; {wanted} is wanted")
    return number


def flag(name: str, value: object) -> bool:
    """A bool, Python's or NumPy's; 0, 1 and strings are refused."""
    if not isinstance(value, (bool, np.bool_)):
        raise OptionTypeError(f"{name}: found {show_type(value)}; True or False is wanted")
    return bool(value)


def choice(name: str, value: object, known: Sequence[Word]) -> Word:
    """One of the known words."""
    if not isinstance(value, str):
        raise OptionTypeError(
            f"{name}: found {show_type(value)}; one of {', '.join(map(repr, known))} is wanted"
        )
    for word in known:
        if word == value:
            return word
    raise OptionError(
        f"{name}: found {show(value)}; one of {', '.join(map(repr, known))} is wanted"
    )


def scale(value: object, default: float) -> float:
    """The factor in front of the logits; None means the default of the function."""
    return default if value is None else real("scale", value, "a finite real number or None")


def threads(value: object) -> int | None:
    """A number of threads, or None for the machine's own."""
    if value is None:
        return None
    wanted = f"an integer from 1 to {MAX_THREADS}, or None for all cores,"
    return integer("threads", value, 1, MAX_THREADS, wanted)


def timeout(value: object) -> float | None:
    """A number of seconds, or None for no limit."""
    if value is None:
        return None
    wanted = f"a positive number of seconds up to {MAX_TIMEOUT_SECONDS:g}, or None for no limit,"
    seconds = real("timeout", value, wanted)
    if not 0.0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise OptionError(f"timeout: found {show(value)}; {wanted} is wanted")
    return seconds


def control(threads_: object, progress: object, timeout_: object, check_finite: object) -> Control:
    """The options that every computing function has."""
    if progress is not None and not callable(progress):
        raise OptionTypeError(
            f"progress: found {show_type(progress)}; "
            "a function of one number from 0 to 1, or None, is wanted"
        )
    return Control(
        threads=threads(threads_),
        progress=progress,
        timeout=timeout(timeout_),
        check_finite=flag("check_finite", check_finite),
    )


def tolerance(rtol: object, atol: object, norm: object, certificate: object) -> Tolerance:
    """The accuracy asked for."""
    wanted = "a finite number >= 0, or None for exact,"
    relative = None if rtol is None else real("rtol", rtol, wanted)
    if relative is not None and relative < 0.0:
        raise OptionError(f"rtol: found {show(rtol)}; {wanted} is wanted")
    absolute = real("atol", atol, "a finite number >= 0")
    if absolute < 0.0:
        raise OptionError(f"atol: found {show(atol)}; a finite number >= 0 is wanted")
    return Tolerance(
        rtol=relative,
        atol=absolute,
        norm=choice("norm", norm, NORMS),
        certificate=choice("certificate", certificate, CERTIFICATE_KINDS),
    )


def rng(value: object) -> int | None:
    """The seed of sampled rows: a Generator gives its next number, None is a hash of the data."""
    if value is None:
        return None
    if isinstance(value, np.random.Generator):
        return int(value.integers(2**SEED_BITS - 1, dtype=np.uint64))
    wrapped: int = _seed(value) & (2**SEED_BITS - 1)
    return wrapped


def _seed(value: object) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise OptionTypeError(
            f"rng: found {show_type(value)}; "
            "an integer seed >= 0, a numpy.random.Generator or None is wanted"
        )
    seed: int = operator.index(value)
    if seed < 0:
        raise OptionError(f"rng: found {show(seed)}; a seed >= 0 is wanted")
    return seed


def polynomial_degree(value: object) -> int:
    """Degree of a polynomial for exp."""
    return integer("degree", value, 0, MAX_DEGREE, f"an integer from 0 to {MAX_DEGREE}")


def request(
    method: object,
    degree: object,
    rtol: object,
    atol: object,
    norm: object,
    certificate: object,
    rng_: object,
) -> Request:
    """What is asked of a gradient."""
    name = choice("method", method, (AUTO, *METHODS))
    accuracy = tolerance(rtol, atol, norm, certificate)
    return Request(name, _degree(degree, name, accuracy), accuracy, rng(rng_))


def _degree(value: object, method: str, tolerance_: Tolerance) -> int | None:
    """Degree of a polynomial: for the method of that name, which needs it or a tolerance."""
    if value is None:
        if method == "polynomial" and tolerance_.is_exact:
            raise OptionError(
                "degree: found None for method 'polynomial' without a tolerance; "
                "give degree=, or rtol > 0 or atol > 0 to choose it by"
            )
        return None
    wanted = f"an integer from 0 to {MAX_DEGREE}, or None,"
    number = integer("degree", value, 0, MAX_DEGREE, wanted)
    if method != "polynomial":
        raise OptionError(
            f"degree: found {number} for method {method!r}; it belongs to method='polynomial'"
        )
    return number


def wrt_names(value: object, *, pair: bool, self_attention: bool) -> tuple[Input, ...]:
    """The names to differentiate by, in the order given."""
    if isinstance(value, str):
        names: tuple[Any, ...] = (value,)
    elif isinstance(value, (tuple, list)):
        names = tuple(value)
    else:
        raise OptionTypeError(
            f"wrt: found {show_type(value)}; a name, or a tuple or list "
            f"of names from {', '.join(WRT_NAMES)} is wanted"
        )
    if not names:
        raise OptionError(f"wrt: found no name; at least one of {', '.join(WRT_NAMES)} is wanted")
    checked = tuple(choice("wrt", name, WRT_NAMES) for name in names)
    for name in checked:
        if checked.count(name) > 1:
            raise OptionError(f"wrt: found {name!r} twice; each name may occur once")
    if pair and "X" in checked:
        raise OptionError(
            "wrt: found 'X' where X is given as the pair (W_Q, W_K); "
            "ask for 'W_Q' and 'W_K', or pass X = W_Q @ W_K.T"
        )
    factors = [name for name in checked if name in ("W_Q", "W_K")]
    if factors and not pair:
        raise OptionError(
            f"wrt: found {factors[0]!r} where X is one matrix; ask for 'X', or pass X=(W_Q, W_K)"
        )
    if SUM_NAME in checked and not self_attention:
        raise OptionError(
            "wrt: found 'A' where A1, A2 and A3 are not one object; "
            "pass the same array three times, or ask for 'A1', 'A2', 'A3'"
        )
    return checked
