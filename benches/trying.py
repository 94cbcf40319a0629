"""The price of trying: seconds of ``method="auto"`` over those of "exact" for random requests.

``python benches/trying.py`` times 200 of them in interleaved pairs, ``--quick`` 40 shorter ones. It
prints a line for each request that costs more than exact, the share of requests at most 1.05 times
as dear, and the worst with all that it takes to make it again.

Of a request that is dear it says why: the reason of the result names the operations that were spent
before the exact passes, as the planner counts them, and beside it stands what the looks alone take,
which is what ``plan_loss_gradient`` does, in seconds over those of exact.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import attngrad_rs as ag

OUTPUTS = ("X", "Y", "A1", "A2", "A3", "W_Q", "W_K", ("X", "Y"), ("X", "A1"), ("W_Q", "W_K"))
CERTIFICATES = ("any", "any", "any", "estimated", "statistical", "rigorous")
FAMILIES = ("uniform", "normal", "clusters", "decaying")
TARGETS = ("normal", "near the output", "heavy tails")
CLUSTERS = 16
NEAR = 1e-2
TAIL = 2.0

SHORTEST = 2048
RATES = 3

# A request that looks dear is timed in so many pairs, another one in fewer.
PAIRS, SURE_PAIRS = 3, 9
SLOW_SECONDS = 4.0
SLOW_PAIRS = 1
DEAR = 1.05


class Request(NamedTuple):
    """One request, and what its data are drawn from."""

    number: int
    n: int
    d: int
    wrt: str | tuple[str, ...]
    dtype: str
    is_causal: bool
    norm: str
    certificate: str
    rtol: float
    entries: float
    family: str
    target: str


def request(number: int, seed: int, longest: int) -> Request:
    """The request of that number: every number has a stream of its own."""
    rng = np.random.default_rng((seed, number))

    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def one(of: Any) -> Any:
        return of[rng.integers(len(of))]

    return Request(
        number,
        n=round(between(SHORTEST, longest)),
        d=round(between(2, 64)),
        wrt=one(OUTPUTS),
        dtype=one(("float32", "float64")),
        is_causal=bool(rng.integers(4) == 0),
        norm=one(("fro", "max")),
        certificate=one(CERTIFICATES),
        rtol=between(1e-5, 0.3),
        entries=between(0.2, 2.0),
        family=one(FAMILIES),
        target=one(TARGETS),
    )


def data(one: Request, seed: int) -> dict[str, Any]:
    """Arrays of the problem."""
    rng = np.random.default_rng((seed, one.number, 1))
    n, d = one.n, one.d

    def side() -> np.ndarray:
        if one.family == "uniform":
            return rng.uniform(-1.0, 1.0, (n, d))
        drawn = rng.standard_normal((n, d))
        if one.family == "clusters":
            return 0.5 * drawn + rng.standard_normal((CLUSTERS, d))[rng.integers(CLUSTERS, size=n)]
        return drawn * 2.0 ** -np.arange(d) if one.family == "decaying" else drawn

    A1, A2, A3 = (one.entries * side(), one.entries * side(), side())
    eye = np.eye(d)
    if one.target == "near the output":
        E = ag.attention(A1, A2, A3, scale=1.0 / d, is_causal=one.is_causal)
        E = E + NEAR * rng.standard_normal(E.shape)
    else:
        E = rng.standard_normal((n, d)) if one.target == "normal" else rng.standard_t(TAIL, (n, d))
    X = (eye, eye) if "W_" in str(one.wrt) else eye
    given = {"A1": A1, "A2": A2, "A3": A3, "X": X, "Y": eye, "E": E}

    def narrow(array: Any) -> Any:
        if isinstance(array, tuple):
            return tuple(map(narrow, array))
        return array.astype(one.dtype)

    return {name: narrow(array) for name, array in given.items()}


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class Found(NamedTuple):
    """Auto over exact, looks over exact where auto is dear, and what auto returned."""

    ratio: float
    looks: float | None
    result: ag.GradientResult


def ratio(one: Request, seed: int) -> Found:
    """Medians over interleaved pairs."""
    given = data(one, seed)
    common = {"wrt": one.wrt, "is_causal": one.is_causal, "norm": one.norm}
    asked = {"rtol": one.rtol, "certificate": one.certificate}
    found: list[ag.GradientResult] = []

    def auto() -> None:
        found[:] = [ag.loss_gradient(**given, **common, **asked)]

    def exact() -> None:
        ag.loss_gradient(**given, **common)

    def plan() -> None:
        ag.plan_loss_gradient(**given, **common, **asked)

    # The first pair wakes threads and memory, and says how many there will be.
    first = seconds(exact), seconds(auto)
    slow = max(first) > SLOW_SECONDS
    pairs = [first[1] / first[0]] if slow else []
    wanted = SLOW_PAIRS if slow else PAIRS
    alone = first[0]
    while len(pairs) < wanted:
        alone = seconds(exact)
        pairs.append(seconds(auto) / alone)
        if len(pairs) == wanted and wanted < SURE_PAIRS and statistics.median(pairs) > DEAR:
            wanted = PAIRS if slow and wanted < PAIRS else SURE_PAIRS if not slow else wanted
    dear = statistics.median(pairs)
    # The first plans of a precision look at the machine's rate, which no call does.
    looks = [seconds(plan) for _ in range(RATES + PAIRS)][RATES:] if dear > DEAR else []
    return Found(dear, statistics.median(looks) / alone if looks else None, found[0])


def main() -> None:
    """Time the requests and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="40 requests of at most 8192 tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, default=None, help="the request of this number alone")
    options = parser.parse_args()
    count, longest = (40, 8192) if options.quick else (200, 65536)
    numbers = range(count) if options.only is None else [options.only]
    warnings.simplefilter("ignore", ag.PrecisionWarning)
    ratios: list[tuple[float, Request]] = []
    tried = 0
    for number in numbers:
        one = request(number, options.seed, longest)
        found, looks, result = ratio(one, options.seed)
        ratios.append((found, one))
        tried += result.plan.method != "exact"
        if found > 1.0 or options.only is not None:
            because = f"{result.plan.method}: {result.plan.reason}"
            because += "" if looks is None else f"; looks alone {looks:.3f} of the time of exact"
            print(f"{found:5.2f}  {one}\n       {because}", flush=True)
    within = sum(found <= DEAR for found, _ in ratios)
    worst, dearest = max(ratios, key=lambda pair: pair[0])
    print(
        f"{within} of {len(ratios)} requests at most {DEAR} times exact "
        f"({100 * within / len(ratios):.1f} %), {tried} approximated, "
        f"median {statistics.median(found for found, _ in ratios):.2f}, "
        f"worst {worst:.2f}: {dearest}"
    )


if __name__ == "__main__":
    main()
