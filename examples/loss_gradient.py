"""Fit the weight of the logits by gradient descent: the paper's problem, in twenty lines.

``python examples/loss_gradient.py``; examples/loss_gradient.rs is the same in Rust.
"""

from __future__ import annotations

import numpy as np

import attngrad_rs as ag

TOKENS = 512
WIDTH = 8
STEPS = 20
# Half of the longest step from which the loss still falls: the curvature at the solution sets it.
STEP = 0.01
# The loss must fall to this part of the first: the exit code says whether the example works.
FALLS_TO = 1e-6


def matrix(rows: int, columns: int, seed: float) -> np.ndarray:
    """Some smooth numbers in [-1, 1]."""
    return np.sin(seed * np.arange(1, rows * columns + 1)).reshape(rows, columns)


def main() -> None:
    """Print the loss of every step."""
    A = matrix(TOKENS, WIDTH, 0.7)
    Y = np.eye(WIDTH)
    # The target is what some other weight gives, so a loss of zero can be reached.
    queries = A @ (4.0 * matrix(WIDTH, WIDTH, 1.9))
    E = ag.attention(queries, A, A, scale=1.0 / WIDTH)

    X = np.zeros((WIDTH, WIDTH))
    losses = []
    for step in range(STEPS):
        result = ag.loss_gradient(A, A, A, X, Y, E)
        rounding = result.certificate.absolute
        print(f"step {step:2}  loss {result.loss:.6f}  rounding of dL/dX {rounding:.1e}")
        losses.append(result.loss)
        X -= STEP * result.gradient
    # Written so that NaN fails.
    if not losses[-1] <= FALLS_TO * losses[0]:
        raise SystemExit(f"found a last loss of {losses[-1]:g}; expected {FALLS_TO:g} of the first")


if __name__ == "__main__":
    main()
