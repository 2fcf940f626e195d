"""From counters as they stand to what was added between two ticks: resets, births and deaths of series and pods."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from operator import add, itemgetter, sub
from typing import NamedTuple

from ops_commander.core.samples import PodSamples, Sample, which

LEAD_IN = timedelta(seconds=60)
"""A pod seen so shortly before the first tick that counts is an old one, even if that tick itself misses it."""

Moment = tuple[int, int]
Span = tuple[float, float]

_WHICH = itemgetter(0, 2)
"""Of a sample: what tells the series of a pod apart."""


@lru_cache(maxsize=1024)
def _shared(edges: tuple[float, ...]) -> tuple[float, ...]:
    return edges


class Buckets(Mapping[float, float]):
    """Counts by upper edge of a classic histogram, cumulative. Most have the same edges, and hold the same tuple."""

    __slots__ = ("counts", "edges")

    def __init__(self, edges: tuple[float, ...] = (), counts: Iterable[float] = ()) -> None:
        """The edges rise, and there is a count for each."""
        self.edges = edges
        self.counts: Sequence[float] = array("d", counts)

    @classmethod
    def of(cls, counts: Mapping[float, float]) -> Buckets:
        if isinstance(counts, Buckets):
            return counts
        edges = _shared(tuple(sorted(counts)))
        return cls(edges, [counts[edge] for edge in edges])

    def __getitem__(self, edge: float) -> float:
        try:
            return self.counts[self.edges.index(edge)]
        except ValueError:
            raise KeyError(edge) from None

    def __iter__(self) -> Iterator[float]:
        return iter(self.edges)

    def __len__(self) -> int:
        return len(self.edges)

    def __hash__(self) -> int:
        return hash((self.edges, *self.counts))

    def __repr__(self) -> str:
        return f"Buckets({dict(self)!r})"

    def plus(self, more: Buckets) -> Buckets:
        if not more.edges:
            return self
        if self.edges is more.edges:
            return Buckets(self.edges, map(add, self.counts, more.counts))
        return Buckets.of({edge: self.get(edge, 0.0) + more.get(edge, 0.0) for edge in {**self, **more}})

    def less(self, earlier: Buckets) -> Buckets:
        if self.edges is earlier.edges:
            return Buckets(self.edges, map(sub, self.counts, earlier.counts))
        return Buckets.of({edge: self.get(edge, 0.0) - earlier.get(edge, 0.0) for edge in {**self, **earlier}})


NO_BUCKETS = Buckets()
_NO_SPANS: Mapping[Span, float] = {}
_NO_MOMENTS: Mapping[Moment, float] = {}


class Increments(NamedTuple):
    """What one query's counters of one arm have gained between two ticks."""

    value: float = 0.0
    """Of plain counters, all series together."""
    buckets: Buckets = NO_BUCKETS
    spans: Mapping[Span, float] = _NO_SPANS
    """By lower and upper edge of a native histogram's buckets, each for itself."""
    moments: Mapping[Moment, float] = _NO_MOMENTS


@dataclass(slots=True)
class ArmCounters:
    """The counters of one arm's pods for the queries of one objective.

    A pod is there at a tick where it has a series of the last query, which counts requests (of any of them for
    `any_query`). Nothing counts until `start`. After it a series that is new counts from 0 where its pod is known or
    has come to life since; a pod that was there before and missed the first tick counts from the sample after it.
    """

    any_query: bool = False
    plain: bool = False
    """Whether all counters are added up, whatever labels they have: a bucket can be a counter like others."""
    _last: dict[tuple[int, str], tuple[Sample, ...]] = field(default_factory=dict)
    """By query and pod: the latest sample of each series, in the order of their names."""
    _seen: dict[str, datetime] = field(default_factory=dict)
    _adrift: frozenset[str] = frozenset()
    """Pods that were there before the start and have not been seen since."""
    _started: bool = False

    def pods(self, readings: Sequence[PodSamples]) -> Collection[str]:
        """Those that are there, in a fixed order."""
        return sorted({pod for samples in readings for pod in samples}) if self.any_query else readings[-1]

    def start(self, at: datetime, readings: Sequence[PodSamples]) -> None:
        """From this tick on it counts; the tick itself is the origin."""
        present = self.pods(readings)
        self._adrift = frozenset(pod for pod, seen in self._seen.items() if pod not in present and seen >= at - LEAD_IN)
        self._last.clear()
        self._started = True
        for pod in present:
            self._take_over(pod, readings)
        self._seen = dict.fromkeys(present, at)

    def look(self, at: datetime, readings: Sequence[PodSamples]) -> None:
        """A tick before the start: which pods there are."""
        self._seen.update(dict.fromkeys(self.pods(readings), at))

    def advance(self, at: datetime, readings: Sequence[PodSamples]) -> tuple[Increments, ...]:
        """What each query's counters have gained since the tick before."""
        assert self._started
        for pod in self.pods(readings):
            if pod in self._adrift:
                self._adrift -= {pod}
                self._take_over(pod, readings)
            self._seen[pod] = at
        return tuple(self._gained(number, samples) for number, samples in enumerate(readings))

    def beyond(self, number: int, samples: PodSamples) -> float:
        """About how much plain counters have gained since the latest tick; what began again at 0 makes it less."""
        now = sum(sample.value for series in samples.values() for sample in series)
        return now - sum(sample.value for pod in samples for sample in self._last.get((number, pod), ()))

    def _take_over(self, pod: str, readings: Sequence[PodSamples]) -> None:
        for number, samples in enumerate(readings):
            if pod in samples:
                known = {which(sample): sample for sample in self._last.get((number, pod), ())}
                known |= {which(sample): sample for sample in samples[pod]}
                self._last[number, pod] = _in_order(known.values())

    def _gained(self, number: int, samples: PodSamples) -> Increments:
        gains = _Gains(self.plain)
        for pod in sorted(samples):  # sums of fractions depend on the order
            if pod not in self._seen:
                continue  # its requests are not counted, so neither are its errors
            before, now = self._last.get((number, pod), ()), samples[pod]
            if list(map(_WHICH, before)) == list(map(_WHICH, now)):
                gains.add_same(before, now)
                self._last[number, pod] = now
            else:
                self._last[number, pod] = gains.add_others(before, now)
        return gains.increments()


def _in_order(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=which))


def _gain(before: float, now: float) -> float:
    """A counter that fell began again at 0."""
    return now - before if now >= before else max(now, 0.0)


@dataclass(slots=True)
class _Gains:
    plain: bool
    value: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)
    spans: dict[Span, float] = field(default_factory=dict)
    moments: dict[Moment, float] = field(default_factory=dict)

    def increments(self) -> Increments:
        if not (self.buckets or self.spans or self.moments):
            return Increments(self.value)
        return Increments(self.value, Buckets.of(self.buckets), self.spans, self.moments)

    def add_same(self, before: Sequence[Sample], now: Sequence[Sample]) -> None:
        """Where the series are those of the tick before, as they nearly always are."""
        value, buckets = self.value, self.buckets
        for had, sample in zip(before, now, strict=True):
            if self.plain:
                value += _gain(had.value, sample.value)
            elif (edge := sample.edge) is not None and sample.buckets is None:
                buckets[edge] = buckets.get(edge, 0.0) + _gain(had.value, sample.value)
            else:
                self.add(had, sample)
        if self.plain:
            self.value = value

    def add_others(self, before: Sequence[Sample], now: Sequence[Sample]) -> tuple[Sample, ...]:
        """Where series have come or gone; the latest samples of all that there were."""
        known = {which(sample): sample for sample in before}
        for sample in _in_order(now):
            self.add(known.get(which(sample)), sample)
            known[which(sample)] = sample
        return _in_order(known.values())

    def add(self, before: Sample | None, now: Sample) -> None:
        if now.buckets is not None and not self.plain:
            self._add_native(before, now)
            return
        gained = _gain(before.value if before else 0.0, now.value)
        if self.plain:
            self.value += gained
        elif now.edge is not None:
            self.buckets[now.edge] = self.buckets.get(now.edge, 0.0) + gained
        elif now.moment is not None:
            self.moments[now.moment] = self.moments.get(now.moment, 0.0) + gained
        else:
            self.value += gained

    def _add_native(self, before: Sample | None, now: Sample) -> None:
        """A server may halve the resolution under way: old buckets then merge into the new ones without loss."""
        assert now.buckets is not None
        old = before.buckets if before and before.buckets is not None and now.value >= before.value else ()
        for lower, upper, count in now.buckets:
            had = sum(n for low, high, n in old if low >= lower and high <= upper)
            if count > had:
                self.spans[(lower, upper)] = self.spans.get((lower, upper), 0.0) + count - had
