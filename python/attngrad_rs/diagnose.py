"""Statistics of queries and keys, and the planner's answer for a gradient to an accuracy.

Figures, findings and advice are the core's (``attngrad::diagnose`` in Rust), by the law that plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._inputs import arrays, options
from ._inputs.signatures import documented
from .features import ExpFeatures, one_head
from .plans import Plan
from .problem import plan_loss_gradient
from .results import public_fields

__all__ = ["Diagnosis", "Prediction", "diagnose", "explain_problem"]


@dataclass(frozen=True)
class Prediction:
    """The planner's answer to one accuracy, and what the sampled logits say of it."""

    rtol: float
    """The accuracy."""
    method: str
    """The method that ``method="auto"`` plans for it."""
    degree: int | None
    """Degree of its polynomial; None for the exact method."""
    features: int | None
    """Number of monomials; None for the exact method."""
    error: float
    """The error beyond rounding that the planner expects; 0 for the exact method."""
    reason: str
    """Why this method, in the planner's words."""
    smallest_degree: int | None
    """Smallest degree whose polynomial is within ``rtol`` of exp on the sampled logits (eq. 10.7),
    whatever it costs; None if none up to 10 is.
    """
    least_error: float
    """The error reached at that degree; without one, the least that was reached."""


@dataclass(frozen=True)
class Diagnosis:
    """Statistics of queries and keys, and the planner's answers for them.

    ``regime`` and ``advice`` say what they come to. docs/api/results.md explains every field.
    """

    n: int
    """Number of queries."""
    m: int
    """Number of keys."""
    width: int
    """E, the entries of each."""
    scale: float
    """s."""
    largest_query: float
    """Largest entry of the queries, in absolute value."""
    largest_key: float
    """The same of the keys."""
    B: float
    """The paper's bound of the entries, √(abs(s) E · largest_query · largest_key), at the paper's
    s = 1/E their geometric mean: no logit exceeds B².
    """
    threshold_ratio: float
    """B / √(log n): the paper's near-linear algorithm requires it to be small."""
    logit_bound: float
    """No logit of centred queries and keys exceeds it (Cauchy and Schwarz)."""
    logit_std: float
    """Standard deviation of the centred logits, sampled."""
    logit_range: tuple[float, float]
    """Smallest and largest of the sampled centred logits."""
    spectrum: tuple[float, ...]
    """Second moments of the balanced coordinates, falling; their squares add up to the variance of
    the logits.
    """
    effective_rank: float
    """(Σ σ²)² / Σ σ⁴ of the spectrum σ: how many directions carry the logits."""
    predictions: tuple[Prediction, ...]
    """For the accuracies 0.1, 0.01 and 0.001, of the gradient with respect to X."""
    regime: str
    """``"near-linear"`` where the planner takes a near-linear method at 0.01, ``"borderline"``
    where it does at 0.1 only, and ``"exact"``.
    """
    findings: tuple[str, ...]
    """Obstacles, in words."""
    advice: str
    """The next step, in words."""
    _text: str = field(repr=False)

    def explain(self) -> str:
        """All of it as text, one item a line; ``diagnose`` has an example."""
        return self._text


@documented(ExpFeatures)
def diagnose(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    *,
    scale: float | None = None,
    rng: int | np.random.Generator | None = None,
    threads: int | None = None,
) -> Diagnosis:
    """Whether gradients of softmax(scale · query keyᵀ) can be had in near-linear time, and how.

    The answers are those of the planner, for the gradient of the loss with respect to X where
    values and target are as wide as the keys; ``plan_loss_gradient`` gives them for any problem,
    and ``plan`` those for ``attention_vjp``, which has to certify more.

    Parameters
    ----------
    query, key : array_like, (n, E), (m, E)
        One head; both float32 or both float64.
    scale, rng, threads
        As in ``ExpFeatures``.

    Returns
    -------
    Diagnosis
        Statistics, predictions, regime and advice; ``explain()`` puts them in words.

    Raises
    ------
    AttnGradError
        ShapeError, DTypeError, NonFiniteError name the array, OptionError, OptionTypeError the
        option; RangeError where logits leave the range of the dtype.

    Notes
    -----
    Source: docs/math.md, eq. (10.1), (10.2), (10.7), and section 11. Cost O((n + m) E²), a fixed
    sample of pairs, and one plan for each accuracy.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> rng = np.random.default_rng(0)
    >>> found = ag.diagnose(*rng.uniform(-1, 1, (2, 50_000, 4)), scale=0.25)
    >>> print(found.explain().splitlines()[-2])
    regime            near-linear
    >>> ag.diagnose(*rng.uniform(-9, 9, (2, 50_000, 4)), scale=0.25).regime
    'exact'
    """
    seed = options.rng(rng) or 0
    workers, s = options.number("threads", threads), options.number("scale", scale)
    copies = one_head("diagnose", query, key, workers)
    return _wrapped(_core.diagnose(*copies, s, seed, _core.Options(threads=workers)))


def explain_problem(
    arguments: Mapping[str, Any], wrt: Sequence[options.Input], rtol: float, threads: int | None
) -> tuple[Diagnosis, Plan]:
    """The diagnosis of the queries and keys of a problem, and the plan for its gradients.

    ``arguments`` are arrays of ``loss_gradient``, and ``scale`` and ``is_causal`` where they are
    not the default; ``wrt`` and ``rtol`` are its options. The diagnosis holds what is planned for
    the problem, for ``rtol`` as well, so that it and the plan are one answer. Cost and errors are
    those of ``diagnose`` and ``plan_loss_gradient``.
    """
    # First: it checks all arguments.
    plan = plan_loss_gradient(**arguments, wrt=wrt, rtol=rtol, threads=threads)
    problem = arrays.read_problem(*(arguments[name] for name in ("A1", "A2", "A3", "X", "Y", "E")))
    copies = arrays.snapshots(problem.arrays, problem.dtype, finite=True, threads=threads)
    scale, is_causal = arguments.get("scale"), arguments.get("is_causal", False)
    given = _core.Problem(**copies, scale=scale, is_causal=is_causal)
    control = _core.Options(threads=threads)
    return _wrapped(_core.diagnose_problem(given, list(wrt), [rtol], 0, control)), plan


def _wrapped(found: _core.Diagnosis) -> Diagnosis:
    own = public_fields(Diagnosis, found)
    own["predictions"] = [Prediction(**public_fields(Prediction, one)) for one in found.predictions]
    for name in ("predictions", "spectrum", "findings"):
        own[name] = tuple(own[name])
    return Diagnosis(**own, _text=found.text)
