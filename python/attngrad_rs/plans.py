"""Which method runs, why, and what it is predicted to cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from .errors import OptionError
from .memory import format_bytes

if TYPE_CHECKING:
    from .calls import Reuse
    from .methods import Decision
    from .results import GradientResult

__all__ = ["Plan"]


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
            raise OptionError(
                "execute: found a plan that is not attached to loss_gradient; "
                "make one with plan_loss_gradient"
            )
        return self._call(plan=self, **changes)

    def decision(self) -> Decision:
        """The plan as the methods understand it."""
        from .methods import Decision

        return Decision(
            self.method,
            self.degree,
            self.samples,
            self.exact_rows,
            self.features,
            self.predicted_error,
            reason=self.reason,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the arrays: a plan travels as a decision."""
        return {**self.__dict__, "_call": None, "_reuse": None}
