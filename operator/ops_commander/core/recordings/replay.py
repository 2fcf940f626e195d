"""Replay: the same decisions from a recording as in life, or where and how they differ.

What the recording's journal says is what the world did: when pods were Ready, when the router had a split, when a
person gave an order. What was decided on evidence is decided anew. The journal also tells which tick each transition
was decided on, so that the same ticks are known at it, however late the operator heard of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ops_commander.api.v1alpha1 import ObjectiveStatus, Outcome, StepState, Transition
from ops_commander.core import names
from ops_commander.core.objectives import NO_EVIDENCE
from ops_commander.core.recordings.player import MOST_AT_ONCE, Decided, Player, Replayed, rows_of
from ops_commander.core.recordings.recording import Recording, Tick
from ops_commander.core.recordings.stage import HEARD_AFTER, Facts
from ops_commander.core.situation import SETTLE
from ops_commander.core.snapshot import Evidence, Snapshot

ALWAYS = datetime.max.replace(tzinfo=UTC)


def replay(recording: Recording, ticks: Iterable[Tick], *, every: bool = False) -> Iterator[Replayed]:
    """Each decision that says something new, or every one."""
    return Replay(recording, ticks).run(every=every)


class Diverged(Exception):
    """The core decides something else than what is recorded; from here on the recording is of another story."""


@dataclass(frozen=True, slots=True)
class _Span:
    """From one recorded transition to the next; without one, to the end of the recording."""

    last: Transition
    next: Transition | None
    limits: Mapping[str, datetime]
    """By objective the tick that was known at the end, where it is another than that of the transition."""
    deaf: bool
    """Whether nothing was heard of Prometheus in between."""
    away_until: datetime
    """Until when no process decided anything."""

    def limit(self, objective: str, now: datetime) -> datetime | None:
        """The latest tick that may be known."""
        if self.deaf and (self.next is None or now < self.next.at):
            return self.last.tick
        if self.next is None:
            return ALWAYS
        return self.limits.get(objective, self.next.tick)


class Replay(Player):
    """A recording played as it happened; `differences` are there at the end."""

    def __init__(self, recording: Recording, ticks: Iterable[Tick]) -> None:
        super().__init__(recording, ticks)
        self.differences: list[str] = []
        self._span = self._span_to(0)
        self.status = self.stage.status_before(rejected=self.journal[0].rule == "retried")
        self._waits = False
        """Whether the next transition is decided already, earlier than it was in life."""
        self._compared: dict[str, ObjectiveStatus] = {}
        self._now = self.journal[0].at

    def run(self, *, every: bool = False) -> Iterator[Replayed]:
        """All that is decided, up to the end or to the first difference."""
        try:
            for number in range(len(self.journal)):
                self._span = self._span_to(number)
                self.stage.observing_since = self.journal[number].observing_since
                self._waits = False
                if number:
                    yield from self._until(self.journal[number].at, every)
                yield from self._at(self.journal[number], every)
            if not self.is_over:
                yield from self._rest(every)
        except Diverged as difference:
            self.differences.append(str(difference))
        else:
            self._compare()

    @property
    def outcome(self) -> Outcome | None:
        """How the deployment ended; None while it is under way."""
        return self.status.deployment.outcome if self.status.deployment else None

    # --- What is known when -----------------------------------------------------------------------------

    def _span_to(self, number: int) -> _Span:
        last, following = self.journal[max(0, number - 1)], self.journal[number]
        since = following.observing_since
        limits = {}
        if self._froze_rows(number):
            rows = {row.name: row.last_tick for row in self.recording.objectives if row.last_tick}
            limits = {name: max(tick, following.tick or tick) for name, tick in rows.items()}
        return _Span(
            last,
            following,
            limits,
            deaf=self._is_deaf(last),
            away_until=since if since and last.at < since < following.at else last.at,
        )

    def _is_deaf(self, entry: Transition) -> bool:
        """Whether Prometheus had not been heard of for some time when something was decided."""
        return entry.tick is not None and entry.at - entry.tick > 2 * self.recording.interval + SETTLE

    def _froze_rows(self, number: int) -> bool:
        """Whether the recorded rows are those of this transition."""
        if self.recording.deployment.outcome is None and self.recording.rollback is None:
            return False
        reverted = [i for i, entry in enumerate(self.journal) if entry.state is StepState.REVERTING]
        return number == (reverted[0] if reverted else len(self.journal) - 1)

    def listened(self, now: datetime, facts: Facts) -> Snapshot:
        """A process that was new had heard nothing yet."""
        snapshot, span = super().listened(now, facts), self._span
        if span.next is None or span.next.tick is not None:
            return snapshot
        heard = {
            name: item if name in span.limits else Evidence(origin=item.origin, source=item.source)
            for name, item in snapshot.evidence.items()
        }
        return replace(snapshot, evidence=heard)

    def hear(self, now: datetime) -> None:
        self.listener.hear(lambda objective: self._span.limit(objective, now))

    # --- What happens when ------------------------------------------------------------------------------

    def _facts(self, now: datetime) -> Facts:
        entry, state, rollback = self._span.next, self.state, self.recording.rollback
        if entry is None:
            waiting = (StepState.CLEARING, StepState.PREPARING, StepState.SHIFTING, *_PROMOTING)
            reverted = rollback is not None and rollback.traffic_reverted_at is not None
            return Facts(
                ready=state not in waiting,
                observed=reverted if state is StepState.REVERTING else state not in waiting,
                paused=state is StepState.PAUSED,
            )
        is_now, is_soon = now >= entry.at, now >= entry.at - SETTLE
        rule, step = entry.rule, self.status.step
        identity = self.stage.deployment_id
        orders = {
            "retried": {names.RETRY: self.stage.rejected_id},
            "aborted": {names.ABORT: identity},
            "promoted": {names.PROMOTE: f"{identity}/{step.index if step else 0}"},
        }
        toggled = rule == "paused" and is_now
        return Facts(
            ready=self._ready(entry, is_soon),
            observed=self._observed(entry, now),
            drifted=rule == "drifted" and is_now,
            lost=rule == "capacity_lost" and is_now,
            gone=entry.state is None and is_now,
            restarted=rule == "candidate_restarted" and is_now,
            late=rule == "progress_deadline_exceeded" and is_now,
            paused=(state is StepState.PAUSED) != toggled,
            annotations=orders.get(rule, {}) if is_now else {},
        )

    def _ready(self, entry: Transition, is_soon: bool) -> bool:
        if self.state is StepState.PREPARING:
            return is_soon and entry.state is StepState.SHIFTING
        return self.state is not StepState.SWITCHING or (is_soon and entry.state is StepState.RETURNING)

    def _observed(self, entry: Transition, now: datetime) -> bool:
        is_soon, rollback = now >= entry.at - SETTLE, self.recording.rollback
        if self.state is StepState.REVERTING:
            reverted_at = rollback.traffic_reverted_at if rollback else None
            return reverted_at is not None and now >= reverted_at
        if self.state is StepState.CLEARING:
            return is_soon and entry.state is StepState.PREPARING
        if self.state is StepState.RETURNING:
            return is_soon and entry.state is None
        return self.state is not StepState.SHIFTING or (now >= entry.at and entry.state is StepState.RUNNING)

    def _moments(self) -> Iterator[datetime]:
        """When there could be something to decide."""
        entry, rollback = self._span.next, self.recording.rollback
        if self.wake:
            yield self.wake
        if self.listener.due:
            yield self.listener.due
        if entry and entry.at - SETTLE > self._now:
            yield entry.at - SETTLE
        if rollback and rollback.traffic_reverted_at and rollback.traffic_reverted_at > self._now:
            yield rollback.traffic_reverted_at

    # --- The play ----------------------------------------------------------------------------------------

    def _until(self, end: datetime, every: bool) -> Iterator[Replayed]:
        """Decisions before a moment."""
        while (moment := max(self._now, min(self._moments(), default=end))) < end:
            self._pass(moment)
            if moment < self._span.away_until or self._waits:
                self.wake = None if self._waits else self._span.away_until
                self.listened(moment, self._facts(moment))
            else:
                yield from self._decide(moment, every)

    def _pass(self, moment: datetime) -> None:
        self._now = moment
        known = moment - HEARD_AFTER
        entry = self._span.next
        if entry and entry.at <= moment:  # what was decided on was known
            ticks = (entry.tick, *self._span.limits.values())
            known = max([known, *(tick for tick in ticks if tick)])
        self.listener.pass_until(known)

    def _decide(self, moment: datetime, every: bool) -> Iterator[Replayed]:
        for _ in range(MOST_AT_ONCE):
            found = self.decided(moment, self._facts(moment))
            if found.transition and not self._is_early(found):
                raise Diverged(self._otherwise(found))
            if found.transition:
                self._waits = True
                return
            replayed = self.carried_out(found)
            if self.is_news(replayed) or every:
                yield replayed
            self._keep_rows(found)
            if self.wake is None or self.wake > moment:
                return
        raise AssertionError(f"loops without time passing: {found.decision.rule} {found.decision.message}")

    def _is_early(self, found: Decided) -> bool:
        """Whether it is the recorded transition, decided by an operator that heard of a tick somewhat later."""
        entry, made = self._span.next, found.transition
        assert made is not None
        if entry is None:
            if self.recording.recorded_at - found.at > self.recording.stale_after:
                return False
            self.notes.append(f"{_clock(found.at)}: {_move(made)} is due; it was not yet there when this was recorded")
            return True
        slack = max(self.recording.stale_after, self.stage.policy.hold_after)  # deaf for longer, it would say so
        if not _is_same(made, entry) or entry.at - found.at > slack:
            return False
        if entry.tick and made.tick and made.tick != entry.tick:
            self.notes.append(
                f"{_clock(found.at)}: {_move(made)} could be decided on the tick {_clock(made.tick)};"
                f" the operator had heard of it only by {_clock(entry.at)}"
            )
        return True

    def _at(self, entry: Transition, every: bool) -> Iterator[Replayed]:
        """The recorded transition."""
        self._pass(entry.at)
        for _ in range(MOST_AT_ONCE):
            found = self.decided(entry.at, self._facts(entry.at))
            made = found.transition
            if made and not _is_same(made, entry):
                raise Diverged(self._otherwise(found))
            if made and entry.tick and made.tick != entry.tick:
                ticks = f"on the tick {_clock(made.tick)}, recorded: {_clock(entry.tick)}"
                self.differences.append(f"{_clock(entry.at)}: {_move(entry)} {ticks}")
            replayed = self.carried_out(found)
            if self.is_news(replayed) or every:
                yield replayed
            if made:
                return
            if self.wake is None or self.wake > entry.at:
                break
        stays = f"{found.decision.rule}: {found.decision.reason}: {self.stage.told(found.decision.message)}"
        raise Diverged(f"{_clock(entry.at)}: recorded: {_move(entry)}; the replay stays: {stays}")

    def _otherwise(self, found: Decided) -> str:
        entry, made = self._span.next, found.transition
        assert made is not None
        recorded = f"{_move(entry)} at {_clock(entry.at)}" if entry else "nothing more"
        why = f"{found.decision.reason}: {self.stage.told(found.decision.message)}"
        return f"{_clock(found.at)}: the replay decides {_move(made)} ({why}); recorded: {recorded}"

    def _rest(self, every: bool) -> Iterator[Replayed]:
        """What came after the last transition of a deployment under way."""
        last = self.journal[-1]
        heard = max((row.last_tick for row in self.recording.objectives if row.last_tick), default=last.at)
        deaf = self._is_deaf(last) and last.tick is not None and heard <= last.tick
        self._span = _Span(last, None, {}, deaf=deaf, away_until=last.at)
        self._waits = False
        yield from self._until(self.recording.recorded_at, every)

    # --- The comparison ----------------------------------------------------------------------------------

    def _keep_rows(self, found: Decided) -> None:
        """Of a deployment under way the rows are as old as their ticks: keep those of the same ticks."""
        if self._span.next is not None:
            return
        wanted = {row.name: row.last_tick for row in self.recording.objectives if row.last_tick}
        if any(item.tally.last == wanted.get(name) for name, item in found.snapshot.evidence.items()):
            rows = rows_of(found.snapshot, found.at)
            self._compared |= {row.name: row for row in rows if row.last_tick == wanted.get(row.name)}

    def _compare(self) -> None:
        deployment, ours = self.recording.deployment, self.status.deployment
        assert ours is not None
        if (ours.outcome, ours.reason) != (deployment.outcome, deployment.reason):
            recorded = f"{deployment.outcome} ({deployment.reason})"
            self.differences.append(f"outcome is {ours.outcome} ({ours.reason}), recorded: {recorded}")
        self._compare_rollbacks()
        whole = deployment.outcome is not None or self.recording.rollback is not None
        mine = {row.name: row for row in self.status.objectives} if whole else self._compared
        for row in self.recording.objectives:
            if whole or row.name in mine:
                self.differences += _row_differences(mine.get(row.name), row, whole)

    def _compare_rollbacks(self) -> None:
        theirs, mine = self.recording.rollback, self.status.rollback
        for name in ("reason", "objective", "breach_visible_at", "decided_at"):
            was, is_ = getattr(theirs, name, None), getattr(mine, name, None)
            if was != is_:
                self.differences.append(f"rollback.{name} is {_text(is_)}, recorded: {_text(was)}")


_PROMOTING = (StepState.SWITCHING, StepState.RETURNING)
_NUMBERS = ("observed", "candidate", "stable", "interval", "samples", "dispersion", "first_tick", "last_tick", "ticks")
_VERDICTS = ("verdict", "reason", "role", "judged", "target", "unit", "trend", "query")


def _row_differences(mine: ObjectiveStatus | None, row: ObjectiveStatus, whole: bool) -> Iterator[str]:
    """Field by field, bit for bit."""
    if mine is None:
        yield f"objective {row.name}: not judged, recorded: {row.verdict} ({row.reason})"
        return
    fields = [*_NUMBERS, *(_VERDICTS if whole else ())]
    if whole and row.reason not in NO_EVIDENCE:  # those say what Prometheus said to the operator
        fields.append("message")
    for name in fields:
        was, is_ = getattr(row, name), getattr(mine, name)
        if was != is_:
            yield f"objective {row.name}: {name} is {_text(is_)}, recorded: {_text(was)}"


def _is_same(made: Transition, entry: Transition) -> bool:
    return (made.rule, made.step, made.state) == (entry.rule, entry.step, entry.state)


def _move(entry: Transition) -> str:
    where = f"{entry.state} in step {entry.step + 1}" if entry.state else "the end"
    return f"{entry.rule} → {where}"


def _clock(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%H:%M:%S.%f}"[:-3] if moment else "none"


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return _clock(value)
    return repr(value) if isinstance(value, str) else str(value)
