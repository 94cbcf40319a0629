"""The compiled core. Private: the functions of the package check every argument.

Arrays handed in are two-dimensional, C-contiguous, aligned, of native byte order, private to the
call (nobody else writes to them) and all of one dtype, float32 or float64.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Self, TypeAlias, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "Balance",
    "Certificate",
    "Decision",
    "Diagnosis",
    "ExpFeatures",
    "Factors",
    "FeatureRequest",
    "Forecast",
    "IndexSet",
    "LogitSample",
    "Options",
    "Prediction",
    "Prepared",
    "Problem",
    "Request",
    "Shape",
    "Solution",
    "__version__",
    "all_finite",
    "attention",
    "decide_heads",
    "default_threads",
    "diagnose",
    "diagnose_problem",
    "evaluate_polynomial",
    "exp_polynomial",
    "factors",
    "factors_bytes",
    "foresee",
    "level",
    "levels",
    "polynomial_bounds",
    "row_kronecker",
    "solve",
    "solve_heads",
    "tile_shape",
]

__version__: Final[str]

_Array: TypeAlias = npt.NDArray[np.floating[Any]]
_Doubles: TypeAlias = npt.NDArray[np.float64]
_Progress: TypeAlias = Callable[[float], object] | None

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
        memory: int | None = None,
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
class Shape:
    def __new__(
        cls, *, n: int, m: int, d: int, d1: int, d2: int, d3: int, dv: int, pair: bool
    ) -> Self: ...

@final
class Request:
    def __new__(
        cls,
        *,
        method: str,
        degree: int | None,
        rtol: float | None,
        atol: float,
        norm: str,
        certificate: str,
        seed: int | None,
    ) -> Self: ...
    def check(self, dtype: str) -> None: ...
    def settled(self, *, heads: bool) -> Decision | None: ...

@final
class Forecast:
    @property
    def operations(self) -> float: ...
    @property
    def seconds(self) -> float: ...
    @property
    def peak_bytes(self) -> int: ...

@final
class Decision:
    def __new__(
        cls,
        *,
        method: str,
        degree: int | None,
        samples: int | None,
        features: int | None,
        predicted_error: float,
        operations: float,
        reason: str,
    ) -> Self: ...
    def forecast(
        self, shape: Shape, dtype: str, wrt: list[str], is_causal: bool, options: Options
    ) -> Forecast: ...
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
class Certificate:
    @property
    def kind(self) -> str: ...
    @property
    def absolute(self) -> float: ...
    @property
    def relative(self) -> float: ...
    @property
    def truncation(self) -> float: ...
    @property
    def sampling(self) -> float: ...
    @property
    def rounding(self) -> float: ...
    @property
    def confidence(self) -> float | None: ...
    @property
    def reached(self) -> bool | None: ...
    @property
    def best_rtol(self) -> float: ...
    @property
    def message(self) -> str: ...

@final
class Solution:
    @property
    def loss(self) -> float: ...
    @property
    def loss_certificate(self) -> Certificate: ...
    @property
    def gradients(self) -> dict[str, _Array]: ...
    @property
    def certificates(self) -> dict[str, Certificate]: ...
    @property
    def steps(self) -> list[float] | None: ...
    @property
    def decision(self) -> Decision: ...
    @property
    def prepared(self) -> Prepared | None: ...

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
def solve(
    problem: Problem,
    wrt: list[str],
    request: Request,
    decision: Decision | None,
    prepared: Prepared | None,
    options: Options,
) -> Solution: ...
def foresee(problem: Problem, wrt: list[str], request: Request, options: Options) -> Decision: ...
def decide_heads(
    stack: Sequence[Sequence[_Array]], scale: float, is_causal: bool, request: Request
) -> Decision: ...
def solve_heads(
    stack: Sequence[Sequence[_Array]],
    scale: float,
    is_causal: bool,
    request: Request,
    decision: Decision,
    options: Options,
) -> Solution: ...
def attention(
    stack: Sequence[Sequence[_Array]], scale: float, is_causal: bool, options: Options
) -> _Array: ...
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
