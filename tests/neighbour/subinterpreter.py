"""In a fresh process: import the library in a sub-interpreter, before or after the main one."""

import importlib
import json
import sys
import tempfile
from pathlib import Path

# Named differently from version to version; only create, run_string and destroy are needed.
NAMES = ("_interpreters", "_xxsubinterpreters")

CODE = """
import pathlib, warnings
warnings.simplefilter("ignore")  # NumPy's own about sub-interpreters
try:
    import attngrad_rs
    outcome = "imported"
except ImportError as error:
    outcome = f"ImportError: {{error}}"
pathlib.Path({path!r}).write_text(outcome)
"""


def interpreters() -> object:
    for name in NAMES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def main(first: bool) -> None:
    module = interpreters()
    if module is None:
        json.dump({"outcome": None}, sys.stdout)
        return
    if not first:
        importlib.import_module("attngrad_rs")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "outcome")
        interpreter = module.create()
        module.run_string(interpreter, CODE.format(path=str(path)))
        module.destroy(interpreter)
        json.dump({"outcome": path.read_text()}, sys.stdout)


main(sys.argv[1] == "first")
