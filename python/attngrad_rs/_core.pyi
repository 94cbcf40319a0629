"""The compiled core. Private: call it through attngrad_rs.api, which checks every argument.

Arrays handed in are two-dimensional, C-contiguous, aligned, of native byte order, private to the
call (nobody else writes to them) and all of one dtype, float32 or float64.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, TypedDict, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "Prepared",
    "__version__",
    "all_finite",
    "attention",
    "attention_vjp",
    "check_request",
    "decide",
    "default_threads",
    "evaluate_polynomial",
    "exact_operations",
    "exp_polynomial",
    "foresee",
    "judge",
    "levels",
    "loss_gradient",
    "planned_gradient",
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

# A1, A2, A3, X, W_Q, W_K, Y and E, or dout in its place: those that there are.
_Given: TypeAlias = Sequence[_Array | None]
# The scale, and whether the problem is causal.
_Form: TypeAlias = tuple[float, bool]
# threads, progress, timeout, level, key_block.
_Control: TypeAlias = tuple[int | None, _Progress, float | None, str | None, int | None]
# method, degree, rtol, atol, norm, certificate, seed.
_Asking: TypeAlias = tuple[str, int | None, float | None, float, str, str, int | None]
# method, degree, samples, exact_rows, features, predicted_error, operations, reason.
_Chosen: TypeAlias = tuple[str, int, int, int, int, float, float, str]
# relative, reached, best_rtol, message.
_Judged: TypeAlias = tuple[float, bool | None, float, str]
# kind, absolute, truncation, sampling, rounding, confidence, verdict.
_Known: TypeAlias = tuple[str, float, float, float, float, float | None, _Judged]

class _PlannedGradient(TypedDict):
    gradients: dict[str, _Array]
    certificates: dict[str, _Known]
    loss: float
    loss_certificate: _Known
    steps: list[float] | None
    decision: _Chosen
    prepared: Prepared | None

@final
class Prepared: ...

def loss_gradient(
    given: _Given, wrt: list[str], form: _Form, control: _Control
) -> _LossGradient: ...
def attention(heads: Sequence[_Array], form: _Form, control: _Control) -> _Array: ...
def attention_vjp(
    heads: Sequence[_Array], form: _Form, control: _Control
) -> _AttentionGradients: ...
def judge(asking: _Asking, kind: str, absolute: float, size: float) -> _Judged: ...
def check_request(dtype: str, asking: _Asking) -> None: ...
def exact_operations(
    shape: tuple[int, int, int, int, int], wrt: list[str], is_causal: bool
) -> float: ...
def decide(given: _Given, wrt: list[str], form: _Form, asking: _Asking) -> _Chosen: ...
def foresee(
    given: _Given, wrt: list[str], form: _Form, asking: _Asking, control: _Control
) -> _Chosen: ...
def planned_gradient(
    given: _Given,
    wrt: list[str],
    form: _Form,
    asking: _Asking,
    start: tuple[int, int],
    prepared: Prepared | None,
    control: _Control,
) -> _PlannedGradient: ...
def all_finite(row: _Array, control: _Control) -> bool: ...
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
