"""Use the installed package as a stranger would: nothing of the source tree in sight.

    python tools/check_installed.py

Run it from another directory, in the environment to check. Ends with an AssertionError, or prints
one line.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np

import attngrad_rs as ag
from attngrad_rs.heads import load_heads

SOURCE = Path(__file__).resolve().parent.parent / "python"
# float64 sums of about a thousand terms against NumPy's, relative to the gradient's norm.
SLACK = 1e-11


def main() -> None:
    """Import from outside the tree; differentiate a bundled head; compare with the definitions."""
    package = Path(ag.__file__).resolve().parent
    assert SOURCE not in package.parents, f"{package}: imported from the source tree"
    assert metadata.version("attngrad-rs") == ag.__version__
    assert (package / "py.typed").is_file(), "py.typed is missing"
    head = load_heads()[0]
    problem = head.problem(np.float64)
    result = ag.loss_gradient(**problem)
    truth = ag.reference.loss_gradient(**problem)
    error = float(np.linalg.norm(result.gradient - truth) / np.linalg.norm(truth))
    assert error <= SLACK, f"dL/dX of {head.name}: relative error {error:.1e}"
    assert error <= result.certificate.relative < 1.0
    print(f"attngrad-rs {ag.__version__}: dL/dX of {head.model} {head.name}, error {error:.1e}")


if __name__ == "__main__":
    main()
