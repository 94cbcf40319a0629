"""All random problems of the tests: seeded, sized and structured on purpose.

A problem is drawn in three steps: shapes, then scales, then structure; tests/layout has layouts.
`build` makes one from plain numbers; `cases` draws those numbers with Hypothesis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

Array = npt.NDArray[Any]

STRUCTURES = (
    "generic",
    "duplicated keys",
    "equal keys",
    "one-hot",
    "zeros",
    "rank 1",
    "spike row",
    "alternating",
    "subnormal",
)
# Largest |logit|: flat attention, the usual, sharp, and far past where exp overflows (88 and 709).
LOGITS = (0.0, 1e-3, 1.0, 8.0, 60.0, 1000.0)
# Pairs of a problem that takes no memory to speak of: a megabyte a matrix in extended precision.
SMALL_PAIRS = 2**16
# Powers of ten that the inputs may be multiplied by, so that every result stays a normal number:
# half of the exponent range, less what sums, squares and the spread of the data need.
ROOM = {np.dtype(np.float32): 14, np.dtype(np.float64): 120}
# The same for A1 alone, which meets no square: dX and dA1 go to either end of the range.
ROOM_ALONE = {np.dtype(np.float32): 24, np.dtype(np.float64): 280}


@dataclass(frozen=True)
class Shape:
    n: int
    m: int
    d1: int = 2
    d2: int = 2
    d3: int = 2
    dv: int = 2
    dk: int = 2


@dataclass(frozen=True, eq=False)
class Case:
    """One problem; `pair` holds (W_Q, W_K) where X is their product. Equal only to itself."""

    A1: Array
    A2: Array
    A3: Array
    X: Array
    Y: Array
    E: Array
    scale: float
    is_causal: bool = False
    pair: tuple[Array, Array] | None = None
    label: str = ""

    @property
    def weight(self) -> Any:
        return self.X if self.pair is None else self.pair

    @property
    def args(self) -> tuple[Any, ...]:
        return (self.A1, self.A2, self.A3, self.weight, self.Y, self.E)

    @property
    def options(self) -> dict[str, Any]:
        return {"scale": self.scale, "is_causal": self.is_causal}

    @property
    def is_small(self) -> bool:
        """Whether its n × m matrices may be kept beside those of others."""
        return len(self.A1) * len(self.A2) <= SMALL_PAIRS

    @property
    def wrt(self) -> tuple[str, ...]:
        first = ("X",) if self.pair is None else ("W_Q", "W_K")
        return (*first, "Y", "A1", "A2", "A3")

    def mapped(self, change: Any) -> Case:
        """The same with every array replaced by change(array)."""
        pair = None if self.pair is None else (change(self.pair[0]), change(self.pair[1]))
        arrays = {name: change(getattr(self, name)) for name in ("A1", "A2", "A3", "X", "Y", "E")}
        return replace(self, **arrays, pair=pair)

    def widened(self, dtype: Any) -> Case:
        return self.mapped(lambda array: array.astype(dtype))


def build(
    shape: Shape,
    *,
    seed: int = 0,
    structure: str = "generic",
    logit: float = 1.0,
    powers: tuple[int, int, int] = (0, 0, 0),
    dtype: Any = np.float64,
    is_causal: bool = False,
    pair: bool = False,
) -> Case:
    """A problem whose largest |logit| is `logit`.

    `powers` (a, b, v): A1 is multiplied by 10^a, A2 by 10^b and X by 10^-(a+b); A3 and E by 10^v.
    """
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    arrays = {
        "A1": rng.standard_normal((shape.n, shape.d1)),
        "A2": rng.standard_normal((shape.m, shape.d2)),
        "A3": rng.standard_normal((shape.m, shape.d3)),
        "Y": rng.standard_normal((shape.d3, shape.dv)),
        "E": rng.standard_normal((shape.n, shape.dv)),
    }
    if pair:
        W_Q = rng.standard_normal((shape.d1, shape.dk))
        W_K = rng.standard_normal((shape.d2, shape.dk))
    else:
        W_Q, W_K = rng.standard_normal((shape.d1, shape.d2)), np.eye(shape.d2)
    _structured(arrays, structure, rng)
    scale = 1.0 / max(shape.d2, 1)
    S = scale * arrays["A1"] @ (W_Q @ W_K.T) @ arrays["A2"].T
    largest = float(np.max(np.abs(S), initial=0.0))
    if largest > 0.0:
        W_Q = W_Q * (logit / largest)
    a, b, v = powers
    arrays["A1"] *= 10.0**a
    arrays["A2"] *= 10.0**b
    # In two steps: 10^(a+b) itself need not be representable.
    W_Q = W_Q * 10.0**-a * 10.0**-b
    arrays["A3"] *= 10.0**v
    arrays["E"] *= 10.0**v
    if structure == "subnormal":
        arrays["E"] += np.finfo(dtype).smallest_subnormal * 3
        arrays["A3"].flat[::2] = np.finfo(dtype).smallest_subnormal * 7
    return Case(
        **{name: array.astype(dtype) for name, array in arrays.items()},
        X=W_Q.astype(dtype) if not pair else (W_Q @ W_K.T).astype(dtype),
        pair=(W_Q.astype(dtype), W_K.astype(dtype)) if pair else None,
        scale=scale,
        is_causal=is_causal,
        label=f"{structure}, logit {logit:g}, powers {powers}, seed {seed}, {shape}",
    )


def _structured(arrays: dict[str, Array], structure: str, rng: np.random.Generator) -> None:
    A1, A2, A3, E = (arrays[name] for name in ("A1", "A2", "A3", "E"))
    if structure == "duplicated keys" and len(A2):
        rows = rng.integers(0, max(len(A2) // 3, 1), len(A2))
        arrays["A2"], arrays["A3"] = A2[rows], A3[rows]
    elif structure == "equal keys" and len(A2):
        A2[:] = A2[:1]
        A3[:] = A3[:1]
        A1[:] = A1[:1]
    elif structure == "one-hot":
        for A in (A1, A2, A3):
            A[:] = np.eye(*A.shape) if A.size else 0.0
    elif structure == "zeros":
        # One or two arrays vanish; which ones depends on the seed.
        for name in rng.choice(list(arrays), size=2):
            arrays[name][:] = 0.0
    elif structure == "rank 1":
        for A in (A1, A2, A3, E):
            A[:] = np.outer(np.linspace(-1.0, 1.0, len(A)), np.ones(A.shape[1]))
    elif structure == "spike row":
        for A in (A1, A2, A3, E):
            if len(A):
                A[rng.integers(len(A))] *= 1000.0
    elif structure == "alternating":
        for A in (A1, A2, A3, E):
            A[:] = np.where((np.arange(len(A)) % 2)[:, None], 1.0, -1.0)


def sizes(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


@st.composite
def shapes(draw: Any, *, smallest: int = 1, longest: int = 9, widest: int = 5) -> Shape:
    """All rectangular shapes; `smallest` = 0 brings in the empty ones."""
    n, m = draw(sizes(smallest, longest)), draw(sizes(smallest, longest))
    widths = [draw(sizes(min(smallest, 1), widest)) for _ in range(5)]
    return Shape(n, m, *widths)


def powers(dtype: Any) -> st.SearchStrategy[tuple[int, int, int]]:
    """Scales 10^a, 10^b, 10^v that keep all results normal numbers."""
    room = ROOM[np.dtype(dtype)]
    # v counts four times: the loss has the square of the values, and a product of two of them.
    extreme = st.tuples(
        st.integers(-room // 2, room // 2),
        st.integers(-room // 2, room // 2),
        st.integers(-room // 4, room // 4),
    )
    alone = st.sampled_from((-1, 1)).map(lambda sign: (sign * ROOM_ALONE[np.dtype(dtype)], 0, 0))
    return st.one_of(st.just((0, 0, 0)), extreme, alone)


@st.composite
def cases(
    draw: Any,
    *,
    dtype: Any = np.float64,
    smallest: int = 1,
    longest: int = 9,
    widest: int = 5,
    structures: tuple[str, ...] = STRUCTURES,
    logits: tuple[float, ...] = LOGITS,
    causal: bool | None = False,
    pair: bool | None = False,
    scaled: bool = True,
) -> Case:
    """A whole problem. `causal` and `pair`: None draws either."""
    structure = draw(st.sampled_from(structures))
    use_powers = scaled and structure not in ("subnormal", "spike row")
    return build(
        draw(shapes(smallest=smallest, longest=longest, widest=widest)),
        seed=draw(st.integers(0, 2**32 - 1)),
        structure=structure,
        logit=draw(st.sampled_from(logits)),
        powers=draw(powers(dtype)) if use_powers else (0, 0, 0),
        dtype=dtype,
        is_causal=draw(st.booleans()) if causal is None else causal,
        pair=draw(st.booleans()) if pair is None else pair,
    )


# Problems on which identities hold to a few roundings: no extreme scales, no tiny numbers.
TAME = tuple(name for name in STRUCTURES if name not in ("subnormal", "spike row"))
TAME_LOGITS = (0.0, 1e-3, 1.0, 8.0)


def tame(**options: Any) -> st.SearchStrategy[Case]:
    """Cases for algebraic identities, compared in float64 with a small slack."""
    return cases(**{"structures": TAME, "logits": TAME_LOGITS, "scaled": False, **options})
