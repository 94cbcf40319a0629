"""Checkpoints: two generations in a folder, each written whole or not at all.

A file is a line of JSON, the states that it names, and a SHA-256 of both. Nothing in it is ever
executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

MAGIC = b"ATTNGRAD CHECKPOINT 1\n"
DIGEST = hashlib.sha256().digest_size
# The newest and the one before: a file that is damaged costs one interval.
NAMES = ("generation-0", "generation-1")


@dataclass
class Progress:
    """How far a run has come: the pass, and the states so far, which say how many shards."""

    stage: int = 0
    done: list[bytes] = field(default_factory=list)
    """States of the passes before, merged."""
    trees: list[tuple[int, bytes]] = field(default_factory=list)
    """Heights and states of the fold of this pass."""

    def to_bytes(self, problem: str, generation: int) -> bytes:
        """The file."""
        header = {
            "problem": problem, "generation": generation, "stage": self.stage,
            "done": [len(one) for one in self.done],
            "trees": [[height, len(one)] for height, one in self.trees],
        }  # fmt: skip
        body = b"".join([*self.done, *(one for _, one in self.trees)])
        text = MAGIC + json.dumps(header).encode() + b"\n" + body
        return text + hashlib.sha256(text).digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> tuple[Progress, dict[str, Any]]:
        """The progress, and the header; ValueError for what is no whole file."""
        text, digest = data[:-DIGEST], data[-DIGEST:]
        if not text.startswith(MAGIC) or hashlib.sha256(text).digest() != digest:
            raise ValueError("cut short or changed")
        line, _, body = text[len(MAGIC) :].partition(b"\n")
        header = json.loads(line)
        found, at = cls(stage=header["stage"]), 0
        for length in header["done"]:
            found.done.append(body[at : at + length])
            at += length
        for height, length in header["trees"]:
            found.trees.append((height, body[at : at + length]))
            at += length
        return found, header


class Checkpoint:
    """The folder of a run. ``problem`` says which run it is; another one's is refused."""

    def __init__(self, folder: str | os.PathLike[str], problem: str, seconds: float) -> None:
        self._folder = Path(folder)
        self._problem = problem
        self._seconds = seconds
        self._saved = time.monotonic()
        self._generation = 0

    def load(self) -> Progress:
        """The newest progress that is whole; none at all where the folder is new.

        Raises CheckpointError for that of another problem, and where files are there but none is
        whole.
        """
        found: list[tuple[int, Progress]] = []
        damaged = []
        for name in NAMES:
            path = self._folder / name
            try:
                progress, header = Progress.from_bytes(path.read_bytes())
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CheckpointError(f"{path}: found that it cannot be read ({error})") from error
            except (ValueError, KeyError, TypeError):
                damaged.append(path)
                continue
            if header["problem"] != self._problem:
                raise CheckpointError(
                    f"{path}: found a checkpoint of another problem, other options or another "
                    "version; expected that of this call: give another folder, or remove it"
                )
            found.append((header["generation"], progress))
        if not found and damaged:
            raise CheckpointError(
                f"{damaged[0]}: found a damaged checkpoint; expected a whole one: remove the "
                "folder to begin anew"
            )
        if not found:
            return Progress()
        self._generation, progress = max(found, key=lambda one: one[0])
        return progress

    @property
    def is_due(self) -> bool:
        """Whether the last one is long enough ago."""
        return time.monotonic() - self._saved >= self._seconds

    def save(self, progress: Progress) -> None:
        """Write the next generation in the place of the older one.

        Raises CheckpointError with the path for everything that the system refuses; the generations
        that were there are then untouched.
        """
        generation = self._generation + 1
        path = self._folder / NAMES[generation % len(NAMES)]
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(progress.to_bytes(self._problem, generation))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(self._folder)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CheckpointError(f"{path}: found that it cannot be written ({reason})") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        self._generation = generation
        self._saved = time.monotonic()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last; not every system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
