"""What the statistics expect of their input, said in one way."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ops_commander.core.statistics.special import Array

MOST = 1e12
"""Counts above it are refused: rounding in the sums would pass for evidence."""

ROUNDING = 1e-9
"""How far a sum of scores may exceed their number, relatively: it is a sum of rounded numbers."""


def events(x: ArrayLike, n: ArrayLike, dispersion: float = 1.0) -> tuple[Array, Array]:
    """Events x among n trials, each by dispersion; both may be fractional, of any shape that broadcasts.

    Raises:
        ValueError: x is not from 0 to n, n is not from 0 to `MOST`, or dispersion is not 1 or more.
    """
    xs, ns = np.asarray(x, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if not ((ns >= 0) & (ns <= MOST)).all():
        raise ValueError(f"n is {n!r}, expected numbers from 0 to {MOST:g}")
    if not ((xs >= 0) & (xs <= ns * (1 + ROUNDING))).all():
        raise ValueError(f"x is {x!r}, expected numbers from 0 to n = {n!r}")
    factor = at_least_one(dispersion)
    return np.minimum(xs, ns) / factor, ns / factor


def event(x: float, n: float, dispersion: float = 1.0) -> tuple[float, float]:
    """The same for one pair, without arrays."""
    count("n", n)
    if not 0 <= x <= n * (1 + ROUNDING):
        raise ValueError(f"x is {x!r}, expected a number from 0 to n = {n!r}")
    factor = at_least_one(dispersion)
    return min(x, n) / factor, n / factor


def count(name: str, value: float) -> float:
    if not 0 <= value <= MOST:
        raise ValueError(f"{name} is {value!r}, expected a number from 0 to {MOST:g}")
    return float(value)


def amount(name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value!r}, expected a finite number of 0 or more")
    return float(value)


def positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}, expected a finite number above 0")
    return float(value)


def at_least_one(dispersion: float) -> float:
    if not 1 <= dispersion < math.inf:
        raise ValueError(f"dispersion is {dispersion!r}, expected a finite number of 1 or more")
    return float(dispersion)


def fraction(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value!r}, expected a number between 0 and 1")
    return float(value)


def log_threshold(alpha: float) -> float:
    """ln(1/α): the ln E that rejects."""
    return -math.log(fraction("alpha", alpha))
