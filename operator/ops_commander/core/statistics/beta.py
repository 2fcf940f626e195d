"""A Bernoulli likelihood mixed over a Beta prior, which proportions, quantiles and splits have in common.

It holds for sums of scores in [0, 1] as it does for counts: the likelihood ratio of a score is convex in it, so its
mean is at most that of an event with the same chance.
"""

from __future__ import annotations

import math

from ops_commander.core.statistics.interval import Interval
from ops_commander.core.statistics.solve import root
from ops_commander.core.statistics.special import log_beta, log_power, log_power_of_rest

LEAST_LOG = -745.0
"""About ln of the smallest float above 0."""

TINY = math.ulp(0.0)
"""Stands for a chance of 0, which rounding alone may lead to."""


def log_e(x: float, n: float, p: float, a: float, b: float) -> float:
    """ln E against the chance p, for x events among n trials and the prior Beta(a, b)."""
    return log_beta(a + x, b + (n - x)) - log_beta(a, b) - log_power(x, p) - log_power_of_rest(n - x, p)


def interval(x: float, n: float, a: float, b: float, threshold: float) -> Interval:
    """The chances whose ln E is below the threshold, for x events among n trials and the prior Beta(a, b)."""
    excess = log_beta(a + x, b + (n - x)) - log_beta(a, b) - threshold
    return Interval(_lowest(x, n - x, excess, upside_down=False), _lowest(n - x, x, excess, upside_down=True))


def _lowest(x: float, rest: float, excess: float, *, upside_down: bool) -> float:
    """The lower end, or 1 less the lower end of the other outcome; by its logarithm, as it may be tiny."""
    if x == 0:
        return 1.0 if upside_down else 0.0

    def crossing(log_p: float) -> float:
        return excess - x * log_p - rest * math.log(max(-math.expm1(log_p), TINY))

    log_p = root(crossing, LEAST_LOG, -math.log1p(rest / x)) if crossing(LEAST_LOG) > 0 else -math.inf
    return -math.expm1(log_p) if upside_down else math.exp(log_p)
