"""Training as people do it: no_grad, autocast, checkpoints, workers, processes, and the monitor."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

import attngrad_rs.torch as agt  # noqa: E402
from attngrad_rs import errors  # noqa: E402

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

F = torch.nn.functional
SECONDS = 60.0


class Block(torch.nn.Module):
    """Attention with a residual, as in a model."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.inner = torch.nn.Linear(width, 3 * width)
        self.outer = torch.nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        parts = self.inner(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        output = F.scaled_dot_product_attention(*parts, is_causal=True)
        return x + self.outer(output.transpose(-2, -3).flatten(-2))


def model(layers: int = 2) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(*(Block() for _ in range(layers)))


def batch(seed: int = 0, size: int = 4) -> Any:
    return torch.randn(size, 7, 12, generator=torch.Generator().manual_seed(seed))


def gradients(of: Any, x: Any, run: Any = None) -> list[Any]:
    of.zero_grad()
    (run or of)(x).square().mean().backward()
    return [one.grad.clone() for one in of.parameters()]


def test_a_training_run_is_torchs() -> None:
    """Ten steps with either attention end at the same losses."""

    def losses() -> list[float]:
        of = model()
        optimizer = torch.optim.SGD(of.parameters(), lr=0.1)
        found = []
        for step in range(10):
            optimizer.zero_grad()
            loss = of(batch(step)).square().mean()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    want = losses()
    with agt.enable(fallback=False):
        got = losses()
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0.0)
    assert want[-1] < want[0]


def test_no_grad() -> None:
    of = model()
    with agt.enable(fallback=False), torch.no_grad():
        got = of(batch())
    assert not got.requires_grad
    torch.testing.assert_close(got, of(batch()))
    with agt.enable(fallback=False), torch.inference_mode():
        torch.testing.assert_close(of(batch()), got)


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_autocast_computes_in_float32(half: str) -> None:
    dtype = getattr(torch, half)
    x = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        got = agt.scaled_dot_product_attention(x, x, x, is_causal=True)
        mixed = agt.scaled_dot_product_attention(x, x.float(), x.float(), is_causal=True)
        wide = agt.scaled_dot_product_attention(x.double(), x.double(), x.double())
    assert (got.dtype, mixed.dtype, wide.dtype) == (torch.float32, torch.float32, torch.float64)
    exact = x.detach().float()
    torch.testing.assert_close(
        got, F.scaled_dot_product_attention(exact, exact, exact, None, 0.0, True)
    )
    torch.testing.assert_close(got, mixed)
    (gradient,) = torch.autograd.grad(got.sum(), x)
    assert gradient.dtype == dtype
    with torch.autocast("cpu", dtype=dtype), pytest.raises(errors.DTypeError, match=r"^key: "):
        agt.scaled_dot_product_attention(x, x.double(), x)


# The first use of forward mode in a process compiles formulas of torch.
@pytest.mark.filterwarnings("ignore:`torch.jit.script.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_transforms_under_autocast(half: str) -> None:
    """Single precision inside, as without a transform, and a gradient of the dtype of the input."""
    dtype = getattr(torch, half)
    x, along = torch.randn(2, 2, 9, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    mask = torch.zeros(9, 9, dtype=dtype).masked_fill_(torch.eye(9).bool(), -1.0)

    def run(x: Any) -> Any:
        with torch.autocast("cpu", dtype=dtype):
            return agt.scaled_dot_product_attention(x, x, x, mask.to(x.dtype))

    single, exact = x.float(), torch.func.jvp(run, (x.float(),), (along.float(),))
    output, tangent = torch.func.jvp(run, (x,), (along,))
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, exact[0])
    torch.testing.assert_close(tangent, exact[1])
    got, want = (torch.func.grad(lambda x: run(x).square().sum())(one) for one in (x, single))
    assert got.dtype == dtype
    # The parts of query, key and value are each rounded, and so is their sum.
    slack = 4 * torch.finfo(dtype).eps * want.abs().max()
    assert bool(((got.float() - want).abs() <= slack).all())


def test_a_model_under_autocast() -> None:
    of = model()
    with agt.enable(fallback=False), torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(of, batch())
    assert all(bool(one.isfinite().all()) for one in found)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints(use_reentrant: bool) -> None:
    of = model()

    def run(x: Any) -> Any:
        for block in of:
            x = checkpoint(block, x, use_reentrant=use_reentrant)
        return x

    x = batch().requires_grad_()
    with agt.enable(fallback=False), agt.monitor(of) as seen:
        torch.testing.assert_close(gradients(of, x, run), gradients(of, x), rtol=0, atol=0)
    # Each block once more for its gradient, in the run with checkpoints.
    calls = [(len(layer.forward), len(layer.backward)) for layer in seen.layers.values()]
    assert calls == [(3, 2), (3, 2)]


class Attended(Dataset[Any]):
    """Samples that are made by attention, in a worker."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, place: int) -> Any:
        x = batch(place)
        return agt.scaled_dot_product_attention(x, x, x)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_of_a_data_loader() -> None:
    """After a call of the parent, whose pool of threads they do not have."""
    want = [Attended()[place] for place in range(4)]
    loader = DataLoader(Attended(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    for got, one in zip(loader, want, strict=True):
        torch.testing.assert_close(got, one, rtol=0, atol=0)


def train_in_parts(rank: int, meeting: str, results: Any) -> None:
    """One of two processes, each with half of a batch."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        of = torch.nn.parallel.DistributedDataParallel(model())
        with agt.enable(fallback=False):
            found = gradients(of, batch()[2 * rank : 2 * rank + 2])
        if rank == 0:
            results.put([one.numpy() for one in found])
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without it")
def test_data_parallel_training(tmp_path: Path) -> None:
    """The mean over two processes is the gradient of the whole batch. Takes some 20 seconds."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    meeting = str(tmp_path / "meeting")
    parts = [
        context.Process(target=train_in_parts, args=(rank, meeting, results)) for rank in range(2)
    ]
    for part in parts:
        part.start()
    try:
        got = results.get(timeout=SECONDS)
    finally:
        for part in parts:
            part.join(SECONDS)
            part.kill()
    assert [part.exitcode for part in parts] == [0, 0]
    want = gradients(model(), batch())
    torch.testing.assert_close([torch.from_numpy(one) for one in got], want)


def test_the_monitor_tells_layers_apart() -> None:
    of = model(3)
    with agt.enable(), agt.monitor(of, every=2) as seen:
        for step in range(3):
            gradients(of, batch(step))
    assert list(seen.layers) == ["0", "1", "2"]
    for layer in seen.layers.values():
        assert (layer.query, layer.key, layer.dtype) == ((4, 3, 7, 4), (4, 3, 7, 4), "float32")
        assert layer.is_causal
        assert len(layer.forward) == len(layer.backward) == len(layer.errors) == 3
        assert len(layer.spreads) == 2
        assert min(*layer.forward, *layer.backward, *layer.errors, *layer.spreads) > 0.0
    lines = str(seen).splitlines()
    assert len(lines) == 4
    assert lines[0].split()[:3] == ["layer", "query", "keys"]
    assert lines[2].split()[:5] == ["1", "4x3x7x4", "7", "float32", "3/3"]


def test_the_monitor_sees_nothing_of_others() -> None:
    of = model(1)
    with agt.enable():
        with agt.monitor(of) as seen:
            pass
        gradients(of, batch())
    assert not seen.layers
    assert str(seen).startswith("layer")


def test_a_layer_that_fails_is_left() -> None:
    of = model(1)
    with agt.enable(fallback=False), agt.monitor(of) as seen:
        with pytest.raises(errors.NonFiniteError):
            of(batch() * float("nan"))
        gradients(of, batch())
        x = batch()
        agt.scaled_dot_product_attention(x, x, x)
    assert list(seen.layers) == ["0", ""]


def test_spread_of_a_shared_head() -> None:
    """The key of a query head is that of its group."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 50, 8, generator=generator)
    key = torch.stack([torch.randn(50, 8, generator=generator) * size for size in (0.0, 5.0)])[None]
    with agt.monitor(every=1) as seen:
        for _ in range(8):
            agt.scaled_dot_product_attention(query, key, key, enable_gqa=True)
    spreads = seen.layers[""].spreads
    assert {round(one) for one in spreads} == {0, 5}


def test_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    of = model(2)
    with agt.enable(), agt.monitor(of) as seen:
        gradients(of, batch())
    figure = seen.figure(tmp_path / "layers.png")
    assert (tmp_path / "layers.png").stat().st_size > 0
    assert [axes.get_ylabel() for axes in figure.axes] == ["ms", "error", "spread"]


def test_a_figure_needs_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with agt.monitor() as seen, pytest.raises(errors.MissingDependencyError, match="matplotlib"):
        seen.figure()


def test_nothing_else_imports_torch() -> None:
    import subprocess

    code = "import sys, attngrad_rs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SECONDS)
