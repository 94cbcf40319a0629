"""Attention over two devices, against that on one; prints what went through."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax_calls import EVERY, assert_close

from attngrad_rs.errors import OptionError
from attngrad_rs.jax import dot_product_attention

# Two additions in another order.
BAR = 1e-13


def derivatives(function: Any) -> Any:
    """First gradients and a second one."""

    def total(*at: Any) -> Any:
        return jax.numpy.sin(function(*at)).sum()

    def squared(*at: Any) -> Any:
        return sum((one**2).sum() for one in jax.grad(total, EVERY)(*at))

    return jax.jit(lambda *at: (jax.grad(total, EVERY)(*at), jax.grad(squared, EVERY)(*at)))


def main() -> None:
    rng = np.random.default_rng(0)
    shapes = ((2, 5, 4, 3), (2, 6, 2, 3), (2, 6, 2, 3))
    heads = tuple(rng.standard_normal(shape) for shape in shapes)
    mesh = Mesh(np.array(jax.devices()), ("i",))
    assert mesh.size == 2
    want = derivatives(dot_product_attention)(*heads)
    by_batch, by_heads = PartitionSpec("i"), PartitionSpec(None, None, "i")
    for spec in (by_batch, by_heads):
        placed = [jax.device_put(one, NamedSharding(mesh, spec)) for one in heads]
        compiled = derivatives(dot_product_attention).lower(*placed).compile()
        assert "all-gather" in compiled.as_text()
        assert_close(compiled(*placed), want, BAR, str(spec))
    print("jit")
    for spec in (by_batch, by_heads):
        split = jax.shard_map(
            dot_product_attention, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec
        )
        assert_close(derivatives(split)(*heads), want, BAR, str(spec))
    print("shard_map")
    mixed = (by_batch, PartitionSpec(), PartitionSpec())
    shared = (heads[0], heads[1][:1], heads[2][:1])
    whole = derivatives(
        lambda q, k, v: dot_product_attention(q, *(x.repeat(2, axis=0) for x in (k, v)))
    )(*map(jax.numpy.asarray, shared))
    with pytest.raises(OptionError, match="check_vma=False"):
        jax.shard_map(dot_product_attention, mesh=mesh, in_specs=mixed, out_specs=by_batch)(*shared)
    split = jax.shard_map(
        dot_product_attention, mesh=mesh, in_specs=mixed, out_specs=by_batch, check_vma=False
    )
    assert_close(derivatives(split)(*shared), whole, BAR, "mixed")
    print("mixed")


if __name__ == "__main__":
    main()
