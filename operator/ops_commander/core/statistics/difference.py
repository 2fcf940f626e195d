"""The difference of two arms' means of scores in [0, 1], or of wins and losses of pairs.

Universal inference: a mixture of likelihoods of both arms over the largest likelihood with that difference (Wasserman,
Ramdas & Balakrishnan, PNAS 117(29), 2020). Each arm's mean must be the same over time. Each end of an interval also
holds alone at α: "the difference is above δ" is shown once δ lies below the interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ops_commander.core.statistics import checks
from ops_commander.core.statistics.interval import Interval
from ops_commander.core.statistics.solve import root

TINY = math.ulp(0.0)
"""Stands for a chance of 0 or just below, which rounding alone may lead to."""

Term = tuple[float, float, float]
"""A count k, and what its chance is at a nuisance parameter p: start + slope·p."""


def interval(
    x_c: float, n_c: float, x_b: float, n_b: float, *, alpha: float = 0.05, dispersion: float = 1.0
) -> Interval:
    """Differences p_c − p_b that sums of scores x among n of both arms leave possible."""
    (x_c, n_c), (x_b, n_b) = checks.event(x_c, n_c, dispersion), checks.event(x_b, n_b, dispersion)
    estimate = (x_c / n_c if n_c else 0.5) - (x_b / n_b if n_b else 0.5)
    return _interval(lambda delta: _log_e(x_c, n_c, x_b, n_b, delta), estimate, alpha)


def log_e(x_c: float, n_c: float, x_b: float, n_b: float, delta0: float, *, dispersion: float = 1.0) -> float:
    """ln E against p_c − p_b = delta0."""
    return _log_e(*checks.event(x_c, n_c, dispersion), *checks.event(x_b, n_b, dispersion), _difference(delta0))


def paired_interval(wins: float, losses: float, ties: float, *, alpha: float = 0.05) -> Interval:
    """Differences P(win) − P(loss) that pairs of answers to the same request leave possible."""
    wins, losses, ties = _pairs(wins, losses, ties)
    estimate = (wins - losses) / max(wins + losses + ties, 1)
    return _interval(lambda delta: _paired_log_e(wins, losses, ties, delta), estimate, alpha)


def paired_log_e(wins: float, losses: float, ties: float, delta0: float) -> float:
    """ln E against P(win) − P(loss) = delta0, with the prior Dirichlet(½, ½, ½)."""
    return _paired_log_e(*_pairs(wins, losses, ties), _difference(delta0))


def _interval(log_e: Callable[[float], float], estimate: float, alpha: float) -> Interval:
    threshold = checks.log_threshold(alpha)

    def end(edge: float) -> float:
        if estimate == edge or log_e(edge) <= threshold:
            return edge
        return root(lambda delta: log_e(delta) - threshold, edge, estimate)

    return Interval(end(-1.0), end(1.0))


def _log_e(x_c: float, n_c: float, x_b: float, n_b: float, delta: float) -> float:
    candidate: tuple[Term, ...] = ((x_c, delta, 1), (n_c - x_c, 1 - delta, -1))
    baseline: tuple[Term, ...] = ((x_b, 0, 1), (n_b - x_b, 1, -1))
    return (
        _log_marginal(x_c, n_c - x_c)
        + _log_marginal(x_b, n_b - x_b)
        - _largest((*candidate, *baseline), max(0.0, -delta), min(1.0, 1 - delta))
    )


def _paired_log_e(wins: float, losses: float, ties: float, delta: float) -> float:
    terms: tuple[Term, ...] = ((wins, delta, 1), (losses, 0, 1), (ties, 1 - delta, -2))
    return _log_marginal(wins, losses, ties) - _largest(terms, max(0.0, -delta), (1 - delta) / 2)


def _largest(terms: tuple[Term, ...], low: float, high: float) -> float:
    """The largest Σ k·ln(start + slope·p), which is concave, over p from low to high."""

    def rise(p: float) -> float:
        return sum(count * slope / max(start + slope * p, TINY) for count, start, slope in terms)

    if low >= high or rise(low) <= 0:
        best = low
    elif rise(high) >= 0:
        best = high
    else:
        best = root(rise, low, high)
    return sum(count * math.log(max(start + slope * best, TINY)) for count, start, slope in terms)


def _log_marginal(*counts: float) -> float:
    """ln of the likelihood of the counts, mixed over the prior Dirichlet(½, …, ½)."""
    empty = math.lgamma(0.5 * len(counts)) - len(counts) * math.lgamma(0.5)
    return empty + sum(math.lgamma(0.5 + count) for count in counts) - math.lgamma(0.5 * len(counts) + sum(counts))


def _difference(delta0: float) -> float:
    if not -1 <= delta0 <= 1:
        raise ValueError(f"delta0 is {delta0!r}, expected a number from -1 to 1")
    return float(delta0)


def _pairs(wins: float, losses: float, ties: float) -> tuple[float, float, float]:
    return checks.count("wins", wins), checks.count("losses", losses), checks.count("ties", ties)
