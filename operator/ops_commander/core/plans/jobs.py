"""Jobs of experiments and tests."""

from __future__ import annotations

import copy
import math
from datetime import timedelta
from typing import Any, Final

from ops_commander.api.action_plan import Action, Test
from ops_commander.api.v1alpha1 import API_VERSION
from ops_commander.core.plans import naming
from ops_commander.core.plans.observed import PlanView

_RESTRICTED: Final = {
    "automountServiceAccountToken": False,
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
}
_CONTAINER: Final = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def manifest(
    plan: PlanView,
    action: Action,
    pod: dict[str, Any],
    timeout: timedelta,
    *,
    mlflow_url: str,
    run_id: str | None,
) -> dict[str, Any]:
    """The Job of an action: one attempt, owned by the plan, told its run."""
    labels = {naming.PLAN_LABEL: plan.name, naming.ACTION_LABEL: action.id}
    template = copy.deepcopy(pod)
    metadata = template.setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    spec = template["spec"]
    spec["restartPolicy"] = "Never"  # a second attempt is another run of the same experiment: somebody must want it
    added = _environment(plan, action, mlflow_url, run_id)
    for container in spec["containers"]:
        mine = [item for item in container.get("env") or [] if item.get("name") not in added]
        container["env"] = [*mine, *({"name": name, "value": value} for name, value in added.items())]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": naming.object_name(plan.name, action.id),
            "namespace": plan.namespace,
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "ActionPlan",
                    "name": plan.name,
                    "uid": plan.uid,
                    "controller": True,
                }
            ],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": math.ceil(timeout.total_seconds()),
            "template": template,
        },
    }


def pod_of(action: Action, found: dict[str, Any] | None) -> dict[str, Any] | None:
    """The pod template of an action: its own, one made of its image, or the PodTemplate that was found."""
    pod = action.pod
    assert pod is not None
    if pod.template is not None:
        return pod.template
    if pod.image is None:
        return found
    container: dict[str, Any] = {"name": action.kind.value, "image": pod.image, "securityContext": _CONTAINER}
    if pod.command:
        container["command"] = pod.command
    container["env"] = [item.model_dump() for item in pod.env or []]
    return {"spec": {**_RESTRICTED, "containers": [container]}}


def _environment(plan: PlanView, action: Action, mlflow_url: str, run_id: str | None) -> dict[str, str]:
    added = {"OPS_COMMANDER_PLAN": plan.name, "OPS_COMMANDER_ACTION": action.id}
    if run_id:
        added |= {"MLFLOW_TRACKING_URI": mlflow_url, "MLFLOW_RUN_ID": run_id}
    if isinstance(action.test, Test):
        added |= {"OPS_COMMANDER_SUITE": action.test.suite.value, "OPS_COMMANDER_TARGET": action.test.target}
        if action.test.version:
            added["OPS_COMMANDER_MODEL_VERSION"] = action.test.version
    return added
