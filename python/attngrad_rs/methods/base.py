"""What a method is: words, a cost law, and two functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..arguments import Control
from ..arrays import Array, Sizes


class Task(NamedTuple):
    """One loss-gradient problem on private copies, ready to be computed."""

    arrays: Mapping[str, Array]
    wrt: tuple[str, ...]
    scale: float
    is_causal: bool
    control: Control


class HeadTask(NamedTuple):
    """One head of an attention VJP on private copies, ready to be computed."""

    query: Array
    key: Array
    value: Array
    dout: Array
    scale: float
    is_causal: bool
    control: Control


class Outcome(NamedTuple):
    """Gradients by name, each with a bound of its absolute error in the Frobenius norm."""

    loss: float
    loss_error: float
    gradients: dict[str, Array]
    errors: dict[str, float]


class Forecast(NamedTuple):
    """What a call is predicted to cost. ``peak_bytes`` leaves out copies of the inputs."""

    flops: float
    seconds: float
    peak_bytes: int


class Method(NamedTuple):
    """One row of the table of methods.

    ``needs``, ``law`` and ``cost`` are sentences for people: what the data must be like, what the
    error is, and what it costs. ``forecast(sizes, wrt, itemsize, is_causal, threads)`` predicts;
    ``gradient`` and ``vjp`` compute.
    """

    name: str
    needs: str
    law: str
    cost: str
    forecast: Callable[[Sizes, tuple[str, ...], int, bool, int | None], Forecast]
    gradient: Callable[[Task], Outcome]
    vjp: Callable[[HeadTask], Outcome]
