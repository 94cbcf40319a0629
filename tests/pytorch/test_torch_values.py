"""The function against torch's own: output and gradients for every option and any shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from attngrad_rs import errors  # noqa: E402
from attngrad_rs.torch import scaled_dot_product_attention  # noqa: E402

pytestmark = pytest.mark.peers

ours, torchs = scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention
# Roundings of a result beside its largest entry, for logits of size one.
SLACK = 100.0
SIZE = 2.0


@dataclass(frozen=True)
class Call:
    """Tensors of one call and its options."""

    tensors: tuple[Any, ...]
    dout: Any
    options: dict[str, Any]

    @property
    def logits(self) -> float:
        """No logit is larger."""
        width = self.tensors[0].shape[-1]
        scale = self.options["scale"]
        scale = abs(scale) if scale is not None else max(width, 1) ** -0.5
        return float(SIZE**2 * width * scale + SIZE)

    def results(self, function: Any, dtype: Any) -> list[Any]:
        """Output and the three gradients, in a precision."""
        inputs = [one.to(dtype).requires_grad_() for one in self.tensors]
        options, mask = dict(self.options), self.options["attn_mask"]
        if mask is not None and mask.dtype != torch.bool:
            options["attn_mask"] = mask.to(dtype)
        output = function(*inputs, **options)
        return [output.detach(), *torch.autograd.grad(output, inputs, self.dout.to(dtype))]


def spread_out(tensor: Any, layout: str) -> Any:
    """The same numbers with other strides."""
    if layout == "transposed":
        return tensor.mT.contiguous().mT
    if layout == "strided":
        return torch.stack((tensor, tensor + 1.0), dim=-1)[..., 0]
    return tensor


def torchs_unless_blind(*tensors: Any, attn_mask: Any, **options: Any) -> Any:
    """By torch's function; zeros for queries that see nothing, where releases of it differ."""
    if attn_mask is None:
        return torchs(*tensors, **options)
    shape = (*tensors[0].shape[:-1], tensors[1].shape[-2])
    added = attn_mask
    if attn_mask.dtype == torch.bool:
        added = torch.zeros(attn_mask.shape).double().masked_fill(~attn_mask, -torch.inf)
    blind = added.expand(shape).isneginf().all(dim=-1, keepdim=True)
    added = added.expand(shape).masked_fill(blind, 0.0)
    return torchs(*tensors, attn_mask=added, **options).masked_fill(blind, 0.0)


@st.composite
def masks(draw: st.DrawFn, lead: tuple[int, ...], rows: int, seen: int) -> Any:
    """Of bool or to be added, in a shape that broadcasts, some queries without keys."""
    whole = (*lead, rows, seen)
    ones = draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
    shape = tuple(1 if one else size for one, size in zip(ones, whole, strict=True))
    shape = shape[draw(st.integers(0, len(shape) - 1)) :]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shows = torch.from_numpy(rng.random(shape) < draw(st.sampled_from((0.0, 0.3, 0.9))))
    if draw(st.booleans()):
        return shows
    return torch.from_numpy(rng.uniform(-SIZE, SIZE, shape)).masked_fill(~shows, -torch.inf)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    lead = draw(st.sampled_from([(), (3,), (2, 4), (2, 1, 6), (0, 2), (1, 0)]))
    rows, seen = draw(st.integers(0, 33)), draw(st.integers(0, 33))
    width, columns = draw(st.integers(1, 17)), draw(st.integers(1, 17))
    group = draw(st.sampled_from([1, 2])) if lead and lead[-1] % 2 == 0 else 1
    shared = lead if group == 1 else (*lead[:-1], lead[-1] // group)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    layouts = st.sampled_from(["plain", "transposed", "strided"])

    def tensor(*shape: int) -> Any:
        return spread_out(torch.from_numpy(rng.uniform(-SIZE, SIZE, shape)), draw(layouts))

    tensors = (tensor(*lead, rows, width), tensor(*shared, seen, width))
    tensors = (*tensors, tensor(*shared, seen, columns))
    dout = tensor(*lead, rows, columns)
    if draw(st.booleans()):
        dout = dout[..., :1].expand(dout.shape)
    scale = draw(st.none() | st.floats(-0.5, 0.5))
    is_causal = draw(st.booleans())
    mask = None if is_causal else draw(st.none() | masks(lead, rows, seen))
    form = {"is_causal": is_causal, "scale": scale, "enable_gqa": group > 1}
    return Call(tensors, dout, {**form, "attn_mask": mask})


def check(call: Call, dtype: Any) -> None:
    """Output and gradients are those of torch in float64, to the rounding of a precision."""
    options, mask = dict(call.options), call.options["attn_mask"]
    if mask is not None and mask.dtype != torch.bool:
        options["attn_mask"] = mask.to(dtype).double()
    tensors = tuple(one.to(dtype).double() for one in call.tensors)
    low = Call(tensors, call.dout.to(dtype).double(), options)
    bar = SLACK * torch.finfo(dtype).eps * (1.0 + call.logits)
    found, wanted = low.results(ours, dtype), low.results(torchs_unless_blind, torch.float64)
    for name, got, want in zip("oqkv", found, wanted, strict=True):
        assert got.dtype == dtype, name
        assert got.shape == want.shape, name
        size = 1.0 + (want.abs().max().item() if want.numel() else 0.0)
        error = (got - want).abs().max().item() if want.numel() else 0.0
        assert error <= bar * size, name


# Torch's side takes most of the time.
@pytest.mark.parametrize("precision", ["float32", "float64"])
@settings(max_examples=settings.default.max_examples // 3)
@given(call=calls())
def test_it_is_torchs_own(precision: str, call: Call) -> None:
    check(call, getattr(torch, precision))


@pytest.mark.parametrize("is_causal", [False, True])
def test_leading_dimensions_are_broadcast(is_causal: bool) -> None:
    rng = np.random.default_rng(0)
    shapes = ((2, 1, 5, 3), (1, 4, 6, 3), (4, 6, 2))
    tensors = tuple(torch.from_numpy(rng.uniform(-SIZE, SIZE, shape)) for shape in shapes)
    dout = torch.from_numpy(rng.uniform(-SIZE, SIZE, (2, 4, 5, 2)))
    wide = {"is_causal": is_causal, "scale": None, "enable_gqa": False}
    inputs = [one.clone().requires_grad_() for one in tensors]
    want_inputs = [one.clone().requires_grad_() for one in tensors]
    got = scaled_dot_product_attention(*inputs, **wide)
    want = torchs(*(one.expand(2, 4, *one.shape[-2:]) for one in want_inputs), **wide)
    torch.testing.assert_close(got, want)
    pairs = (torch.autograd.grad(got, inputs, dout), torch.autograd.grad(want, want_inputs, dout))
    torch.testing.assert_close(*pairs)


def test_memory_is_shared_with_arrays() -> None:
    """No input is copied on its way to the core, and the output is the core's own array."""
    from attngrad_rs.torch import _calls

    query = torch.zeros(2, 5, 3)
    (array,) = _calls.arrays(query.requires_grad_())
    assert array.ctypes.data == query.data_ptr()
    seen = []

    class Watcher:
        def forward(self, heads: Any, form: Any, output: Any, seconds: float) -> None:
            seen.append((heads[0].ctypes.data, output.ctypes.data))

        def backward(self, heads: Any, form: Any, output: Any, found: Any) -> None:
            seen.append((heads[0].ctypes.data, output.ctypes.data))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_calls, "watchers", [Watcher()])
        output = scaled_dot_product_attention(query, query, query)
        output.sum().backward()
    assert seen == [(query.data_ptr(), output.data_ptr())] * 2


def wrong_calls() -> dict[str, tuple[dict[str, Any], str, type[Exception]]]:
    x = torch.zeros(2, 4, 5, 3)
    mask = torch.ones(5, 5, dtype=torch.bool)
    needed = torch.zeros(5, 5, requires_grad=True)
    return {
        "mask with a gradient": ({"attn_mask": needed}, "attn_mask", errors.OptionError),
        "mask and causal": (
            {"attn_mask": mask, "is_causal": True}, "is_causal", errors.OptionError,
        ),
        "mask of integers": ({"attn_mask": mask.int()}, "attn_mask", errors.DTypeError),
        "mask in double": ({"attn_mask": mask.double()}, "attn_mask", errors.DTypeError),
        "mask shape": ({"attn_mask": mask[:4]}, "attn_mask", errors.ShapeError),
        "mask of more": ({"attn_mask": mask[None, None, None]}, "attn_mask", errors.ShapeError),
        "mask device": ({"attn_mask": mask.to("meta")}, "attn_mask", errors.OptionError),
        "sparse mask": ({"attn_mask": mask.to_sparse()}, "attn_mask", errors.OptionError),
        "mask array": ({"attn_mask": mask.numpy()}, "attn_mask", errors.OptionTypeError),
        "mask with NaN": (
            {"attn_mask": x[0, 0, 0, 0] * float("nan")}, "attn_mask", errors.NonFiniteError,
        ),
        "dropout": ({"dropout_p": 0.1}, "dropout_p", errors.OptionError),
        "device": ({"query": x.to("meta")}, "query", errors.OptionError),
        "sparse": ({"value": x.to_sparse()}, "value", errors.OptionError),
        "half": ({"query": x.bfloat16()}, "query", errors.DTypeError),
        "two dtypes": ({"key": x.double()}, "key", errors.DTypeError),
        "integers": ({"query": x.int()}, "query", errors.DTypeError),
        "array": ({"key": x.numpy()}, "key", errors.OptionTypeError),
        "width": ({"key": x[..., :2]}, "key", errors.ShapeError),
        "rows": ({"value": x[..., :4, :]}, "value", errors.ShapeError),
        "one axis": ({"query": x[0, 0, 0]}, "query", errors.ShapeError),
        "no heads": ({"query": x[0, 0], "enable_gqa": True}, "query", errors.ShapeError),
        "heads": ({"key": x[:, :3], "value": x[:, :3]}, "key", errors.ShapeError),
        "group": (
            {"key": x[:, :3], "value": x[:, :3], "enable_gqa": True}, "key", errors.ShapeError,
        ),
        "two groups": (
            {"key": x[:, :2], "value": x[:, :1], "enable_gqa": True}, "value", errors.ShapeError,
        ),
        "flag": ({"is_causal": 1}, "is_causal", errors.OptionTypeError),
        "gqa flag": ({"enable_gqa": None}, "enable_gqa", errors.OptionTypeError),
        "scale": ({"scale": "1"}, "scale", errors.OptionTypeError),
        "infinite scale": ({"scale": float("inf")}, "scale", errors.OptionError),
        "NaN": ({"value": x * float("nan")}, "value", errors.NonFiniteError),
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(wrong_calls()))
def test_a_wrong_call_names_the_argument(name: str) -> None:
    changed, argument, kind = wrong_calls()[name]
    x = torch.zeros(2, 4, 5, 3)
    arguments = {"query": x, "key": x, "value": x} | changed
    with pytest.raises(kind, match=f"^{argument}: found .*; "):
        scaled_dot_product_attention(**arguments)
