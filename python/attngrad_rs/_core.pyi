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
    "exp_polynomial",
    "levels",
    "loss_gradient",
    "polynomial_bounds",
    "tile_shape",
]

__version__: Final[str]

_Array: TypeAlias = npt.NDArray[np.floating[Any]]
_Doubles: TypeAlias = npt.NDArray[np.float64]
_Progress: TypeAlias = Callable[[float], object] | None

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
