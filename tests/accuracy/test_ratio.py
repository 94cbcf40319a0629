"""Every entry of every gradient is right to 30 eps (1 + L + log2 n) S: eq. (5.13) of docs/math.md.

L is the largest logit and S the sum, both with absolute values inside. Sizes sit on and beside
every tile edge of every dispatch level of this machine; blocks of keys are made small, to end
anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest

import attngrad_rs
from attngrad_rs import _core
from helpers import PROMISE, absolute_sums, error_scale, ratio, truth, truth_f64
from strategies import Case, Shape, build

LENGTHS = (0, 1, 2, 3, 5, 10, 50)
WIDTHS = (1, 2, 3, 5, 16, 17, 64, 65, 129)
KEY_BLOCKS = (1, 3, 20, None)
LOGITS = (1.0, 12.0)
DTYPES = ("float32", "float64")
Tune = Callable[..., None]
Record = Callable[[str, float, str], None]
Routes = Iterable[tuple[str, ...]]
# Different passes run for each: both sides, the query side alone, and the mixed inputs.
ROUTES = (("X", "Y", "A1", "A2", "A3"), ("X",), ("Y",))


def lengths(level: str, dtype: str) -> tuple[set[int], set[int]]:
    """n and m of row 1: the small ones, and one less, as many and one more than a tile holds."""
    queries, keys = _core.tile_shape(level, dtype)
    near = [set(LENGTHS) | {tile - 1, tile, tile + 1} for tile in (queries, keys)]
    return near[0], near[1]


def shapes(width: int, dtype: str) -> Iterator[tuple[Shape, list[str]]]:
    """Shapes of that width with the levels to run them on; the other widths are out of step."""
    k = WIDTHS.index(width)
    d1, d3, dv = (WIDTHS[(k + step) % len(WIDTHS)] for step in (2, 6, 4))
    needed = {level: lengths(level, dtype) for level in _core.levels()}
    for n in sorted(set.union(*(n for n, _ in needed.values()))):
        for m in sorted(set.union(*(m for _, m in needed.values()))):
            levels = [level for level, (ns, ms) in needed.items() if n in ns and m in ms]
            if levels:
                yield Shape(n, m, d1, width, d3, dv), levels


class Judge:
    """Runs one case on many kernels and holds every entry against the truth."""

    def __init__(self, title: str, tune: Tune, record: Record) -> None:
        self.title, self.tune, self.record = title, tune, record

    def check(self, case: Case, settings: Iterable[tuple[str, int | None]], routes: Routes) -> None:
        dtype = case.A1.dtype
        want = truth_f64(case) if dtype == np.float32 else truth(case)
        sums, unit = absolute_sums(want, dtype), error_scale(want, dtype)
        for level, key_block in settings:
            self.tune(level, key_block)
            for route in routes:
                result = attngrad_rs.loss_gradient(*case.args, **case.options, wrt=route)
                for name, got in result.gradients.items():
                    scale = unit * sums[name] + np.finfo(dtype).tiny
                    worst = ratio(got, want.gradient(name), scale)
                    causal = ", causal" if case.is_causal else ""
                    label = f"d{name}, {level}, key block {key_block}, {case.label}{causal}"
                    self.record(f"{self.title}, {dtype}", worst, label)
                    assert worst <= PROMISE, f"{label}: {worst:.3g} > {PROMISE}"


def sweep(width: int, dtype: str, is_causal: bool, judge: Judge, *, every_block: bool) -> None:
    for k, (shape, levels) in enumerate(shapes(width, dtype)):
        case = build(shape, seed=k, dtype=dtype, is_causal=is_causal, logit=LOGITS[k % 2])
        settings = [
            (level, block)
            for at, level in enumerate(levels)
            for block in (KEY_BLOCKS if every_block else (turn(k + at),))
        ]
        judge.check(case, settings, ROUTES)


def turn(k: int) -> int | None:
    """Blocks of keys take turns, so that each meets each width, level and mask."""
    return KEY_BLOCKS[k % len(KEY_BLOCKS)]


CAUSAL = pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])


@CAUSAL
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_entries(width: int, dtype: str, is_causal: bool, tune: Tune, record: Record) -> None:
    sweep(width, dtype, is_causal, Judge("row 1", tune, record), every_block=False)


@pytest.mark.deep
@pytest.mark.timeout(3600)
@CAUSAL
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_entries_for_every_block(
    width: int, dtype: str, is_causal: bool, tune: Tune, record: Record
) -> None:
    sweep(width, dtype, is_causal, Judge("row 1", tune, record), every_block=True)


@CAUSAL
@pytest.mark.parametrize("dtype", DTYPES)
def test_pairs(dtype: str, is_causal: bool, tune: Tune, record: Record) -> None:
    """X given as (W_Q, W_K): the keys are a product of their own."""
    judge = Judge("row 1 for a pair", tune, record)
    for k, width in enumerate(WIDTHS):
        for level in _core.levels():
            queries, keys = _core.tile_shape(level, dtype)
            for n, m in ((1, 1), (queries + 1, 3 * keys - 1), (50, 50)):
                shape = Shape(n, m, WIDTHS[k - 2], WIDTHS[k - 4], 5, WIDTHS[k - 3], width)
                case = build(shape, seed=k, dtype=dtype, is_causal=is_causal, pair=True)
                judge.check(case, [(level, turn(k))], (case.wrt, ("W_Q",), ("W_K",)))


@CAUSAL
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_blocks(dtype: str, is_causal: bool, tune: Tune, record: Record) -> None:
    """Sizes beside those at which work is cut: 128 and 1024 queries, 120 and 240 keys."""
    judge = Judge("row 1 over many blocks", tune, record)
    for k, (n, m) in enumerate(((127, 241), (129, 239), (1023, 121), (1025, 120), (257, 961))):
        shape = Shape(n, m, 3, 5, 4, 3)
        case = build(shape, seed=k, dtype=dtype, is_causal=is_causal, logit=8.0)
        judge.check(case, [(level, turn(k)) for level in _core.levels()], ROUTES)


def long_queries(seed: int, dtype: str) -> Case:
    """Queries that are long beside their logits: each is rounded by more than its logits are."""
    rng = np.random.default_rng(seed)
    case = build(Shape(8, 40, 16, 16, 3, 4), seed=seed, dtype=dtype)
    halves = rng.integers(-7, 8, (40, 8)) / 64.0
    keys = np.stack([halves, -halves], axis=2).reshape(40, 16)
    queries = 1e4 + 2.0 * rng.normal(size=(8, 16))
    arrays = {"A1": queries, "A2": keys, "X": np.eye(16)}
    return replace(case, scale=1.0, **{name: a.astype(dtype) for name, a in arrays.items()})


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_that_cancel(dtype: str, tune: Tune, record: Record) -> None:
    """Long queries and keys that are orthogonal: L counts what cancels in a logit."""
    judge = Judge("row 1, logits that cancel", tune, record)
    for seed in range(5):
        judge.check(long_queries(seed, dtype), [(level, None) for level in _core.levels()], ROUTES)
