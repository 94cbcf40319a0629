"""Numbers of docs/math.md, and every pointer to them in code, tests and pages.

Equations, "(9.12)", and statements, "Lemma 9.3", are numbered by section, each from 1 on. Pointers
are "equation 9.12", "eqs. (9.1) to (9.3)" anywhere, "(9.12)" in comments, docstrings and on the
page itself, and behind the name of the page also its sections and statements: "docs/math.md, Lemma
9.3". A statement of a cited work has it before the name: "[AS24], Lemma 3.1", "its Lemma 3.1".
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from typing import NamedTuple

PAGE = "docs/math.md"
# Their pointers are examples, of another page.
EXAMPLES = ("tests/unit/test_math_pointers.py", "docs/_extensions/")
KINDS = "Definition|Lemma|Proposition|Theorem|Corollary|Hypothesis|Remark|Rule|Algorithm"
NUMBER = r"\d+\.[1-9]\d*"
# From one number of a list to the next; a comment may break between them.
BREAK = r"(?:[ \t]+|[ \t]*\n[ \t]*(?:(?://[/!]?|#)[ \t]*)?)"
NEXT = rf"(?:,{BREAK}(?:(?:and|or){BREAK})?|{BREAK}(?:and|or|to|-|–){BREAK}|[–-])"


def _list(number: str) -> str:
    return rf"(?P<numbers>{number}(?:{NEXT}{number})*)"


# Not of a cited work.
OWN = r"(?<!\], )(?<!paper's )(?<!its )"
STATEMENTS = re.compile(rf"{OWN}\b(?P<kind>{KINDS})s?{BREAK}{_list(NUMBER)}")
# A number without a section is none of the page, and found to be so.
ANY = rf"\(?(?:{NUMBER}|P?\d+\b(?!\.\d))\)?"
EQUATIONS = re.compile(rf"\b(?:[Ee]quations?|[Ee]qs?\.){BREAK}{_list(ANY)}")
BEHIND = r"math\.md(?:\)|``|`)?,?(?:" + BREAK + r"after)?" + BREAK
COUNT = r"\d+"
SECTIONS = re.compile(rf"{BEHIND}sections?{BREAK}{_list(COUNT)}(?!\.?\d)")
# No argument of a function and no exponent.
BARE = re.compile(r"(?<![\w.\])}`'\"^|])\((\d+\.[1-9]\d*|\d{2,3})\)")
ON_PAGE = re.compile(r"(?:(?<![\w\])}^{'])|(?<=\\le))\((\d+\.[1-9]\d*|P?\d{2,3})\)")
TAG = re.compile(r"\\tag\{([^{}]*)\}")


class Pointer(NamedTuple):
    """What a text points to."""

    line: int
    # "equation", "section", or the kind of a statement.
    kind: str
    number: str


class Targets(NamedTuple):
    """What there is to point to."""

    sections: frozenset[str]
    equations: frozenset[str]
    # Kinds by number.
    statements: Mapping[str, str]

    def has(self, pointer: Pointer) -> bool:
        """Whether a pointer leads anywhere."""
        if pointer.kind == "section":
            return pointer.number in self.sections
        if pointer.kind == "equation":
            return pointer.number in self.equations
        return self.statements.get(pointer.number) == pointer.kind


def targets(page: str) -> tuple[Targets, list[str]]:
    """The targets of the page, and numbers that are not the next of their section."""
    section, findings = "", []
    sections: set[str] = set()
    equations: dict[str, int] = {}
    statements: dict[str, str] = {}
    counts = {"equation": 0, "statement": 0}

    def expect(line: int, what: str, number: str) -> None:
        counts[what] += 1
        if number != (wanted := f"{section}.{counts[what]}"):
            findings.append(f"{PAGE}:{line}: found {what} {number}; expected {wanted}")

    for line, text in enumerate(page.split("\n"), 1):
        if found := re.match(r"## (\d+)\. ", text):
            section = found[1]
            sections.add(section)
            counts = {"equation": 0, "statement": 0}
        for tag in TAG.findall(text):
            expect(line, "equation", tag)
            equations[tag] = line
        if found := re.match(rf"\*\*({KINDS}) ({NUMBER})\*\*", text):
            expect(line, "statement", found[2])
            statements[found[2]] = found[1]
        elif re.match(rf"\*\*({KINDS})\b", text):
            findings.append(f"{PAGE}:{line}: found a statement without a number")
    return Targets(frozenset(sections), frozenset(equations), statements), findings


def pointers(name: str, text: str) -> Iterator[Pointer]:
    """Every pointer of a file."""

    def found(start: int, kind: str, numbers: str) -> Iterator[Pointer]:
        line = text.count("\n", 0, start) + 1
        for number in re.findall(rf"{NUMBER}|P?\d+", numbers):
            yield Pointer(line, kind, number)

    spans = list(_prose(name, text))
    for start, end, has_bare in spans:
        part = text[start:end]
        for match in EQUATIONS.finditer(part):
            yield from found(start + match.start(), "equation", match["numbers"])
        for match in SECTIONS.finditer(part):
            yield from found(start + match.start(), "section", match["numbers"])
        bare = ON_PAGE if name == PAGE else BARE
        for match in bare.finditer(part) if has_bare else ():
            yield from found(start + match.start(), "equation", match[1])
        for match in STATEMENTS.finditer(part):
            if name == PAGE or re.search(rf"{BEHIND}$", part[: match.start()]):
                yield from found(start + match.start(), match["kind"], match["numbers"])
        if name == PAGE:
            for match in re.finditer(r"(?<!its )\bsections? (\d+)\b(?!\.\d)", part):
                yield from found(start + match.start(), "section", match[1])


def _prose(name: str, text: str) -> Iterator[tuple[int, int, bool]]:
    """Where text is for a reader, and whether numbers in brackets are pointers there."""
    if name.endswith(".rs"):
        # Whole lines of a comment go together.
        for match in re.finditer(r"(?m)(?:^[ \t]*//.*\n?)+|(?<!:)//.*$", text):
            yield match.start(), match.end(), True
    elif name.endswith((".py", ".pyi")):
        yield from _python(text)
    else:
        yield 0, len(text), name == PAGE


def _python(text: str) -> Iterator[tuple[int, int, bool]]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    prior = tokenize.NEWLINE
    opens = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        start, end = (starts[row - 1] + column for row, column in (token.start, token.end))
        if token.type == tokenize.COMMENT:
            yield start, end, True
        elif token.type == tokenize.STRING:
            yield start, end, prior in opens
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            prior = token.type


def findings(texts: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the numbers of the page, and pointers to nothing, in files by name."""
    known, wrong = targets(texts[PAGE])
    yield from wrong
    for name, text in sorted(texts.items()):
        for pointer in pointers(name, text) if not name.startswith(EXAMPLES) else ():
            if not known.has(pointer):
                yield (
                    f"{name}:{pointer.line}: found a pointer to {pointer.kind} {pointer.number} of"
                    f" {PAGE}, which is not there"
                )
