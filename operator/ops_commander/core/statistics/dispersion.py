"""How clumped events are: sticky sessions, retries and bursts make counts vary more than independent requests do."""

from __future__ import annotations

from numpy.typing import ArrayLike

from ops_commander.core.statistics import checks

CAP = 50.0
"""Above this, counts say too little to judge by."""

MIN_TICKS = 120
"""Ticks that an index worth using is taken from: it is itself uncertain by about √(2 / ticks)."""


def index_of_dispersion(events: ArrayLike, exposures: ArrayLike) -> float:
    """φ: the variance of events per tick over that of independent ones, 1 at least.

    1 also where nothing can be told: no events, or fewer than two ticks with exposure.

    Args:
        events: of each tick, shape (ticks,).
        exposures: requests of each tick, same shape.

    Raises:
        ValueError: shapes differ, or a tick's events are not from 0 to its exposure.
    """
    x, n = checks.events(events, exposures)
    if x.ndim != 1 or x.shape != n.shape:
        raise ValueError(f"shapes are {x.shape} and {n.shape}, expected one number for each tick in both")
    x, n = x[n > 0], n[n > 0]
    chance = x.sum() / n.sum() if n.size else 0.0
    if n.size < 2 or not 0 < chance < 1:
        return 1.0
    chi_squared = ((x - n * chance) ** 2 / (n * chance * (1 - chance))).sum()
    return max(1.0, float(chi_squared / (n.size - 1)))
