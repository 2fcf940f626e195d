"""decide(moment) → the plan's next status and what is to be done. One action at a time, one change at a time.

Intent is committed before the act: an action is Running in status before anything of it exists, and everything that
is made for it has a name that follows from the plan and the action. So a process that was killed anywhere finds its
work again, and the API server refuses to make it twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ops_commander.api.action_plan import (
    Action,
    ActionKind,
    ActionPlanSpec,
    ActionPlanStatus,
    ActionState,
    ActionStatus,
    PlanPhase,
    PlanReport,
)
from ops_commander.core.changes import Occurrence
from ops_commander.core.plans import deploying, naming, progress, steps, story, working
from ops_commander.core.plans.observed import Effect, EnsureRun, Moment, PlanView, Store
from ops_commander.core.plans.order import order, problems
from ops_commander.core.plans.steps import Step


@dataclass(frozen=True, slots=True)
class PlanDecision:
    """What follows from one look at a plan."""

    status: ActionPlanStatus
    """Equal to the plan's own where nothing has changed."""
    effects: tuple[Effect, ...] = ()
    """To be done once the status is committed."""
    requeue_at: datetime | None = None
    occurrences: tuple[Occurrence, ...] = ()


def action_under_way(spec: ActionPlanSpec, status: ActionPlanStatus) -> Action | None:
    """The action around which the world must be observed."""
    running = next((row.id for row in status.actions if row.state is ActionState.RUNNING), None)
    return next((action for action in spec.actions if action.id == running), None)


def decide(moment: Moment) -> PlanDecision:
    """The next status of a plan, and what is to be done for it."""
    plan, now = moment.plan, moment.now
    if problem := next(problems(plan.spec), None):
        return _told(moment, story.invalid(plan, str(problem), now), ())
    status = _with_rows(plan.spec, plan.status)
    known_run = moment.observed.plan_run.run_id if moment.observed.plan_run else status.run_id
    status = status.model_copy(update={"run_id": known_run})
    moment = replace(moment, plan=replace(plan, status=status))
    action = action_under_way(plan.spec, status)
    if action is not None:
        step = _looked(action, _row(status, action.id), moment)
        status = _with_row(status, _timed(step.row, now))
        again = timedelta(0) if step.row.state.is_end else step.again
        return _told(moment, status, step.effects, again, before=plan)
    following = _next(plan.spec, status)
    if following is not None:
        return _told(moment, _started(status, following, moment), (), timedelta(0), before=plan)
    return _reported(moment, status, before=plan)


def _looked(action: Action, row: ActionStatus, moment: Moment) -> Step:
    if moment.plan.spec.cancel:
        close = deploying.closing if action.kind is ActionKind.DEPLOY else working.closing
        return close(action, row, moment, ActionState.CANCELLED, "Cancelled", "ended by spec.cancel")
    looks = {
        ActionKind.DEPLOY: deploying.look,
        ActionKind.EXPERIMENT: working.look_at_job,
        ActionKind.TEST: working.look_at_job,
        ActionKind.COLLECT: working.look_at_window,
        ActionKind.REPORT: working.look_at_report,
    }
    return looks[action.kind](action, row, moment)


def _timed(row: ActionStatus, now: datetime) -> ActionStatus:
    return row.model_copy(update={"ended_at": now}) if row.state.is_end else row


def _with_rows(spec: ActionPlanSpec, status: ActionPlanStatus) -> ActionPlanStatus:
    """A row for each action in the order of execution; rows that are there stay as they are."""
    known = {row.id: row for row in status.actions}
    rows = [known.get(item.id) or ActionStatus(id=item.id, priority=item.priority) for item in order(spec.actions)]
    return status.model_copy(update={"actions": rows})


def _row(status: ActionPlanStatus, identity: str) -> ActionStatus:
    return next(row for row in status.actions if row.id == identity)


def _with_row(status: ActionPlanStatus, row: ActionStatus) -> ActionPlanStatus:
    rows = [row if item.id == row.id else item for item in status.actions]
    return status.model_copy(update={"actions": rows})


def _next(spec: ActionPlanSpec, status: ActionPlanStatus) -> Action | None:
    """The first action that has not started; rows stand in the order of execution."""
    pending = next((row.id for row in status.actions if row.state is ActionState.PENDING), None)
    return next((action for action in spec.actions if action.id == pending), None)


def _started(status: ActionPlanStatus, action: Action, moment: Moment) -> ActionPlanStatus:
    """The action running; or everything that will never start ended."""
    spec, now = moment.plan.spec, moment.now
    if spec.cancel:
        return _ended_all(status, ActionState.CANCELLED, "Cancelled", "not started: ended by spec.cancel", now)
    if stopper := progress.stopped_by(spec, status):
        message = f"not started: {stopper.id} of priority {stopper.priority} failed"
        return _ended_all(status, ActionState.SKIPPED, "Stopped", message, now)
    row = _row(status, action.id)
    needed = [_row(status, name) for name in action.depends_on]
    unmet = next((other for other in needed if other.state is not ActionState.SUCCEEDED), None)
    if unmet is not None:
        message = f"not started: it depends on {unmet.id}, which is {unmet.state}"
        step = steps.ended(row, ActionState.SKIPPED, "DependencyNotMet", message)
        return _with_row(status, _timed(step.row, now))
    running = {"state": ActionState.RUNNING, "reason": "Started", "message": "", "started_at": now}
    status = status.model_copy(update={"started_at": status.started_at or now})
    return _with_row(status, row.model_copy(update=running))


def _ended_all(
    status: ActionPlanStatus, state: ActionState, reason: str, message: str, now: datetime
) -> ActionPlanStatus:
    rows = [
        _timed(steps.ended(row, state, reason, message).row, now) if row.state is ActionState.PENDING else row
        for row in status.actions
    ]
    return status.model_copy(update={"actions": rows})


def _reported(moment: Moment, status: ActionPlanStatus, before: PlanView) -> PlanDecision:
    """The plan has ended: its progress report is stored with its own run."""
    status = story.told(moment.plan, status, moment.now)
    if not moment.observed.has_mlflow or status.report is not None or moment.observed.refused:
        return _told(moment, status, (), None, before=before)
    run = moment.observed.plan_run
    if run is None:
        ensure = () if moment.observed.trouble else (_own_run(moment.plan),)
        return _told(moment, status, ensure, steps.ASK_AGAIN, before=before)
    if run.artifact is not None and run.sha256 is not None:
        report = PlanReport(run_id=run.run_id, path=run.artifact, sha256=run.sha256)
        return _told(moment, status.model_copy(update={"report": report}), (), None, before=before)
    text = progress.markdown(moment.plan.name, moment.plan.spec, status, moment.now)
    ended = replace(moment, plan=replace(moment.plan, status=status))
    store = Store(run.run_id, naming.PROGRESS_FILE, text.encode(), working.counted(ended))
    return _told(moment, status, (store,), timedelta(0), before=before)


def _told(
    moment: Moment,
    status: ActionPlanStatus,
    effects: tuple[Effect, ...],
    again: timedelta | None = None,
    before: PlanView | None = None,
) -> PlanDecision:
    """The decision in full: with the plan's own run, what people read, and when to look again."""
    plan, now = before or moment.plan, moment.now
    if status.phase is not PlanPhase.INVALID or before is not None:
        status = story.told(replace(moment.plan, status=plan.status), status, now)
    if before is not None and _needs_run(moment, status):
        effects = (_own_run(plan), *effects)
        again = steps.LOOK_AGAIN if again is None else min(again, steps.LOOK_AGAIN)
    return PlanDecision(
        status=status,
        effects=effects,
        requeue_at=now + again if again is not None else None,
        occurrences=story.occurrences(plan.status, status),
    )


def _needs_run(moment: Moment, status: ActionPlanStatus) -> bool:
    """A plan that has begun has a run; MLflow being away holds up only what needs it."""
    return moment.observed.has_mlflow and status.run_id is None and status.phase is PlanPhase.RUNNING


def _own_run(plan: PlanView) -> EnsureRun:
    return EnsureRun(naming.marker(plan.uid), plan.name, naming.EXPERIMENT)
