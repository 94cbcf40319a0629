"""Wrong calls: each raises one exact class, whose message names the argument, what was found and
what is expected; and nothing is computed before it is raised."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import numpy as np
import pytest
from wrong_calls import CASES, D1, DV, Case, absurd, made, problem, spoilt

import attngrad_rs as ag
from attngrad_rs import _core

pytestmark = pytest.mark.exits

LEAST_CASES = 80
# Entries of the core that tell what there is, hold it, or judge shapes and numbers that are handed
# over; all others read arrays.
DESCRIBE = {
    "Decision", "Forecast", "Options", "Prepared", "Problem", "Request", "Shape", "all_finite",
    "default_threads", "level", "levels", "limited_memory", "tile_shape", "Stack",
}  # fmt: skip
# Options by which a call may do without a tolerance, or with which one means something else.
INSTEAD = {"rtol", "atol", "degree", "method", "plan", "certificate"}
# An absurd shape is refused before anything is allocated; the best of a few, for a busy machine.
REFUSAL_SECONDS = 0.1
REFUSALS = 3


@pytest.fixture
def idle_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that must not be called."""

    class Refusing:
        """In the place of a function, or of a class and what makes one of it."""

        def __call__(self, *_args: object, **_kwargs: object) -> None:
            raise AssertionError("computed before the arguments were checked")

        def __getattr__(self, _name: str) -> None:
            self()

    for name in set(_core.__all__) - DESCRIBE:
        if callable(getattr(_core, name)):
            monkeypatch.setattr(_core, name, Refusing())


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= LEAST_CASES
    assert len({one.title for one in CASES}) == len(CASES)


def watch(wrong: Case, request: pytest.FixtureRequest) -> None:
    """Have the core refuse to be called, unless it is the one to find the fault.

    Numbers of heads are looked at head by head, where they are read.
    """
    of_heads = wrong.function in (ag.attention, ag.attention_vjp)
    if not (of_heads and (wrong.error is ag.NonFiniteError or "polynomial" in wrong.title)):
        request.getfixturevalue("idle_core")


@pytest.mark.parametrize("wrong", CASES, ids=[one.title for one in CASES])
def test_wrong_call(wrong: Case, request: pytest.FixtureRequest) -> None:
    watch(wrong, request)
    with pytest.raises(ag.AttnGradError) as caught:
        wrong.function(**wrong.arguments)
    message = str(caught.value)
    assert type(caught.value) is wrong.error, message
    for words in wrong.words:
        assert words in message, message
    # One line, "<argument>: found <what>; <what to do>".
    assert re.fullmatch(r"[\w, ]+: found .+", message), message


TOLERANT = [
    one
    for one in CASES
    if one.function in (ag.loss_gradient, ag.plan_loss_gradient, ag.attention_vjp, ag.plan)
    and not INSTEAD & one.arguments.keys()
]


@pytest.mark.parametrize("wrong", TOLERANT, ids=[one.title for one in TOLERANT])
def test_wrong_call_with_a_tolerance(wrong: Case, request: pytest.FixtureRequest) -> None:
    """The planner looks at nothing before the arguments are checked."""
    watch(wrong, request)
    with pytest.raises(ag.AttnGradError) as caught:
        wrong.function(**wrong.arguments, rtol=1e-2)
    message = str(caught.value)
    assert type(caught.value) is wrong.error, message
    for words in wrong.words:
        assert words in message, message


def test_every_entry_that_computes_is_watched(idle_core: None) -> None:
    """Without a wrong argument, each public function meets the core that must not be called."""
    q, k, v, dout = (made((5, 3)) for _ in range(4))
    calls: list[Callable[[], object]] = [
        lambda: ag.loss_gradient(**problem()),
        lambda: ag.loss_gradient(**problem(), rtol=1e-2),
        lambda: ag.loss_gradient(**problem(), method="polynomial", degree=1),
        lambda: ag.plan_loss_gradient(**problem(), rtol=1e-2),
        lambda: ag.loss(**problem()),
        lambda: ag.attention(q, k, v),
        lambda: ag.attention_vjp(q, k, v, dout),
        lambda: ag.attention_vjp(q, k, v, dout, method="polynomial", degree=1),
        lambda: ag.attention_jvp(q, k, v, q, k, v),
        lambda: ag.attention_hvp(q, k, v, dout, q, k, v),
        lambda: ag.polynomials.exp_polynomial("taylor", 2, (-1.0, 1.0)),
    ]
    for call in calls:
        with pytest.raises(AssertionError, match="computed before"):
            call()


def test_the_inputs_are_left_as_they_were() -> None:
    arrays = problem(E=spoilt("E", np.nan))
    before = {name: array.tobytes() for name, array in arrays.items()}
    with pytest.raises(ag.NonFiniteError):
        ag.loss_gradient(**arrays)
    assert before == {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize("function", [ag.loss_gradient, ag.loss])
def test_an_absurd_shape_is_refused_at_once(function: Callable[..., object]) -> None:
    arrays = problem(A1=absurd(D1), E=absurd(DV))
    seconds = []
    for _ in range(REFUSALS):
        start = time.perf_counter()
        with pytest.raises(ag.OutOfMemoryError):
            function(**arrays)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) <= REFUSAL_SECONDS
