"""Which method runs, why, and what it is predicted to cost."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import arguments
from .errors import OptionError, OptionTypeError
from .memory import format_bytes

if TYPE_CHECKING:
    from .calls import Reuse
    from .methods import Decision
    from .results import GradientResult

__all__ = ["Plan"]


def _same(given: object, usual: object) -> bool:
    """Whether an option was left at its default; an array has no truth value, and is none."""
    return type(given) is type(usual) and bool(given == usual)


class Asked(NamedTuple):
    """What was asked for where a plan was made; the defaults are those of ``loss_gradient``."""

    rtol: object = None
    atol: object = 0.0
    norm: object = "fro"
    certificate: object = "any"
    method: object = "auto"
    degree: object = None
    rng: object = None

    def beside(self, plan: object) -> Asked:
        """The same with what the plan was asked for in the place of what is left at its default."""
        if not isinstance(plan, Plan):
            return self
        plan._check()
        if plan._asked is None:
            return self._named_by(plan)
        pairs = zip(self, Asked(), plan._asked, strict=True)
        return Asked(
            *(planned if _same(given, usual) else given for given, usual, planned in pairs)
        )

    def _named_by(self, plan: Plan) -> Asked:
        """A plan made by hand names its method where no tolerance says what else would do."""
        usual = Asked()
        free = all(
            _same(getattr(self, name), getattr(usual, name))
            for name in ("rtol", "atol", "method", "degree")
        )
        if not free or plan.degree is None:
            return self
        return self._replace(method=plan.method, degree=plan.degree)


# Fields that are a size of a method, with their ranges.
SIZES = (
    ("degree", 0, arguments.MAX_DEGREE),
    ("samples", 0, sys.maxsize),
    ("features", 0, sys.maxsize),
    ("exact_rows", 0, sys.maxsize),
)
# A forecast may be of more than any machine has, as that of an absurd shape is.
MAX_BYTES = 2**128


@dataclass(frozen=True)
class Plan:
    """A decision that can be read before it is carried out, and carried out again.

    Attributes
    ----------
    method : str
        The method chosen.
    degree, rank, samples : int or None
        Its size, where it has one; None for the exact method.
    skip : float or None
        Softmax mass that may be dropped per row; None for the exact method.
    features : int or None
        Number of features, or landmarks; None for the exact method.
    exact_rows : int or None
        Query rows that are computed exactly because the approximation is not trusted with them;
        known once it has been run. None for the exact method.
    predicted_seconds : float
        From a count of operations and the machine's rate: the first three calls of
        ``plan_loss_gradient`` look at it for up to 50 ms each, and what calls of
        ``loss_gradient`` took lately is remembered. It never decides anything about the result.
    predicted_error : float
        Relative error beyond rounding: truncation, sampling, skipped mass. 0 for exact.
    peak_bytes : int
        Memory above the inputs at the peak: private copies, buffers and outputs.
    reason : str
        Why this method.
    """

    method: str
    degree: int | None = None
    rank: int | None = None
    samples: int | None = None
    skip: float | None = None
    features: int | None = None
    exact_rows: int | None = None
    predicted_seconds: float = 0.0
    predicted_error: float = 0.0
    peak_bytes: int = 0
    reason: str = ""
    # A call of loss_gradient with everything filled in but what `execute` is given.
    _call: Callable[..., GradientResult] | None = field(default=None, repr=False, compare=False)
    _reuse: Reuse | None = field(default=None, repr=False, compare=False)
    _asked: Asked | None = field(default=None, repr=False, compare=False)
    # The function that it describes, where that is not loss_gradient.
    _of: str = field(default="", repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises
        ------
        OptionError, OptionTypeError
            The message names the field.
        """
        self._check()

    def _check(self) -> None:
        from .methods import METHODS

        method = arguments.choice("plan.method", self.method, tuple(METHODS))
        for name, low, high in SIZES:
            value = getattr(self, name)
            if value is None:
                continue
            wanted = f"an integer from {low} to {high}, or None,"
            number = arguments.integer(f"plan.{name}", value, low, high, wanted)
            if method == "exact":
                raise OptionError(
                    f"plan.{name}: found {number} for method 'exact', which has no size; "
                    "None is wanted"
                )
        for name in ("rank", "skip"):
            if getattr(self, name) is not None:
                raise OptionError(
                    f"plan.{name}: found {arguments.show(getattr(self, name))}; None is wanted: "
                    f"no method has a {name} yet"
                )
        for name in ("predicted_seconds", "predicted_error"):
            value = getattr(self, name)
            if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
                shown = arguments.show_type(value)
                raise OptionTypeError(f"plan.{name}: found {shown}; a number >= 0 is wanted")
            if not float(value) >= 0.0:
                raise OptionError(f"plan.{name}: found {value}; a number >= 0 is wanted")
        arguments.integer("plan.peak_bytes", self.peak_bytes, 0, MAX_BYTES, "an integer >= 0")
        if not isinstance(self.reason, str):
            shown = arguments.show_type(self.reason)
            raise OptionTypeError(f"plan.reason: found {shown}; words are wanted")

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
        sizes = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name in ("degree", "rank", "samples", "skip", "features", "exact_rows")
        }
        chosen = [f"{name:18}{value}" for name, value in sizes.items() if value is not None]
        error = f"{self.predicted_error:.1e}" if self.predicted_error > 0.0 else "rounding only"
        because = f", because {self.reason}" if self.reason else ""
        return "\n".join(
            [
                f"{'method':18}{self.method}{because}",
                *chosen,
                f"{'predicted time':18}{self.predicted_seconds:.2g} s",
                f"{'predicted error':18}{error}",
                f"{'peak memory':18}{format_bytes(self.peak_bytes)} above the inputs",
            ]
        )

    def execute(self, **changes: Any) -> GradientResult:
        """Run the plan on the arrays that it was made for, or on others.

        Parameters
        ----------
        **changes
            Any argument of ``loss_gradient`` by name, in place of the one the plan was made with.
            Arrays are read anew at each call. Where keys, values and weights hold the numbers that
            they held at the last execution, the moments made from them are used again.

        Returns
        -------
        GradientResult
            What ``loss_gradient`` returns.

        Raises
        ------
        OptionError
            If the plan cannot be run: one made by hand, or by ``attention_vjp``. A plan that came
            with a result holds no arrays (it would keep them alive): give them all.
        AttnGradError
            Whatever ``loss_gradient`` raises.
        """
        if self._call is None:
            if self._of:
                raise OptionError(
                    f"execute: found a plan of {self._of}, which only describes it; "
                    f"call {self._of} with the same arguments"
                )
            raise OptionError(
                "execute: found a plan that is not attached to arrays; "
                "pass it to loss_gradient with plan="
            )
        # Every option is there already, or changed: what is at its default is meant so.
        return self._call(plan=replace(self, _asked=Asked()), **changes)

    def decision(self, rows: int) -> Decision:
        """The plan as the methods understand it, for so many query rows.

        Raises
        ------
        OptionError, OptionTypeError
            If it cannot be run: it came from a file that was changed, or lacks its degree.
        """
        from .methods import Decision

        self._check()
        if self.method == "polynomial" and self.degree is None:
            raise OptionError(
                "plan.degree: found None for method 'polynomial'; "
                f"an integer from 0 to {arguments.MAX_DEGREE} is wanted"
            )
        return Decision(
            self.method,
            self.degree,
            None if self.samples is None else min(self.samples, rows),
            self.exact_rows,
            self.features,
            self.predicted_error,
            reason=self.reason,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the arrays: a plan travels as a decision."""
        return {**self.__dict__, "_call": None, "_reuse": None}
