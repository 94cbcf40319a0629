"""Fit the weight of the logits by gradient descent: the paper's problem, in twenty lines.

``python examples/loss_gradient.py``; examples/loss_gradient.rs is the same in Rust.
"""

from __future__ import annotations

import numpy as np

import attngrad_rs as ag

TOKENS = 512
WIDTH = 8
STEPS = 20
STEP = 2.0


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
    for step in range(STEPS):
        result = ag.loss_gradient(A, A, A, X, Y, E)
        rounding = result.certificate.absolute
        print(f"step {step:2}  loss {result.loss:.6f}  rounding of dL/dX {rounding:.1e}")
        X -= STEP * result.gradient


if __name__ == "__main__":
    main()
