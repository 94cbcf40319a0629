"""Second derivatives of attention, by the names and shapes that torch uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack, overload

import numpy.typing as npt

from . import _solve
from ._inputs.arrays import Array
from ._inputs.options import F, MaskOptions, Options
from ._inputs.signatures import accepting, documented
from .attention import attention, attention_vjp
from .problem import loss_gradient

__all__ = ["attention_hvp", "attention_jvp"]


class _Options(MaskOptions, total=False):
    out: Any
    output: npt.ArrayLike | None
    lse: npt.ArrayLike | None


class _HessianOptions(_Options, total=False):
    ddout: npt.ArrayLike | None


@overload
def attention_jvp(
    query: npt.NDArray[F], key: npt.NDArray[F], value: npt.NDArray[F],
    dquery: npt.NDArray[F], dkey: npt.NDArray[F], dvalue: npt.NDArray[F],
    **options: Unpack[_Options],
) -> tuple[npt.NDArray[F], npt.NDArray[F]]: ...  # fmt: skip
@overload
def attention_jvp(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike,
    dquery: npt.ArrayLike, dkey: npt.ArrayLike, dvalue: npt.ArrayLike,
    **options: Unpack[_Options],
) -> tuple[Array, Array]: ...  # fmt: skip
@documented(loss_gradient, attention, attention_vjp)
@accepting(MaskOptions)
def attention_jvp(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike,
    dquery: npt.ArrayLike, dkey: npt.ArrayLike, dvalue: npt.ArrayLike,
    *,
    output: npt.ArrayLike | None = None,
    lse: npt.ArrayLike | None = None,
    out: Any = None,
    **options: Unpack[MaskOptions],
) -> tuple[Array, Array]:  # fmt: skip
    """Attention and its change in a direction: the Jacobian-vector product.

    Parameters
    ----------
    query, key, value
        As in ``attention``.
    dquery, dkey, dvalue : array_like
        The direction: of the shapes of query, key and value.
    output, lse : array_like, optional, (..., H, L, Ev) and (..., H, L)
        Both results of ``attention(..., return_lse=True)`` for the same inputs and options: the
        forward pass is then not done again. That they belong to the inputs is not checked.
    out : array, or tuple of arrays and None, optional
        Written to, and returned, in the place of new arrays: for the output and its tangent, or for
        the tangent alone where ``output`` is given. Of any strides, inputs too.
    is_causal, scale, enable_gqa
        As in ``attention``.
    attn_mask, window, key_lengths, cu_seqlens, causal_align, dropout_p
        As in ``attention``.
    **options
        As in ``loss_gradient``.

    Returns
    -------
    tuple of ndarray, (..., H, L, Ev) twice
        The output, which is ``output`` itself where that is given, and its tangent; zeros where
        S = 0.

    Notes
    -----
    Errors: as ``attention``; the message names the argument. What masks leave out has no effect,
    the direction's rows included; a query that sees nothing has a tangent of zeros.
    Source: docs/math.md, Proposition 6.3. Cost: 14 L S E operations for each head (E = Ev), 10 with
    ``output`` and ``lse``, half if causal, less with masks by what they hide; memory
    O((L + S)(E + Ev)) for each thread beside inputs and outputs.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, dq, dk, dv = (rng.standard_normal((2, 5, 3)) for _ in range(6))
    >>> output, tangent = ag.attention_jvp(q, k, v, dq, dk, dv)
    >>> moved = ag.attention(q + 1e-6 * dq, k + 1e-6 * dk, v + 1e-6 * dv)
    >>> bool(abs((moved - output) / 1e-6 - tangent).max() < 1e-4)
    True
    """
    given = Options.of("attention_jvp", MaskOptions, options)
    named = {"query": query, "key": key, "value": value}
    along = {"dquery": dquery, "dkey": dkey, "dvalue": dvalue}
    return _solve.push_forward(_moved(named, along, given, output, lse), output, out)


@overload
def attention_hvp(
    query: npt.NDArray[F], key: npt.NDArray[F], value: npt.NDArray[F], dout: npt.NDArray[F],
    ddquery: npt.NDArray[F], ddkey: npt.NDArray[F], ddvalue: npt.NDArray[F],
    **options: Unpack[_HessianOptions],
) -> tuple[npt.NDArray[F], npt.NDArray[F], npt.NDArray[F], npt.NDArray[F]]: ...  # fmt: skip
@overload
def attention_hvp(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike, dout: npt.ArrayLike,
    ddquery: npt.ArrayLike, ddkey: npt.ArrayLike, ddvalue: npt.ArrayLike,
    **options: Unpack[_HessianOptions],
) -> tuple[Array, Array, Array, Array]: ...  # fmt: skip
@documented(loss_gradient, attention, attention_jvp)
@accepting(MaskOptions)
def attention_hvp(
    query: npt.ArrayLike, key: npt.ArrayLike, value: npt.ArrayLike, dout: npt.ArrayLike,
    ddquery: npt.ArrayLike, ddkey: npt.ArrayLike, ddvalue: npt.ArrayLike,
    *,
    ddout: npt.ArrayLike | None = None,
    output: npt.ArrayLike | None = None,
    lse: npt.ArrayLike | None = None,
    out: Any = None,
    **options: Unpack[MaskOptions],
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Gradients of the gradients: the Hessian-vector product of <dout, output>.

    For dq, dk and dv of ``attention_vjp`` these are the gradients of ⟨ddquery, dq⟩ + ⟨ddkey, dk⟩ +
    ⟨ddvalue, dv⟩ with respect to query, key, value and dout. As a Hessian is symmetric, they are
    as well the changes of dq, dk, dv and the output in the direction (ddquery, ddkey, ddvalue),
    and with ``ddout`` those in a direction that moves dout too.

    Parameters
    ----------
    query, key, value
        As in ``attention``.
    dout : array_like, (..., H, L, Ev)
        Gradient of a scalar with respect to the output of ``attention``, as ``attention_vjp`` has
        it.
    ddquery, ddkey, ddvalue : array_like
        Gradients with respect to dq, dk and dv, or the direction: of the shapes of query, key and
        value.
    ddout : array_like, optional, (..., H, L, Ev)
        The part of dout of the direction; zero by default.
    output, lse
        As in ``attention_jvp``.
    out : tuple of arrays and None, optional
        Written to, and returned, in the place of new arrays: for the four parts, of any strides,
        inputs too.
    is_causal, scale, enable_gqa
        As in ``attention``.
    attn_mask, window, key_lengths, cu_seqlens, causal_align, dropout_p
        As in ``attention``.
    **options
        As in ``loss_gradient``.

    Returns
    -------
    tuple of ndarray
        Parts of query, key, value and dout, of their shapes. With ``enable_gqa`` those of key and
        value are sums over the query heads that share a key head, in their order.

    Notes
    -----
    Errors: as ``attention``; the message names the argument. Masks as in ``attention_jvp``: parts
    of queries that see nothing and of keys that no query sees are zeros.
    Source: docs/math.md, Proposition 6.4. Cost: 34 L S E operations for each head (E = Ev), 30 with
    ``output`` and ``lse``, 4 more with ``ddout``, half if causal; memory O((L + S)(E + Ev)) for
    each thread beside inputs and outputs, and with ``enable_gqa`` the parts of key and value of
    each query head.

    Examples
    --------
    >>> import numpy as np
    >>> import attngrad_rs as ag
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, dout, x, y, z = (rng.standard_normal((2, 5, 3)) for _ in range(7))
    >>> found = ag.attention_hvp(q, k, v, dout, x, y, z)
    >>> before = ag.attention_vjp(q, k, v, dout)
    >>> after = ag.attention_vjp(q + 1e-6 * x, k + 1e-6 * y, v + 1e-6 * z, dout)
    >>> changes = [(b - a) / 1e-6 for a, b in zip(before, after)]
    >>> all(abs(one - change).max() < 1e-4 for one, change in zip(found, changes))
    True
    """
    given = Options.of("attention_hvp", MaskOptions, options)
    named = {"query": query, "key": key, "value": value, "dout": dout}
    along = {"ddquery": ddquery, "ddkey": ddkey, "ddvalue": ddvalue}
    if ddout is not None:
        along["ddout"] = ddout
    return _solve.pull_back_twice(_moved(named, along, given, output, lse), out)


def _moved(
    named: Mapping[str, object], along: Mapping[str, object], given: Options,
    output: object, lse: object,
) -> _solve.MovedHeads:  # fmt: skip
    """A checked call with a direction, and the results of the forward pass, both or none."""
    return _solve.MovedHeads({**named, **_solve.saved(output, lse)}, along, given)
