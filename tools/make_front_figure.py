"""Make docs/figures/front.svg, the picture of the front page and of the README, from measured data.

    pip install '.[cli]'
    python tools/make_front_figure.py

Its numbers are the table time.seconds of docs/data/experiments, which `attngrad experiments --full
time` measures; the checksum of that table stands in the figure, and a test compares the two.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from attngrad_rs.experiments.base import Row, select
from attngrad_rs.experiments.calls import asked
from attngrad_rs.experiments.cells import from_csv
from attngrad_rs.experiments.plots import COLOURS, GREY, rendered

DOCS = Path(__file__).resolve().parent.parent / "docs"
TABLE = DOCS / "data" / "experiments" / "time.seconds.csv"
FIGURE = DOCS / "figures" / "front.svg"
INCHES = (8.0, 4.8)
ERRORS = (1e-7, 1e-1)
RTOL = 1e-2
AUTO = asked(RTOL)
# Calls: their label, colour and marker.
CALLS = {
    "torch flash": ("torch (flash)", GREY, "s"),
    "exact": ("attngrad, exact", COLOURS[0], "o"),
    AUTO: (f"attngrad, rtol={RTOL:g}", COLOURS[4], "^"),
}
# Regimes: the ratio of B to √log n, and what is said of it.
REGIMES = {
    0.25: "small entries (B = ¼ √log n): near-linear",
    2.0: "large entries (B = 2 √log n): exact",
}


def checksum() -> str:
    """The checksum of the table, line ends aside."""
    return hashlib.sha256(b"\n".join(TABLE.read_bytes().splitlines())).hexdigest()


def numbers(rows: list[Row], name: str) -> tuple[list[Any], list[Any]]:
    """A column against n, where it was measured."""
    known = [row for row in sorted(rows, key=lambda row: row["n"]) if row[name] is not None]
    return [row["n"] for row in known], [row[name] for row in known]


def draw(figure: Any) -> None:
    """Seconds above, errors below; small entries on the left, large ones on the right."""
    table = from_csv(TABLE.read_bytes())
    axes = figure.subplots(2, len(REGIMES), sharex=True, sharey="row", height_ratios=(3, 2))
    for column, (ratio, title) in enumerate(REGIMES.items()):
        times, errors = axes[0][column], axes[1][column]
        for call, (label, colour, marker) in CALLS.items():
            rows = select(table, call=call, ratio=ratio)
            look = {"color": colour, "marker": marker, "markersize": 5}
            times.plot(*numbers(rows, "seconds"), label=label, **look)
            if call == AUTO:
                dots = {**look, "linestyle": "", "label": "error"}
                errors.plot(*numbers(rows, "error"), **dots)
                bars = {"color": colour, "marker": "_", "markersize": 12, "markeredgewidth": 2}
                sizes, bounds = numbers(rows, "certificate")
                errors.plot(sizes, bounds, linestyle="", label="its certificate", **bars)
        errors.axhline(RTOL, color="black", linewidth=1, linestyle=":")
        errors.text(0.98, RTOL, "asked for", transform=errors.get_yaxis_transform(), ha="right",
                    va="bottom", fontsize=8)  # fmt: skip
        times.set_title(title, fontsize=10)
        times.grid(alpha=0.3)
        errors.grid(alpha=0.3)
        errors.set(xscale="log", yscale="log", xlabel="tokens n", ylim=ERRORS)
        times.set(xscale="log", yscale="log")
    axes[0][0].set_ylabel("seconds for dL/dX, d = 16")
    axes[1][0].set_ylabel("relative error")
    axes[0][1].legend(loc="lower right", frameon=False)
    axes[1][1].legend(loc="lower right", frameon=False)


def main() -> int:
    """Write the figure."""
    content = rendered(draw, INCHES, "svg", "front")
    mark = f"<!-- time.seconds.csv: sha256 {checksum()} -->\n".encode()
    FIGURE.write_bytes(content.replace(b"<svg ", mark + b"<svg ", 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
