"""The near-linear method against torch, the exact method and the machine; uniform entries."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import attngrad_rs as ag
import peers
from conftest import THREADS
from pairing import measured

Report = Callable[[str], None]
Problem = dict[str, Any]
pytestmark = pytest.mark.full

D = 16
LONG = 131072
# Quadratic methods are measured here and scaled by n²: longer ones would take minutes a run.
SCALED = 32768
ROUNDS = 5
PAUSE = 0.05
# Calls in a row after each run of the peers, whose mean counts: a peer works for seconds, a call
# of ours for a tenth of one, and the first of them still pays for the peer's caches.
CALLS = 5
# Seeds of a certificate's sample.
DRAWS = 25
# The worst of many noisy medians is too high: those that look worst are measured again, longer.
SUSPECTS, LONGER = 3, 5
LENGTHS = [2**power for power in range(13, 21)]


def uniform(n: int, entries: float = 1.0, d: int = D, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)

    def side() -> np.ndarray[Any, Any]:
        return rng.uniform(-entries, entries, (n, d)).astype(np.float32)

    eye = np.eye(d, dtype=np.float32)
    arrays = {"A1": side(), "A2": side(), "A3": side(), "X": eye, "Y": eye}
    return arrays | {"E": rng.standard_normal((n, d)).astype(np.float32)}


def seconds(run: Callable[[], object]) -> float:
    time.sleep(PAUSE)
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def relative(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.mark.parametrize(
    "options",
    [{"method": "polynomial", "degree": 2}, {"rtol": 1e-2}, {"rtol": 1e-3}],
    ids=["degree 2", "rtol 1e-2", "rtol 1e-3"],
)
def test_against_the_quadratic(
    benchmark: BenchmarkFixture, report: Report, options: dict[str, Any]
) -> None:
    pytest.importorskip("torch")
    long, short = uniform(LONG), uniform(SCALED)
    torch = peers.torch_query_gradient(short, THREADS)
    exact = lambda: ag.loss_gradient(**short, threads=THREADS)  # noqa: E731
    ours = lambda: ag.loss_gradient(**long, **options, threads=THREADS)  # noqa: E731
    scale = (LONG / SCALED) ** 2
    result = ours()

    def calls() -> None:
        for _ in range(CALLS):
            ours()

    torch(), exact()
    against_torch, against_exact = [], []

    def peers_first() -> None:
        against_torch.append(scale * seconds(torch))
        against_exact.append(scale * seconds(exact))
        time.sleep(PAUSE)

    times = [total / CALLS for total in measured(benchmark, calls, ROUNDS, peers_first)]
    ratios = [
        statistics.median(peer / own for peer, own in zip(all_, times, strict=True))
        for all_ in (against_torch, against_exact)
    ]
    certificate = result.certificate
    report(
        f"near-linear n={LONG} {options}: {1e3 * statistics.median(times):.0f} ms,"
        f" {ratios[0]:.0f} x torch flash, {ratios[1]:.0f} x our exact"
        f" (both measured at n={SCALED}, times {scale:.0f});"
        f" {result.plan.method} degree {result.plan.degree}, {result.plan.samples} rows,"
        f" {certificate.kind} relative {certificate.relative:.1e}"
    )
    benchmark.extra_info.update(torch=ratios[0], exact=ratios[1])


@pytest.mark.parametrize("options", [{"method": "polynomial", "degree": 2}, {"rtol": 1e-2}])
def test_slope(benchmark: BenchmarkFixture, report: Report, options: dict[str, Any]) -> None:
    """Log-log slope of time over n, and the share of the peak that the longest reaches."""
    medians = []
    for n in LENGTHS:
        given = uniform(n)
        run = lambda given=given: ag.loss_gradient(**given, **options, threads=THREADS)  # noqa: E731
        run()
        if n < LENGTHS[-1]:
            medians.append(statistics.median(seconds(run) for _ in range(ROUNDS)))
        else:
            medians.append(statistics.median(measured(benchmark, run, ROUNDS)))
    slope = float(np.polyfit(np.log(LENGTHS), np.log(medians), 1)[0])
    peak = peers.gemm_peak("float32", THREADS)
    features, inner = math.comb(D + 3, 3), math.comb(D + 2, 2)
    flops = 2 * LENGTHS[-1] * (2 * features + inner) * (D + 1)
    rate = flops / medians[-1] * 1e-9
    report(
        f"near-linear slope {options}: {slope:.3f} from n={LENGTHS[0]} to {LENGTHS[-1]};"
        f" {medians[-1]:.2f} s at the end, {rate:.0f} GF/s of moments"
        f" = {rate / peak:.0%} of the GEMM peak {peak:.0f}; all {[round(t, 4) for t in medians]}"
    )


def test_errors(benchmark: BenchmarkFixture, report: Report) -> None:
    """Measured errors against the exact gradient: in float64 at n = 4096, and of the fast path."""
    given = uniform(4096)
    wide = {name: array.astype(np.float64) for name, array in given.items()}
    want = ag.loss_gradient(**wide).gradient
    errors = {
        degree: relative(
            ag.loss_gradient(**wide, method="polynomial", degree=degree).gradient, want
        )
        for degree in (1, 2, 3, 4)
    }
    wider = {name: array.astype(np.float64) for name, array in uniform(4096, 2.0).items()}
    far = relative(
        ag.loss_gradient(**wider, method="polynomial", degree=3).gradient,
        ag.loss_gradient(**wider).gradient,
    )
    long = uniform(LONG)
    single = relative(
        ag.loss_gradient(**long, method="polynomial", degree=2).gradient,
        ag.loss_gradient(**long).gradient,
    )
    benchmark.pedantic(
        lambda: ag.loss_gradient(**given, method="polynomial", degree=2), rounds=ROUNDS
    )
    listed = ", ".join(f"degree {degree}: {error:.1e}" for degree, error in errors.items())
    report(
        f"near-linear errors n=4096: {listed}; degree 3 at entries in [-2, 2]: {far:.1e};"
        f" degree 2 in float32 at n={LONG}: {single:.1e}"
    )


@pytest.mark.parametrize("entries", [0.1, 0.25, 0.5, 1.0])
def test_certificates(benchmark: BenchmarkFixture, report: Report, entries: float) -> None:
    """Bound over true error for each kind, at n = 4096 and degree 2.

    Of estimates, gradients that took the correction and those that did not are told apart.
    """
    given = uniform(4096, entries)
    wide = {name: array.astype(np.float64) for name, array in given.items()}
    want = ag.loss_gradient(**wide).gradient
    plain = ag.loss_gradient(**wide, method="polynomial", degree=2).gradient
    found: dict[str, list[float]] = {}
    for kind in ("rigorous", "statistical", "estimated"):
        for draw in range(DRAWS if kind != "rigorous" else 1):
            result = ag.loss_gradient(
                **wide, method="polynomial", degree=2, certificate=kind, rng=draw
            )
            error = float(np.linalg.norm(result.gradient - want))
            corrected = kind == "estimated" and not np.array_equal(result.gradient, plain)
            title = f"{kind}, corrected" if corrected else kind
            found.setdefault(title, []).append(result.certificate.absolute / error)
    ratios = {title: statistics.median(tight) for title, tight in found.items()}
    benchmark.pedantic(
        lambda: ag.loss_gradient(**given, method="polynomial", degree=2), rounds=ROUNDS
    )
    listed = ", ".join(
        f"{title} {ratio:.3g} ({len(found[title])})" for title, ratio in ratios.items()
    )
    report(f"certificate over error, n=4096, entries {entries}: {listed}")


SWEEP = [
    (n, d, entries, rtol)
    for n in (4096, 16384)
    for d in (8, 16, 32)
    for entries in (0.5, 1.0, 2.0)
    for rtol in (1e-1, 1e-2, 1e-3)
]


def paired(
    one: Callable[[], object], other: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Median seconds of ``one``, and of its ratios to ``other`` in pairs of either order."""
    ours, ratios = [], []
    for turn in range(rounds):
        first, second = (one, other) if turn % 2 else (other, one)
        times = {id(call): seconds(call) for call in (first, second)}
        ours.append(times[id(one)])
        ratios.append(times[id(one)] / times[id(other)])
    return statistics.median(ours), statistics.median(ratios)


Rivals = dict[Any, tuple[Callable[[], object], Callable[[], object]]]


def worst(ratios: dict[Any, float], rivals: Rivals) -> str:
    """The largest ratios, once more from many pairs."""
    suspects = sorted(ratios, key=lambda problem: -ratios[problem])[:SUSPECTS]
    again = {problem: paired(*rivals[problem], LONGER * ROUNDS)[1] for problem in suspects}
    return ", ".join(f"{again[problem]:.2f} at {problem}" for problem in suspects)


@pytest.mark.timeout(900)
def test_the_planner(benchmark: BenchmarkFixture, report: Report) -> None:
    """Predicted time over the truth; auto against exact and against the best fixed degree.

    Ratios are medians of interleaved pairs, as everywhere; the best degree is found first.
    """
    right, chosen = 0, 0
    ratios: dict[str, dict[Any, float]] = {"exact": {}, "the best fixed degree": {}}
    rivals: dict[str, Rivals] = {rival: {} for rival in ratios}
    for problem in SWEEP:
        n, d, entries, rtol = problem
        given = uniform(n, entries, d)

        def run(given: Problem = given, **options: Any) -> Any:
            return ag.loss_gradient(**given, **options, threads=THREADS)

        plan = ag.plan_loss_gradient(**given, rtol=rtol, threads=THREADS)
        auto = partial(run, rtol=rtol)
        chosen += auto().plan.method == "polynomial"
        run()
        fixed = {}
        for degree in (1, 2, 3):
            one = partial(run, method="polynomial", degree=degree, rtol=rtol)
            try:
                one()
            except ag.ToleranceError:
                continue
            fixed[degree] = (statistics.median(seconds(one) for _ in range(3)), one)
        against = {"exact": run}
        if fixed:
            _, against["the best fixed degree"] = min(fixed.values(), key=lambda found: found[0])
        for rival, other in against.items():
            own, ratios[rival][problem] = paired(auto, other, ROUNDS)
            rivals[rival][problem] = auto, other
            if rival == "exact":
                right += max(own / plan.predicted_seconds, plan.predicted_seconds / own) <= 1.5
    benchmark.pedantic(lambda: None, rounds=1)
    listed = "; ".join(
        f"auto over {rival} at worst {worst(ratios[rival], rivals[rival])}" for rival in ratios
    )
    report(
        f"planner, {len(SWEEP)} problems (n, d, entries, rtol): predicted within 1.5 of the truth"
        f" in {right / len(SWEEP):.0%}; near-linear chosen {chosen} times; {listed}"
    )
