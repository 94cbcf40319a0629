"""What stands in for exp(S): the library's polynomials, and random features as a baseline."""

from __future__ import annotations

import math

import numpy as np

from .. import _core
from ..errors import RangeError
from ..features import LogitSample
from ..polynomials import MAX_DEGREE, ExpPolynomial
from .problems import Data, Matrix, generator

__all__ = [
    "MAX_DEGREE",
    "Fit",
    "favor",
    "favor_features",
    "sup_error_law",
]


class Fit:
    """Polynomials for the logits of one problem, chosen as ``factors`` chooses them.

    Attributes
    ----------
    sample : LogitSample
        The pairs that least squares fits to.
    """

    def __init__(self, data: Data, seed: int = 0) -> None:
        query, key = (np.ascontiguousarray(rows) for rows in (data.query, data.key))
        draw = int(generator("fit", seed).integers(2**63))
        self.sample = LogitSample.draw(query, key, data.scale, False, draw, _core.Options())

    def polynomial(self, kind: str, degree: int) -> ExpPolynomial | None:
        """P of a kind and degree; None where the logits are too large for any."""
        try:
            return ExpPolynomial(kind, self.sample.fit(kind, degree))
        except RangeError:
            return None


def favor(data: Data, features: int, seed: int) -> Matrix:
    """What stands for exp(S) with FAVOR+, (n, m)."""
    left, right = favor_features(data, features, seed)
    return np.asarray(left @ right.T)


def favor_features(data: Data, features: int, seed: int) -> tuple[Matrix, Matrix]:
    """FAVOR+ (Choromanski et al., arXiv 2009.14794): positive orthogonal random features.

    Of queries (n, N) and keys (m, N).
    φ(x) = exp(Wx − ‖x‖²/2), rows of W orthogonal in blocks of d and as long as normal vectors, of
    x = √s q and √s (k − mean); E φ(x)·φ(y) = exp(⟨x, y⟩). What is common to a row, or to all keys,
    is left out, as attention does not see it.
    """
    rng = generator("favor", features, seed)
    root = math.sqrt(data.scale)
    W = _orthogonal(rng, features, data.query.shape[1])
    left, right = root * data.query @ W.T, root * data.centred_key @ W.T
    right -= data.scale / 2.0 * np.sum(np.square(data.centred_key), axis=1, keepdims=True)
    left -= left.max(axis=1, keepdims=True)
    return np.asarray(np.exp(left)), np.asarray(np.exp(right - right.max()))


def _orthogonal(rng: np.random.Generator, rows: int, width: int) -> Matrix:
    blocks = []
    for _ in range(-(-rows // width)):
        q, r = np.linalg.qr(rng.standard_normal((width, width)))
        # The factorisation chooses signs by itself; with those of R, every rotation is as likely.
        q *= np.sign(np.diag(r))
        lengths = np.linalg.norm(rng.standard_normal((width, width)), axis=1)
        blocks.append(lengths[:, None] * q)
    return np.concatenate(blocks)[:rows]


def sup_error_law(reach: float, degree: int) -> float:
    """About the smallest |P(t) − e^t| on |t| ≤ R of a degree g: R^(g+1) / (2^g (g+1)!)."""
    exponent = (degree + 1) * math.log(reach) - degree * math.log(2.0) - math.lgamma(degree + 2)
    return math.exp(min(exponent, 700.0)) if reach else 0.0
