"""The ratio of two arms' rates, from what each tick added to both arms' counters.

Given that an event happened, which arm it came from depends on the ratio and the exposures only: what both arms have
in common, such as a bad minute of a database, cancels. Lindon & Malek, NeurIPS 2022 (arXiv 2011.03567), here with a
discrete prior on ln r and with exposures that may change from tick to tick. The arms' common rate may vary at will;
exposures must not be caused by the outcomes of their own tick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from ops_commander.core.statistics import checks, mixture
from ops_commander.core.statistics.interval import Interval
from ops_commander.core.statistics.mixture import Side
from ops_commander.core.statistics.solve import root
from ops_commander.core.statistics.special import Array

LOG_RATIOS: Array = np.arange(-200, 201) / 40
"""The prior's grid: ln r from −5 to 5 in steps of 1/40, 0 among them. With a hundred thousand events or more, an
interval is up to a step wider than it need be."""
LOG_RATIOS.flags.writeable = False

NOTHING: Array = np.zeros_like(LOG_RATIOS)
NOTHING.flags.writeable = False


def log_likelihood(log_ratios: Array, x_c: ArrayLike, n_c: ArrayLike, x_b: ArrayLike, n_b: ArrayLike) -> Array:
    """ln of the likelihood of each ln r, for events x and exposures n of candidate and baseline; all shapes broadcast.
    A tick in which an arm has no exposure says nothing."""
    x_c, n_c, x_b, n_b = (np.asarray(each, dtype=np.float64) for each in (x_c, n_c, x_b, n_b))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_odds = log_ratios + (np.log(n_c) - np.log(n_b))
        both_exposed = x_c * log_odds - (x_c + x_b) * np.logaddexp(0, log_odds)
    return np.where((n_c > 0) & (n_b > 0), both_exposed, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class RatioEvidence:
    """What the ticks so far say about r = rate of the candidate / rate of the baseline.

    Queries take the `prior_scale` τ, the standard deviation of ln r in the prior, and the dispersion φ.
    """

    x_c: float = 0.0
    n_c: float = 0.0
    x_b: float = 0.0
    n_b: float = 0.0
    log_likelihoods: Array = field(default_factory=lambda: NOTHING, repr=False)
    """On `LOG_RATIOS`, summed over ticks; read-only."""

    @classmethod
    def empty(cls) -> RatioEvidence:
        return cls()

    def add(self, x_c: float, n_c: float, x_b: float, n_b: float) -> RatioEvidence:
        """With one tick's events x and exposures n more. Events may outnumber the exposure, as that may be a weight.

        Raises:
            ValueError: a number is negative or not finite, or there are events without exposure.
        """
        for arm, x, n in (("c", x_c, n_c), ("b", x_b, n_b)):
            events, exposure = checks.count(f"x_{arm}", x), checks.count(f"n_{arm}", n)
            if events and not exposure:
                raise ValueError(f"x_{arm} is {x!r}, expected 0 as there is no exposure n_{arm}")
        total = self.log_likelihoods
        if x_c or x_b:  # exposure without events says nothing
            total = total + log_likelihood(LOG_RATIOS, x_c, n_c, x_b, n_b)
            total.flags.writeable = False
        return RatioEvidence(self.x_c + x_c, self.n_c + n_c, self.x_b + x_b, self.n_b + n_b, total)

    def log_e(self, ratio: float, *, prior_scale: float = 1.0, dispersion: float = 1.0) -> float:
        """ln E against r = ratio, from either side."""
        return self._log_e(ratio, Side.BOTH, prior_scale, dispersion)

    def log_e_above(self, ratio: float, *, prior_scale: float = 1.0, dispersion: float = 1.0) -> float:
        """ln E against "r was never above the ratio"; it grows when the candidate is worse."""
        return self._log_e(ratio, Side.ABOVE, prior_scale, dispersion)

    def log_e_below(self, ratio: float, *, prior_scale: float = 1.0, dispersion: float = 1.0) -> float:
        """ln E against "r was never below the ratio"; it grows when the candidate is better."""
        return self._log_e(ratio, Side.BELOW, prior_scale, dispersion)

    def highest_log_e(self, ratio: float, side: Side, *, dispersion: float = 1.0) -> float:
        """What `log_e_above` or `log_e_below` is not above, whatever the prior: a mean is at most the largest."""
        log_ratio = _log_ratio(ratio)
        most = mixture.largest(LOG_RATIOS, self.log_likelihoods, log_ratio, side)
        return most / checks.at_least_one(dispersion)

    def interval(self, alpha: float = 0.05, *, prior_scale: float = 1.0, dispersion: float = 1.0) -> Interval:
        """Ratios that the evidence leaves possible: 0 or inf is an end that lies outside the grid."""
        values = self.log_likelihoods / checks.at_least_one(dispersion)
        marginal = float(mixture.log_marginal(LOG_RATIOS, values, _scale(prior_scale)))
        level = marginal - checks.log_threshold(alpha)
        possible = np.flatnonzero(values > level)
        first, last = int(possible[0]), int(possible[-1])

        def crossing(index: int) -> float:
            at = root(lambda at: float(mixture.interpolate(values, at)) - level, index, index + 1)
            return math.exp(LOG_RATIOS[0] + at * (LOG_RATIOS[1] - LOG_RATIOS[0]))

        return Interval(
            crossing(first - 1) if first > 0 else 0.0, crossing(last) if last < len(LOG_RATIOS) - 1 else math.inf
        )

    def estimate(self) -> float | None:
        """The likeliest ratio, to about three digits; 0 or inf at an end of the grid, None before the first event."""
        best = int(self.log_likelihoods.argmax())
        if not self.log_likelihoods.any():
            return None
        if best in (0, len(LOG_RATIOS) - 1):
            return math.inf if best else 0.0
        before, peak, after = self.log_likelihoods[best - 1 : best + 2].tolist()
        bend = before - 2 * peak + after
        steps = (before - after) / (2 * bend) if bend else 0.0
        return math.exp(LOG_RATIOS[best] + steps * (LOG_RATIOS[1] - LOG_RATIOS[0]))

    def _log_e(self, ratio: float, side: Side, prior_scale: float, dispersion: float) -> float:
        log_ratio = _log_ratio(ratio)
        values = self.log_likelihoods / checks.at_least_one(dispersion)
        return float(mixture.log_e(LOG_RATIOS, values, log_ratio, side, _scale(prior_scale)))


def _log_ratio(ratio: float) -> float:
    log_ratio = math.log(checks.positive("ratio", ratio))
    if not LOG_RATIOS[1] <= log_ratio <= LOG_RATIOS[-2]:
        least, most = math.exp(LOG_RATIOS[1]), math.exp(LOG_RATIOS[-2])
        raise ValueError(f"ratio is {ratio!r}, expected a number from {least:.4g} to {most:.4g}")
    return log_ratio


def _scale(prior_scale: float) -> float:
    if not 0.01 <= prior_scale <= 100:
        raise ValueError(f"prior_scale is {prior_scale!r}, expected a number from 0.01 to 100")
    return prior_scale
