"""Check the shape of the tree: dependencies, sizes, what is committed, pointers to docs/math.md.

    python tools/check_layout.py

Ends with 1 and one line for each finding.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import math_pointers
import rust_imports

ROOT = Path(__file__).resolve().parent.parent
# Each direct dependency of the core is one that every user of the crate takes on.
MAX_CORE_DEPENDENCIES = 8
# A file that can be read in one sitting.
MAX_FILE_LINES = 400
# The binding converts, detaches, calls and wraps; more than this would be doing something else.
MAX_BINDING_LINES = 2400
# Nothing larger than the bundled heads belongs into the history.
MAX_FILE_BYTES = 2_000_000
# The only binary files: data that ships, and figures of the documentation.
BINARIES = ("python/attngrad_rs/data/heads.npz", "docs/figures/", "docs/_static/")
SOURCES = (".py", ".rs", ".pyi")
# All that lies at the root: whatever else is found there was left behind.
ROOT_ENTRIES = frozenset(
    (
        ".ci",
        ".gitignore",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "benches",
        "clippy.toml",
        "deny.toml",
        "docs",
        "examples",
        "noxfile.py",
        "pyproject.toml",
        "python",
        "rust",
        "rustfmt.toml",
        "tests",
        "tools",
    )
)
# The core from the bottom up: a file uses what its own layer has, or a lower one.
RUST_LAYERS = (
    ("error", "constants", "failpoint", "names"),
    ("float", "options"),
    ("runtime",),
    ("simd",),
    ("linalg",),
    ("kernels",),
    ("problem",),
    ("reference",),
    ("polynomial",),
    ("features",),
    ("factors",),
    ("certificate",),
    ("probe",),
    ("exact",),
    ("moments",),
    ("plan",),
    ("partial",),
    ("lib",),
)
# Files that say what they say by being there.
EMPTY_FILES = ("python/attngrad_rs/py.typed",)


def run(*command: str) -> str:
    """Standard output of a command that must succeed."""
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def core_findings() -> Iterator[str]:
    """The core knows no Python, and needs few other crates; the lock file is what is built."""
    metadata = json.loads(run("cargo", "metadata", "--format-version", "1", "--locked"))
    core = next(package for package in metadata["packages"] if package["name"] == "attngrad")
    direct = [one["name"] for one in core["dependencies"] if one["kind"] is None]
    if len(direct) > MAX_CORE_DEPENDENCIES:
        yield f"Cargo.toml: found {len(direct)} direct dependencies of the core ({direct})"
    tree = run("cargo", "tree", "--locked", "-p", "attngrad", "-e", "normal", "--prefix", "none")
    names = {line.split()[0] for line in tree.splitlines() if line}
    for python in sorted(names & {"pyo3", "pyo3-ffi", "numpy"}):
        yield f"Cargo.toml: found {python} below the core; only rust/py may see Python"


def tracked_files() -> list[Path]:
    """What git knows of; files that are deleted but not yet committed are left out."""
    paths = [ROOT / name for name in run("git", "ls-files", "-z").split("\0") if name]
    return [path for path in paths if path.is_file()]


def stray_findings(sizes: Mapping[str, int]) -> Iterator[str]:
    """Entries of the root that do not belong there, and files that hold nothing."""
    for entry in sorted({name.partition("/")[0] for name in sizes} - ROOT_ENTRIES):
        yield f"{entry}: found at the root, where only what ROOT_ENTRIES lists belongs"
    for name, size in sizes.items():
        if size == 0 and name not in EMPTY_FILES:
            yield f"{name}: found an empty file; remove it, or write what it is for"


def file_findings(files: list[Path]) -> Iterator[str]:
    """Lengths of sources, sizes and kinds of everything."""
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in files}
    if "Cargo.lock" not in sizes:
        yield "Cargo.lock: not committed"
    yield from stray_findings(sizes)
    binding = 0
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        content = path.read_bytes()
        if len(content) > MAX_FILE_BYTES:
            yield f"{name}: found {len(content)} bytes; at most {MAX_FILE_BYTES} belong into git"
        if b"\0" in content and not name.startswith(BINARIES):
            yield f"{name}: found a binary file; only {', '.join(BINARIES)} may be"
        if path.suffix not in SOURCES:
            continue
        lines = content.count(b"\n")
        binding += lines if name.startswith("rust/py/") else 0
        # A stub is as long as the module that it describes.
        if lines > MAX_FILE_LINES and path.suffix != ".pyi":
            yield f"{name}: found {lines} lines; split it below {MAX_FILE_LINES}"
    if binding > MAX_BINDING_LINES:
        yield f"rust/py: found {binding} lines; the binding stays below {MAX_BINDING_LINES}"


def runtime_imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run, be it late; those under ``if TYPE_CHECKING:`` do not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield from runtime_imports(node)


def imported_names(node: ast.Import | ast.ImportFrom, package: list[str]) -> Iterator[str]:
    """The dotted names that an import in a module of `package` may mean, the longest of each."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = package[: len(package) - node.level + 1] if node.level else []
    base = [*base, *(node.module or "").split(".")] if node.module else base
    yield from (".".join((*base, alias.name)) for alias in node.names)


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """The modules that each module of a package imports, from their paths and texts."""
    parts = {name: list(Path(name).with_suffix("").parts) for name in sources}
    modules = {
        ".".join(of[:-1] if of[-1] == "__init__" else of): name for name, of in parts.items()
    }
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for module, name in modules.items():
        for node in runtime_imports(ast.parse(sources[name])):
            for imported in imported_names(node, parts[name][:-1]):
                # A name of a module that is no module itself is one of its objects.
                owner = imported if imported in modules else imported.rpartition(".")[0]
                if owner in modules and owner != module:
                    graph[module].add(owner)
    return graph


def circle_findings(sources: Mapping[str, str]) -> Iterator[str]:
    """A circle of imports, if there is one."""
    try:
        TopologicalSorter(import_graph(sources)).prepare()
    except CycleError as error:
        yield f"python: found a circle of imports: {' <- '.join(error.args[1])}"


def python_sources(files: list[Path]) -> dict[str, str]:
    """Modules of the package and the stubs of the compiled one, by their paths below python/."""
    top = ROOT / "python"
    found = [path for path in files if path.suffix in (".py", ".pyi") and top in path.parents]
    return {path.relative_to(top).as_posix(): path.read_text(encoding="utf-8") for path in found}


def rust_sources(files: list[Path]) -> dict[str, str]:
    """Files of the core by their paths below rust/src/."""
    top = ROOT / "rust" / "src"
    found = [path for path in files if path.suffix == ".rs" and top in path.parents]
    return {path.relative_to(top).as_posix(): path.read_text(encoding="utf-8") for path in found}


def rust_findings(
    sources: Mapping[str, str], layers: Sequence[Sequence[str]] = RUST_LAYERS
) -> Iterator[str]:
    """Files of the core that use each other in a circle, or something of a higher layer."""
    graph = rust_imports.Crate(sources).graph()
    for circle in rust_imports.circles(graph):
        yield f"rust/src: found a circle of imports: {', '.join(circle)}"
    for name, other in rust_imports.upward(graph, layers):
        if other is None:
            yield f"rust/src/{name}: found no layer for it; RUST_LAYERS says what may use it"
        else:
            yield f"rust/src/{name}: found a use of {other}, which stands above it in RUST_LAYERS"


def documented_findings(names: Collection[str], text: str) -> Iterator[str]:
    """Parts of the core that docs/architecture.md does not name, and paths in it that are gone."""
    documented = set(re.findall(r"`rust/src/([\w./]+)`", text))
    parts = {rust_imports.root_name(name) for name in names}
    for part in sorted(parts - {rust_imports.root_name(path) for path in documented}):
        yield f"docs/architecture.md: found no line on rust/src/{part}"
    for path in sorted(documented):
        if not any(name == path or name.startswith(path.rstrip("/") + "/") for name in names):
            yield f"docs/architecture.md: found rust/src/{path}, which is not there"


def pointer_findings(files: Sequence[Path]) -> Iterator[str]:
    """Numbers that point to nothing in docs/math.md, and numbers there that are out of order."""
    suffixes = (*SOURCES, ".md", ".jinja")
    named = {str(path.relative_to(ROOT)): path for path in files if path.suffix in suffixes}
    texts = {name: path.read_text(encoding="utf-8") for name, path in named.items()}
    yield from math_pointers.findings(texts)


def main() -> int:
    """Print what is wrong; the exit code says whether anything is."""
    files = tracked_files()
    circles = circle_findings(python_sources(files))
    core = rust_sources(files)
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rust = [*rust_findings(core), *documented_findings(core.keys(), text)]
    findings = [*core_findings(), *file_findings(files), *circles, *rust]
    findings += pointer_findings(files)
    for finding in findings:
        print(finding)
    print(f"layout: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
