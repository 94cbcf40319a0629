"""Experiments that show the theorem at work: each a command, a figure, and the numbers behind it.

``attngrad experiments`` runs them; ``attngrad report`` puts what they found on one page.
"""

from .base import Cell, Experiment, Finding, Point, Verdict
from .registry import EXPERIMENTS
from .runner import Outcome, run

__all__ = ["EXPERIMENTS", "Cell", "Experiment", "Finding", "Outcome", "Point", "Verdict", "run"]
