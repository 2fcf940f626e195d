"""Objects that the operator applies, built from spec alone, and the comparison with what is there."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from ops_commander.api.v1alpha1 import API_VERSION, DeletionPolicy
from ops_commander.core import names
from ops_commander.core.snapshot import Manifest, Snapshot


def covers(observed: Any, wanted: Any) -> bool:
    """Whether everything wanted is there, whatever defaults and fields of others stand beside it.

    Lists match element by element; a wanted empty list matches an absent one.
    """
    if isinstance(wanted, Mapping):
        return isinstance(observed, Mapping) and all(
            (key in observed and covers(observed[key], value)) or (key not in observed and value == [])
            for key, value in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return (
            isinstance(observed, Sequence)
            and len(observed) == len(wanted)
            and all(covers(have, want) for have, want in zip(observed, wanted, strict=True))
        )
    return bool(observed == wanted)


def is_up_to_date(snapshot: Snapshot, observed: Manifest, wanted: Manifest) -> bool:
    """Whether spec and labels are as wanted and our own owner reference is there or not; others' are theirs."""
    references = observed["metadata"].get("ownerReferences") or []
    owned = any(reference.get("uid") == snapshot.uid for reference in references)
    return (
        covers(observed["spec"], wanted["spec"])
        and covers(observed["metadata"].get("labels") or {}, wanted["metadata"]["labels"])
        and owned == bool(owner_references(snapshot))
    )


def owner_references(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Owner references only where a deletion is meant to take everything along.

    The garbage collector deletes owned objects on a foreground deletion before any finalizer could
    save the stable version (docs/adr/0004).
    """
    if snapshot.spec.deletion_policy is not DeletionPolicy.DELETE_ALL:
        return []
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "ModelRollout",
            "name": snapshot.name,
            "uid": snapshot.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def metadata(snapshot: Snapshot, name: str, **labels: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": snapshot.namespace,
        "labels": {
            "app.kubernetes.io/managed-by": "ops-commander",
            names.ROLLOUT_LABEL: snapshot.name,
            **labels,
        },
        "ownerReferences": owner_references(snapshot),
    }


def selector(snapshot: Snapshot, revision: str) -> dict[str, str]:
    chosen = snapshot.spec.selector.match_labels if snapshot.spec.selector else {}
    return {**chosen, names.ROLLOUT_LABEL: snapshot.name, names.REVISION_LABEL: revision}


def replica_set(snapshot: Snapshot, revision: str, replicas: int, deployment_id: str) -> Manifest:
    """ReplicaSet of the wanted revision, its template completed with labels and a preStop pause."""
    model = snapshot.spec.model
    template = copy.deepcopy(snapshot.spec.template)
    pod_metadata = template.setdefault("metadata", {})
    pod_metadata["labels"] = {**(pod_metadata.get("labels") or {}), **selector(snapshot, revision)}
    pod_metadata["labels"][names.MODEL_LABEL] = label_value(model.name)
    pod_metadata["labels"][names.MODEL_VERSION_LABEL] = label_value(model.label)
    annotations = dict(pod_metadata.get("annotations") or {})
    if model.run_id:
        annotations[names.RUN_ID] = model.run_id
    if annotations:
        pod_metadata["annotations"] = annotations
    _pause_before_stop(template["spec"], round(snapshot.spec.drain.total_seconds()))
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            **metadata(
                snapshot,
                names.replica_set_name(snapshot.name, revision),
                **{names.REVISION_LABEL: revision, names.MODEL_VERSION_LABEL: label_value(model.label)},
            ),
            "annotations": {
                names.DEPLOYMENT_ID: deployment_id,
                names.TARGET_PORT: str(snapshot.spec.service.target_port),
            },
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector(snapshot, revision)},
            "template": template,
        },
    }


def label_value(text: str) -> str:
    """The text as a label value: other characters become dots, at most 63 of them."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "." for c in text)[:63]
    return kept.strip("-_.")


def _pause_before_stop(pod_spec: dict[str, Any], seconds: int) -> None:
    """A container that ends at once on SIGTERM drops requests that routers still send it."""
    if seconds <= 0:
        return
    for container in pod_spec["containers"]:
        lifecycle = dict(container.get("lifecycle") or {})
        lifecycle.setdefault("preStop", {"sleep": {"seconds": seconds}})
        container["lifecycle"] = lifecycle
    grace = pod_spec.get("terminationGracePeriodSeconds", 30)
    pod_spec["terminationGracePeriodSeconds"] = max(grace, seconds + 5)


def service(snapshot: Snapshot, name: str, revision: str) -> Manifest:
    """Service of a revision, with the port that its pods serve: spec may have moved on to another."""
    ports = snapshot.spec.service
    view = snapshot.replica_sets.get(revision)
    target_port = view.target_port if view and view.target_port else ports.target_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(snapshot, name),
        "spec": {
            "selector": selector(snapshot, revision),
            "ports": [{"name": "http", "port": ports.port, "targetPort": target_port, "protocol": "TCP"}],
        },
    }
