"""The paper's definitions, literally, in NumPy: slow, readable, and the oracle of every test.

Alman & Song, "The Fine-Grained Complexity of Gradient Computation for Training Large Language
Models" (arXiv 2402.04497). ``docs/math.md`` derives the same formulas and numbers them.

- :class:`Problem`: every quantity of the paper as a matrix: S, u, alpha, f, h, o, c, q, r, p1, p2,
  p, the loss, and its gradients with respect to each weight and input.
- :class:`Row`: the same one row at a time, as the paper writes it: u_j0, f_j0, c_j0, ...
- :func:`vec`, :func:`kron`, :func:`tensor_trick`: the tensor trick, Kronecker products written out.
- :func:`attention`, :func:`attention_vjp`, :func:`attention_jvp`, :func:`attention_hvp`: softmax
  attention and its derivatives of both orders in the names of neural networks.

The paper's definition of many layers is :class:`Layer`, :func:`forward` and :func:`backward`; its
theorems, with all constants, are ``reference.degrees`` (which degree is enough),
``reference.upper_bound`` (errors, features and operations of the near-linear method),
``reference.moment_form`` (that method) and ``reference.reductions`` (attention from gradients, and
gradients from attention). docs/math.md, section 12, has the proofs.

Everything is computed in the dtype of the inputs: float32, float64, numpy.longdouble, complex (for
complex-step derivatives), or object arrays of exact or ball numbers (mpmath, python-flint). Memory
is O(n m), and O(n m d1 d2) where a Kronecker product is written out.

    >>> import numpy as np
    >>> from attngrad_rs import reference
    >>> one = np.ones((2, 1))
    >>> problem = reference.Problem(one, one, np.array([[0.0], [2.0]]), one[:1], one[:1], one)
    >>> problem.f
    array([[0.5, 0.5],
           [0.5, 0.5]])
    >>> float(problem.loss)
    0.0
"""

from .layers import Layer, backward, error_over_layers, forward
from .masks import Masks
from .problem import Problem, loss, loss_gradient
from .rows import Row, kron, tensor_trick, unvec, vec
from .sdpa import attention, attention_hvp, attention_jvp, attention_vjp

__all__ = [
    "Layer",
    "Masks",
    "Problem",
    "Row",
    "attention",
    "attention_hvp",
    "attention_jvp",
    "attention_vjp",
    "backward",
    "error_over_layers",
    "forward",
    "kron",
    "loss",
    "loss_gradient",
    "tensor_trick",
    "unvec",
    "vec",
]
