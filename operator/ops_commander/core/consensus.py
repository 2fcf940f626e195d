"""Votes in the life of a deployment: shown from its start, asked for before production, closed once they suffice.

The operator's own voices may change their mind until the ballot is closed; a vote that was cast by somebody stays.
Nothing here reverts, and no rule that reverts asks for a vote.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from ops_commander.api.ballot import Holder, QuorumStatus, VoteStatus
from ops_commander.api.conditions import ConditionType, State
from ops_commander.api.v1alpha1 import ModelRolloutStatus, Step, StepState
from ops_commander.core import evaluators, quorum
from ops_commander.core.changes import CHECK_AGAIN, Change, Occurrence, moved, waiting, with_deployment
from ops_commander.core.desired import NoteVote
from ops_commander.core.quorum import Poll
from ops_commander.core.situation import Situation

_WITHOUT: Final = (StepState.LAUNCHING, StepState.REVERTING)


def poll_of(situation: Situation) -> Poll | None:
    """What is voted on now. A first version and a revert ask nobody."""
    policy, deployment, step = situation.snapshot.policy, situation.deployment, situation.step
    if policy is None or policy.quorum is None or deployment is None or step is None or step.state in _WITHOUT:
        return None
    return Poll(situation.snapshot.name, deployment.id, deployment.started_at, policy.quorum)


def counted(situation: Situation) -> tuple[Situation, tuple[Occurrence, ...]]:
    """The situation with where the votes stand in its status, and what was cast since."""
    status, cast = _counted(situation)
    return situation.with_votes(status), cast


def _counted(situation: Situation) -> tuple[ModelRolloutStatus, tuple[Occurrence, ...]]:
    status, poll = situation.snapshot.status, poll_of(situation)
    known = _standing(situation)
    if poll is None:
        return (status if _is_told(situation) else _untold(status)), ()
    if known and known.reached_at:
        return status, ()
    before = status.votes if known else []
    rows = quorum.ballot(
        poll, situation.snapshot.votes, evaluators.recommendations(situation, poll.settings.own), before
    )
    standing = quorum.outcome(poll, rows, _target(situation, poll).label)
    standing = standing.model_copy(update={"asked_at": known.asked_at if known else None})
    was_cast = {row.uid for row in before if row.uid}
    cast = tuple(_cast(row) for row in rows if row.uid and row.uid not in was_cast)
    return status.model_copy(update={"votes": rows, "quorum": standing}), cast


def _standing(situation: Situation) -> QuorumStatus | None:
    """What status knows of the votes on the deployment under way."""
    known, deployment = situation.snapshot.status.quorum, situation.deployment
    return known if known and deployment and known.deployment_id == deployment.id else None


def _is_told(situation: Situation) -> bool:
    """Whether what status says of votes is of the latest deployment, and is still asked or has ended with it."""
    known, latest = situation.snapshot.status.quorum, situation.snapshot.status.deployment
    if known is None or latest is None or known.deployment_id != latest.id:
        return False
    policy = situation.snapshot.policy
    return situation.deployment is None or policy is None or policy.quorum is not None


def _untold(status: ModelRolloutStatus) -> ModelRolloutStatus:
    return status.model_copy(update={"votes": [], "quorum": None}) if status.votes or status.quorum else status


def _cast(row: VoteStatus) -> Occurrence:
    concern = f": {row.concern}" if row.concern else ""
    return Occurrence("VoteCast", f"{row.agent} ({row.voter}): {row.vote}, {row.risk} risk{concern}")


def _target(situation: Situation, poll: Poll) -> Step:
    """The first step from here on that needs the votes."""
    steps, step = situation.snapshot.spec.steps, situation.step
    index = min(step.index if step else 0, len(steps) - 1)
    return next((item for item in steps[index:] if item.kind in poll.settings.steps), steps[-1])


def awaiting_quorum(situation: Situation, rule: str, target: Step) -> Change | None:
    """None where `target` may be entered as far as votes go."""
    poll, standing = poll_of(situation), _standing(situation)
    if poll is None or standing is None or standing.reached_at or target.kind not in poll.settings.steps:
        return None
    if standing.reason == quorum.REACHED:
        said = f"{standing.line.replace('*', '')}: {standing.message}"
        return moved(situation, rule, _closed(situation, standing), Occurrence("QuorumReached", said))
    if standing.asked_at is None:
        asked = standing.model_copy(update={"asked_at": situation.now})
        status = situation.snapshot.status.model_copy(update={"quorum": asked})
        return moved(
            situation, rule, status, Occurrence("VotesAwaited", f"{target.label} needs votes: {standing.message}")
        )
    is_final = all(row.holder is Holder.EXTERNAL and row.vote for row in situation.snapshot.status.votes)
    next_ = "abort, or another version: all have voted" if is_final else f"{target.label} once the votes are there"
    return waiting(situation, rule, standing.reason, standing.message, next_=next_, every=CHECK_AGAIN)


def _closed(situation: Situation, standing: QuorumStatus) -> ModelRolloutStatus:
    now, status = situation.now, situation.snapshot.status
    closed = standing.model_copy(update={"asked_at": standing.asked_at or now, "reached_at": now})
    votes = [row if row.cast_at else row.model_copy(update={"cast_at": now}) for row in status.votes]
    return with_deployment(status.model_copy(update={"votes": votes, "quorum": closed}), voted_at=now)


def is_open(situation: Situation) -> bool:
    """Whether a step is held by nothing but missing votes, or was until a moment ago."""
    standing = _standing(situation)
    return poll_of(situation) is not None and standing is not None and _rests(standing)


def _rests(standing: QuorumStatus) -> bool:
    return standing.asked_at is not None and standing.reached_at is None


def rested(situation: Situation) -> timedelta:
    """For how long the deadline of the present step has rested, because it waited for people."""
    standing, step = _standing(situation), situation.step
    if standing is None or step is None or standing.asked_at is None or standing.asked_at < step.entered_at:
        return timedelta(0)
    if standing.reached_at is None and not is_open(situation):
        return timedelta(0)
    return (standing.reached_at or situation.now) - standing.asked_at


def notes(situation: Situation) -> Iterator[NoteVote]:
    """What is to be written on votes, so that a voter sees whether their vote counts."""
    poll = poll_of(situation)
    if poll is None:
        return
    for vote in situation.snapshot.votes:
        said = quorum.tally(poll, vote, situation.snapshot.status.votes)
        if vote.status is None or (vote.status.counted, vote.status.reason) != (said.counted, said.reason):
            yield NoteVote(vote.name, vote.uid, said.counted, said.reason, said.message)


def condition(status: ModelRolloutStatus) -> Iterator[tuple[ConditionType, State, str, str]]:
    """Whether the latest deployment has the votes for production; nothing where none are asked for."""
    standing = status.quorum
    if standing is not None:
        state: State = "True" if standing.reached_at else "False"
        reason = standing.reason if standing.reached_at or standing.reason != quorum.REACHED else "NotAskedYet"
        yield (ConditionType.QUORUM_REACHED, state, reason, standing.message)


def without_own_voices(status: ModelRolloutStatus) -> dict[str, object]:
    """Fields for a comparison of what others have said, and of what has become of it."""
    uncounted = {"go": 0, "cast": 0, "reason": "", "message": "", "line": ""}
    return {
        "votes": [row for row in status.votes if row.holder is not Holder.OPERATOR],
        "quorum": status.quorum.model_copy(update=uncounted) if status.quorum else None,
    }


def without_words(status: ModelRolloutStatus) -> dict[str, object]:
    """Fields for a comparison of what was decided: concerns and evidence of the operator's own voices move on."""
    standing = status.quorum
    return {
        "votes": [row.model_copy(update={"concern": "", "evidence": []}) for row in status.votes],
        "quorum": standing.model_copy(update={"message": ""}) if standing else None,
    }
