"""`execution_progress_update.md`: one entry for each action, with status, evidence, result and expected completion."""

from __future__ import annotations

from datetime import datetime

from ops_commander.api.action_plan import (
    Action,
    ActionPlanSpec,
    ActionPlanStatus,
    ActionState,
    ActionStatus,
    FailurePolicy,
    PlanPhase,
    Priority,
)
from ops_commander.api.fields import format_duration, format_time


def markdown(name: str, spec: ActionPlanSpec, status: ActionPlanStatus, now: datetime) -> str:
    """The report as of now."""
    counts = status.counts
    lines = [
        "# Execution progress",
        "",
        f"- Plan: `{_plain(name)}`, meeting `{_plain(spec.meeting_id)}`",
        f"- Source: {_code(spec.source) if spec.source else 'not given'}"
        + (f" (sha256 `{spec.source_sha256}`)" if spec.source_sha256 else ""),
        f"- MLflow run: {f'`{status.run_id}`' if status.run_id else 'none'}",
        f"- Written: {format_time(now)}",
        f"- Phase: **{status.phase}**: {counts.succeeded} of {counts.total} succeeded, {counts.failed} failed, "
        f"{counts.skipped} skipped, {counts.cancelled} cancelled, {counts.running} running, {counts.pending} pending",
    ]
    if stopper := stopped_by(spec, status):
        lines.append(f"- **Stopped:** {stopper.id} ({stopper.priority}) failed: {_plain(stopper.message)}")
    by_id = {action.id: action for action in spec.actions}
    for priority in Priority:
        rows = [row for row in status.actions if row.priority is priority]
        if rows:
            lines += ["", f"## {priority}", ""]
            for row in rows:
                lines += entry(by_id[row.id], row)
    return "\n".join(lines) + "\n"


def stopped_by(spec: ActionPlanSpec, status: ActionPlanStatus) -> ActionStatus | None:
    """The failed action that stops what follows, by the failure policy."""
    if spec.failure_policy is FailurePolicy.CONTINUE:
        return None
    any_stops = spec.failure_policy is FailurePolicy.STOP
    failed = (row for row in status.actions if row.state is ActionState.FAILED)
    return next((row for row in failed if any_stops or row.priority is Priority.HIGH), None)


def is_ended(phase: PlanPhase) -> bool:
    return phase in (PlanPhase.SUCCEEDED, PlanPhase.FAILED, PlanPhase.CANCELLED)


def entry(action: Action, row: ActionStatus) -> list[str]:
    """Lines of one action."""
    box = "x" if row.state is ActionState.SUCCEEDED else " "
    return [
        f"- [{box}] **{row.id}**: {_plain(action.title)}",
        f"  - Owner: {_plain(action.owner)}",
        f"  - Estimate: {format_duration(action.estimate)}",
        f"  - Status: {row.state} ({row.reason})" + (f": {_plain(row.message)}" if row.message else ""),
        f"  - Evidence: {_evidence(row)}",
        f"  - Result: {_plain(row.result) if row.result else 'none yet' if not row.state.is_end else 'none'}",
        f"  - Expected completion: {_completion(row)}",
    ]


def _completion(row: ActionStatus) -> str:
    if row.state is ActionState.SKIPPED:
        return "never: skipped"
    if row.ended_at:
        return f"ended {format_time(row.ended_at)}"
    return format_time(row.expected_completion) if row.expected_completion else "not known"


def _evidence(row: ActionStatus) -> str:
    evidence = row.evidence
    if evidence is None:
        return "none"
    parts = []
    if evidence.run_id:
        parts.append(f"run `{evidence.run_id}`")
    if evidence.artifact:
        checksum = f" (sha256 `{evidence.sha256}`)" if evidence.sha256 else ""
        parts.append(f"artifact {_code(evidence.artifact)}{checksum}")
    if evidence.deployment_id:
        parts.append(f"deployment `{evidence.deployment_id}`")
    return ", ".join(parts) or "none"


def _code(text: str) -> str:
    return f"`{_plain(text)}`"


def _plain(text: str) -> str:
    """Text of others in one line, in which nothing starts markup or HTML."""
    clean = "".join(sign if sign.isprintable() else " " for sign in text)
    return clean.replace("`", "'").replace("<", "&lt;").replace("|", "\\|")
