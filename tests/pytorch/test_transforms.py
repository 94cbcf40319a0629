"""Derivatives of both orders, and all that torch makes of a function: vmap, torch.func, compile."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.autograd import forward_ad  # noqa: E402
from torch.func import grad, hessian, jvp, vmap  # noqa: E402

from attngrad_rs import OptionError  # noqa: E402
from attngrad_rs.torch import scaled_dot_product_attention  # noqa: E402
from attngrad_rs.torch._ops import backward_op, forward_op, hessian_op, tangent_op  # noqa: E402

pytestmark = [
    pytest.mark.peers,
    # torch's own checks still script.
    pytest.mark.filterwarnings("ignore:`torch.jit.script.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]

torchs = torch.nn.functional.scaled_dot_product_attention
FORMS = [
    pytest.param(is_causal, scale, enable_gqa, id=f"{is_causal}-{scale}-{enable_gqa}")
    for is_causal, scale, enable_gqa in (
        (False, None, False), (True, 0.4, False), (False, -0.7, True), (True, None, True),
    )
]  # fmt: skip
every_form = pytest.mark.parametrize(("is_causal", "scale", "enable_gqa"), FORMS)


def heads(enable_gqa: bool, seed: int = 0) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    shared = 2 if enable_gqa else 4
    shapes = ((2, 4, 5, 3), (2, shared, 6, 3), (2, shared, 6, 2))
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]


def both(is_causal: bool, scale: float | None, enable_gqa: bool) -> tuple[Any, Any]:
    """The same call of this library and of torch."""

    def call(function: Any) -> Any:
        options = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
        return lambda *tensors: function(*tensors, **options)

    return call(scaled_dot_product_attention), call(torchs)


@every_form
def test_gradients_of_both_orders(is_causal: bool, scale: float | None, enable_gqa: bool) -> None:
    function, _ = both(is_causal, scale, enable_gqa)
    # Few numbers: each is one call, or two.
    parts = zip(heads(enable_gqa), (3, 4, 4), strict=True)
    inputs = [one[0, :, :rows].clone().requires_grad_() for one, rows in parts]
    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, inputs)


def check_operators(tensors: list[Any], form: tuple[Any, ...]) -> None:
    """All four operators do what their registration says, by torch's own checks."""
    tolerant = (*form, None)
    inputs = [one.clone().requires_grad_() for one in tensors]
    torch.library.opcheck(forward_op, (*inputs, *tolerant))
    output, lse = (one.detach() for one in forward_op(*inputs, *tolerant))
    dout = torch.ones_like(output).requires_grad_()
    torch.library.opcheck(backward_op, (dout, *inputs, output, lse, *tolerant))
    along = [one.flip(-1) for one in tensors]
    torch.library.opcheck(tangent_op, (*inputs, *along, output, lse, *form))
    # A third derivative is not served.
    sides = [one.detach() for one in (dout, *inputs)]
    for ddout in (None, torch.ones_like(output)):
        torch.library.opcheck(hessian_op, (*sides, ddout, *along, output, lse, *form))

    def change(*both: Any) -> Any:
        """Of query, key, value and their directions; the others count as made of the former."""
        saved = forward_op(*(one.detach() for one in both[:3]), *tolerant)
        return tangent_op(*both, *saved, *form)

    both = [one[:1].clone().requires_grad_() for one in (*tensors, *along)]
    assert torch.autograd.gradcheck(change, both)


@every_form
def test_operators_keep_the_contract(
    is_causal: bool, scale: float | None, enable_gqa: bool
) -> None:
    check_operators(heads(enable_gqa), (None, is_causal, scale, enable_gqa))


def test_no_rows_have_second_derivatives() -> None:
    query, key = torch.zeros(2, 0, 3, dtype=torch.float64), torch.zeros(2, 4, 3).double()
    inputs = [one.requires_grad_() for one in (query, key, key.clone())]
    (dk,) = torch.autograd.grad(
        scaled_dot_product_attention(*inputs).sum(), inputs[1], create_graph=True
    )
    found = torch.autograd.grad(dk.sum(), inputs, allow_unused=True, materialize_grads=True)
    assert [one.shape for one in found] == [one.shape for one in inputs]
    assert all(not one.any() for one in found)


@every_form
def test_transforms(is_causal: bool, scale: float | None, enable_gqa: bool) -> None:
    ours, theirs = both(is_causal, scale, enable_gqa)
    tensors, others = heads(enable_gqa), heads(enable_gqa, seed=1)
    small = [one[0, :, :2] for one in tensors]
    every = (0, 1, 2)

    def loss(function: Any) -> Any:
        return lambda *given: function(*given).sin().sum()

    def squared(function: Any) -> Any:
        first = grad(loss(function), argnums=every)
        return lambda *given: sum(one.pow(2).sum() for one in first(*given))

    made = {
        "vmap": lambda f: vmap(f, in_dims=(1, 1, 1), out_dims=1)(
            *(one.unsqueeze(0) for one in tensors)
        ),
        "vmap of one": lambda f: vmap(f, in_dims=(0, None, None))(
            tensors[0], tensors[1][0], tensors[2][0]
        ),
        "gradient by sample": lambda f: vmap(grad(loss(f), argnums=every))(*tensors),
        "second gradient": lambda f: grad(squared(f), argnums=every)(*tensors),
        "forward mode": lambda f: jvp(f, tuple(tensors), tuple(others)),
        "reverse over forward": lambda f: grad(
            lambda *given: jvp(f, given, tuple(others))[1].sin().sum(), argnums=every
        )(*tensors),
        "forward over reverse": lambda f: jvp(
            grad(loss(f), argnums=every), tuple(tensors), tuple(others)
        ),
        "hessian": lambda f: hessian(loss(f), argnums=every)(*small),
    }
    # Of torch's own functions only this one has derivatives of every kind.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for name, make in made.items():
            torch.testing.assert_close(make(ours), make(theirs), msg=lambda s, n=name: f"{n}: {s}")


def test_orders_that_are_not_served() -> None:
    query, key, value = (one.requires_grad_() for one in heads(False))

    def slopes(of: Any) -> Any:
        return torch.autograd.grad(of.sin().sum(), query, create_graph=True)[0]

    second = slopes(slopes(scaled_dot_product_attention(query, key, value)))
    with pytest.raises(OptionError, match="found a derivative of a second derivative"):
        slopes(second)

    def along(function: Any) -> Any:
        return lambda x: jvp(function, (x,), (torch.ones_like(x),))[1]

    def attend(x: Any) -> Any:
        return scaled_dot_product_attention(x, key.detach(), value.detach())

    with pytest.raises(OptionError, match="a change of a tangent"):
        along(along(attend))(query.detach())
    third = grad(lambda x: grad(lambda y: grad(lambda z: attend(z).sin().sum())(y).sum())(x).sum())
    with pytest.raises(OptionError, match="found a derivative of a second derivative"):
        third(query.detach())


def test_dual_numbers() -> None:
    ours, theirs = both(True, None, False)
    tensors, others = heads(False), heads(False, seed=1)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(*pair) for pair in zip(tensors, others, strict=True)]
        got = forward_ad.unpack_dual(ours(*duals)).tangent
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        want = jvp(theirs, tuple(tensors), tuple(others))[1]
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
def test_a_compiled_graph_stays_whole(backend: str, dynamic: bool, with_mask: bool) -> None:
    torch._dynamo.reset()

    def step(query: Any, key: Any, value: Any) -> Any:
        weights = query.sin() * 2
        form: dict[str, Any] = {"is_causal": True}
        if with_mask:
            form = {"attn_mask": torch.ones(query.shape[-2], key.shape[-2]).bool().tril()}
        return scaled_dot_product_attention(weights, key, value, **form, enable_gqa=True)

    compiled = torch.compile(step, fullgraph=True, backend=backend, dynamic=dynamic)
    for rows in (5, 4):
        inputs = [one[..., :rows, :].clone().requires_grad_() for one in heads(True)]
        got, want = compiled(*inputs), step(*inputs)
        torch.testing.assert_close(got, want)
        pairs = (torch.autograd.grad(one.sin().sum(), inputs) for one in (got, want))
        torch.testing.assert_close(*pairs)
