"""Partial states: the near-linear gradient over shards of the tokens, in any process or machine.

A `Frame` is fixed first, from some rows of both sides. It makes a `KeyState` of every shard of
keys; with all of these merged, a `QueryState` of every shard of queries; and with those merged, for
outputs of the key side, a `GradientState` of every shard of keys. ``Frame.gather`` makes the result
of them. Any split, merged in any tree, gives the whole to rounding; the same split and tree give
the same bits. `Fold` merges in the order of the shards along one tree.

`SoftmaxState` is the state of the exact method: a block of queries over some of the keys.
"""

from ._fold import Fold
from ._frame import Frame, GradientState, KeyState, QueryState
from ._softmax import PartialGradients, SoftmaxState

__all__ = [
    "Fold", "Frame", "GradientState", "KeyState", "PartialGradients", "QueryState", "SoftmaxState",
]  # fmt: skip
