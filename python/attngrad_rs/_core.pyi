"""The compiled core. Private: call it through attngrad_rs.api, which checks every argument.

Arrays handed in are two-dimensional, C-contiguous, aligned, of native byte order, private to the
call (nobody else writes to them) and all of one dtype, float32 or float64.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

__all__ = [
    "__version__",
    "attention",
    "attention_vjp",
    "default_threads",
    "evaluate_polynomial",
    "exact_rows",
    "exp_polynomial",
    "levels",
    "loss_gradient",
    "polynomial_bounds",
    "polynomial_gradient",
    "tile_shape",
]

__version__: Final[str]

_Array: TypeAlias = npt.NDArray[np.floating[Any]]
_Doubles: TypeAlias = npt.NDArray[np.float64]
_Progress: TypeAlias = Callable[[float], object] | None
# A1, A2, A3, X, W_Q, W_K, Y and E, those that there are.
_Given: TypeAlias = list[_Array | None]
# w = p K, the output, and the places of the rows that are not safe.
_Rows: TypeAlias = tuple[_Array, _Array, list[int]]

class _LossGradient(TypedDict):
    loss: float
    loss_rounding: float
    gradients: dict[str, _Array]
    rounding: dict[str, float]
    seconds: float
    level: str

class _AttentionGradients(TypedDict):
    gradients: dict[str, _Array]
    rounding: dict[str, float]
    seconds: float
    level: str

class _PolynomialGradient(TypedDict):
    loss: float
    gradients: dict[str, _Array]
    unsafe_rows: list[int]
    lengths: tuple[float, float]  # the largest of the queries and of the keys, in coordinates
    rows: _Rows | None
    seconds: float
    level: str

def loss_gradient(
    a1: _Array,
    a2: _Array,
    a3: _Array,
    x: _Array | None,
    w_q: _Array | None,
    w_k: _Array | None,
    y: _Array,
    e: _Array,
    wrt: list[str],
    scale: float,
    is_causal: bool,
    threads: int | None,
    progress: _Progress,
    timeout: float | None,
    level: str | None,
    key_block: int | None,
) -> _LossGradient: ...
def attention(
    q: _Array,
    k: _Array,
    v: _Array,
    scale: float,
    is_causal: bool,
    threads: int | None,
    progress: _Progress,
    timeout: float | None,
    level: str | None,
    key_block: int | None,
) -> _Array: ...
def attention_vjp(
    q: _Array,
    k: _Array,
    v: _Array,
    dout: _Array,
    scale: float,
    is_causal: bool,
    threads: int | None,
    progress: _Progress,
    timeout: float | None,
    level: str | None,
    key_block: int | None,
) -> _AttentionGradients: ...
def polynomial_gradient(
    given: _Given,
    wrt: list[str],
    scale: float,
    is_causal: bool,
    coefficients: list[float],
    rows: list[int] | None,
    threads: int | None,
    progress: _Progress,
    timeout: float | None,
    level: str | None,
) -> _PolynomialGradient: ...
def exact_rows(
    given: _Given,
    rows: list[int],
    scale: float,
    is_causal: bool,
    threads: int | None,
    timeout: float | None,
    level: str | None,
) -> _Rows: ...
def levels() -> list[str]: ...
def tile_shape(level: str, dtype: str) -> tuple[int, int]: ...
def default_threads() -> int: ...
def exp_polynomial(
    kind: str,
    degree: int,
    interval: tuple[float, float],
    samples: tuple[_Doubles, _Doubles] | None,
) -> tuple[_Doubles, _Doubles]: ...
def evaluate_polynomial(
    interval: tuple[float, float], coefficients: _Doubles, t: _Doubles
) -> _Doubles: ...
def polynomial_bounds(
    interval: tuple[float, float], coefficients: _Doubles, range: tuple[float, float]
) -> tuple[tuple[float, float], float]: ...
