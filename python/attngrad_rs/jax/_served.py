"""The function with jax.nn's own signature: what it serves, what goes to jax.nn or is refused."""

from __future__ import annotations

import math
import warnings
from numbers import Real
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from .._inputs.options import flag
from ..errors import AttnGradError, DTypeError, OptionError, OptionTypeError, ShapeError
from ._host import Form
from ._masks import Masks, array_of, is_outside
from ._primitives import run

Array: TypeAlias = jax.Array
ArrayLike: TypeAlias = Any

FLOATS = ("float32", "float64")
# Of what jax.nn was told to serve already, by the argument that was the reason.
_told: set[str] = set()


def dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    *,
    scale: ArrayLike | None = None,
    is_causal: bool = False,
    query_seq_lengths: ArrayLike | None = None,
    key_value_seq_lengths: ArrayLike | None = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: Literal["xla", "cudnn"] | None = None,
    return_residual: bool = False,
    fallback: bool = True,
) -> Any:
    """Attention in the place of ``jax.nn.dot_product_attention``.

    The gradient is the library's exact one: the backward pass takes output and normalisers of the
    forward pass.

    Parameters
    ----------
    query : array_like, (B, T, N, H) or (T, N, H)
        On the CPU, float32 or float64.
    key : array_like, (B, S, K, H) or (S, K, H)
        N is a multiple of K; N / K heads of the query in a row share each of the key.
    value : array_like, (B, S, K, Hv) or (S, K, Hv)
        Hv may differ from H, which jax.nn does not take.
    bias : array_like, optional
        Added to the logits, of up to four dimensions that broadcast to (B, N, T, S). Its
        derivatives are made of JAX's operations, all logits at once.
    mask : array_like of bool, optional
        True where a query sees a key, of such a shape too. Without a bias it is read where it is.
    query_seq_lengths, key_value_seq_lengths : array_like of int, optional, (B,)
        How many queries and keys each batch has: those after them have no effect, whatever they
        hold, and such queries have an output of zeros.
    local_window_size : int or (int, int), optional
        Keys before and after its own place that a query sees; one number is for both sides. Numbers
        below 0 are left to jax.nn.
    scale : float or array of no dimensions, optional
        By default 1/√H. An array may be traced, and differentiated.
    is_causal : bool
        Query j sees the keys 0 ... j only, also where T ≠ S.
    implementation : {"xla", "cudnn"}, optional
        One of jax.nn's own, which then serves the call.
    return_residual : bool
        Whether the logarithms of the normalisers are returned beside the output. They count as
        constants in derivatives, as those of jax.nn do.
    fallback : bool
        Whether a call that is not served goes to ``jax.nn.dot_product_attention``, with one warning
        for each reason; if False, it is an error that names the argument.

    Returns
    -------
    Array, (B, T, N, Hv) or (T, N, Hv)
        Zeros for queries that see nothing, where jax.nn has the mean of all values. With
        ``return_residual`` a pair: this, and (B, T, N) or (T, N).

    Raises
    ------
    AttnGradError
        ShapeError, DTypeError, OptionError and OptionTypeError name the argument.

    Notes
    -----
    ``jit``, ``vmap``, ``jvp``, ``grad`` and what is made of them, in any order and as often as
    asked. A gradient takes 12 T S H operations (H = Hv) for each head, a derivative in a direction
    10, a second one 30, fewer by what masks hide. Third ones, directions of directions and
    derivatives by a bias are made of JAX's operations, memory O(T S).

    A batch entry with NaN or an infinity in it, or with logits that overflow, has NaN in all of its
    output and gradients, as errors cannot leave a computation of JAX in good order.

    Examples
    --------
    >>> import jax
    >>> from attngrad_rs.jax import dot_product_attention
    >>> x = jax.random.normal(jax.random.key(0), (2, 10, 4, 8))
    >>> dot_product_attention(x, x, x, is_causal=True).shape
    (2, 10, 4, 8)
    """
    named = {"query": query, "key": key, "value": value}
    heads = {name: array_of(name, one) for name, one in named.items()}
    unserved = {
        "implementation": implementation,
        "local_window_size": local_window_size if is_outside(local_window_size) else None,
    }
    refused = refusal(heads, unserved)
    if refused is None:
        masks = Masks(bias, mask, query_seq_lengths, key_value_seq_lengths, local_window_size)
        return _attend(heads, masks, scale, is_causal, return_residual)
    if not fallback:
        raise refused
    _tell(str(refused))
    # Releases that do not know it have nothing to be told.
    residual = {"return_residual": True} if return_residual else {}
    return jax.nn.dot_product_attention(
        query, key, value, bias, mask, scale=scale, is_causal=is_causal,
        query_seq_lengths=query_seq_lengths, key_value_seq_lengths=key_value_seq_lengths,
        local_window_size=local_window_size, implementation=implementation, **residual,
    )  # fmt: skip


def refusal(heads: dict[str, Array], unserved: dict[str, Any]) -> AttnGradError | None:
    """The error that names what is not served; None where a call is, if it is right."""
    for name, given in unserved.items():
        if given is not None:
            expected = "None" if name == "implementation" else "numbers from 0 on"
            return OptionError(f"{name}: found {given!r}; expected {expected}")
    for name, array in heads.items():
        platform = _platform(array)
        if platform != "cpu":
            return OptionError(f"{name}: found an array for {platform}; expected one on the CPU")
        if array.dtype.name not in FLOATS:
            return DTypeError(f"{name}: found {array.dtype.name}; expected {' or '.join(FLOATS)}")
    return None


def _tell(reason: str) -> None:
    """Warn once of what goes to jax.nn; by argument, as sizes differ from call to call."""
    argument = reason.partition(":")[0]
    if argument not in _told:
        _told.add(argument)
        warnings.warn(f"attention is left to jax.nn: {reason}", stacklevel=3)


def _attend(
    heads: dict[str, Array], masks: Masks, scale: Any, is_causal: bool, return_residual: bool
) -> Any:
    """Attention of a call that is served, or the error for what is wrong with it."""
    is_causal, has_residual = flag("is_causal", is_causal), flag("return_residual", return_residual)
    wrong = _wrong_dtype(heads) or _wrong_shape(heads)
    if wrong is not None:
        raise wrong
    query, key, value = heads.values()
    if _is_array(scale):
        # The same logits; and what differentiates the query differentiates the scale.
        query, scale = query * jnp.asarray(scale, query.dtype), 1.0
    form = Form(is_causal, _factor(scale, query.shape[-1]))
    Q, K, V = (one[None] if one.ndim == 3 else one for one in (query, key, value))
    form, extras, is_there = masks.read(form, Q, K)
    if is_there is not None:
        Q = jnp.where(is_there, Q, 0)
    output, lse = run(Q, K, V, *extras, form=form)
    if is_there is not None:
        output, lse = jnp.where(is_there, output, 0), jnp.where(is_there, lse, -jnp.inf)
    output = output.reshape(*query.shape[:-1], value.shape[-1])
    return (output, lse.reshape(query.shape[:-1])) if has_residual else output


def _platform(array: Array) -> str:
    """What an array is computed on, as far as that is known while it is traced."""
    if not isinstance(array, jax.core.Tracer):
        return str(next(iter(array.devices())).platform)
    default = jax.config.jax_default_device
    return str(getattr(default, "platform", default) or jax.default_backend())


def _is_array(scale: Any) -> bool:
    """Whether a scale is an array of no dimensions, which a number is not."""
    return not isinstance(scale, Real) and getattr(scale, "shape", None) == ()


def _factor(scale: Any, width: int) -> float:
    """The factor of the logits."""
    if scale is None:
        return 1.0 / math.sqrt(max(width, 1))
    if not isinstance(scale, Real) or isinstance(scale, bool):
        kind = f"an object of type {type(scale).__name__}"
        raise OptionTypeError(f"scale: found {kind}; expected a number or None")
    if not math.isfinite(scale):
        raise OptionError(f"scale: found {scale}; expected a finite number")
    return float(scale)


def _wrong_dtype(heads: dict[str, Array]) -> AttnGradError | None:
    """The error for a dtype that is not that of the query."""
    precision = heads["query"].dtype
    for name, one in heads.items():
        if one.dtype != precision:
            return DTypeError(
                f"{name}: found {one.dtype.name} where query is {precision.name}; expected one "
                "dtype for all"
            )
    return None


def _wrong_shape(heads: dict[str, Array]) -> AttnGradError | None:
    """The error for sizes that do not fit together."""
    for name, one in heads.items():
        if one.ndim not in (3, 4):
            return ShapeError(
                f"{name}: found {one.ndim} dimensions; expected 4 (batch, rows, heads, width), or "
                "3 without a batch"
            )
    query, key, value = ((1, *one.shape)[-4:] for one in heads.values())
    for name, shape in (("key", key), ("value", value)):
        if shape[0] != query[0]:
            return ShapeError(f"{name}: found a batch of {shape[0]}; expected {query[0]}, as query")
    if key[3] != query[3]:
        return ShapeError(f"key: found rows of {key[3]} numbers; expected {query[3]}, as query has")
    if value[1:3] != key[1:3]:
        return ShapeError(
            f"value: found {value[1]} rows of {value[2]} heads; expected {key[1]} of {key[2]}, as "
            "key has"
        )
    heads_of, shared = query[2], key[2]
    if heads_of != shared and (shared == 0 or heads_of % shared):
        return ShapeError(f"key: found {shared} heads; expected a divisor of query's {heads_of}")
    return None
