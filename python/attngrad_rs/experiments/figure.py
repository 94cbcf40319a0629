"""The figure of an experiment."""

from __future__ import annotations

from functools import partial

from .base import Experiment, Tables
from .plots import rendered

__all__ = ["svg"]

INCHES = (10.0, 4.0)


def svg(experiment: Experiment, tables: Tables) -> bytes:
    """The figure as an SVG file; an experiment may give it another size.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    return rendered(partial(experiment.draw, tables), INCHES, "svg", experiment.name)
