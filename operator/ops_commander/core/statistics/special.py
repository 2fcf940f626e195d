"""Logarithms of special functions, finite far into the tails.

By the standard library alone: to import scipy.special takes 29 MiB of memory.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LOG_TAU = math.log(2 * math.pi)
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
"""B₂ₖ / (2k·(2k − 1)), from k = 1 on."""
ENOUGH_FOR_STIRLING = 10.0

MOST_TERMS = 200_000
"""Of a continued fraction; some hundred where counts are of millions and the value is near ½."""
CLOSE = 1e-15


def log_beta(a: float, b: float) -> float:
    """ln B(a, b)."""
    size = a * math.log1p(b / a) + b * math.log1p(a / b)
    return 0.5 * (LOG_TAU + math.log1p(a / b) - math.log(a)) - size + _correction(a, b)


def _correction(a: float, b: float) -> float:
    """What Stirling's formula for all three gammas leaves of ln B(a, b)."""
    return _remainder(a) + _remainder(b) - _remainder(a + b)


def _remainder(x: float) -> float:
    """ln Γ(x) less (x − ½)·ln x − x + ½·ln 2π, Stirling's formula (DLMF 5.11.1)."""
    if x < ENOUGH_FOR_STIRLING:
        return math.lgamma(x) - (x - 0.5) * math.log(x) + x - 0.5 * LOG_TAU
    inverse, total = 1 / (x * x), 0.0
    for coefficient in reversed(STIRLING):
        total = total * inverse + coefficient
    return total / x


def log_power(count: float, p: float) -> float:
    """count·ln p; 0 where the count is 0, also at p = 0."""
    return count * math.log(p) if count else 0.0


def log_power_of_rest(count: float, p: float) -> float:
    """count·ln(1 − p), precise at small p; 0 where the count is 0, also at p = 1."""
    return count * math.log1p(-p) if count else 0.0


def log_beta_cdf(a: float, b: float, p: float) -> float:
    """ln P(X ≤ p), X of Beta(a, b): the regularised incomplete beta function I_p(a, b)."""
    return _log_incomplete_beta(a, b, p, 1 - p)


def log_beta_sf(a: float, b: float, p: float) -> float:
    """ln P(X > p), X of Beta(a, b)."""
    return _log_incomplete_beta(b, a, 1 - p, p)


def _log_incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """ln I_x(a, b); given x and 1 − x apart, as the smaller may be lost in the other.

    The fraction gives the tail that is less than about a half, the other is what remains.
    """
    beyond = x * b - rest * a
    front = a * _log_of_share(beyond / a, x, a, b) + b * _log_of_share(-beyond / b, rest, b, a)
    front += 0.5 * (math.log(a) - math.log1p(a / b) - LOG_TAU) - _correction(a, b)
    if beyond <= 0:
        return front + math.log(_fraction(a, b, x, rest, -beyond))
    return math.log1p(-min(math.exp(front) * _fraction(b, a, rest, x, beyond), 1 - CLOSE))


def _log_of_share(excess: float, share: float, mine: float, other: float) -> float:
    """ln of a share against that of the mean, mine / (mine + other), given by how much it exceeds that."""
    if abs(excess) < 0.5:
        return math.log1p(excess)
    return math.log(share) + math.log1p(other / mine)


def _fraction(a: float, b: float, x: float, rest: float, short: float) -> float:
    """The continued fraction of I_x(a, b), less what stands before it (DLMF 8.17.22), for x up to the mean.

    Its even part in the form of Didonato & Morris (ACM TOMS 18(3), 1992, `bfrac`): with `short`, (a + b)·(mean − x), no
    digits cancel where x is near 1. Quick where I is small.
    """
    lead, c1 = 1 + short, 1 + 1 / a
    result, last = c1 / lead, 1.0
    numerator, denominator, numerator_now, denominator_now = 0.0, 1.0, 1.0, lead / c1
    for n in range(1, MOST_TERMS):
        share, weight, size = n / a, n * (b - n) * x, a + 2 * n - 1
        alpha = last * (last + b / a) * (a / size) ** 2 * weight * x
        beta = n + weight / size + (1 + share) / (c1 + 2 * share) * (lead + n * (rest + 1))
        last = 1 + share
        numerator, numerator_now = numerator_now, alpha * numerator + beta * numerator_now
        denominator, denominator_now = denominator_now, alpha * denominator + beta * denominator_now
        before, result = result, numerator_now / denominator_now
        if abs(result - before) <= CLOSE * result:
            break
        numerator, denominator = numerator / denominator_now, denominator / denominator_now
        numerator_now, denominator_now = result, 1.0
    return result


def log_gammainc(shape: float, x: float) -> float:
    """ln P(shape, x), the regularised lower incomplete gamma function; for x that is not far below the shape."""
    excess = (x - shape) / shape
    front = shape * (math.log1p(excess) - excess) + 0.5 * (math.log(shape) - LOG_TAU) - _remainder(shape)
    if x > shape + 1:
        return math.log1p(-min(math.exp(front) * _upper_gamma(shape, x), 1 - CLOSE))
    total = term = 1 / shape
    for k in range(1, MOST_TERMS):
        term *= x / (shape + k)
        total += term
        if term < total * CLOSE:
            break
    return front + math.log(total)


def _upper_gamma(shape: float, x: float) -> float:
    """The continued fraction of Q(shape, x) (DLMF 8.9.2) by Lentz's method."""
    b = x + 1 - shape
    c, d = math.inf, 1 / b
    result = d
    for k in range(1, MOST_TERMS):
        factor = -k * (k - shape)
        b += 2
        d, c = 1 / (factor * d + b), b + factor / c
        result *= d * c
        if abs(d * c - 1) < CLOSE:
            break
    return result
