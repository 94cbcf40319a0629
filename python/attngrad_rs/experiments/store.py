"""The folder of results: refused before any work where it does not fit, and written atomically.

::

    experiments.json            what was run, by which version, on which machine
    NAME.TABLE.csv              the tables, one file each
    NAME.json                   configuration, tables with their checksums, verdicts
    NAME.svg                    the figure
    points/NAME/KEY.json        each point as soon as it is done, so that a run can be resumed
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from .._inputs.output import atomic_output
from ..errors import OutputError, ProblemFileError
from .base import Experiment, Point, Tables
from .cells import columns_of, decode, encode, from_csv, to_csv

__all__ = ["MANIFEST", "POINTS", "PointResult", "Store"]

MANIFEST = "experiments.json"
POINTS = "points"
# All files of a full run together, several times over.
NEEDED_BYTES = 32 * 2**20
# What `atomic_output` leaves behind when the process is killed.
LEFTOVER = (".attngrad-", ".tmp")
# A result file above this is none of ours.
MAX_BYTES = 2**27

PointResult = tuple[Tables, float]


class Store:
    """One folder of results of one setting.

    Parameters
    ----------
    folder : str
        Where the results are.

    Attributes
    ----------
    setting : mapping
        Version, size, machine: the same for all results in the folder.
    damaged : list of str
        Files that were found damaged, in the order in which they were met.
    """

    def __init__(self, folder: str, setting: Mapping[str, Any]) -> None:
        self.folder = folder
        self.setting = dict(setting)
        self.damaged: list[str] = []

    @classmethod
    def open(cls, folder: str, setting: Mapping[str, Any]) -> Store:
        """A folder to write to: an empty or missing one, or one of exactly this setting.

        Raises
        ------
        OutputError
            Before anything is changed: for a folder that cannot be made or written, whose disk is
            full, that holds other files, or results of another setting.
        """
        store = cls(folder, setting)
        if os.path.isdir(folder):
            store._require_same()
        elif os.path.lexists(folder):
            raise OutputError(f"{folder}: found a file; give the path of a folder", path=folder)
        store._make("")
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            raise OutputError(
                f"{folder}: found a disk with {free} bytes left; expected at least {NEEDED_BYTES}",
                path=folder,
            )
        store._write_json(MANIFEST, store.setting)
        store._clear_leftovers()
        return store

    @classmethod
    def read(cls, folder: str) -> Store:
        """A folder of results to read.

        Raises
        ------
        ProblemFileError
            If it holds no results.
        """
        path = os.path.join(folder, MANIFEST)
        try:
            setting = json.loads(_read(path))
        except (OSError, ValueError):
            raise ProblemFileError(
                f"{folder}: found no readable {MANIFEST}; give a folder that "
                "'attngrad experiments' has written"
            ) from None
        return cls(folder, setting if isinstance(setting, dict) else {})

    # -- points -----------------------------------------------------------------------------------

    def load_point(self, name: str, point: Point) -> PointResult | None:
        """A stored point; None where there is none, or a damaged one, which is then named."""
        path = self._point_path(name, point)
        try:
            content = _read(os.path.join(self.folder, path))
        except FileNotFoundError:
            return None
        except OSError:
            self.damaged.append(path)
            return None
        try:
            found = json.loads(content)
            body = found["body"]
            if found["sha256"] != _digest(body) or body["arguments"] != dict(point.arguments):
                raise ValueError
            tables = {
                table: [
                    dict(zip(part["columns"], map(decode, row), strict=True))
                    for row in part["rows"]
                ]
                for table, part in body["tables"].items()
            }
            return tables, float(found["seconds"])
        except (ValueError, KeyError, TypeError, AttributeError):
            self.damaged.append(path)
            return None

    def save_point(self, name: str, point: Point, tables: Tables, seconds: float) -> None:
        """Store a point, whole or not at all."""
        self._make(os.path.join(POINTS, name))
        texts = {}
        for table, rows in tables.items():
            columns = columns_of(rows)
            cells = [[encode(row.get(column)) for column in columns] for row in rows]
            texts[table] = {"columns": columns, "rows": cells}
        body = {"arguments": dict(point.arguments), "tables": texts}
        self._write_json(
            self._point_path(name, point),
            {"body": body, "sha256": _digest(body), "seconds": seconds},
        )

    # -- results ----------------------------------------------------------------------------------

    def save_tables(self, experiment: Experiment, tables: Tables) -> dict[str, Any]:
        """Write the CSV files; returns what NAME.json says about them."""
        described = {}
        for table, rows in tables.items():
            file, content = f"{experiment.name}.{table}.csv", to_csv(rows)
            self.write(file, content)
            described[table] = {
                "file": file,
                "rows": len(rows),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        return described

    def save_summary(self, name: str, summary: Mapping[str, Any]) -> None:
        """Write NAME.json."""
        self._write_json(f"{name}.json", summary)

    def load(self, name: str) -> tuple[dict[str, Any], Tables] | None:
        """NAME.json and the tables that it names; None where the experiment has not been run.

        Raises
        ------
        ProblemFileError
            Naming the file that is damaged.
        """
        file = f"{name}.json"
        path = os.path.join(self.folder, file)
        if not os.path.lexists(path):
            return None
        try:
            summary = json.loads(_read(path))
            tables = {}
            for table, part in summary["tables"].items():
                file = f"{name}.{table}.csv"
                content = _read(os.path.join(self.folder, file))
                if hashlib.sha256(content).hexdigest() != part["sha256"]:
                    raise ValueError
                tables[table] = from_csv(content)
            return summary, tables
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ProblemFileError(
                f"{os.path.join(self.folder, file)}: found a damaged result; "
                f"'attngrad experiments {name}' writes it again"
            ) from None

    def write(self, file: str, content: bytes) -> None:
        """Write one file of this folder, whole or not at all."""
        with atomic_output(os.path.join(self.folder, file), force=True) as out:
            out.write(content)

    # -- the folder -------------------------------------------------------------------------------

    def _require_same(self) -> None:
        try:
            there = [name for name in os.listdir(self.folder) if not _is_leftover(name)]
        except OSError as error:
            raise OutputError(
                f"{self.folder}: found a folder that cannot be read ({error.strerror})",
                path=self.folder,
            ) from None
        if not there:
            return
        if MANIFEST not in there:
            raise OutputError(
                f"{self.folder}: found other files; choose an empty folder, or a new one",
                path=self.folder,
            )
        try:
            found = json.loads(_read(os.path.join(self.folder, MANIFEST)))
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict):
            raise OutputError(
                f"{self.folder}: found a damaged {MANIFEST}; choose another folder",
                path=self.folder,
            )
        for name in dict.fromkeys((*self.setting, *found)):
            if found.get(name) != self.setting.get(name):
                raise OutputError(
                    f"{self.folder}: found results with {name} {found.get(name)!r}, where this "
                    f"run has {self.setting.get(name)!r}; choose another folder",
                    path=self.folder,
                )

    def _make(self, name: str) -> None:
        path = os.path.join(self.folder, name) if name else self.folder
        try:
            # The folder itself has to have a parent; what is inside is ours.
            if name:
                os.makedirs(path, exist_ok=True)
            elif not os.path.isdir(path):
                os.mkdir(path)
        except OSError as error:
            raise OutputError(
                f"{path}: found that it cannot be made ({error.strerror})", path=path
            ) from None

    def _clear_leftovers(self) -> None:
        for folder, _, files in os.walk(self.folder):
            for file in filter(_is_leftover, files):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, file))

    @staticmethod
    def _point_path(name: str, point: Point) -> str:
        return os.path.join(POINTS, name, f"{point.key}.json")

    def _write_json(self, file: str, value: Any) -> None:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
        self.write(file, text.encode() + b"\n")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError
    return content


def _digest(body: Any) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_leftover(name: str) -> bool:
    start, end = LEFTOVER
    return name.startswith(start) and name.endswith(end)
