"""What was compared so far: counts, and the pairs that differ most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ops_commander.api.fields import format_time
from ops_commander.comparer.metrics import Metrics
from ops_commander.integration.outputs.findings import Compared, Kind

Evidence = dict[str, Any]
_Rank = tuple[float, int]

MOST_MINUTES: Final = 1440
"""Lines of metrics.log that are kept: a day."""


@dataclass(frozen=True, slots=True)
class _Kept:
    rank: _Rank
    kinds: frozenset[Kind]
    evidence: Evidence
    shown: Evidence


@dataclass
class Worst:
    """A bounded number of pairs: those that deviate most, and of each kind of regression at least one."""

    most: int
    _kept: list[_Kept] = field(default_factory=list)

    def offer(self, compared: Compared, evidence: Callable[[], tuple[Evidence, Evidence]]) -> None:
        """Keeps it if it is among the worst; only then is its evidence asked for: to be stored, and to be shown."""
        rank = (compared.deviation, len(compared.kinds))
        if not self.most or rank == (0.0, 0):
            return
        if len(self._kept) >= self.most and not self._makes_room(rank, compared.kinds):
            return
        self._kept.append(_Kept(rank, compared.kinds, *evidence()))

    def _makes_room(self, rank: _Rank, kinds: frozenset[Kind]) -> bool:
        known = Counter(kind for kept in self._kept for kind in kept.kinds)
        is_new = any(kind not in known for kind in kinds)
        spare = [kept for kept in self._kept if all(known[kind] > 1 or kind in kinds for kind in kept.kinds)]
        least = min(spare, key=lambda kept: kept.rank, default=None)
        if least is None or not (is_new or rank > least.rank):
            return False
        self._kept.remove(least)
        return True

    @property
    def pairs(self) -> list[Evidence]:
        """The worst first, with the payloads that are wanted as evidence."""
        return [kept.evidence for kept in self._sorted()]

    @property
    def shown(self) -> list[Evidence]:
        """The same, always redacted: whoever reaches the port may see it."""
        return [kept.shown for kept in self._sorted()]

    def _sorted(self) -> list[_Kept]:
        return sorted(self._kept, key=lambda kept: kept.rank, reverse=True)


class Ledger:
    """Counts, in metrics and for reports."""

    def __init__(self, metrics: Metrics, worst: int) -> None:
        self.metrics = metrics
        self.worst = Worst(worst)
        self.pairs = 0
        self.regressed = 0
        self.deviation = 0.0
        self.kinds: Counter[str] = Counter({kind.value: 0 for kind in Kind})
        self.dropped: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    def drop(self, reason: str) -> None:
        self.dropped[reason] += 1
        self.metrics.dropped.labels(reason).inc()

    def skip(self, reason: str) -> None:
        self.skipped[reason] += 1
        self.metrics.skipped.labels(reason).inc()

    def answer(self, arm: str, code: str, seconds: float) -> None:
        self.metrics.answers.labels(arm, code).inc()
        self.metrics.seconds.labels(arm).observe(seconds)

    def compared(self, compared: Compared, evidence: Callable[[], tuple[Evidence, Evidence]]) -> None:
        self.pairs += 1
        self.deviation += compared.deviation
        self.metrics.pairs.inc()
        self.metrics.deviation.observe(compared.deviation)
        if compared.kinds:
            self.regressed += 1
            self.metrics.regressed.inc()
        for kind in compared.kinds:
            self.kinds[kind.value] += 1
            self.metrics.regressions.labels(kind.value).inc()
        self.worst.offer(compared, evidence)

    def summary(self, now: datetime, deployment_id: str) -> Evidence:
        """A line of metrics.log."""
        return {
            "time": format_time(now),
            "deploymentId": deployment_id,
            "pairs": self.pairs,
            "deviationMean": round(self.deviation / self.pairs, 6) if self.pairs else None,
            "pairsWithRegressions": self.regressed,
            "regressions": {kind: count for kind, count in self.kinds.items() if count},
            "dropped": dict(self.dropped),
            "skipped": dict(self.skipped),
            "share": round(self.metrics.share._value.get(), 3),
        }
