"""Prometheus' JSON as readings: samples by the ReplicaSet and pod that they belong to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from sys import intern
from typing import Any, Final

from ops_commander.core.promql import PodLabels
from ops_commander.core.samples import Owner, Reading, Sample, owner_of

Row = Mapping[str, Any]

_MOMENT = re.compile(r"([0-9])_([0-9])")
_WEIGHT_OF_A_HISTOGRAM: Final = 20


@dataclass(frozen=True, slots=True)
class _Series:
    """What a row's labels say."""

    owner: Owner
    pod: str
    name: str
    edge: float | None
    moment: tuple[int, int] | None

    def sample(self, text: str) -> Sample | None:
        value = float(text)
        return Sample(self.name, value, self.edge, None, self.moment) if math.isfinite(value) else None

    def histogram(self, said: Mapping[str, Any]) -> Sample | None:
        count = float(said["count"])
        buckets = tuple([(float(lower), float(upper), float(n)) for _, lower, upper, n in said.get("buckets", ())])
        return Sample(self.name, count, self.edge, buckets, self.moment) if math.isfinite(count) else None


def _series(labels: Mapping[str, str], names: PodLabels) -> _Series | None:
    """None for a row without a pod."""
    namespace, pod = labels.get(names.namespace), labels.get(names.pod)
    if not namespace or not pod:
        return None
    others = [f"{key}={labels[key]}" for key in sorted(labels) if key != names.namespace and key != names.pod]
    edge, moment = labels.get("le"), _MOMENT.fullmatch(labels.get("moment", ""))
    return _Series(
        owner_of(intern(namespace), pod),
        intern(pod),
        intern(",".join(others)),
        None if edge is None else float(edge),
        (int(moment[1]), int(moment[2])) if moment else None,
    )


def instant(rows: Sequence[Row], at: datetime, names: PodLabels) -> Reading:
    """An instant vector. Raises ValueError, KeyError, TypeError, AttributeError or IndexError for anything else."""
    found: dict[Owner, dict[str, list[Sample]]] = {}
    for row in rows:
        series = _series(row["metric"], names)
        if series is None:
            continue
        sample = series.sample(row["value"][1]) if "value" in row else series.histogram(row["histogram"][1])
        if sample is not None:
            found.setdefault(series.owner, {}).setdefault(series.pod, []).append(sample)
    return Reading(at, {owner: {pod: _in_order(of) for pod, of in pods.items()} for owner, pods in found.items()})


def _in_order(samples: list[Sample]) -> tuple[Sample, ...]:
    """Always the same: Prometheus sorts the rows of a range and not those of a moment."""
    return tuple(sorted(samples, key=attrgetter("series")))


def matrix(rows: Sequence[Row], start: datetime, step: timedelta, count: int, names: PodLabels) -> list[Reading]:
    """A range vector: one reading for each of `count` ticks. Raises like `instant`."""
    pods: dict[tuple[Owner, str], list[list[Sample]]] = {}
    first, pace = start.timestamp(), step.total_seconds()
    for row in rows:
        series = _series(row["metric"], names)
        if series is None:
            continue
        key = series.owner, series.pod
        ticks = pods.get(key) or pods.setdefault(key, [[] for _ in range(count)])
        for moment, sample in _samples(series, row):
            ticks[round((moment - first) / pace)].append(sample)
    found: list[dict[Owner, dict[str, tuple[Sample, ...]]]] = [{} for _ in range(count)]
    for (owner, pod), ticks in pods.items():
        for tick, samples in zip(found, ticks, strict=True):
            if samples:
                tick.setdefault(owner, {})[pod] = _in_order(samples)
    return [Reading(start + number * step, of) for number, of in enumerate(found)]


def size(rows: Sequence[Row]) -> int:
    """Samples of a matrix; a histogram counts for what its buckets weigh."""
    return sum(len(row.get("values", ())) + _WEIGHT_OF_A_HISTOGRAM * len(row.get("histograms", ())) for row in rows)


def _samples(series: _Series, row: Row) -> Iterator[tuple[float, Sample]]:
    said, sample = None, None
    for moment, text in row.get("values", ()):
        if text != said:  # a counter often stands still, and a sample is immutable
            said, sample = text, series.sample(text)
        if sample is not None:
            yield moment, sample
    for moment, histogram in row.get("histograms", ()):
        sample = series.histogram(histogram)
        if sample is not None:
            yield moment, sample
