"""Check what the source archive and the wheel hold, and what they do not.

    python tools/check_dist.py dist/attngrad_rs-0.1.0.tar.gz dist/attngrad_rs-0.1.0-….whl

Ends with 1 and one line for each finding.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
# What a packager builds, tests and ships from. The rest of the tree may stay out.
SDIST_TREES = ("python/", "rust/", "tests/", "benches/", "examples/", "docs/", "tools/")
SDIST_FILES = (
    "Cargo.lock", "Cargo.toml", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md",
    "noxfile.py", "pyproject.toml",
)  # fmt: skip
WHEEL_TREE = "python/attngrad_rs/"
WHEEL_LICENCES = ("LICENSE-APACHE", "LICENSE-MIT")
# One wheel serves every CPython from 3.11 on.
WHEEL_TAG = "-cp311-abi3-"
WASTE = ("__pycache__", ".pytest_cache", ".hypothesis", "target", "_build")


def tracked(*prefixes: str) -> list[str]:
    """The files of the tree that git knows of, below the prefixes."""
    done = subprocess.run(
        ("git", "ls-files", "-z"), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    names = [name for name in done.stdout.split("\0") if (ROOT / name).is_file()]
    return [name for name in names if name.startswith(prefixes)]


def missing(kind: str, wanted: Iterable[str], found: set[str]) -> Iterator[str]:
    """One line for each name that is not there, and for each that should not be."""
    for name in sorted(set(wanted) - found):
        yield f"{kind}: {name} is missing"
    for name in sorted(found):
        if set(PurePosixPath(name).parts) & set(WASTE):
            yield f"{kind}: {name} should not be there"


def sdist_findings(path: Path) -> Iterator[str]:
    """The archive holds what builds, tests and explains the package."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    yield from missing("sdist", [*tracked(*SDIST_TREES), *SDIST_FILES], names)


def wheel_findings(path: Path) -> Iterator[str]:
    """The wheel holds the package, the heads, the licences and one compiled module."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    wanted = [name.removeprefix("python/") for name in tracked(WHEEL_TREE)]
    yield from missing("wheel", wanted, names)
    bare = {PurePosixPath(name).name for name in names}
    yield from missing("wheel", WHEEL_LICENCES, bare)
    modules = [name for name in names if name.startswith("attngrad_rs/_core.abi3.")]
    if len(modules) != 1:
        yield f"wheel: found compiled modules {modules}; one is wanted"
    outside = {PurePosixPath(name).parts[0] for name in names}
    for name in sorted(top for top in outside if not top.startswith("attngrad_rs")):
        yield f"wheel: {name} should not be there"
    if WHEEL_TAG not in path.name:
        yield f"wheel: found the name {path.name}; {WHEEL_TAG!r} is wanted in it"


def main(sdist: str, wheel: str) -> int:
    """Print what is wrong; the exit code says whether anything is."""
    findings = [*sdist_findings(Path(sdist)), *wheel_findings(Path(wheel))]
    for finding in findings:
        print(finding)
    print(f"dist: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
