"""Random problems on which rounding errors line up, cancel or grow, and their dense truth.

Rows that are alike round alike, so every side draws its own kind of rows: independent, with a
common part, equal, repeated, one-hot, of either sign in turn, and so on. `draw` makes one problem
from a seed; `truth` is its loss and gradients in a wider type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import attngrad_rs

Array = npt.NDArray[Any]
Rng = np.random.Generator

# Powers of ten of what rows differ by, relative to their common part: from less than a rounding of
# float32 to nothing in common.
COMMON = (-8.0, 0.5)


def _common(rng: Rng, n: int, d: int) -> Array:
    return rng.normal(size=d) + 10 ** rng.uniform(*COMMON) * rng.normal(size=(n, d))


def _one_size(rng: Rng, n: int, d: int) -> Array:
    return np.ones(d) + 10 ** rng.uniform(*COMMON) * rng.normal(size=(n, d))


def _equal(rng: Rng, n: int, d: int) -> Array:
    return np.repeat(rng.normal(size=(1, d)), n, axis=0)


def _repeated(rng: Rng, n: int, d: int) -> Array:
    different = int(rng.integers(2, 12))
    return rng.normal(size=(different, d))[rng.integers(0, different, n)]


def _one_hot(rng: Rng, n: int, d: int) -> Array:
    return np.eye(d)[rng.integers(0, d, n)]


def _in_turn(rng: Rng, n: int, d: int) -> Array:
    return np.where(np.arange(n) % 2, 1.0, -1.0)[:, None] * rng.normal(size=d)


def _pairs(rng: Rng, n: int, d: int) -> Array:
    rows = rng.normal(size=(n, d))
    rows[1::2] = -rows[: n - n % 2 : 2]
    return rows


def _clusters(rng: Rng, n: int, d: int) -> Array:
    centres = rng.normal(size=(4, d))
    return centres[rng.integers(0, 4, n)] + 10 ** rng.uniform(*COMMON) * rng.normal(size=(n, d))


def _rank_one(rng: Rng, n: int, d: int) -> Array:
    return np.outer(np.linspace(-1.0, 1.0, n), rng.normal(size=d))


def _heavy(rng: Rng, n: int, d: int) -> Array:
    return rng.standard_t(2, (n, d))


def _spike(rng: Rng, n: int, d: int) -> Array:
    rows = rng.normal(size=(n, d))
    rows[rng.integers(n)] *= 1000.0
    return rows


def _whole(rng: Rng, n: int, d: int) -> Array:
    return rng.integers(-3, 4, (n, d)).astype(float)


def _normal(rng: Rng, n: int, d: int) -> Array:
    return rng.normal(size=(n, d))


def _positive(rng: Rng, n: int, d: int) -> Array:
    return rng.uniform(size=(n, d))


# How the rows of one side are drawn.
SIDES: dict[str, Callable[[Rng, int, int], Array]] = {
    "normal": _normal,
    "positive": _positive,
    "common part": _common,
    "one size": _one_size,
    "equal": _equal,
    "repeated": _repeated,
    "one-hot": _one_hot,
    "signs in turn": _in_turn,
    "pairs of either sign": _pairs,
    "clusters": _clusters,
    "rank one": _rank_one,
    "heavy tails": _heavy,
    "spike": _spike,
    "whole numbers": _whole,
}
# Those whose rows may be alike to the last bit, where all roundings are the same.
ALIKE = ("common part", "common part", "one size", "equal", "repeated", "clusters")
# The target, or the incoming gradient in its place.
TARGETS = ("normal", "zero", "output", "common", "dout", "common dout", "one row of dout")
# Powers of ten of the largest logits.
SCALES = ("near-uniform", "small", "usual", "large")
LOGITS = {"near-uniform": (-9, -2), "small": (-2, 0), "usual": (0, 1.2), "large": (1.2, 3)}
# Logits are taken to be no smaller than so much of the product of norms.
LEAST_COSINE = 1e-4
# n and m, several of each: few and many, the latter with room for blocks, waves and chunks.
SIZES = ((1, 12), (12, 80), (80, 400))
LONG = (2_000, 30_000)
SHORT = (2, 200)
KEY_BLOCKS = (None, None, None, 1, 7, 100, 10_000)


@dataclass(frozen=True)
class Drawn:
    """One problem: arrays of the dtype it is solved in.

    With `is_incoming` it is attention itself: E is dL/do, and there are no weights.
    """

    arrays: dict[str, Array]
    wrt: tuple[str, ...]
    scale: float
    is_causal: bool
    is_incoming: bool
    key_block: int | None
    label: str
    kinds: tuple[str, ...]

    @property
    def dtype(self) -> Any:
        return self.arrays["A1"].dtype

    def solve(self) -> tuple[float | None, dict[str, Array], dict[str, float]]:
        """The library's loss, its gradients, and the bounds of both by name; exact."""
        a = self.arrays
        if self.is_incoming:
            # With a tolerance, so that the estimate of short heads knows which rows are alike.
            options = {"scale": self.scale, "is_causal": self.is_causal, "atol": 1e300}
            vjp = attngrad_rs.attention_vjp(a["A1"], a["A2"], a["A3"], a["E"], **options)
            names = {"A1": "query", "A2": "key", "A3": "value"}
            bounds = {name: vjp.certificates[of].absolute for name, of in names.items()}
            return None, dict(zip(names, vjp, strict=True)), bounds
        weights = (a["W_Q"], a["W_K"]) if "W_Q" in a else a["X"]
        got = attngrad_rs.loss_gradient(
            a["A1"],
            a["A2"],
            a["A3"],
            weights,
            a["Y"],
            a["E"],
            wrt=self.wrt,
            scale=self.scale,
            is_causal=self.is_causal,
        )
        bounds = {name: certificate.absolute for name, certificate in got.certificates.items()}
        return got.loss, dict(got.gradients), bounds | {"loss": got.loss_certificate.absolute}


def _sizes(rng: Rng, share_long: float) -> tuple[int, int]:
    if rng.random() < share_long:
        long, short = (int(10 ** rng.uniform(*np.log10(sizes))) for sizes in (LONG, SHORT))
        return (long, short) if rng.random() < 0.6 else (short, long)
    n, m = (int(rng.integers(*SIZES[rng.integers(len(SIZES))])) for _ in range(2))
    return n, m


def _target(rng: Rng, kind: str, output: Array) -> Array:
    if kind == "zero":
        return np.zeros_like(output)
    if kind == "output":
        return output + 10 ** rng.uniform(-12, 0) * rng.normal(size=output.shape)
    if kind in ("common", "common dout"):
        return _common(rng, *output.shape)
    if kind == "one row of dout":
        rows = np.zeros_like(output)
        rows[rng.integers(len(rows))] = rng.normal(size=output.shape[1])
        return rows
    return rng.normal(size=output.shape)


def softmax(logits: Array, is_causal: bool) -> Array:
    if is_causal:
        n, m = logits.shape
        logits = np.where(np.arange(m) > np.arange(n)[:, None], -np.inf, logits)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def draw(seed: int, typical: bool = False) -> Drawn:
    """One problem. `typical`: independent normal rows everywhere, no key blocks of odd sizes."""
    rng = np.random.default_rng(seed)
    names = list(SIDES)

    # One in eight problems has rows that are alike on every side.
    is_alike = not typical and rng.random() < 0.125

    def pick() -> str:
        luck = rng.random()
        if is_alike:
            return ALIKE[rng.integers(len(ALIKE))]
        return "normal" if typical or luck < 0.3 else names[rng.integers(len(names))]

    n, m = _sizes(rng, 0.3 if is_alike else 0.06)
    d1, d2, d3, dv = (int(rng.integers(1, 20)) for _ in range(4))
    kind = "normal" if typical else TARGETS[rng.integers(len(TARGETS))]
    if is_alike and rng.random() < 0.5:
        kind = "zero"
    is_incoming = "dout" in kind
    if is_incoming:
        d2, dv = d1, d3
    kinds = tuple(pick() for _ in range(3))
    dtype = np.float32 if rng.random() < 0.6 else np.float64
    is_causal = bool(rng.random() < 0.25)
    is_pair = bool(rng.random() < 0.4)
    sides = {
        name: SIDES[kind](rng, rows, width) * 10 ** rng.uniform(-1, 1)
        for name, kind, rows, width in zip(
            ("A1", "A2", "A3"), kinds, (n, m, m), (d1, d2, d3), strict=True
        )
    }
    weights: dict[str, Array]
    if is_incoming:
        weights, X, Y = {}, np.eye(d1), np.eye(d3)
    elif is_pair:
        k = int(rng.integers(1, 20))
        weights = {"W_Q": rng.normal(size=(d1, k)), "W_K": rng.normal(size=(d2, k))}
        X = weights["W_Q"] @ weights["W_K"].T
    else:
        X = rng.normal(size=(d1, d2)) if d1 != d2 or rng.random() < 0.7 else np.eye(d1)
        weights = {"X": X}
    if not is_incoming:
        Y = rng.normal(size=(d3, dv)) if d3 != dv or rng.random() < 0.7 else np.eye(d3)
        weights["Y"] = Y
    logits = sides["A1"] @ X @ sides["A2"].T
    size = SCALES[rng.integers(2 if is_alike else len(SCALES))]
    # Logits that are zero but for rounding are not blown up to those of that size.
    rows = float(np.prod([np.linalg.norm(a, axis=1).max() for a in (sides["A1"] @ X, sides["A2"])]))
    largest = max(float(np.abs(logits).max()), LEAST_COSINE * rows) or 1.0
    scale = float(10 ** rng.uniform(*LOGITS[size]) / largest)
    output = softmax(scale * logits, is_causal) @ (sides["A3"] @ Y)
    E = _target(rng, kind, output)
    wrt = (*weights, "A1", "A2", "A3")
    key_block = None if typical else KEY_BLOCKS[rng.integers(len(KEY_BLOCKS))]
    if rng.random() < 0.5 and not is_incoming:
        wrt = (wrt[rng.integers(len(wrt))],)
    arrays = {**sides, **weights, "E": E}
    return Drawn(
        arrays={name: array.astype(dtype) for name, array in arrays.items()},
        wrt=wrt,
        scale=scale,
        is_causal=is_causal,
        is_incoming=is_incoming,
        key_block=key_block,
        label=(
            f"seed {seed}: {n} x {m}, widths {(d1, d2, d3, dv)}, {'/'.join(kinds)}, {kind}, "
            f"{size} logits, {np.dtype(dtype)}, {'causal, ' if is_causal else ''}"
            f"{'pair, ' if is_pair else ''}key block {key_block}"
        ),
        kinds=(*kinds, kind, size, str(np.dtype(dtype)), "causal" if is_causal else "full"),
    )


def truth(drawn: Drawn) -> tuple[Any, dict[str, Array]]:
    """Loss and gradients of a problem in float64 for float32, in extended precision for float64."""
    wide = np.float64 if drawn.dtype == np.float32 else np.longdouble
    a = {name: array.astype(wide) for name, array in drawn.arrays.items()}
    s = wide(drawn.scale)
    if drawn.is_incoming:
        a |= {"X": np.eye(a["A1"].shape[1], dtype=wide), "Y": np.eye(a["A3"].shape[1], dtype=wide)}
    is_pair = "W_Q" in a
    queries = a["A1"] @ (a["W_Q"] if is_pair else a["X"])
    keys = a["A2"] @ a["W_K"] if is_pair else a["A2"]
    values = a["A3"] @ a["Y"]
    f = softmax(s * (queries @ keys.T), drawn.is_causal)
    output = f @ values
    c = a["E"] if drawn.is_incoming else output - a["E"]
    # Rows of p sum to zero, so what is common to the values may go first: less to cancel.
    p = f * np.einsum("jk,ik->ji", c, values - values.mean(axis=0))
    p -= f * p.sum(axis=1, keepdims=True)
    by_keys, by_queries, by_values = s * (p @ keys), s * (p.T @ queries), f.T @ c
    gradients = {"Y": a["A3"].T @ by_values, "A3": by_values @ a["Y"].T}
    if is_pair:
        gradients |= {
            "W_Q": a["A1"].T @ by_keys,
            "W_K": a["A2"].T @ by_queries,
            "A1": by_keys @ a["W_Q"].T,
            "A2": by_queries @ a["W_K"].T,
        }
    else:
        gradients |= {"X": a["A1"].T @ by_keys, "A1": by_keys @ a["X"].T, "A2": by_queries}
    return np.sum(c * c) / 2, gradients


def is_zero(drawn: Drawn, got: Array, want: Array) -> bool:
    """Whether a result is zero, and the truth too but for what its own rounding leaves."""
    norms = [float(np.sqrt(np.sum(np.square(a.astype(float))))) for a in drawn.arrays.values()]
    size = max(drawn.scale, 1.0) * float(np.prod([max(norm, 1.0) for norm in norms])) ** 2
    return not np.any(got) and distance(got, want) <= 1e3 * float(np.finfo(want.dtype).eps) * size


def distance(got: Any, want: Any) -> float:
    """The Frobenius norm of the difference, taken in the wider type; NaN comes through."""
    return float(np.sqrt(np.sum(np.square(np.asarray(got).astype(want.dtype) - want))))
