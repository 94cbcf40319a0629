"""Columns of rows as numbers: what a table holds is any plain value until it is asked for here."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import linregress

from ..errors import InternalError
from .base import Row

__all__ = ["exponent", "numbers", "real", "whole"]


def real(row: Row, column: str) -> float:
    """The number in a column of a row, NaN and infinity included.

    Raises
    ------
    InternalError
        If there is no such column, or text, a truth value or nothing in it.
    """
    value = row.get(column)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InternalError(f"{column}: found {value!r} in a table; expected a number")
    return float(value)


def whole(row: Row, column: str) -> int:
    """The whole number in a column of a row; errors as ``real``."""
    value = real(row, column)
    if not value.is_integer():
        raise InternalError(f"{column}: found {value!r} in a table; expected a whole number")
    return int(value)


def numbers(rows: Sequence[Row], column: str) -> list[float]:
    """The numbers of a column; errors as ``real``."""
    return [real(row, column) for row in rows]


def exponent(rows: Sequence[Row], base: str, column: str) -> float:
    """The power of ``base`` that ``column`` grows like: least squares in logarithms.

    Rows where ``column`` is not finite do not count; NaN where fewer than two are left.
    """
    pairs = [(real(row, base), real(row, column)) for row in rows]
    logs = np.log([pair for pair in pairs if math.isfinite(pair[1])])
    if len(logs) < 2:
        return math.nan
    return float(linregress(logs[:, 0], logs[:, 1]).slope)
