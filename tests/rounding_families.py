"""Families of problems whose rounding errors line up in one known way, drawn from seeds.

`rounding_cases.draw` meets each of these now and then; here every problem is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rounding_cases import SIDES, Array, Drawn, Rng, softmax

# Powers of ten of the largest logits: weights that are one but for their last bits, and more.
LOGITS = (-9.0, -1.0)


def _one_of(rng: Rng, *choices: Any) -> Any:
    return choices[rng.integers(len(choices))]


def _drawn(
    rng: Rng,
    label: str,
    arrays: dict[str, Array],
    wrt: tuple[str, ...],
    target: Callable[[Array], Array],
    key_block: int | None = None,
    sizes: tuple[float, float] = LOGITS,
    dtypes: tuple[Any, ...] = (np.float32, np.float32, np.float64),
) -> Drawn:
    """The problem with logits of a random size, and a target made from its output."""
    X = arrays["W_Q"] @ arrays["W_K"].T if "W_Q" in arrays else arrays["X"]
    logits = arrays["A1"] @ X @ arrays["A2"].T
    scale = float(10 ** rng.uniform(*sizes) / (np.abs(logits).max() or 1.0))
    dtype = _one_of(rng, *dtypes)
    is_causal = bool(rng.random() < 0.1)
    output = softmax(scale * logits, is_causal) @ (arrays["A3"] @ arrays["Y"])
    arrays = arrays | {"E": target(output)}
    n, m = logits.shape
    return Drawn(
        arrays={name: array.astype(dtype) for name, array in arrays.items()},
        wrt=wrt,
        scale=scale,
        is_causal=is_causal,
        is_incoming=False,
        key_block=key_block,
        label=f"{label}: {n} x {m}, {', '.join(wrt)}, {np.dtype(dtype)}, key block {key_block}"
        f"{', causal' if is_causal else ''}, logits {scale * np.abs(logits).max():.1e}",
        kinds=(),
    )


def _near(rng: Rng) -> Callable[[Array], Array]:
    """Zero, or the output but for a little: the residual is then what the output loses."""
    if rng.random() < 0.3:
        return np.zeros_like
    size = 10 ** rng.uniform(-12, 0)
    return lambda output: output + size * rng.normal(size=output.shape)


def equal_values(seed: int) -> Drawn:
    """Many keys whose values are equal or few: all blocks of keys, and all queries, round alike."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(10, 120)), int(10 ** rng.uniform(2, 3.8))
    d1, d2, d3, dv = (int(rng.integers(1, 16)) for _ in range(4))
    keys = _one_of(rng, "one size", "common part", "normal", "repeated", "clusters")
    values = _one_of(rng, "equal", "equal", "repeated", "common part", "one size", "clusters")
    arrays = {
        "A1": SIDES[_one_of(rng, "common part", "normal", "equal", "repeated")](rng, n, d1),
        "A2": SIDES[keys](rng, m, d2),
        "A3": SIDES[values](rng, m, d3),
        "X": rng.normal(size=(d1, d2)),
        "Y": rng.normal(size=(d3, dv)),
    }
    wrt = _one_of(rng, ("Y",), ("X", "Y", "A3"), ("A2",), ("X",))
    block = _one_of(rng, None, None, 1, 7, 100, 108)
    return _drawn(rng, f"seed {seed}, keys {keys}, values {values}", arrays, wrt, _near(rng), block)


def alike_in_sums(seed: int) -> Drawn:
    """Many rows that differ by more than a rounding, and less than a sum of them tells apart."""
    rng = np.random.default_rng(seed)
    n, m = int(10 ** rng.uniform(2.5, 3.8)), int(rng.integers(2, 40))
    d1, d2, d3, dv = (int(rng.integers(1, 16)) for _ in range(4))
    arrays = {
        "A1": SIDES[_one_of(rng, "equal", "repeated", "common part")](rng, n, d1),
        "A2": SIDES[_one_of(rng, "normal", "common part")](rng, m, d2),
        "A3": SIDES[_one_of(rng, "normal", "equal", "common part")](rng, m, d3),
        "X": rng.normal(size=(d1, d2)),
        "Y": rng.normal(size=(d3, dv)),
    }
    common, noise = rng.normal(size=dv), 10 ** rng.uniform(-8, -3)

    def target(output: Array) -> Array:
        return common + noise * rng.normal(size=output.shape)

    wrt = _one_of(rng, ("Y",), ("X", "Y", "A3"), ("A2",), ("X",))
    return _drawn(rng, f"seed {seed}, noise {noise:.1e}", arrays, wrt, target)


def hidden_inputs(seed: int) -> Drawn:
    """Rows of A3 large beside the values: Y hides what they share, or what tells clusters apart."""
    rng = np.random.default_rng(seed)
    n, m, d = int(rng.integers(10, 300)), int(10 ** rng.uniform(1, 3)), int(rng.integers(2, 16))
    A3, Y = rng.normal(size=(m, d)), rng.normal(size=(d, int(rng.integers(1, 16))))
    hidden = rng.normal(size=d)
    hidden /= np.linalg.norm(hidden)
    sign = _one_of(rng, np.ones(m), np.where(np.arange(m) % 2, 1.0, -1.0))
    A3 += 10 ** rng.uniform(0, 5) * sign[:, None] * hidden
    Y -= np.outer(hidden, hidden @ Y)
    A1, A2 = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    arrays = {"A1": A1, "A2": A2, "A3": A3, "X": np.eye(d), "Y": Y}
    wrt = _one_of(rng, ("Y",), ("Y",), ("X", "Y", "A3"))
    # Up to where a query tells the clusters apart.
    sizes = (-9.0, 1.0)
    label = f"seed {seed}, clusters {sign.min() < 0}"
    return _drawn(rng, label, arrays, wrt, _near(rng), sizes=sizes)


def ramps(seed: int) -> Drawn:
    """Terms that line up along the rows and cancel at their end: partial sums are large."""
    rng = np.random.default_rng(seed)
    n, m = int(10 ** rng.uniform(2, 3.8)), int(rng.integers(2, 200))
    if rng.random() < 0.5:
        n, m = m, n
    d1, d2, d3, dv = (int(rng.integers(1, 16)) for _ in range(4))
    kinds = [_one_of(rng, "rank one", "rank one", "common part", "normal") for _ in range(3)]
    arrays = {
        "A1": SIDES[kinds[0]](rng, n, d1),
        "A2": SIDES[kinds[1]](rng, m, d2),
        "A3": SIDES[kinds[2]](rng, m, d3),
        "Y": rng.normal(size=(d3, dv)),
    }
    if rng.random() < 0.5:
        arrays |= {"X": rng.normal(size=(d1, d2))}
        wrt = _one_of(rng, ("Y",), ("X", "Y", "A3"), ("A2",), ("X",))
    else:
        arrays |= {"W_Q": rng.normal(size=(d1, d1)), "W_K": rng.normal(size=(d2, d1))}
        wrt = _one_of(rng, ("Y",), ("W_Q", "W_K", "Y"), ("A1", "A2"), ("W_K",))
    common, noise = rng.normal(size=dv), 10 ** rng.uniform(-8, 0)

    def target(output: Array) -> Array:
        return common + noise * rng.normal(size=output.shape)

    return _drawn(rng, f"seed {seed}, {'/'.join(kinds)}", arrays, wrt, target)


def flat_ramps(seed: int) -> Drawn:
    """Weights of one size: what (f A3)_j loses is the same in all rows, and residuals agree."""
    rng = np.random.default_rng(seed)
    n, m, d = int(rng.integers(100, 1000)), int(rng.integers(300, 2500)), int(rng.integers(2, 12))
    arrays = {
        "A1": rng.normal(size=(n, d)),
        "A2": rng.normal(size=(m, d)),
        "A3": SIDES["rank one"](rng, m, d),
        "X": np.eye(d),
        "Y": rng.normal(size=(d, d)),
    }
    common, noise = rng.normal(size=d), 10 ** rng.uniform(-3, -1)

    def target(output: Array) -> Array:
        return common + noise * rng.normal(size=output.shape)

    return _drawn(rng, f"seed {seed}", arrays, ("Y",), target, sizes=(-9.0, -6.0))


def equal_outputs(seed: int) -> Drawn:
    """One key, or equal values: rows of f A3 agree, and lose the same by Y, whatever queries do."""
    rng = np.random.default_rng(seed)
    n, m = int(10 ** rng.uniform(2, 3.8)), _one_of(rng, 1, 1, 3, int(rng.integers(2, 200)))
    d1, d3, dv = int(rng.integers(1, 16)), int(rng.integers(2, 100)), int(rng.integers(1, 60))
    values = _one_of(rng, "equal", "equal", "one size")
    arrays = {
        "A1": rng.normal(size=(n, d1)),
        "A2": rng.normal(size=(m, d1)),
        "A3": SIDES[values](rng, m, d3),
        "X": np.eye(d1),
        "Y": rng.normal(size=(d3, dv)),
    }
    label = f"seed {seed}, values {values}"
    return _drawn(rng, label, arrays, ("Y",), _near(rng), sizes=(-4.0, 1.0))


def equal_terms(seed: int) -> Drawn:
    """Equal values and weights: every term of the last sum over the keys rounds alike."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 50)), int(10 ** rng.uniform(3.5, 4))
    d1, d3, dv = int(rng.integers(1, 6)), int(rng.integers(1, 16)), int(rng.integers(1, 4))
    arrays = {
        "A1": rng.normal(size=(n, d1)),
        "A2": rng.normal(size=(m, d1)),
        "A3": np.full((m, d3), rng.uniform(0.5, 2.0)),
        "X": np.eye(d1),
        "Y": rng.normal(size=(d3, dv)),
    }
    common = 300 * rng.normal(size=dv)

    def target(output: Array) -> Array:
        return output + common

    # In blocks of few keys nothing else is lost.
    return _drawn(rng, f"seed {seed}", arrays, ("X", "Y"), target, 1, (-9.0, -7.0))


def small_blocks(seed: int) -> Drawn:
    """A few keys hold the weight: blocks of the others are small, and rounded alike beside them."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 8)), int(10 ** rng.uniform(3.9, 4.5))
    first = _one_of(rng, 1, 2, int(rng.integers(1, 100)), int(rng.integers(1, m // 2)))
    d, dv = int(rng.integers(2, 5)), int(rng.integers(1, 5))
    is_first = np.arange(m)[:, None] < first
    axis, few = np.eye(d)[0], rng.normal(size=(m, dv))
    arrays = {
        # Where queries are equal, so are all roundings.
        "A1": axis * np.ones((n, 1)),
        "A2": np.where(is_first, axis, -axis) + _one_of(rng, 0, 1e-6) * rng.normal(size=(m, d)),
        "A3": np.where(is_first, _one_of(rng, few, few[0]), rng.normal(size=dv)),
        "X": np.eye(d),
        "Y": np.eye(dv),
    }
    arrays["A3"] += _one_of(rng, 0, 1e-3) * rng.normal(size=(m, dv))
    wrt = _one_of(rng, ("Y",), ("X", "Y", "A3"), ("A2",), ("X",))
    # A block of the others weighs from about a rounding of the whole to many.
    sizes = (1.2, 1.3)
    label = f"seed {seed}, first {first}"
    return _drawn(rng, label, arrays, wrt, _near(rng), _one_of(rng, None, 1), sizes, (np.float64,))


def small_terms(seed: int) -> Drawn:
    """Terms of about a rounding behind a key of their block that holds the weight."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 20)), int(rng.integers(100, 1000))
    d, dv = int(rng.integers(2, 17)), int(rng.integers(1, 9))
    # One such key, or one in every block.
    is_first = np.arange(m)[:, None] % _one_of(rng, 240, m) == 0
    axis = np.eye(d)[0]
    noise = _one_of(rng, 1e-6, 1e-3, 0.1, 0.3) * rng.normal(size=(m, d))
    arrays = {
        "A1": axis + _one_of(rng, 0, 0.1) * rng.normal(size=(n, d)) * (1 - axis),
        "A2": np.where(is_first, axis, -axis + noise / 10),
        "A3": np.where(is_first, rng.normal(size=dv), rng.normal(size=dv)),
        "X": np.eye(d),
        "Y": np.eye(dv),
    }
    arrays["A3"] += _one_of(rng, 0, 1e-3, 1) * rng.normal(size=(m, dv))
    wrt = _one_of(rng, ("Y",), ("X", "Y", "A3"), ("A2",), ("A1",))
    # Weights from 1/30 of a rounding to a thousand of them.
    dtype, sizes = _one_of(rng, (np.float32, (0.7, 1.0)), (np.float64, (1.17, 1.3)))
    label = f"seed {seed}, keys that hold weight {is_first.sum()}"
    return _drawn(rng, label, arrays, wrt, _near(rng), None, sizes, (dtype,))


FAMILIES: dict[str, Callable[[int], Drawn]] = {
    "equal values": equal_values,
    "alike in sums": alike_in_sums,
    "hidden inputs": hidden_inputs,
    "ramps": ramps,
    "flat ramps": flat_ramps,
    "equal outputs": equal_outputs,
    "equal terms": equal_terms,
    "small blocks": small_blocks,
    "small terms": small_terms,
}
