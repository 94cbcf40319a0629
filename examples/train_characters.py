"""Train a small model of characters from scratch, with exact gradients and with ``rtol=1e-2``.

    pip install '.[cli,torch]'
    python examples/train_characters.py --out docs/figures/characters.png

The model fills in hidden characters of a long text. Each layer and step takes the near-linear
method where its logits allow it and it is cheaper, which the library decides, and the exact one
elsewhere. The figure has both curves of losses, what each layer did in each step, and the table of
the monitor.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor, nn

import attngrad_rs.torch as agt
from attngrad_rs.experiments.plots import COLOURS, GREY, file_kind, rendered

WIDTH, HEADS, LAYERS = 32, 4, 3
# Of the weights of queries, keys and values at the beginning, beside that of Xavier: with 1 the
# spread of logits is a half, and it grows in training.
GAIN = 0.5
HIDDEN = 0.15
LEARNING_RATE = 3e-3
RTOL = 1e-2
# Losses with either gradient may differ by this part of themselves.
SLACK = 1e-2
INCHES = (10.5, 6.5)


class Characters(nn.Module):
    """An encoder: characters and their places in, the logits of every character out."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.inner = nn.Embedding(words + 1, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.outer = nn.Linear(WIDTH, words)
        for one in self.layers.layers:
            nn.init.xavier_uniform_(one.self_attn.in_proj_weight, GAIN)

    def forward(self, text: Tensor) -> Tensor:
        """Logits of each place."""
        place = torch.arange(text.shape[-1])[:, None]
        angle = place * torch.exp(-math.log(1e4) * torch.arange(0, WIDTH, 2) / WIDTH)
        places = torch.cat((angle.sin(), angle.cos()), dim=-1)
        found: Tensor = self.outer(self.layers(self.inner(text) + places))
        return found


@dataclass
class Run:
    """Losses of a training run, its seconds, and what its layers did."""

    losses: list[float]
    seconds: float
    seen: agt.Monitor


def train(tokens: int, steps: int, rtol: float | None) -> Run:
    """The same weights and characters for every tolerance."""
    text = "\n\n".join(topics.values())
    words = sorted(set(text))
    number = {word: place for place, word in enumerate(words)}
    characters = torch.tensor([number[word] for word in text])
    torch.manual_seed(0)
    model = Characters(len(words))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    losses = []
    start = time.perf_counter()
    with agt.enable(fallback=False, rtol=rtol), agt.monitor(model, every=10) as seen:
        for _ in range(steps):
            first = int(torch.randint(len(text) - tokens, ()))
            given = characters[None, first : first + tokens]
            hidden = torch.rand(given.shape) < HIDDEN
            optimizer.zero_grad()
            logits = model(given.masked_fill(hidden, len(words)))
            loss = nn.functional.cross_entropy(logits[hidden], given[hidden])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return Run(losses, time.perf_counter() - start, seen)


def degree(method: str) -> float:
    """The degree of a polynomial; NaN for the exact method."""
    name, _, number = method.partition(" ")
    return float(number) if name == "polynomial" else math.nan


def draw(figure: Any, exact: Run, near: Run) -> None:
    """Losses, the methods of the layers, and the table."""
    curves, methods, table = figure.subplots(3, 1, height_ratios=(4, 2, 2.4))
    label = f"exact, {exact.seconds:.0f} s"
    curves.plot(exact.losses, color=GREY, linewidth=3.0, alpha=0.6, label=label)
    label = f"rtol={RTOL:g}, {near.seconds:.0f} s"
    curves.plot(near.losses, color=COLOURS[4], linewidth=1.0, label=label)
    curves.set(ylabel="loss (nats)")
    curves.legend(frameon=False)
    for place, (layer, colour) in enumerate(zip(near.seen.layers.values(), COLOURS, strict=False)):
        degrees = [degree(method) + 0.1 * place for method in layer.methods]
        methods.plot(degrees, ".", markersize=3, color=colour, label=layer.name)
    methods.set(xlabel="step", ylabel="degree", ylim=(0.0, 8.0), xlim=curves.get_xlim())
    methods.set_title("polynomials in the place of exp; none where the gradient was exact", size=9)
    methods.legend(frameon=False, fontsize="x-small", ncols=LAYERS, loc="upper left")
    table.axis("off")
    text = f"exact\n{exact.seen}\n\nrtol={RTOL:g}\n{near.seen}"
    # As wide as the methods of its layers are many: the curves need not make room for it.
    table.text(0.0, 1.0, text, family="monospace", fontsize=5.5, va="top", in_layout=False)


def main() -> None:
    """Train twice, compare, draw."""
    parse = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parse.add_argument("--tokens", type=int, default=1024)
    parse.add_argument("--steps", type=int, default=10)
    parse.add_argument("--out", type=Path, help="a file for the figure, .png or .svg")
    given = parse.parse_args()
    runs = [train(given.tokens, given.steps, rtol) for rtol in (None, RTOL)]
    for name, run in zip(("exact", f"rtol={RTOL:g}"), runs, strict=True):
        print(f"{name}: loss {run.losses[0]:.4f} to {run.losses[-1]:.4f} in {run.seconds:.1f} s")
        print(run.seen)
    if given.out is not None:
        size, kind = INCHES, file_kind(str(given.out))
        given.out.write_bytes(
            rendered(lambda figure: draw(figure, *runs), size, kind, "characters")
        )
    pairs = zip(*(run.losses for run in runs), strict=True)
    found = max(abs(one - other) / one for one, other in pairs)
    print(f"losses differ by {found:.1e} of themselves at most")
    # Written so that NaN fails.
    if not (found <= SLACK and runs[0].losses[-1] < runs[0].losses[0]):
        raise SystemExit(f"expected losses that fall, and differ by {SLACK:g} at most")


if __name__ == "__main__":
    main()
