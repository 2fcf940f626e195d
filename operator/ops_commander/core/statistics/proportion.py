"""The mean of events or scores in [0, 1] of one arm, against a bound that does not move.

A Beta mixture of Bernoulli likelihoods: Howard et al., Annals of Statistics 49(2), 2021, the beta-binomial mixture;
one-sided with a truncated prior, so that the chance may vary over time on its side of the bound.
"""

from __future__ import annotations

from ops_commander.core.statistics import beta, checks
from ops_commander.core.statistics.interval import Interval
from ops_commander.core.statistics.special import log_beta_cdf, log_beta_sf


def interval(x: float, n: float, *, alpha: float = 0.05, dispersion: float = 1.0) -> Interval:
    """Chances that x events among n trials leave possible, with the prior Beta(½, ½)."""
    x, n = checks.event(x, n, dispersion)
    return beta.interval(x, n, 0.5, 0.5, checks.log_threshold(alpha))


def log_e_above(x: float, n: float, p0: float, *, dispersion: float = 1.0) -> float:
    """ln E against "the chance was never above p0"; it grows when an upper bound p0 is broken."""
    events, trials = checks.event(x, n, dispersion)
    a, b = _prior(p0)
    truncation = log_beta_sf(a + events, b + (trials - events), p0) - log_beta_sf(a, b, p0)
    return beta.log_e(events, trials, p0, a, b) + truncation


def log_e_below(x: float, n: float, p0: float, *, dispersion: float = 1.0) -> float:
    """ln E against "the chance was never below p0"; it grows when an upper bound p0 is kept."""
    events, trials = checks.event(x, n, dispersion)
    a, b = _prior(p0)
    truncation = log_beta_cdf(a + events, b + (trials - events), p0) - log_beta_cdf(a, b, p0)
    return beta.log_e(events, trials, p0, a, b) + truncation


def smallest_passing(p0: float, *, alpha: float = 0.05, dispersion: float = 1.0) -> int:
    """The fewest trials, all without an event, that show a chance below p0."""
    threshold = checks.log_threshold(alpha)

    def passes(n: int) -> bool:
        return log_e_below(0, n, p0, dispersion=dispersion) >= threshold

    enough = 1
    while not passes(enough):
        enough *= 2
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if passes(middle) else (middle, enough)
    return enough


def _prior(p0: float) -> tuple[float, float]:
    """a and b of a Beta with mean p0, its smaller one being 1."""
    rarer = min(checks.fraction("p0", p0), 1 - p0)
    return p0 / rarer, (1 - p0) / rarer
