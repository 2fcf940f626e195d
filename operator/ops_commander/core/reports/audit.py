"""Audit: every action of a rollout as one structured record, from its status alone.

Of the latest deployment each transition is a record; of earlier ones status keeps their start and their end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from ops_commander.api.fields import Resource, Time, format_time
from ops_commander.api.v1alpha1 import (
    DeploymentStatus,
    HistoryEntry,
    ModelRollout,
    RollbackStatus,
    StepState,
    Transition,
)
from ops_commander.core.reports.provenance import STATUS_PATH, Provenance
from ops_commander.core.reports.subject import Subject

OPERATOR: Final = "operator"
PERSON: Final = "person"
_ORDERS: Final = {
    "aborted": "annotation abort",
    "promoted": "annotation promote",
    "retried": "annotation retry",
    "paused": "spec.paused",
    "replanned": "spec.steps",
    "superseded": "spec",
}
"""Rules that carry out what a person has asked for, and how it was asked."""

_FINDINGS: Final = {
    "starting": "spec asks for another version",
    "retried": "a person ordered another attempt",
    "launching": "the first version is Ready",
    "clearing": "the router is off the candidate Service",
    "preparing": "pods are Ready behind the candidate Service",
    "shifting": "the router has the split",
    "held": "evidence is back, or its deadline is over",
    "promoted": "a person ordered the next step",
    "paused": "spec.paused was set or taken back",
    "running": "objectives are met and the minimum time is over",
    "overdue": "the step was not proved within its maximum time",
    "switching": "the stable Service has the candidate's pods",
    "returning": "the router is back on the stable Service",
    "reverting": "the next part of the revert is done",
    "aborted": "a person ordered the revert",
    "superseded": "spec asks for another revision",
    "blind": "live traffic without evidence for holdAfter",
    "replanned": "spec.steps was edited",
    "drifted": "the route lost the split of the step",
}
"""What the rules that move a deployment on have found."""


class AuditRecord(Resource):
    """One action."""

    deployment_id: str
    """The deployment that it was about."""
    time: Time
    """When."""
    actor: str
    """Who: the operator, a person by way of the field or annotation named, or a voter."""
    what: str
    """What was done."""
    why: str
    """Why: the rule and its finding."""
    evidence: str
    """What it rests on: a tick, a run and artifact, an object."""
    result: str
    """What came of it."""


def audit_records(rollout: ModelRollout, provenance: Provenance | None = None) -> list[AuditRecord]:
    """All that status knows of, in order of time."""
    # `now` shows in reports only; an audit has none.
    subject = Subject(rollout, datetime.min, provenance=provenance or Provenance())
    found = [*_history(subject), *_deployment(subject), *_votes(subject)]
    return sorted(found, key=lambda record: record.time)


def json_lines(records: Iterable[AuditRecord]) -> str:
    """One JSON object a line."""
    return "".join(
        json.dumps(record.model_dump(mode="json", by_alias=True), ensure_ascii=False) + "\n" for record in records
    )


def _history(subject: Subject) -> Iterator[AuditRecord]:
    latest = subject.deployment.id if subject.deployment else None
    for entry in subject.status.history:
        if entry.deployment_id != latest:
            yield from _ended_before(entry)


def _ended_before(entry: HistoryEntry) -> Iterator[AuditRecord]:
    what = f"revision {entry.revision}, model version {entry.model_version}"
    evidence = "status.history"
    yield AuditRecord(
        deployment_id=entry.deployment_id,
        time=entry.started_at,
        actor=OPERATOR,
        what=f"start deployment of {what}",
        why="spec asked for another version",
        evidence=evidence,
        result="started",
    )
    yield AuditRecord(
        deployment_id=entry.deployment_id,
        time=entry.ended_at,
        actor=OPERATOR,
        what=f"end deployment of {what}",
        why=entry.reason or "no reason is known",
        evidence=evidence,
        result=entry.outcome,
    )


def _deployment(subject: Subject) -> Iterator[AuditRecord]:
    deployment = subject.deployment
    if deployment is None:
        return
    yield from _verification(subject, deployment)
    yield from _tests(deployment)
    yield from _traffic(subject, deployment)
    if subject.rollback:
        yield from _rollback(subject, subject.rollback)
    yield from _kept(subject, deployment)
    yield from (_transition(subject, deployment, entry) for entry in deployment.transitions)


def _verification(subject: Subject, deployment: DeploymentStatus) -> Iterator[AuditRecord]:
    found = subject.verification
    if found:
        origin = subject.files_origin
        yield AuditRecord(
            deployment_id=deployment.id,
            time=found.checked_at,
            actor=OPERATOR,
            what=f"verify the files of model version {found.model_version}",
            why=found.message,
            evidence=f"{origin.run_id}/{origin.path}" if origin else f"manifest sha256 {found.manifest_sha256}",
            result=f"{found.verdict} ({found.reason})",
        )


def _transition(subject: Subject, deployment: DeploymentStatus, entry: Transition) -> AuditRecord:
    step = step_name(subject, entry.step)
    if entry.state is None:
        result = deployment.outcome or "ended"
        what = f"end the deployment in step {step}"
    else:
        result = entry.state
        what = f"start the revert in step {step}" if entry.state is StepState.REVERTING else f"step {step}"
    return AuditRecord(
        deployment_id=deployment.id,
        time=entry.at,
        actor=actor_of(entry.rule),
        what=f"{what}: to {entry.state}" if entry.state else what,
        why=_why(subject, entry),
        evidence=_evidence(subject, entry),
        result=result,
    )


def actor_of(rule: str) -> str:
    return f"{PERSON} ({_ORDERS[rule]})" if rule in _ORDERS else OPERATOR


def _why(subject: Subject, entry: Transition) -> str:
    rollback = subject.rollback
    if rollback and entry.state is StepState.REVERTING and entry.at == rollback.decided_at:
        return f"rule {entry.rule}: {rollback.reason}: {rollback.message}"
    return f"rule {entry.rule}: {_FINDINGS[entry.rule]}" if entry.rule in _FINDINGS else f"rule {entry.rule}"


def _evidence(subject: Subject, entry: Transition) -> str:
    run = f"{subject.deploy_run_id}/{STATUS_PATH}" if subject.deploy_run_id else "status.deployment.transitions"
    return f"tick {_millis(entry.tick)}, {run}" if entry.tick else run


def step_name(subject: Subject, index: int) -> str:
    """The step as shown, where spec still has it."""
    steps = subject.rollout.spec.steps
    deployment = subject.deployment
    if deployment and deployment.steps and deployment.steps[0].name == "launch":
        return "launch"
    return f"{index + 1} ({steps[index].label})" if 0 <= index < len(steps) else str(index + 1)


def _tests(deployment: DeploymentStatus) -> Iterator[AuditRecord]:
    for test in deployment.tests:
        log = f"{test.log.run_id}/{test.log.path}" if test.log else f"Job {test.job}"
        for at, what, result in (
            (test.started_at, "start", "Running"),
            (test.ended_at, "end", f"{test.state}: {test.message}" if test.message else test.state),
        ):
            if at:
                yield AuditRecord(
                    deployment_id=deployment.id,
                    time=at,
                    actor=OPERATOR,
                    what=f"{what} the {test.kind} test {test.name}",
                    why="tests of spec.preflight come before traffic",
                    evidence=log,
                    result=result,
                )


def _traffic(subject: Subject, deployment: DeploymentStatus) -> Iterator[AuditRecord]:
    for record in deployment.steps:
        if record.reached_at:
            yield AuditRecord(
                deployment_id=deployment.id,
                time=record.reached_at,
                actor=OPERATOR,
                what=f"shift traffic to step {record.name}",
                why=f"step {record.name} was entered at {_millis(record.entered_at)}",
                evidence=_status(subject, "status.deployment.steps"),
                result="confirmed by the router",
            )


def _rollback(subject: Subject, rollback: RollbackStatus) -> Iterator[AuditRecord]:
    for at, what, seconds in (
        (rollback.traffic_reverted_at, "all traffic back to stable", rollback.traffic_seconds),
        (rollback.replica_set_reverted_at, "candidate's pods gone, stable at size", rollback.replica_set_seconds),
    ):
        if at:
            after = f"{seconds:.3f}s after the breach was visible" if seconds is not None else "time not known"
            yield AuditRecord(
                deployment_id=rollback.deployment_id,
                time=at,
                actor=OPERATOR,
                what=what,
                why=f"{rollback.reason}: {rollback.message}",
                evidence=_status(subject, "status.rollback"),
                result=after,
            )


def _kept(subject: Subject, deployment: DeploymentStatus) -> Iterator[AuditRecord]:
    """What was written to MLflow."""
    evidence = deployment.evidence
    if evidence and evidence.written_at:
        yield AuditRecord(
            deployment_id=deployment.id,
            time=evidence.written_at,
            actor=OPERATOR,
            what="write evidence to MLflow",
            why="the deployment had come further, or a minute had passed",
            evidence=_status(subject, "status.deployment.evidence"),
            result=evidence.error
            or f"{len(evidence.files)} file(s), {'complete' if evidence.is_complete else 'so far'}",
        )
    if evidence and evidence.alias:
        alias = evidence.alias
        yield AuditRecord(
            deployment_id=deployment.id,
            time=alias.at,
            actor=OPERATOR,
            what=f"point alias {alias.alias} of model {alias.model} to version {alias.version or 'none'}",
            why=alias.message or "spec.model.promotedAlias",
            evidence=_status(subject, "status.deployment.evidence.alias"),
            result=alias.state,
        )


def _votes(subject: Subject) -> Iterator[AuditRecord]:
    quorum = subject.quorum
    if quorum is None:
        return
    for row in subject.votes:
        if row.vote and row.cast_at:
            yield AuditRecord(
                deployment_id=quorum.deployment_id,
                time=row.cast_at,
                actor=f"{row.agent} ({row.voter or 'own evaluator of the operator'})",
                what=f"vote {row.vote}, {row.risk or 'no'} risk",
                why=row.concern or "no concern was given",
                evidence=f"Vote {row.name}" if row.name else _status(subject, "status.votes"),
                result="counted",
            )
    if quorum.reached_at:
        yield AuditRecord(
            deployment_id=quorum.deployment_id,
            time=quorum.reached_at,
            actor=OPERATOR,
            what="close the ballot",
            why=quorum.message,
            evidence=_status(subject, "status.quorum"),
            result=quorum.reason,
        )


def _status(subject: Subject, field: str) -> str:
    return f"{subject.deploy_run_id}/{STATUS_PATH}" if subject.deploy_run_id else field


def _millis(moment: datetime | None) -> str:
    return format_time(moment) if moment else "never"
