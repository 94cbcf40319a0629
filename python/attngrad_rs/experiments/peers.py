"""What the library is timed against: torch's flash attention, and dense NumPy."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from . import machine
from .problems import Data

__all__ = ["NUMPY", "TORCH", "numpy_gradient", "torch_gradient", "torch_is_there"]

TORCH, NUMPY = "torch flash", "dense NumPy"

Run = Callable[[], npt.NDArray[Any]]


def torch_is_there() -> bool:
    """Whether torch can be imported."""
    return _torch() is not None


def _torch() -> Any:
    try:
        return import_module("torch")
    except ImportError:
        return None


def torch_gradient(
    data: Data, dtype: Any, *, is_causal: bool = False, threads: int | None = None
) -> Run:
    """dL/dX by autograd through flash attention, on all threads that the library would use.

    Keys and values are made ready beforehand, and only X asks for a gradient: torch has no less to
    do for dL/dX.
    """
    torch = _torch()
    attention = import_module("torch.nn.attention")
    torch.set_num_threads(machine.thread_count(threads))
    a1, key, value, target = (
        torch.from_numpy(array.astype(dtype))
        for array in (data.query, data.key, data.value, data.target)
    )
    X = torch.eye(data.query.shape[1], dtype=a1.dtype, requires_grad=True)

    def run() -> npt.NDArray[Any]:
        X.grad = None
        with attention.sdpa_kernel([attention.SDPBackend.FLASH_ATTENTION]):
            output = torch.nn.functional.scaled_dot_product_attention(
                (a1 @ X)[None, None], key[None, None], value[None, None], scale=data.scale,
                is_causal=is_causal,
            )[0, 0]  # fmt: skip
        output.backward(output.detach() - target)
        return np.asarray(X.grad)

    return run


def numpy_gradient(
    data: Data, dtype: Any, *, is_causal: bool = False, threads: int | None = None
) -> Run:
    """dL/dX by dense arrays, n × m, the textbook way; its products on as many threads."""
    query, key, value, target = (
        array.astype(dtype) for array in (data.query, data.key, data.value, data.target)
    )
    scale = np.dtype(dtype).type(data.scale)
    count = machine.thread_count(threads)
    unseen = np.triu(np.ones((len(query), len(key)), dtype=bool), 1) if is_causal else None

    def gradient() -> npt.NDArray[Any]:
        f = scale * query @ key.T
        if unseen is not None:
            f[unseen] = -np.inf
        f -= f.max(axis=1, keepdims=True)
        np.exp(f, out=f)
        f /= f.sum(axis=1, keepdims=True)
        output = f @ value
        c = output - target
        p = c @ value.T
        p -= np.sum(c * output, axis=1, keepdims=True)
        p *= f
        return np.asarray(scale * query.T @ (p @ key))

    def run() -> npt.NDArray[Any]:
        with machine.blas_threads(count):
            return gradient()

    return run
