"""Attention under the names and shapes that torch uses: output, and its vector-Jacobian product."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, Unpack, overload

import numpy.typing as npt

from . import _solve
from ._inputs.arrays import Array, read_heads
from ._inputs.options import CallOptions, F, GradientOptions, Options
from ._inputs.signatures import accepting, documented
from .plans import Plan, beside
from .problem import loss_gradient
from .results import AttentionGradients

__all__ = ["attention", "attention_vjp", "plan"]


@overload
def attention(
    query: npt.NDArray[F], key: npt.NDArray[F], value: npt.NDArray[F],
    **options: Unpack[CallOptions],
) -> npt.NDArray[F]: ...  # fmt: skip
@overload
def attention(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike,
    **options: Unpack[CallOptions],
) -> Array: ...  # fmt: skip
@documented(loss_gradient)
@accepting(CallOptions)
def attention(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike,
    **options: Unpack[CallOptions],
) -> Array:  # fmt: skip
    """Softmax attention, softmax(scale · query keyᵀ) value.

    Parameters
    ----------
    query : array_like, (..., L, E)
        All arrays are float32 or all float64, of any layout and byte order.
    key : array_like, (..., S, E)
        The leading dimensions of all arrays are equal.
    value : array_like, (..., S, Ev)
        Ev may differ from E.
    is_causal : bool
        Query j sees the keys 0 ... j only (aligned at the top left, also where L ≠ S).
    scale : float, optional
        By default 1/√E.
    **options
        As in ``loss_gradient``.

    Returns
    -------
    ndarray, (..., L, Ev)
        Of the inputs' dtype in native byte order; zeros where S = 0.

    Notes
    -----
    Errors: as ``loss_gradient``; the message names the argument.
    Source: docs/math.md, section on attention. Cost: 2 L S (E + Ev) operations for each head, half
    if causal; memory O((L + S)(E + Ev)) beside the inputs.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> q = np.zeros((2, 3, 4))
    >>> v = np.arange(6.0).reshape(2, 3, 1)
    >>> ag.attention(q, q, v, is_causal=True)[0].ravel()
    array([0. , 0.5, 1. ])
    """
    given = Options.of("attention", CallOptions, options)._replace(method="exact")
    return _solve.attention(_heads({"query": query, "key": key, "value": value}, given))


class _Options(GradientOptions, total=False):
    plan: Plan | None


@overload
def attention_vjp(
    query: npt.NDArray[F], key: npt.NDArray[F], value: npt.NDArray[F], dout: npt.NDArray[F],
    **options: Unpack[_Options],
) -> AttentionGradients[F]: ...  # fmt: skip
@overload
def attention_vjp(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike, dout: npt.ArrayLike,
    **options: Unpack[_Options],
) -> AttentionGradients[Any]: ...  # fmt: skip
@documented(loss_gradient, attention)
@accepting(GradientOptions)
def attention_vjp(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike, dout: npt.ArrayLike,
    *,
    plan: Plan | None = None,
    **options: Unpack[GradientOptions],
) -> AttentionGradients[Any]:  # fmt: skip
    """Gradients of attention: dq, dk, dv for an incoming gradient ``dout`` of the output.

    Parameters
    ----------
    query, key, value
        As in ``attention``.
    dout : array_like, (..., L, Ev)
        Gradient of a scalar with respect to the output of ``attention``.
    is_causal, scale
        As in ``attention``.
    rtol
        As in ``loss_gradient``.
        The tolerance is for dq, dk and dv each, over all heads together.
    **options
        As in ``loss_gradient``.
    method : {"auto", "exact", "polynomial"}
        "auto" is exact for every tolerance: dk and dv are certified by nothing cheaper.
        "polynomial" puts a polynomial in the place of exp, near-linear in L and S, for small
        logits; all heads are looked at before its degree is chosen, and a head with too many rows
        beyond it is computed exactly.
    degree
        As in ``loss_gradient``.
        With ``is_causal`` that bound is always infinite.

    Returns
    -------
    AttentionGradients
        Unpacks as three arrays shaped like query, key and value; ``.certificate``,
        ``.certificates``, ``.plan``.

    Notes
    -----
    Errors: as ``loss_gradient``; the message names the argument.
    Source: docs/math.md, section on the vector-Jacobian product. Cost: 12 L S E operations for each
    head (E = Ev), half if causal; memory O((L + S)(E + Ev)) beside the inputs. Polynomial, section
    on the moment form: 4 (L + S) N (Ev + 1) with N = C(E + g + 1, g + 1) features for degree g, and
    memory O(N Ev) more. The certificate of several heads is as weak as the weakest of theirs.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, dout = (rng.standard_normal((2, 5, 3)) for _ in range(4))
    >>> dq, dk, dv = ag.attention_vjp(q, k, v, dout)
    >>> bool(abs(dk.sum(axis=1)).max() < 1e-12)
    True
    >>> near = ag.attention_vjp(q / 10, k / 10, v, dout, method="polynomial", degree=2)
    >>> near.certificate.kind, near.certificate.success
    ('rigorous', None)
    """
    start = time.perf_counter()
    given = Options.of("attention_vjp", GradientOptions, options)
    named = {"query": query, "key": key, "value": value, "dout": dout}
    heads = _heads(named, beside(given, plan))
    again = functools.partial(attention_vjp, **heads.given.to_replay().named(GradientOptions))
    return _solve.pull_back(heads, plan, again, start)


@documented(attention_vjp)
@accepting(GradientOptions)
def plan(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike,
    **options: Unpack[GradientOptions],
) -> Plan:  # fmt: skip
    """The plan of ``attention_vjp`` for these shapes; computes nothing big.

    Parameters
    ----------
    **options
        As in ``attention_vjp``.

    Returns
    -------
    Plan
        ``.explain()`` says it in words, ``.execute(dout=...)`` runs it.

    Notes
    -----
    Errors: as ``attention_vjp``.
    Cost: O(1), from shapes and dtype alone; for the polynomial method a copy of all heads and a
    look at some rows of each.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> q = np.zeros((2, 100, 8))
    >>> ag.plan(q, q, q, rtol=1e-3).method
    'exact'
    """
    named = {"query": query, "key": key, "value": value}
    heads = _heads(named, Options.of("plan", GradientOptions, options))
    given = heads.given.named(GradientOptions)
    return _solve.plan(heads, functools.partial(attention_vjp, **named, **given))


def _heads(named: Mapping[str, object], given: Options) -> _solve.Heads:
    """A call with all of its options checked."""
    return _solve.Heads(*read_heads(named), given.checked(), tuple(_solve.HEAD_INPUTS))
