"""A call takes the way that torch needs, and the numbers do not depend on it."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import attngrad_rs.torch as agt  # noqa: E402
from attngrad_rs.errors import AttnGradError  # noqa: E402
from attngrad_rs.torch import _run  # noqa: E402

pytestmark = pytest.mark.peers


def heads(seed: int = 0) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, 6, 4, generator=generator).requires_grad_() for _ in range(3)]


def results(attend: Any = agt.scaled_dot_product_attention) -> list[Any]:
    inputs = heads()
    output = attend(*inputs, is_causal=True)
    return [output, *torch.autograd.grad(output.sin().sum(), inputs)]


class Seen(TorchDispatchMode):
    """A mode that counts operators, as profilers, tracers and fake tensors do."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def test_a_mode_sees_the_operators() -> None:
    want = results()
    with Seen() as seen:
        got = results()
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    ours = [name for name in seen.names if name.startswith("attngrad")]
    assert ours == ["attngrad.attention.default", "attngrad.attention_backward.default"]


def test_a_mode_sees_the_gradient_alone() -> None:
    inputs = heads()
    output = agt.scaled_dot_product_attention(*inputs)
    with Seen() as seen:
        output.sum().backward()
    assert "attngrad.attention_backward.default" in seen.names


@pytest.fixture
def _no_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("an operator was called")

    monkeypatch.setattr(_run, "forward_op", fail)
    monkeypatch.setattr(_run, "backward_op", fail)


@pytest.mark.usefixtures("_no_operators")
def test_plain_calls_go_to_the_core() -> None:
    results()
    with torch.no_grad():
        agt.scaled_dot_product_attention(*heads())


def test_a_subclass_is_asked() -> None:
    from torch.testing._internal.two_tensor import TwoTensor

    inputs = [TwoTensor(one.detach(), one.detach() + 1.0) for one in heads()]
    got = agt.scaled_dot_product_attention(*inputs)
    for name in ("a", "b"):
        want = agt.scaled_dot_product_attention(*(getattr(one, name) for one in inputs))
        torch.testing.assert_close(getattr(got, name), want, rtol=0, atol=0)


def test_gradients_of_a_batch_at_once() -> None:
    inputs = heads()
    output = agt.scaled_dot_product_attention(*inputs)
    incoming = torch.stack([torch.ones_like(output), output.detach().cos()])
    got = torch.autograd.grad(output, inputs, incoming, is_grads_batched=True, retain_graph=True)
    one_by_one = [torch.autograd.grad(output, inputs, one, retain_graph=True) for one in incoming]
    torch.testing.assert_close(got, tuple(map(torch.stack, zip(*one_by_one, strict=True))))


def test_a_parameter_and_a_negated_view() -> None:
    query, key, value = (one.detach() for one in heads())
    output = agt.scaled_dot_product_attention(torch.nn.Parameter(query), key, value)
    assert output.requires_grad
    # The imaginary part of a conjugate is a view that says it is negated.
    negated = torch.complex(torch.zeros_like(query), query).conj().imag
    assert negated.is_neg()
    got = agt.scaled_dot_product_attention(negated, key, value)
    torch.testing.assert_close(got, agt.scaled_dot_product_attention(-query, key, value))


RTOL = 1e-2


def test_gradients_to_a_tolerance() -> None:
    exact = results()
    with agt.monitor() as seen:
        near = results(lambda *given, **form: agt.scaled_dot_product_attention(
            *given, **form, rtol=RTOL
        ))  # fmt: skip
    torch.testing.assert_close(near[0], exact[0], rtol=0, atol=0)
    for got, want in zip(near[1:], exact[1:], strict=True):
        assert (got - want).norm() <= RTOL * want.norm()
    (layer,) = seen.layers.values()
    assert len(layer.methods) == len(layer.kinds) == 1
    assert layer.errors[0] <= RTOL
    assert layer.kinds[0] in str(seen)


def test_the_tolerance_of_the_switch_is_that_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    backward = _run._calls.backward
    monkeypatch.setattr(
        _run._calls, "backward", lambda *given: (found.append(given[-1]), backward(*given))[1]
    )

    def attend(*given: Any, **form: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(*given, **form)

    with agt.enable(fallback=False, rtol=RTOL):
        results(attend)
    with agt.enable(fallback=False):
        results(attend)
    assert found == [RTOL, None]


def test_second_derivatives_are_exact_for_any_tolerance() -> None:
    def second(rtol: float | None) -> Any:
        inputs = [one.detach().double().requires_grad_() for one in heads()]
        output = agt.scaled_dot_product_attention(*inputs, rtol=rtol)
        slopes = torch.autograd.grad(output.sin().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(one.sin().sum() for one in slopes), inputs)

    torch.testing.assert_close(second(RTOL), second(None))


@pytest.mark.parametrize("rtol", [-1.0, float("nan"), "1e-2", 1e-9])
def test_a_tolerance_that_means_nothing(rtol: Any) -> None:
    with pytest.raises(AttnGradError, match="rtol: found"):
        agt.scaled_dot_product_attention(*heads(), rtol=rtol)


def test_a_compiled_function_keeps_the_tolerance() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *given: agt.scaled_dot_product_attention(*given, rtol=RTOL),
        fullgraph=True, backend="aot_eager",
    )  # fmt: skip
    inputs = heads()
    with agt.monitor() as seen:
        compiled(*inputs).sum().backward()
    # Without a tolerance a certificate is made of the sizes of rows, and is larger by far.
    with agt.monitor() as plain:
        agt.scaled_dot_product_attention(*inputs).sum().backward()
    assert seen.layers[""].errors[0] < plain.layers[""].errors[0]
