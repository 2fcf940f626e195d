"""Whether the router splits traffic as it was told.

The Dirichlet-multinomial test of Lindon & Malek, NeurIPS 2022 (arXiv 2011.03567, section 3), with two arms.
"""

from __future__ import annotations

import math

from ops_commander.core.statistics import beta, checks
from ops_commander.core.statistics.interval import Interval

CONCENTRATION = 100.0
"""a + b of the prior Beta around the share."""

EXTREME = 1e-6
"""A tolerance reaches no nearer to 0 and 1 than this."""


def log_e(
    n_c: float, n_b: float, share: float, *, concentration: float = CONCENTRATION, tolerance: float = 0.0
) -> float:
    """ln E against "the candidate gets this share of the requests".

    Args:
        n_c: requests of the candidate; n_b: of the baseline.
        tolerance: by how much, as a fraction of the share, it may be off; the likeliest of these shares is tested.

    Raises:
        ValueError: a count is negative, or the share is not between 0 and 1.
    """
    a, b = _prior(share, concentration)
    total = checks.count("n_c", n_c) + checks.count("n_b", n_b)
    reach = checks.amount("tolerance", tolerance) * share
    low, high = max(share - reach, EXTREME), min(share + reach, 1 - EXTREME)
    nearest = min(max(n_c / total, low), high) if total else share
    return beta.log_e(n_c, total, nearest, a, b)


def p_value(
    n_c: float, n_b: float, share: float, *, concentration: float = CONCENTRATION, tolerance: float = 0.0
) -> float:
    """The chance, at most, that E ever gets this large if the split is right; it holds at every look."""
    return min(1.0, math.exp(-log_e(n_c, n_b, share, concentration=concentration, tolerance=tolerance)))


def log_odds_ratio_interval(
    n_c: float, n_b: float, share: float, *, alpha: float = 0.05, concentration: float = CONCENTRATION
) -> Interval:
    """ln of the odds of a request to reach the candidate, over the odds share : 1 − share. 0 is the wanted split."""
    a, b = _prior(share, concentration)
    total = checks.count("n_c", n_c) + checks.count("n_b", n_b)
    shares = beta.interval(n_c, total, a, b, checks.log_threshold(alpha))
    return Interval(_log_odds(shares.low) - _log_odds(share), _log_odds(shares.high) - _log_odds(share))


def _prior(share: float, concentration: float) -> tuple[float, float]:
    checks.positive("concentration", concentration)
    return concentration * checks.fraction("share", share), concentration * (1 - share)


def _log_odds(share: float) -> float:
    if share in (0.0, 1.0):
        return math.inf if share else -math.inf
    return math.log(share) - math.log1p(-share)
