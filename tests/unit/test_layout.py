"""The check of the tree's shape: it sees what does not belong there."""

from __future__ import annotations

from types import ModuleType

import pytest

from tool import TOOLS, loaded


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return loaded("check_layout")


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


# A small crate of two layers, which every case below changes in one file.
CRATE = {
    "lib.rs": "pub mod low; pub mod high;\npub use high::top::build;\n",
    "low.rs": "pub struct Low;\npub fn low() {}\n",
    "high/mod.rs": "//! `crate::no` is prose\nmod parts;\npub mod top;\npub use parts::Part;\n",
    "high/parts.rs": "use crate::low::Low;\npub struct Part(Low);\n",
    "high/top.rs": "use super::Part;\npub fn build() -> Part { todo!() }\n",
}
LAYERS = (("low",), ("high",), ("lib",))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        # A re-export of the parent is an arrow to the file that defines the item ...
        ("high/parts.rs", "use super::top::build;\npub struct Part;", ("circle", "parts", "top")),
        # ... in a path without `use` as well, under another name, in a group, and in a macro.
        ("high/parts.rs", "pub struct Part;\nfn f() { crate::build(); }", ("circle", "parts")),
        ("high/parts.rs", "use crate::{low, build as b};\npub struct Part;", ("circle", "parts")),
        ("high/parts.rs", "macro_rules! m { () => { $crate::build() } }", ("circle", "parts")),
        ("high/parts.rs", "mod inner { use super::*; fn f() { super::super::top::build(); } }\n"
         "pub struct Part;", ("circle", "parts")),
        ("low.rs", "pub struct Low;\nuse crate::high::Part;", ("low.rs", "high/parts.rs", "above")),
        ("low.rs", "pub struct Low;\nfn f() { crate::high::top::build(); }", ("low.rs", "above")),
        ("lib.rs", "mod low; mod high; mod new;", ("new.rs", "no layer")),
    ],
)  # fmt: skip
def test_an_arrow_that_runs_back_in_the_core_is_found(
    tool: ModuleType, name: str, text: str, words: tuple[str, ...]
) -> None:
    findings = list(tool.rust_findings({**CRATE, "new.rs": "", name: text}, LAYERS))
    assert any(all(word in finding for word in words) for finding in findings), findings


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("low.rs", "pub struct Low;"),
        ("low.rs", "pub struct Low;\n#[cfg(test)]\nmod tests { use crate::high::Part; }"),
        ("low.rs", 'pub struct Low;\n#[cfg(test)]\n#[path = "x"]\nmod tests;'),
        ("low.rs", "pub struct Low;\n#[cfg(test)]\nuse crate::high::Part;\n"),
        ("low.rs", "pub enum Low { #[cfg(test)] A(crate::high::Part), B }"),
        ("low.rs", "pub struct Low;\n/* crate::high::Part */ // crate::build\n"),
        ("low.rs", 'pub const LOW: &str = "crate::high::Part"; pub struct Low;'),
        ("low.rs", "pub struct Low;\nfn f<'a>(x: &'a str) { if x == \"'\" { std::high::g() } }"),
        # Of a name that the parent passes on, no more than its file counts.
        ("high/mod.rs", "mod parts; pub mod top; pub use parts::Part; pub use top::build;"),
        # A method may have the name of a module.
        ("high/top.rs", "use super::Part;\nimpl Part { fn top(&self) {} }\npub fn build() {}"),
    ],
)
def test_what_is_no_arrow_back_is_let_be(tool: ModuleType, name: str, text: str) -> None:
    sources = {**CRATE, "low/tests.rs": "use crate::high::Part;", name: text}
    assert list(tool.rust_findings(sources, LAYERS)) == []


def test_arrows_lead_to_the_file_that_defines_an_item(tool: ModuleType) -> None:
    graph = tool.rust_imports.Crate(CRATE).graph()
    assert graph["high/top.rs"] == {"high/parts.rs"}
    assert graph["high/parts.rs"] == {"low.rs"}
    assert graph["high/mod.rs"] == graph["lib.rs"] == graph["low.rs"] == set()


def test_the_core_is_seen_whole(tool: ModuleType) -> None:
    """The graph is not empty by mistake: every file is there, and all but leaves use something."""
    sources = tool.rust_sources(list((TOOLS.parent / "rust" / "src").rglob("*.rs")))
    graph = tool.rust_imports.Crate(sources).graph()
    assert {"exact/kernels.rs", "moments/kernels.rs", "plan/execute.rs"} <= graph.keys()
    assert {"exact/forward.rs", "simd/levels.rs"} <= graph["exact/kernels.rs"]
    assert "exact/kernels.rs" in graph["exact/engine.rs"]
    assert list(tool.rust_findings(sources)) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("| `rust/src/low.rs` |\n| `rust/src/lib.rs` |", "no line on rust/src/high"),
        ("| `rust/src/low.rs`, `rust/src/lib.rs`, `rust/src/high/gone.rs` |", "high/gone.rs"),
    ],
)
def test_a_module_table_that_is_not_the_trees_is_found(
    tool: ModuleType, text: str, word: str
) -> None:
    (finding,) = tool.documented_findings(CRATE, text)
    assert word in finding


def test_a_module_table_of_the_tree_is_let_be(tool: ModuleType) -> None:
    text = "| `rust/src/low.rs`, `rust/src/high/`, `rust/src/high/top.rs` |\n| `rust/src/lib.rs` |"
    assert list(tool.documented_findings(CRATE, text)) == []
