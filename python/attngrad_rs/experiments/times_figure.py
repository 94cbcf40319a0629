"""The figure of the experiment ``time``: seconds with their quartiles, and errors below."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Row, Tables, select
from .calls import EXACT
from .plots import GREY, style, whiskers
from .rows import numbers, real

__all__ = ["draw"]

# A call with a larger error is drawn as one that does not count.
WRONG = 0.1
# Guides stand this much above the exact method and below all calls.
ABOVE, BELOW = 6.0, 2.5e-3


def draw(tables: Tables, figure: Any) -> None:
    """Seconds and errors against n, one column for each regime."""
    figure.set_size_inches(10.0, 6.4)
    seconds = tables["seconds"]
    ratios = list(dict.fromkeys(row["ratio"] for row in seconds))
    upper, lower = figure.subplots(
        2, len(ratios), sharex=True, sharey="row", height_ratios=(3, 2), squeeze=False
    )
    labels = list(dict.fromkeys(row["call"] for row in seconds))
    for times, errors, ratio in zip(upper, lower, ratios, strict=True):
        for number, label in enumerate(labels):
            rows = select(seconds, ratio=ratio, call=label)
            known = [row for row in rows if row.get("error")]
            look = style(number)
            if known and real(known[-1], "error") > WRONG:
                look |= {"fillstyle": "none", "linestyle": ":", "alpha": 0.6}
            whiskers(times, numbers(rows, "n"), rows, **look)
            # Above one, all digits are wrong alike.
            capped = np.minimum(numbers(known, "error"), 1.0)
            errors.plot([row["n"] for row in known], capped, **look)
            # In the legend as it is where it is right.
            times.plot([], [], **style(number), label=label)
        _guides(times, select(seconds, ratio=ratio, call=EXACT))
        times.set_xscale("log", base=2)
        times.set_yscale("log")
        errors.set_yscale("log")
        times.set_title(f"B = {ratio:g} √log n", fontsize="small")
        errors.set_xlabel("rows n")
        for axes in (times, errors):
            # They are most of the file, and decades are enough.
            axes.tick_params(which="minor", left=False)
            axes.grid(True, which="major", alpha=0.3)
    upper[0].set_ylabel("seconds for dL/dX\n(median and quartiles)")
    lower[0].set_ylabel("relative error of dL/dX\n(all above one: one)")
    handles, names = upper[0].get_legend_handles_labels()
    title = f"hollow and dotted: wrong by more than {WRONG:.0%} of the gradient"
    figure.legend(
        handles, names, loc="outside lower center", ncols=4, fontsize="small", title=title,
        title_fontsize="small",
    )  # fmt: skip


def _guides(axes: Any, exact: list[Row]) -> None:
    """Lines of slope two above all calls and of slope one below them, each with its name."""
    n, top = real(exact[-1], "n"), real(exact[-1], "seconds")
    sizes = np.array([n / 8.0, n])
    for power, place, name, side in ((2.0, ABOVE, "n²", "bottom"), (1.0, BELOW, "n", "top")):
        line = place * top * (sizes / n) ** power
        axes.plot(sizes, line, color=GREY, linewidth=0.8)
        axes.annotate(
            name, (sizes.prod() ** 0.5, line.prod() ** 0.5), ha="right", va=side, fontsize=8,
            color=GREY, textcoords="offset points", xytext=(-2, 1 if side == "bottom" else -3),
        )  # fmt: skip
