"""What has been counted of one objective since a step began: the numbers that a verdict is made of."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import islice
from operator import sub
from typing import Any, NamedTuple, TypeVar

from ops_commander.api.policy import Compare, Objective
from ops_commander.core.counters import NO_BUCKETS, Buckets, Increments, Moment, Span
from ops_commander.core.histograms import Histogram, histogram
from ops_commander.core.statistics.interval import Interval
from ops_commander.core.statistics.rate import RateEvidence
from ops_commander.core.statistics.ratio import RatioEvidence

Key = TypeVar("Key", Span, Moment)

CAP_OVER_TARGET = 1.5
"""Rates above this multiple of the target count as this much: it makes a pass no easier and the interval narrower."""

PAIR_QUERIES = 3
"""Wins, losses and ties: only pairs have three."""


@dataclass(frozen=True, slots=True)
class Arm:
    """What the counters of one arm have gained since the step began."""

    values: tuple[float, ...] = ()
    """By query, in the objective's order."""
    buckets: Buckets = NO_BUCKETS
    spans: Mapping[Span, float] = field(default_factory=dict)
    moments: Mapping[Moment, float] = field(default_factory=dict)

    @classmethod
    def of(cls, gained: Sequence[Increments]) -> Arm:
        """What the queries of an objective have gained in one tick."""
        if not gained:
            return EMPTY
        last = gained[-1]
        return cls(tuple(item.value for item in gained), last.buckets, last.spans, last.moments)

    def joined(self, more: Arm) -> Arm:
        """Both stretches together."""
        old = self.values or (0.0,) * len(more.values)
        new = more.values or (0.0,) * len(old)
        return Arm(
            tuple(value + gained for value, gained in zip(old, new, strict=True)),
            self.buckets.plus(more.buckets),
            _added(self.spans, more.spans),
            _added(self.moments, more.moments),
        )

    def since(self, earlier: Arm) -> Arm:
        old = earlier.values or (0.0,) * len(self.values)
        return Arm(
            tuple(value - before for value, before in zip(self.values, old, strict=True)),
            self.buckets.less(earlier.buckets),
            _added(self.spans, earlier.spans, -1),
            _added(self.moments, earlier.moments, -1),
        )

    def histogram(self, scale: float) -> Histogram:
        return histogram(self.buckets, self.spans, scale)

    @property
    def bad(self) -> float:
        """Events of a ratio; never more than the requests that they are a part of."""
        return min(self.values[0], self.values[1]) if self.values else 0.0

    @property
    def requests(self) -> float:
        """What the counter of requests has gained, whatever the measure."""
        if self.moments:
            return self.moments.get((0, 0), 0.0)
        if self.buckets or self.spans:
            return max((0.0, *self.buckets.counts)) + sum(self.spans.values())
        if len(self.values) == PAIR_QUERIES:
            return sum(self.values)
        return self.values[-1] if self.values else 0.0


def _added(old: Mapping[Key, float], more: Mapping[Key, float], sign: int = 1) -> Mapping[Key, float]:
    return old if not more else {key: old.get(key, 0.0) + sign * more.get(key, 0.0) for key in {**old, **more}}


EMPTY = Arm()


class Layout(NamedTuple):
    """What the numbers of an arm are, one after the other."""

    values: int = 0
    edges: tuple[float, ...] = ()
    spans: tuple[Span, ...] = ()
    moments: tuple[Moment, ...] = ()

    @classmethod
    def of(cls, arm: Arm) -> Layout:
        return _shared(cls(len(arm.values), arm.buckets.edges, tuple(arm.spans), tuple(arm.moments)))

    @property
    def width(self) -> int:
        return self.values + len(self.edges) + len(self.spans) + len(self.moments)

    def numbers(self, arm: Arm) -> array[float]:
        """0 for what the arm lacks."""
        found = array("d", arm.values or (0.0,) * self.values)
        if self.edges:
            same = arm.buckets.edges == self.edges
            found.extend(arm.buckets.counts if same else (arm.buckets.get(edge, 0.0) for edge in self.edges))
        found.extend(arm.spans.get(span, 0.0) for span in self.spans)
        found.extend(arm.moments.get(moment, 0.0) for moment in self.moments)
        return found

    def arm(self, numbers: Iterable[float]) -> Arm:
        rest = iter(numbers)
        values = tuple(islice(rest, self.values))
        buckets = Buckets(self.edges, islice(rest, len(self.edges))) if self.edges else NO_BUCKETS
        spans = dict(zip(self.spans, islice(rest, len(self.spans)), strict=True)) if self.spans else _NONE
        moments = dict(zip(self.moments, rest, strict=True)) if self.moments else _NONE
        return Arm(values, buckets, spans, moments)


NO_NUMBERS = Layout()
_NONE: Mapping[Any, float] = {}


@lru_cache(maxsize=1024)
def _shared(layout: Layout) -> Layout:
    return layout


@dataclass(frozen=True, slots=True)
class Track:
    """How far an arm was at the latest ticks, oldest first; in plain numbers, which take a tenth of the memory."""

    layout: Layout = NO_NUMBERS
    numbers: array[float] = field(default_factory=lambda: array("d"))
    ticks: int = 0

    def followed_by(self, arm: Arm, most: int) -> Track:
        """With one tick more; no more than so many are kept. An arm has what it had before, and maybe more."""
        layout, numbers = Layout.of(arm), self.numbers
        if layout != self.layout:
            numbers = array("d", (n for tick in range(self.ticks) for n in layout.numbers(self._at(tick))))
        kept = min(self.ticks + 1, most)
        numbers = numbers[max(0, len(numbers) - (kept - 1) * layout.width) :]
        numbers.extend(layout.numbers(arm))
        return Track(layout, numbers, kept)

    def gained(self, ticks: int, until: int = 0) -> Arm:
        """From so many ticks before the latest one to it, or `until` ticks before it."""
        last = self.ticks - 1
        return self.layout.arm(map(sub, self._numbers(last - until), self._numbers(last - ticks)))

    def _at(self, tick: int) -> Arm:
        return self.layout.arm(self._numbers(tick))

    def _numbers(self, tick: int) -> array[float]:
        width = self.layout.width
        return self.numbers[tick * width : (tick + 1) * width]


@dataclass(frozen=True, slots=True)
class Tally:
    """All that a verdict is made of."""

    first: datetime | None = None
    """The origin: requests count that were made after it."""
    last: datetime | None = None
    """The latest tick that was counted."""
    ticks: int = 0
    candidate: Arm = EMPTY
    stable: Arm = EMPTY
    split: tuple[float, float] = (0.0, 0.0)
    """Requests of candidate and stable on ticks that saw both."""
    ratio: RatioEvidence | None = None
    """Events of both arms against each other: of a ratio, or of requests slower than the drift allows."""
    ratio_for_breach: RatioEvidence | None = None
    """The same where the bucket edge for a breach is another than that for a pass."""
    rate: RateEvidence | None = None
    common: Interval | None = None
    """What all intervals so far have in common."""
    contradicted: bool = False
    """Whether they have nothing in common: then the model behind them does not hold."""
    recent: tuple[datetime, ...] = ()
    """The latest ticks, oldest first."""
    recent_candidate: Track = Track()
    recent_stable: Track = Track()
    """Only where both arms' counts are held against each other."""
    late: Tally | None = None
    """The same since the latest new beginning: an average since the step began hides what gets worse late."""
    beginnings: int = 0
    """How often `late` has begun anew."""

    @property
    def seconds(self) -> float:
        return (self.last - self.first).total_seconds() if self.first and self.last else 0.0


NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class DriftEdges:
    """Where both arms are counted to see whether the candidate's quantile has drifted.

    If the candidate is slower by no more than `allowed`, then P(candidate > edge + allowed) ≤ P(stable > edge). Where
    edge + allowed is no bucket edge, the next lower one makes a pass harder and the next higher one a breach.
    """

    stable: float
    """τ: fixed before the deployment, next to the stable version's quantile."""
    for_pass: float
    for_breach: float

    @property
    def is_exact(self) -> bool:
        return self.for_pass == self.for_breach

    @classmethod
    def of(
        cls, stable: Histogram, candidate: Histogram, edge: float, allowed: float, breach: float
    ) -> DriftEdges | None:
        """τ must be an edge of stable's histogram, the others are the candidate's; None where one has none that could
        serve."""
        for_pass, for_breach = candidate.edge_at_most(edge + allowed), candidate.edge_at_least(edge + breach)
        if not stable.has_edge(edge) or for_pass is None or for_breach is None:
            return None
        return cls(edge, for_pass, for_breach)


def rate_cap(objective: Objective) -> float:
    """Requests per second from which on more of them say nothing more."""
    return max(objective.limit, objective.target) * CAP_OVER_TARGET


def drift_edges(objective: Objective, candidate: Arm, stable: Arm, edge: float | None) -> DriftEdges | None:
    """Where drift is measured, by the edges that the stable version's histogram has."""
    if objective.quantile is None or objective.compare is not Compare.DIFFERENCE or edge is None:
        return None
    if objective.max is None:
        return None
    scale = objective.quantile.scale
    return DriftEdges.of(stable.histogram(scale), candidate.histogram(scale), edge, objective.max, objective.limit)
