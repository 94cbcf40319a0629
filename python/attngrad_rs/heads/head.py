"""One attention head on one text, and the loss-gradient problem it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._inputs.arrays import FLOATS, Array
from ..errors import DTypeError

__all__ = ["Head"]


@dataclass(frozen=True, eq=False)
class Head:
    """Queries, keys and values of one trained head."""

    name: str
    """``layer_head``, or ``layer_group.member`` where several query heads share keys and values."""
    model: str
    """``"minilm"`` or ``"smollm2"``."""
    query: Array
    """(n, d) of float16, as the model multiplies them, after biases and after the rotary embedding.
    Read-only, as all arrays here.
    """
    key: Array
    """(n, d) of float16, as ``query``."""
    value: Array
    """(n, d) of float16, as the model weighs them."""
    is_causal: bool
    """Whether the model lets a token see only itself and the tokens before it."""
    scale: float
    """1/√d, the factor that the model puts before the softmax."""
    tokens: Array
    """(n,) of int32: the token of each row, in the model's own vocabulary."""
    source: str
    """The weights and the text, and remarks on both."""

    @property
    def logit_spread(self) -> float:
        """Standard deviation of scale·⟨q_i, k_j − mean k⟩ over all pairs (i, j).

        Centring the keys shifts each row of logits by a constant, which the softmax does not see.
        All n² pairs count, for a causal head too. From the two d × d second moments: O(n d²).
        """
        query = self.query.astype(np.float64)
        key = self.key.astype(np.float64)
        key -= key.mean(axis=0)
        # mean over pairs of ⟨q, k⟩² = trace(mean q qᵀ · mean k kᵀ); the mean itself is zero.
        square = np.vdot(query.T @ query, key.T @ key) / (len(query) * len(key))
        return self.scale * math.sqrt(max(float(square), 0.0))

    def problem(self, dtype: npt.DTypeLike = np.float64) -> dict[str, Any]:
        """The arguments of ``loss_gradient`` for this head: ``loss_gradient(**head.problem())``.

        A1 = q, A2 = k, A3 = v and X = Y = I, so that A1 X A2ᵀ are the trained logits and A3 Y the
        trained values. dL/dX is then the direction in which a d × d form between query and key
        would lower the loss. (The model's own inputs are hidden states, 384 or 576 wide, with
        W_Q W_Kᵀ for X. Biases and the rotary embedding, which depends on the token's place, stand
        between the two, so no constant X gives these logits from hidden states alone.)

        The target E is the value vector of the *next* token; the last row, which has none, is
        given its own. It makes the loss a regression that means something: how well does what the
        head gathers at a token predict what the head will be offered next? The residual is then
        neither random nor parallel to the output, as it would be with E = 0. For the loss of the
        output alone, replace it: ``problem["E"] = np.zeros_like(problem["E"])``.

        Parameters
        ----------
        dtype : float32 or float64
            The dtype of all arrays. Both hold the float16 numbers exactly.

        Returns
        -------
        dict
            A1, A2, A3, E (n, d), X, Y (d, d), scale (1/√d) and is_causal; new arrays.

        Raises
        ------
        DTypeError
            For any other dtype.
        """
        if dtype not in FLOATS:
            raise DTypeError(f"dtype: found {dtype!r}; use numpy.float32 or numpy.float64")
        width = self.query.shape[1]
        return {
            "A1": self.query.astype(dtype),
            "A2": self.key.astype(dtype),
            "A3": self.value.astype(dtype),
            "X": np.eye(width, dtype=dtype),
            "Y": np.eye(self.value.shape[1], dtype=dtype),
            "E": np.concatenate([self.value[1:], self.value[-1:]]).astype(dtype),
            "scale": self.scale,
            "is_causal": self.is_causal,
        }
