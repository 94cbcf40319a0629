"""What a type checker knows of results: the precision of the arrays that came in."""

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import attngrad_rs as ag


def single(a: npt.NDArray[np.float32]) -> None:
    """Everything of one precision."""
    assert_type(ag.attention(a, a, a, is_causal=True), npt.NDArray[np.float32])
    output, lse = ag.attention(a, a, a, return_lse=True, enable_gqa=True)
    assert_type(lse, npt.NDArray[np.float32])
    certified = ag.attention(a, a, a, rtol=1e-2, return_certificate=True)
    assert_type(certified.output, npt.NDArray[np.float32])
    ag.attention_vjp(a, a, a, a, output=output, lse=lse)
    tangent = ag.attention_jvp(a, a, a, a, a, a, output=output, lse=lse)[1]
    assert_type(tangent, npt.NDArray[np.float32])
    by_dout = ag.attention_hvp(a, a, a, a, a, a, a, ddout=a)[3]
    assert_type(by_dout, npt.NDArray[np.float32])
    result = ag.loss_gradient(a, a, a, (a, a), a, a, wrt=("W_Q", "W_K"), rtol=1e-3)
    assert_type(result.gradients["W_Q"], npt.NDArray[np.float32])
    dq, _, _ = ag.attention_vjp(a, a, a, a, norm="max")
    assert_type(dq, npt.NDArray[np.float32])


def of_lists(a: list[list[float]]) -> None:
    """Anything that NumPy makes arrays of."""
    assert_type(ag.attention(a, a, a), npt.NDArray[Any])
    assert_type(ag.attention_hvp(a, a, a, a, a, a, a)[0], npt.NDArray[Any])
    assert_type(ag.loss_gradient(a, a, a, a, a, a).gradient, npt.NDArray[Any])


def slips(a: npt.NDArray[np.float64]) -> None:
    """Words that are none are found before anything runs."""
    ag.loss_gradient(a, a, a, a, a, a, norm="frobenius")  # type: ignore[call-overload]
    ag.loss_gradient(a, a, a, a, a, a, wrt="Z")  # type: ignore[arg-type]
    ag.attention(a, a, a, casual=True)  # type: ignore[call-overload]
    ag.attention_hvp(a, a, a, a, a, a, a, rtol=1e-3)  # type: ignore[call-overload]
    ag.plan(a, a, a, casual=True)  # type: ignore[call-arg]
    ag.plan_loss_gradient(a, a, a, a, a, a, rtol="1e-3")  # type: ignore[arg-type]
    ag.loss(a, a, a, a, a, a, rtol=1e-3)  # type: ignore[call-arg]
