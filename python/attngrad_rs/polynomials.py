"""Polynomials for exp on an interval, with guaranteed bounds of their error.

====================  ============================================================================
kind                  what it is best at, for its degree (``docs/math.md``, section 7)
====================  ============================================================================
``taylor``            the derivatives at the middle of the interval (7.5)
``chebyshev``         nothing, but near ``minimax``: equal to exp at the zeros of T_(g+1) (7.6)
``minimax``           the largest abs(P(t) - exp(t)) is the least there is (7.7)
``minimax_relative``  the largest abs(P(t) / exp(t) - 1) is the least there is (7.7)
``least_squares``     the least weighted sum of (P(t_i) - exp(t_i))**2 over samples (7.8)
====================  ============================================================================

    >>> from attngrad_rs import polynomials
    >>> p = polynomials.exp_polynomial("minimax_relative", 2, (-1.0, 1.0))
    >>> low, high = p.ratio_bounds()
    >>> print(f"P(t)/exp(t) lies within {low:.3f} and {high:.3f}")
    P(t)/exp(t) lies within 0.960 and 1.040
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from . import _core
from ._inputs import options
from ._inputs.arrays import read_array
from ._inputs.options import MAX_DEGREE
from .errors import OptionError, ShapeError

__all__ = ["KINDS", "MAX_DEGREE", "ExpPolynomial", "exp_polynomial"]

Kind: TypeAlias = Literal["taylor", "chebyshev", "minimax", "minimax_relative", "least_squares"]
KINDS = get_args(Kind)

Doubles: TypeAlias = npt.NDArray[np.float64]


class ExpPolynomial:
    """A polynomial of t for exp(t) on an interval. Call it for its values."""

    def __init__(self, kind: str, core: _core.Polynomial) -> None:
        """Of one of the core; :func:`exp_polynomial` makes both."""
        self._core = core
        self.kind: str = kind
        """How it was chosen."""
        self.interval: tuple[float, float] = core.interval
        """The interval that it was made for."""
        self.chebyshev: Doubles = core.chebyshev
        """(g + 1,) coefficients of T_0, ..., T_g on the interval (7.1). They are the polynomial:
        bounds are of what they define exactly.
        """
        self.power: Doubles = core.power
        """(g + 1,) coefficients of 1, t, ..., t**g (7.4), each rounded once. Good around zero; far
        from it the powers cancel, and values are to be had by calling.
        """
        self.degree: int = len(self.power) - 1
        """Its degree g; leading coefficients may be zero."""
        self.chebyshev.flags.writeable = self.power.flags.writeable = False

    def __call__(self, t: object) -> Doubles:
        """P(t) for each t, by Clenshaw's recurrence (7.2).

        Parameters
        ----------
        t : float or array_like of float32 or float64
            Arguments; also outside of the interval, where P is no approximation. NaN gives NaN.

        Returns
        -------
        ndarray of float64, of the shape of ``t``

        Raises
        ------
        DTypeError
            If ``t`` is of another dtype.
        """
        array = _doubles("t", t)
        return self._core(array.ravel()).reshape(array.shape)

    def ratio_bounds(
        self, low: float | None = None, high: float | None = None
    ) -> tuple[float, float]:
        """Two numbers that P(t)/exp(t) lies between for all t from ``low`` to ``high``.

        Guaranteed, rounding included; 1 - low and high - 1 exceed the true extrema by at most 0.2 %
        and one or two roundings of 1 (7.10).

        Parameters
        ----------
        low, high : float, optional
            The range, within [-256, 256]; by default that of the polynomial.

        Raises
        ------
        OptionError, OptionTypeError
            If the range is none.
        """
        return self._core.ratio_bounds(*self._ends(low, high))

    def absolute_bound(self, low: float | None = None, high: float | None = None) -> float:
        """A number that abs(P(t) - exp(t)) does not exceed for any t from ``low`` to ``high``.

        Guaranteed, rounding included, and at most 0.2 % above the largest (7.10). Parameters and
        errors are those of :meth:`ratio_bounds`.
        """
        return self._core.absolute_bound(*self._ends(low, high))

    def _ends(self, low: float | None, high: float | None) -> tuple[float, float]:
        low = options.real("low", self.interval[0] if low is None else low, "a finite number")
        high = options.real("high", self.interval[1] if high is None else high, "a finite number")
        return low, high

    def __repr__(self) -> str:
        """Kind, degree and interval, on one line; never the numbers."""
        low, high = self.interval
        return f"ExpPolynomial({self.kind!r}, degree={self.degree}, interval=({low:g}, {high:g}))"


def exp_polynomial(
    kind: str,
    degree: int,
    interval: tuple[float, float],
    *,
    samples: object = None,
    weights: object = None,
) -> ExpPolynomial:
    """A polynomial for exp on an interval.

    Parameters
    ----------
    kind : str
        One of ``taylor``, ``chebyshev``, ``minimax``, ``minimax_relative``, ``least_squares``.
    degree : int
        From 0 to 30.
    interval : pair of float
        ``(low, high)``, within [-256, 256]; both may be equal.
    samples : array_like of float, shape (N,), optional
        The t_i of ``least_squares``, which needs them.
    weights : array_like of float, shape (N,), optional
        Their weights, zero or positive; by default all are equal. Samples that do not determine
        the polynomial change that of kind ``chebyshev`` as little as they can.

    Raises
    ------
    OptionError, OptionTypeError
        If an option is out of its range; the message says what is expected.
    ShapeError, DTypeError
        If samples and weights are not two vectors of one length, of float32 or float64.

    Notes
    -----
    Takes well below 10 ms, and O(N degree**2) for ``least_squares``.
    """
    kind = options.choice("kind", kind, KINDS)
    if not isinstance(interval, (tuple, list)) or len(interval) != 2:
        raise options.wrong_type("interval", interval, "a pair (low, high)")
    low, high = (options.real("interval", end, "a pair of finite numbers") for end in interval)
    pair = None
    if samples is not None:
        t = _vector("samples", samples)
        pair = (t, np.ones_like(t) if weights is None else _vector("weights", weights))
    if (kind == "least_squares") != (pair is not None) or (pair is None and weights is not None):
        raise OptionError(
            f"samples: found {'none' if pair is None else 'some'} for kind {kind!r}; "
            "'least_squares' needs samples, other kinds take neither samples nor weights"
        )
    degree = options.integer("degree", degree, options.DEGREE, 0, MAX_DEGREE)
    return ExpPolynomial(kind, _core.Polynomial.of_exp(kind, degree, (low, high), pair))


def _doubles(name: str, value: object) -> Doubles:
    """A contiguous copy in float64; no other conversion than from float32 and Python's numbers."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = float(value)
    return np.array(read_array(name, value), dtype=np.float64, order="C")


def _vector(name: str, value: object) -> Doubles:
    array = _doubles(name, value)
    if array.ndim != 1:
        raise ShapeError(f"{name}: found shape {array.shape}; expected one dimension")
    return array
