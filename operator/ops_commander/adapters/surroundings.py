"""What surrounds rollouts: the part of each object that decisions look at, kept up by watches and by our own writes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from ops_commander.api.fields import parse_time
from ops_commander.core import names
from ops_commander.core.snapshot import ComparerView, JobView, Manifest, ReplicaSetView, ServiceView

SERVICE_NAME: Final = "kubernetes.io/service-name"

LABELS: Final[Mapping[str, str]] = {
    "ReplicaSet": names.ROLLOUT_LABEL,
    "Pod": names.ROLLOUT_LABEL,
    "Service": names.ROLLOUT_LABEL,
    "EndpointSlice": names.ROLLOUT_LABEL,  # it bears its Service's labels
    "HTTPRoute": "",
    "RolloutPolicy": "",
}
"""Kinds that are followed, each with the label selector of its watch: the cluster has many more pods than ours."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything around one rollout, as it was at about the same moment."""

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
    """Which objects belong to a rollout besides those that every one has."""

    route: str
    policy: str | None = None
    test_jobs: bool = False
    comparer: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """An object that is not as it was."""

    kind: str
    namespace: str
    name: str
    rollout: str
    """What its label says; empty for kinds that have none."""


@dataclass(frozen=True, slots=True)
class _PodView:
    revision: str
    restarts: int
    trouble: str | None


@dataclass(frozen=True, slots=True)
class _Known:
    version: int
    rollout: str
    group: str
    view: Any


class KnownObjects:
    """The objects around all rollouts. An older version of an object never takes the place of a newer one."""

    def __init__(self, changed: Callable[[Change], None] | None = None) -> None:
        self._changed = changed
        self._objects: dict[str, dict[tuple[str, str], _Known]] = {kind: {} for kind in LABELS}
        self._groups: dict[tuple[str, str, str], set[str]] = defaultdict(set)

    def take(self, item: Mapping[str, Any], kind: str, *, quietly: bool = False) -> None:
        """An object as the API server has given it. Tells of it where a decision could differ."""
        key, known = _key(item), _known(kind, item)
        before = self._objects[kind].get(key)
        if before is not None and before.version > known.version:
            return
        self._objects[kind][key] = known
        if before is not None and before.group != known.group:
            self._leave_group(kind, key, before)
        self._groups[kind, key[0], known.group].add(key[1])
        if not quietly and (before is None or before.view != known.view):
            self._tell(kind, key, known.rollout)

    def drop(self, kind: str, namespace: str, name: str) -> None:
        """An object that is gone."""
        known = self._objects[kind].pop((namespace, name), None)
        if known is not None:
            self._leave_group(kind, (namespace, name), known)
            self._tell(kind, (namespace, name), known.rollout)

    def keep_only(self, kind: str, namespace: str | None, listed: Collection[tuple[str, str]], version: str) -> None:
        """After a whole list of that resource version: what was known before and is not on it has gone unseen."""
        until = int(version)
        gone = [
            key
            for key, known in self._objects[kind].items()
            if namespace in (None, key[0]) and key not in listed and known.version <= until
        ]
        for key in gone:
            self.drop(kind, *key)

    def names(self, kind: str, namespace: str, group: str) -> list[str]:
        """Of the objects of a rollout; of EndpointSlices, those of a Service."""
        return sorted(self._groups.get((kind, namespace, group), ()))

    def surroundings(self, namespace: str, rollout: str, wanted: Wanted) -> Surroundings:
        """Of one rollout, without what only the API server can tell: its test Jobs and comparer."""
        pods = dict(self._members("Pod", namespace, rollout))
        leftover = self._objects["HTTPRoute"].get((namespace, rollout)) if wanted.route != rollout else None
        return Surroundings(
            replica_sets=dict(self._replica_sets(namespace, rollout, pods.values())),
            stable_service=self._service(namespace, names.stable_service_name(rollout), pods),
            candidate_service=self._service(namespace, names.candidate_service_name(rollout), pods),
            route=self._manifest("HTTPRoute", namespace, wanted.route),
            # A route that was generated before spec came to refer to another one.
            has_leftover_route=leftover is not None and leftover.rollout == rollout,
            policy=self._manifest("RolloutPolicy", namespace, wanted.policy) if wanted.policy else None,
        )

    def _replica_sets(
        self, namespace: str, rollout: str, pods: Collection[_PodView]
    ) -> Iterator[tuple[str, ReplicaSetView]]:
        for _, view in self._members("ReplicaSet", namespace, rollout):
            mine = [pod for pod in pods if pod.revision == view.revision]
            trouble = next((pod.trouble for pod in mine if pod.trouble), view.trouble)
            yield view.revision, replace(view, restarts=sum(pod.restarts for pod in mine), trouble=trouble)

    def _service(self, namespace: str, name: str, pods: Mapping[str, _PodView]) -> ServiceView | None:
        manifest = self._manifest("Service", namespace, name)
        if manifest is None:
            return None
        serving = {pod for _, slice_ in self._members("EndpointSlice", namespace, name) for pod in slice_}
        return ServiceView(manifest, Counter(pods[pod].revision for pod in serving if pod in pods))

    def _members(self, kind: str, namespace: str, group: str) -> Iterator[tuple[str, Any]]:
        for name in self.names(kind, namespace, group):
            yield name, self._objects[kind][namespace, name].view

    def _manifest(self, kind: str, namespace: str, name: str) -> Manifest | None:
        known = self._objects[kind].get((namespace, name))
        if known is None:
            return None
        manifest: dict[str, Any] = json.loads(known.view)
        manifest["metadata"]["resourceVersion"] = str(known.version)
        return manifest

    def _leave_group(self, kind: str, key: tuple[str, str], known: _Known) -> None:
        group = (kind, key[0], known.group)
        self._groups[group].discard(key[1])
        if not self._groups[group]:
            del self._groups[group]

    def _tell(self, kind: str, key: tuple[str, str], rollout: str) -> None:
        if self._changed is not None:
            self._changed(Change(kind, *key, rollout))


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _known(kind: str, item: Mapping[str, Any]) -> _Known:
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    rollout = labels.get(names.ROLLOUT_LABEL, "")
    group = labels.get(SERVICE_NAME, "") if kind == "EndpointSlice" else rollout
    return _Known(int(metadata["resourceVersion"]), rollout, group, _VIEWS[kind](item))


def _revision(item: Mapping[str, Any]) -> str:
    revision: str = (item["metadata"].get("labels") or {}).get(names.REVISION_LABEL, "")
    return revision


def _manifest_view(item: Mapping[str, Any]) -> bytes:
    """The object as JSON text, a tenth of the size of its dicts; the version stands beside it. Items of a list do not
    say their kind."""
    left_out = ("managedFields", "resourceVersion")
    metadata = {name: value for name, value in item["metadata"].items() if name not in left_out}
    content = {name: value for name, value in item.items() if name not in ("apiVersion", "kind")}
    return json.dumps({**content, "metadata": metadata}, separators=(",", ":"), sort_keys=True).encode()


def _replica_set_view(item: Mapping[str, Any]) -> ReplicaSetView:
    metadata, status = item["metadata"], item.get("status") or {}
    return ReplicaSetView(
        name=metadata["name"],
        revision=_revision(item),
        desired=item["spec"].get("replicas", 1),
        current=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        created_at=_created_at(metadata),
        model_version=(metadata.get("labels") or {}).get(names.MODEL_VERSION_LABEL, ""),
        target_port=_port(metadata),
        owned=bool(metadata.get("ownerReferences")),
        trouble=_failure(status),
    )


def _pod_view(item: Mapping[str, Any]) -> _PodView:
    return _PodView(_revision(item), _restarts(item), _trouble(item))


def _slice_view(item: Mapping[str, Any]) -> frozenset[str]:
    """Names of the pods that serve."""
    return frozenset(
        str((endpoint.get("targetRef") or {}).get("name"))
        for endpoint in item.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready", True)
    )


_VIEWS: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "ReplicaSet": _replica_set_view,
    "Pod": _pod_view,
    "Service": _manifest_view,
    "EndpointSlice": _slice_view,
    "HTTPRoute": _manifest_view,
    "RolloutPolicy": _manifest_view,
}


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
    return sum(item.get("restartCount", 0) for item in (pod.get("status") or {}).get("containerStatuses") or [])


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
