"""The check of the tree's shape: it sees what does not belong there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_layout.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_layout", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tree_is_clean(tool: ModuleType) -> None:
    sizes = dict.fromkeys(("Cargo.toml", "rust/src/lib.rs", "tests/unit/test_layout.py"), 1)
    assert list(tool.stray_findings({**sizes, "python/attngrad_rs/py.typed": 0})) == []


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("x", 0, ("x: found at the root", "x: found an empty file")),
        ("notes.md", 7, ("notes.md: found at the root",)),
        ("scratch/one.py", 7, ("scratch: found at the root",)),
        ("rust/src/left.rs", 0, ("rust/src/left.rs: found an empty file",)),
    ],
)
def test_what_was_left_behind_is_found(
    tool: ModuleType, name: str, size: int, words: tuple[str, ...]
) -> None:
    findings = list(tool.stray_findings({"Cargo.toml": 1, name: size}))
    assert len(findings) == len(words)
    for finding, start in zip(findings, words, strict=True):
        assert finding.startswith(start)


def test_a_circle_of_imports_is_found(tool: ModuleType) -> None:
    sources = {
        "p/__init__.py": "from .a import f\n",
        "p/a.py": "from . import b\n\nf = b.g\n",
        "p/b.py": "def g():\n    from .c import late\n",
        "p/c.py": "import p.a\n",
    }
    (finding,) = tool.circle_findings(sources)
    assert all(f"p.{name}" in finding for name in "abc")


def test_imports_for_types_and_of_the_stubs_make_no_circle(tool: ModuleType) -> None:
    sources = {
        "p/__init__.py": "from .a import f\n",
        "p/_core.pyi": "def f() -> None: ...\n",
        "p/a.py": "from typing import TYPE_CHECKING\nfrom . import _core\n"
        "if TYPE_CHECKING:\n    from .b import B\n",
        "p/b.py": "from .a import f\n",
    }
    assert list(tool.circle_findings(sources)) == []
    assert tool.import_graph(sources)["p.a"] == {"p._core"}
