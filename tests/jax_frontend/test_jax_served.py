"""Which calls are served, which go to jax.nn, which are errors; and computations of many parts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.experimental.compilation_cache import compilation_cache  # noqa: E402

from attngrad_rs import errors  # noqa: E402
from attngrad_rs.jax import _served, dot_product_attention  # noqa: E402

pytestmark = pytest.mark.peers

jax_nns = jax.nn.dot_product_attention
X = np.sin(np.arange(2.0 * 5 * 4 * 3, dtype=np.float32)).reshape(2, 5, 4, 3)
HALF = X.astype(jnp.bfloat16)
LENGTHS = np.array([5, 3], np.int32)
UNSERVED: dict[str, dict[str, Any]] = {
    "local_window_size": {"local_window_size": (-1, 2)},
    "implementation": {"implementation": "xla"},
    "query": {"query": HALF, "key": HALF, "value": HALF},
}
HEADS = {"query": X, "key": X, "value": X}
# The argument that an error names, its class, and what is wrong.
WRONG: list[tuple[str, type[Exception], dict[str, Any]]] = [
    ("key", errors.ShapeError, {"key": X[..., :2]}),
    ("key", errors.ShapeError, {"key": X[:, :, :3], "value": X[:, :, :3]}),
    ("key", errors.ShapeError, {"key": X[:, :, :0], "value": X[:, :, :0]}),
    ("key", errors.ShapeError, {"key": X[:1]}),
    ("value", errors.ShapeError, {"value": X[0]}),
    ("value", errors.ShapeError, {"value": X[:, :4]}),
    ("value", errors.ShapeError, {"value": X[:, :, :2]}),
    ("query", errors.ShapeError, {"query": X[0, 0]}),
    ("query", errors.ShapeError, {"query": X[None]}),
    ("key", errors.DTypeError, {"key": X.astype(np.float64)}),
    ("query", errors.OptionTypeError, {"query": "x"}),
    ("value", errors.OptionTypeError, {"value": None}),
    ("is_causal", errors.OptionTypeError, {"is_causal": 1}),
    ("return_residual", errors.OptionTypeError, {"return_residual": "yes"}),
    ("scale", errors.OptionTypeError, {"scale": "x"}),
    ("scale", errors.OptionTypeError, {"scale": True}),
    ("scale", errors.OptionTypeError, {"scale": np.ones(2)}),
    ("scale", errors.OptionError, {"scale": float("inf")}),
    ("mask", errors.DTypeError, {"mask": np.ones((5, 5), np.float32)}),
    ("mask", errors.ShapeError, {"mask": np.ones((5, 4), bool)}),
    ("mask", errors.ShapeError, {"mask": np.ones((1, 1, 1, 5, 5), bool)}),
    ("bias", errors.ShapeError, {"bias": np.ones((3, 1, 5, 5), np.float32)}),
    ("bias", errors.DTypeError, {"bias": np.ones((5, 5), int)}),
    ("bias", errors.OptionTypeError, {"bias": "x"}),
    ("query_seq_lengths", errors.ShapeError, {"query_seq_lengths": np.ones(3, np.int32)}),
    ("key_value_seq_lengths", errors.DTypeError, {"key_value_seq_lengths": np.ones(2)}),
    ("local_window_size", errors.OptionTypeError, {"local_window_size": 1.5}),
    ("local_window_size", errors.OptionTypeError, {"local_window_size": (1, 2, 3)}),
]
SECONDS = 120.0


@pytest.fixture(autouse=True)
def _nothing_told() -> Iterator[None]:
    _served._told.clear()
    yield
    _served._told.clear()


@pytest.mark.parametrize("argument", sorted(UNSERVED))
def test_what_is_not_served_goes_to_jax_nn_with_one_warning(argument: str) -> None:
    given = HEADS | UNSERVED[argument]
    with pytest.warns(UserWarning, match=f"left to jax.nn: {argument}: ") as told:
        got = dot_product_attention(**given)
    assert [Path(one.filename).name for one in told] == [Path(__file__).name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dot_product_attention(**given)
    assert np.array_equal(np.asarray(got), np.asarray(jax_nns(**given)))


@pytest.mark.parametrize("argument", sorted(UNSERVED))
def test_or_is_refused(argument: str) -> None:
    given = HEADS | UNSERVED[argument]
    with pytest.raises(errors.AttnGradError, match=f"^{argument}: found .*; expected "):
        dot_product_attention(**given, fallback=False)


def test_options_of_what_goes_to_jax_nn_go_with_it() -> None:
    options = {"is_causal": True, "scale": 0.3}
    given = HEADS | UNSERVED["implementation"] | {"key_value_seq_lengths": LENGTHS}
    with pytest.warns(UserWarning, match="left to jax.nn"):
        got = dot_product_attention(**given, **options)
    assert np.array_equal(np.asarray(got), np.asarray(jax_nns(**given, **options)))


def test_integers_and_lists() -> None:
    with pytest.raises(errors.DTypeError, match=r"^query: found int.*; expected float32"):
        dot_product_attention(np.ones((5, 4, 3), int), X[0], X[0], fallback=False)
    lists = X.astype(np.float64)[0].tolist()
    got = dot_product_attention(lists, lists, lists, fallback=False)
    want = dot_product_attention(*[X[0].astype(got.dtype)] * 3)
    assert np.array_equal(np.asarray(got), np.asarray(want))


@pytest.mark.parametrize(("argument", "kind", "given"), WRONG)
def test_a_wrong_call_is_one_clear_error(
    argument: str, kind: type[Exception], given: dict[str, Any]
) -> None:
    with pytest.raises(kind, match=f"^{argument}: found .*; expected ") as found:
        dot_product_attention(**(HEADS | given))
    assert type(found.value) is kind


def test_options_are_static_under_jit() -> None:
    with pytest.raises(errors.OptionTypeError, match=r"^is_causal: found .*Tracer; expected True"):
        jax.jit(dot_product_attention)(X, X, X, is_causal=True)
    compiled = jax.jit(dot_product_attention, static_argnames=("is_causal", "scale"))
    for options in ({}, {"is_causal": True}, {"is_causal": np.True_, "scale": 0.3}):
        got = compiled(X, X, X, **options)
        assert np.array_equal(
            np.asarray(got), np.asarray(dot_product_attention(X, X, X, **options))
        )


def test_another_platform_is_refused_when_it_is_compiled_for() -> None:
    traced = jax.jit(dot_product_attention).trace(X, X, X)
    with pytest.raises(errors.OptionError, match=r"^query: found a computation for cuda; expected"):
        traced.lower(lowering_platforms=("cuda",))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e38])
def test_a_bad_entry_of_a_batch_spoils_itself_alone(wrong: float) -> None:
    bad = X.copy()
    bad[1, 2, 3] = wrong

    def everything(query: Any) -> Any:
        # A large number is one that overflows in the logits.
        output, back = jax.vjp(lambda *at: dot_product_attention(*at, scale=30.0), query, X, X)
        return output, *back(jnp.ones_like(output))

    for got, want in zip(everything(bad), everything(X), strict=True):
        assert np.array_equal(np.asarray(got[0]), np.asarray(want[0]))
        assert np.isnan(np.asarray(got[1])).all()


def test_a_bad_entry_spoils_itself_alone_in_every_derivative() -> None:
    bad = X.copy()
    bad[1, 2, 3] = np.nan

    def everything(query: Any) -> Any:
        def gradients(*at: Any) -> Any:
            return jax.grad(lambda *at: dot_product_attention(*at).sum(), (0, 1, 2))(*at)

        change = jax.jvp(dot_product_attention, (query, X, X), (X, X, X))[1]
        return change, *jax.jvp(gradients, (query, X, X), (X, X, X))[1]

    for got, want in zip(everything(bad), everything(X), strict=True):
        assert np.array_equal(np.asarray(got[0]), np.asarray(want[0]))
        assert np.isnan(np.asarray(got[1])).all()


def test_nan_is_found_where_jax_looks_for_it() -> None:
    bad = jnp.full_like(X, np.nan)
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="attngrad_attention"):
        dot_product_attention(bad, X, X)


def test_a_computation_with_a_call_is_not_exported() -> None:
    # An old release needs more for it than it brings.
    export = pytest.importorskip("jax.export")
    with pytest.raises(NotImplementedError, match="callback"):
        export.export(jax.jit(dot_product_attention))(X, X, X)


def test_a_computation_with_a_call_is_not_kept(tmp_path: Path) -> None:
    """In the persistent cache, where one without a call is."""
    asked = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in asked}

    def kept(function: Any) -> bool:
        jax.block_until_ready(jax.jit(lambda x: function(x, x, x))(jnp.asarray(X)))
        return any(tmp_path.iterdir())

    try:
        for name, value in asked.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        assert not kept(dot_product_attention)
        assert kept(jax_nns)
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def test_a_branch_that_is_not_taken_may_be_wrong() -> None:
    """Under vmap both sides of a condition are computed."""

    def of(taken: Any, x: Any) -> Any:
        x = jnp.where(taken, x, jnp.inf)
        return jax.lax.cond(
            taken, lambda x: dot_product_attention(x, x, x).sum(), lambda x: jnp.float32(1.0), x
        )

    got = jax.vmap(of)(jnp.array([True, False]), X)
    want = dot_product_attention(X[0], X[0], X[0]).sum()
    assert float(got[1]) == 1.0
    assert abs(float(got[0]) - float(want)) <= 1e-5 * (1.0 + abs(float(want)))


def test_calls_of_many_threads_and_in_advance() -> None:
    """A computation that waits for the core holds up no other."""
    step = jax.jit(jax.grad(lambda x: dot_product_attention(x, x, x, is_causal=True).sum()))
    x = jnp.asarray(np.tile(X, (1, 20, 1, 1)))
    want = np.asarray(step(x))
    found: list[Any] = []

    def work() -> None:
        found.extend(jax.block_until_ready([step(x) for _ in range(10)]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(SECONDS)
    assert len(found) == 40
    assert all(np.array_equal(np.asarray(one), want) for one in found)


def test_arguments_may_be_given_away() -> None:
    step = jax.jit(lambda q, k, v: q + dot_product_attention(q, k, v), donate_argnums=0)
    got = step(jnp.array(X), X, X)
    want = X + np.asarray(dot_product_attention(X, X, X))
    assert np.abs(np.asarray(got) - want).max() <= 1e-6


@pytest.mark.skipif(not hasattr(jax, "shard_map"), reason="an old release has no jax.shard_map")
def test_two_devices() -> None:
    """In a process of its own, which is told to have two."""
    script = Path(__file__).with_name("two_devices.py")
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | flags, timeout=SECONDS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["jit", "shard_map", "mixed"]
