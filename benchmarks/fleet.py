"""Rollouts as users make them, what the API server says of them, and a router that takes every route in at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from benchmarks.api import Api
from benchmarks.prometheus import Owner
from ops_commander.api.fields import parse_time
from ops_commander.core import names
from ops_commander.runtime import clock

Key = tuple[str, str]
"""Namespace and name."""

POLICY = "bench"
GATEWAY = "bench"
AT_ONCE = 48
_ROLLOUTS = "apis/ops-commander.dev/v1alpha1"
_ROUTES = "apis/gateway.networking.k8s.io/v1"

_OBJECTIVES = [
    {"name": "error-rate", "slo": "S3", "preset": {"name": "http/errors"}, "max": 0.01},
    {
        "name": "error-ratio",
        "slo": "S5",
        "preset": {"name": "http/errors"},
        "compare": "Ratio",
        "max": 1.0,
        "role": "Guard",
    },
    {"name": "p95-latency", "slo": "S2", "preset": {"name": "http/latency"}, "max": 0.5, "breach": 0.505, "unit": "s"},
]


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rollouts of a run go. The usual one stays in its canary step: it is broken there."""

    steps: tuple[Mapping[str, Any], ...] = (
        {"canary": {"weight": 10, "minDuration": "2h", "maxDuration": "4h"}},
        {"full": {"bake": "1h", "maxDuration": "4h"}},
    )
    policy: Mapping[str, Any] = field(default_factory=lambda: {"baselineWindow": "5m"})
    """Beside the objectives. A short baseline: it is read while setting up."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """More fields of a rollout."""


STAYING = Shape()


def policy(namespace: str, shape: Shape = STAYING) -> dict[str, Any]:
    """The shipped objectives that a canary step is judged by. The models have no files to verify."""
    return {
        "apiVersion": "ops-commander.dev/v1alpha1",
        "kind": "RolloutPolicy",
        "metadata": {"name": POLICY, "namespace": namespace},
        "spec": {"objectives": _OBJECTIVES, "verification": "Optional", **shape.policy},
    }


def rollout(key: Key, version: int, shape: Shape = STAYING, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    container = {
        "name": "model",
        "image": f"models.example/ranker:{version}",
        "env": [{"name": "MODEL_VERSION", "value": str(version)}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    return {
        "apiVersion": "ops-commander.dev/v1alpha1",
        "kind": "ModelRollout",
        "metadata": {"name": key[1], "namespace": key[0], "labels": dict(labels or {})},
        "spec": {
            "replicas": 2,
            "model": {"name": key[1], "version": str(version)},
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/name": key[1]}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 20},
            },
            "service": {"port": 80, "targetPort": 8080},
            "traffic": {"gatewayAPI": {"parentRefs": [{"name": GATEWAY}], "hostnames": [f"{key[1]}.{key[0]}.example"]}},
            "steps": list(shape.steps),
            "policyRef": {"name": POLICY},
            "progressDeadline": "2h",  # thousands that change at once wait for the API server
            **shape.spec,
        },
    }


@dataclass
class Seen:
    """What the watches have told of one rollout. Times are Unix seconds at which the event came in."""

    status: dict[str, Any] = field(default_factory=dict)
    steered: list[tuple[float, int]] = field(default_factory=list)
    """Weights of the candidate on the route, with every change of its rules."""
    desired: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """Wanted pods by ReplicaSet."""
    gone: bool = False

    @property
    def state(self) -> str:
        return str((self.status.get("step") or {}).get("state") or self.status.get("phase") or "")

    @property
    def candidate(self) -> str:
        return str(self.status.get("candidateRevision") or "")

    @property
    def evidence_since(self) -> float:
        text = (self.status.get("step") or {}).get("evidenceSince")
        return parse_time(text).timestamp() if text else float("inf")

    def judged_at(self) -> float:
        """The latest tick that all objectives of its status have counted."""
        ticks = [
            parse_time(row["lastTick"]).timestamp()
            for row in self.status.get("objectives") or []
            if row.get("lastTick")
        ]
        return min(ticks) if len(ticks) == len(_OBJECTIVES) else 0.0

    def weight_zero_after(self, moment: float) -> float | None:
        return self.weight_after(moment, lambda weight: weight == 0)

    def weight_after(self, moment: float, holds: Callable[[int], bool]) -> float | None:
        """When the route first had such a weight."""
        return next((at for at, weight in self.steered if at >= moment and holds(weight)), None)

    def scaled_down_after(self, moment: float, replica_set: str) -> float | None:
        return next((at for at, wanted in self.desired.get(replica_set, ()) if at >= moment and wanted == 0), None)


@dataclass
class Fleet:
    """All rollouts of one run."""

    api: Api
    keys: list[Key]
    shape: Shape = STAYING
    labels_of: Callable[[Key], Mapping[str, str]] = lambda _: {}
    seen: dict[Key, Seen] = field(default_factory=dict)
    version: dict[Key, int] = field(default_factory=dict)
    _writes: set[asyncio.Task[None]] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self) -> None:
        """Follow everything, and confirm routes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(f"{_ROLLOUTS}/modelrollouts", self._take_rollout))
            group.create_task(self._watch(f"{_ROUTES}/httproutes", self._take_route))
            group.create_task(self._watch("apis/apps/v1/replicasets", self._take_replica_set))

    async def _watch(self, path: str, take: Callable[[Key, dict[str, Any]], None]) -> None:
        async for kind, item in self.api.watch(path):
            metadata = item["metadata"]
            key = metadata["namespace"], metadata.get("labels", {}).get(names.ROLLOUT_LABEL, metadata["name"])
            if kind != "DELETED":
                take(key, item)
            elif item["kind"] == "ModelRollout":
                self._of(key).gone = True
            self._tell()

    def _tell(self) -> None:
        """Wakes all that wait now; who waits later waits for the next."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def news(self) -> None:
        """Wait until something has changed, and a moment: news come in bursts. Several may wait."""
        await self._changed.wait()
        await asyncio.sleep(0.05)

    def _of(self, key: Key) -> Seen:
        return self.seen.setdefault(key, Seen())

    def _take_rollout(self, key: Key, item: dict[str, Any]) -> None:
        self._of(key).status = item.get("status") or {}

    def _take_replica_set(self, key: Key, item: dict[str, Any]) -> None:
        known = self._of(key).desired.setdefault(item["metadata"]["name"], [])
        if not known or known[-1][1] != item["spec"]["replicas"]:
            known.append((clock.now().timestamp(), item["spec"]["replicas"]))

    def _take_route(self, key: Key, item: dict[str, Any]) -> None:
        backends = item["spec"]["rules"][0].get("backendRefs") or []
        candidate = names.candidate_service_name(key[1])
        weight = next((backend["weight"] for backend in backends if backend["name"] == candidate), 0)
        steered = self._of(key).steered
        if not steered or steered[-1][1] != weight:
            steered.append((clock.now().timestamp(), weight))
        if not _is_taken_in(item):
            task = asyncio.create_task(self._take_in(key, item))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def _take_in(self, key: Key, item: dict[str, Any]) -> None:
        """What a Gateway says once it has a route. No proxy is behind it."""
        now = clock.now().isoformat(timespec="seconds").replace("+00:00", "Z")
        condition = {"status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": now}
        condition |= {"observedGeneration": item["metadata"]["generation"]}
        parent = {
            "parentRef": {"name": GATEWAY},
            "controllerName": "ops-commander.dev/bench",
            "conditions": [{"type": kind, **condition} for kind in ("Accepted", "ResolvedRefs")],
        }
        path = f"{_ROUTES}/namespaces/{key[0]}/httproutes/{key[1]}/status"
        try:
            await self.api.merge(path, {"status": {"parents": [parent]}})
        except aiohttp.ClientResponseError as error:
            if error.status != 404:  # deleted meanwhile, with its rollout
                raise

    async def create(self) -> None:
        """Namespaces, policies, and the first version of every rollout."""
        await self.prepare({namespace for namespace, _ in self.keys})
        await _some_at_once(map(self._create, self.keys))

    async def prepare(self, namespaces: Iterable[str]) -> None:
        for namespace in sorted(namespaces):
            await self.api.create("api/v1/namespaces", {"metadata": {"name": namespace}})
            await self.api.create(f"{_ROLLOUTS}/namespaces/{namespace}/rolloutpolicies", policy(namespace, self.shape))

    async def add(self, key: Key) -> None:
        """One more rollout, with its first version."""
        self.keys.append(key)
        await self._create(key)

    async def _create(self, key: Key) -> None:
        self.version[key] = 1
        manifest = rollout(key, 1, self.shape, self.labels_of(key))
        await self.api.create(f"{_ROLLOUTS}/namespaces/{key[0]}/modelrollouts", manifest)

    async def delete(self, key: Key) -> None:
        """Gone once the operator has let it go; then it is forgotten."""
        await self.api.request("DELETE", _path(key))
        await self.until("it is gone", lambda seen: seen.gone, [key])
        self.keys.remove(key)
        for known in (self.seen, self.version):
            known.pop(key, None)

    async def next_version(self, keys: Iterable[Key]) -> None:
        async def one(key: Key) -> None:
            self.version[key] += 1
            await self.patch(key, {"spec": rollout(key, self.version[key], self.shape)["spec"]})

        await _some_at_once(map(one, keys))

    async def patch(self, key: Key, change: Mapping[str, Any]) -> None:
        await self.api.merge(_path(key), change)

    async def until(
        self, what: str, holds: Callable[[Seen], bool], keys: Iterable[Key] | None = None, seconds: float = 300.0
    ) -> None:
        """Wait until it holds for all of them at once. Raises TimeoutError that names those of which it does not."""
        wanted = list(self.keys if keys is None else keys)
        late = wanted
        try:
            async with asyncio.timeout(seconds):
                while late := self._late(late, holds) or self._late(wanted, holds):
                    await self.news()
        except TimeoutError:
            example = self._of(late[0]).status if late else {}
            told = {name: example.get(name) for name in ("phase", "reason", "message")}
            raise TimeoutError(
                f"{what}: not so for {len(late)} of {len(wanted)} after {seconds:.0f} s; {told}"
            ) from None

    def _late(self, keys: list[Key], holds: Callable[[Seen], bool]) -> list[Key]:
        return [key for key in keys if not holds(self._of(key))]

    def healthy(self) -> list[Key]:
        return [key for key in self.keys if self._of(key).state == "Running"]

    def candidates(self, keys: Iterable[Key]) -> dict[Key, Owner]:
        """The ReplicaSets on trial."""
        return {key: (key[0], names.replica_set_name(key[1], self._of(key).candidate)) for key in keys}

    def of(self, key: Key) -> Seen:
        return self._of(key)


def _path(key: Key) -> str:
    return f"{_ROLLOUTS}/namespaces/{key[0]}/modelrollouts/{key[1]}"


def _is_taken_in(item: dict[str, Any]) -> bool:
    generation = item["metadata"]["generation"]
    parents = (item.get("status") or {}).get("parents") or []
    return any(
        condition.get("observedGeneration") == generation for parent in parents for condition in parent["conditions"]
    )


async def _some_at_once(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(task: Coroutine[Any, Any, None]) -> None:
        async with turn:
            await task

    await asyncio.gather(*map(one, work))
