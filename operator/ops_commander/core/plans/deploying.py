"""A deploy action: its ModelRollout is brought to the wanted version, and watched until it is as far as it shall go."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from ops_commander.api.action_plan import Action, ActionState, ActionStatus, Deploy, ObjectReference
from ops_commander.api.fields import format_duration
from ops_commander.api.v1alpha1 import ObjectiveStatus, Outcome, StepState, Verdict
from ops_commander.core import names
from ops_commander.core.changes import EVIDENCE_WAKES
from ops_commander.core.objectives import CATCHING_UP
from ops_commander.core.plans import criteria, naming, rollouts, steps
from ops_commander.core.plans.observed import AbortRollout, ApplyRollout, Moment, RolloutView
from ops_commander.core.plans.rollouts import CannotDeploy, Steps
from ops_commander.core.plans.steps import Step, conclude, failed, judged, unmet, waiting, with_evidence
from ops_commander.core.situation import CATCHES_UP_WITHIN, DEADLINES_REST_FOR

FOUND_AGAIN_WITHIN: Final = CATCHES_UP_WITHIN + EVIDENCE_WAKES + timedelta(seconds=15)
"""Of a start; by then a rollout whose evidence is not yet known has been looked at, and says so."""

_GIVING_UP: Final = "Reverting"
"""Reason of a row whose deployment was ordered back: it does not come to another end any more."""


def look(action: Action, row: ActionStatus, moment: Moment) -> Step:
    """One look at a deploy action under way."""
    observed, view = moment.observed, moment.observed.rollout
    if observed.trouble and view is None:
        return waiting(row, "NotKnown", observed.trouble, again=steps.ASK_AGAIN)
    if view is None and row.object is not None:
        return failed(row, "RolloutGone", f"ModelRollout {row.object.name} was deleted")
    try:
        manifest, wanted = rollouts.wanted(moment.plan, action, view)
    except CannotDeploy as error:
        return failed(row, error.reason, str(error))
    is_mine = view is not None and _is_mine(view, action, moment)
    if row.object is None and not is_mine:
        if observed.refused:
            return failed(row, "Refused", observed.refused)
        return waiting(row, "Applying", f"ModelRollout {manifest['metadata']['name']}", ApplyRollout(manifest))
    assert view is not None
    row = _noted(row, view)
    if not is_mine or not _asks_for(view, action.deploy):
        return failed(row, "Superseded", f"ModelRollout {view.name} was changed by somebody else since")
    if row.reason == _GIVING_UP:
        return closing(action, row, moment, ActionState.FAILED, "DeadlineExceeded", row.message)
    step = _followed(action, row, view, wanted, moment)
    late = None if step.row.state.is_end else _late(action, step.row, view, wanted, moment)
    return closing(action, step.row, moment, ActionState.FAILED, "DeadlineExceeded", late) if late else step


def closing(action: Action, row: ActionStatus, moment: Moment, state: ActionState, reason: str, message: str) -> Step:
    """The end of an action that is given up: what it has under way is ordered back first."""
    view = moment.observed.rollout
    if moment.observed.trouble and view is None:
        return waiting(row, "NotKnown", moment.observed.trouble, again=steps.ASK_AGAIN)
    if view is None or not _is_mine(view, action, moment) or not _asks_for(view, action.deploy):
        return steps.ended(row, state, reason, message)
    row = _noted(row, view)
    deployment = view.status.deployment
    if view.status.observed_generation is None or view.status.observed_generation < view.generation:
        return waiting(row, _GIVING_UP, message, again=steps.ASK_AGAIN)
    under_way = deployment is not None and deployment.outcome is None
    if under_way and deployment is not None and view.annotations.get(names.ABORT) != deployment.id:
        return waiting(row, _GIVING_UP, message, AbortRollout(view.name, deployment.id))
    return steps.ended(row, state, reason, message)


def _is_mine(view: RolloutView, action: Action, moment: Moment) -> bool:
    return view.annotations.get(naming.BY_ACTION) == naming.marker(moment.plan.uid, action.id)


def _asks_for(view: RolloutView, deploy: Deploy | None) -> bool:
    """What is not of the version, as promotedAlias, is the rollout's own."""
    now = view.spec.model
    wanted = deploy.model if deploy else None
    return wanted is not None and (now.name, now.version, now.alias, now.run_id) == (
        wanted.name,
        wanted.version,
        wanted.alias,
        wanted.run_id,
    )


def _is_live(view: RolloutView) -> bool:
    """Whether the wanted version serves, and nothing is under way."""
    is_stable = view.status.stable_revision == names.revision_of(view.spec)
    return _is_seen(view) and is_stable and view.status.step is None


def _is_seen(view: RolloutView) -> bool:
    return (view.status.observed_generation or 0) >= view.generation


def _noted(row: ActionStatus, view: RolloutView) -> ActionStatus:
    deployment = view.status.deployment
    is_ours = deployment is not None and _is_seen(view) and deployment.revision == names.revision_of(view.spec)
    identity = deployment.id if deployment is not None and is_ours else None
    reference = ObjectReference(kind="ModelRollout", name=view.name, deployment_id=identity)
    row = row if row.object == reference else row.model_copy(update={"object": reference})
    return with_evidence(row, deployment_id=identity, run_id=view.spec.model.run_id)


def _late(action: Action, row: ActionStatus, view: RolloutView, wanted: Steps, moment: Moment) -> str | None:
    """Why it is too late, if it is. Where people hold the rollout, or votes are awaited, only a given timeout runs on.

    The steps before the hold have deadlines of their own, which revert.
    """
    step, since = view.status.step, row.started_at
    if action.timeout is not None:
        limit = action.timeout
    elif step is None:
        limit = steps.timeout_of(action, wanted.time)
        since = None if view.spec.paused else since
    else:
        is_held = step.index == wanted.hold and step.state is StepState.RUNNING
        limit, since = wanted.max_duration, (step.reached_at or step.running_since) if is_held else None
    if since is None or moment.now < since + limit:
        return None
    if action.timeout is None and _is_reading_again(view, moment):
        return None
    missing = unmet(row)
    why = f"{missing[0].expression} ({missing[0].values})" if missing else view.status.message or view.status.phase
    return f"{steps.too_late(limit)}: {why}"


def _followed(action: Action, row: ActionStatus, view: RolloutView, wanted: Steps, moment: Moment) -> Step:
    status, deployment = view.status, view.status.deployment
    if not _is_seen(view):
        return waiting(row, "Applied", f"ModelRollout {view.name} has taken the version")
    source = (row.evidence.deployment_id if row.evidence else None) or view.name
    metrics = criteria.named([*moment.observed.model_metrics.items()]) | dict(_metrics(view))
    if _is_live(view):
        if moment.observed.trouble:
            return waiting(row, "NotKnown", moment.observed.trouble, again=steps.ASK_AGAIN)
        return conclude(judged(row, action, metrics, source), f"version {view.spec.model.label} serves all requests")
    is_ours = deployment is not None and deployment.revision == names.revision_of(view.spec)
    if is_ours and deployment is not None and deployment.outcome is Outcome.ROLLED_BACK:
        why = status.rollback.message if status.rollback else deployment.reason
        return failed(judged(row, action, metrics, source), "RolledBack", f"{deployment.id}: {why}")
    if not is_ours or wanted.hold is None or not _is_proved(view, wanted, moment):
        return waiting(row, "Deploying", f"{status.phase}: {status.message or status.reason or 'no message yet'}")
    row = judged(row, action, metrics, source)
    if moment.observed.trouble:
        return waiting(row, "NotKnown", moment.observed.trouble, again=steps.ASK_AGAIN)
    if missing := unmet(row):
        said = f"{wanted.label} is proved, but {missing[0].expression} does not hold yet: {missing[0].values}"
        return waiting(row, "CriteriaNotMet", said)
    return conclude(row, f"held in {wanted.label}: objectives met for {format_duration(wanted.min_duration)}")


def _is_proved(view: RolloutView, wanted: Steps, moment: Moment) -> bool:
    """Whether the step of the hold would have been left without it, or was left by somebody's order."""
    step = view.status.step
    if step is None or wanted.hold is None or step.running_since is None:
        return False
    if step.index != wanted.hold or step.name != wanted.label:
        return step.index > wanted.hold
    dwelled = moment.now >= step.running_since + wanted.min_duration and not _is_reading_again(view, moment)
    return step.state is StepState.RUNNING and dwelled and view.status.verdict is Verdict.PASS


def _is_reading_again(view: RolloutView, moment: Moment) -> bool:
    """Whether status may say of the step what a process has found that is gone, or what it has lost with it."""
    step, begun = view.status.step, moment.begun
    if step is None or step.running_since is None or begun is None or step.running_since > begun:
        return False
    is_unread = any(row.reason == CATCHING_UP for row in view.status.objectives)
    return moment.now < begun + (DEADLINES_REST_FOR if is_unread else FOUND_AGAIN_WITHIN)


def _metrics(view: RolloutView) -> Iterator[tuple[str, float]]:
    """What the rollout's objectives have shown, and its composite risk."""
    for row in view.status.objectives:
        yield from _of_objective(row)
    if view.status.risk is not None:
        yield "composite_risk", view.status.risk.value


def _of_objective(row: ObjectiveStatus) -> Iterator[tuple[str, float]]:
    name = criteria.metric_name(row.name)
    interval = row.interval
    values = {
        name: row.observed,
        f"{name}_candidate": row.candidate,
        f"{name}_stable": row.stable,
        f"{name}_ci95_low": interval.low if interval else None,
        f"{name}_ci95_high": interval.high if interval else None,
    }
    for key, value in values.items():
        if value is None:
            continue
        yield key, value
        if row.unit == "s":
            yield f"{key}_ms", value * 1000
        elif row.unit == "req/s":
            yield f"{key}_rps", value
