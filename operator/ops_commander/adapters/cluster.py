"""A rollout's objects in the cluster: read into views, and actions carried out on them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ops_commander.adapters import cluster_jobs
from ops_commander.adapters.kubernetes import Invalid, KubernetesApi
from ops_commander.api.fields import parse_time
from ops_commander.api.v1alpha1 import API_VERSION, ModelRolloutStatus
from ops_commander.core import names
from ops_commander.core.desired import Action, Apply, Delete, NoteVote, Scale, SetFinalizers, SetOwner, SteerRoute
from ops_commander.core.snapshot import ComparerView, JobView, Manifest, ReplicaSetView, ServiceView


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything around one rollout, read at about the same moment."""

    replica_sets: Mapping[str, ReplicaSetView]
    stable_service: ServiceView | None
    candidate_service: ServiceView | None
    route: Manifest | None
    has_leftover_route: bool
    policy: Mapping[str, Any] | None = field(default=None)
    test_jobs: Mapping[str, JobView] = field(default_factory=dict)
    comparer: ComparerView | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which objects are read besides those that every rollout has."""

    route: str
    policy: str | None = None
    test_jobs: bool = False
    comparer: bool = False


class Cluster:
    """The adapter between a rollout and the objects that make it real."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def rollout(self, namespace: str, name: str) -> dict[str, Any] | None:
        return await self._api.find("ModelRollout", namespace, name)

    async def rollouts(self, namespace: str | None, selector: str = "") -> list[tuple[str, str]]:
        items = await self._api.list("ModelRollout", namespace, selector=selector)
        return [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items]

    async def surroundings(self, namespace: str, rollout: str, wanted: Wanted) -> Surroundings:
        """Read all at once. Raises ApiError if any of it cannot be read: a half view decides nothing."""
        labels = {names.ROLLOUT_LABEL: rollout}
        stable, candidate = names.stable_service_name(rollout), names.candidate_service_name(rollout)
        objects = asyncio.gather(
            self._api.list("ReplicaSet", namespace, labels),
            self._api.list("Pod", namespace, labels),
            self._api.find("HTTPRoute", namespace, wanted.route),
            self._policy(namespace, wanted.policy),
            self._leftover_route(namespace, rollout, wanted.route),
        )
        others = asyncio.gather(
            cluster_jobs.jobs(self._api, namespace, rollout) if wanted.test_jobs else _nothing(),
            self._comparer(namespace, rollout) if wanted.comparer else _nothing(),
        )
        services = asyncio.gather(
            self._api.find("Service", namespace, stable),
            self._slices(namespace, stable),
            self._api.find("Service", namespace, candidate),
            self._slices(namespace, candidate),
        )
        (replica_sets, pods, route, policy, leftover), behind, (test_jobs, comparer) = await asyncio.gather(
            objects, services, others
        )
        stable_view, stable_slices, candidate_view, candidate_slices = behind
        revisions = {pod["metadata"]["name"]: _revision(pod) for pod in pods}
        return Surroundings(
            replica_sets=_replica_set_views(replica_sets, pods),
            stable_service=_service_view(stable_view, stable_slices, revisions),
            candidate_service=_service_view(candidate_view, candidate_slices, revisions),
            route=route,
            has_leftover_route=leftover is not None,
            policy=policy,
            test_jobs=test_jobs or {},
            comparer=comparer,
        )

    async def _comparer(self, namespace: str, rollout: str) -> ComparerView:
        labels = {names.COMPARER_OF: rollout}
        found, service = await asyncio.gather(
            self._api.list("ReplicaSet", namespace, labels),
            self._api.find("Service", namespace, names.comparer_service_name(rollout)),
        )
        ready = any((item.get("status") or {}).get("readyReplicas") for item in found)
        return ComparerView(tuple(item["metadata"]["name"] for item in found), service is not None, ready)

    async def test_log(self, namespace: str, job: str) -> str:
        """What a test Job's pods have said. Raises ApiError."""
        return await cluster_jobs.log_of(self._api, namespace, job)

    async def _slices(self, namespace: str, service: str) -> list[dict[str, Any]]:
        return await self._api.list("EndpointSlice", namespace, {"kubernetes.io/service-name": service})

    async def _policy(self, namespace: str, name: str | None) -> dict[str, Any] | None:
        return await self._api.find("RolloutPolicy", namespace, name) if name else None

    async def _leftover_route(self, namespace: str, rollout: str, route_name: str) -> dict[str, Any] | None:
        """A route that was generated before spec came to refer to another one."""
        found = await self._api.find("HTTPRoute", namespace, rollout) if route_name != rollout else None
        labels = found["metadata"].get("labels") or {} if found else {}
        return found if labels.get(names.ROLLOUT_LABEL) == rollout else None

    async def dry_run(self, manifest: Manifest) -> None:
        """Raises Invalid with the API server's words where it would refuse the object."""
        namespace = manifest["metadata"]["namespace"]
        probe = {**manifest, "metadata": {**manifest["metadata"], "name": None, "generateName": "dry-run-"}}
        del probe["metadata"]["name"]
        await self._api.create(manifest["kind"], namespace, probe, dry_run=True)

    async def carry_out(self, namespace: str, rollout: str, resource_version: str, action: Action) -> None:
        """Do one action; all of them may be repeated without harm."""
        if isinstance(action, NoteVote):
            await self._note(namespace, action)
        elif isinstance(action, Apply):
            try:
                await self._api.apply(action.manifest)
            except Invalid:
                if action.otherwise is None:
                    raise
                await self.carry_out(namespace, rollout, resource_version, action.otherwise)
        elif isinstance(action, Scale):
            await self._api.merge("ReplicaSet", namespace, action.name, {"spec": {"replicas": action.replicas}})
        elif isinstance(action, SteerRoute):
            patch = {"metadata": {"resourceVersion": action.resource_version}, "spec": {"rules": action.rules}}
            await self._api.merge("HTTPRoute", namespace, action.name, patch)
        elif isinstance(action, Delete):
            await self._api.delete(action.kind, namespace, action.name)
        elif isinstance(action, SetOwner):
            metadata = {"ownerReferences": action.owner_references}
            await self._api.merge("ReplicaSet", namespace, action.name, {"metadata": metadata})
        elif isinstance(action, SetFinalizers):
            finalizers = {"finalizers": list(action.finalizers), "resourceVersion": resource_version}
            await self._api.merge("ModelRollout", namespace, rollout, {"metadata": finalizers})

    async def votes(self, namespace: str, names_: Iterable[str]) -> list[dict[str, Any]]:
        """Those of the votes of these names that have been cast. Raises ApiError."""
        found = await asyncio.gather(*(self._api.find("Vote", namespace, name) for name in names_))
        return [vote for vote in found if vote is not None]

    async def _note(self, namespace: str, note: NoteVote) -> None:
        """The uid keeps the note off another vote that has come by the same name."""
        said = {"counted": note.counted, "reason": note.reason, "message": note.message}
        metadata = {"name": note.name, "namespace": namespace, "uid": note.uid}
        manifest = {"apiVersion": API_VERSION, "kind": "Vote", "metadata": metadata, "status": said}
        await self._api.apply(manifest, subresource="status")

    async def commit(self, namespace: str, name: str, resource_version: str, status: ModelRolloutStatus) -> str:
        """Write status if nobody has changed the object since it was read; the new resource version.

        Raises Conflict otherwise.
        """
        manifest = {
            "apiVersion": "ops-commander.dev/v1alpha1",
            "kind": "ModelRollout",
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": resource_version},
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        written = await self._api.apply(manifest, subresource="status")
        version: str = written["metadata"]["resourceVersion"]
        return version


async def _nothing() -> None:
    return None


def _revision(item: Mapping[str, Any]) -> str:
    revision: str = item["metadata"].get("labels", {}).get(names.REVISION_LABEL, "")
    return revision


def _replica_set_views(items: Iterable[dict[str, Any]], pods: list[dict[str, Any]]) -> dict[str, ReplicaSetView]:
    views = {}
    for item in items:
        revision = _revision(item)
        mine = [pod for pod in pods if _revision(pod) == revision]
        metadata, status = item["metadata"], item.get("status") or {}
        views[revision] = ReplicaSetView(
            name=metadata["name"],
            revision=revision,
            desired=item["spec"].get("replicas", 1),
            current=status.get("replicas", 0),
            ready=status.get("readyReplicas", 0),
            created_at=_created_at(metadata),
            model_version=metadata.get("labels", {}).get(names.MODEL_VERSION_LABEL, ""),
            target_port=_port(metadata),
            owned=bool(metadata.get("ownerReferences")),
            restarts=sum(_restarts(pod) for pod in mine),
            trouble=next((trouble for pod in mine if (trouble := _trouble(pod))), _failure(status)),
        )
    return views


def _created_at(metadata: Mapping[str, Any]) -> datetime:
    return parse_time(metadata["creationTimestamp"])


def _port(metadata: Mapping[str, Any]) -> int | None:
    text = (metadata.get("annotations") or {}).get(names.TARGET_PORT, "")
    return int(text) if text.isdigit() else None


def _failure(status: Mapping[str, Any]) -> str | None:
    """Why the ReplicaSet cannot create pods: quota, admission."""
    for condition in status.get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            message: str = condition.get("message", "ReplicaFailure")
            return message
    return None


def _restarts(pod: Mapping[str, Any]) -> int:
    return sum(item.get("restartCount", 0) for item in pod.get("status", {}).get("containerStatuses") or [])


def _trouble(pod: Mapping[str, Any]) -> str | None:
    status = pod.get("status") or {}
    for item in status.get("containerStatuses") or []:
        state = {**(item.get("state") or {})}
        waiting = state.get("waiting")
        if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return _described(item["name"], waiting)
        ended = (item.get("lastState") or {}).get("terminated")
        if ended and not item.get("ready"):
            return _described(item["name"], {**ended, "message": f"exit code {ended.get('exitCode')}"})
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"pod cannot be scheduled: {condition.get('message', '')}"
    return None


def _described(container: str, state: Mapping[str, Any]) -> str:
    message = state.get("message")
    return f"container {container} {state.get('reason', '?')}" + (f" ({message})" if message else "")


def _service_view(
    service: dict[str, Any] | None, slices: list[dict[str, Any]], revisions: Mapping[str, str]
) -> ServiceView | None:
    if service is None:
        return None
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or []]
    serving = {
        str((endpoint.get("targetRef") or {}).get("name"))
        for endpoint in endpoints
        if (endpoint.get("conditions") or {}).get("ready", True)
    }
    return ServiceView(service, Counter(revisions[pod] for pod in serving if pod in revisions))
