"""Derivatives of both orders and in a direction of calls with a mask, beside torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from test_torch_values import torchs_unless_blind  # noqa: E402
from test_transforms import check_operators, heads  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.func import grad, hessian, jacfwd, jvp, vmap  # noqa: E402

from attngrad_rs import OptionError  # noqa: E402
from attngrad_rs.torch import scaled_dot_product_attention as ours  # noqa: E402

pytestmark = [
    pytest.mark.peers,
    # torch's own checks still script.
    pytest.mark.filterwarnings("ignore:`torch.jit.script.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]

EVERY = (0, 1, 2)
# A row that sees nothing, and one that sees all but the last key.
SHOWN = torch.ones(5, 6).tril(2).bool()
SHOWN[1] = False
ADDED = torch.linspace(-1, 1, 30).reshape(5, 6).double().masked_fill(~SHOWN, -torch.inf)
MASKS = {
    "shown": SHOWN,
    "added": ADDED,
    "of one row": ADDED[3],
    "of one column": SHOWN[:, :1],
    "of each head": torch.stack([SHOWN.roll(head, dims=0) for head in range(4)]),
    "of each sample": torch.stack((ADDED, ADDED.flip(0)))[:, None],
    "transposed": ADDED.mT.contiguous().mT,
    "of the lowest number": ADDED.clamp(min=torch.finfo(torch.float64).min),
}
every_mask = pytest.mark.parametrize("name", MASKS)
Loss = Callable[..., Any]


def loss(function: Any, mask: Any) -> Loss:
    """A scalar with a Hessian that is not that of a sum."""
    return lambda *given: function(*given, attn_mask=mask).sin().sum()


def wanted(mask: Any) -> Any:
    """The mask as torch's side reads it: it takes the lowest number for a number."""
    return mask if mask.dtype == torch.bool else mask.masked_fill(mask < -1e300, -torch.inf)


def check(name: str, make: Callable[[Any, Any], Any]) -> None:
    """The same of both sides; of torch's own ways this one has derivatives of every kind."""
    mask = MASKS[name]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = make(torchs_unless_blind, wanted(mask))
    torch.testing.assert_close(make(ours, mask), expected)


@pytest.mark.parametrize("name", ["shown", "added"])
def test_operators_with_a_mask_keep_the_contract(name: str) -> None:
    check_operators(heads(True), (MASKS[name], False, None, True))


@pytest.mark.parametrize("enable_gqa", [False, True])
@pytest.mark.parametrize("name", ["shown", "added", "of each sample"])
def test_numerical_derivatives(name: str, enable_gqa: bool) -> None:
    mask = MASKS[name]
    # Few numbers: each is one call, or two.
    inputs = [one[:, :, :, :2].clone().requires_grad_() for one in heads(enable_gqa)]
    if mask.dim() < 4:
        inputs = [one[:1].detach().requires_grad_() for one in inputs]

    def attend(*given: Any) -> Any:
        return ours(*given, attn_mask=mask, enable_gqa=enable_gqa)

    assert torch.autograd.gradcheck(attend, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(attend, inputs, check_fwd_over_rev=True)


@every_mask
def test_double_backward(name: str) -> None:
    def gradients(function: Any, mask: Any) -> Any:
        inputs = [one.requires_grad_() for one in heads(False)]
        first = torch.autograd.grad(loss(function, mask)(*inputs), inputs, create_graph=True)
        return first, torch.autograd.grad(sum(one.pow(2).sum() for one in first), inputs)

    check(name, gradients)


@every_mask
def test_transforms_with_a_mask(name: str) -> None:
    tensors, others = heads(False), heads(False, seed=1)
    along = tuple(others)

    def second(f: Any, mask: Any) -> Any:
        first = grad(loss(f, mask), argnums=EVERY)
        return grad(lambda *given: sum(one.pow(2).sum() for one in first(*given)), argnums=EVERY)(
            *tensors
        )

    def reverse_over_forward(f: Any, mask: Any) -> Any:
        def moved(*given: Any) -> Any:
            return jvp(loss(f, mask), given, along)[1]

        return grad(moved, argnums=EVERY)(*tensors)

    made = (
        second,
        reverse_over_forward,
        lambda f, mask: jvp(lambda *given: f(*given, attn_mask=mask), tuple(tensors), along),
        lambda f, mask: jvp(grad(loss(f, mask), argnums=EVERY), tuple(tensors), along),
        # Of the query alone the direction of the others is none.
        lambda f, mask: jvp(
            grad(lambda query: loss(f, mask)(query, *tensors[1:])), (tensors[0],), (others[0],)
        ),
        lambda f, mask: hessian(lambda query: loss(f, mask)(query, *tensors[1:]))(tensors[0]),
        lambda f, mask: jacfwd(lambda value: f(*tensors[:2], value, attn_mask=mask))(tensors[2]),
    )
    for make in made:
        check(name, make)


@pytest.mark.parametrize("name", ["shown", "added", "of one row"])
def test_hessian_of_all(name: str) -> None:
    tensors = [one[0, :2, :, :2] for one in heads(False)]
    check(name, lambda f, mask: hessian(loss(f, mask), argnums=EVERY)(*tensors))


@pytest.mark.parametrize("kind", ["shown", "added"])
@pytest.mark.parametrize("axis", [0, -1, None])
def test_mapped_masks(kind: str, axis: int | None) -> None:
    tensors, along = heads(False), tuple(heads(False, seed=1))
    mask = MASKS[kind]
    if axis is not None:
        mask = torch.stack((mask.flip(0), mask), dim=axis)

    def by_sample(f: Any, of: Callable[[Loss], Any], *given: Any) -> Any:
        def one(sample: Any, own: Any) -> Any:
            return of(loss(f, own))(*sample)

        return vmap(one, in_dims=(0, axis))(given, mask)

    def directions(of: Loss) -> Any:
        return lambda *both: jvp(grad(of, argnums=EVERY), both[:3], both[3:])

    made: tuple[Callable[[Any], Any], ...] = (
        lambda f: by_sample(f, lambda of: grad(of, argnums=EVERY), *tensors),
        lambda f: by_sample(f, hessian, *tensors),
        lambda f: by_sample(f, directions, *tensors, *along),
    )
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for make in made:
            torch.testing.assert_close(make(ours), make(torchs_unless_blind))


def test_dual_numbers_with_a_mask() -> None:
    pairs = list(zip(heads(False), heads(False, seed=1), strict=True))

    def moved(function: Any, mask: Any) -> Any:
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(*pair) for pair in pairs]
            return forward_ad.unpack_dual(function(*duals, attn_mask=mask)).tangent

    check("added", moved)


def test_a_tolerance_leaves_second_derivatives_exact() -> None:
    def penalty(**options: Any) -> Any:
        inputs = [one.requires_grad_() for one in heads(False)]
        output = ours(*inputs, attn_mask=SHOWN, **options)
        first = torch.autograd.grad(output.sin().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(one.sum() for one in first), inputs)

    torch.testing.assert_close(penalty(rtol=1e-3), penalty())


def test_the_mask_itself_has_no_derivatives() -> None:
    tensors = heads(False)
    finite = ADDED.clamp(min=-9.0)

    def attend(mask: Any) -> Any:
        return ours(*tensors, attn_mask=mask)

    def slopes(mask: Any) -> Any:
        return grad(lambda query: ours(query, *tensors[1:], attn_mask=mask).sum())(tensors[0])

    for of in (attend, slopes):
        with pytest.raises(OptionError, match="attn_mask: found a mask that changes"):
            jvp(of, (finite,), (finite,))
