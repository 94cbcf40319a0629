"""The paper's problem: loss, its gradients, and the plan to compute them."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack, overload

import numpy.typing as npt

from . import _solve
from ._inputs import options
from ._inputs.arrays import read_problem
from ._inputs.options import CallOptions, F, Input, Options, ProblemOptions
from ._inputs.signatures import accepting, documented
from .plans import Plan, beside
from .results import GradientResult

__all__ = ["loss", "loss_gradient", "plan_loss_gradient"]

Weights = npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike]


class _Options(ProblemOptions, total=False):
    wrt: Input | Sequence[Input]
    plan: Plan | None
    out: Any


@overload
def loss_gradient(
    A1: npt.NDArray[F], A2: npt.NDArray[F], A3: npt.NDArray[F],
    X: npt.NDArray[F] | tuple[npt.NDArray[F], npt.NDArray[F]], Y: npt.NDArray[F], E: npt.NDArray[F],
    **options: Unpack[_Options],
) -> GradientResult[F]: ...  # fmt: skip
@overload
def loss_gradient(
    A1: npt.ArrayLike, A2: npt.ArrayLike, A3: npt.ArrayLike,
    X: Weights, Y: npt.ArrayLike, E: npt.ArrayLike,
    **options: Unpack[_Options],
) -> GradientResult[Any]: ...  # fmt: skip
@accepting(ProblemOptions)
def loss_gradient(
    A1: npt.ArrayLike, A2: npt.ArrayLike, A3: npt.ArrayLike,
    X: Weights, Y: npt.ArrayLike, E: npt.ArrayLike,
    *,
    wrt: Input | Sequence[Input] = "X",
    plan: Plan | None = None,
    out: Any = None,
    **options: Unpack[ProblemOptions],
) -> GradientResult[Any]:  # fmt: skip
    """Gradient of the attention loss L = ½‖D⁻¹ exp(s·A1 X A2ᵀ) A3 Y − E‖²_F.

    With ``atol=ε, norm="max"`` it is AAttLGC(n, d, ε), the problem of Alman & Song (arXiv
    2402.04497, Definition 1.4): all entries of dL/dX within ε. B is that of the paper.

    Parameters
    ----------
    A1 : array_like, (n, d1)
        Inputs on the query side. All arrays are float32 or all float64, of any layout and byte
        order, and of one library: gradients are arrays of it. They are read once, at the start.
    A2 : array_like, (m, d2)
        Inputs on the key side.
    A3 : array_like, (m, d3)
        Inputs on the value side.
    X : array_like, (d1, d2), or a pair (W_Q, W_K)
        Weights of the logits. A tuple or list of two matrices (d1, k) and (d2, k) stands for
        X = W_Q W_Kᵀ.
    Y : array_like, (d3, dv)
        Weights of the values.
    E : array_like, (n, dv)
        Target.
    wrt : str or sequence of str
        The gradients are with respect to these: one or several of "X", "W_Q", "W_K", "Y", "A1",
        "A2", "A3", "A". Several share the passes. "X" requires X given as one matrix, "W_Q" and
        "W_K" as the pair; "A" is dA1 + dA2 + dA3 and requires A1, A2 and A3 to be the same object.
    scale : float, optional
        s; by default 1/d2, the paper's 1/d.
    is_causal : bool
        Query j sees the keys 0 ... j only (aligned at the top left, also where n ≠ m).
    rtol : float, optional
        Accuracy asked for: ‖ĝ − g‖ ≤ rtol·‖g‖ + atol for each gradient. With ``atol=0``, None
        asks for nothing beyond the method's own accuracy, and 0 for an exact result: an
        approximation that is named is then refused.
    atol : float
        See ``rtol``. Alone, with ``rtol`` None or 0, it is an absolute tolerance.
    norm : {"fro", "max"}
        The norm of ``rtol`` and of the certificates: Frobenius, or largest entry.
    method : {"auto", "exact", "polynomial"}
        "auto" takes the cheapest method that reaches the tolerance, and says why in ``.plan``;
        where no method does, because rounding is large beside the gradient, the exact result is
        returned with ``success=False`` and a PrecisionWarning. "polynomial" puts a polynomial in
        the place of exp: near-linear in n and m, for small logits.
    degree : int, optional
        Degree of the polynomial, for ``method="polynomial"``; without it, ``rtol`` decides. With a
        degree and ``rtol=None`` the result is what that degree gives, and its certificate the
        rigorous bound that comes with it (infinite where it must be); in float32 its last terms may
        then be sums of 16-bit integers, where those lose less than the polynomial misses
        (docs/math.md, equation 8.13).
    certificate : {"any", "estimated", "statistical", "rigorous"}
        Ask for at least that kind of certificate; an exact result serves for each. Of a degree that
        is named, "statistical" and "rigorous" certify the gradient that "estimated" returns.
    plan : Plan, optional
        Replay a plan: its method, degree and number of rows, and what it was asked for (``rtol``,
        ``atol``, ``norm``, ``certificate``, ``method``, ``degree``, ``rng``) wherever the call
        leaves that at its default. ``Plan.execute`` does the same.
    out : array, or tuple of arrays and None, optional
        Written to, and returned, in the place of new arrays: one for each name in ``wrt``, of its
        shape and dtype and of any strides, inputs too.
    threads : int, optional
        Threads to use; by default all that the process may use. The result has the same bits for
        any number.
    rng : int or numpy.random.Generator, optional
        The seed or source of sampled rows; the exact method draws nothing. None takes a hash of the
        weights and of some rows of the arrays: the same call draws the same rows, and the next step
        of a training draws others. A stated confidence then assumes data that were not chosen by
        that hash.
    progress : callable, optional
        Called with a number that rises from 0 to 1, from the calling thread. An exception
        from it ends the computation and reaches the caller.
    timeout : float, optional
        Seconds after which to give up.
    check_finite : bool
        Refuse NaN and infinity in the inputs. If False, the inputs are not checked; the result may
        then hold NaN, or RangeError is raised.
    allow_half : bool
        Take arrays of float16 or bfloat16: they are computed with in float32, and results are
        rounded to their dtype, an error that is in the certificates. RangeError where a result is
        too large for it. NumPy has bfloat16 from ml_dtypes.
    B : float, optional
        The bound on the entries of A1 X and A2 in the paper's problem: OptionError says the largest
        entry where one is larger. ``result.B`` is that entry.

    Returns
    -------
    GradientResult
        ``.gradient`` (or ``.gradients[name]``), ``.loss``, ``.certificate``, ``.plan``.

    Raises
    ------
    ShapeError, DTypeError, NonFiniteError
        An array does not fit; the message names it, what was found and what is expected.
    OptionError, OptionTypeError
        An option does not fit.
    ToleranceError
        The method that was named misses the tolerance: ``.best_rtol`` says what it can certify,
        ``.result`` is what it computed. Or no data could reach ``rtol`` in this dtype; then
        nothing was computed.
    RangeError
        The logits, the loss or a gradient overflow the dtype.
    OutOfMemoryError, DeadlineError
        There is not enough memory, or the timeout passed.

    Notes
    -----
    Source: docs/math.md, sections on the loss and its gradients; Alman & Song, arXiv 2402.04497.
    Cost: 8 n m d operations for the gradient with respect to X, 12 n m d for all (10 and 14 where a
    row of keys is too long for what pass 1 keeps); half if causal. Memory: O((n + m) d) beside the
    inputs. With m = 0 the output is 0 and so are the gradients.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> rng = np.random.default_rng(0)
    >>> A1, A2, A3, E = (rng.standard_normal((50, 4)) for _ in range(4))
    >>> X, Y = np.eye(4), np.eye(4)
    >>> result = ag.loss_gradient(A1, A2, A3, X, Y, E)
    >>> result.gradient.shape
    (4, 4)
    >>> result.certificate.relative < 1e-9
    True
    >>> paper = ag.loss_gradient(A1, A2, A3, X, Y, E, atol=1e-6, norm="max")  # AAttLGC(50, 4, 1e-6)
    >>> paper.certificate.success, bool(paper.B == max(abs(A1).max(), abs(A2).max()))
    (True, True)
    >>> several = ag.loss_gradient(A1, A2, A3, X, Y, E, wrt=("X", "Y"))
    >>> sorted(several.gradients)
    ['X', 'Y']
    """
    start = time.perf_counter()
    given = Options.of("loss_gradient", ProblemOptions, options)
    call = _call((A1, A2, A3, X, Y, E), wrt, beside(given, plan))
    kept = call.given.to_replay().named(ProblemOptions)
    again = functools.partial(loss_gradient, wrt=call.wrt, **kept)
    return _solve.gradient(replace(call, out=out), plan, again, start)


@documented(loss_gradient)
@accepting(CallOptions)
def loss(
    A1: npt.ArrayLike, A2: npt.ArrayLike, A3: npt.ArrayLike,
    X: Weights, Y: npt.ArrayLike, E: npt.ArrayLike,
    **options: Unpack[CallOptions],
) -> float:  # fmt: skip
    """The attention loss L = ½‖D⁻¹ exp(s·A1 X A2ᵀ) A3 Y − E‖²_F alone.

    Parameters
    ----------
    **options
        As in ``loss_gradient``.

    Returns
    -------
    float
        L, of the precision of the arrays.

    Notes
    -----
    Errors: as ``loss_gradient``.
    Source: docs/math.md, section on the loss. Cost: 4 n m d operations, half if causal; memory
    O((n + m) d).

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> A = np.eye(2)
    >>> round(ag.loss(A, A, A, np.zeros((2, 2)), np.eye(2), np.zeros((2, 2))), 12)
    0.5
    """
    given = Options.of("loss", CallOptions, options)._replace(method="exact")
    # The loss alone is with respect to nothing; a name that any problem has will do.
    return _solve.loss(_call((A1, A2, A3, X, Y, E), "Y", given))


@documented(loss_gradient)
@accepting(ProblemOptions)
def plan_loss_gradient(
    A1: npt.ArrayLike, A2: npt.ArrayLike, A3: npt.ArrayLike,
    X: Weights, Y: npt.ArrayLike, E: npt.ArrayLike,
    *,
    wrt: Input | Sequence[Input] = "X",
    **options: Unpack[ProblemOptions],
) -> Plan:  # fmt: skip
    """The plan of ``loss_gradient`` for these arguments; computes nothing big.

    Parameters
    ----------
    **options
        As in ``loss_gradient``.

    Returns
    -------
    Plan
        ``.explain()`` says it in words, ``.execute()`` runs it on the arrays, which the plan keeps
        and does not copy.

    Notes
    -----
    Errors: for everything that ``loss_gradient`` would refuse before it computes.
    Cost: O(1) where the method is exact by name or by ``rtol``; the numbers are not read then.
    Otherwise the arrays are copied and some rows looked at.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> A = np.ones((100, 3))
    >>> plan = ag.plan_loss_gradient(A, A, A, np.eye(3), np.eye(3), A)
    >>> plan.method
    'exact'
    >>> plan.execute().loss < 1e-20
    True
    """
    given = Options.of("plan_loss_gradient", ProblemOptions, options)
    call = _call((A1, A2, A3, X, Y, E), wrt, given)
    again = functools.partial(
        loss_gradient, A1=A1, A2=A2, A3=A3, X=X, Y=Y, E=E, wrt=call.wrt,
        **call.given.named(ProblemOptions),
    )  # fmt: skip
    return _solve.plan(call, again)


def _call(given_arrays: tuple[object, ...], wrt: object, given: Options) -> _solve.Call:
    """A call with all of its options checked."""
    read = read_problem(*given_arrays, allow_half=given.allow_half)
    names = options.wrt_names(wrt, read.arrays)
    read.shape.check(names)
    return _solve.Call(*read, given.checked(), names)
