"""Both precisions for every test of the front-end for JAX."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _both_precisions() -> Iterator[None]:
    # Not at the top: the gate collects these tests without jax, and then runs none of them.
    import jax

    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
