"""Jobs that test a candidate's pods after they are Ready and before any traffic."""

from __future__ import annotations

import copy
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from ops_commander.api.v1alpha1 import (
    API_VERSION,
    DeploymentStatus,
    ModelRolloutStatus,
    StepState,
    TestJob,
    TestState,
    TestStatus,
)
from ops_commander.core import names
from ops_commander.core.situation import SETTLE
from ops_commander.core.snapshot import JobView, Manifest, Snapshot

_NEVER = datetime.fromtimestamp(0, UTC)
KEPT_FOR = timedelta(days=1)
"""Time after which the cluster removes a Job that has ended, with its pods and their logs."""
ENDED = frozenset({TestState.PASSED, TestState.FAILED})


def tests_of(snapshot: Snapshot) -> list[TestJob]:
    return snapshot.spec.preflight.tests if snapshot.spec.preflight else []


def job_name(deployment: DeploymentStatus, test: TestJob) -> str:
    """A test that was edited has another Job; one that was not is never run twice in a deployment."""
    content = json.dumps(test.model_dump(mode="json", by_alias=True), sort_keys=True)
    return names.test_job_name(deployment.id, hashlib.sha256(content.encode()).hexdigest()[:6])


def rows(snapshot: Snapshot) -> list[TestStatus]:
    """One row a test, from its Job as far as there is one; what has ended stays as it was."""
    deployment = snapshot.status.deployment
    if deployment is None:
        return []
    known = {row.job: row for row in deployment.tests}
    if snapshot.status.step is None:  # spec may ask for other tests by now
        return [_with_log(row, snapshot.test_jobs.get(row.job)) for row in deployment.tests]
    return [_row(snapshot, test, known.get(job_name(deployment, test)), deployment) for test in tests_of(snapshot)]


def _row(snapshot: Snapshot, test: TestJob, known: TestStatus | None, deployment: DeploymentStatus) -> TestStatus:
    name = job_name(deployment, test)
    view = snapshot.test_jobs.get(name)
    if view is None:
        return known or TestStatus(name=test.name, kind=test.kind, job=name)
    if known and known.state in ENDED:
        return _with_log(known, view)
    return TestStatus(
        name=test.name,
        kind=test.kind,
        job=name,
        state=view.state,
        message=view.message,
        started_at=view.started_at,
        ended_at=view.ended_at,
        log=view.log,
    )


def _with_log(row: TestStatus, view: JobView | None) -> TestStatus:
    return row if row.log or view is None else row.model_copy(update={"log": view.log})


def probes(snapshot: Snapshot) -> list[tuple[str, Manifest]]:
    """What the API server is asked about the tests before anything starts, with the field it is about."""
    nobody = DeploymentStatus(id="dry-run", revision="", model_version="", generation=0, started_at=_NEVER)
    return [
        (f"spec.preflight.tests[{number}].template", manifest(snapshot, nobody, test))
        for number, test in enumerate(tests_of(snapshot))
    ]


def are_asked_for(status: ModelRolloutStatus) -> bool:
    """Whether the Jobs say something that status does not hold yet."""
    step, deployment = status.step, status.deployment
    begun = step is not None and step.testing_since is not None and step.reached_at is None
    return begun or (deployment is not None and any(row.log is None for row in deployment.tests))


def keeps_logs(snapshot: Snapshot) -> bool:
    """Whether there is a run that what tests say can be written to."""
    deployment = snapshot.status.deployment
    return bool(snapshot.installation.mlflow_url and deployment and deployment.run_id)


def are_running(snapshot: Snapshot) -> bool:
    """Whether tests have begun, with pods that are Ready and without traffic."""
    step = snapshot.status.step
    states = (StepState.PREPARING, StepState.LAUNCHING)
    return step is not None and step.testing_since is not None and step.state in states


def missing(snapshot: Snapshot, now: datetime) -> list[Manifest]:
    """Jobs that are to be made now, once every node has had time to learn of the pods behind the Service."""
    deployment, step = snapshot.status.deployment, snapshot.status.step
    since = step.testing_since if step else None
    if deployment is None or since is None or not are_running(snapshot) or now < since + SETTLE:
        return []
    ended = {row.job for row in deployment.tests if row.state in ENDED}
    wanted = {job_name(deployment, test): test for test in tests_of(snapshot)}
    absent = [name for name in wanted if name not in ended and name not in snapshot.test_jobs]
    return [manifest(snapshot, deployment, wanted[name]) for name in absent]


def abandoned(snapshot: Snapshot) -> list[str]:
    """Jobs that still run although nobody waits for them any more."""
    if are_running(snapshot):
        return []
    return [view.name for view in snapshot.test_jobs.values() if view.state not in ENDED]


def manifest(snapshot: Snapshot, deployment: DeploymentStatus, test: TestJob) -> Manifest:
    """A Job that runs once: one that passes at the second try has shown nothing."""
    template = copy.deepcopy(test.template)
    metadata = template.setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), names.TEST_OF: snapshot.name}
    spec = template["spec"]
    spec["restartPolicy"] = "Never"
    for container in spec["containers"]:
        told = _told(snapshot, deployment, test)
        own = {item.get("name") for item in container.get("env") or []}
        container["env"] = [*(item for item in told if item["name"] not in own), *(container.get("env") or [])]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(deployment, test),
            "namespace": snapshot.namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "ops-commander",
                names.ROLLOUT_LABEL: snapshot.name,
                names.TEST_OF: snapshot.name,
            },
            "annotations": {names.DEPLOYMENT_ID: deployment.id},
            "ownerReferences": [
                {"apiVersion": API_VERSION, "kind": "ModelRollout", "name": snapshot.name, "uid": snapshot.uid}
            ],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": max(1, round(test.timeout.total_seconds())),
            "ttlSecondsAfterFinished": round(KEPT_FOR.total_seconds()),
            "template": template,
        },
    }


def _told(snapshot: Snapshot, deployment: DeploymentStatus, test: TestJob) -> list[dict[str, Any]]:
    port = snapshot.spec.service.port
    stable = names.stable_service_name(snapshot.name) if snapshot.status.stable_revision else ""
    known = {
        "OPS_COMMANDER_TEST": test.name,
        "OPS_COMMANDER_DEPLOYMENT_ID": deployment.id,
        "OPS_COMMANDER_MODEL_VERSION": deployment.model_version,
        "OPS_COMMANDER_CANDIDATE_URL": f"http://{names.candidate_service_name(snapshot.name)}:{port}",
        "OPS_COMMANDER_STABLE_URL": f"http://{stable}:{port}" if stable else "",
        "MLFLOW_TRACKING_URI": snapshot.installation.mlflow_url,
        "MLFLOW_RUN_ID": deployment.run_id or "",
    }
    return [{"name": name, "value": value} for name, value in known.items() if value]
