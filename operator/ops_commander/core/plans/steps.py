"""What one look at an action under way may come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from ops_commander.api.action_plan import (
    MINIMUM_TIMEOUT,
    Action,
    ActionEvidence,
    ActionKind,
    ActionState,
    ActionStatus,
    CriterionStatus,
)
from ops_commander.api.fields import format_duration
from ops_commander.core.plans import criteria, naming
from ops_commander.core.plans.observed import Effect, EnsureRun, Moment

LOOK_AGAIN = timedelta(seconds=30)
"""What an action waits for is watched, or asked again after this."""
ASK_AGAIN = timedelta(seconds=5)
"""Where something could not be read."""
LONGEST_MESSAGE = 500
LONGEST_CRITERION = 200
"""Of an expression and of its values in status: 100 actions of 16 criteria fit into one object with their plan."""


@dataclass(frozen=True, slots=True)
class Step:
    """The row as it is now, what is to be done, and when to look again."""

    row: ActionStatus
    effects: tuple[Effect, ...] = ()
    again: timedelta = LOOK_AGAIN


def waiting(row: ActionStatus, reason: str, message: str, *effects: Effect, again: timedelta = LOOK_AGAIN) -> Step:
    return Step(row.model_copy(update={"reason": reason, "message": short(message)}), effects, again)


def ended(row: ActionStatus, state: ActionState, reason: str, message: str) -> Step:
    """The end of an action; when, is filled in by the caller."""
    return Step(row.model_copy(update={"state": state, "reason": reason, "message": short(message)}))


def failed(row: ActionStatus, reason: str, message: str) -> Step:
    return ended(row, ActionState.FAILED, reason, message)


def with_evidence(row: ActionStatus, **changes: str | None) -> ActionStatus:
    evidence = (row.evidence or ActionEvidence()).model_copy(update=changes)
    return row if evidence == row.evidence else row.model_copy(update={"evidence": evidence})


def judged(row: ActionStatus, action: Action, metrics: Mapping[str, float], source: str) -> ActionStatus:
    """The row with its criteria held against metrics; `source` is where they come from."""
    found = []
    for text in action.success_criteria:
        verdict = criteria.parse(text).judged(metrics)
        expression, values = short(text, LONGEST_CRITERION), short(verdict.values, LONGEST_CRITERION)
        found.append(CriterionStatus(expression=expression, holds=verdict.holds, values=values))
    said = "; ".join(f"{item.expression}: {_word(item.holds)} ({item.values} @ {source})" for item in found)
    return row.model_copy(update={"criteria": found, "result": short(said) or None})


def _word(holds: bool | None) -> str:
    return {True: "holds", False: "does not hold", None: "not known"}[holds]


def unmet(row: ActionStatus) -> list[CriterionStatus]:
    return [item for item in row.criteria if item.holds is not True]


def conclude(row: ActionStatus, done: str) -> Step:
    """The end of an action whose work is done: by its criteria."""
    missing = [item for item in row.criteria if item.holds is None]
    if missing:
        return failed(row, "MetricsMissing", f"{missing[0].expression}: {missing[0].values}")
    if broken := unmet(row):
        return failed(row, "CriteriaNotMet", f"{broken[0].expression} does not hold: {broken[0].values}")
    return ended(row, ActionState.SUCCEEDED, "CriteriaMet" if row.criteria else "Done", done)


def short(text: str, longest: int = LONGEST_MESSAGE) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def timeout_of(action: Action, work: timedelta = timedelta(0)) -> timedelta:
    """How long an action may take; `work` is what is known of its own deadlines."""
    if action.timeout is not None:
        return action.timeout
    if action.kind is ActionKind.COLLECT and action.collect:
        work = action.collect.window + MINIMUM_TIMEOUT
    return max(4 * action.estimate, MINIMUM_TIMEOUT, work)


def overdue(row: ActionStatus, moment: Moment, limit: timedelta) -> bool:
    return row.started_at is not None and moment.now >= row.started_at + limit


def too_late(limit: timedelta) -> str:
    return f"not done within {format_duration(limit)}"


def ensure_run(action: Action, moment: Moment, experiment: str | None) -> EnsureRun:
    return EnsureRun(
        marker=naming.marker(moment.plan.uid, action.id),
        name=naming.object_name(moment.plan.name, action.id),
        experiment=experiment or naming.EXPERIMENT,
        parent=moment.plan.status.run_id,
    )
