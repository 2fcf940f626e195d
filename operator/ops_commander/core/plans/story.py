"""What people read of a plan: phase, counts, expected completion, conditions, Events. Derived from its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from ops_commander.api.action_plan import (
    ActionPlanStatus,
    ActionState,
    ActionStatus,
    PlanCounts,
    PlanPhase,
)
from ops_commander.api.conditions import ConditionType, State, merge_conditions
from ops_commander.api.fields import format_time
from ops_commander.core.changes import Occurrence
from ops_commander.core.plans.observed import PlanView
from ops_commander.core.plans.progress import is_ended

Wanted = tuple[ConditionType, State, str, str]


def told(plan: PlanView, status: ActionPlanStatus, now: datetime) -> ActionPlanStatus:
    """The status with everything that follows from its rows; `plan.status` is the one before."""
    if _states(status) != _states(plan.status):
        status = _expected(plan, status, now)
    phase = _phase(status)
    counts = _counts(status)
    done = counts.total - counts.pending - counts.running
    ends = [row.ended_at for row in status.actions if row.ended_at]
    status = status.model_copy(
        update={
            "observed_generation": plan.generation,
            "phase": phase,
            "counts": counts,
            "progress": f"{done}/{counts.total}",
            "current": _current(plan, status),
            "message": _message(status),
            "ended_at": max(ends) if is_ended(phase) and ends else None,
        }
    )
    conditions = merge_conditions(plan.status.conditions, _conditions(status), generation=plan.generation, now=now)
    return status.model_copy(update={"conditions": conditions})


def invalid(plan: PlanView, problem: str, now: datetime) -> ActionPlanStatus:
    """A plan that cannot be executed: nothing of it starts."""
    return refused(plan.status, problem, plan.generation, now)


def refused(status: ActionPlanStatus, problem: str, generation: int, now: datetime) -> ActionPlanStatus:
    """The same, for a plan that cannot even be read."""
    wanted: list[Wanted] = [
        (ConditionType.READY, "False", "InvalidPlan", problem),
        (ConditionType.STALLED, "True", "InvalidPlan", problem),
        (ConditionType.ACCEPTED, "False", "InvalidPlan", problem),
    ]
    conditions = merge_conditions(status.conditions, wanted, generation=generation, now=now)
    return status.model_copy(
        update={
            "observed_generation": generation,
            "phase": PlanPhase.INVALID,
            "message": problem,
            "conditions": conditions,
        }
    )


def occurrences(before: ActionPlanStatus, after: ActionPlanStatus) -> tuple[Occurrence, ...]:
    """What has happened between two statuses."""
    return tuple(_occurrences(before, after))


def _occurrences(before: ActionPlanStatus, after: ActionPlanStatus) -> Iterator[Occurrence]:
    known = {row.id: row.state for row in before.actions}
    for row in after.actions:
        if row.state is not known.get(row.id, ActionState.PENDING):
            reason = "ActionStarted" if row.state is ActionState.RUNNING else f"Action{row.state}"
            message = f"{row.id}: {row.message or row.reason}"
            yield Occurrence(reason, message, warning=row.state is ActionState.FAILED)
    if after.phase is not before.phase and (is_ended(after.phase) or after.phase is PlanPhase.INVALID):
        bad = after.phase in (PlanPhase.FAILED, PlanPhase.INVALID)
        yield Occurrence(f"Plan{after.phase}", after.message or after.phase, warning=bad)


def _states(status: ActionPlanStatus) -> list[tuple[str, ActionState]]:
    return [(row.id, row.state) for row in status.actions]


def _expected(plan: PlanView, status: ActionPlanStatus, now: datetime) -> ActionPlanStatus:
    """By the estimates, one action after the other; only told anew when one starts or ends, so it can be overrun."""
    estimates = {action.id: action.estimate for action in plan.spec.actions}
    at = now
    rows = []
    for row in status.actions:
        if row.state is ActionState.RUNNING:
            at = max(now, (row.started_at or now) + estimates[row.id])
        elif row.state is ActionState.PENDING:
            at += estimates[row.id]
        expected = None if row.state is ActionState.SKIPPED else row.ended_at or at
        rows.append(row.model_copy(update={"expected_completion": expected}))
    is_open = any(not row.state.is_end for row in rows)
    return status.model_copy(update={"actions": rows, "expected_completion": _whole(at) if is_open else None})


def _whole(moment: datetime) -> datetime:
    return moment - timedelta(microseconds=moment.microsecond % 1000)


def _phase(status: ActionPlanStatus) -> PlanPhase:
    states = Counter(row.state for row in status.actions)
    if states[ActionState.RUNNING] or states[ActionState.PENDING]:
        return PlanPhase.RUNNING if status.started_at else PlanPhase.PENDING
    if states[ActionState.CANCELLED]:
        return PlanPhase.CANCELLED
    return PlanPhase.SUCCEEDED if states[ActionState.SUCCEEDED] == len(status.actions) else PlanPhase.FAILED


def _counts(status: ActionPlanStatus) -> PlanCounts:
    states = Counter(row.state.lower() for row in status.actions)
    return PlanCounts(total=len(status.actions), **{name: states[name] for name in states})


def _first(status: ActionPlanStatus, state: ActionState) -> ActionStatus | None:
    return next((row for row in status.actions if row.state is state), None)


def _current(plan: PlanView, status: ActionPlanStatus) -> str | None:
    row = _first(status, ActionState.RUNNING) or _first(status, ActionState.FAILED)
    titles = {action.id: action.title for action in plan.spec.actions}
    return f"{row.id}: {titles[row.id]}" if row else None


def _message(status: ActionPlanStatus) -> str:
    running, failed = _first(status, ActionState.RUNNING), _first(status, ActionState.FAILED)
    if running:
        return f"{running.id} is running: {running.message or running.reason}"
    if failed:
        skipped = sum(row.state is ActionState.SKIPPED for row in status.actions)
        return f"{failed.id} failed: {failed.message}" + (f" ({skipped} not started)" if skipped else "")
    if _first(status, ActionState.PENDING):
        return "waiting for the next action to start"
    if _first(status, ActionState.CANCELLED):
        return "ended by spec.cancel"
    return f"all {len(status.actions)} actions have succeeded"


def _conditions(status: ActionPlanStatus) -> list[Wanted]:
    phase, message = status.phase, status.message or status.phase
    is_over = is_ended(phase)
    expected = f", expected to end at {format_time(status.expected_completion)}" if status.expected_completion else ""
    wanted: list[Wanted] = [
        (ConditionType.ACCEPTED, "True", "Accepted", "every action, dependency and criterion can be executed"),
        (ConditionType.READY, "True" if phase is PlanPhase.SUCCEEDED else "False", phase.value, message),
        (ConditionType.RECONCILING, "False" if is_over else "True", phase.value, message + expected),
    ]
    if phase in (PlanPhase.FAILED, PlanPhase.CANCELLED):
        wanted.append((ConditionType.STALLED, "True", phase.value, message))
    return wanted
