"""Plain values as text and back, and tables as CSV: what is written is what was computed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from ..errors import InternalError
from .base import Row, Value

__all__ = ["columns_of", "decode", "encode", "from_csv", "to_csv"]

WORDS: dict[str, Value] = {"": None, "True": True, "False": False}


def encode(value: Value) -> str:
    """Text that ``decode`` turns into the same value; floats in the shortest form that is exact.

    Raises
    ------
    InternalError
        For text that would be read back as something else, such as ``"16"``.
    """
    if isinstance(value, str) and decode(value) != value:
        raise InternalError(f"found the text {value!r} in a table; a number is no text")
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def decode(text: str) -> Value:
    """The value of a text; what is no number, no truth value and not empty is text."""
    if text in WORDS:
        return WORDS[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def columns_of(rows: Iterable[Row]) -> list[str]:
    """All columns, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def to_csv(rows: Sequence[Row]) -> bytes:
    """A table as a CSV file in UTF-8, one header line first."""
    text = io.StringIO()
    columns = columns_of(rows)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([encode(row.get(column)) for column in columns] for row in rows)
    return text.getvalue().encode()


def from_csv(content: bytes) -> list[Row]:
    """The rows of a CSV file."""
    lines = csv.reader(io.StringIO(content.decode()))
    columns = next(lines, [])
    return [dict(zip(columns, map(decode, line), strict=True)) for line in lines]
