"""Which method runs, why, and what it is predicted to cost."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

from . import _core
from ._inputs import options
from ._inputs.memory import format_bytes
from ._inputs.options import Options
from .errors import OptionError

__all__ = ["Plan"]

# Fields that are a size of a method, and the largest there are.
SIZES = {
    "degree": options.MAX_DEGREE, "samples": sys.maxsize, "features": sys.maxsize,
    "exact_rows": sys.maxsize,
}  # fmt: skip
# Fields that a decision of the core has as well.
DECIDED = ("method", *SIZES, "predicted_error", "reason")
# A forecast may be of more than any machine has, as that of an absurd shape is.
MAX_BYTES = 2**128
# Options that a plan keeps for those who replay it.
ASKED = ("rtol", "atol", "norm", "method", "degree", "certificate", "rng")


def beside(given: Options, plan: object) -> Options:
    """The same with what a plan was asked for in the place of what is left at its default."""
    if plan is None:
        return given
    if not isinstance(plan, Plan):
        raise options.wrong_type("plan", plan, "a Plan or None")
    plan.__post_init__()
    kept = {name for name in ASKED if _is_default(given, name)}
    if plan._asked is not None:
        return given._replace(**{name: getattr(plan._asked, name) for name in kept})
    # A plan made by hand names its method where no tolerance says what else would do.
    if plan.degree is None or not {"rtol", "atol", "method", "degree"} <= kept:
        return given
    return given._replace(method=plan.method, degree=plan.degree)


def _is_default(given: Options, name: str) -> bool:
    """Whether an option was left at its default; an array has no truth value, and is none."""
    value, default = getattr(given, name), Options._field_defaults[name]
    return type(value) is type(default) and bool(value == default)


@dataclass
class Reuse:
    """Moments that a plan keeps from one execution for the next, and the choices behind them."""

    made_from: tuple[object, ...] = ()
    prepared: _core.Prepared | None = None


@dataclass(frozen=True)
class Plan:
    """A decision that can be read before it is carried out, and carried out again.

    ``explain()`` says all of it in words; docs/api/results.md explains every field.
    """

    method: str
    """The method chosen."""
    degree: int | None = None
    """Degree of the polynomial; None for the exact method."""
    samples: int | None = None
    """Rows that are computed exactly to certify; None for the exact method."""
    features: int | None = None
    """Number of features; None for the exact method."""
    exact_rows: int | None = None
    """Query rows that are computed exactly because the approximation is not trusted with them;
    known once it has been run. None for the exact method.
    """
    predicted_seconds: float = 0.0
    """Seconds, from a count of operations and what calls of this process took so far. It never
    decides anything about the result.
    """
    predicted_error: float = 0.0
    """Relative error beyond rounding: truncation and sampling. 0 for exact."""
    peak_bytes: int = 0
    """Bytes above the inputs at the peak: private copies, buffers and outputs."""
    reason: str = ""
    """Why this method."""
    # The function that it is a plan of, with everything filled in but what `execute` is given.
    _call: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    _reuse: Reuse | None = field(default=None, repr=False, compare=False)
    _asked: Options | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what means nothing, by an OptionError or OptionTypeError that names the field."""
        method = options.choice("plan.method", self.method, options.METHODS)
        for name, high in SIZES.items():
            if (value := getattr(self, name)) is not None:
                expected = f"an integer from 0 to {high}, or None"
                options.integer(f"plan.{name}", value, expected, 0, high)
                if method == "exact":
                    raise OptionError(f"plan.{name}: found {value} for method 'exact'; use None")
        for name in ("predicted_seconds", "predicted_error"):
            value = getattr(self, name)
            if not (isinstance(value, float) and value == math.inf):
                options.real(f"plan.{name}", value, "a number >= 0", 0.0)
        options.integer("plan.peak_bytes", self.peak_bytes, "an integer >= 0", 0, MAX_BYTES)
        if not isinstance(self.reason, str):
            raise options.wrong_type("plan.reason", self.reason, "words")

    def explain(self) -> str:
        """The decision in words and numbers, one item a line.

        Examples
        --------
        >>> from attngrad_rs import Plan
        >>> plan = Plan("exact", predicted_seconds=0.5, peak_bytes=2**20, reason="rtol is None")
        >>> print(plan.explain())
        method            exact, because rtol is None
        predicted time    0.5 s
        predicted error   rounding only
        peak memory       1.0 MiB above the inputs
        """
        return "\n".join(f"{title:18}{text}" for title, text in self._items())

    def _items(self) -> list[tuple[str, str]]:
        sizes = [(name, getattr(self, name)) for name in SIZES]
        error = f"{self.predicted_error:.1e}" if self.predicted_error > 0.0 else "rounding only"
        because = f", because {self.reason}" if self.reason else ""
        return [
            ("method", f"{self.method}{because}"),
            *((name, str(value)) for name, value in sizes if value is not None),
            ("predicted time", f"{self.predicted_seconds:.2g} s"),
            ("predicted error", error),
            ("peak memory", f"{format_bytes(self.peak_bytes)} above the inputs"),
        ]

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        return html_table(*self._items())

    def execute(self, **changes: Any) -> Any:
        """Run the plan on the arrays that it was made for, or on others.

        Parameters
        ----------
        **changes
            Any argument of the function that it is a plan of, by name, in place of the one the plan
            was made with. Arrays are read anew at each call. Where keys, values and weights hold
            the numbers that they held at the last execution, the moments made from them are used
            again. A plan of ``attention_vjp`` is given ``dout`` here.

        Returns
        -------
        GradientResult or AttentionGradients
            The result of that function.

        Raises
        ------
        OptionError
            If the plan cannot be run: one made by hand. A plan that came with a result holds no
            arrays (it would keep them alive): give them all.
        AttnGradError
            Any error of that function.
        """
        if self._call is None:
            raise OptionError(
                "execute: found a plan that is not attached to arrays; "
                "pass it to loss_gradient or attention_vjp with plan="
            )
        # Every option is there already, or changed: what is at its default is meant so.
        return self._call(plan=replace(self, _asked=Options()), **changes)

    def decision(self) -> _core.Decision:
        """The plan as the core takes it.

        Raises OptionError if it cannot be run: it lacks its degree.
        """
        if self.method == "polynomial" and self.degree is None:
            raise OptionError(
                f"plan.degree: found None for method 'polynomial'; expected {options.DEGREE}"
            )
        return _core.Decision(
            method=self.method, degree=self.degree, samples=self.samples, features=self.features,
            predicted_error=self.predicted_error, operations=math.inf, reason=self.reason,
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the arrays, which pickling drops."""
        return {**self.__dict__, "_call": None, "_reuse": None}


def html_table(*items: tuple[str, str]) -> str:
    """Titles and texts as a table of two columns."""
    rows = (f"<tr><th>{escape(title)}</th><td>{escape(text)}</td></tr>" for title, text in items)
    return f"<table>{''.join(rows)}</table>"
