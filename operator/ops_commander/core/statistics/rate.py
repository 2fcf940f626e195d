"""The mean of a rate over windows, such as throughput, without a model of it.

Empirical Bernstein: Howard et al., Annals of Statistics 49(2), 2021 (arXiv 1810.08240), theorem 4 with the
gamma-exponential mixture of proposition 9. It covers the running average of the windows' expected rates, however these
drift. Rates above the cap count as the cap, so the average is that of min(rate, cap).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ops_commander.core.statistics import checks
from ops_commander.core.statistics.interval import Interval
from ops_commander.core.statistics.solve import root
from ops_commander.core.statistics.special import log_gammainc

TUNED_FOR = 0.1
"""The summed variance, in caps squared, at which the boundary is tightest."""


@dataclass(frozen=True, slots=True)
class RateEvidence:
    """What the windows so far say about a rate. All is kept in shares of the cap."""

    cap: float
    """In the unit of the rates."""
    windows: int = 0
    total: float = 0.0
    variance: float = 0.0
    """Σ (share − share predicted from the windows before)²."""

    @classmethod
    def empty(cls, cap: float) -> RateEvidence:
        return cls(checks.positive("cap", cap))

    def add(self, rate: float) -> RateEvidence:
        """With one window's rate more.

        Raises:
            ValueError: the rate is negative or not finite.
        """
        share = min(checks.amount("rate", rate), self.cap) / self.cap
        predicted = (0.5 + self.total) / (self.windows + 1)
        variance = self.variance + (share - predicted) ** 2
        return RateEvidence(self.cap, self.windows + 1, self.total + share, variance)

    @property
    def mean(self) -> float | None:
        """In the unit of the rates; None before the first window."""
        return self.total / self.windows * self.cap if self.windows else None

    def interval(self, alpha: float = 0.05) -> Interval:
        """Average rates that the windows leave possible, from 0 to the cap; each end holds at α/2."""
        if not self.windows:
            return Interval(0.0, self.cap)
        radius = boundary(self.variance, checks.fraction("alpha", alpha) / 2)
        low, high = max(0.0, self.total - radius), min(float(self.windows), self.total + radius)
        return Interval(low / self.windows * self.cap, high / self.windows * self.cap)


def boundary(variance: float, alpha: float) -> float:
    """What the sum of deviations of values in [0, 1] exceeds, at any time, with a chance of α at most."""
    tail = -2 * math.log(2 * alpha)
    rho = TUNED_FOR / (tail + math.log1p(tail))
    shape = variance + rho
    lead = rho * math.log(rho) - math.lgamma(rho) - log_gammainc(rho, rho) + math.lgamma(shape)

    def excess(deviation: float) -> float:
        reached = deviation + shape
        mixed = lead + log_gammainc(shape, reached) - shape * math.log(reached) + deviation + variance
        return mixed + math.log(alpha)

    far = 1.0
    while excess(far) < 0:
        far *= 2
    return root(excess, 0.0, far)
