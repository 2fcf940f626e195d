"""What the comparer says at /metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

from ops_commander.integration.outputs.findings import SKIP_REASONS, Kind

STABLE: Final = "stable"
CANDIDATE: Final = "candidate"
ARMS: Final = (STABLE, CANDIDATE)

DROP_REASONS: Final = (
    "method",
    "streaming",
    "loop",
    "duplicate",
    "too_large",
    "broken",
    "queue_full",
    "back_off",
    "budget",
    "late",
    "shutting_down",
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 10, 30)


_PREFIX: Final = "ops_commander_comparison"


class Metrics:
    """Counters of one process, in a registry of their own. Everything is there from the start, at 0."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.deviation = Summary(
            f"{_PREFIX}_deviation", "Deviation of compared pairs, each from 0 to 1", registry=self.registry
        )
        self.pairs = self._counter("pairs", "Compared pairs")
        self.regressed = self._counter("pairs_with_regressions", "Compared pairs with a silent regression of any kind")
        self.regressions = self._counter("regressions", "Compared pairs with this kind of silent regression", "kind")
        self.dropped = self._counter("dropped", "Mirrored requests that were not asked", "reason")
        self.skipped = self._counter("skipped", "Pairs that were asked and could not be compared", "reason")
        self.answers = self._counter("answers", "Answers by status, or why there was none", "arm", "code")
        self.evidence_failures = self._counter("evidence_failures", "Uploads of evidence that failed")
        self.seconds = Histogram(
            f"{_PREFIX}_seconds", "Time of answers", ["arm"], buckets=_SECONDS, registry=self.registry
        )
        self.share = Gauge(
            f"{_PREFIX}_share", "Share of the requests that the load guard lets through", registry=self.registry
        )
        self.share.set(1.0)
        for kind in Kind:
            self.regressions.labels(kind.value)
        for reason in DROP_REASONS:
            self.dropped.labels(reason)
        for reason in SKIP_REASONS:
            self.skipped.labels(reason)
        for arm in ARMS:
            self.seconds.labels(arm)

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", told, labels, registry=self.registry)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
