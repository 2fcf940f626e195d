"""The correlation of two scores of the same answers, from sums of products of their powers.

An asymptotic confidence sequence (Waudby-Smith et al., arXiv 2103.06476, theorem 2.2) for Fisher's z, with the variance
by the delta method, as scores are not normal. Unlike all else here it holds for large numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ops_commander.core.statistics import checks
from ops_commander.core.statistics.interval import Interval

Moments = Mapping[tuple[int, int], float]
"""Σ x^i·y^j by (i, j) for all i + j ≤ 4; (0, 0) is the number of pairs."""

POWERS = [(i, j) for i in range(5) for j in range(5 - i)]

LEAST_PAIRS = 500
TUNED_FOR = 5000
"""The number of pairs at which the interval is tightest."""

LEAST_SPREAD = 1e-6
"""A variance below this share of the mean square drowns in the rounding of the sums."""

ROUNDING = 1e-14
NEAR_ONE = 1 - 1e-6
"""Fisher's z is taken of nothing closer to 1."""


def interval(moments: Moments, *, alpha: float = 0.05) -> Interval:
    """Correlations that the pairs leave possible; all of them below 500 pairs or where a score hardly varies."""
    checks.fraction("alpha", alpha)
    standard = _standardised(moments)
    n = moments[0, 0]
    if standard is None or n < LEAST_PAIRS:
        return Interval(-1.0, 1.0)
    exact = _clipped(standard[1, 1], 1.0)
    rho = _clipped(exact, NEAR_ONE)
    scale = (-2 * math.log(alpha) + math.log1p(-2 * math.log(alpha))) / TUNED_FOR
    growth = n * scale + 1
    radius = math.sqrt(_variance(standard, rho) * 2 * growth / (n * n * scale) * math.log(math.sqrt(growth) / alpha))
    low, high = math.tanh(math.atanh(rho) - radius), math.tanh(math.atanh(rho) + radius)
    return Interval(min(low, exact), max(high, exact))


def estimate(moments: Moments) -> float | None:
    """The sample's correlation; None where a score hardly varies."""
    standard = _standardised(moments)
    return None if standard is None else _clipped(standard[1, 1], 1.0)


def _clipped(rho: float, most: float) -> float:
    return min(max(rho, -most), most)


def _variance(standard: Moments, rho: float) -> float:
    """Of √n·z: that of (z_x·z_y − ρ/2·(z_x² + z_y²)) / (1 − ρ²), and what rounding may have taken from it."""
    cross = standard[3, 1] + standard[1, 3]
    square = standard[2, 2] * (1 + rho * rho / 2) - rho * cross + rho * rho / 4 * (standard[4, 0] + standard[0, 4])
    mean = standard[1, 1] - rho
    rounding = ROUNDING * (1 + standard[0, 0]) ** 2
    return (max(square - mean * mean, 0.0) + rounding) / (1 - rho * rho) ** 2


def _standardised(moments: Moments) -> Moments | None:
    """Means of products of powers of both scores, each less its mean and by its standard deviation. (0, 0) holds the
    larger ratio of mean square and variance. None where a variance is lost in rounding."""
    n = _checked(moments)
    if n == 0:
        return None
    raw = {power: moments[power] / n for power in POWERS}
    x, y = raw[1, 0], raw[0, 1]
    variances = raw[2, 0] - x * x, raw[0, 2] - y * y
    if not (variances[0] > LEAST_SPREAD * raw[2, 0] and variances[1] > LEAST_SPREAD * raw[0, 2]):
        return None
    by = math.sqrt(variances[0]), math.sqrt(variances[1])
    standard = {(i, j): _central(raw, i, j) / (by[0] ** i * by[1] ** j) for i, j in POWERS}
    standard[0, 0] = max(raw[2, 0] / variances[0], raw[0, 2] / variances[1])
    return standard


def _central(raw: Moments, i: int, j: int) -> float:
    x, y = raw[1, 0], raw[0, 1]
    return math.fsum(
        math.comb(i, a) * math.comb(j, b) * (-x) ** (i - a) * (-y) ** (j - b) * raw[a, b]
        for a in range(i + 1)
        for b in range(j + 1)
    )


def _checked(moments: Moments) -> float:
    if missing := [power for power in POWERS if power not in moments]:
        raise ValueError(f"moments lack {missing}, expected all (i, j) with i + j up to 4")
    if wrong := {power: value for power, value in moments.items() if not math.isfinite(value)}:
        raise ValueError(f"moments are {wrong}, expected finite numbers")
    return checks.count("the moment (0, 0)", moments[0, 0])
