"""Polynomial features: φ(q) · φ(k) = P(⟨q, k⟩) for a polynomial P near the exponential.

==================  ================================================================================
``index_set``       which monomials: downward-closed sets of exponents, and their weights
``transform``       which coordinates: centred, and balanced between queries and keys
``monomials``       the features of given coordinates, one multiplication each
``sampling``        logits of sampled pairs, and the error of a polynomial on them
``fit``             which polynomial: its interval, its samples, its smallest degree
``exp_features``    all of it behind ``fit``, ``transform_query`` and ``transform_key``
==================  ================================================================================
"""

from .exp_features import ExpFeatures

__all__ = ["ExpFeatures"]
