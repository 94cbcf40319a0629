"""Jacobian- and Hessian-vector products of attention: dense formulas, differences, symmetry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from helpers import ALGEBRA, Array, assert_ratio, assert_same_bits

pytestmark = pytest.mark.spec

# Roundings by which a result may differ from the dense formula, over the sums of absolute values.
SLACK = 8.0
# A complex step has no difference of two close numbers, and so any size; what is left is rounding.
STEP = 1e-30
ROUNDINGS = 1e3 * float(np.finfo(np.float64).eps)
NAMES = ("query", "key", "value", "dout")


class Heads(NamedTuple):
    """Query, key, value and dout, a direction of each, and the options of a call."""

    sides: tuple[Array, ...]
    changes: tuple[Array, ...]
    is_causal: bool
    scale: float | None
    group: int
    masks: reference.Masks | None = None

    @property
    def form(self) -> dict[str, Any]:
        """Options of the references."""
        return {"is_causal": self.is_causal, "scale": self.scale, "masks": self.masks}

    @property
    def options(self) -> dict[str, Any]:
        masks = {} if self.masks is None else self.masks._asdict()
        return {
            "is_causal": self.is_causal, "scale": self.scale, "enable_gqa": self.group > 1, **masks,
        }  # fmt: skip

    def jvp(self, **options: Any) -> tuple[Array, Array]:
        return ag.attention_jvp(*self.sides[:3], *self.changes[:3], **(self.options | options))

    def hvp(self, **options: Any) -> tuple[Array, Array, Array, Array]:
        options = {"ddout": self.changes[3], **self.options, **options}
        return ag.attention_hvp(*self.sides, *self.changes[:3], **options)

    def by(self, change: Callable[[Array], Array]) -> Heads:
        """The same with every array replaced by change(array)."""
        return self._replace(
            sides=tuple(map(change, self.sides)), changes=tuple(map(change, self.changes))
        )

    def repeated(self) -> Heads:
        """With a key head for each head of the query, in the widest precision."""

        def whole(arrays: Sequence[Array]) -> tuple[Array, ...]:
            query, key, value, dout = (array.astype(np.longdouble) for array in arrays)
            key, value = (np.repeat(array, self.group, axis=-3) for array in (key, value))
            return query, key, value, dout

        sides, changes = whole(self.sides), whole(self.changes)
        return Heads(sides, changes, self.is_causal, self.scale, 1, self.masks)

    def shared(self, found: Sequence[Array]) -> tuple[Array, ...]:
        """Parts of key and value as sums over the heads of the query that share them."""

        def summed(array: Array) -> Array:
            *lead, heads, rows, columns = array.shape
            split = array.reshape(*lead, heads // self.group, self.group, rows, columns)
            return np.asarray(split.sum(axis=-3))

        output, query, key, value, dout = found
        return output, query, summed(key), summed(value), dout


def dense(heads: Heads) -> tuple[Array, ...]:
    """o, and the parts of query, key, value and dout, by the definitions."""
    whole = heads.repeated()
    output, tangent = reference.attention_jvp(*whole.sides[:3], *whole.changes[:3], **heads.form)
    found = reference.attention_hvp(
        *whole.sides, *whole.changes[:3], ddout=whole.changes[3], **heads.form
    )
    assert_ratio(found[3], tangent, 1e-15 * (1.0 + np.max(np.abs(tangent), initial=0.0)), 1.0, "o")
    return heads.shared((output, *found))


def sizes(heads: Heads) -> tuple[Array, ...]:
    """The sums of absolute values of what ``dense`` sums, each times one rounding."""
    whole = heads.repeated()
    (q, k, v, c), (dq, dk, dv, dc) = (
        tuple(map(np.abs, one)) for one in (whole.sides, whole.changes)
    )
    scale = 1.0 / np.sqrt(max(q.shape[-1], 1)) if heads.scale is None else abs(heads.scale)

    def turned(array: Array) -> Array:
        return np.swapaxes(array, -1, -2)

    def rows(array: Array) -> Array:
        return np.asarray(array.sum(axis=-1, keepdims=True))

    # Weights are what attention makes of unit vectors.
    eye = np.broadcast_to(np.eye(k.shape[-2], dtype=k.dtype), (*k.shape[:-1], k.shape[-2]))
    f = reference.attention(whole.sides[0], whole.sides[1], eye, **heads.form)
    logits = scale * (dq @ turned(k) + q @ turned(dk))
    df = f * (logits + rows(f * logits))
    slope, dslope = c @ turned(v), c @ turned(dv) + dc @ turned(v)
    g = slope + rows(f * slope)
    p, dp = f * g, df * g + f * (dslope + rows(df * slope + f * dslope))
    most = scale * np.max(q @ turned(k), initial=0.0)
    one = float(np.finfo(heads.sides[0].dtype).eps) * (1.0 + most)
    found = (
        f @ v,
        scale * (dp @ k + p @ dk),
        scale * (turned(dp) @ q + turned(p) @ dq),
        turned(df) @ c + turned(f) @ dc,
        df @ v + f @ dv,
    )
    tiny = float(np.finfo(heads.sides[0].dtype).tiny)
    return tuple(one * size + tiny for size in heads.shared(found))


@st.composite
def stacks(draw: Any, longest: int = 9, widest: int = 6, dtypes: Any = ("f4", "f8")) -> Heads:
    """Heads that hold nothing, too."""
    lead = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    shared, group = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    rows, seen = draw(st.integers(0, longest)), draw(st.integers(0, longest))
    width, columns = draw(st.integers(0, widest)), draw(st.integers(0, widest))
    dtype = draw(st.sampled_from(dtypes))
    size = draw(st.sampled_from((0.1, 1.0, 6.0)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def arrays(size: float) -> tuple[Array, ...]:
        many = shared * group
        shapes = ((many, rows, width), (shared, seen, width), (shared, seen, columns),
                  (many, rows, columns))  # fmt: skip
        made = [rng.standard_normal((*lead, *shape)).astype(dtype) for shape in shapes]
        return made[0] * np.asarray(size, dtype), *made[1:]

    scale = draw(st.sampled_from((None, 0.3, -1.0, 0.0)))
    return Heads(arrays(size), arrays(1.0), draw(st.booleans()), scale, group if shared else 1)


def moved(heads: Heads, sides: int) -> list[Array]:
    """The first arrays a complex step along the direction."""
    pairs = zip(heads.sides[:sides], heads.changes[:sides], strict=True)
    return [array + 1j * STEP * change for array, change in pairs]


@given(stacks(dtypes=("f8",)))
@ALGEBRA
def test_the_reference_is_a_derivative(heads: Heads) -> None:
    """A complex step of attention, and of its vector-Jacobian product."""
    heads = heads._replace(group=1) if heads.group == 1 else heads.repeated().by(np.float64)
    form = heads.form
    _, tangent = reference.attention_jvp(*heads.sides[:3], *heads.changes[:3], **form)
    step = reference.attention(*moved(heads, 3), **form).imag / STEP
    growth = 1.0 + np.max(np.abs(step), initial=0.0)
    assert_ratio(tangent, step, growth, ROUNDINGS, "the tangent of the output")
    steps = [one.imag / STEP for one in reference.attention_vjp(*moved(heads, 4), **form)]
    found = reference.attention_hvp(
        *heads.sides, *heads.changes[:3], ddout=heads.changes[3], **form
    )
    for name, one, step in zip(NAMES, found, (*steps, tangent), strict=True):
        growth = 1.0 + np.max(np.abs(step), initial=0.0)
        largest = max(np.max(np.abs(array), initial=1.0) for array in heads.sides)
        assert_ratio(one, step, growth * largest**4, ROUNDINGS, name)


@given(stacks())
def test_every_head_is_the_dense_formula(heads: Heads) -> None:
    (output, tangent), found = heads.jvp(), heads.hvp()
    want, size = dense(heads), sizes(heads)
    assert_same_bits(found[3], tangent, "the part of dout is the tangent")
    names = ("output", *NAMES)
    for name, one, right, one_size in zip(names, (output, *found), want, size, strict=True):
        assert one.dtype == heads.sides[0].dtype
        assert_ratio(one, right, one_size, SLACK, name)


@given(stacks())
def test_results_of_the_forward_pass_are_used_again(heads: Heads) -> None:
    output, lse = ag.attention(*heads.sides[:3], return_lse=True, **heads.options)
    saved: dict[str, Any] = {"output": output, "lse": lse}
    again, tangent = heads.jvp(**saved)
    assert again is output
    found = heads.hvp(**saved)
    assert_same_bits(found[3], tangent, "the part of dout is the tangent")
    # The logarithm is rounded once, by as much as it is large.
    growth = 1.0 + float(np.max(np.abs(lse[np.isfinite(lse)]), initial=0.0))
    for name, one, want, size in zip(NAMES, found, dense(heads)[1:], sizes(heads)[1:], strict=True):
        assert_ratio(one, want, growth * size, SLACK, name)


@given(stacks())
def test_without_a_direction_of_dout(heads: Heads) -> None:
    nothing = (*heads.changes[:3], np.zeros_like(heads.changes[3]))
    for one, other in zip(heads.hvp(ddout=None), heads.hvp(ddout=nothing[3]), strict=True):
        assert np.array_equal(one, other)
    want, size = dense(heads._replace(changes=nothing)), sizes(heads._replace(changes=nothing))
    for name, one, right, one_size in zip(
        NAMES, heads.hvp(ddout=None), want[1:], size[1:], strict=True
    ):
        assert_ratio(one, right, one_size, SLACK, name)


@given(stacks(dtypes=("f8",)), st.integers(0, 2**32 - 1))
def test_the_hessian_is_symmetric(heads: Heads, seed: int) -> None:
    rng = np.random.default_rng(seed)
    others = tuple(rng.standard_normal(array.shape) for array in heads.sides)
    other = heads._replace(changes=others)

    def inner(a: Sequence[Array], b: Sequence[Array]) -> float:
        return sum(float(np.vdot(x, y)) for x, y in zip(a, b, strict=True))

    def size(of: Heads, along: Sequence[Array]) -> float:
        return inner([np.abs(one) for one in along], [one.astype(float) for one in sizes(of)[1:]])

    one, two = inner(others, heads.hvp()), inner(heads.changes, other.hvp())
    assert_ratio(one, two, size(heads, others) + size(other, heads.changes), SLACK, "symmetry")


@given(stacks())
def test_leading_dimensions_by_any_strides(heads: Heads) -> None:
    """The same numbers by other strides, and an axis that shows one head again and again."""
    turned = heads.by(lambda a: np.moveaxis(np.moveaxis(a, -3, -1).copy(), -1, -3))
    shown = heads.by(lambda a: np.broadcast_to(a, (2, *a.shape)))
    swapped = heads.by(lambda a: a.astype(a.dtype.newbyteorder()))
    want = (*heads.jvp(), *heads.hvp())
    for place, one in enumerate(want):
        assert_same_bits((*turned.jvp(), *turned.hvp())[place], one, f"{place}")
        assert_same_bits((*shown.jvp(), *shown.hvp())[place][1], one, f"{place}")
        assert_same_bits((*swapped.jvp(), *swapped.hvp())[place], one, f"{place}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(
    "shape", [(3, 300, 300, 16, 9), (1, 1, 5000, 8, 8), (5, 130, 700, 64, 80), (2, 600, 40, 5, 3)]
)
def test_heads_that_are_cut(shape: tuple[int, ...], is_causal: bool, dtype: str) -> None:
    """More rows than a group, a wave and a chunk of keys hold; bits by any threads, and alone."""
    many, rows, seen, width, columns = shape
    rng = np.random.default_rng(7)
    shapes = (
        (many, rows, width),
        (many, seen, width),
        (many, seen, columns),
        (many, rows, columns),
    )
    made = [[rng.standard_normal(one).astype(dtype) for one in shapes] for _ in range(2)]
    heads = Heads(tuple(made[0]), tuple(made[1]), is_causal, None, 1)
    found = {
        threads: (*heads.jvp(threads=threads), *heads.hvp(threads=threads)) for threads in (1, 2, 3)
    }
    want, size = dense(heads), sizes(heads)
    for name, one, right, one_size in zip(NAMES, found[1][2:], want[1:], size[1:], strict=True):
        assert_ratio(one, right, one_size, SLACK, name)
    alone = heads.by(lambda array: array[many - 1])
    for place, one in enumerate(found[1]):
        for threads in (2, 3):
            assert_same_bits(found[threads][place], one, f"{place} by {threads} threads")
        assert_same_bits((*alone.jvp(), *alone.hvp())[place], one[many - 1], f"{place} alone")


def test_logits_of_any_size() -> None:
    """Where exp overflows, and where a row holds one key alone."""
    rng = np.random.default_rng(5)
    shapes = ((40, 8), (50, 8), (50, 6), (40, 6))
    made = [[rng.standard_normal(one) for one in shapes] for _ in range(2)]
    made[0][0] *= 1e3
    heads = Heads(tuple(a[None] for a in made[0]), tuple(a[None] for a in made[1]), True, None, 1)
    for one, right, one_size in zip(heads.hvp(), dense(heads)[1:], sizes(heads)[1:], strict=True):
        assert_ratio(one, right, one_size, SLACK, "a part")


@given(stacks(dtypes=("f4",)), st.tuples(*[st.integers(-30, 30)] * 4))
def test_sizes_near_both_ends_of_the_range(heads: Heads, exponents: tuple[int, ...]) -> None:
    """Inputs, directions and results may be of any size that single precision holds."""
    key, value, dout, turn = exponents
    sides = np.array((-key, key, value, dout))
    parts = np.array((key + value + dout, value + dout - key, dout, value)) + turn
    assume(np.all(np.abs(np.concatenate((sides + turn, parts))) <= 30))
    heads = heads._replace(
        sides=tuple(a * np.float32(10.0**e) for a, e in zip(heads.sides, sides, strict=True)),
        changes=tuple(
            a * np.float32(10.0**e) for a, e in zip(heads.changes, sides + turn, strict=True)
        ),
    )
    found, want, size = heads.hvp(), dense(heads)[1:], sizes(heads)[1:]
    # Products with weights below the range vanish.
    lost = 1e3 * float(np.finfo(np.float32).tiny) * 10.0**parts
    for name, one, right, own, least in zip(NAMES, found, want, size, lost, strict=True):
        assert_ratio(one, right, own + least, SLACK, name)
    assert_same_bits(found[3], heads.jvp()[1], "the part of dout is the tangent")


@given(stacks(), st.integers(-60, 60), st.integers(-60, 60))
def test_linear_in_dout_and_in_the_direction(heads: Heads, of_dout: int, of_turn: int) -> None:
    """Powers of two move the exponent of the result alone."""
    turned = heads._replace(
        sides=(*heads.sides[:3], np.ldexp(heads.sides[3], of_dout)),
        changes=(*(np.ldexp(a, of_turn) for a in heads.changes[:3]),
                 np.ldexp(heads.changes[3], of_dout + of_turn)),
    )  # fmt: skip
    least = 1e3 * float(np.finfo(heads.sides[0].dtype).tiny)
    whole = of_dout + of_turn
    exponents = (whole, whole, whole, of_turn)
    for name, one, found, exponent in zip(NAMES, heads.hvp(), turned.hvp(), exponents, strict=True):
        assert_ratio(found, np.ldexp(one, exponent), least * max(1.0, 2.0**exponent), 1.0, name)


@pytest.mark.peers
@pytest.mark.parametrize("is_causal", [False, True])
def test_double_backward_of_torch(is_causal: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(11)
    shapes = ((2, 3, 30, 8), (2, 3, 40, 8), (2, 3, 40, 5), (2, 3, 30, 5))
    sides, changes = ([rng.standard_normal(one) for one in shapes] for _ in range(2))
    query, key, value, dout = (torch.from_numpy(one).requires_grad_() for one in sides)
    # Of torch's own functions only this one has second derivatives.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        output = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=is_causal
        )
        first = torch.autograd.grad(output, (query, key, value), dout, create_graph=True)
        directions = [torch.from_numpy(one) for one in changes[:3]]
        want = torch.autograd.grad(first, (query, key, value, dout), directions)
    found = ag.attention_hvp(*sides, *changes[:3], is_causal=is_causal)
    for name, one, right in zip(NAMES, found, want, strict=True):
        assert_ratio(one, right.numpy(), float(right.abs().max()), ROUNDINGS, name)


def test_wrong_directions() -> None:
    q, k, v, dout = (np.ones((2, 3, 4)) for _ in range(4))
    with pytest.raises(ag.ShapeError, match=r"dkey: found shape \(2, 3, 5\); key has shape"):
        ag.attention_jvp(q, k, v, q, np.ones((2, 3, 5)), v)
    with pytest.raises(ag.ShapeError, match=r"ddout: found shape \(3, 4\); dout has shape"):
        ag.attention_hvp(q, k, v, dout, q, k, v, ddout=dout[0])
    with pytest.raises(ag.DTypeError, match="dvalue: found float32 where query is float64"):
        ag.attention_jvp(q, k, v, q, k, v.astype(np.float32))
    with pytest.raises(ag.OptionError, match="lse: found None; expected output and lse"):
        ag.attention_jvp(q, k, v, q, k, v, output=v)
    with pytest.raises(TypeError, match="unexpected keyword argument 'rtol'"):
        ag.attention_hvp(q, k, v, dout, q, k, v, rtol=1e-3)  # type: ignore[call-overload]


@pytest.mark.parametrize("place", range(8))
def test_a_number_that_is_none_is_named(place: int) -> None:
    arrays = [np.ones((2, 3, 4)) for _ in range(8)]
    arrays[place][1, 2, 3] = np.nan
    name = ("query", "key", "value", "dout", "ddquery", "ddkey", "ddvalue", "ddout")[place]
    with pytest.raises(ag.NonFiniteError, match=rf"{name}: found nan at index \(1, 2, 3\)"):
        ag.attention_hvp(*arrays[:7], ddout=arrays[7])
    with pytest.raises(ag.NonFiniteError, match=f"{name}: found NaN at row 2, column 3"):
        ag.attention_hvp(*arrays[:7], ddout=arrays[7], check_finite=False)


def test_numbers_beyond_the_precision() -> None:
    large = np.full((2, 3), 1e30, np.float32)
    one = np.ones((2, 3), np.float32)
    with pytest.raises(ag.RangeError, match="second derivative with respect to"):
        ag.attention_hvp(one, one, large, large, one, large, large)
