"""What ``help`` shows: each parameter in the signature with its default, and its paragraph."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest

import attngrad_rs as ag
from attngrad_rs._inputs.options import CallOptions, GradientOptions
from attngrad_rs._inputs.signatures import accepting, documented

CALL = {
    "scale": None, "is_causal": False, "threads": None, "progress": None, "timeout": None,
    "check_finite": True, "allow_half": False,
}  # fmt: skip
GRADIENT = {
    **CALL, "rtol": None, "atol": 0.0, "norm": "fro", "method": "auto", "degree": None,
    "certificate": "any", "rng": None,
}  # fmt: skip
MASKS = {
    "enable_gqa": False, "attn_mask": None, "window": None, "key_lengths": None,
    "cu_seqlens": None, "causal_align": "top-left", "dropout_p": 0.0,
}  # fmt: skip
SAVED = {"output": None, "lse": None}
KEYWORDS: dict[Callable[..., object], dict[str, object]] = {
    ag.loss: CALL,
    ag.loss_gradient: {**GRADIENT, "B": None, "wrt": "X", "plan": None, "out": None},
    ag.plan_loss_gradient: {**GRADIENT, "B": None, "wrt": "X"},
    ag.attention: {
        **GRADIENT,
        **MASKS,
        "return_lse": False,
        "return_certificate": False,
        "out": None,
    },
    ag.attention_vjp: {**GRADIENT, **MASKS, **SAVED, "plan": None, "out": None},
    ag.attention_jvp: {**CALL, **MASKS, **SAVED, "out": None},
    ag.attention_hvp: {**CALL, **MASKS, **SAVED, "ddout": None, "out": None},
    ag.plan: {**GRADIENT, **MASKS},
}
FUNCTIONS = [*KEYWORDS, ag.diagnose, ag.factors, ag.ExpFeatures]


@pytest.mark.parametrize("function", KEYWORDS)
def test_options_are_in_the_signature(function: Callable[..., object]) -> None:
    parameters = inspect.signature(function).parameters.values()
    keywords = {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
    assert keywords == KEYWORDS[function]
    assert not any(one.kind is one.VAR_KEYWORD for one in parameters)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_parameter_has_one_paragraph(function: Callable[..., object]) -> None:
    doc = inspect.getdoc(function)
    assert doc is not None
    (section,) = re.findall(r"^Parameters\n-+\n(.*?)\n\n\w+\n---", doc, re.DOTALL | re.MULTILINE)
    told = re.findall(r"^(\S.*?)(?: : .*)?\n {4}\S", section, re.MULTILINE)
    names = [name for one in told for name in one.split(", ")]
    assert sorted(names) == sorted(inspect.signature(function).parameters)
    assert "As in" not in section


def test_a_remark_stays_below_the_paragraph() -> None:
    def first(a: int, b: int) -> None:
        """Both.

        Parameters
        ----------
        a, b : int
            A number.

            Or two.
        """

    @documented(first)
    @accepting(CallOptions)
    def second(a: int, c: int, **options: object) -> None:
        """One.

        Parameters
        ----------
        a
            As in ``first``.
            Any.
        c
            As in ``third``.
        scale, is_causal, threads, progress, timeout, check_finite
            Others.

        Notes
        -----
        As in ``first``.
        """

    assert inspect.getdoc(second) == (
        "One.\n\nParameters\n----------\na : int\n    A number.\n\n    Or two.\n    Any.\n"
        "c\n    As in ``third``.\nscale, is_causal, threads, progress, timeout, check_finite\n"
        "    Others.\n\nNotes\n-----\nAs in ``first``."
    )


def test_nothing_is_said_without_docstrings() -> None:
    def silent(a: int) -> None: ...

    assert documented(ag.loss)(silent).__doc__ is None


def test_types_and_defaults_name_the_same_options() -> None:
    assert set(CALL) == set(CallOptions.__annotations__)
    assert set(GRADIENT) == set(GradientOptions.__annotations__)
