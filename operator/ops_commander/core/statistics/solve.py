"""Where a function of one number crosses zero."""

from __future__ import annotations

from collections.abc import Callable

MOST_STEPS = 200


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """A zero of a continuous function that has different signs, or a zero, at low and high, to about 14 digits.

    Infinite values are as good as others: they are bisected away. The method is Chandrupatla's (Advances in Engineering
    Software 28, 1997): inverse quadratic interpolation where it is safe, bisection elsewhere.

    Raises:
        ValueError: the signs are the same.
    """
    x0, x1 = low, high
    f0, f1 = function(x0), function(x1)
    if f0 == 0 or f1 == 0:
        return x0 if f0 == 0 else x1
    if not (f0 < 0 < f1 or f1 < 0 < f0):
        raise ValueError(f"the function is {f0!r} at {low!r} and {f1!r} at {high!r}, expected different signs")
    share = 0.5
    for _ in range(MOST_STEPS):
        x = x0 + share * (x1 - x0)
        value = function(x)
        if (value < 0) == (f0 < 0):
            x2, f2 = x0, f0
        else:
            x2, f2, x1, f1 = x1, f1, x0, f0
        x0, f0 = x, value
        best = x0 if abs(f0) < abs(f1) else x1
        least = (4e-16 * abs(best) + 1e-15) / abs(x1 - x0)
        if least > 0.5 or f0 == 0:
            return best
        share = min(1 - least, max(least, _share(x0, f0, x1, f1, x2, f2)))
    return best


def _share(x0: float, f0: float, x1: float, f1: float, x2: float, f2: float) -> float:
    """How far from x0 towards x1 to look next."""
    position, rise = (x0 - x1) / (x2 - x1), (f0 - f1) / (f2 - f1)
    if not (rise * rise < position and (1 - rise) ** 2 < 1 - position):
        return 0.5
    return f0 / (f1 - f0) * f2 / (f1 - f2) + (x2 - x0) / (x1 - x0) * f0 / (f2 - f0) * f1 / (f2 - f1)
