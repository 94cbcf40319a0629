"""Tensors in the functions of the package itself: results are tensors, in every precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import attngrad_rs as ag  # noqa: E402

pytestmark = pytest.mark.peers

SHAPES = {"query": (2, 7, 4), "key": (2, 9, 4), "value": (2, 9, 3), "dout": (2, 7, 3)}
INPUTS = ("query", "key", "value")
# Roundings by which an output of size one may differ from torch's, for logits of size one.
SLACK = 40.0
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)


def heads(dtype: Any) -> dict[str, Any]:
    made = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=made).to(dtype) for name, shape in SHAPES.items()}


def wide(named: dict[str, Any]) -> dict[str, Any]:
    """The numbers that are computed with, as NumPy has them."""
    dtypes = {torch.float64: torch.float64}
    return {
        name: one.to(dtypes.get(one.dtype, torch.float32)).numpy() for name, one in named.items()
    }


def assert_rounded(got: Any, want: Any, dtype: Any) -> None:
    """A tensor that holds what NumPy was given, rounded by torch itself."""
    assert isinstance(got, torch.Tensor)
    assert got.dtype == dtype
    assert torch.equal(got, torch.from_numpy(np.ascontiguousarray(want)).to(dtype))


@DTYPES
def test_results_are_tensors(dtype: Any) -> None:
    named = heads(dtype)
    arrays = wide(named)
    output, lse = ag.attention(*(named[name] for name in INPUTS), return_lse=True, allow_half=True)
    want, want_lse = ag.attention(*(arrays[name] for name in INPUTS), return_lse=True)
    assert_rounded(output, want, dtype)
    assert_rounded(lse, want_lse, lse.dtype)
    assert lse.dtype == (dtype if dtype == torch.float64 else torch.float32)
    found, plain = ag.attention_vjp(**named, allow_half=True), ag.attention_vjp(**arrays)
    for got, whole in zip(found, plain, strict=True):
        assert_rounded(got, whole, dtype)
    again = ag.attention_vjp(**named, output=output, lse=lse, allow_half=True)
    assert again.dq.dtype == dtype
    moved = {f"dd{name}": named[name] for name in INPUTS}
    second = ag.attention_hvp(**named, **moved, allow_half=True)
    plain_moved = {f"dd{name}": arrays[name] for name in INPUTS}
    for got, whole in zip(second, ag.attention_hvp(**arrays, **plain_moved), strict=True):
        assert_rounded(got, whole, dtype)


@DTYPES
def test_the_problem(dtype: Any) -> None:
    A, X = heads(dtype)["query"][0], torch.eye(4, dtype=dtype)
    found = ag.loss_gradient(A, A, A, (X, X), X, A, wrt=("W_Q", "A"), allow_half=True)
    arrays = wide({"A": A, "X": X})
    B, Z = arrays["A"], arrays["X"]
    plain = ag.loss_gradient(B, B, B, (Z, Z), Z, B, wrt=("W_Q", "A"))
    assert found.loss == plain.loss
    for name, gradient in found.gradients.items():
        assert_rounded(gradient, plain.gradients[name], dtype)


@DTYPES
def test_targets_are_tensors(dtype: Any) -> None:
    named = heads(dtype)
    want = ag.attention_vjp(**named, allow_half=True)
    # By other strides, and over an input.
    turned = torch.empty(2, 4, 9, dtype=dtype).mT
    out = (named["query"], turned, None)
    found = ag.attention_vjp(**named, out=out, allow_half=True)
    assert found.dq is named["query"]
    assert found.dk is turned
    for got, whole in zip(found, want, strict=True):
        assert torch.equal(got, whole)


@DTYPES
@pytest.mark.parametrize("kind", ["bool", "added"])
def test_masks_are_tensors(dtype: Any, kind: str) -> None:
    named = heads(dtype)
    made = torch.Generator().manual_seed(1)
    mask = torch.rand(7, 9, generator=made) < 0.6
    if kind == "added":
        numbers = torch.randn(7, 9, generator=made).to(dtype)
        mask = torch.where(mask, numbers, torch.finfo(dtype).min)
    inputs = [named[name] for name in INPUTS]
    got = ag.attention(*inputs, attn_mask=mask, allow_half=True)
    want = torch.nn.functional.scaled_dot_product_attention(
        *(one.double() for one in inputs),
        attn_mask=mask.double().clamp(min=-1e9) if kind == "added" else mask,
    )
    unit = torch.finfo(dtype).eps
    assert torch.all((got.double() - want).abs() <= SLACK * unit)
    strided = [one.mT.contiguous().mT for one in inputs]
    assert torch.equal(
        ag.attention(*strided, attn_mask=mask.mT.contiguous().mT, allow_half=True), got
    )


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
def test_what_is_refused() -> None:
    named = heads(torch.float32)
    inputs = [named[name] for name in INPUTS]
    with pytest.raises(ag.DTypeError, match=r"query: found dtype bfloat16; .*allow_half=True"):
        ag.attention(*(one.bfloat16() for one in inputs))
    with pytest.raises(ag.DTypeError, match=r"key: found an array that requires a gradient"):
        ag.attention(inputs[0], inputs[1].requires_grad_(), inputs[2])
    inputs[1] = inputs[1].detach()
    with pytest.raises(ag.DTypeError, match=r"value: .*meta"):
        ag.attention(*inputs[:2], inputs[2].to("meta"))
    with pytest.raises(
        ag.DTypeError, match=r"value: found an array of numpy where query is one of"
    ):
        ag.attention(*inputs[:2], inputs[2].numpy())
    # By DLPack alone these would be read as other numbers.
    negated = torch.complex(inputs[2], inputs[2]).conj().imag
    with pytest.raises(ag.DTypeError, match=r"value: .*resolve_neg"):
        ag.attention(*inputs[:2], negated)
    hidden = torch.masked.masked_tensor(inputs[2], torch.ones_like(inputs[2], dtype=torch.bool))
    with pytest.raises(ag.DTypeError, match=r"value: .*MaskedTensor"):
        ag.attention(*inputs[:2], hidden)
    with pytest.raises(ag.DTypeError, match=r"query: "):
        torch.func.vmap(lambda one: ag.attention(one, *inputs[1:]))(inputs[0])


def test_a_parameter_is_read_once_detached() -> None:
    named = heads(torch.float32)
    weight = torch.nn.Parameter(named["query"])
    with pytest.raises(ag.DTypeError, match=r"query\.detach\(\)"):
        ag.attention(weight, named["key"], named["value"])
    got = ag.attention(weight.detach(), named["key"], named["value"])
    assert torch.equal(got, ag.attention(*(named[name] for name in INPUTS)))
