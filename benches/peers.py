"""What we are compared with: torch's flash attention on the CPU, forced, and plain NumPy.

A peer that is not installed is skipped by the caller. None of these is a dependency.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from attngrad_rs.experiments import machine

# Of the matrix product that is the machine's limit, and how often torch's is timed.
GEMM, GEMM_ROUNDS = 4096, 5

Array = npt.NDArray[np.floating[Any]]


@functools.cache
def gemm_peak(dtype: str, threads: int) -> float:
    """GF/s of the faster of NumPy's and torch's product of two square matrices."""
    return max(machine.gemm_peak(dtype, threads, GEMM), _torch_peak(dtype, threads)) * 1e-9


def _torch_peak(dtype: str, threads: int) -> float:
    """Operations per second; none where torch is not installed."""
    try:
        import torch
    except ImportError:
        return 0.0
    torch.set_num_threads(threads)
    left, right = (torch.rand(GEMM, GEMM, dtype=getattr(torch, dtype)) for _ in range(2))
    seconds = []
    for _ in range(GEMM_ROUNDS):
        start = time.perf_counter()
        torch.matmul(left, right)
        seconds.append(time.perf_counter() - start)
    return 2.0 * float(GEMM) ** 3 / min(seconds)


def numpy_loss_gradient(problem: dict[str, Any]) -> Callable[[], Array]:
    """dL/dX by dense NumPy, n × m arrays and all; the textbook way."""
    A1, A2, A3, X, Y, E = (problem[name] for name in ("A1", "A2", "A3", "X", "Y", "E"))
    scale = A1.dtype.type(1 / A2.shape[1])

    def run() -> Array:
        logits = scale * (A1 @ X @ A2.T)
        logits -= logits.max(axis=1, keepdims=True)
        f = np.exp(logits, out=logits)
        f /= f.sum(axis=1, keepdims=True)
        h = A3 @ Y
        o = f @ h
        c = o - E
        p = c @ h.T
        p -= np.einsum("ij,ij->i", c, o)[:, None]
        p *= f
        return scale * (A1.T @ (p @ A2))

    return run


def _torch_head(torch: Any, array: Array, requires_grad: bool) -> Any:
    """A leaf tensor; its view as one batch of one head is what SDPA takes."""
    return torch.from_numpy(array).clone().requires_grad_(requires_grad)


def torch_query_gradient(problem: dict[str, Any], threads: int) -> Callable[[], Any]:
    """Forward and backward of SDPA for the query alone; the products around it are left out.

    Torch gets query, key and value ready made, and its gradient stops at the query: less than the
    loss gradient, never more.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    torch.set_num_threads(threads)
    A1, A2, A3, X, Y, E = (problem[name] for name in ("A1", "A2", "A3", "X", "Y", "E"))
    query = _torch_head(torch, A1 @ X, True)
    key, value, target = (_torch_head(torch, array, False) for array in (A2, A3 @ Y, E))
    scale = 1 / A2.shape[1]

    def run() -> Any:
        query.grad = None
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
            output = torch.nn.functional.scaled_dot_product_attention(
                query[None, None], key[None, None], value[None, None], scale=scale
            )[0, 0]
        output.backward(output.detach() - target)
        return query.grad

    return run


def torch_all_gradients(problem: dict[str, Any], threads: int) -> Callable[[], Any]:
    """dX, dY, dA1, dA2 and dA3 of the attention loss by autograd, through flash SDPA."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    torch.set_num_threads(threads)
    names = ("A1", "A2", "A3", "X", "Y")
    A1, A2, A3, X, Y = leaves = [_torch_head(torch, problem[name], True) for name in names]
    target = torch.from_numpy(problem["E"])
    scale = 1 / problem["A2"].shape[1]

    def run() -> Any:
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
            output = torch.nn.functional.scaled_dot_product_attention(
                (A1 @ X)[None, None], A2[None, None], (A3 @ Y)[None, None], scale=scale
            )[0, 0]
        loss = 0.5 * (output - target).square().sum()
        return torch.autograd.grad(loss, leaves)

    return run


def torch_heads(given: dict[str, Any], threads: int, **options: Any) -> Callable[[], Any]:
    """Forward and backward of flash SDPA for query, key and value, (B, H, L, E) each."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    torch.set_num_threads(threads)
    names = ("query", "key", "value")
    leaves = [torch.from_numpy(given[name]).clone().requires_grad_() for name in names]
    dout = torch.from_numpy(given["dout"])

    def run() -> Any:
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
            output = torch.nn.functional.scaled_dot_product_attention(*leaves, **options)
        return torch.autograd.grad(output, leaves, dout)

    return run


def torch_second(
    given: dict[str, Any], along: dict[str, Any], threads: int, **options: Any
) -> Callable[[], Any]:
    """Forward, backward and double backward of SDPA's n × m path, the only one that has it."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    torch.set_num_threads(threads)
    leaves = [torch.from_numpy(array).clone().requires_grad_() for array in given.values()]
    *heads, dout = leaves
    directions = [torch.from_numpy(array) for array in along.values()]

    def run() -> Any:
        with sdpa_kernel([SDPBackend.MATH]):
            output = torch.nn.functional.scaled_dot_product_attention(*heads, **options)
            first = torch.autograd.grad(output, heads, dout, create_graph=True)
            return torch.autograd.grad(first, leaves, directions)

    return run


def numpy_heads(given: dict[str, Any]) -> Callable[[], Any]:
    """Attention and its gradients by dense NumPy."""
    query, key, value, dout = (given[name] for name in ("query", "key", "value", "dout"))
    scale = query.dtype.type(1 / np.sqrt(query.shape[-1]))

    def run() -> Any:
        f = scale * (query @ np.swapaxes(key, -1, -2))
        f -= f.max(axis=-1, keepdims=True)
        np.exp(f, out=f)
        f /= f.sum(axis=-1, keepdims=True)
        output = f @ value
        p = dout @ np.swapaxes(value, -1, -2)
        p -= np.sum(dout * output, axis=-1, keepdims=True)
        p *= f
        p *= scale
        return output, p @ key, np.swapaxes(p, -1, -2) @ query, np.swapaxes(f, -1, -2) @ dout

    return run
