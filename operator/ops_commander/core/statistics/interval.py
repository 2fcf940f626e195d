"""The set of values that the evidence leaves possible."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """All values from `low` to `high`, ends included; an end is infinite where nothing bounds it."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low is {self.low!r}, expected a number up to high = {self.high!r}")

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high

    def intersect(self, other: Interval) -> Interval | None:
        """What both leave possible; None where nothing is."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Interval(low, high) if low <= high else None
