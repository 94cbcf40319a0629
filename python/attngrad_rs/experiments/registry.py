"""The experiments there are. A new one is a file beside ``quality.py`` and a row in the table."""

from __future__ import annotations

from . import (
    distribution,
    gaps,
    precision,
    propagation,
    quality,
    ranks,
    reduction,
    signatures,
    threshold,
    times,
)
from .base import Experiment

__all__ = ["EXPERIMENTS"]

# By claims of the paper, in their order.
MODULES = (
    quality, times, precision, ranks, propagation, threshold, distribution, reduction, gaps,
    signatures,
)  # fmt: skip
EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT for module in MODULES
}
