"""Quantiles from cumulative bucket counts, without a guess at what is inside a bucket.

At the true quantile, the count of values up to it less q of all is a martingale, so that one event of chance 1 − α
covers all edges at once: Howard & Ramdas, Bernoulli 28(3), 2022 (arXiv 1906.09712), the beta-binomial boundary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ops_commander.core.statistics import beta, checks
from ops_commander.core.statistics.interval import Interval
from ops_commander.core.statistics.special import Array

CONCENTRATION = 40.0
"""a + b of the prior Beta around q: tightest after some hundred values."""


def interval(
    edges: Sequence[float], counts: Sequence[float], q: float, *, alpha: float = 0.05, dispersion: float = 1.0
) -> Interval:
    """Values that the q-quantile can have, in the unit of the edges.

    The ends are bucket edges. Where no edge bounds it below, `low` is 0, or −inf if there are negative edges; where
    none bounds it above, `high` is inf.

    Args:
        edges: upper edges of the buckets, rising; the last may be inf.
        counts: values up to each edge, the last one being all values.

    Raises:
        ValueError: edges do not rise, counts fall, or the two differ in length.
    """
    at, below = _buckets(edges, counts)
    checks.fraction("q", q)
    x, n = checks.events(below, below[-1], dispersion)
    threshold, total = checks.log_threshold(alpha), float(n)
    prior = CONCENTRATION * q, CONCENTRATION * (1 - q)
    excluded = np.array([beta.log_e(count, total, q, *prior) >= threshold for count in x.tolist()])
    too_low, too_high = at[excluded & (x < q * n)], at[excluded & (x > q * n)]
    lowest = 0.0 if at[0] >= 0 else -math.inf
    return Interval(
        float(too_low[-1]) if too_low.size else lowest,
        float(too_high[0]) if too_high.size else math.inf,
    )


def difference_interval(
    edges_c: Sequence[float],
    counts_c: Sequence[float],
    edges_b: Sequence[float],
    counts_b: Sequence[float],
    q: float,
    *,
    alpha: float = 0.05,
    dispersion: float = 1.0,
) -> Interval:
    """Candidate's less baseline's q-quantile, in the unit of the edges, which need not be the same in both arms."""
    candidate = interval(edges_c, counts_c, q, alpha=alpha / 2, dispersion=dispersion)
    baseline = interval(edges_b, counts_b, q, alpha=alpha / 2, dispersion=dispersion)
    return Interval(candidate.low - baseline.high, candidate.high - baseline.low)


def estimate(edges: Sequence[float], counts: Sequence[float], q: float) -> float | None:
    """The q-quantile as Prometheus' histogram_quantile has it: values lie evenly in their bucket, from 0 in the first,
    and the last finite edge stands for all beyond it. None without values or without a finite edge."""
    at, below = _buckets(edges, counts)
    rank = checks.fraction("q", q) * below[-1]
    if below[-1] == 0 or at[0] == math.inf:
        return None
    bucket = int(np.searchsorted(below, rank))
    if at[bucket] == math.inf:
        return float(at[bucket - 1])
    if bucket == 0 and at[0] <= 0:
        return float(at[0])
    start, before = (at[bucket - 1], below[bucket - 1]) if bucket else (0.0, 0.0)
    return float(start + (at[bucket] - start) * (rank - before) / (below[bucket] - before))


def _buckets(edges: Sequence[float], counts: Sequence[float]) -> tuple[Array, Array]:
    at, below = np.asarray(edges, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if at.ndim != 1 or at.shape != below.shape or not at.size:
        raise ValueError(f"there are {at.size} edges and {below.size} counts, expected one count for each edge")
    if not (np.diff(at) > 0).all() or not at[0] > -math.inf:
        raise ValueError(f"edges are {edges!r}, expected rising numbers")
    if not (np.diff(below, prepend=0) >= 0).all() or not below[-1] < math.inf:
        raise ValueError(f"counts are {counts!r}, expected finite numbers that do not fall")
    return at, below
