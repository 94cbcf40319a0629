"""The attention rows f from the logits S: the paper's form, and one that cannot overflow.

Every function takes the exponential to use, so that one text serves floats, complex numbers, mpmath
and python-flint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import RangeError

Array: TypeAlias = npt.NDArray[Any]
Exp: TypeAlias = Callable[[Array], Any]

# dtype.kind of the numbers that can overflow; what object arrays hold looks after itself.
LIMITED = "fc"


def visible(n: int, m: int, is_causal: bool) -> Array:
    """Which keys each query sees, eq. (1.9): all of them, or key i <= query j (causal, top-left).

    Shape (n, m), bool.
    """
    everything = np.ones((n, m), dtype=bool)
    return np.tril(everything) if is_causal else everything


def require_finite(values: Array, what: str) -> None:
    """Raise RangeError where a float overflowed on the way to ``values``."""
    if values.dtype.kind in LIMITED and not np.all(np.isfinite(values)):
        raise RangeError(f"{what}: found an overflow; scale the inputs down, or use a wider dtype")


def row_shift(S: Array, seen: Array) -> Array:
    """The largest logit that each query sees, eq. (1.8); zero for numbers that cannot overflow.

    Any shift gives the same f, so its own rounding does not matter. Shape (n, 1).
    """
    if S.dtype.kind not in LIMITED or S.shape[1] == 0:
        return np.zeros((S.shape[0], 1), dtype=int)
    highest = np.max(np.where(seen, S.real, -np.inf), axis=1, keepdims=True)
    return np.asarray(highest)


def exponentials(S: Array, seen: Array, shift: Array, exp: Exp) -> Array:
    """u = exp(S - shift) on the keys that are seen, exactly 0 elsewhere: eq. (1.2), eq. (1.8)."""
    # Hidden logits are replaced before the exponential, which must not overflow on them either.
    return np.where(seen, exp(np.where(seen, S - shift, 0 * S)), 0 * S)


def normaliser(u: Array) -> Array:
    """alpha = u 1, eq. (1.3). Shape (n, 1).

    Raises RangeError where the literal form has left the range of the dtype (a logit above 709 in
    float64), or has lost a whole row (all logits below -745).
    """
    alpha = np.sum(u, axis=1, keepdims=True)
    require_finite(alpha, "alpha")
    if u.shape[1] and u.dtype.kind in LIMITED and not np.all(alpha):
        raise RangeError("alpha: found an underflow to 0; use the stable form, or a wider dtype")
    return np.asarray(alpha)
