"""Options, checked: one small function per kind of option, one message form for all.

Nothing here touches an array. Values that leave this module are plain ones of Python, which the
rest of the library, and the compiled core, may trust.
"""

from __future__ import annotations

import functools
import math
import numbers
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import AttnGradError, OptionError, OptionTypeError

Input: TypeAlias = Literal["X", "W_Q", "W_K", "Y", "A1", "A2", "A3", "A"]
Norm: TypeAlias = Literal["fro", "max"]
CertificateKind: TypeAlias = Literal["any", "estimated", "statistical", "rigorous"]
Method: TypeAlias = Literal["auto", "exact", "polynomial"]
Progress: TypeAlias = Callable[[float], object]
Align: TypeAlias = Literal["top-left", "bottom-right"]

BOTTOM_RIGHT: Align = "bottom-right"

# The precision of arrays that come in is that of those that come out.
F = TypeVar("F", bound=np.floating[Any])
Word = TypeVar("Word", bound=str)


class CallOptions(TypedDict, total=False):
    """Options of every function that computes, for a type checker."""

    scale: float | None
    is_causal: bool
    threads: int | None
    progress: Progress | None
    timeout: float | None
    check_finite: bool
    allow_half: bool


class GradientOptions(CallOptions, total=False):
    """Options of every function that computes gradients."""

    rtol: float | None
    atol: float
    norm: Norm
    method: Method
    degree: int | None
    certificate: CertificateKind
    rng: int | np.random.Generator | None


class HeadCallOptions(CallOptions, total=False):
    """Options of functions of heads of attention."""

    enable_gqa: bool


class MaskOptions(HeadCallOptions, total=False):
    """Options of functions of heads of attention that may have any mask."""

    attn_mask: npt.ArrayLike | None
    window: tuple[int, int] | None
    key_lengths: npt.ArrayLike | None
    cu_seqlens: npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike] | None
    causal_align: Align
    dropout_p: float


class HeadOptions(GradientOptions, MaskOptions, total=False):
    """Options of functions of gradients of attention."""


class ProblemOptions(GradientOptions, total=False):
    """Options of the gradients of the paper's problem."""

    B: float | None


class Options(NamedTuple):
    """The options of a call; the defaults, and what they mean, are those of ``loss_gradient``."""

    scale: Any = None
    is_causal: Any = False
    rtol: Any = None
    atol: Any = 0.0
    norm: Any = "fro"
    method: Any = "auto"
    degree: Any = None
    certificate: Any = "any"
    rng: Any = None
    threads: Any = None
    progress: Any = None
    timeout: Any = None
    check_finite: Any = True
    enable_gqa: Any = False
    attn_mask: Any = None
    window: Any = None
    key_lengths: Any = None
    cu_seqlens: Any = None
    causal_align: Any = "top-left"
    dropout_p: Any = 0.0
    B: Any = None
    allow_half: Any = False

    @classmethod
    def of(cls, function: str, kind: type, options: Mapping[str, object]) -> Options:
        """Options of a kind that a function was given by name; Python's own error for others."""
        known = kind.__annotations__
        for name in options:
            if name not in known:
                raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
        return cls(**options) if options else DEFAULTS

    def checked(self) -> Options:
        """The same as plain Python values; ``rng`` is a seed, and None is a hash of the data."""
        # What is at its default needs no look: a short call would spend a tenth of its time here.
        if self is DEFAULTS:
            return self
        changed = compress(self._fields, map(operator.is_not, self, DEFAULTS))
        checked = {name: CHECKS[name](name, getattr(self, name)) for name in changed}
        given = self._replace(**checked) if checked else self
        if given.degree is not None and given.method != "polynomial":
            raise OptionError(
                f"degree: found {given.degree} for method {given.method!r}; "
                "it belongs to method='polynomial'"
            )
        return given

    @property
    def is_certified(self) -> bool:
        """Whether a tolerance is given, or a method that has errors of its own."""
        return self.rtol is not None or self.atol > 0.0 or self.method == "polynomial"

    def request(self) -> _core.Request:
        """The method and the accuracy, as the core takes them."""
        if self is DEFAULTS:
            return _default_request()
        return self._request()

    def _request(self) -> _core.Request:
        return _core.Request(
            method=self.method, degree=self.degree, rtol=self.rtol, atol=self.atol, norm=self.norm,
            certificate=self.certificate, seed=self.rng, bound=self.B,
        )  # fmt: skip

    def control(self, memory: int | None = None) -> _core.Options:
        """Options of the core: how it runs, and the bytes that are free, if they are known."""
        return _core.Options(
            threads=self.threads, progress=self.progress, timeout=self.timeout, memory=memory
        )

    def named(self, kind: type) -> dict[str, Any]:
        """The options of a kind, by their names."""
        return {name: getattr(self, name) for name in kind.__annotations__}

    def to_replay(self) -> Options:
        """The same for a plan to keep, with nobody to call."""
        return self._replace(progress=None, timeout=None, check_finite=True)


DEFAULTS = Options()


@functools.cache
def _default_request() -> _core.Request:
    """That of a call without options, which is short more often than others."""
    return DEFAULTS._request()


WRT_NAMES: tuple[Input, ...] = get_args(Input)
AUTO: Method = "auto"
METHODS: tuple[Method, ...] = tuple(name for name in get_args(Method) if name != AUTO)

# The core's limit (rust/src/polynomial): features of more are out of reach.
MAX_DEGREE = 30
DEGREE = f"an integer from 0 to {MAX_DEGREE}"
MAX_SEED = 2**64 - 1
# Shown in messages; a longer value helps nobody, and Python refuses to print huge integers.
MAX_SHOWN = 60
MAX_SHOWN_BITS = 128
SHORT = (int, float, complex, str, bytes, np.generic, type(None))


def show(value: object) -> str:
    """A value as it appears in a message: short, never a whole array, never somebody's own repr."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, int) and value.bit_length() > MAX_SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, SHORT):
        text = repr(value)
        return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"an object of type {type(value).__name__}"


def wrong_value(name: str, value: object, expected: str) -> AttnGradError:
    """The error for a value outside of its range."""
    return OptionError(f"{name}: found {show(value)}; expected {expected}")


def wrong_type(name: str, value: object, expected: str) -> AttnGradError:
    """The error for a value of the wrong type, which the message names."""
    kind = f" of type {type(value).__name__}" if isinstance(value, SHORT) else ""
    return OptionTypeError(f"{name}: found {show(value)}{kind}; expected {expected}")


def real(
    name: str, value: object, expected: str, low: float = -math.inf, high: float = math.inf
) -> float:
    """A finite real number as a float; bool, str, complex, arrays, NaN and infinity are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise wrong_type(name, value, expected)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or not low <= number <= high:
        raise wrong_value(name, value, expected)
    return number


def integer(name: str, value: object, expected: str, low: float, high: float) -> int:
    """An integer from low to high, of any integer type; bool, floats and strings are refused."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise wrong_type(name, value, expected) from None
    if not low <= number <= high:
        raise wrong_value(name, number, expected)
    return number


def flag(name: str, value: object) -> bool:
    """A bool, Python's or NumPy's; 0, 1 and strings are refused."""
    if not isinstance(value, (bool, np.bool_)):
        raise wrong_type(name, value, "True or False")
    return bool(value)


def choice(name: str, value: object, known: Sequence[Word]) -> Word:
    """One of the known words."""
    expected = f"one of {', '.join(map(repr, known))}"
    if not isinstance(value, str):
        raise wrong_type(name, value, expected)
    if value not in known:
        raise wrong_value(name, value, expected)
    return known[known.index(value)]


class Rule(NamedTuple):
    """The numbers that an option may have; not every option may be None."""

    low: float
    high: float
    expected: str
    is_integer: bool = False
    may_be_none: bool = True


RULES = {
    "scale": Rule(-math.inf, math.inf, "a finite real number or None"),
    "rtol": Rule(0.0, math.inf, "a finite number >= 0, or None for exact"),
    "atol": Rule(0.0, math.inf, "a finite number >= 0", may_be_none=False),
    # 31 years: beyond it a deadline cannot be represented by every clock, and None says the same.
    "timeout": Rule(
        math.ulp(0.0), 1e9, "a positive number of seconds up to 1e+09, or None for no limit"
    ),
    # A thread needs a stack and a scheduler slot; more than this is a slip, not a wish.
    "threads": Rule(1, 1024, "an integer from 1 to 1024, or None for all cores", is_integer=True),
    "degree": Rule(0, MAX_DEGREE, f"{DEGREE}, or None", is_integer=True),
    "B": Rule(0.0, math.inf, "a finite number >= 0, or None"),
    "max_features": Rule(1, sys.maxsize, "an integer of at least 1", True, may_be_none=False),
}


def number(name: str, value: object) -> Any:
    """The number that an option of this name is given, or None where it may be."""
    rule = RULES[name]
    if value is None and rule.may_be_none:
        return None
    kind = integer if rule.is_integer else real
    return kind(name, value, rule.expected, rule.low, rule.high)


def rng(value: object) -> int | None:
    """The seed of sampled rows: a Generator gives its next number, None is a hash of the data."""
    if value is None:
        return None
    if isinstance(value, np.random.Generator):
        return int(value.integers(MAX_SEED, dtype=np.uint64))
    expected = "an integer seed >= 0, a numpy.random.Generator or None"
    return integer("rng", value, expected, 0, math.inf) & MAX_SEED


def progress(name: str, value: object) -> object:
    """A function to call with the part of the work that is done, or None."""
    if value is not None and not callable(value):
        raise wrong_type(name, value, "a function of one number from 0 to 1, or None")
    return value


def _window(name: str, value: object) -> tuple[int, int] | None:
    """Keys before and after the diagonal; -1 is all of them."""
    if value is None:
        return None
    expected = "a pair of integers >= -1, keys before and after the diagonal, or None"
    if not isinstance(value, (tuple, list)):
        raise wrong_type(name, value, expected)
    if len(value) != 2:
        raise wrong_value(name, value, expected)
    before, after = (integer(name, keys, expected, -1, sys.maxsize) for keys in value)
    return before, after


def _array(_name: str, value: object) -> object:
    """Anything: it is read with the other arrays."""
    return value


def _dropout(name: str, value: object) -> float:
    rate = real(name, value, "0.0", 0.0, 1.0)
    if rate:
        reason = "weights that are dropped at random have a gradient of their own each time"
        raise OptionError(f"{name}: found {rate}; expected 0.0: {reason}")
    return rate


def _align(name: str, value: object) -> Align:
    return choice(name, value, get_args(Align))


def _norm(name: str, value: object) -> Norm:
    return choice(name, value, get_args(Norm))


def _method(name: str, value: object) -> Method:
    return choice(name, value, (AUTO, *METHODS))


def _seed(_name: str, value: object) -> int | None:
    return rng(value)


def _certificate(name: str, value: object) -> CertificateKind:
    return choice(name, value, get_args(CertificateKind))


# Each takes the name of an option and its value, and returns a plain one.
CHECKS: dict[str, Callable[[str, object], Any]] = {
    **dict.fromkeys(RULES, number),
    **dict.fromkeys(("is_causal", "check_finite", "enable_gqa", "allow_half"), flag),
    "norm": _norm, "method": _method, "certificate": _certificate, "rng": _seed,
    "progress": progress, "window": _window, "dropout_p": _dropout, "causal_align": _align,
    **dict.fromkeys(("attn_mask", "key_lengths", "cu_seqlens"), _array),
}  # fmt: skip


def wrt_names(value: object, arrays: Mapping[str, object]) -> tuple[Input, ...]:
    """The names to differentiate by, in the order given; ``arrays`` are those of the problem."""
    names = (value,) if isinstance(value, str) else value
    known = ", ".join(WRT_NAMES)
    if not isinstance(names, (tuple, list)):
        raise wrong_type("wrt", value, f"a name, or a tuple or list of names from {known}")
    if not names:
        raise OptionError(f"wrt: found no name; expected at least one of {known}")
    checked = tuple(choice("wrt", name, WRT_NAMES) for name in names)
    for name in checked:
        if checked.count(name) > 1:
            raise OptionError(f"wrt: found {name!r} twice; each name may occur once")
        # Equal shapes are not enough, which are all that the core can tell.
        if name == "A" and not arrays["A1"] is arrays["A2"] is arrays["A3"]:
            raise OptionError(
                "wrt: found 'A' where A1, A2 and A3 are not one object; "
                "pass the same array three times, or ask for 'A1', 'A2', 'A3'"
            )
    return checked
