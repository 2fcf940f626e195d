"""`post_incident_report.md`: what happened in a revert, to the millisecond, and what is not known of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from ops_commander.api.fields import format_time
from ops_commander.api.v1alpha1 import ObjectiveStatus, RollbackStatus, StepState, Verdict
from ops_commander.core.evaluators import RTO_SECONDS
from ops_commander.core.reports.audit import actor_of, step_name
from ops_commander.core.reports.causes import last_step, ranked
from ops_commander.core.reports.markup import ABSENT, code, plain, section, table
from ops_commander.core.reports.provenance import NO_RUN, NOT_MEASURED, Point, figure, quantity, quoted, span
from ops_commander.core.reports.slos import unit_of
from ops_commander.core.reports.subject import Subject, bound_of

TIMELINE: Final = ("Time", "Event", "By", "Evidence")
COMPARED: Final = ("Objective", "Target", "Candidate", "Stable", "Judged", "CI95", "Verdict", "Evidence")
CAUSES: Final = ("Rank", "Candidate", "Evidence for It", "Strength", "Evidence Path")
DURATIONS: Final = ("From Breach Visible To", "Duration", "Limit", "Pass/Fail", "Evidence")


def post_incident_report(subject: Subject) -> str:
    """Markdown. Raises ValueError where the latest deployment was not reverted."""
    rollback = subject.rollback
    if rollback is None:
        raise ValueError(f"status.rollback of {subject.name} is not of its latest deployment: expected a revert of it")
    lines = [
        "# Post-incident report",
        "",
        *section("SUMMARY", _summary(subject, rollback)),
        *section("TIMELINE", table(TIMELINE, _timeline(subject, rollback)), ["![Weights over time](weights.svg)"]),
        *section("OBJECTIVE AND FIRST BAD SAMPLE", _first_bad(subject, rollback)),
        *section("BASELINE AGAINST CANDIDATE", _compared(subject), ["![Objectives](objectives.svg)"]),
        *section("ROOT CAUSE CANDIDATES", _causes(subject, rollback)),
        *section("WHAT WAS TRIED", _tried(subject)),
        *section("DURATIONS AGAINST THE RTO", _durations(subject, rollback)),
        *section("WHAT IS NOT KNOWN", _unknown(subject, rollback)),
    ]
    return "\n".join(lines)


def _summary(subject: Subject, rollback: RollbackStatus) -> list[str]:
    deployment = subject.deployment
    assert deployment is not None
    against = plain(deployment.stable_version or "unknown")
    return [
        f"- Deployment: {code(rollback.deployment_id)} in {plain(subject.namespace)}/{plain(subject.name)}",
        f"- Model: {plain(subject.rollout.spec.model.name)} version {plain(subject.model_version)}, held against"
        f" version {against}",
        f"- Reverted in step: {plain(last_step(subject))}",
        f"- Reason: {plain(rollback.reason)}",
        f"- Finding: {plain(quoted(rollback.message, subject.origin))}",
        f"- MLflow run: {code(subject.deploy_run_id) if subject.deploy_run_id else 'none'}",
        f"- Written: {format_time(subject.now)}",
    ]


def _timeline(subject: Subject, rollback: RollbackStatus) -> list[list[str]]:
    events = sorted(_events(subject, rollback), key=lambda event: event[0])
    cell = subject.origin.cell if subject.origin else ABSENT
    return [[format_time(at), plain(what), plain(by), cell] for at, what, by in events]


def _events(subject: Subject, rollback: RollbackStatus) -> Iterator[tuple[datetime, str, str]]:
    deployment, operator = subject.deployment, "operator"
    assert deployment is not None
    yield deployment.started_at, "deployment started", operator
    for step in deployment.steps:
        if step.reached_at:
            yield step.reached_at, f"traffic of step {step.name} confirmed", operator
    for test in deployment.tests:
        if test.ended_at:
            yield test.ended_at, f"{test.kind} test {test.name}: {test.state}", f"Job {test.job}"
    for entry in deployment.transitions:
        if entry.state is not None and entry.state is not StepState.REVERTING:
            yield (
                entry.at,
                f"{entry.rule}: step {step_name(subject, entry.step)} to {entry.state}",
                actor_of(entry.rule),
            )
    yield rollback.breach_visible_at, f"breach visible: {rollback.objective or rollback.reason}", "metrics"
    yield rollback.decided_at, f"revert decided: {rollback.reason}", operator
    if rollback.traffic_reverted_at:
        yield rollback.traffic_reverted_at, "all traffic on stable", operator
    if rollback.replica_set_reverted_at:
        yield rollback.replica_set_reverted_at, "candidate's pods gone, stable at size", operator
    if deployment.ended_at:
        yield deployment.ended_at, f"deployment ended: {deployment.outcome}", operator


# --- The objective ------------------------------------------------------------------------------------


def _first_bad(subject: Subject, rollback: RollbackStatus) -> list[str]:
    if rollback.objective is None:
        return [f"No objective was breached: the revert was decided on {plain(rollback.reason)}."]
    row = next((item for item in subject.rows if item.name == rollback.objective), None)
    if row is None:
        return [f"Objective {plain(rollback.objective)} was breached; its row is not in status any more."]
    origin = subject.origin_of(row)
    lines = [
        f"- Objective: {plain(row.name)}" + (f" ({plain(row.slo)})" if row.slo else ""),
        f"- Target: {plain(row.target)}",
        f"- Query: {code(row.query, 1000)}",
        f"- First tick that counts: {_at(row.first_tick)}",
        f"- Tick at which the breach was visible: {format_time(rollback.breach_visible_at)}",
        f"- Value then: {figure(quantity(row.observed, unit_of(row)), origin)}",
        f"- CI95 then: {figure(span(row.interval, unit_of(row)), origin)}",
        f"- Requests until then: {figure(_count(row.samples), origin)}",
    ]
    return lines + [f"- {said}" for said in _from_series(subject, row)]


def _from_series(subject: Subject, row: ObjectiveStatus) -> Iterator[str]:
    """With the ticks at hand: the first value past the target, and the first verdict."""
    points, origin, unit = subject.provenance.series.get(row.name, ()), subject.origin_of(row), unit_of(row)
    bound = bound_of(row)
    past = next((point for point in points if bound and _is_past(point, bound.value, bound.is_upper)), None)
    if past:
        yield f"First sample past the target: {format_time(past.at)}, {figure(quantity(past.value, unit), origin)}"
    else:
        yield "First sample past the target: not known without a recording (`--recording`)"
    failed = next((point for point in points if point.verdict is Verdict.FAIL), None)
    if failed:
        said = figure(quantity(failed.value, unit), origin)
        yield f"First tick that the evidence sufficed at: {format_time(failed.at)}, {said}"


def _is_past(point: Point, bound: float, is_upper: bool) -> bool:
    return point.value is not None and (point.value >= bound if is_upper else point.value < bound)


def _count(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"


def _at(moment: datetime | None) -> str:
    return format_time(moment) if moment else "not known"


def _compared(subject: Subject) -> list[str]:
    rows = []
    for row in subject.rows:
        origin = subject.origin_of(row)
        rows.append(
            [
                plain(row.name),
                plain(row.target),
                figure(quantity(row.candidate, row.unit), origin),
                figure(quantity(row.stable, row.unit), origin),
                f"{plain(row.judged)} {figure(quantity(row.observed, unit_of(row)), origin)}",
                figure(span(row.interval, unit_of(row)), origin),
                f"{row.verdict} ({plain(row.reason)})",
                origin.cell if origin else ABSENT,
            ]
        )
    lines = table(COMPARED, rows)
    baseline = subject.deployment.baseline if subject.deployment else []
    for item in baseline:
        unit = next((row.unit for row in subject.rows if row.name == item.name), "")
        said = figure(quantity(item.value, unit), subject.origin)
        lines += ["", f"Stable before the deployment, {plain(item.name)}: {said}."]
    return lines


# --- Why, and what was done ---------------------------------------------------------------------------


def _causes(subject: Subject, rollback: RollbackStatus) -> list[str]:
    rows = [
        [
            str(rank),
            plain(cause.name),
            plain(cause.finding),
            cause.strength.name.capitalize(),
            cause.origin.cell if cause.origin else ABSENT,
        ]
        for rank, cause in enumerate(ranked(subject, rollback), start=1)
    ]
    note = "Candidates, ranked by the evidence for them: Decisive, the revert was decided on it; Strong, measured or"
    return [f"{note} found bad; Weak, changed and not known to be bad.", "", *table(CAUSES, rows)]


def _tried(subject: Subject) -> list[str]:
    """What had been done with this candidate before, and with versions before it."""
    deployment = subject.deployment
    assert deployment is not None
    lines = []
    held = sum(entry.state is StepState.HELD for entry in deployment.transitions)
    if held:
        lines.append("- Traffic was taken off and held until evidence was back, then the step was tried again")
    if any(entry.rule == "paused" for entry in deployment.transitions):
        lines.append("- A person paused the rollout")
    if any(entry.rule == "promoted" for entry in deployment.transitions):
        lines.append("- A person promoted a step before its time")
    for entry in subject.status.history:
        if entry.revision == deployment.revision and entry.deployment_id != deployment.id:
            said = f"ended as {entry.outcome} ({plain(entry.reason or 'no reason')}) at {format_time(entry.ended_at)}"
            lines.append(f"- The same revision before, {code(entry.deployment_id)}: {said}")
    lines.append("- The revert: all traffic to stable first, then the candidate's pods")
    return lines


def _durations(subject: Subject, rollback: RollbackStatus) -> list[str]:
    decided = (rollback.decided_at - rollback.breach_visible_at).total_seconds()
    return table(
        DURATIONS,
        [
            _duration(subject, "revert decided", decided),
            _duration(subject, "all traffic on stable", rollback.traffic_seconds),
            _duration(subject, "candidate's pods gone, stable at size", rollback.replica_set_seconds),
        ],
    )


def _duration(subject: Subject, what: str, seconds: float | None) -> list[str]:
    limit = f"≤ {RTO_SECONDS:.0f} s"
    cell = subject.origin.cell if subject.origin else ABSENT
    if seconds is None:
        return [what, NOT_MEASURED, limit, "Fail (not known)", cell]
    passed = "Pass" if seconds <= RTO_SECONDS else "Fail"
    return [what, figure(f"{seconds:.3f}s", subject.origin), limit, passed, cell]


def _unknown(subject: Subject, rollback: RollbackStatus) -> list[str]:
    deployment = subject.deployment
    assert deployment is not None
    found = []
    if subject.origin is None:
        found.append(f"Figures: {NO_RUN}")
    if rollback.traffic_reverted_at is None:
        found.append("When all traffic was back on stable")
    if rollback.replica_set_reverted_at is None:
        found.append("When the candidate's pods were gone")
    if subject.verification is None:
        found.append("Whether schema, dependencies, config and checkpoints are as they should be: nothing was verified")
    if not deployment.tests:
        found.append("What tests of the candidate's pods say: none were run")
    if subject.risk is None:
        found.append("The composite risk")
    if not subject.provenance.series:
        found.append("The objectives over time: only their latest values are in status")
    if sum(row.unit in ("s", "ms") for row in subject.rows) < 2:
        found.append("Latency by stage of the server: no objectives measure its stages")
    if deployment.run_id is None:
        found.append("The run that made the model")
    found += [f"{row.name}: {row.reason}" for row in subject.unseen]
    found += ["CPU, memory and GPU of the pods: the operator does not read them", "Which change in the model did it"]
    return [f"- {plain(item)}" for item in found]
