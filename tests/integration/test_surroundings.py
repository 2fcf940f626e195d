"""Objects around rollouts, followed on a real API server: through changes, broken connections and lost watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from kubernetes.aio.client import Configuration

from ops_commander.adapters.cluster import Cluster
from ops_commander.adapters.kubernetes import PAGE, Expired, KubernetesApi, WatchEvent, load_configuration
from ops_commander.adapters.reflector import Reflector
from ops_commander.adapters.surroundings import LABELS, Change, KnownObjects, Surroundings, Wanted
from ops_commander.core import names
from ops_commander.core.desired import Apply, Scale
from tests.integration.controlplane import ApiServer

pytestmark = pytest.mark.usefixtures("gateway_api")

WANTED = Wanted(route="ranker", policy="strict")
SOON = 10.0


def labels(rollout: str = "ranker", **more: str) -> dict[str, str]:
    return {names.ROLLOUT_LABEL: rollout, **more}


def service(name: str, revision: str = "r1", of: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels() if of is None else of},
        "spec": {"clusterIP": "None", "selector": {names.REVISION_LABEL: revision}, "ports": [{"port": 80}]},
    }


def replica_set(revision: str, replicas: int = 2) -> dict[str, Any]:
    mine = labels(**{names.REVISION_LABEL: revision})
    pods = {"metadata": {"labels": mine}, "spec": {"containers": [{"name": "model", "image": "models.example/a"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": f"ranker-{revision}", "labels": mine},
        "spec": {"replicas": replicas, "selector": {"matchLabels": mine}, "template": pods},
    }


def pod(name: str, revision: str) -> dict[str, Any]:
    template = replica_set(revision)["spec"]["template"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": name}, **_spec(template)}


def _spec(template: dict[str, Any]) -> dict[str, Any]:
    return {"spec": template["spec"]}


def endpoints(of: str, *pods: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{of}-1", "labels": labels(**{"kubernetes.io/service-name": of})},
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [f"10.0.0.{number + 1}"],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": name},
            }
            for number, name in enumerate(pods)
        ],
        "ports": [{"port": 80}],
    }


def route(weight: int) -> dict[str, Any]:
    backends = [{"name": "ranker-stable", "port": 80, "weight": 100 - weight}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "ranker"},
        "spec": {"rules": [{"backendRefs": backends}]},
    }


class Wire:
    """A connection to the API server that can be cut."""

    def __init__(self, server: ApiServer) -> None:
        self.target = urlsplit(server.url)
        self.open = True
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.close()
            return
        beyond, there = await asyncio.open_connection(self.target.hostname, self.target.port)
        self._writers |= {writer, there}
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await asyncio.gather(_copy(reader, there), _copy(beyond, writer))

    def cut(self) -> None:
        self.open = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


class Followed:
    """Everything that is known, and what has been told of."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self.changes: list[Change] = []
        self.known = KnownObjects(self._told)
        self.cluster = Cluster(api, self.known)
        self.namespace = namespace
        self._news = asyncio.Event()
        self.reflectors = [Reflector(api, self.known, kind, namespace, lambda: None) for kind in LABELS]

    def _told(self, change: Change) -> None:
        self.changes.append(change)
        self._news.set()

    def around(self, rollout: str = "ranker") -> Surroundings:
        return self.known.surroundings(self.namespace, rollout, WANTED)

    async def until(self, holds: Callable[[Surroundings], bool]) -> Surroundings:
        async with asyncio.timeout(SOON):
            while not holds(self.around()):
                self._news.clear()
                await self._news.wait()
        return self.around()


@asynccontextmanager
async def api_of(server: ApiServer, url: str | None = None) -> AsyncIterator[KubernetesApi]:
    configuration = await load_configuration(str(server.kubeconfig))
    if url:
        configuration.host = url
    async with KubernetesApi(configuration) as api:
        yield api


@asynccontextmanager
async def following(followed: Followed) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(reflector.run()) for reflector in followed.reflectors]
    try:
        async with asyncio.timeout(SOON):
            for reflector in followed.reflectors:
                await reflector.synced.wait()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_was_there_and_what_comes_is_known_as_a_fresh_read_has_it(
    api_server: ApiServer, namespace: str
) -> None:
    async with api_of(api_server) as api:
        for item in (service("ranker-stable"), replica_set("r1"), pod("ranker-r1-x", "r1")):
            await api.create(item["kind"], namespace, item)
        followed = Followed(api, namespace)
        async with following(followed):
            await api.create("EndpointSlice", namespace, endpoints("ranker-stable", "ranker-r1-x", "stranger"))
            await api.create("Service", namespace, service("ranker-candidate", "r2"))
            await api.create("HTTPRoute", namespace, route(0))
            known = await followed.until(
                lambda around: bool(around.route and around.candidate_service and around.stable_service.ready)  # type: ignore[union-attr]
            )
            assert known.stable_service is not None and known.stable_service.ready == {"r1": 1}
            assert known.replica_sets["r1"].desired == 2
            assert known == _without_fields(await followed.cluster.surroundings(namespace, "ranker", WANTED, anew=True))

            await api.delete("Service", namespace, "ranker-candidate")
            await followed.until(lambda around: around.candidate_service is None)


def _without_fields(around: Surroundings) -> Surroundings:
    """Both ways leave out who manages which field."""
    assert around.route is not None and "managedFields" not in around.route["metadata"]
    return around


async def test_a_connection_that_breaks_loses_neither_a_change_nor_a_deletion(
    api_server: ApiServer, namespace: str
) -> None:
    wire = Wire(api_server)
    listener = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, api_of(api_server) as api, api_of(api_server, f"https://127.0.0.1:{port}") as watched:
        await api.create("Service", namespace, service("ranker-stable"))
        await api.create("ReplicaSet", namespace, replica_set("r1"))
        followed = Followed(watched, namespace)
        async with following(followed):
            wire.cut()
            await api.delete("Service", namespace, "ranker-stable")
            await api.merge("ReplicaSet", namespace, "ranker-r1", {"spec": {"replicas": 5}})
            assert followed.around().stable_service is not None, "what was known stays known"
            wire.open = True
            around = await followed.until(lambda around: around.stable_service is None)
            around = await followed.until(lambda around: around.replica_sets["r1"].desired == 5)
            assert around.replica_sets["r1"].name == "ranker-r1"
        wire.cut()


class Forgetful(KubernetesApi):
    """A client whose first watch is answered as one that asks for what the API server has forgotten."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self.watches = 0
        self.watches_again = asyncio.Event()

    async def watch(self, kind: str, namespace: str | None, labels: str, version: str) -> AsyncIterator[WatchEvent]:
        self.watches += 1
        if self.watches == 1:
            raise Expired(410, "too old resource version: 1")
        self.watches_again.set()
        async for event in super().watch(kind, namespace, labels, version):
            yield event


async def test_a_watch_that_has_lost_track_lists_anew_and_sees_what_has_gone(
    api_server: ApiServer, namespace: str
) -> None:
    async with api_of(api_server) as api:
        await api.create("Service", namespace, service("ranker-stable"))
    told: list[Change] = []
    known = KnownObjects(told.append)
    known.take(
        {**service("gone"), "metadata": {"name": "gone", "namespace": namespace, "resourceVersion": "2"}}, "Service"
    )
    forgetful = Forgetful(await load_configuration(str(api_server.kubeconfig)))
    async with forgetful as api:
        reflector = Reflector(api, known, "Service", namespace, lambda: None)
        task = asyncio.create_task(reflector.run())
        try:
            async with asyncio.timeout(SOON):
                await forgetful.watches_again.wait()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert [change.name for change in told] == ["gone", "ranker-stable", "gone"]
    assert known.surroundings(namespace, "ranker", WANTED).stable_service is not None


async def test_a_list_of_many_pages_is_whole(api_server: ApiServer, namespace: str) -> None:
    many = PAGE + 3
    async with api_of(api_server) as api:
        for number in range(many):
            await api.create("Service", namespace, service(f"s{number}", of=labels(f"of-{number}")))
        await api.create("Service", namespace, service("stranger", of={}))
        pages = [page async for page in api.pages("Service", namespace, names.ROLLOUT_LABEL)]
        assert [len(page.items) for page in pages] == [PAGE, 3]
        by_name = [page async for page in api.pages("Service", namespace, names_only=True)]
        assert sum(len(page.items) for page in by_name) == many + 1
        assert all("spec" not in item for page in by_name for item in page.items)


async def test_our_own_write_is_known_at_once(api_server: ApiServer, namespace: str) -> None:
    """Its watch event may come before its answer or after it: either way it is the same version."""
    async with api_of(api_server) as api:
        await api.create("ReplicaSet", namespace, replica_set("r1"))
        followed = Followed(api, namespace)
        async with following(followed):
            await followed.cluster.carry_out(namespace, "ranker", "", Scale("ranker-r1", 0))
            stable = service("ranker-stable")
            stable["metadata"]["namespace"] = namespace
            await followed.cluster.carry_out(namespace, "ranker", "", Apply(stable))
            around = followed.around()
            assert around.replica_sets["r1"].desired == 0 and around.stable_service is not None
            await api.merge("ReplicaSet", namespace, "ranker-r1", {"spec": {"replicas": 1}})
            await followed.until(lambda around: around.replica_sets["r1"].desired == 1)


async def test_what_one_rollout_reads_anew_is_news_to_those_that_share_it(
    api_server: ApiServer, namespace: str
) -> None:
    """The watch that tells of it later brings nothing new: whoever else is judged by a policy must know now."""
    ratio = {"name": "errors", "ratio": {"bad": "bad", "total": "all"}, "max": 0.01}
    policy = {"kind": "RolloutPolicy", "apiVersion": "ops-commander.dev/v1alpha1", "metadata": {"name": "strict"}}
    async with api_of(api_server) as api:
        followed = Followed(api, namespace)
        created = await api.create("RolloutPolicy", namespace, {**policy, "spec": {"objectives": [ratio]}})
        followed.known.take(created, "RolloutPolicy")
        followed.changes.clear()
        stricter = {"spec": {"objectives": [{**ratio, "max": 0.001}]}}
        written = await api.merge("RolloutPolicy", namespace, "strict", stricter)
        around = await followed.cluster.surroundings(namespace, "ranker", WANTED, anew=True)
        assert around.policy is not None and around.policy["spec"]["objectives"][0]["max"] == 0.001
        followed.known.take(written, "RolloutPolicy")
        assert followed.changes == [Change("RolloutPolicy", namespace, "strict", "")]
