"""A likelihood mixed over a discrete normal prior on a grid.

A discrete prior is a mixture like any other: the grid costs a little power and leaves no error of integration.
"""

from __future__ import annotations

import math
from enum import Enum

import numpy as np

from ops_commander.core.statistics.special import Array


class Side(Enum):
    """Which part of the grid the prior holds, seen from the value that is tested."""

    ABOVE = "above"
    BELOW = "below"
    BOTH = "both"


def log_e(grid: Array, log_likelihoods: Array, value: float, side: Side, scale: float) -> Array:
    """ln E against a value of the parameter, with the prior N(0, scale²) on that side of it.

    Args:
        grid: parameters, rising and evenly spaced, shape (G,); at least one of them on each side of the value.
        log_likelihoods: on the grid, shape (…, G); the result has shape (…).
    """
    within = _within(grid, value, side)
    mixed = log_marginal(grid[within], log_likelihoods[..., within], scale)
    return mixed - interpolate(log_likelihoods, position(grid, value))


def largest(grid: Array, log_likelihoods: Array, value: float, side: Side) -> float:
    """The highest log-likelihood on that side of a value, less that of the value itself: ln E is never above it."""
    most = log_likelihoods[..., _within(grid, value, side)].max()
    return float(most - interpolate(log_likelihoods, position(grid, value)))


def _within(grid: Array, value: float, side: Side) -> slice:
    if side is Side.BOTH:
        return slice(None)
    if side is Side.ABOVE:
        return slice(int(np.searchsorted(grid, value, side="right")), None)
    return slice(int(np.searchsorted(grid, value)))


def log_marginal(grid: Array, log_likelihoods: Array, scale: float) -> Array:
    """ln of the mean likelihood under the prior N(0, scale²) on the grid."""
    log_prior = -0.5 * (grid / scale) ** 2
    return _log_sum(log_prior + log_likelihoods) - _log_sum(log_prior)


def position(grid: Array, value: float) -> float:
    """Where a value stands in the grid: its index there, or between two."""
    return float((value - grid[0]) / (grid[1] - grid[0]))


def interpolate(log_likelihoods: Array, at: float) -> Array:
    """The log-likelihood at a position along the last axis: the cubic through the four nearest; exact on the grid."""
    first = min(max(math.floor(at) - 1, 0), log_likelihoods.shape[-1] - 4)
    t = at - first
    weights = (
        -(t - 1) * (t - 2) * (t - 3) / 6,
        t * (t - 2) * (t - 3) / 2,
        -t * (t - 1) * (t - 3) / 2,
        t * (t - 1) * (t - 2) / 6,
    )
    result: Array = log_likelihoods[..., first : first + 4] @ np.array(weights)
    return result


def _log_sum(values: Array) -> Array:
    """ln Σ exp along the last axis."""
    most = values.max(axis=-1, keepdims=True)
    result: Array = most[..., 0] + np.log(np.exp(values - most).sum(axis=-1))
    return result
