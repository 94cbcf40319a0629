"""The table of wrong calls: what is called, and the exact class and words that must come back."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import attngrad_rs as ag

N, M, D1, D2, D3, DV, DK = 5, 6, 3, 4, 2, 7, 3
SHAPES = {
    "A1": (N, D1), "A2": (M, D2), "A3": (M, D3), "X": (D1, D2), "Y": (D3, DV), "E": (N, DV),
    "W_Q": (D1, DK), "W_K": (D2, DK),
}  # fmt: skip
HEAD_SHAPES = {"query": (2, N, 3), "key": (2, M, 3), "value": (2, M, 4), "dout": (2, N, 4)}
HEAD_ARRAYS: dict[Callable[..., object], tuple[str, ...]] = {
    ag.attention: ("query", "key", "value"),
    ag.attention_vjp: ("query", "key", "value", "dout"),
}
# A shape of 2^40 rows, of one number in memory.
ABSURD_ROWS = 2**40


def made(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape)


def problem(**changes: object) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        name: made(SHAPES[name]) for name in ("A1", "A2", "A3", "X", "Y", "E")
    }
    return {**arrays, **changes}


def pair(**changes: object) -> dict[str, Any]:
    return problem(**{"X": (made(SHAPES["W_Q"]), made(SHAPES["W_K"])), "wrt": "W_Q", **changes})


def heads(*names: str, **changes: object) -> dict[str, Any]:
    return {**{name: made(HEAD_SHAPES[name]) for name in names}, **changes}


def spoilt(name: str, value: float) -> np.ndarray[Any, Any]:
    array = made(SHAPES[name])
    array[1, 2 % array.shape[1]] = value
    return array


def absurd(columns: int) -> np.ndarray[Any, Any]:
    return np.lib.stride_tricks.as_strided(np.zeros(1), (ABSURD_ROWS, columns), (0, 0))


class Ill:
    """An object whose conversion to an array fails."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray[Any, Any]:
        raise RuntimeError("no array in here")


class Case(NamedTuple):
    title: str
    function: Callable[..., object]
    arguments: dict[str, Any]
    error: type[Exception]
    # Each must occur in the message: argument, what was found, what is expected.
    words: tuple[str, ...]


CASES: list[Case] = []


def case(
    title: str,
    error: type[Exception],
    *words: str,
    function: Callable[..., object] = ag.loss_gradient,
    **arguments: object,
) -> None:
    CASES.append(Case(title, function, arguments, error, words))


def head_case(
    function: Callable[..., object],
    label: str,
    error: type[Exception],
    *words: str,
    **changes: object,
) -> None:
    arguments = heads(*HEAD_ARRAYS[function], **changes)
    case(f"{function.__name__}-{label}", error, *words, function=function, **arguments)


# What the loops below run over.
name: str
value: object
function: Callable[..., object]

# -- dtypes ---------------------------------------------------------------------------------------
for name in ("A1", "A2", "A3", "X", "Y", "E"):
    whole = np.ones(SHAPES[name], dtype=np.int64)
    case(f"{name}-int64", ag.DTypeError, f"{name}: found dtype int64", "float32 or float64",
         f"{name}.astype", **problem(**{name: whole}))  # fmt: skip
for dtype in ("float16", "longdouble", "complex64", "complex128", "bool", "uint8", "int32"):
    array = np.ones(SHAPES["A1"]).astype(dtype)
    case(f"A1-{dtype}", ag.DTypeError, f"A1: found dtype {array.dtype}", "float32 or float64",
         **problem(A1=array))  # fmt: skip
case("A1-object", ag.DTypeError, "A1: found dtype object", "array of numbers",
     **problem(A1=made((N, D1)).astype(object)))  # fmt: skip
case("A1-decimals", ag.DTypeError, "A1: found dtype object",
     **problem(A1=[[decimal.Decimal(1)] * D1] * N))  # fmt: skip
case("A1-strings", ag.DTypeError, "A1: found dtype <U1", **problem(A1=[["1"] * D1] * N))
case("A1-none", ag.DTypeError, "A1: found dtype object", **problem(A1=None))
case("A1-dates", ag.DTypeError, "A1: found dtype datetime64",
     **problem(A1=np.zeros((N, D1), dtype="datetime64[s]")))  # fmt: skip
case("A1-record", ag.DTypeError, "A1: found dtype [('a', '<f8')]",
     **problem(A1=np.zeros((N, D1), dtype=[("a", "<f8")])))  # fmt: skip
case("A1-masked", ag.DTypeError, "A1: found a masked array", "numpy.ma.filled",
     **problem(A1=np.ma.masked_invalid(made((N, D1)))))  # fmt: skip
case("A1-ill", ag.DTypeError, "A1: found an object of type Ill", "no array in here",
     **problem(A1=Ill()))  # fmt: skip
case("A1-list-of-int", ag.DTypeError, "A1: found dtype int64", "A1.astype(numpy.float64)",
     **problem(A1=[[1] * D1] * N))  # fmt: skip
case("A2-float32", ag.DTypeError, "A2: found float32 where A1 is float64",
     "A2.astype(numpy.float64)", **problem(A2=made((M, D2)).astype(np.float32)))  # fmt: skip
case("E-big-endian-float32", ag.DTypeError, "E: found float32 where A1 is float64",
     **problem(E=made((N, DV)).astype(">f4")))  # fmt: skip
case("W_K-float32", ag.DTypeError, "W_K: found float32 where A1 is float64",
     **pair(X=(made((D1, DK)), made((D2, DK)).astype(np.float32))))  # fmt: skip

# -- ranks and shapes -----------------------------------------------------------------------------
for name in ("A1", "A2", "A3", "X", "Y", "E"):
    case(f"{name}-vector", ag.ShapeError, f"{name}: found shape (5,)", "matrix",
         **problem(**{name: made((5,))}))  # fmt: skip
case(
    "A1-cube", ag.ShapeError, "A1: found shape (5, 3, 1)", "matrix", **problem(A1=made((N, D1, 1)))
)
case("A1-number", ag.ShapeError, "A1: found shape ()", **problem(A1=1.5))
case("A1-ragged", ag.ShapeError, "A1: found a list of length 2", "array",
     **problem(A1=[[1.0, 2.0, 3.0], [1.0]]))  # fmt: skip
case("A1-empty-list", ag.ShapeError, "A1: found shape (0,)", **problem(A1=[]))
case("A1-columns", ag.ShapeError, "A1: found shape (5, 2)", "X has 3 rows", "A1 needs 3 columns",
     **problem(A1=made((N, 2))))  # fmt: skip
case("A2-columns", ag.ShapeError, "A2: found shape (6, 3)", "X has 4 columns",
     "A2 needs 4 columns", **problem(A2=made((M, 3))))  # fmt: skip
case("A3-rows", ag.ShapeError, "A3: found shape (5, 2)", "A2 has 6 rows", "A3 needs 6 rows",
     **problem(A3=made((5, D3))))  # fmt: skip
case("A3-columns", ag.ShapeError, "A3: found shape (6, 5)", "Y has 2 rows", "A3 needs 2 columns",
     **problem(A3=made((M, 5))))  # fmt: skip
case("E-rows", ag.ShapeError, "E: found shape (1, 7)", "A1 has 5 rows", "E needs 5 rows",
     **problem(E=made((1, DV))))  # fmt: skip
case("E-columns", ag.ShapeError, "E: found shape (5, 1)", "Y has 7 columns", "E needs 7 columns",
     **problem(E=made((N, 1))))  # fmt: skip
case("X-transposed", ag.ShapeError, "A1: found shape (5, 3)", "X has 4 rows",
     **problem(X=made((D2, D1))))  # fmt: skip
case("pair-of-three", ag.ShapeError, "X: found 3 matrices", "pair (W_Q, W_K) is two",
     **pair(X=(made((D1, DK)),) * 3))  # fmt: skip
case("pair-of-one", ag.ShapeError, "X: found 1 matrices", **pair(X=(made((D1, DK)),)))
case("pair-widths", ag.ShapeError, "W_K: found shape (4, 2)", "W_Q has 3 columns",
     "W_K needs 3 columns", **pair(X=(made((D1, DK)), made((D2, 2)))))  # fmt: skip
case("pair-rows", ag.ShapeError, "A2: found shape (6, 4)", "W_K has 5 rows", "A2 needs 5 columns",
     **pair(X=(made((D1, DK)), made((5, DK)))))  # fmt: skip
case("pair-cube", ag.ShapeError, "W_Q: found shape (3, 3, 1)",
     **pair(X=(made((D1, DK, 1)), made((D2, DK)))))  # fmt: skip
case("X-stack", ag.ShapeError, "X: found shape (2, 3, 4)", **problem(X=made((2, D1, D2))))
for function in (ag.loss, ag.plan_loss_gradient):
    case(f"{function.__name__}-shape", ag.ShapeError, "E: found shape (4, 7)", "A1 has 5 rows",
         function=function, **problem(E=made((4, DV))))  # fmt: skip

# -- numbers --------------------------------------------------------------------------------------
for name in ("A1", "A2", "A3", "X", "Y", "E"):
    index = (1, 2 % SHAPES[name][1])
    case(f"{name}-nan", ag.NonFiniteError, f"{name}: found nan at index {index}", "finite",
         **problem(**{name: spoilt(name, np.nan)}))  # fmt: skip
case("A1-inf", ag.NonFiniteError, "A1: found inf at index (1, 2)",
     **problem(A1=spoilt("A1", np.inf)))  # fmt: skip
case("W_K-minus-inf", ag.NonFiniteError, "W_K: found -inf at index (1, 2)",
     **pair(X=(made((D1, DK)), spoilt("W_K", -np.inf))))  # fmt: skip
case("loss-nan", ag.NonFiniteError, "E: found nan at index (1, 2)", function=ag.loss,
     **problem(E=spoilt("E", np.nan)))  # fmt: skip
case("absurd-rows", ag.OutOfMemoryError, "loss_gradient: found shapes that need", "bytes",
     "use fewer rows", **problem(A1=absurd(D1), E=absurd(DV)))  # fmt: skip
case("absurd-rows-loss", ag.OutOfMemoryError, "loss: found shapes that need", function=ag.loss,
     **problem(A1=absurd(D1), E=absurd(DV)))  # fmt: skip

# -- options --------------------------------------------------------------------------------------
for value, shown in (
    ("1", "'1' of type str"),
    (True, "True of type bool"),
    (1j, "1j of type complex"),
    (np.array(1.0), "an array of shape ()"),
    ([1.0], "a list of length 1"),
):
    case(f"scale-{shown}", ag.OptionTypeError, f"scale: found {shown}", "finite real number",
         **problem(scale=value))  # fmt: skip
for value in (float("nan"), float("inf"), -float("inf"), 10**400):
    shown = "an integer of 1329 bits" if isinstance(value, int) else repr(value)
    case(f"scale-{shown}", ag.OptionError, f"scale: found {shown}", "finite real number",
         **problem(scale=value))  # fmt: skip
case("wrt-unknown", ag.OptionError, "wrt: found 'Z'", "'X', 'W_Q'", **problem(wrt="Z"))
case("wrt-lower-case", ag.OptionError, "wrt: found 'x'", **problem(wrt="x"))
case("wrt-empty", ag.OptionError, "wrt: found no name", "at least one", **problem(wrt=()))
case("wrt-twice", ag.OptionError, "wrt: found 'Y' twice", "once", **problem(wrt=("Y", "X", "Y")))
case("wrt-number", ag.OptionTypeError, "wrt: found 1 of type int", "tuple or list",
     **problem(wrt=1))  # fmt: skip
case("wrt-number-inside", ag.OptionTypeError, "wrt: found 1 of type int", **problem(wrt=("X", 1)))
case("wrt-set", ag.OptionTypeError, "wrt: found an object of type set", **problem(wrt={"X"}))
case("wrt-none", ag.OptionTypeError, "wrt: found None", **problem(wrt=None))
case("wrt-X-of-pair", ag.OptionError, "wrt: found 'X'", "expected W_Q or W_K", "pair (W_Q, W_K)",
     **pair(wrt="X"))  # fmt: skip
case("wrt-W_Q-of-X", ag.OptionError, "wrt: found 'W_Q'", "expected X where", **problem(wrt="W_Q"))
case("wrt-W_K-of-X", ag.OptionError, "wrt: found 'W_K'", **problem(wrt=("X", "W_K")))
case("wrt-A-of-three", ag.OptionError, "wrt: found 'A'", "same array three times",
     **problem(wrt="A"))  # fmt: skip
for value in (-1.0, float("nan"), float("inf"), -1e-300):
    case(f"rtol-{value}", ag.OptionError, f"rtol: found {value!r}", "finite number >= 0",
         **problem(rtol=value))  # fmt: skip
case("rtol-text", ag.OptionTypeError, "rtol: found '1e-3' of type str", **problem(rtol="1e-3"))
case("rtol-bool", ag.OptionTypeError, "rtol: found False of type bool", **problem(rtol=False))
case("atol-negative", ag.OptionError, "atol: found -1", "finite number >= 0", **problem(atol=-1))
case("atol-none", ag.OptionTypeError, "atol: found None", **problem(atol=None))
case("norm", ag.OptionError, "norm: found 'l2'", "'fro', 'max'", **problem(norm="l2"))
case("norm-number", ag.OptionTypeError, "norm: found 2 of type int", **problem(norm=2))
case("method", ag.OptionError, "method: found 'nystroem'", "'auto', 'exact'",
     **problem(method="nystroem"))  # fmt: skip
case("method-none", ag.OptionTypeError, "method: found None", **problem(method=None))
for value in (-1, 31, 10**30):
    case(f"degree-{value}", ag.OptionError, "degree: found", "integer from 0 to 30",
         **problem(method="polynomial", degree=value))  # fmt: skip
for value in (2.0, "2", True, [2]):
    case(f"degree-{value!r}", ag.OptionTypeError, "degree: found", "integer from 0 to 30",
         **problem(method="polynomial", degree=value))  # fmt: skip
case("degree-of-exact", ag.OptionError, "degree: found 2 for method 'exact'",
     "method='polynomial'", **problem(method="exact", degree=2))  # fmt: skip
case("degree-of-auto", ag.OptionError, "degree: found 2 for method 'auto'", **problem(degree=2))
for value in (None, 0.0):
    case(f"degree-missing-rtol-{value}", ag.OptionError, "degree: found none", "a degree",
         "rtol > 0", **problem(method="polynomial", rtol=value))  # fmt: skip
case("certificate", ag.OptionError, "certificate: found 'sure'", "'rigorous'",
     **problem(certificate="sure"))  # fmt: skip
for number, value in enumerate((0, -1, 10**9, 10**5000)):
    case(f"threads-outside-{number}", ag.OptionError, "threads: found",
         "integer from 1", **problem(threads=value))  # fmt: skip
for value in (True, 2.0, "2", [2]):
    case(f"threads-{value!r}", ag.OptionTypeError, "threads: found", "integer from 1",
         **problem(threads=value))  # fmt: skip
for value in (0, -1.0, float("nan"), float("inf"), 1e300):
    case(f"timeout-{value}", ag.OptionError, "timeout: found", "positive number of seconds",
         **problem(timeout=value))  # fmt: skip
case("timeout-text", ag.OptionTypeError, "timeout: found '5'", **problem(timeout="5"))
case("progress", ag.OptionTypeError, "progress: found 1 of type int", "a function",
     **problem(progress=1))  # fmt: skip
for name in ("is_causal", "check_finite"):
    for value in (1, "yes", None):
        case(f"{name}-{value}", ag.OptionTypeError, f"{name}: found {value!r}", "True or False",
             **problem(**{name: value}))  # fmt: skip
case("rng-text", ag.OptionTypeError, "rng: found 'seed'", "numpy.random.Generator",
     **problem(rng="seed"))  # fmt: skip
case("rng-negative", ag.OptionError, "rng: found -1", **problem(rng=-1))
for value in (-1.0, float("nan")):
    case(f"plan-rtol-{value}", ag.OptionError, f"rtol: found {value!r}",
         function=ag.plan_loss_gradient, **problem(rtol=value))  # fmt: skip
case("plan-degree", ag.OptionError, "degree: found 99", function=ag.plan_loss_gradient,
     **problem(method="polynomial", degree=99))  # fmt: skip

# -- attention ------------------------------------------------------------------------------------
for function in HEAD_ARRAYS:
    head_case(
        function,
        "vector",
        ag.ShapeError,
        "query: found shape (3,)",
        "at least two",
        query=made((3,)),
    )
    head_case(
        function,
        "width",
        ag.ShapeError,
        "key: found shape (2, 6, 5)",
        "query has 3 columns",
        "key needs 3 columns",
        key=made((2, M, 5)),
    )
    head_case(
        function,
        "rows",
        ag.ShapeError,
        "value: found shape (2, 1, 4)",
        "key has 6 rows",
        "value needs 6 rows",
        value=made((2, 1, 4)),
    )
    head_case(
        function,
        "leading",
        ag.ShapeError,
        "key: found shape (3, 6, 3)",
        "leading dimensions 2,",
        key=made((3, M, 3)),
    )
    head_case(
        function,
        "fewer-leading",
        ag.ShapeError,
        "value: found shape (6, 4)",
        "leading dimensions 2,",
        value=made((M, 4)),
    )
    head_case(
        function,
        "int",
        ag.DTypeError,
        "value: found dtype int64",
        value=np.ones((2, M, 4), dtype=int),
    )
    head_case(
        function,
        "mixed",
        ag.DTypeError,
        "key: found float32 where query is float64",
        key=made((2, M, 3)).astype(np.float32),
    )
    head_case(
        function,
        "nan",
        ag.NonFiniteError,
        "query: found nan at index (1, 4, 2)",
        query=np.where(np.arange(30).reshape(2, N, 3) == 29, np.nan, 1.0),
    )
    head_case(function, "scale", ag.OptionTypeError, "scale: found 'auto'", scale="auto")
    head_case(function, "causal", ag.OptionTypeError, "is_causal: found 1", is_causal=1)
    head_case(
        function,
        "absurd",
        ag.OutOfMemoryError,
        f"{function.__name__}: found shapes that need",
        key=np.broadcast_to(0.0, (2, ABSURD_ROWS, 3)),
        value=np.broadcast_to(0.0, (2, ABSURD_ROWS, 4)),
    )
case("attention_vjp-dout-rows", ag.ShapeError, "dout: found shape (2, 6, 4)", "query has 5 rows",
     function=ag.attention_vjp,
     **heads("query", "key", "value", dout=made((2, M, 4))))  # fmt: skip
case("attention_vjp-dout-columns", ag.ShapeError, "dout: found shape (2, 5, 3)",
     "value has 4 columns", function=ag.attention_vjp,
     **heads("query", "key", "value", dout=made((2, N, 3))))  # fmt: skip
case("attention_vjp-lse-alone", ag.OptionError, "output: found None", "output and lse",
     function=ag.attention_vjp, **heads(*HEAD_SHAPES, lse=made((2, N))))  # fmt: skip
case("attention_vjp-output-alone", ag.OptionError, "lse: found None", "output and lse",
     function=ag.attention_vjp, **heads(*HEAD_SHAPES, output=made((2, N, 4))))  # fmt: skip
case("attention_vjp-lse-shape", ag.ShapeError, "lse: found shape (2, 4)", "lse needs 2 × 5",
     function=ag.attention_vjp,
     **heads(*HEAD_SHAPES, output=made((2, N, 4)), lse=made((2, 4))))  # fmt: skip
case("attention_vjp-output-shape", ag.ShapeError, "output: found shape (2, 5, 3)",
     "value has 4 columns", function=ag.attention_vjp,
     **heads(*HEAD_SHAPES, output=made((2, N, 3)), lse=made((2, N))))  # fmt: skip
case("attention_vjp-lse-dtype", ag.DTypeError, "lse: found float32", function=ag.attention_vjp,
     **heads(*HEAD_SHAPES, output=made((2, N, 4)),
             lse=np.zeros((2, N), np.float32)))  # fmt: skip
case("attention_vjp-lse-nan", ag.NonFiniteError, "lse: found nan at index (1, 4)",
     function=ag.attention_vjp,
     **heads(*HEAD_SHAPES, output=made((2, N, 4)),
             lse=np.where(np.arange(2 * N).reshape(2, N) == 9, np.nan, 1.0)))  # fmt: skip
case("attention_vjp-lse-polynomial", ag.OptionError, "output: found results",
     function=ag.attention_vjp,
     **heads(*HEAD_SHAPES, output=made((2, N, 4)), lse=made((2, N)),
             method="polynomial", degree=1))  # fmt: skip
case("attention-return-lse", ag.OptionTypeError, "return_lse: found 1", function=ag.attention,
     **heads("query", "key", "value", return_lse=1))  # fmt: skip
case("attention-return-certificate", ag.OptionTypeError, "return_certificate: found 1",
     function=ag.attention, **heads("query", "key", "value", return_certificate=1))  # fmt: skip
case("attention-lse-of-polynomial", ag.OptionError, "return_lse: found True", "False for method",
     function=ag.attention,
     **heads("query", "key", "value", return_lse=True, method="polynomial", degree=1))  # fmt: skip
case("attention-gqa-type", ag.OptionTypeError, "enable_gqa: found 'yes'", function=ag.attention,
     **heads("query", "key", "value", enable_gqa="yes"))  # fmt: skip
case("attention-gqa-heads", ag.ShapeError, "key: found shape (2, 6, 3)", "query has 3 heads",
     function=ag.attention, enable_gqa=True,
     **heads("key", "value", query=made((3, N, 3))))  # fmt: skip
case("attention-no-gqa", ag.ShapeError, "key: found shape (2, 6, 3)", "leading dimensions 4",
     function=ag.attention, **heads("key", "value", query=made((4, N, 3))))  # fmt: skip
for function, names in (
    (ag.attention_vjp, HEAD_SHAPES),
    (ag.plan, ("query", "key", "value")),
    (ag.attention, ("query", "key", "value")),
):
    title = function.__name__
    case(f"{title}-degree-of-auto", ag.OptionError, "degree: found 2 for method 'auto'",
         function=function, **heads(*names, degree=2))  # fmt: skip
    case(f"{title}-degree-of-exact", ag.OptionError, "degree: found 2 for method 'exact'",
         function=function, **heads(*names, degree=2, method="exact"))  # fmt: skip
    case(f"{title}-degree-missing", ag.OptionError, "degree: found none", "a degree",
         function=function, **heads(*names, method="polynomial"))  # fmt: skip
    case(f"{title}-degree-31", ag.OptionError, "degree: found 31", "integer from 0 to 30",
         function=function, **heads(*names, method="polynomial", degree=31))  # fmt: skip
case("attention_vjp-method", ag.OptionError, "method: found 'flash'", function=ag.attention_vjp,
     **heads(*HEAD_SHAPES, method="flash"))  # fmt: skip
