"""What one query said at one tick: cumulative counters, series by series, sorted by the ReplicaSet of their pods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

Owner = tuple[str, str]
"""Namespace and name of a ReplicaSet: a pod's name without its last part."""


class Sample(NamedTuple):
    """One series of a pod at one tick."""

    series: str
    """Its labels in a fixed order, without namespace, pod and `le`; with the edge it tells a pod's series apart."""
    value: float
    """The counter as it stands; the count of observations where `buckets` is given."""
    edge: float | None = None
    """Upper edge (`le`) of a classic histogram's cumulative bucket."""
    buckets: tuple[tuple[float, float, float], ...] | None = None
    """A native histogram: lower edge, upper edge and count of each bucket, rising, not cumulative."""
    moment: tuple[int, int] | None = None
    """Powers (i, j) of the sum Σ x^i·y^j, from the label `moment` such as "2_1"."""


def which(sample: Sample) -> tuple[str, float]:
    """What tells the series of a pod apart, in an order that is always the same."""
    return place_among(sample.series, sample.edge)


def place_among(series: str, edge: float | None) -> tuple[str, float]:
    return series, -math.inf if edge is None else edge


PodSamples = Mapping[str, tuple[Sample, ...]]
"""Samples by name of the pod."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One query's rows at one tick, for all rollouts together."""

    at: datetime
    rows: Mapping[Owner, PodSamples] = field(default_factory=dict)

    def of(self, owner: Owner) -> PodSamples:
        return self.rows.get(owner, {})

    @property
    def size(self) -> int:
        """Samples."""
        return sum(len(samples) for pods in self.rows.values() for samples in pods.values())


def owner_of(namespace: str, pod: str) -> Owner:
    """The ReplicaSet that a pod belongs to, by its name."""
    return namespace, pod.rpartition("-")[0]


def tick_at_or_before(moment: datetime, interval: timedelta) -> datetime:
    """Ticks stand at whole multiples of the interval since 1970, so that every process has the same ones."""
    number = moment.timestamp() // interval.total_seconds()
    return datetime.fromtimestamp(number * interval.total_seconds(), UTC)


def tick_at_or_after(moment: datetime, interval: timedelta) -> datetime:
    tick = tick_at_or_before(moment, interval)
    return tick if tick == moment else tick + interval
