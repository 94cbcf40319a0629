"""The demo: gradients of trained heads, and exact against near-linear where entries are small."""

from .figure import check_format, demo_figure
from .report import DemoReport, HeadRow, run
from .tables import heads_table, near_table

__all__ = [
    "DemoReport", "HeadRow", "check_format", "demo_figure", "heads_table", "near_table", "run",
]  # fmt: skip
