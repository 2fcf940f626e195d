"""One objective in one step: every tick since the step began, counted once.

A trial is fed ticks in their order, live or from a range query; the same ticks give the same tally, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ops_commander.api.policy import Compare, Objective
from ops_commander.api.v1alpha1 import BaselineStatus
from ops_commander.core import measures
from ops_commander.core.counters import ArmCounters, Increments
from ops_commander.core.samples import PodSamples
from ops_commander.core.statistics.rate import RateEvidence
from ops_commander.core.statistics.ratio import RatioEvidence
from ops_commander.core.tally import NOTHING, Arm, Tally, Track, drift_edges, rate_cap

RECENT_TICKS = 12
"""Ticks whose value makes the trend, and among which a sudden turn is looked for; also how often intervals are held
against each other."""

LATE_TICKS = 60
"""After so many ticks a second, short memory begins anew."""


@dataclass(slots=True)
class Trial:
    """Counts the ticks of one objective in one step."""

    objective: Objective
    origin: datetime
    """From this tick on it counts."""
    baseline: BaselineStatus | None = None
    """The stable version before the deployment."""
    tally: Tally = NOTHING
    fresh_at: datetime | None = None
    """The latest tick at which every arm that is judged was seen, before the origin too."""
    seen_at: datetime | None = None
    """The latest tick that was answered, with or without rows."""
    _arms: tuple[ArmCounters, ArmCounters] = field(init=False)
    _waiting: float = 0.0
    """Candidate's requests since the last tick that saw both arms."""
    _window: tuple[datetime, float] | None = None

    def __post_init__(self) -> None:
        pairs = self.objective.pairs is not None
        plain = self.objective.quantile is None and self.objective.correlation is None
        self._arms = (ArmCounters(pairs, plain), ArmCounters(pairs, plain))

    @property
    def needs_stable(self) -> bool:
        return self.objective.compare is not Compare.ABSOLUTE and self.objective.pairs is None

    def alarm(self, candidate: Sequence[PodSamples]) -> float:
        """How many times its usual bad events the candidate seems to have had since the latest tick, before that is
        counted; 0 where nobody is reverted for it. A guess that costs microseconds, to decide who is counted first."""
        objective, tally = self.objective, self.tally
        if not tally.ticks or not objective.ratio or objective.max is None or not objective.reverts:
            return 0.0
        return max(0.0, self._arms[0].beyond(0, candidate[0])) / (1 + tally.candidate.bad / tally.ticks)

    def advance(self, at: datetime, candidate: Sequence[PodSamples], stable: Sequence[PodSamples]) -> None:
        """One more tick, later than those before. A tick that lacks an arm is left out for both: counters catch up."""
        mine, theirs = self._arms
        self.seen_at = at
        sees_candidate, sees_stable = bool(mine.pods(candidate)), bool(theirs.pods(stable))
        if sees_candidate and (sees_stable or not self.needs_stable):
            self.fresh_at = at
        if self.tally.first is None:
            if at >= self.origin and (sees_candidate or sees_stable):
                mine.start(at, candidate)
                theirs.start(at, stable)
                self.tally = replace(self.tally, first=at, last=at)
            else:
                mine.look(at, candidate)
                theirs.look(at, stable)
            return
        if not sees_candidate or (self.needs_stable and not sees_stable):
            return
        gained = mine.advance(at, candidate)
        before = theirs.advance(at, stable) if sees_stable else ()
        self._count(at, gained, before)

    def _count(self, at: datetime, mine: tuple[Increments, ...], theirs: tuple[Increments, ...]) -> None:
        old = self.tally
        gained, other = Arm.of(mine), Arm.of(theirs)
        self._waiting += gained.requests
        split = old.split
        if theirs:
            split = (split[0] + self._waiting, split[1] + other.requests)
            self._waiting = 0.0
        more = self._more(old, at, gained, other)
        tally = replace(
            old,
            **more,
            split=split,
            recent=(*old.recent, at)[-RECENT_TICKS - 1 :],
            recent_candidate=old.recent_candidate.followed_by(more["candidate"], RECENT_TICKS + 1),
            recent_stable=self._recent_stable(old, more["stable"]),
            **self._late(old, at, gained, other),
            **self._rate(old, at, gained.requests),
        )
        self.tally = self._held_together(tally)

    def _recent_stable(self, old: Tally, stable: Arm) -> Track:
        objective = self.objective
        if objective.ratio and objective.compare is Compare.RATIO:
            return old.recent_stable.followed_by(stable, RECENT_TICKS + 1)
        return old.recent_stable

    def _more(self, old: Tally, at: datetime, mine: Arm, theirs: Arm) -> dict[str, Any]:
        """What one tick more changes in a stretch of ticks."""
        candidate, stable = old.candidate.joined(mine), old.stable.joined(theirs)
        counted = {"last": at, "ticks": old.ticks + 1, "candidate": candidate, "stable": stable}
        objective = self.objective
        if objective.ratio and objective.compare is Compare.RATIO:
            evidence = old.ratio or RatioEvidence.empty()
            return {**counted, "ratio": evidence.add(mine.bad, mine.requests, theirs.bad, theirs.requests)}
        edges = drift_edges(objective, candidate, stable, self.baseline.edge if self.baseline else None)
        if edges is None or objective.quantile is None:
            return counted
        scale = objective.quantile.scale
        fast, slow = theirs.histogram(scale), mine.histogram(scale)
        for_pass = old.ratio or RatioEvidence.empty()
        for_breach = old.ratio_for_breach or RatioEvidence.empty()
        behind = fast.above(edges.stable)
        return {
            **counted,
            "ratio": for_pass.add(slow.above(edges.for_pass), slow.total, behind, fast.total),
            "ratio_for_breach": for_breach.add(slow.above(edges.for_breach), slow.total, behind, fast.total),
        }

    def _late(self, old: Tally, at: datetime, mine: Arm, theirs: Arm) -> dict[str, Any]:
        """The short memory with one more tick; the first stretch is the step's own memory."""
        late, beginnings = old.late, old.beginnings
        if old.ticks + 1 > LATE_TICKS and (late is None or late.ticks >= LATE_TICKS):
            late, beginnings = Tally(first=old.last), beginnings + 1
        if late is None:
            return {}
        return {"late": replace(late, **self._more(late, at, mine, theirs)), "beginnings": beginnings}

    def _held_together(self, tally: Tally) -> Tally:
        """Intervals that exclude each other: the value moved, and no single one is behind all ticks."""
        if tally.ticks % RECENT_TICKS or tally.contradicted or self.objective.rate:
            return tally
        interval = measures.interval(self.objective, tally, self.baseline)
        if interval is None:
            return tally
        common = interval if tally.common is None else tally.common.intersect(interval)
        return replace(tally, common=common, contradicted=common is None)

    def _rate(self, old: Tally, at: datetime, requests: float) -> dict[str, Any]:
        rate = self.objective.rate
        if rate is None:
            return {}
        started, counted = self._window or (old.first or at, 0.0)
        counted += requests
        elapsed = at - started
        if elapsed < max(rate.window, timedelta(seconds=1)):
            self._window = (started, counted)
            return {}
        self._window = (at, 0.0)
        evidence = old.rate or RateEvidence.empty(rate_cap(self.objective))
        return {"rate": evidence.add(counted / elapsed.total_seconds())}
