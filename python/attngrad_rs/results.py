"""Results, and what is known about their errors."""

from __future__ import annotations

import functools
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import ROUND_CEILING, Context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy.typing as npt

from . import _core
from ._inputs.arrays import Array
from ._inputs.options import F, Options
from .errors import OptionError, PrecisionWarning, ToleranceError
from .plans import Plan, html_table

__all__ = ["AttentionGradients", "AttentionResult", "Certificate", "GradientResult"]

R = TypeVar("R", bound="_Certified")
# What rounds less.
WIDER = {"float32": "float64", "float16": "float32", "bfloat16": "float32"}


def public_fields(cls: type, found: object) -> dict[str, Any]:
    """Fields of a class of data by their names, as an object of the core has them."""
    return {name: getattr(found, name) for name in _public_names(cls)}


@functools.cache
def _public_names(cls: type) -> tuple[str, ...]:
    return tuple(one.name for one in fields(cls) if one.name[0] != "_")


@dataclass(frozen=True)
class Certificate:
    """How far a result may be from the truth, and how that is known.

    The error is at most ``absolute`` in ``norm``, or ``relative`` to the true size, and ``kind``
    says how sure that is; ``success`` says whether the tolerance is met, ``best_rtol`` which one
    would be, ``message`` all of it in words. docs/api/results.md explains every field.
    """

    method: str
    """The method that made the result, ``"exact"`` or ``"polynomial"``."""
    kind: str
    """``"exact"`` (rounding only), ``"rigorous"`` (a bound, rounding included), ``"statistical"``
    (a confidence that a rigorous cap on every row backs) or ``"estimated"`` (a standard error
    with a safety factor). Kinds are never mixed.
    """
    absolute: float
    """The error is at most this, in ``norm``. NaN is turned into infinity: what is not known is
    never certified.
    """
    relative: float
    """At least error / true size: ``absolute / (size - absolute)``, or infinite if not positive."""
    norm: str = "fro"
    """``"fro"`` (Frobenius), ``"max"`` (largest entry), or ``"abs"`` for a single number."""
    confidence: float | None = None
    """Probability that the statement holds, for kind ``"statistical"``, however often the call
    looked; None otherwise. It is that of the draws: with ``rng=None`` their seed is a hash of
    the data, and the confidence assumes data that were not chosen by that hash.
    """
    terms: Mapping[str, float] = field(default_factory=dict)
    """Parts of ``absolute``: rounding, and for approximations truncation, sampling and skipped
    mass.
    """
    steps: Mapping[str, float] = field(default_factory=dict)
    """Errors that a rigorous bound charges for the steps f, c, q, p1 and p2; empty elsewhere."""
    rtol_requested: float | None = None
    """The ``rtol`` asked for; None without one."""
    best_rtol: float = math.inf
    """The smallest ``rtol`` that this result reaches beside the ``atol`` asked for; infinite where
    the gradient may be zero.
    """
    success: bool | None = None
    """Whether ‖ĝ − g‖ ≤ rtol·‖g‖ + atol is certified; None where nothing was asked of an
    approximation. Without a tolerance an exact result is a success where its rounding is
    bounded. A gradient that is merely smaller than its rounding bound is none.
    """
    message: str = ""
    """The verdict in words."""
    size: float | None = None
    """The ``norm`` of the result itself; None in a certificate that was made by hand."""

    def __post_init__(self) -> None:
        """Turn NaN into infinity, and take back a success that nothing backs."""
        for name in ("absolute", "relative", "best_rtol"):
            if math.isnan(getattr(self, name)):
                object.__setattr__(self, name, math.inf)
        if not math.isfinite(self.absolute) and self.success:
            object.__setattr__(self, "success", False)

    @classmethod
    def of_core(cls, found: _core.Certificate) -> Certificate:
        """The findings of the core about a result."""
        # Field by field a frozen class takes microseconds to fill.
        made = object.__new__(cls)
        made.__dict__.update(public_fields(cls, found))
        made.__post_init__()
        return made

    @classmethod
    def of_all(cls, found: _core.Solution) -> dict[str, Certificate]:
        """The findings of the core about each gradient, by its name."""
        return {name: cls.of_core(one) for name, one in found.certificates.items()}

    def _error(self) -> str:
        return f"{self.kind}, relative error <= {self.relative:.1e}"

    def _repr_html_(self) -> str:
        """The main figures as a table, for notebooks."""
        return html_table(
            ("kind", self.kind),
            ("relative", f"{self.relative:.2e}"),
            ("absolute", f"{self.absolute:.2e} ({self.norm})"),
            ("success", str(self.success)),
            ("message", self.message),
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class _Certified:
    """A result with one certificate for each of its arrays."""

    certificates: Mapping[str, Certificate]
    """One for each gradient: by the names in ``wrt`` or, each over all leading dimensions together,
    ``"query"``, ``"key"`` and ``"value"``.
    """
    plan: Plan
    """The decision that was run, and why. It holds none of the arrays."""
    seconds: float
    """Wall time of the whole call."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A field that is made when somebody looks at it, and from then on is there."""
            if name not in self.__dict__.get("_late", ()):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return self.__dict__.setdefault(name, self._late[name]())

    def __getstate__(self) -> dict[str, Any]:
        """All fields, those too that nobody has looked at."""
        return public_fields(type(self), self)

    def _arrays(self) -> Mapping[str, Array]:
        """Gradients by the names of their certificates."""
        raise NotImplementedError

    @staticmethod
    def _title(name: str) -> str:
        """An array with this name of its certificate, in words."""
        return f"gradient, {name}"

    @property
    def certificate(self) -> Certificate:
        """That of the gradient; of several, the worst: a missed tolerance, or the largest error."""
        known = self.certificates.values()
        return max(known, key=lambda one: (one.success is False, one.relative, one.absolute))

    @property
    def success(self) -> bool | None:
        """Whether every tolerance is certified, as ``certificate.success`` says it."""
        return self.certificate.success

    def _summary(self, form: str, names: Iterable[str]) -> str:
        """Shapes in this form, and the error, on one line; never the numbers."""
        arrays = zip(names, self._arrays().values(), strict=True)
        shapes = ", ".join(f"{name}: {array.shape} {array.dtype}" for name, array in arrays)
        return f"{form.format(shapes)}, {self.certificate._error()}, seconds={self.seconds:.3g}"

    def _repr_html_(self) -> str:
        """Shapes, errors and the plan as a table, for notebooks."""
        items = []
        for name, array in self._arrays().items():
            error = self.certificates[name]._error()
            items.append((self._title(name), f"{array.shape} {array.dtype}; {error}"))
        return html_table(*items, *self.plan._items())


@dataclass(frozen=True, eq=False, repr=False)
class GradientResult(_Certified, Generic[F]):
    """Loss and gradients of one problem, each with its certificate.

    First of all ``gradient`` and ``certificate``; docs/api/problem.md explains every field.
    """

    loss: float
    """L(X, Y), half the squared Frobenius norm of the residual."""
    gradients: Mapping[str, npt.NDArray[F]]
    """One array per name in ``wrt``, in that order, shaped and typed like what it is a gradient
    with respect to, in native byte order.
    """
    loss_certificate: Certificate
    """That of the loss."""
    B: float | None = None
    """The largest entry of A1 X and A2, where ``B=`` was given or the call is the paper's problem
    (``atol`` alone and ``norm="max"``); None elsewhere.
    """

    @property
    def gradient(self) -> npt.NDArray[F]:
        """The gradient, where exactly one was asked for; OptionError says which there are."""
        if len(self.gradients) != 1:
            names = ", ".join(map(repr, self.gradients))
            found = f"found {len(self.gradients)} of them ({names})"
            raise OptionError(f"gradient: {found}; take the one you mean from .gradients[name]")
        (only,) = self.gradients.values()
        return only

    def _arrays(self) -> Mapping[str, Array]:
        return self.gradients

    def __repr__(self) -> str:
        """Shapes and error, on one line; never the numbers."""
        summary = self._summary("gradients={{{}}}", self.gradients)
        return f"GradientResult(loss={self.loss:.6g}, {summary})"


@dataclass(frozen=True, eq=False, repr=False)
class AttentionGradients(_Certified, Generic[F]):
    """Gradients of attention; unpacks as ``dq, dk, dv``.

    ``certificate`` says how right they are; docs/api/attention.md explains every field.
    """

    dq: npt.NDArray[F]
    """Of the shape of query, (..., L, E)."""
    dk: npt.NDArray[F]
    """Of the shape of key, (..., S, E)."""
    dv: npt.NDArray[F]
    """Of the shape of value, (..., S, Ev)."""

    @classmethod
    def of_core(
        cls,
        found: _core.Solution,
        gradients: Sequence[Any],
        plan: Callable[[], Plan],
        seconds: float,
    ) -> AttentionGradients[Any]:
        """The findings of the core; plan and certificates take longer to make than short heads."""
        late = {"plan": plan, "certificates": functools.partial(Certificate.of_all, found)}
        dq, dk, dv = gradients
        made = object.__new__(cls)
        made.__dict__.update(dq=dq, dk=dk, dv=dv, seconds=seconds, _late=late)
        return made

    def __iter__(self) -> Iterator[npt.NDArray[F]]:
        """Unpack as dq, dk, dv."""
        return iter((self.dq, self.dk, self.dv))

    def _arrays(self) -> Mapping[str, Array]:
        return {"query": self.dq, "key": self.dk, "value": self.dv}

    def __repr__(self) -> str:
        """Shapes and error, on one line; never the numbers."""
        return f"AttentionGradients({self._summary('{}', ('dq', 'dk', 'dv'))})"


@dataclass(frozen=True, eq=False, repr=False)
class AttentionResult(_Certified, Generic[F]):
    """The output of attention, with its certificate.

    ``certificate`` says how right it is; docs/api/attention.md explains every field.
    """

    output: npt.NDArray[F]
    """Softmax attention, (..., L, Ev)."""
    lse: npt.NDArray[F] | None
    """With ``return_lse`` the logarithm of the normaliser of each row, (..., L), which only the
    exact method has. The certificate does not speak of it.
    """

    @staticmethod
    def _title(name: str) -> str:
        return name

    def _arrays(self) -> Mapping[str, Array]:
        return {"output": self.output}

    def __repr__(self) -> str:
        """Shape and error, on one line; never the numbers."""
        return f"AttentionResult({self._summary('{}', ('output',))})"


def deliver(result: R, given: Options, dtype: str) -> R:
    """The result, where its tolerance is reached or nobody named the method.

    Raises ToleranceError if the method that the caller named misses the tolerance. Warns with
    PrecisionWarning if "auto" misses it: no method is more accurate than the exact one.
    """
    if given.rtol is None and not given.atol:
        return result
    missed = {name: one for name, one in result.certificates.items() if one.success is False}
    if not missed:
        return result
    name = max(missed, key=lambda one: (missed[one].best_rtol, missed[one].absolute))
    made = missed[name]
    if made.kind == "exact":
        remedy = f"use {WIDER[dtype]}, or " if dtype in WIDER else ""
        limit = f"below what rounding in {dtype} lets us certify"
    else:
        remedy = "use method='auto', or "
        limit = f"below what method {made.method!r} could certify ({made.kind})"
    if math.isfinite(made.best_rtol) and (given.rtol or not given.atol):
        ask = f"ask for rtol >= {round_up(made.best_rtol)} (or None for exact)"
    elif math.isfinite(made.absolute):
        # No tolerance relative to a gradient that may be zero can be certified.
        ask = f"give atol >= {round_up(max(one.absolute for one in missed.values()))}"
        ask += "" if math.isfinite(made.best_rtol) else ", as the gradient may be zero"
    else:
        ask = "ask for rtol=None (exact)"
    asked = {one: getattr(given, one) for one in ("rtol", "atol") if getattr(given, one)}
    found = ", ".join(f"{one}: found {value:g}" for one, value in (asked or {"rtol": 0.0}).items())
    of = "output" if name == "output" else f"gradient with respect to {name}"
    words = f"{found}, {limit} for the {of}"
    if given.method != "auto":
        raise ToleranceError(f"{words}; {remedy}{ask}", made.best_rtol, result)
    warnings.warn(
        f"{words}, whose exact value is returned with success=False; {remedy}{ask}",
        PrecisionWarning,
        stacklevel=_frames_within(),
    )
    return result


def _frames_within() -> int:
    """Levels of the stack from our caller up to the first that is not of this package."""
    package, level = __name__.partition(".")[0], 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(package):
        frame, level = frame.f_back, level + 1
    return level


def round_up(value: float) -> str:
    """Two significant digits, never below the value: what a user may copy out of a message."""
    upwards = Context(prec=2, rounding=ROUND_CEILING)
    return f"{float(upwards.create_decimal(repr(float(value)))):.2g}"
