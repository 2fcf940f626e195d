"""decide: what was observed in, what to record and to do out. Everything that the operator does comes from here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ops_commander.api.v1alpha1 import ModelRolloutStatus, StepState
from ops_commander.core import consensus, evidence_kept, names, story
from ops_commander.core.changes import LOOK_AGAIN, Change, Occurrence
from ops_commander.core.desired import Action, SetFinalizers, actions_for, removal_actions, with_traffic
from ops_commander.core.journal import with_transition
from ops_commander.core.noted import noted
from ops_commander.core.routes import ALL_STABLE, Split
from ops_commander.core.rules import RULES
from ops_commander.core.situation import PROMOTING, Situation
from ops_commander.core.snapshot import Evidence, Snapshot

PRESSING = timedelta(seconds=10)
"""For so long a split that was ordered goes before others."""

_GIVES_TRAFFIC = PROMOTING | {StepState.LAUNCHING}


@dataclass(frozen=True)
class Decision:
    """Status is committed first; urgent actions go before that commit, the others after it."""

    rule: str
    reason: str
    message: str
    status: ModelRolloutStatus | None = None
    """None where there is nothing to write."""
    urgent: tuple[Action, ...] = ()
    actions: tuple[Action, ...] = ()
    occurrences: tuple[Occurrence, ...] = ()
    requeue_at: datetime | None = None
    is_transition: bool = False


def decide(snapshot: Snapshot, now: datetime) -> Decision:
    """The decision for a snapshot at a moment. Pure: the same input gives the same decision.

    After a transition status says at once what is waited for from then on, so that one commit tells both. It is
    looked at again all the same: what is observed depends on the state.
    """
    decision = _decide_once(snapshot, now)
    if decision.status is None or not decision.is_transition:
        return decision
    next_ = _decide_once(_with_status(snapshot, decision.status), now)
    if next_.status is None or next_.urgent or next_.occurrences or next_.is_transition:
        return decision
    return replace(decision, status=next_.status)


def _with_status(snapshot: Snapshot, status: ModelRolloutStatus) -> Snapshot:
    """Evidence of one split says nothing about the next."""
    before, after = (item.step.evidence_since if item.step else None for item in (snapshot.status, status))
    nothing = {name: Evidence(source=known.source) for name, known in snapshot.evidence.items()}
    return replace(snapshot, status=status, evidence=snapshot.evidence if before == after else nothing)


def _decide_once(snapshot: Snapshot, now: datetime) -> Decision:
    if snapshot.deleted_at is not None:
        return _decide_removal(snapshot, now)
    if names.FINALIZER not in snapshot.finalizers:
        claim = SetFinalizers((*snapshot.finalizers, names.FINALIZER))
        return Decision("claimed", "Claimed", "finalizer set", actions=(claim,), requeue_at=now)
    observed, seen = noted(snapshot, now)
    situation, cast = consensus.counted(Situation(observed, now))
    change = _first_answer(situation)
    status = with_traffic(situation, with_transition(situation, change))
    urgent, actions = actions_for(situation, status)
    actions = [*actions, *consensus.notes(situation)]
    status, lost = evidence_kept.with_outbox(situation, story.told(situation, change, status))
    return Decision(
        rule=change.rule,
        reason=change.reason,
        message=change.message,
        status=status if story.worth_writing(snapshot.status, status, situation) else None,
        urgent=tuple(urgent),
        actions=tuple(actions),
        occurrences=(*seen, *cast, *change.occurrences, *lost),
        requeue_at=_requeue_at(situation, change, bool(urgent or actions)),
        is_transition=change.is_transition,
    )


def adds_traffic(before: ModelRolloutStatus, after: ModelRolloutStatus) -> bool:
    """Whether a decision sends more requests to new pods than before: it must not rest on anything outdated."""
    state = after.step.state if after.step else None
    if state in _GIVES_TRAFFIC and (before.step is None or before.step.state is not state):
        return True
    if after.traffic is None:
        return False
    old, new = Split.of(before.traffic) if before.traffic else ALL_STABLE, Split.of(after.traffic)
    return (
        new.candidate_weight > old.candidate_weight
        or new.mirror_percent > old.mirror_percent
        or new.compare_percent > old.compare_percent
    )


def status_to_follow(decision: Decision) -> ModelRolloutStatus | None:
    """That of a revert, if urgent acts go before its commit: what they lead to may be written with it."""
    status = decision.status
    return status if decision.urgent and status is not None and is_reverting(status) else None


def is_pressing(status: ModelRolloutStatus, now: datetime) -> bool:
    """Whether the next look goes before others: a revert under way, or a split ordered lately, of which there is no
    evidence before it was seen to be live. A router that does not come takes nobody's turn for long."""
    step = status.step
    is_new = step is not None and step.state is StepState.SHIFTING and now < step.state_since + PRESSING
    return is_new or is_reverting(status)


def is_reverting(status: ModelRolloutStatus) -> bool:
    return status.step is not None and status.step.state is StepState.REVERTING


def with_what_followed(first: Decision, after: Snapshot, now: datetime) -> Decision:
    """A decision and the next one as one, for a single commit; `after` has the status of the first.

    The first alone where the next one finds nothing new, or asks for urgent acts, which go before a commit.
    """
    next_ = decide(after, now)
    if next_.status is None or next_.urgent:
        return first
    return replace(next_, urgent=first.urgent, occurrences=(*first.occurrences, *next_.occurrences))


def _first_answer(situation: Situation) -> Change:
    for rule in RULES:
        change = rule(situation)
        if change is not None:
            return change
    raise AssertionError("the last rule always answers")


def _requeue_at(situation: Situation, change: Change, acted: bool) -> datetime | None:
    """After an act look soon at its effect; else when the rule says, or when a retiring revision is due."""
    moments = [change.requeue_at] if change.requeue_at else []
    status = situation.snapshot.status
    waiting = status.retiring or (status.traffic is not None and not situation.is_confirmed)
    if acted or waiting:
        moments.append(situation.now + LOOK_AGAIN)
    return min(moments, default=None)


def _decide_removal(snapshot: Snapshot, now: datetime) -> Decision:
    if names.FINALIZER not in snapshot.finalizers:
        return Decision("removed", "Removed", "deletion is up to others")
    actions = removal_actions(Situation(snapshot, now))
    return Decision(
        "removed",
        "Removing",
        f"deletionPolicy {snapshot.spec.deletion_policy}",
        actions=tuple(actions),
        requeue_at=now + LOOK_AGAIN,
    )
