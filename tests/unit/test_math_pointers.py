"""Pointers to docs/math.md: all of the tree have targets, and those that have none are found."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from tool import loaded

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {".py", ".pyi", ".rs", ".md", ".jinja"}
FOLDERS = ("rust", "python", "tests", "benches", "docs", "examples", "tools")
PAGE = "docs/math.md"

TEXT = r"""# The mathematics

## 1. The problem

**Definition 1.1** (one). See (1.2) and $x_{(2)}$, of [AS24], Lemma 7.7, by Lemma 1.2.

$$a\le(1.2) \tag{1.1}$$

**Lemma 1.2** (two).

$$b \tag{1.2}$$

## 2. The rest

$$c^{(3)} \tag{2.1}$$
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return loaded("math_pointers")


def test_every_pointer_of_the_tree_has_its_target(tool: ModuleType) -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    files += [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    kept = [path for path in files if path.suffix in SOURCES and "_build" not in path.parts]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in kept}
    assert list(tool.findings(texts)) == []
    # They are looked for where they are: some in each language.
    for suffix, least in ((".rs", 100), (".py", 100), (".md", 200)):
        found = [
            one for name in texts if name.endswith(suffix) for one in pointers(tool, name, texts)
        ]
        assert len(found) >= least, suffix


def pointers(tool: ModuleType, name: str, texts: dict[str, str]) -> set[tuple[str, str]]:
    return {(one.kind, one.number) for one in tool.pointers(name, texts[name])}


def test_the_page_itself(tool: ModuleType) -> None:
    assert list(tool.findings({PAGE: TEXT})) == []
    want = {("equation", "1.2"), ("Lemma", "1.2"), ("Definition", "1.1")}
    assert pointers(tool, PAGE, {PAGE: TEXT}) == want


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (r"\tag{1.2}", r"\tag{1.1}", "found equation 1.1; expected 1.2"),
        (r"\tag{1.2}", r"\tag{2.2}", "found equation 2.2; expected 1.2"),
        (r"\tag{2.1}", r"\tag{169}", "found equation 169; expected 2.1"),
        ("**Lemma 1.2**", "**Lemma 1.3**", "found statement 1.3; expected 1.2"),
        ("**Lemma 1.2** (two)", "**Lemma (two)", "found a statement without a number"),
        ("See (1.2)", "See (1.9)", "found a pointer to equation 1.9"),
        (r"a\le(1.2)", r"a\le(1.4)", "found a pointer to equation 1.4"),
        ("by Lemma 1.2", "by Theorem 1.2", "found a pointer to Theorem 1.2"),
        ("by Lemma 1.2", "by section 3", "found a pointer to section 3"),
    ],
)
def test_what_is_wrong_on_the_page_is_found(
    tool: ModuleType, old: str, new: str, words: str
) -> None:
    assert TEXT.count(old) == 1
    assert any(words in one for one in tool.findings({PAGE: TEXT.replace(old, new)}))


@pytest.mark.parametrize(
    ("name", "text", "numbers"),
    [
        ("a.rs", "//! One (docs/math.md, equations 1.1 to 1.2 and\n//! 2.1).", "1.1 1.2 2.1"),
        (
            "a.rs",
            "/// As (1.1), or eqs. (1.2) and (2.1), or f(1.9).\nlet x = (1.8);",
            "1.1 1.2 2.1",
        ),
        ("a.rs", "let x = y; // (66) once", "66"),
        ("a.py", '"""Eq. (1.1) - (1.2) of docs/math.md (2.1)."""\nx = "(1.7)"\n', "1.1 1.2 2.1"),
        ("a.py", "x = (1.5)  # eq. 1.1\n", "1.1"),
        ("a.py", 'x = "eq. (12)"\n', "12"),
        ("a.md", "In docs/math.md, equation 2.1, and 1.05 (1.5).", "2.1"),
        ("a.md", "In [math.md](math.md), section 2 and Lemma 1.2.", "2"),
        ("a.md", "By docs/math.md, Lemma 1.2, and the paper's Theorem 1.6.", "1.2"),
        ("a.md", "By docs/math.md, sections 1, 2 and 9.", "1 2 9"),
    ],
)
def test_pointers_are_seen(tool: ModuleType, name: str, text: str, numbers: str) -> None:
    want = set(numbers.split())
    assert {number for _, number in pointers(tool, name, {name: text})} == want
    findings = "\n".join(tool.findings({PAGE: TEXT, name: text}))
    lost = set(re.findall(r"pointer to \w+ (\S+) of", findings))
    assert lost == want - {"1.1", "1.2", "2.1", "1", "2"}
