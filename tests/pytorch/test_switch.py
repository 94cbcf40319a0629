"""Models that call torch's function use this one while it is switched on, and only then."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import attngrad_rs.torch as agt  # noqa: E402
from attngrad_rs import errors  # noqa: E402

pytestmark = pytest.mark.peers

F = torch.nn.functional
TORCHS = F.scaled_dot_product_attention
X = torch.arange(2.0 * 4 * 5 * 3).sin().reshape(2, 4, 5, 3)
MASK = torch.ones(5, 5, dtype=torch.bool).tril()
LEARNT = torch.zeros(5, 5, requires_grad=True)
UNSERVED = {
    "attn_mask": {"attn_mask": LEARNT},
    "dropout_p": {"dropout_p": 0.5},
    "query": {"query": X.bfloat16(), "key": X.bfloat16(), "value": X.bfloat16()},
}


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    yield
    agt.disable()
    assert F.scaled_dot_product_attention is TORCHS


def served() -> bool:
    """Whether a call of torch's function is one of this library's."""
    with agt.monitor() as seen:
        F.scaled_dot_product_attention(X, X, X)
    return bool(seen.layers)


def test_on_and_off() -> None:
    assert not served()
    agt.enable()
    assert served()
    agt.disable()
    assert not served()


def test_contexts_nest() -> None:
    with agt.enable(fallback=False):
        with agt.enable():
            assert served()
        assert served()
        with pytest.raises(errors.OptionError):
            F.scaled_dot_product_attention(X, X, X, LEARNT)
    assert not served()


def test_an_error_leaves_the_context() -> None:
    with pytest.raises(ZeroDivisionError), agt.enable():
        raise ZeroDivisionError
    assert not served()


def test_a_function_that_was_kept_is_torchs_again() -> None:
    with agt.enable():
        kept = F.scaled_dot_product_attention
    with agt.monitor() as seen:
        torch.testing.assert_close(kept(X, X, X, MASK), TORCHS(X, X, X, MASK))
    assert not seen.layers


def test_a_function_of_somebody_else_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*_: Any) -> None:
        raise AssertionError("not called")

    with monkeypatch.context() as patch, agt.enable():
        patch.setattr(F, "scaled_dot_product_attention", other)
        agt.disable()
        assert F.scaled_dot_product_attention is other
        patch.undo()
        # The patch puts back what it found, which is this library's, switched off.
        assert not served()
        agt.enable()
        assert served()


@pytest.mark.parametrize("argument", sorted(UNSERVED))
def test_what_is_not_served_goes_to_torch_with_one_warning(argument: str) -> None:
    given = {"query": X, "key": X, "value": X} | UNSERVED[argument]
    with agt.enable(), agt.monitor() as seen:
        torch.manual_seed(0)
        with pytest.warns(UserWarning, match=f"left to torch: {argument}: "):
            got = F.scaled_dot_product_attention(**given)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            F.scaled_dot_product_attention(**given)
    torch.manual_seed(0)
    torch.testing.assert_close(got, TORCHS(**given), rtol=0, atol=0)
    assert not seen.layers


@pytest.mark.parametrize("argument", sorted(UNSERVED))
def test_or_is_refused(argument: str) -> None:
    given = {"query": X, "key": X, "value": X} | UNSERVED[argument]
    with agt.enable(fallback=False), pytest.raises(errors.AttnGradError, match=f"^{argument}: "):
        F.scaled_dot_product_attention(**given)


def test_a_wrong_call_gets_torchs_own_error() -> None:
    warned = pytest.warns(UserWarning, match="left to torch: key: ")
    with agt.enable(), warned, pytest.raises(RuntimeError, match="size"):
        F.scaled_dot_product_attention(X, X[..., :2], X)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_models_follow_the_switch(backend: str) -> None:
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, backend=backend)
    def model(x: Any) -> Any:
        return F.scaled_dot_product_attention(x * 2, x, x, is_causal=True)

    def calls() -> int:
        with agt.monitor() as seen:
            model(X)
        return len(seen.layers)

    assert calls() == 0
    with agt.enable():
        assert calls() == 1
    assert calls() == 0


@pytest.mark.parametrize("is_padded", [False, True])
def test_multi_head_attention_in_training(is_padded: bool) -> None:
    torch.manual_seed(0)
    model = torch.nn.MultiheadAttention(12, 3, batch_first=True)
    x = torch.randn(2, 7, 12)
    padding = torch.arange(7) >= torch.tensor([[7], [4]]) if is_padded else None

    def gradient() -> Any:
        output, _ = model(x, x, x, key_padding_mask=padding, need_weights=False)
        return torch.autograd.grad(output.square().sum(), model.in_proj_weight)

    want = gradient()
    with agt.enable(fallback=False), agt.monitor(model) as seen:
        got = gradient()
    torch.testing.assert_close(got, want)
    assert len(seen.layers) == 1


class TransformersLike:
    """What ``register_transformers`` needs of transformers, which the tests do without."""

    def __init__(self) -> None:
        self.attentions: dict[str, Any] = {}
        self.masks: dict[str, Any] = {}

    def modules(self) -> dict[str, ModuleType]:
        top = ModuleType("transformers")
        integrations = ModuleType("transformers.integrations")
        own = ModuleType("transformers.integrations.sdpa_attention")
        masks = ModuleType("transformers.masking_utils")
        vars(top)["AttentionInterface"] = SimpleNamespace(register=self.attentions.__setitem__)
        vars(own)["sdpa_attention_forward"] = lambda module, q, k, v, mask, scaling=None, **_: (
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling),
            None,
        )
        vars(masks)["ALL_MASK_ATTENTION_FUNCTIONS"] = SimpleNamespace(
            register=self.masks.__setitem__
        )
        vars(masks)["sdpa_mask"] = object()
        return {one.__name__: one for one in (top, integrations, own, masks)}


def test_transformers_knows_it_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    library = TransformersLike()
    modules = library.modules()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    agt.register_transformers()
    assert library.masks == {"attngrad": modules["transformers.masking_utils"].sdpa_mask}
    with agt.monitor() as seen:
        output, _ = library.attentions["attngrad"](None, X, X, X, None, scaling=0.3)
    torch.testing.assert_close(output, TORCHS(X, X, X, scale=0.3))
    assert len(seen.layers[""].forward) == 1
    assert not served()


def test_transformers_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(errors.MissingDependencyError, match=r"^transformers: found .*; expected"):
        agt.register_transformers()
