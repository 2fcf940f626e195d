"""What MLflow must have of a deployment: a function of its status, so that a restart loses nothing."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from ops_commander.api.fields import format_time
from ops_commander.api.v1alpha1 import (
    DeploymentStatus,
    ModelRollout,
    ModelRolloutStatus,
    ObjectiveStatus,
    Outcome,
    StepState,
)
from ops_commander.api.verification import EvidenceFile
from ops_commander.core import names
from ops_commander.core.plans import naming
from ops_commander.core.recordings.recording import bare
from ops_commander.core.reports.provenance import GRAFANA_RUN_ID, STATUS_PATH
from ops_commander.core.snapshot import Snapshot

DEPLOYMENT_TAG: Final = "ops-commander.deployment_id"
MARKER_TAG: Final = "ops-commander.deployment"
"""Tag by which a run is found again: uid of the rollout and deployment id, which names no other one anywhere."""
PARENT_TAG: Final = "mlflow.parentRunId"
EXPERIMENT: Final = "ops-commander"
DECISIONS_FILE: Final = "decisions.jsonl"
REFERENCES_FILE: Final = "evidence.json"
_LONGEST_PARAM: Final = 500
_LONGEST_TAG: Final = 5000
"""What every store behind MLflow takes."""


class RunEnd(StrEnum):
    """How a run ends in MLflow."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


ENDS: Final = {
    Outcome.COMPLETED: RunEnd.FINISHED,
    Outcome.ROLLED_BACK: RunEnd.FAILED,
    Outcome.SUPERSEDED: RunEnd.KILLED,
}


_KEPT_ANNOTATIONS: Final = (names.PARENT_RUN, GRAFANA_RUN_ID, naming.BY_PLAN, naming.BY_ACTION)


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a metric. `step` is in seconds since the deployment started."""

    key: str
    value: float
    at: datetime
    step: int


@dataclass(frozen=True, slots=True)
class AliasWanted:
    """Where an alias of the registered model is to point, and from where it may be moved there."""

    model: str
    alias: str
    version: str
    may_leave: frozenset[str]
    """Versions that it may be moved away from."""
    restores: bool = False
    """Whether it is moved only if it points to a version of `may_leave` now."""


@dataclass(frozen=True, slots=True)
class EvidenceWanted:
    """What a run must have."""

    deployment_id: str
    marker: str
    params: Mapping[str, str]
    """Never change in a deployment: MLflow takes each once."""
    tags: Mapping[str, str]
    points: tuple[Point, ...]
    files: Mapping[str, str]
    """Path → text."""
    end: tuple[RunEnd, datetime] | None
    """How and when the run ends; None while the deployment is under way."""
    landmark: str
    digest: str
    """sha256 of the record: while it is the same there is nothing new."""
    references: tuple[EvidenceFile, ...] = field(default=())
    """Artifacts of other runs that belong to it."""


def landmark(status: ModelRolloutStatus) -> str:
    """How far a deployment has come. Each change of it is written at once, and a promotion waits for its own."""
    deployment, step = status.deployment, status.step
    if deployment is None:
        return ""
    proved = format_time(step.proved_at) if step and step.proved_at else ""
    parts = [str(len(deployment.steps)), deployment.outcome or "", proved]
    if step is not None and step.state is StepState.REVERTING:
        parts.append(StepState.REVERTING)
    return "/".join(parts)


def record_of(rollout: ModelRollout) -> ModelRollout:
    """A rollout without secrets and without what is known of its evidence: written twice it is the same."""
    metadata = rollout.metadata
    annotations = metadata.get("annotations") or {}
    kept: dict[str, Any] = {name: metadata[name] for name in ("name", "namespace", "uid") if name in metadata}
    if about := {name: annotations[name] for name in _KEPT_ANNOTATIONS if name in annotations}:
        kept["annotations"] = about
    preflight = rollout.spec.preflight
    if preflight is not None:
        tests = [test.model_copy(update={"template": bare(test.template)}) for test in preflight.tests]
        preflight = preflight.model_copy(update={"tests": tests})
    spec = rollout.spec.model_copy(update={"template": bare(rollout.spec.template), "preflight": preflight})
    deployment = rollout.status.deployment
    if deployment is not None:
        deployment = deployment.model_copy(update={"evidence": None, "deploy_run_id": None})
    status = rollout.status.model_copy(update={"deployment": deployment, "outbox": [], "history": []})
    return ModelRollout(metadata=kept, spec=spec, status=status)


def rollout_of(snapshot: Snapshot) -> ModelRollout:
    """The rollout that a snapshot was made of."""
    metadata = {"name": snapshot.name, "namespace": snapshot.namespace, "uid": snapshot.uid}
    return ModelRollout(
        metadata={**metadata, "annotations": dict(snapshot.annotations)}, spec=snapshot.spec, status=snapshot.status
    )


def digest_of(record: ModelRollout) -> str:
    return hashlib.sha256(_text(record).encode()).hexdigest()


def wanted(rollout: ModelRollout) -> EvidenceWanted:
    """What MLflow must have of the latest deployment of a rollout. Raises ValueError where there is none."""
    record = record_of(rollout)
    deployment = record.status.deployment
    if deployment is None:
        raise ValueError(f"status.deployment of {rollout.metadata.get('name')} is missing: expected a deployment")
    text = _text(record)
    digest = hashlib.sha256(text.encode()).hexdigest()
    references = tuple(_references(record.status, deployment))
    end = None
    if deployment.outcome is not None:
        end = (ENDS[deployment.outcome], deployment.ended_at or deployment.started_at)
    return EvidenceWanted(
        deployment_id=deployment.id,
        marker=f"{record.metadata.get('uid', '')}/{deployment.id}",
        params=_params(record, deployment),
        tags=_tags(record, deployment, digest),
        points=tuple(_points(record.status, deployment)),
        files={
            STATUS_PATH: text,
            DECISIONS_FILE: _decisions(deployment),
            REFERENCES_FILE: _pretty([item.model_dump(mode="json", by_alias=True) for item in references]),
        },
        end=end,
        landmark=landmark(rollout.status),
        digest=digest,
        references=references,
    )


def _text(record: ModelRollout) -> str:
    return _pretty(record.model_dump(mode="json", by_alias=True, exclude_none=True))


def _pretty(content: Any) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _params(record: ModelRollout, deployment: DeploymentStatus) -> dict[str, str]:
    known = {
        "namespace": record.metadata.get("namespace"),
        "rollout": record.metadata.get("name"),
        "deployment_id": deployment.id,
        "revision": deployment.revision,
        "model": deployment.model,
        "model_version": deployment.model_version,
        "model_run_id": deployment.run_id,
        "stable_revision": deployment.stable_revision,
        "stable_version": deployment.stable_version,
        "stable_run_id": deployment.stable_run_id,
        "generation": str(deployment.generation),
        "started_at": format_time(deployment.started_at),
    }
    return {name: value[:_LONGEST_PARAM] for name, value in known.items() if value}


def _tags(record: ModelRollout, deployment: DeploymentStatus, digest: str) -> dict[str, str]:
    status = record.status
    rollback = status.rollback if status.rollback and status.rollback.deployment_id == deployment.id else None
    known = {
        DEPLOYMENT_TAG: deployment.id,
        PARENT_TAG: (record.metadata.get("annotations") or {}).get(names.PARENT_RUN),
        "ops-commander.step": status.step.name if status.step else None,
        "ops-commander.state": status.step.state if status.step else "Ended",
        "ops-commander.verdict": status.verdict,
        "ops-commander.outcome": deployment.outcome,
        "ops-commander.reason": deployment.reason,
        "ops-commander.ended_at": format_time(deployment.ended_at) if deployment.ended_at else None,
        "ops-commander.risk": status.risk.band if status.risk else None,
        "ops-commander.quorum": status.quorum.line if status.quorum else None,
        "ops-commander.record_sha256": digest,
        "mlflow.note.content": f"{rollback.reason}: {rollback.message}" if rollback else None,
    }
    return {name: str(value)[:_LONGEST_TAG] for name, value in known.items() if value}


def _points(status: ModelRolloutStatus, deployment: DeploymentStatus) -> Iterator[Point]:
    started = deployment.started_at

    def points(at: datetime, values: Mapping[str, float | None]) -> Iterator[Point]:
        step = max(0, int((at - started).total_seconds()))
        for key, value in values.items():
            if value is not None and math.isfinite(value):
                yield Point(key, float(value), at, step)

    for base in deployment.baseline:
        yield from points(started, {f"baseline/{base.name}": base.value, f"baseline_rate/{base.name}": base.rate})
    for row in status.objectives:
        yield from points(row.last_tick or started, _values(row))
    at = deployment.ended_at
    rollback = status.rollback
    if at and rollback and rollback.deployment_id == deployment.id:
        times = {"traffic_seconds": rollback.traffic_seconds, "replica_set_seconds": rollback.replica_set_seconds}
        yield from points(at, {f"rollback/{name}": value for name, value in times.items()})
    if at and status.risk:
        yield from points(at, {"integration_risk": status.risk.value})


def _values(row: ObjectiveStatus) -> dict[str, float | None]:
    interval = row.interval
    found = {
        "observed": row.observed,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "candidate": row.candidate,
        "stable": row.stable,
        "samples": row.samples,
    }
    return {f"objective/{row.name}/{name}": value for name, value in found.items()}


def _decisions(deployment: DeploymentStatus) -> str:
    """Each change of state in a line, with the step it was in."""
    lines = []
    for item in deployment.transitions:
        line = item.model_dump(mode="json", by_alias=True, exclude_none=True)
        lines.append(json.dumps({"deploymentId": deployment.id, **line}, sort_keys=True))
    return "".join(f"{line}\n" for line in lines)


def _references(status: ModelRolloutStatus, deployment: DeploymentStatus) -> Iterator[EvidenceFile]:
    verification = status.verification
    if verification and verification.revision == deployment.revision:
        yield from verification.evidence
    yield from (test.log for test in deployment.tests if test.log)
