"""A window of metrics: what a collect action stores, and how much of the window was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from ops_commander.api.fields import format_time
from ops_commander.api.policy import Objective
from ops_commander.core import baseline, measures
from ops_commander.core.counters import ArmCounters
from ops_commander.core.plans.criteria import metric_name
from ops_commander.core.plans.observed import Collected
from ops_commander.core.samples import Owner, Reading, tick_at_or_before
from ops_commander.core.tally import Arm

MOST_TICKS: Final = 720
"""A day is read every two minutes: counters add up between two ticks whatever their distance."""
_UNITS: Final = {"_ms": ("s", 1000.0), "_rps": ("req/s", 1.0)}


class UnknownMetric(Exception):
    """No objective of the policy is called so."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that is asked for, and the objective that measures it."""

    name: str
    objective: Objective
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Window:
    """Ticks of a window, both ends among them."""

    start: datetime
    end: datetime
    tick: timedelta

    @property
    def gains(self) -> int:
        """Distances between neighbouring ticks."""
        return (self.end - self.start) // self.tick


def window_until(now: datetime, length: timedelta, interval: timedelta) -> Window:
    """The window that ends now, on ticks that all processes share."""
    tick = interval * max(1, -(-length // (interval * MOST_TICKS)))
    end = tick_at_or_before(now, tick)
    return Window(end - max(1, length // tick) * tick, end, tick)


def metrics_of(wanted: Iterable[str], objectives: Sequence[Objective]) -> list[Metric]:
    """The objectives that measure these metrics. Raises UnknownMetric naming those that there are."""
    known: dict[str, tuple[Objective, float]] = {}
    for objective in objectives:
        if objective.queries:
            name = metric_name(objective.name)
            known[name] = (objective, 1.0)
            known |= {
                f"{name}{suffix}": (objective, factor)
                for suffix, (unit, factor) in _UNITS.items()
                if objective.unit == unit
            }
    found = []
    for name in wanted:
        if metric_name(name) not in known:
            there = ", ".join(sorted(known)) or "none, as the policy has no objective with queries"
            raise UnknownMetric(f"metric {name!r} has no objective: expected one of {there}")
        found.append(Metric(metric_name(name), *known[metric_name(name)]))
    return found


def collected(
    metrics: Sequence[Metric], readings: Mapping[str, Sequence[Reading]], owner: Owner, window: Window
) -> Collected:
    """The window in numbers, and as the document that is stored. `coverage` is that of the worst metric."""
    rows = [_row(metric, readings, owner, window) for metric in metrics]
    values = {"coverage": min((row["coverage"] for row in rows), default=0.0)}
    for row in rows:
        if row["value"] is not None:
            values[row["name"]] = row["value"]
        values[f"{row['name']}_requests"] = row["requests"]
    summaries = (baseline.summarised(metric.objective, readings, owner) for metric in metrics)
    document = {
        "format": "ops-commander.dev/collected-metrics/v1",
        "from": format_time(window.start),
        "to": format_time(window.end),
        "tickSeconds": window.tick.total_seconds(),
        "namespace": owner[0],
        "replicaSet": owner[1],
        "coverage": values["coverage"],
        "metrics": rows,
        "baseline": [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in summaries if item],
    }
    return Collected(values, document)


def _row(metric: Metric, readings: Mapping[str, Sequence[Reading]], owner: Owner, window: Window) -> dict[str, Any]:
    objective = metric.objective
    gained = _gained(objective, [readings.get(query, ()) for query in objective.queries], owner)
    whole = Arm()
    for _, arm in gained:
        whole = whole.joined(arm)
    tick = window.tick.total_seconds()
    series = [[format_time(at), _value(metric, arm, tick)] for at, arm in gained]
    return {
        "name": metric.name,
        "objective": objective.name,
        "queries": list(objective.queries),
        "value": _value(metric, whole, tick * len(gained)) if gained else None,
        "requests": whole.requests if gained else 0.0,
        "coverage": round(len(gained) / window.gains, 6),
        "series": series,
    }


def _value(metric: Metric, arm: Arm, seconds: float) -> float | None:
    rate = arm.requests / seconds if metric.objective.rate else None
    value = measures.value_of(metric.objective, arm) if rate is None else rate
    return None if value is None else value * metric.factor


def _gained(objective: Objective, per_query: Sequence[Sequence[Reading]], owner: Owner) -> list[tuple[datetime, Arm]]:
    """What each tick has added to the one before it, where both were seen."""
    counters = ArmCounters(objective.pairs is not None, objective.quantile is None and objective.correlation is None)
    gained: list[tuple[datetime, Arm]] = []
    before = None
    for index, together in enumerate(zip(*per_query, strict=True)):
        samples = [reading.of(owner) for reading in together]
        if not counters.pods(samples):
            continue
        at = together[0].at
        if before is None:
            counters.start(at, samples)
        else:
            arm = Arm.of(counters.advance(at, samples))
            if before == index - 1:
                gained.append((at, arm))
        before = index
    return gained
