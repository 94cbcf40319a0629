"""Attention under the names and shapes that torch uses: output, and its vector-Jacobian product."""

from __future__ import annotations

import functools
import time
from typing import Any, Literal, Unpack, overload

import numpy.typing as npt

from . import _solve
from ._inputs.arrays import Array
from ._inputs.options import F, HeadOptions, Options, flag
from ._inputs.signatures import accepting, documented
from .plans import Plan, beside
from .problem import loss_gradient
from .results import AttentionGradients, AttentionResult

__all__ = ["attention", "attention_vjp", "plan"]


@overload
def attention(
    query: npt.NDArray[F], key: npt.NDArray[F], value: npt.NDArray[F],
    *,
    return_lse: Literal[False] = False,
    return_certificate: Literal[False] = False,
    out: Any = None,
    **options: Unpack[HeadOptions],
) -> npt.NDArray[F]: ...  # fmt: skip
@overload
def attention(
    query: npt.NDArray[F], key: npt.NDArray[F], value: npt.NDArray[F],
    *,
    return_lse: Literal[True],
    return_certificate: Literal[False] = False,
    out: Any = None,
    **options: Unpack[HeadOptions],
) -> tuple[npt.NDArray[F], npt.NDArray[F]]: ...  # fmt: skip
@overload
def attention(
    query: npt.NDArray[F], key: npt.NDArray[F], value: npt.NDArray[F],
    *,
    return_lse: bool = False,
    return_certificate: Literal[True],
    out: Any = None,
    **options: Unpack[HeadOptions],
) -> AttentionResult[F]: ...  # fmt: skip
@overload
def attention(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike,
    *,
    return_lse: Literal[False] = False,
    return_certificate: Literal[False] = False,
    out: Any = None,
    **options: Unpack[HeadOptions],
) -> Array: ...  # fmt: skip
@overload
def attention(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike,
    *,
    return_lse: Literal[True],
    return_certificate: Literal[False] = False,
    out: Any = None,
    **options: Unpack[HeadOptions],
) -> tuple[Array, Array]: ...  # fmt: skip
@overload
def attention(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike,
    *,
    return_lse: bool = False,
    return_certificate: Literal[True],
    out: Any = None,
    **options: Unpack[HeadOptions],
) -> AttentionResult[Any]: ...  # fmt: skip
@documented(loss_gradient)
@accepting(HeadOptions)
def attention(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike,
    *,
    return_lse: bool = False,
    return_certificate: bool = False,
    out: Any = None,
    **options: Unpack[HeadOptions],
) -> Array | tuple[Array, Array] | AttentionResult[Any]:  # fmt: skip
    """Softmax attention, softmax(scale · query keyᵀ) value.

    Parameters
    ----------
    query : array_like, (..., H, L, E)
        All arrays are float32 or all float64, of any layout and byte order, and of one library:
        results are arrays of it. They are read where they are, so that nobody may write to them
        during the call.
    key : array_like, (..., H, S, E)
        The leading dimensions of all arrays are equal, unless ``enable_gqa`` says otherwise.
    value : array_like, (..., H, S, Ev)
        Ev may differ from E.
    return_lse : bool
        Whether the logarithm of the normaliser of each row is returned beside the output; both
        together save ``attention_vjp`` the forward pass. The exact method alone has it.
    out : array, or pair of arrays and None, optional
        Written to, and returned, in the place of a new array: of the shape and dtype of the result
        and of any strides, inputs too. With ``return_lse`` a pair.
    return_certificate : bool
        Whether an ``AttentionResult`` is returned, with ``.output``, ``.lse``, ``.certificate`` and
        ``.plan``.
    is_causal : bool
        Query j sees the keys 0 ... j only (aligned at the top left, also where L ≠ S).
    scale : float, optional
        By default 1/√E.
    enable_gqa : bool
        Grouped queries: key and value may have Hk heads where H is a multiple of Hk, and H/Hk
        query heads in a row share each of them. Keys are not repeated in memory.
    attn_mask : array_like of bool or of the dtype of query, optional
        Of any shape that broadcasts to (..., H, L, S). True where a query sees a key; numbers are
        added to the logits, -inf (and anything below an eighth of the lowest number) hides a key.
        It is read where it is, tile by tile, and tiles that it hides are not computed. Not together
        with ``is_causal``.
    window : (int, int), optional
        A query sees the key on the diagonal and so many before and after it; -1 is all of them.
        With ``is_causal`` none after it.
    key_lengths : array_like of int, optional
        How many keys each batch has, of any shape that broadcasts to the leading dimensions but the
        last, which counts heads: the keys from there on may hold anything.
    cu_seqlens : array_like of int, or a pair, optional
        Sequences of unequal length, packed one after the other along L and S: 0, the end of the
        first, and so on up to L; a pair where those of keys differ. Queries see keys of their own
        sequence. Not together with ``key_lengths``.
    causal_align : {"top-left", "bottom-right"}
        Where the diagonal of ``is_causal`` and ``window`` begins or ends: at the first query and
        key, as in torch, or at the last query and the last key that there is, as in FlashAttention;
        of each sequence where there are several.
    dropout_p : float
        0.0: an OptionError for more.
    rtol
        As in ``loss_gradient``.
        Here the tolerance is for the output, over all heads together.
    **options
        As in ``loss_gradient``.
    method : {"auto", "exact", "polynomial"}
        "auto" is the cheapest that is expected to reach the tolerance. "polynomial" puts a
        polynomial in the place of exp, near-linear in L and S, for small logits; a head with too
        many rows beyond it is computed exactly. ``is_causal`` is the only mask that it has, and it
        has no ``return_lse``.
    degree
        As in ``loss_gradient``.
        With ``is_causal`` that bound is always infinite.

    Returns
    -------
    ndarray, (..., H, L, Ev)
        Of the inputs' dtype in native byte order; zeros for queries that see nothing. With
        ``return_lse`` a pair: this, and ln Σ exp(logit) over the keys that each query sees,
        (..., H, L), -inf where there are none, of float32 also where the inputs are of half
        precision. With ``return_certificate`` an ``AttentionResult``.

    Notes
    -----
    Errors: as ``loss_gradient``; the message names the argument. A tolerance that a method named
    misses is a ToleranceError whether a certificate is returned or not. Keys and queries that masks
    leave out entirely have no effect, whatever they hold; ``check_finite`` looks at what is left,
    and where ``is_causal`` is the only mask at all.
    Source: docs/math.md, sections on attention and on the output. Cost: 2 (E + Ev) operations for
    each query and key that it sees, of each head; memory O((L + S)(E + Ev)) beside the inputs.
    Polynomial: 2 (L + S) N (Ev + 1) with N = C(E + g, g) features for degree g, and 2 (E + Ev)
    operations for each key of a sampled row. ``attn_mask`` costs
    some operations for each of its entries between the first and the last key of a query.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> q = np.zeros((2, 3, 4))
    >>> v = np.arange(6.0).reshape(2, 3, 1)
    >>> ag.attention(q, q, v, is_causal=True)[0].ravel()
    array([0. , 0.5, 1. ])
    >>> ag.attention(q, q, v, return_lse=True)[1][0].round(3)
    array([1.099, 1.099, 1.099])
    >>> ag.attention(q, q, v, attn_mask=np.array([True, False, True]))[0].ravel()
    array([1., 1., 1.])
    >>> ag.attention(q, q, v, cu_seqlens=[0, 1, 3])[0].ravel()
    array([0. , 1.5, 1.5])
    >>> near = ag.attention(q, q, v, method="polynomial", degree=1, return_certificate=True)
    >>> near.certificate.kind, near.certificate.success
    ('rigorous', None)
    """
    start = time.perf_counter()
    given = Options.of("attention", HeadOptions, options)
    has_lse, has_more = (
        flag("return_lse", return_lse),
        flag("return_certificate", return_certificate),
    )
    heads = _solve.Heads({"query": query, "key": key, "value": value}, given)
    if has_more or heads.given.is_certified:
        result = _solve.certified_attention(heads, has_lse, start, out)
        if has_more:
            return result
        return result.output if result.lse is None else (result.output, result.lse)
    found: Array | tuple[Array, Array] = _solve.attention(heads, has_lse, out)
    return found


class _Options(HeadOptions, total=False):
    out: Any
    plan: Plan | None
    output: npt.ArrayLike | None
    lse: npt.ArrayLike | None


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
@accepting(HeadOptions)
def attention_vjp(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike, dout: npt.ArrayLike,
    *,
    output: npt.ArrayLike | None = None,
    lse: npt.ArrayLike | None = None,
    plan: Plan | None = None,
    out: Any = None,
    **options: Unpack[HeadOptions],
) -> AttentionGradients[Any]:  # fmt: skip
    """Gradients of attention: dq, dk, dv for an incoming gradient ``dout`` of the output.

    Parameters
    ----------
    query, key, value
        As in ``attention``.
    dout : array_like, (..., H, L, Ev)
        Gradient of a scalar with respect to the output of ``attention``.
    output, lse : array_like, optional, (..., H, L, Ev) and (..., H, L)
        Both results of ``attention(..., return_lse=True)`` for the same inputs and options. Without
        a tolerance the forward pass is then not done again: that they belong to the inputs is not
        checked, and their own errors are not in the certificates. With one it is, as certificates
        that are held against a tolerance are made of what it finds. The exact method only.
    out : tuple of arrays and None, optional
        Written to, and returned, in the place of new arrays: for dq, dk and dv, of their shapes and
        dtype and of any strides, inputs too.
    is_causal, scale, enable_gqa
        As in ``attention``.
    attn_mask, window, key_lengths, cu_seqlens, causal_align, dropout_p
        As in ``attention``.
    rtol
        As in ``loss_gradient``.
        The tolerance is for dq, dk and dv each, over all heads together.
    **options
        As in ``loss_gradient``.
    method : {"auto", "exact", "polynomial"}
        "auto" is the cheapest that is expected to reach the tolerance for every head, and exact
        with ``enable_gqa`` where keys are shared, and with ``output`` and ``lse``. "polynomial"
        puts a polynomial in the place of exp, near-linear in L and S, for small logits; all heads
        are looked at before its degree is chosen, and a head with too many rows beyond it is
        computed exactly. ``is_causal`` is the only mask that it has.
    degree
        As in ``loss_gradient``.
        With ``is_causal`` that bound is always infinite.

    Returns
    -------
    AttentionGradients
        Unpacks as three arrays shaped like query, key and value; ``.certificate``,
        ``.certificates``, ``.plan``. With ``enable_gqa`` dk and dv are sums over the query heads
        that share a key head, in their order. Zeros for queries that see nothing, and for keys
        that no query sees.

    Notes
    -----
    Errors: as ``loss_gradient``; the message names the argument.
    Source: docs/math.md, section on the vector-Jacobian product. Cost: 12 L S E operations for each
    head (E = Ev), 10 with ``output`` and ``lse``, half if causal; memory O((L + S)(E + Ev)) for
    each thread beside inputs and outputs, and with ``enable_gqa`` dk and dv of each query head.
    Without a tolerance the certificates of heads of fewer than 512 rows come from the sizes of
    rows alone, as if all were alike, and are larger by far than with one; with ``output`` and
    ``lse`` they always do. Polynomial, section on the moment form: 4 (L + S) N (Ev + 1) with
    N = C(E + g + 1, g + 1) features for degree g, and memory O(N Ev) more. The certificate of
    several heads is as weak as the weakest of theirs.

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
    given = Options.of("attention_vjp", HeadOptions, options)
    named: dict[str, object] = {"query": query, "key": key, "value": value, "dout": dout}
    named.update(_solve.saved(output, lse))
    heads = _solve.Heads(named, beside(given, plan))
    return _solve.pull_back(heads, plan, attention_vjp, start, out)


@documented(attention_vjp)
@accepting(HeadOptions)
def plan(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike,
    **options: Unpack[HeadOptions],
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
    heads = _solve.Heads(named, Options.of("plan", HeadOptions, options))
    given = heads.given.named(HeadOptions)
    return _solve.plan(heads, functools.partial(attention_vjp, **named, **given))
