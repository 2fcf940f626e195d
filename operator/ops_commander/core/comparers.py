"""The comparer's objects: one pod and its Service, there while a step compares answers."""

from __future__ import annotations

import json
from typing import Any

from ops_commander.api.comparison import Comparison
from ops_commander.api.v1alpha1 import API_VERSION, StepState
from ops_commander.core import names
from ops_commander.core.situation import STEP_STATES, Situation
from ops_commander.core.snapshot import Manifest, Snapshot

PORT = 8080
METRICS_PORT = 8081
_BEGINNING = frozenset({StepState.PREPARING, *STEP_STATES, StepState.HELD})


def evidence_path(deployment_id: str) -> str:
    """Where a deployment's evidence lies below the artifacts of its model's run."""
    return f"ops-commander/{deployment_id}"


def comparison_of(situation: Situation) -> Comparison | None:
    """What the step under way compares, from its preparation on."""
    return situation.step_spec.comparison if situation.state in _BEGINNING else None


def missing(situation: Situation) -> list[Manifest]:
    """What is to be made: the Service first, because the route names it."""
    comparison, snapshot = comparison_of(situation), situation.snapshot
    deployment, view = situation.deployment, snapshot.comparer
    if comparison is None or deployment is None or not snapshot.installation.image:
        return []
    made = []
    if view is None or not view.has_service:
        made.append(service(snapshot))
    if view is None or names.comparer_name(snapshot.name, deployment.revision) not in view.replica_sets:
        made.append(replica_set(situation, comparison))
    return made


def leftovers(situation: Situation) -> list[tuple[str, str]]:
    """Kinds and names that are of no use any more: those of other revisions, and all once no route mirrors to them."""
    view, snapshot, traffic = situation.snapshot.comparer, situation.snapshot, situation.snapshot.status.traffic
    if view is None:
        return []
    is_used = comparison_of(situation) is not None
    keeps = names.comparer_name(snapshot.name, situation.deployment.revision) if situation.deployment else ""
    gone = [("ReplicaSet", name) for name in view.replica_sets if not is_used or name != keeps]
    is_free = traffic is None or (not traffic.compare_percent and situation.is_settled)
    if view.has_service and not is_used and is_free:
        gone.append(("Service", names.comparer_service_name(snapshot.name)))
    return gone if is_used or is_free else []


def _metadata(snapshot: Snapshot, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": snapshot.namespace,
        "labels": _labels(snapshot),
        "ownerReferences": [
            {"apiVersion": API_VERSION, "kind": "ModelRollout", "name": snapshot.name, "uid": snapshot.uid}
        ],
    }


def _labels(snapshot: Snapshot) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "ops-commander", names.COMPARER_OF: snapshot.name}


def service(snapshot: Snapshot) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(snapshot, names.comparer_service_name(snapshot.name)),
        "spec": {
            "selector": {names.COMPARER_OF: snapshot.name},
            "ports": [
                {"name": "http", "port": snapshot.spec.service.port, "targetPort": PORT, "protocol": "TCP"},
            ],
        },
    }


def replica_set(situation: Situation, comparison: Comparison) -> Manifest:
    """One pod that nobody waits for. What it is to do stands in its environment."""
    snapshot, deployment = situation.snapshot, situation.deployment
    assert deployment is not None
    labels = _labels(snapshot)
    pod = {
        "metadata": {
            "labels": labels,
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(METRICS_PORT),
                "prometheus.io/path": "/metrics",
                names.DEPLOYMENT_ID: deployment.id,
            },
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(situation, comparison)],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": _metadata(snapshot, names.comparer_name(snapshot.name, deployment.revision)),
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
    }


def _container(situation: Situation, comparison: Comparison) -> dict[str, Any]:
    snapshot, deployment = situation.snapshot, situation.deployment
    assert deployment is not None
    port, given = snapshot.spec.service.port, snapshot.installation
    environment = {
        "OPS_COMMANDER_COMPARE_STABLE_URL": f"http://{names.stable_service_name(snapshot.name)}:{port}",
        "OPS_COMMANDER_COMPARE_CANDIDATE_URL": f"http://{names.candidate_service_name(snapshot.name)}:{port}",
        "OPS_COMMANDER_COMPARE_COMPARISON": json.dumps(comparison.model_dump(mode="json", by_alias=True)),
        "OPS_COMMANDER_COMPARE_DEPLOYMENT_ID": deployment.id,
        "OPS_COMMANDER_COMPARE_PORT": str(PORT),
        "OPS_COMMANDER_COMPARE_METRICS_PORT": str(METRICS_PORT),
        "OPS_COMMANDER_COMPARE_MLFLOW_URL": given.mlflow_url if deployment.run_id else "",
        "OPS_COMMANDER_COMPARE_RUN_ID": deployment.run_id or "",
        "OPS_COMMANDER_COMPARE_EVIDENCE_PATH": evidence_path(deployment.id),
    }
    limits = {"cpu": comparison.cpu, "memory": comparison.memory}
    return {
        "name": "comparer",
        "image": given.image,
        "imagePullPolicy": given.image_pull_policy,
        "args": ["compare"],
        "env": [{"name": name, "value": value} for name, value in environment.items() if value],
        "ports": [{"name": "http", "containerPort": PORT}, {"name": "metrics", "containerPort": METRICS_PORT}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}, "periodSeconds": 2},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "metrics"}, "periodSeconds": 10},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
