"""Derivatives of every order, and all that JAX makes of a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402
from jax_calls import EVERY, assert_close, dense, jax_nns  # noqa: E402

from attngrad_rs.jax import dot_product_attention  # noqa: E402

pytestmark = pytest.mark.peers

# Some tens of operations of float64, second derivatives of logits of size one.
EXACT = 1e-11
# jax.nn takes its softmax in float32.
SINGLE = 1e-4
# Options, and heads of the key. What compiles takes most of the time: the gate has one.
FORMS = [
    pytest.param(True, 0.4, 2, id="gate"),
    *(
        pytest.param(is_causal, scale, shared, id=name, marks=pytest.mark.deep)
        for name, is_causal, scale, shared in (
            ("shared keys", False, None, 2), ("own keys", True, None, 4),
            ("one key head", False, -0.7, 1),
        )
    ),
]  # fmt: skip
Function = Callable[..., Any]


def every_form(test: Function) -> Function:
    parametrized = pytest.mark.parametrize(("is_causal", "scale", "shared"), FORMS)
    return pytest.mark.usefixtures("_quick")(parametrized(test))


def heads(shared: int, seed: int = 0) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    shapes = ((2, 5, 4, 3), (2, 6, shared, 3), (2, 6, shared, 2))
    return tuple(rng.standard_normal(shape) for shape in shapes)


def loss(function: Function) -> Function:
    return lambda *at: jnp.sin(function(*at)).sum()


def squared(function: Function) -> Function:
    return lambda *at: sum((one**2).sum() for one in jax.grad(loss(function), EVERY)(*at))


def along(function: Function) -> Function:
    """The change in a direction that depends on where it starts."""
    return lambda *at: jax.jvp(function, at, tuple(map(jnp.cos, at)))[1]


def small(function: Function) -> Function:
    """The function of two rows of one batch entry."""
    return lambda make: lambda *at: make(function)(*(one[:1, :2] for one in at))


def mapped(axes: tuple[int | None, ...]) -> Callable[[Function], Function]:
    """The function of heads of which some are mapped, and others shared by the batch."""

    def made(function: Function) -> Function:
        def call(*at: Any) -> Any:
            own = [x if axis is not None else x[0] for x, axis in zip(at, axes, strict=True)]
            return jax.vmap(function, axes)(*own)

        return call

    return made


def repeated(function: Function, query: Any, key: Any) -> Any:
    """Layers in a loop that JAX compiles once."""

    def layer(x: Any, _: None) -> tuple[Any, None]:
        return x + jnp.sin(function(x, key, key)), None

    return jax.lax.scan(layer, query, None, length=3)[0].sum()


TRANSFORMS: dict[str, Callable[[Function], Function]] = {
    "gradient": lambda f: jax.grad(loss(f), EVERY),
    "gradient of one": lambda f: jax.grad(loss(f), 1),
    "direction": along,
    "direction of one": lambda f: lambda q, k, v: jax.jvp(lambda k: f(q, k, v), (k,), (k,)),
    "jacfwd": lambda f: small(f)(lambda f: jax.jacfwd(f, EVERY)),
    "jacrev": lambda f: small(f)(lambda f: jax.jacrev(f, EVERY)),
    "hessian": lambda f: small(f)(lambda f: jax.hessian(loss(f), EVERY)),
    "jacrev of jacrev": lambda f: small(f)(lambda f: jax.jacrev(jax.jacrev(loss(f), EVERY), EVERY)),
    "jacrev of jacfwd": lambda f: small(f)(lambda f: jax.jacrev(jax.jacfwd(loss(f), EVERY), EVERY)),
    "gradient of gradient": lambda f: jax.grad(squared(f), EVERY),
    "forward over reverse": lambda f: along(jax.grad(loss(f), EVERY)),
    "reverse over forward": lambda f: jax.grad(loss(along(f)), EVERY),
    "forward over forward": lambda f: along(along(f)),
    "third, reverse": lambda f: small(f)(
        lambda f: jax.grad(lambda *at: jax.grad(squared(f))(*at).sum(), EVERY)
    ),
    "third, forward": lambda f: small(f)(lambda f: jax.grad(loss(along(along(f))), EVERY)),
    "vmap": mapped((0, 0, 0)),
    "vmap of one": mapped((0, None, None)),
    "vmap along heads": lambda f: (
        lambda q, k, v: jax.vmap(f, (None, 1, 1), 2)(q, k[:, :, None], v[:, :, None])
    ),
    # The axes are elsewhere for each argument, and in front for the function.
    "vmap of other axes": lambda f: (
        lambda q, k, v: jax.vmap(f, (-1, 3, 2), 1)(
            jnp.moveaxis(q[None], 1, -1), jnp.moveaxis(k[None], 1, 3), jnp.moveaxis(v[None], 1, 2)
        )
    ),
    "gradient by sample": lambda f: mapped((0, 0, 0))(jax.grad(loss(f), EVERY)),
    "gradient by sample, shared keys": lambda f: mapped((0, None, None))(jax.grad(loss(f), EVERY)),
    "gradient of vmap, shared keys": lambda f: jax.grad(loss(mapped((0, None, None))(f)), EVERY),
    "second, shared query": lambda f: jax.grad(squared(mapped((None, 0, None))(f)), EVERY),
    "forward over reverse, shared value": lambda f: along(
        jax.grad(loss(mapped((0, 0, None))(f)), EVERY)
    ),
    "checkpoint": lambda f: jax.grad(loss(jax.checkpoint(f)), EVERY),
    "linearize": lambda f: lambda *at: jax.linearize(f, *at)[1](*map(jnp.cos, at)),
    "scan": lambda f: jax.grad(lambda q, k, _: repeated(f, q, k), EVERY),
    "scan of checkpoint": lambda f: jax.grad(
        lambda q, k, _: repeated(jax.checkpoint(f), q, k), EVERY
    ),
}


# Those that the gate has, one of each kind: a compiled one takes a second.
GATE = (
    "gradient", "direction", "jacfwd", "hessian", "gradient of gradient", "vmap of other axes",
    "gradient of vmap, shared keys", "second, shared query", "forward over reverse, shared value",
    "scan of checkpoint",
)  # fmt: skip
AGAINST_JAX_NN = ("gradient", "direction", "jacrev", "forward over reverse", "gradient by sample")


@pytest.fixture
def _quick() -> Iterator[None]:
    """XLA compiles in a third of the time without most of what it does for speed."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


def compare(peer: Function, names: Iterable[str], bar: float, shared: int, **options: Any) -> None:
    """Compiled transforms of the function and of a peer."""
    given = heads(shared)

    def of(function: Function, make: Callable[[Function], Function]) -> Any:
        return jax.jit(make(lambda *at: function(*at, **options)))(*given)

    for name in names:
        make = TRANSFORMS[name]
        assert_close(of(dot_product_attention, make), of(peer, make), bar, name)


@pytest.mark.usefixtures("_quick")
def test_transforms_of_the_gate() -> None:
    compare(dense, GATE, EXACT, 2, is_causal=True, scale=0.4)


@pytest.mark.deep
@every_form
def test_transforms(is_causal: bool, scale: float | None, shared: int) -> None:
    compare(dense, TRANSFORMS, EXACT, shared, is_causal=is_causal, scale=scale)


@every_form
def test_transforms_against_jax_nn(is_causal: bool, scale: float | None, shared: int) -> None:
    compare(jax_nns, AGAINST_JAX_NN, SINGLE, shared, is_causal=is_causal, scale=scale)


@every_form
@pytest.mark.parametrize("order", [1, 2])
def test_differences(is_causal: bool, scale: float | None, shared: int, order: int) -> None:
    def call(*at: Any) -> Any:
        return dot_product_attention(*at, is_causal=is_causal, scale=scale)

    check_grads(call, heads(shared), order, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


def test_differences_in_single_precision() -> None:
    given = tuple(one.astype(np.float32) for one in heads(2))
    check_grads(dot_product_attention, given, 1, modes=("fwd", "rev"), atol=2e-2, rtol=2e-2)


def test_second_derivatives_keep_single_precision() -> None:
    given = tuple(one.astype(np.float32) for one in heads(2))
    for make in (squared, lambda f: loss(along(f))):
        got = jax.jit(jax.grad(make(dot_product_attention), EVERY))(*given)
        want = jax.jit(jax.grad(make(dense), EVERY))(*(one.astype("float64") for one in given))
        assert {one.dtype.name for one in got} == {"float32"}
        assert_close(got, want, 1e3 * float(np.finfo(np.float32).eps), "float32")


def test_without_compilation() -> None:
    given = heads(2)
    for make in (TRANSFORMS["gradient"], TRANSFORMS["direction"]):
        want = make(dense)(*given)
        assert_close(make(dot_product_attention)(*given), want, EXACT, "eager")
        with jax.disable_jit():
            assert_close(make(dot_product_attention)(*given), want, EXACT, "disable_jit")


def test_a_scale_is_differentiated() -> None:
    given = heads(2)

    def of(function: Function, scale: Any) -> Any:
        return loss(lambda *at: function(*at, scale=scale))(*given)

    for transform in (jax.grad, lambda f: jax.grad(jax.grad(f)), jax.jacfwd):
        got = jax.jit(transform(lambda s: of(dot_product_attention, s)))(0.3)
        want = jax.jit(transform(lambda s: of(dense, s)))(0.3)
        assert_close(got, want, EXACT, "scale")


def test_normalisers_count_as_constants() -> None:
    """As those of jax.nn do."""
    given = heads(2)

    def total(*at: Any) -> Any:
        output, lse = dot_product_attention(*at, return_residual=True)
        return jnp.sin(output).sum() + lse.sum()

    got = jax.grad(total, EVERY)(*given)
    assert_close(got, TRANSFORMS["gradient"](dense)(*given), EXACT, "residual")


@pytest.mark.parametrize(
    "make", [along, lambda f: jax.grad(squared(f), EVERY)], ids=["direction", "second"]
)
def test_no_array_of_all_logits(make: Callable[[Function], Function]) -> None:
    """By what the compiled computation asks for, before it runs."""
    rows = 1 << 15
    x = jax.ShapeDtypeStruct((1, rows, 1, 16), np.float32)
    compiled = jax.jit(make(dot_product_attention)).lower(x, x, x).compile()
    analysis = compiled.memory_analysis()
    assert analysis.temp_size_in_bytes < rows * rows
