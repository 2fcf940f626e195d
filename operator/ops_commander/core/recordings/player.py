"""Plays a recording: the very same decide() on snapshots that are made of it, moment by moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import pairwise

from ops_commander.api.fields import format_time
from ops_commander.api.policy import RolloutPolicySpec
from ops_commander.api.v1alpha1 import ModelRolloutStatus, ObjectiveStatus, Outcome, StepState, Transition, Verdict
from ops_commander.core.changes import Occurrence
from ops_commander.core.decide import Decision, decide
from ops_commander.core.noted import noted
from ops_commander.core.recordings.recording import Recording, RecordingProblem, Tick
from ops_commander.core.recordings.stage import Facts, Listener, Stage
from ops_commander.core.situation import Situation
from ops_commander.core.snapshot import Snapshot

MOST_AT_ONCE = 20
"""Decisions in a row without a moment passing: more is a decision that loops."""


@dataclass(frozen=True)
class Replayed:
    """One decision."""

    at: datetime
    rule: str
    reason: str
    message: str
    step: str | None
    """The step as shown."""
    state: StepState | None
    weight: int
    """Percentage of live requests on the candidate, as confirmed."""
    verdict: Verdict | None
    tick: datetime | None
    """The latest tick that all objectives have."""
    transition: Transition | None
    """The change of state that it was, if it was one."""
    outcome: Outcome | None
    occurrences: tuple[Occurrence, ...]
    snapshot: Snapshot

    @cached_property
    def rows(self) -> list[ObjectiveStatus]:
        """Verdicts that it was made of."""
        return rows_of(self.snapshot, self.at)

    @property
    def kind(self) -> tuple[object, ...]:
        """What is the same as long as nothing has changed."""
        return self.rule, self.reason, self.step, self.state, self.weight


def rows_of(snapshot: Snapshot, at: datetime) -> list[ObjectiveStatus]:
    """Verdicts on a snapshot, as decide() finds them."""
    observed, _ = noted(snapshot, at)
    return Situation(observed, at).rows


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision that has not been carried out yet."""

    snapshot: Snapshot
    decision: Decision
    at: datetime

    @property
    def status(self) -> ModelRolloutStatus:
        return self.decision.status or self.snapshot.status

    @property
    def transition(self) -> Transition | None:
        """The change of state that it is, if it is one."""
        before, after = _latest(self.snapshot.status), _latest(self.status)
        return after if after != before else None


def _latest(status: ModelRolloutStatus) -> Transition | None:
    deployment = status.deployment
    return deployment.transitions[-1] if deployment and deployment.transitions else None


class Player:
    """What replays and backtests have in common. A recording is played once."""

    def __init__(self, recording: Recording, ticks: Iterable[Tick], policy: RolloutPolicySpec | None = None) -> None:
        self.recording = recording
        self.stage = Stage(recording, policy or recording.policy)
        self.listener = Listener(recording.interval, recording.source, iter(ticks))
        self.status = self.stage.status_before(rejected=False)
        self.journal = self._journal()
        self.wake: datetime | None = self.journal[0].at
        self.notes: list[str] = []
        self._shown: tuple[object, ...] | None = None

    def _journal(self) -> list[Transition]:
        entries = self.recording.deployment.transitions
        if not entries or entries[0].rule not in ("starting", "retried"):
            found = "is empty" if not entries else f"begins with {entries[0].rule!r}, so its beginning was dropped"
            raise RecordingProblem(f"deployment.transitions {found}: expected the journal from the start on")
        if any(entry.rule == "replanned" for entry in entries):
            raise RecordingProblem("spec.steps was edited under way: expected steps that stayed, as one line has them")
        later = [after.at for before, after in pairwise(entries) if after.at < before.at]
        if later:
            raise RecordingProblem(f"deployment.transitions is out of order at {format_time(later[0])}")
        return entries

    @property
    def state(self) -> StepState | None:
        return self.status.step.state if self.status.step else None

    @property
    def is_over(self) -> bool:
        return self.status.deployment is not None and self.status.deployment.outcome is not None

    def decided(self, now: datetime, facts: Facts) -> Decided:
        """What the core says at a moment; nothing is carried out."""
        snapshot = self.listened(now, facts)
        return Decided(snapshot, decide(snapshot, now), now)

    def listened(self, now: datetime, facts: Facts) -> Snapshot:
        """What there is to see, with the evidence that is known by now."""
        snapshot = self.stage.snapshot(self.status, facts, now)
        self.listener.want(snapshot)
        self.hear(now)
        return replace(snapshot, evidence=self.listener.evidence())

    def hear(self, now: datetime) -> None:
        """Hand on the ticks that are known by now."""
        raise NotImplementedError

    def carried_out(self, found: Decided) -> Replayed:
        """Take over the status."""
        decision, status = found.decision, found.status
        if decision.status is not None:
            self.status = ModelRolloutStatus.model_validate(
                decision.status.model_dump(mode="json", by_alias=True, exclude_none=True)
            )
        self.wake = decision.requeue_at
        step = status.step or found.snapshot.status.step
        seen = [item.seen_at for item in found.snapshot.evidence.values() if item.seen_at]
        return Replayed(
            at=found.at,
            rule=decision.rule,
            reason=decision.reason,
            message=self.stage.told(decision.message),
            step=step.name if step else None,
            state=status.step.state if status.step else None,
            weight=status.weight,
            verdict=status.verdict,
            tick=min(seen, default=None),
            transition=found.transition,
            outcome=status.deployment.outcome if status.deployment else None,
            occurrences=tuple(replace(item, message=self.stage.told(item.message)) for item in decision.occurrences),
            snapshot=found.snapshot,
        )

    def is_news(self, replayed: Replayed) -> bool:
        """Whether it is another decision than the one before. To be asked once for each."""
        before, self._shown = self._shown, replayed.kind
        return replayed.transition is not None or replayed.kind != before
