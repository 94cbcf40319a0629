"""Half precision in and out: one rounding of what single precision gives, in the certificates."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngrad_rs as ag
from attngrad_rs import reference
from attngrad_rs._inputs.attention_masks import _entries
from helpers import Array, assert_ratio, assert_same_bits, frobenius

FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
FORMATS = pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
# Half of the spacing at 1, and of that of the smallest numbers.
UNITS = {FLOAT16: (2.0**-11, 2.0**-25), BFLOAT16: (2.0**-8, 2.0**-134)}
# Roundings in single precision by which a result may differ from the truth, for logits of size one.
SLACK = 100.0
SHAPES = {"query": (2, 21, 8), "key": (2, 33, 8), "value": (2, 33, 5), "dout": (2, 21, 5)}
INPUTS = ("query", "key", "value")


def heads(dtype: Any, seed: int = 0, size: float = 1.0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    made = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    made["dout"] *= size
    return {name: array.astype(dtype) for name, array in made.items()}


def problem(dtype: Any, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {"A1": (21, 4), "A2": (33, 4), "A3": (33, 4), "X": (4, 4), "Y": (4, 4), "E": (21, 4)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def single(named: dict[str, Array]) -> dict[str, Array]:
    return {name: np.asarray(array, np.float32) for name, array in named.items()}


def along(named: dict[str, Array], dtype: Any, seed: int = 1) -> dict[str, Array]:
    """A direction by the names of ``attention_jvp``."""
    rng = np.random.default_rng(seed)
    return {f"d{name}": rng.standard_normal(named[name].shape).astype(dtype) for name in INPUTS}


def jvp(named: dict[str, Array], **options: Any) -> tuple[Array, ...]:
    moved = {name: array for name, array in named.items() if name != "dout"}
    return tuple(ag.attention_jvp(**moved, **options))


def hvp(named: dict[str, Array], **options: Any) -> tuple[Array, ...]:
    moved = {f"dd{name}": named[f"d{name}"] for name in INPUTS}
    plain = {name: named[name] for name in SHAPES}
    return tuple(ag.attention_hvp(**plain, **moved, ddout=named["dout"], **options))


def forward(named: dict[str, Array], **options: Any) -> tuple[Array, ...]:
    given = {name: named[name] for name in INPUTS}
    return tuple(ag.attention(**given, return_lse=True, **options))


def backward(named: dict[str, Array], **options: Any) -> tuple[Array, ...]:
    return tuple(ag.attention_vjp(**{name: named[name] for name in SHAPES}, **options))


CALLS: dict[str, Callable[..., tuple[Array, ...]]] = {
    "attention": forward, "attention_vjp": backward, "attention_jvp": jvp, "attention_hvp": hvp,
}  # fmt: skip


def layouts(array: Array) -> dict[str, Array]:
    """The same numbers by other strides."""
    wide = np.repeat(array, 2, axis=-1)[..., ::2]
    turned = np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    held = array.copy()
    held.flags.writeable = False
    shown = np.broadcast_to(array[:1], array.shape)
    return {"strided": wide, "turned": turned, "read-only": held, "broadcast": shown}


@FORMATS
@pytest.mark.parametrize("name", CALLS)
def test_results_are_those_of_single_precision_rounded_once(name: str, dtype: Any) -> None:
    named = heads(dtype)
    if name in ("attention_jvp", "attention_hvp"):
        named |= along(named, dtype)
    got = CALLS[name](named, allow_half=True)
    want = CALLS[name](single(named))
    assert len(got) == len(want) >= 2
    for place, (one, whole) in enumerate(zip(got, want, strict=True)):
        is_lse = (name, place) == ("attention", 1)
        assert_same_bits(one, whole if is_lse else whole.astype(dtype), f"result {place}")


@FORMATS
@pytest.mark.parametrize("layout", ["strided", "turned", "read-only", "broadcast"])
def test_strides_change_nothing(layout: str, dtype: Any) -> None:
    named = {name: layouts(array)[layout] for name, array in heads(dtype).items()}
    plain = {name: np.ascontiguousarray(array) for name, array in named.items()}
    for call in (forward, backward):
        both = zip(call(named, allow_half=True), call(plain, allow_half=True), strict=True)
        for got, want in both:
            assert_same_bits(got, want, layout)


def test_the_other_byte_order() -> None:
    named = heads(FLOAT16)
    swapped = {name: array.astype(">f2") for name, array in named.items()}
    for call in (forward, backward):
        both = zip(call(swapped, allow_half=True), call(named, allow_half=True), strict=True)
        for got, want in both:
            assert_same_bits(got, want, "swapped")


@FORMATS
@pytest.mark.parametrize("is_pair", [False, True])
def test_the_problem(dtype: Any, is_pair: bool) -> None:
    named: dict[str, Any] = problem(dtype)
    wide: dict[str, Any] = single(named)
    wrt: Any = ("X", "Y", "A1", "A2", "A3")
    if is_pair:
        wrt = ("W_Q", "W_K", "A1")
        named["X"], wide["X"] = (named["X"], named["X"]), (wide["X"], wide["X"])
    got = ag.loss_gradient(**named, wrt=wrt, allow_half=True)
    want = ag.loss_gradient(**wide, wrt=wrt)
    assert got.loss == want.loss == ag.loss(**named, allow_half=True)
    for name, gradient in got.gradients.items():
        assert_same_bits(gradient, want.gradients[name].astype(dtype), name)
        error = frobenius(np.asarray(gradient, float) - want.gradients[name])
        assert got.certificates[name].absolute >= want.certificates[name].absolute + 0.999 * error


@FORMATS
@given(seed=st.integers(0, 2**32 - 1), power=st.integers(-6, 3), is_causal=st.booleans())
def test_against_the_definition(dtype: Any, seed: int, power: int, is_causal: bool) -> None:
    """Entry by entry; and no certificate is below the error, down to where numbers end."""
    size = 10.0**power
    named = heads(dtype, seed, size)
    wide = {name: np.asarray(array, float) for name, array in named.items()}
    options = {"is_causal": is_causal, "allow_half": True}
    unit, least = UNITS[np.dtype(dtype)]
    eps = float(np.finfo(np.float32).eps)
    output, _ = forward(named, **options)
    truth = reference.attention(*(wide[name] for name in INPUTS), is_causal=is_causal)
    scale = unit * np.abs(truth) + least + SLACK * eps
    assert_ratio(np.asarray(output, float), truth, scale, 1.0 + eps, "output")
    found = ag.attention_vjp(**named, **options)
    truths = reference.attention_vjp(*wide.values(), is_causal=is_causal)
    largest = float(np.max(np.abs(wide["dout"])))
    for name, gradient, exact in zip(INPUTS, found, truths, strict=True):
        # Sums over 33 keys of products of four factors of size one, and dout.
        scale = unit * np.abs(exact) + least + SLACK * 33.0 * eps * largest
        assert_ratio(np.asarray(gradient, float), exact, scale, 1.0 + eps, name)
        certificate = found.certificates[name]
        error = frobenius(np.asarray(gradient, float) - exact)
        assert error <= certificate.absolute * (1.0 + 1e-12)
        assert certificate.size == pytest.approx(frobenius(np.asarray(gradient, float)), rel=1e-12)


@FORMATS
def test_certificates_in_the_largest_entry(dtype: Any) -> None:
    named = heads(dtype)
    wide = {name: np.asarray(array, float) for name, array in named.items()}
    found = ag.attention_vjp(**named, norm="max", allow_half=True)
    truths = reference.attention_vjp(*wide.values())
    for name, gradient, exact in zip(INPUTS, found, truths, strict=True):
        error = float(np.max(np.abs(np.asarray(gradient, float) - exact)))
        assert 0.0 < error <= found.certificates[name].absolute


def test_the_polynomial_method_is_certified_with_the_rounding() -> None:
    named = {name: (array / 10).astype(FLOAT16) for name, array in heads(np.float64).items()}
    wide = {name: np.asarray(array, float) for name, array in named.items()}
    found = ag.attention_vjp(**named, method="polynomial", degree=2, allow_half=True)
    truths = reference.attention_vjp(*wide.values())
    for name, gradient, exact in zip(INPUTS, found, truths, strict=True):
        certificate = found.certificates[name]
        assert certificate.kind == "rigorous"
        assert gradient.dtype == FLOAT16
        assert frobenius(np.asarray(gradient, float) - exact) <= certificate.absolute


def test_what_is_too_small_is_zero_and_certified() -> None:
    named = heads(FLOAT16, size=1e-5)
    named["query"], named["key"] = named["query"] / 256, named["key"] / 256
    found = ag.attention_vjp(**named, allow_half=True)
    exact = ag.attention_vjp(**single(named)).dq
    assert not np.any(found.dq)
    assert np.any(exact)
    certificate = found.certificates["query"]
    assert certificate.absolute >= frobenius(exact)
    assert certificate.relative == np.inf


@FORMATS
def test_a_gradient_of_zero_has_no_error(dtype: Any) -> None:
    named = heads(dtype)
    named["value"] = np.ones_like(named["value"])
    named["key"] = np.zeros_like(named["key"])
    certificate = ag.attention_vjp(**named, allow_half=True, rtol=0.05).certificates["query"]
    assert certificate.absolute == 0.0
    assert certificate.success


def test_what_is_too_large_is_an_error() -> None:
    """Not an infinity, and not the number that single precision has."""
    named = heads(FLOAT16)
    named["value"] *= 1000
    named["dout"] *= 1000
    with pytest.raises(ag.RangeError, match=r"respect to query .* float16; .* use float32"):
        ag.attention_vjp(**named, allow_half=True)
    named["value"] = np.full_like(named["value"], 60000)
    assert np.isfinite(forward(named, allow_half=True)[0]).all()
    huge = {name: array * 100 for name, array in problem(FLOAT16).items()}
    with pytest.raises(ag.RangeError, match=r"respect to Y .* float16; .* use float32"):
        ag.loss_gradient(**huge, scale=1e-6, wrt="Y", allow_half=True)
    # Weights of one sign and one size for values of both signs: the largest change there is.
    moved = along(named, FLOAT16)
    moved["dvalue"] = np.full_like(named["value"], 60000)
    named["value"][:, ::2] *= -1
    named["query"][...], named["key"][:, ::2], moved["dkey"] = (
        1,
        -1,
        np.sign(named["value"][..., :1]),
    )
    moved["dkey"] = np.broadcast_to(moved["dkey"], named["key"].shape).astype(FLOAT16)
    with pytest.raises(ag.RangeError, match=r"the change of the output .* float16"):
        jvp({**named, **moved}, allow_half=True)


def test_a_tolerance_is_held_against_the_rounding() -> None:
    named = heads(FLOAT16)
    assert ag.attention_vjp(**named, rtol=1e-2, allow_half=True).success
    with pytest.warns(ag.PrecisionWarning, match="rounding in float16 .* use float32"):
        missed = ag.attention_vjp(**named, rtol=1e-5, allow_half=True)
    assert missed.success is False
    with pytest.raises(ag.ToleranceError, match="use float32") as caught:
        ag.attention_vjp(**named, rtol=1e-5, method="exact", allow_half=True)
    assert caught.value.best_rtol > 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        enough = 1.1 * caught.value.best_rtol
        assert ag.attention_vjp(**named, rtol=enough, method="exact", allow_half=True).success


@FORMATS
@pytest.mark.parametrize("mask_shape", [(21, 33), (2, 1, 33), (1,)])
def test_masks_of_half_precision(dtype: Any, mask_shape: tuple[int, ...]) -> None:
    """They are added as they are, and the lowest numbers of their own format hide."""
    named, rng = heads(dtype), np.random.default_rng(5)
    lowest = float(ml_dtypes.finfo(dtype).min)
    wide = rng.standard_normal(mask_shape)
    hidden = rng.random(mask_shape) < 0.3
    mask = np.where(hidden, rng.choice([-np.inf, lowest, lowest / 4], mask_shape), wide).astype(
        dtype
    )
    shown = np.where(hidden, -np.inf, mask.astype(np.float32)).astype(np.float32)
    for layout in (mask, np.asfortranarray(mask)):
        for call in (forward, backward):
            got = call(named, attn_mask=layout, allow_half=True)
            want = call(named, attn_mask=shown, allow_half=True)
            for one, other in zip(got, want, strict=True):
                assert_same_bits(one, other, call.__name__)
    bits, half = _entries(mask, np.dtype(np.float32), str(dtype))
    assert half == str(dtype)
    assert np.shares_memory(bits, mask)


@FORMATS
def test_masks_that_are_no_numbers(dtype: Any) -> None:
    mask = np.zeros((21, 33), dtype)
    mask[3, 30] = np.nan
    with pytest.raises(ag.NonFiniteError, match="attn_mask: found NaN at row 3, column 30"):
        forward(heads(dtype), attn_mask=mask, allow_half=True)


@FORMATS
def test_the_forward_pass_is_used_again(dtype: Any) -> None:
    named = heads(dtype)
    output, lse = forward(named, allow_half=True)
    saved = backward(named, output=output, lse=lse, allow_half=True)
    fresh = backward(named, allow_half=True)
    unit, _ = UNITS[np.dtype(dtype)]
    for got, want in zip(saved, fresh, strict=True):
        wide = np.asarray(want, float)
        assert got.dtype == dtype
        # The output was rounded in between.
        assert frobenius(np.asarray(got, float) - wide) <= 20.0 * unit * frobenius(wide)


@FORMATS
def test_a_plan_runs_on_half_precision(dtype: Any) -> None:
    named = heads(dtype)
    plan = ag.plan(*(named[name] for name in INPUTS), allow_half=True)
    got = plan.execute(dout=named["dout"])
    for one, want in zip(got, backward(named, allow_half=True), strict=True):
        assert_same_bits(one, want, "planned")
    given = problem(dtype)
    made = ag.plan_loss_gradient(**given, allow_half=True).execute()
    assert_same_bits(made.gradient, ag.loss_gradient(**given, allow_half=True).gradient, "planned")


@FORMATS
def test_it_is_refused_where_nobody_asks_for_it(dtype: Any) -> None:
    named, given = heads(dtype), problem(dtype)
    name = str(dtype)
    for call in (forward, backward):
        with pytest.raises(ag.DTypeError, match=f"query: found dtype {name}; .*allow_half=True"):
            call(named)
    with pytest.raises(ag.DTypeError, match=f"A1: found dtype {name}; .*allow_half=True"):
        ag.loss_gradient(**given)
    with pytest.raises(ag.DTypeError, match=f"query: found dtype {name}; .*numpy.float32.$"):
        ag.diagnose(named["query"][0], named["key"][0])
    with pytest.raises(ag.OptionTypeError, match="allow_half: found 1 of type int"):
        forward(named, allow_half=1)


def test_one_dtype_for_all() -> None:
    named, other = heads(FLOAT16), heads(BFLOAT16)
    with pytest.raises(ag.DTypeError, match="key: found bfloat16 where query is float16"):
        forward({**named, "key": other["key"]}, allow_half=True)
    with pytest.raises(ag.DTypeError, match="value: found float32 where query is float16"):
        forward({**named, "value": single(named)["value"]}, allow_half=True)
    output, lse = forward(named, allow_half=True)
    with pytest.raises(ag.DTypeError, match="lse: found float16; expected float32"):
        backward(named, output=output, lse=lse.astype(FLOAT16), allow_half=True)
    with pytest.raises(ag.DTypeError, match="dout: found float32 where query is float16"):
        backward({**named, "dout": single(named)["dout"]}, output=output, lse=lse, allow_half=True)
    with pytest.raises(ag.DTypeError, match=r"attn_mask: found dtype bfloat16; .*float16"):
        forward(named, attn_mask=np.zeros((21, 33), BFLOAT16), allow_half=True)


def test_allow_half_changes_nothing_else() -> None:
    for dtype in (np.float32, np.float64):
        named = heads(dtype)
        for got, want in zip(backward(named, allow_half=True), backward(named), strict=True):
            assert_same_bits(got, want, str(dtype))


def test_numbers_that_are_none() -> None:
    named = heads(FLOAT16)
    named["value"][0, 3, 2] = np.nan
    with pytest.raises(ag.NonFiniteError, match=r"value: found nan at index \(0, 3, 2\)"):
        forward(named, allow_half=True)
