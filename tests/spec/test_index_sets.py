"""Which monomials are features: eq. (10.4) - (10.6) of docs/math.md."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import _core
from attngrad_rs.features import IndexSet
from helpers import Array, assert_ratio

pytestmark = pytest.mark.spec

SMALL = st.tuples(st.integers(0, 5), st.integers(0, 5))
SPECTRA = st.lists(st.floats(1e-6, 0.4), min_size=1, max_size=5)
# A logarithm of a contribution is a sum of a few; equal contributions differ by its rounding.
LEVEL = 1e-9


def members(index: IndexSet) -> set[tuple[int, ...]]:
    return {tuple(int(power) for power in beta) for beta in index.exponents}


def everything(dimension: int, degree: int) -> set[tuple[int, ...]]:
    powers = itertools.product(range(degree + 1), repeat=dimension)
    return {beta for beta in powers if sum(beta) <= degree}


def grades(index: IndexSet) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.asarray(index.exponents.sum(axis=1), dtype=np.intp)


def monomials(x: Array, index: IndexSet) -> Array:
    return index.monomials(x, _core.Options())


def assert_well_formed(index: IndexSet) -> None:
    """No member twice, in the order of the grades, and with each β everything below it."""
    found = members(index)
    assert len(found) == len(index)
    assert grades(index).tolist() == sorted(grades(index))
    assert grades(index).max() <= index.degree
    for beta in found:
        for axis, power in enumerate(beta):
            below = (*beta[:axis], power - 1, *beta[axis + 1 :])
            assert power == 0 or below in found


@given(SMALL)
def test_total_degree_is_complete(sizes: tuple[int, int]) -> None:
    dimension, degree = sizes
    index = IndexSet.total_degree(dimension, degree)
    assert_well_formed(index)
    assert members(index) == everything(dimension, degree)
    assert len(index) == math.comb(dimension + degree, degree)


def test_counts_of_the_paper() -> None:
    assert [len(IndexSet.total_degree(16, degree)) for degree in range(5)] == [
        1,
        17,
        153,
        969,
        4845,
    ]


@given(SMALL)
def test_multinomials_are_exact(sizes: tuple[int, int]) -> None:
    index = IndexSet.total_degree(*sizes)
    for beta, weight in zip(index.exponents.tolist(), index.multinomials, strict=True):
        exact = math.factorial(sum(beta)) // math.prod(map(math.factorial, beta))
        assert weight == float(exact)


def test_multinomials_beyond_64_bits() -> None:
    index = IndexSet.total_degree(3, 24)
    row = index.exponents.tolist().index([8, 8, 8])
    assert index.multinomials[row] == math.factorial(24) // math.factorial(8) ** 3
    assert index.multinomials.sum() == pytest.approx(sum(3**a for a in range(25)), rel=1e-12)


@given(SMALL, st.integers(0, 2**32 - 1))
def test_powers_of_an_inner_product(sizes: tuple[int, int], seed: int) -> None:
    """⟨q, k⟩^a is the sum over |β| = a of multinomial(β) q^β k^β."""
    dimension, degree = sizes
    q, k = np.random.default_rng(seed).integers(-4, 5, (2, 1, dimension)).astype(float)
    index = IndexSet.total_degree(dimension, degree)
    terms = (index.multinomials * monomials(q, index) * monomials(k, index))[0]
    for grade in range(degree + 1):
        # Small integers: every product and sum is exact.
        assert terms[grades(index) == grade].sum() == float(q[0] @ k[0]) ** grade


@given(SMALL, st.integers(0, 2**32 - 1), st.sampled_from((np.float32, np.float64)))
def test_monomials_are_powers(sizes: tuple[int, int], seed: int, dtype: type) -> None:
    dimension, degree = sizes
    index = IndexSet.total_degree(dimension, degree)
    x = np.random.default_rng(seed).uniform(-2, 2, (3, dimension)).astype(dtype)
    got = monomials(x, index)
    assert got.dtype == dtype
    assert got.shape == (3, len(index))
    want = np.prod(x[:, None, :].astype(np.float64) ** index.exponents, axis=2)
    # One rounding for each multiplication.
    assert_ratio(got, want, np.abs(want), degree * float(np.finfo(dtype).eps), "x^β")


def contribution(spectrum: list[float], beta: tuple[int, ...]) -> float:
    """Logarithm of eq. (10.6), from its definition; rising powers count as the largest to come."""
    total = 0.0
    for size, power in zip(spectrum, beta, strict=True):
        odd = math.prod(range(1, 2 * power, 2))
        total += math.log(Fraction(odd, math.factorial(power))) + power * math.log(size)
    return total


@given(SPECTRA, st.integers(0, 5), st.integers(1, 60))
def test_anisotropic_sets_keep_what_contributes_most(
    spectrum: list[float], degree: int, most: int
) -> None:
    index = IndexSet.anisotropic(spectrum, degree, most)
    assert_well_formed(index)
    assert len(index) <= most
    complete = everything(len(spectrum), degree)
    kept = members(index)
    assert kept <= complete
    if len(complete) <= most:
        assert kept == complete
        return
    # Below 1/2 contributions fall with every power, so that no envelope is needed.
    lowest = min(contribution(spectrum, beta) for beta in kept)
    highest = max(contribution(spectrum, beta) for beta in complete - kept)
    assert lowest >= highest - LEVEL
    # As many as fit: with one level more it would be too large.
    next_level = [b for b in complete - kept if contribution(spectrum, b) >= highest - LEVEL]
    assert len(index) + len(next_level) > most


def test_anisotropic_sets_of_large_logits_stay_within_the_count() -> None:
    """Contributions that rise with the power leave fewer powers, never more features."""
    index = IndexSet.anisotropic([50.0] * 6, 4, 20)
    assert_well_formed(index)
    assert 1 <= len(index) <= 20


@given(SPECTRA, st.integers(0, 5), st.integers(1, 60), st.randoms(use_true_random=False))
def test_a_set_is_had_back_from_its_exponents(
    spectrum: list[float], degree: int, most: int, random: Any
) -> None:
    """In whichever order they are given; without one that others are above, there is no set."""
    index = IndexSet.anisotropic(spectrum, degree, most)
    order = list(range(len(index)))
    random.shuffle(order)
    again = IndexSet.from_exponents(index.exponents[order])
    assert (again.exponents == index.exponents).all()
    assert (again.multinomials == index.multinomials).all()
    inner = [row for row in order if len(order) > 1 and grades(index)[row] < index.degree]
    for row in inner[:3]:
        above = index.exponents[row] < index.exponents
        if (index.exponents[row] <= index.exponents).all(axis=1)[above.any(axis=1)].any():
            with pytest.raises(ag.OptionError, match="exponents: found"):
                IndexSet.from_exponents(np.delete(index.exponents, row, axis=0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: IndexSet.total_degree(60, 30), "degree: found 30, which has"),
        (lambda: IndexSet.anisotropic([0.5], 2, 0), "max_features: found 0"),
        (lambda: IndexSet.anisotropic([float("nan")], 2, 5), "spectrum: found NaN"),
        (lambda: IndexSet.from_exponents(np.zeros((0, 3), np.uint32)), "exponents: found no"),
        (lambda: IndexSet.from_exponents(np.zeros((2, 3), np.uint32)), "exponents: found"),
    ],
)
def test_wrong_sets(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ag.OptionError, match=words):
        call()


def test_monomials_of_other_rows_are_refused() -> None:
    index = IndexSet.total_degree(3, 2)
    with pytest.raises(ag.ShapeError, match="array: found shape"):
        monomials(np.ones((4, 2)), index)
    with pytest.raises(ag.RangeError, match="a power of a coordinate"):
        monomials(np.full((4, 3), 1e200), index)
    with pytest.raises(ag.NonFiniteError, match="array: found NaN at row 0, column 0"):
        monomials(np.full((4, 3), np.nan), index)
