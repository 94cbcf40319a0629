"""The attention of a model while it runs: shapes, times, errors and logits of each layer."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle

from .._inputs.arrays import Array
from ..diagnose import diagnose
from ..errors import AttnGradError, MissingDependencyError, install_line
from ..results import AttentionGradients
from ._calls import Form, watchers

# The columns of the table: their titles, and how wide they are.
COLUMNS = (
    "query", "keys", "dtype", "calls", "forward ms", "backward ms", "method", "error", "kind",
    "spread",
)  # fmt: skip


@dataclass
class Layer:
    """One layer of a model, or all calls that no layer is known for.

    Attributes
    ----------
    name : str
        The name of the module that called, within the model.
    query, key, value : tuple of int
        Shapes in the last call.
    dtype : str
        Precision of the last call.
    is_causal : bool
        Whether the last call had a causal mask.
    forward, backward : list of float
        Seconds of each pass.
    methods : list of str
        Of each backward pass: ``"exact"``, or ``"polynomial"`` with its degree.
    errors : list of float
        Of each backward pass the largest relative error of dq, dk and dv, by their certificates.
    kinds : list of str
        What kind of certificate that is.
    spreads : list of float
        Standard deviation of the centred logits of one head, drawn anew for each look.
    """

    name: str
    query: tuple[int, ...] = ()
    key: tuple[int, ...] = ()
    value: tuple[int, ...] = ()
    dtype: str = ""
    is_causal: bool = False
    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)

    def row(self) -> tuple[str, ...]:
        """The layer in the table."""
        milliseconds = [[1e3 * one for one in times] for times in (self.forward, self.backward)]
        return (
            "x".join(map(str, self.query)), str(self.key[-2]) if self.key else "", self.dtype,
            f"{len(self.forward)}/{len(self.backward)}",
            *(f"{statistics.median(times):.3g}" if times else "" for times in milliseconds),
            _counted(self.methods), f"{max(self.errors):.1e}" if self.errors else "",
            _counted(self.kinds), f"{max(self.spreads):.2f}" if self.spreads else "",
        )  # fmt: skip


def _counted(words: list[str]) -> str:
    """Words, the most frequent first, and how often each was there if there are several."""
    found = Counter(words).most_common()
    return ", ".join(f"{count} × {word}" if len(found) > 1 else word for word, count in found)


class Monitor:
    """What ``monitor`` saw.

    Attributes
    ----------
    layers : dict of str to Layer
        By the names of modules, in the order of their first calls.
    """

    def __init__(self, every: int, rng: int) -> None:
        self.layers: dict[str, Layer] = {}
        self._every = every
        self._rng = np.random.default_rng(rng)
        self._inside: list[str] = []
        # Layers of outputs whose gradients may still come, by where they lie.
        self._pending: dict[int, Layer] = {}

    def forward(self, heads: Sequence[Array], form: Form, output: Array, seconds: float) -> None:
        """Take note of a forward pass."""
        name = self._inside[-1] if self._inside else ""
        layer = self.layers.setdefault(name, Layer(name))
        layer.query, layer.key, layer.value = (one.shape for one in heads)
        layer.dtype, layer.is_causal = output.dtype.name, form[0]
        if self._every and len(layer.forward) % self._every == 0:
            self._look(layer, heads[0], heads[1], form)
        layer.forward.append(seconds)
        self._pending[output.ctypes.data] = layer

    def backward(
        self, heads: Sequence[Array], form: Form, output: Array, found: AttentionGradients[Any]
    ) -> None:
        """Take note of the gradients for an output."""
        layer = self._pending.get(output.ctypes.data) or self.layers.setdefault("", Layer(""))
        layer.backward.append(found.seconds)
        degree = "" if found.plan.degree is None else f" {found.plan.degree}"
        layer.methods.append(f"{found.plan.method}{degree}")
        largest = max(found.certificates.values(), key=lambda one: one.relative)
        layer.errors.append(largest.relative)
        layer.kinds.append(largest.kind)

    def _look(self, layer: Layer, query: Array, key: Array, form: Form) -> None:
        """The spread of the logits of a head drawn at random."""
        if 0 in query.shape or 0 in key.shape:
            return
        place = [int(self._rng.integers(size)) for size in query.shape[:-2]]
        head = query[tuple(place)]
        if form[2]:
            place[-1] //= query.shape[-3] // key.shape[-3]
        scale = 1.0 / math.sqrt(query.shape[-1]) if form[1] is None else form[1]
        # Numbers that overflow are for the call itself to complain of.
        with contextlib.suppress(AttnGradError):
            seen = diagnose(head, key[tuple(place)], scale=scale, rng=self._rng)
            layer.spreads.append(seen.logit_std)

    @contextlib.contextmanager
    def _named(self, model: torch.nn.Module | None) -> Iterator[None]:
        """Know which module of a model is running."""

        handles: list[RemovableHandle] = []
        for name, module in () if model is None else model.named_modules():
            # What a hook returns takes the place of the input or the output: nothing, here.
            def enter(*_: object, name: str = name) -> None:
                self._inside.append(name)

            def leave(*_: object) -> None:
                self._inside.pop()

            handles.append(module.register_forward_pre_hook(enter))
            # Also where the module ends with an error.
            handles.append(module.register_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def table(self) -> str:
        """The layers as lines of text.

        ``calls`` are forward and backward passes, times are medians, ``method`` is that of the
        backward passes, ``error`` the largest relative error that a certificate admits, ``kind``
        the kind of certificate, and ``spread`` the largest standard deviation of the logits that
        was seen. Where there were several methods or kinds, a number says how often each.
        """
        rows: list[tuple[str, ...]] = [("layer", *COLUMNS)]
        rows += [(layer.name or "(any)", *layer.row()) for layer in self.layers.values()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def __str__(self) -> str:
        return self.table()

    def figure(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Milliseconds, errors and spreads by layer, written to a file where one is named.

        Returns
        -------
        matplotlib.figure.Figure
            Three axes, one above the other.

        Raises
        ------
        MissingDependencyError
            Where matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingDependencyError(
                f"matplotlib: found none; {install_line('cli')}"
            ) from error
        figure = Figure(figsize=(7.0, 6.0), layout="constrained")
        times, errors, spreads = figure.subplots(3, 1, sharex=True)
        names = [layer.name or "(any)" for layer in self.layers.values()]
        for label in ("forward", "backward"):
            passes = [getattr(layer, label) for layer in self.layers.values()]
            medians = [1e3 * statistics.median(one) if one else math.nan for one in passes]
            times.plot(names, medians, "o", label=label)
        times.set(ylabel="ms", ylim=(0.0, None))
        times.legend()
        for axes, kind, label in ((errors, "errors", "error"), (spreads, "spreads", "spread")):
            found = [getattr(layer, kind) for layer in self.layers.values()]
            axes.plot(names, [max(one, default=math.nan) for one in found], "o")
            axes.set(ylabel=label)
        errors.set_yscale("log")
        spreads.set_ylim(bottom=0.0)
        spreads.tick_params(axis="x", rotation=90)
        if path is not None:
            figure.savefig(path)
        return figure


@contextlib.contextmanager
def monitor(
    model: torch.nn.Module | None = None, every: int = 50, rng: int = 0
) -> Iterator[Monitor]:
    """Record the attention of this library that runs within the context.

    Parameters
    ----------
    model : torch.nn.Module, optional
        Calls are told apart by the names of its modules; without it, all are one layer. So they
        are within a compiled model, whose modules are gone.
    every : int
        Look at the logits of one head in the first of so many calls of each layer, by ``diagnose``;
        0 for never.
    rng : int
        Seed of the choice of heads.

    Yields
    ------
    Monitor
        ``print`` shows its table; ``figure("layers.png")`` draws it.

    Examples
    --------
    >>> import torch
    >>> import attngrad_rs.torch as agt
    >>> x = torch.randn(1, 4, 10, 8, requires_grad=True)
    >>> with agt.monitor() as seen:
    ...     agt.scaled_dot_product_attention(x, x, x).sum().backward()
    >>> len(seen.layers[""].backward)
    1
    """
    found = Monitor(every, rng)
    watchers.append(found)
    try:
        with found._named(model):
            yield found
    finally:
        watchers.remove(found)
