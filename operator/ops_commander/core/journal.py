"""The transitions of a deployment, as its status keeps them: what a replay is held against."""

from __future__ import annotations

from datetime import datetime

from ops_commander.api.v1alpha1 import ModelRolloutStatus, Outcome, StepState, Transition
from ops_commander.core.changes import Change, with_deployment
from ops_commander.core.situation import Situation

MOST_TRANSITIONS = 200

_Place = tuple[str, int | None, StepState | None, Outcome | None]


def with_transition(situation: Situation, change: Change) -> ModelRolloutStatus:
    """The status that a rule gave, with a line more in its journal where the deployment has come to another state."""
    before, status = situation.snapshot.status, change.status
    deployment = status.deployment
    if deployment is None or _place(before) == _place(status):
        return status
    step = status.step or before.step
    entry = Transition(
        at=situation.now,
        rule=change.rule,
        step=step.index if step else 0,
        state=status.step.state if status.step else None,
        tick=_heard(situation),
        observing_since=situation.snapshot.observing_since,
    )
    return with_deployment(status, transitions=[*deployment.transitions, entry][-MOST_TRANSITIONS:])


def _place(status: ModelRolloutStatus) -> _Place | None:
    deployment, step = status.deployment, status.step
    if deployment is None:
        return None
    return deployment.id, step.index if step else None, step.state if step else None, deployment.outcome


def _heard(situation: Situation) -> datetime | None:
    """The latest tick that all objectives have been answered at."""
    seen = [item.seen_at for item in situation.snapshot.evidence.values()]
    return min((at for at in seen if at), default=None) if all(seen) else None
