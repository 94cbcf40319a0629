"""The compiled core. Private: call it through attngrad_rs.api, which checks every argument.

Arrays handed in are two-dimensional, C-contiguous, aligned, of native byte order, private to the
call (nobody else writes to them) and all of one dtype, float32 or float64.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Self, TypeAlias, TypedDict, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "Balance",
    "Decision",
    "Diagnosis",
    "ExpFeatures",
    "Factors",
    "FeatureRequest",
    "IndexSet",
    "LogitSample",
    "Options",
    "Prediction",
    "Prepared",
    "Problem",
    "__version__",
    "all_finite",
    "attention",
    "attention_vjp",
    "check_request",
    "decide",
    "default_threads",
    "diagnose",
    "diagnose_problem",
    "evaluate_polynomial",
    "exact_operations",
    "exp_polynomial",
    "factors",
    "factors_bytes",
    "foresee",
    "judge",
    "level",
    "levels",
    "loss_gradient",
    "planned_gradient",
    "polynomial_bounds",
    "row_kronecker",
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

# The scale, and whether attention is causal.
_Form: TypeAlias = tuple[float, bool]
# method, degree, rtol, atol, norm, certificate, seed.
_Asking: TypeAlias = tuple[str, int | None, float | None, float, str, str, int | None]
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
    decision: Decision
    prepared: Prepared | None

# Coefficients in the Chebyshev basis and of the powers of t, and the interval of the basis.
_Polynomial: TypeAlias = tuple[_Doubles, _Doubles, tuple[float, float]]

@final
class Prepared: ...

@final
class Options:
    def __new__(
        cls,
        *,
        threads: int | None = None,
        progress: _Progress = None,
        timeout: float | None = None,
    ) -> Self: ...

@final
class Problem:
    def __new__(
        cls,
        *,
        A1: _Array,
        A2: _Array,
        A3: _Array,
        Y: _Array,
        X: _Array | None = None,
        W_Q: _Array | None = None,
        W_K: _Array | None = None,
        E: _Array | None = None,
        dout: _Array | None = None,
        scale: float,
        is_causal: bool,
    ) -> Self: ...

@final
class Decision:
    @property
    def method(self) -> str: ...
    @property
    def degree(self) -> int | None: ...
    @property
    def samples(self) -> int | None: ...
    @property
    def exact_rows(self) -> int | None: ...
    @property
    def features(self) -> int | None: ...
    @property
    def predicted_error(self) -> float: ...
    @property
    def operations(self) -> float: ...
    @property
    def reason(self) -> str: ...

@final
class Prediction:
    @property
    def rtol(self) -> float: ...
    @property
    def decision(self) -> Decision: ...
    @property
    def smallest_degree(self) -> int | None: ...
    @property
    def least_error(self) -> float: ...

@final
class Diagnosis:
    @property
    def n(self) -> int: ...
    @property
    def m(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def scale(self) -> float: ...
    @property
    def largest_query(self) -> float: ...
    @property
    def largest_key(self) -> float: ...
    @property
    def B(self) -> float: ...
    @property
    def threshold_ratio(self) -> float: ...
    @property
    def logit_bound(self) -> float: ...
    @property
    def logit_std(self) -> float: ...
    @property
    def logit_range(self) -> tuple[float, float]: ...
    @property
    def spectrum(self) -> list[float]: ...
    @property
    def effective_rank(self) -> float: ...
    @property
    def predictions(self) -> list[Prediction]: ...
    @property
    def regime(self) -> str: ...
    @property
    def findings(self) -> list[str]: ...
    @property
    def advice(self) -> str: ...
    @property
    def text(self) -> str: ...

@final
class IndexSet:
    """A downward-closed set of multi-indices: which monomials are features.

    Made by ``total_degree``, by ``anisotropic`` from the second moments of balanced coordinates
    (``ExpFeatures.spectrum_``), or ``from_exponents``. Source: docs/math.md, eq. (103) - (105).
    """

    @staticmethod
    def total_degree(dimension: int, degree: int) -> IndexSet: ...
    @staticmethod
    def anisotropic(spectrum: Sequence[float], degree: int, max_features: int) -> IndexSet: ...
    @staticmethod
    def from_exponents(exponents: npt.NDArray[np.uint32]) -> IndexSet: ...
    def monomials(self, rows: _Array, options: Options) -> _Array: ...
    @property
    def dimension(self) -> int: ...
    @property
    def degree(self) -> int: ...
    @property
    def exponents(self) -> npt.NDArray[np.uint32]: ...
    @property
    def multinomials(self) -> _Doubles: ...
    def __len__(self) -> int: ...

@final
class Balance:
    """A change of coordinates with sign(s) ⟨q', k'⟩ = s ⟨q - a, k - b⟩, eq. (100) - (102)."""

    def queries(self, query: _Array, options: Options) -> _Array: ...
    def keys(self, key: _Array, options: Options) -> _Array: ...
    def query_gradient(self, gradient: _Doubles) -> _Doubles: ...
    def key_gradient(self, gradient: _Doubles) -> _Doubles: ...
    @property
    def scale(self) -> float: ...
    @property
    def sign(self) -> float: ...
    @property
    def spectrum(self) -> _Doubles: ...
    @property
    def query_mean(self) -> _Doubles: ...
    @property
    def key_mean(self) -> _Doubles: ...
    @property
    def query_map(self) -> _Doubles: ...
    @property
    def key_map(self) -> _Doubles: ...

@final
class LogitSample:
    """Sampled logits of centred queries and keys, and polynomials fitted to them, eq. (106)."""

    @staticmethod
    def draw(
        query: _Array,
        key: _Array,
        scale: float,
        center_query: bool,
        seed: int,
        options: Options,
    ) -> LogitSample: ...
    def fit(self, kind: str, degree: int) -> _Polynomial: ...
    def error(self, interval: tuple[float, float], coefficients: _Doubles) -> float: ...
    @property
    def balance(self) -> Balance: ...
    @property
    def logits(self) -> _Doubles: ...
    @property
    def range(self) -> tuple[float, float]: ...
    @property
    def interval(self) -> tuple[float, float]: ...
    @property
    def bound(self) -> float: ...
    @property
    def spread(self) -> float: ...
    @property
    def is_complete(self) -> bool: ...

@final
class FeatureRequest:
    def __new__(
        cls,
        *,
        degree: int | None,
        rtol: float | None,
        scale: float | None,
        kind: str,
        max_features: int,
        anisotropic: bool,
        seed: int,
    ) -> Self: ...

@final
class ExpFeatures:
    @staticmethod
    def fit(
        query: _Array, key: _Array, request: FeatureRequest, options: Options
    ) -> ExpFeatures: ...
    @staticmethod
    def from_parts(
        balance: tuple[float, _Doubles, _Doubles, _Doubles, _Doubles, _Doubles],
        exponents: npt.NDArray[np.uint32],
        basis: tuple[float, float],
        coefficients: _Doubles,
        interval: tuple[float, float],
        error: float,
    ) -> ExpFeatures: ...
    def transform_query(self, query: _Array, options: Options) -> _Array: ...
    def transform_key(self, key: _Array, options: Options) -> _Array: ...
    def transform_bytes(self, rows: int, itemsize: int) -> int: ...
    def __reduce__(self) -> tuple[Any, Any]: ...
    @property
    def count(self) -> int: ...
    @property
    def error(self) -> float: ...
    @property
    def bound(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...
    @property
    def polynomial(self) -> _Polynomial: ...
    @property
    def balance(self) -> Balance: ...
    @property
    def index_set(self) -> IndexSet: ...

@final
class Factors:
    def factor(self, name: str, options: Options) -> _Array: ...
    def gradient(self, wrt: str, options: Options) -> _Array: ...
    @property
    def ranks(self) -> list[int]: ...
    @property
    def loss(self) -> float: ...
    @property
    def error(self) -> float: ...
    @property
    def mean(self) -> _Doubles: ...
    @property
    def polynomial(self) -> _Polynomial: ...

def factors(problem: Problem, request: FeatureRequest, options: Options) -> Factors: ...
def factors_bytes(problem: Problem, degree: int) -> int: ...
def row_kronecker(U: _Array, W: _Array, options: Options) -> _Array: ...
def diagnose(
    query: _Array, key: _Array, scale: float | None, seed: int, options: Options
) -> Diagnosis: ...
def diagnose_problem(
    problem: Problem, wrt: list[str], besides: list[float], seed: int, options: Options
) -> Diagnosis: ...
def loss_gradient(problem: Problem, wrt: list[str], options: Options) -> _LossGradient: ...
def attention(heads: Sequence[_Array], form: _Form, options: Options) -> _Array: ...
def attention_vjp(
    heads: Sequence[_Array], form: _Form, options: Options
) -> _AttentionGradients: ...
def judge(asking: _Asking, kind: str, absolute: float, size: float) -> _Judged: ...
def check_request(dtype: str, asking: _Asking) -> None: ...
def exact_operations(
    shape: tuple[int, int, int, int, int], wrt: list[str], is_causal: bool
) -> float: ...
def decide(problem: Problem, wrt: list[str], asking: _Asking) -> Decision: ...
def foresee(problem: Problem, wrt: list[str], asking: _Asking, options: Options) -> Decision: ...
def planned_gradient(
    problem: Problem,
    wrt: list[str],
    asking: _Asking,
    start: tuple[int, int],
    prepared: Prepared | None,
    options: Options,
) -> _PlannedGradient: ...
def all_finite(row: _Array, options: Options) -> bool: ...
def level() -> str: ...
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
