"""Objectives over time, out of a replay of a deployment's recording."""

from __future__ import annotations

from collections.abc import Iterable

from ops_commander.core.recordings.player import Replayed
from ops_commander.core.reports.provenance import Point


def series_of(decisions: Iterable[Replayed]) -> dict[str, list[Point]]:
    """By objective its value at each tick. Ask the replay for every decision: `run(every=True)`."""
    found: dict[str, list[Point]] = {}
    for decision in decisions:
        for row in decision.rows:
            points = found.setdefault(row.name, [])
            if row.last_tick and (not points or points[-1].at < row.last_tick):
                points.append(Point(row.last_tick, row.observed, row.interval, row.verdict, row.samples))
    return {name: points for name, points in found.items() if points}
