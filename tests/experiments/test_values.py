"""Values as text and back, and verdicts that read their numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngrad_rs.errors import InternalError
from attngrad_rs.experiments.base import Cell, Row, Verdict, judged, plain, worded
from attngrad_rs.experiments.cells import columns_of, decode, encode, from_csv, to_csv
from attngrad_rs.experiments.claims import CLAIMS
from attngrad_rs.experiments.registry import EXPERIMENTS
from attngrad_rs.experiments.rows import exponent, numbers, real, whole

WORDS = st.text(alphabet="abcxyz ,;\"\n'", min_size=1).filter(lambda text: decode(text) == text)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), WORDS)
NAMES = st.text(alphabet="abc_", min_size=1, max_size=5)


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    found = decode(encode(value))
    assert found == value
    assert type(found) is type(value)


def test_nan_comes_back() -> None:
    assert math.isnan(decode(encode(math.nan)))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["16", "1e-3", "nan", "inf", "True"])
def test_text_that_would_be_read_as_something_else_is_refused(text: str) -> None:
    with pytest.raises(InternalError, match="a number is no text"):
        encode(text)


@given(st.lists(st.dictionaries(NAMES, VALUES, min_size=1), min_size=1, max_size=6))
def test_a_table_comes_back(rows: list[Any]) -> None:
    columns = columns_of(rows)
    assert from_csv(to_csv(rows)) == [{name: row.get(name) for name in columns} for row in rows]


def test_numbers_of_numpy_become_plain() -> None:
    assert type(plain(np.float64(1.5))) is float
    assert type(plain(np.int32(3))) is int
    assert type(plain(np.bool_(True))) is bool
    with pytest.raises(InternalError, match="expected a plain value"):
        plain([1])


def test_a_verdict_reads_one_row() -> None:
    tables: Any = {"t": [{"a": 1, "x": 0.5}, {"a": 2, "x": math.nan}, {"a": 2, "x": 3.0}]}
    cell = Cell("t", "x", {"a": 1})
    finding = judged(Verdict("x is {x:.1f}", {"x": cell}, lambda x: x < 1.0), tables)
    assert finding.text == "x is 0.5"
    assert finding.holds is True
    for bad in (Cell("t", "x", {"a": 2}), Cell("t", "x", {"a": 3}), Cell("t", "y", {"a": 1}),
                Cell("u", "x", {})):  # fmt: skip
        with pytest.raises(InternalError, match="expected one"):
            judged(Verdict("{x}", {"x": bad}), tables)


@pytest.mark.parametrize(
    ("value", "form", "want"),
    [
        (True, "", "yes"), (False, "", "no"), (None, "", "none"), (math.inf, ".2f", "infinite"),
        (-math.inf, "", "infinite"), (math.nan, ".1e", "undefined"), (-0.001, ".2f", "0.00"),
        (-0.001, ".0%", "0%"), (-0.5, ".0f", "0"), (-0.25, ".2f", "-0.25"), (3, "", "3"),
        ("at 0.1", "", "at 0.1"), (1.5, ".1f", "1.5"),
    ],
)  # fmt: skip
def test_a_sentence_has_words_for_what_is_no_number(value: Any, form: str, want: str) -> None:
    assert worded(f"It is {{x:{form}}}.", {"x": value}) == f"It is {want}."


def test_a_sentence_may_depend_on_its_numbers() -> None:
    tables: Any = {"t": [{"x": math.inf}]}

    def text(x: float) -> str:
        return "It ends at {x:.1f}." if math.isfinite(x) else "It never ends."

    verdict = Verdict(text, {"x": Cell("t", "x", {})}, lambda x: x > 1.0)
    assert judged(verdict, tables).text == "It never ends."
    tables["t"][0]["x"] = 2.0
    assert judged(verdict, tables).text == "It ends at 2.0."


def test_nan_never_holds() -> None:
    tables: Any = {"t": [{"x": math.nan}]}
    cells = {"x": Cell("t", "x", {})}
    for judge in (lambda x: x < 1.0, lambda x: x > 1.0, lambda x: x == x):
        assert judged(Verdict("", cells, judge), tables).holds is False


def test_what_was_read_off_the_data_is_not_judged_by_it() -> None:
    tables: Any = {"t": [{"x": 2.0}]}
    verdict = Verdict("{x}", {"x": Cell("t", "x", {})}, lambda x: x > 1.0, unjudged="quick")
    assert judged(verdict, tables, "full").holds is True
    finding = judged(verdict, tables, "quick")
    assert finding.holds is None
    assert finding.word == "reported"
    assert "only other draws" in finding.note


@pytest.mark.parametrize("value", [None, True, "16", ""])
def test_what_is_no_number_is_not_read_as_one(value: Any) -> None:
    for read in (real, whole):
        with pytest.raises(InternalError, match=r"n: found .* in a table; expected a number"):
            read({"n": value}, "n")
        with pytest.raises(InternalError, match="n: found None"):
            read({}, "n")
    with pytest.raises(InternalError, match="expected a whole number"):
        whole({"n": 1.5}, "n")
    with pytest.raises(InternalError, match="expected a whole number"):
        whole({"n": math.inf}, "n")
    assert whole({"n": 3.0}, "n") == 3
    assert numbers([{"n": 1}, {"n": math.inf}], "n") == [1.0, math.inf]


def test_experiments_stand_in_the_order_of_the_claims() -> None:
    places = [CLAIMS.index(one.claim) for one in EXPERIMENTS.values()]
    assert places == sorted(places)
    assert set(places) == set(range(len(CLAIMS)))


@given(st.floats(-3.0, 3.0), st.floats(1e-3, 1e3))
def test_the_exponent_of_a_power_is_its_power(power: float, factor: float) -> None:
    rows: list[Row] = [{"n": n, "t": factor * n**power} for n in (10, 20, 70)]
    endless: Row = {"n": 90, "t": math.inf}
    assert exponent([*rows, endless], "n", "t") == pytest.approx(power, abs=1e-12)
    assert math.isnan(exponent([rows[0], endless], "n", "t"))
