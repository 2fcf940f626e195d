"""How far numbers are apart: 0 within tolerance, 1 at ten times of it."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BEYOND: Final = 1e300
"""Numbers past it are equal or not: their differences overflow."""

Floats = NDArray[np.float64]


def deviation(stable: float, candidate: float, absolute: float, relative: float) -> float:
    """clip((|a - b| - tol) / (9·tol), 0, 1) with tol = absolute + relative·|b|, b being stable's."""
    if stable == candidate or (stable != stable and candidate != candidate):
        return 0.0
    if not (abs(stable) < BEYOND and abs(candidate) < BEYOND):
        return 1.0
    tolerance = absolute + relative * abs(stable)
    apart = abs(candidate - stable)
    if apart <= tolerance:
        return 0.0
    return min(1.0, (apart - tolerance) / (9 * tolerance)) if tolerance > 0 else 1.0


def deviations(stable: Floats, candidate: Floats, absolute: float, relative: float) -> Floats:
    """The same of each element."""
    with np.errstate(all="ignore"):
        tolerance = absolute + relative * np.abs(stable)
        apart = np.abs(candidate - stable)
        found = np.clip((apart - tolerance) / (9 * tolerance), 0.0, 1.0)
        found[apart <= tolerance] = 0.0
        found[(tolerance == 0) & (apart > 0)] = 1.0
        found[~((np.abs(stable) < BEYOND) & (np.abs(candidate) < BEYOND))] = 1.0
        found[(stable == candidate) | (np.isnan(stable) & np.isnan(candidate))] = 0.0
    return found


def is_finite(value: float) -> bool:
    """Of whole numbers of any size too."""
    return isinstance(value, int) or math.isfinite(value)


def as_floats(values: Any) -> Floats | None:
    """A list of numbers; None if one of them is no number, or too large for a float."""
    if isinstance(values, np.ndarray):
        return values.astype(np.float64, copy=False)
    if not set(map(type, values)) <= {int, float}:
        return None
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return None
