"""Test Jobs of a rollout, and what their pods have said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops_commander.adapters.kubernetes import KubernetesApi
from ops_commander.api.fields import parse_time
from ops_commander.api.v1alpha1 import TestState
from ops_commander.core import names
from ops_commander.core.snapshot import JobView

MOST_LOG = 256 * 1024
"""Bytes of a pod's log that are kept: the last ones."""
JOB_LABEL = "batch.kubernetes.io/job-name"


def view(job: Mapping[str, Any]) -> JobView:
    """How a Job stands: Running counts only once its pod is Ready or has ended."""
    status = job.get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or [] if item.get("status") == "True"}
    started = parse_time(status["startTime"]) if status.get("startTime") else None
    ended = conditions.get("Complete") or conditions.get("Failed")
    if ended is None:
        state = TestState.RUNNING if status.get("ready") or status.get("active") else TestState.PENDING
        return JobView(job["metadata"]["name"], state, started_at=started)
    state = TestState.PASSED if "Complete" in conditions else TestState.FAILED
    message = ended.get("message") or ended.get("reason") or ""
    return JobView(job["metadata"]["name"], state, message, started, parse_time(ended["lastTransitionTime"]))


async def jobs(api: KubernetesApi, namespace: str, rollout: str) -> dict[str, JobView]:
    """By name: the Jobs that test a rollout, of all of its deployments that still have some."""
    found = await api.list("Job", namespace, {names.TEST_OF: rollout})
    return {view_.name: view_ for view_ in map(view, found)}


async def log_of(api: KubernetesApi, namespace: str, job: str) -> str:
    """What the containers of a Job's pods have said, and how they ended. Raises ApiError."""
    pods = await api.list("Pod", namespace, {JOB_LABEL: job})
    parts = []
    for pod in sorted(pods, key=lambda item: item["metadata"]["creationTimestamp"]):
        name = pod["metadata"]["name"]
        for status in (pod.get("status") or {}).get("containerStatuses") or []:
            ended = (status.get("state") or {}).get("terminated") or {}
            text = await api.log(namespace, name, status["name"], limit=MOST_LOG)
            head = f"--- pod {name}, container {status['name']}, image {status.get('imageID') or status.get('image')}"
            tail = f"--- exit code {ended.get('exitCode', '?')} at {ended.get('finishedAt', '?')}"
            parts += [head, text.rstrip("\n"), tail]
    return "\n".join(parts) + "\n" if parts else ""
