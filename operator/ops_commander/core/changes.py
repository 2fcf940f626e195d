"""What a rule may answer: a Change, made with the few moves that status knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ops_commander.api.v1alpha1 import (
    HistoryEntry,
    ModelRolloutStatus,
    Outcome,
    RetiringStatus,
    StepRecord,
    StepState,
    StepStatus,
)
from ops_commander.core.situation import Situation

LOOK_AGAIN = timedelta(seconds=1)
CHECK_AGAIN = timedelta(seconds=5)
EVIDENCE_WAKES = timedelta(seconds=60)
"""Where nothing but evidence is awaited that wakes its rollout by itself."""
HISTORY_LIMIT = 10


@dataclass(frozen=True)
class Occurrence:
    """Something worth an Event and a record in the log."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Change:
    """What a rule decides."""

    rule: str
    status: ModelRolloutStatus
    reason: str
    message: str
    next: str | None = None
    requeue_at: datetime | None = None
    occurrences: tuple[Occurrence, ...] = ()
    is_transition: bool = False


Rule = Callable[[Situation], Change | None]


def moved(situation: Situation, rule: str, status: ModelRolloutStatus, *occurrences: Occurrence) -> Change:
    """A transition: the next state is looked at right away."""
    last = occurrences[-1]
    return Change(
        rule,
        status,
        last.reason,
        last.message,
        requeue_at=situation.now,
        occurrences=occurrences,
        is_transition=True,
    )


def waiting(
    situation: Situation,
    rule: str,
    reason: str,
    message: str,
    *,
    next_: str | None = None,
    until: datetime | None = None,
    every: timedelta = LOOK_AGAIN,
) -> Change:
    """No transition: what is waited for, and when to look again at the latest."""
    now = situation.now
    return looked_at_by(Change(rule, situation.snapshot.status, reason, message, next_, now + every), now, until)


def looked_at_by(change: Change, now: datetime, moment: datetime | None) -> Change:
    """The same, and when to look again is no later than a moment that is yet to come."""
    if moment is None or moment <= now or change.requeue_at is None or change.requeue_at <= moment:
        return change
    return replace(change, requeue_at=moment)


def with_step(status: ModelRolloutStatus, **changes: Any) -> ModelRolloutStatus:
    assert status.step is not None
    return status.model_copy(update={"step": status.step.model_copy(update=changes)})


def in_state(situation: Situation, state: StepState, **changes: Any) -> ModelRolloutStatus:
    return with_step(situation.snapshot.status, state=state, state_since=situation.now, **changes)


def with_deployment(status: ModelRolloutStatus, **changes: Any) -> ModelRolloutStatus:
    assert status.deployment is not None
    return status.model_copy(update={"deployment": status.deployment.model_copy(update=changes)})


def with_record(status: ModelRolloutStatus, **changes: Any) -> ModelRolloutStatus:
    assert status.deployment is not None
    records = list(status.deployment.steps)
    if records:
        records[-1] = records[-1].model_copy(update=changes)
    return with_deployment(status, steps=records)


def enter_step(situation: Situation, status: ModelRolloutStatus, index: int, state: StepState) -> ModelRolloutStatus:
    now = situation.now
    name = "launch" if state is StepState.LAUNCHING else situation.snapshot.spec.steps[index].label
    status = with_record(status, left_at=now)
    assert status.deployment is not None
    records = [*status.deployment.steps, StepRecord(name=name, entered_at=now)]
    evidence_since = status.step.evidence_since if status.step else None  # the old split is live until the next one is
    step = StepStatus(
        index=index, name=name, state=state, state_since=now, entered_at=now, evidence_since=evidence_since
    )
    return with_deployment(status.model_copy(update={"step": step}), steps=records)


def end_deployment(
    situation: Situation, status: ModelRolloutStatus, outcome: Outcome, reason: str
) -> ModelRolloutStatus:
    """Close the books on the deployment; its candidate retires unless it has become stable, or has no pods any more."""
    now = situation.now
    status = with_deployment(with_record(status, left_at=now), ended_at=now, outcome=outcome, reason=reason)
    deployment, candidate = status.deployment, status.candidate_revision
    assert deployment is not None
    entry = HistoryEntry(
        deployment_id=deployment.id,
        revision=deployment.revision,
        model_version=deployment.model_version,
        outcome=outcome,
        reason=reason,
        started_at=deployment.started_at,
        ended_at=now,
    )
    retiring = [item for item in status.retiring if item.revision != candidate]
    view = situation.replica_set(candidate)
    if candidate and candidate != status.stable_revision and view is not None and not view.is_empty:
        retiring.append(RetiringStatus(revision=candidate))
    changes = {
        "history": [entry, *status.history][:HISTORY_LIMIT],
        "retiring": retiring,
        "candidate_revision": None,
        "step": None,
    }
    return status.model_copy(update=changes)
