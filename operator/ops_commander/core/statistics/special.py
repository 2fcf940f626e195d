"""Logarithms of special functions, elementwise, finite far into the tails. Nothing else here imports scipy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]

FAINT = 1e-280
"""Below this, a probability is near the end of what a float holds; its logarithm comes from a continued fraction."""

MOST_TERMS = 1000


def log_beta(a: ArrayLike, b: ArrayLike) -> Array:
    """ln B(a, b)."""
    return np.asarray(special.betaln(a, b), dtype=np.float64)


def log_power(count: ArrayLike, p: ArrayLike) -> Array:
    """count·ln p; 0 where the count is 0, also at p = 0."""
    return np.asarray(special.xlogy(count, p), dtype=np.float64)


def log_power_of_rest(count: ArrayLike, p: ArrayLike) -> Array:
    """count·ln(1 − p), precise at small p; 0 where the count is 0, also at p = 1."""
    return np.asarray(special.xlog1py(count, -np.asarray(p)), dtype=np.float64)


def log_beta_cdf(a: ArrayLike, b: ArrayLike, p: float) -> Array:
    """ln P(X ≤ p), X of Beta(a, b): the regularised incomplete beta function I_p(a, b)."""
    return _log(special.betainc(a, b, p), a, b, p, math.log(p), math.log1p(-p))


def log_beta_sf(a: ArrayLike, b: ArrayLike, p: float) -> Array:
    """ln P(X > p), X of Beta(a, b)."""
    return _log(special.betaincc(a, b, p), b, a, 1 - p, math.log1p(-p), math.log(p))


def log_gammainc(shape: float, x: float) -> float:
    """ln P(shape, x), the regularised lower incomplete gamma function; for x that is not far below the shape."""
    return math.log(special.gammainc(shape, x))


def _log(value: Array, a: ArrayLike, b: ArrayLike, x: float, log_x: float, log_rest: float) -> Array:
    """ln of value = I_x(a, b); given ln x and ln(1 − x) apart, as one of them may be lost in x."""
    with np.errstate(divide="ignore"):
        result = np.atleast_1d(np.log(value))
    faint = ~(np.atleast_1d(value) >= FAINT)
    if faint.any():
        a, b = (np.broadcast_to(np.asarray(each, dtype=np.float64), result.shape)[faint] for each in (a, b))
        front = a * log_x + b * log_rest - log_beta(a, b) - np.log(a)
        result[faint] = front + np.log(_fraction(a, b, x))
    return result.reshape(np.shape(value))


def _fraction(a: Array, b: Array, x: float) -> Array:
    """The continued fraction of I_x(a, b) (DLMF 8.17.22) by Lentz's method. Quick where I is small."""
    c = np.ones_like(a)
    d = 1 / (1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / (1 + even * d), 1 + even / c
        result = result * d * c
        d, c = 1 / (1 + odd * d), 1 + odd / c
        result = result * d * c
        if (np.abs(d * c - 1) < 1e-14).all():
            break
    return result
