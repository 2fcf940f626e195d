"""Several operators side by side on a real API server: who serves what, what changes hands, what a kill leaves."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kubernetes.aio import client
from prometheus_client.parser import text_string_to_metric_families

from ops_commander.adapters.kubernetes import Conflict, Invalid, KubernetesApi
from ops_commander.adapters.surroundings import Wanted
from ops_commander.core import names
from ops_commander.core.selectors import parse
from ops_commander.runtime.app import Operator, operator
from ops_commander.runtime.settings import Settings
from tests.integration.controlplane import ApiServer, client_for, free_ports, process
from tests.integration.test_admission import POLICY, ROLLOUT, changed
from tests.integration.test_plans import PLAN, action, eventually

BLUE, REST = f"{names.SHARD}=blue", f"{names.SHARD} notin (blue)"
PROGRAM = Path(sys.executable).with_name("ops-commander")


@dataclass
class Shard:
    """One operator process, the only one of its shard."""

    name: str
    selector: str
    port: int
    log: Path
    child: subprocess.Popen[bytes]

    async def shown(self) -> set[str]:
        """The rollouts that this process says of itself to serve."""
        return {labels["rollout"] for labels in await self._samples("ops_commander_rollout_info")}

    async def info(self) -> dict[str, str]:
        (labels,) = await self._samples("ops_commander_info")
        return labels

    async def _samples(self, metric: str) -> list[dict[str, str]]:
        url = f"http://127.0.0.1:{self.port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            families = text_string_to_metric_families(await response.text())
        return [sample.labels for family in families for sample in family.samples if sample.name == metric]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def acted_on(self) -> set[str]:
        """The rollouts that this process has written to, by its log."""
        return {line["rollout"] for line in self.lines() if line["message"].startswith("done: ") and "rollout" in line}

    def kill(self) -> None:
        os.kill(self.child.pid, signal.SIGKILL)
        self.child.wait()


@dataclass
class Shards:
    """A namespace with a policy, and the operators that serve it."""

    server: ApiServer
    api: KubernetesApi
    namespace: str
    stack: ExitStack
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def start(self, name: str, selector: str) -> Shard:
        """Another process of the shard: it shares the Lease of those before it."""
        (port,) = free_ports(1)
        part = f"operator-{self.namespace}-{name}-{next(self._numbers)}"
        command = [
            *(str(PROGRAM), "run", f"--kubeconfig={self.server.kubeconfig}", f"--http-port={port}"),
            *(f"--namespaces={self.namespace}", f"--lease-namespace={self.namespace}", f"--identity={part}"),
            *("--prometheus-url=http://127.0.0.1:9", f"--selector={selector}", f"--lease-name={name}"),
        ]
        child = self.stack.enter_context(process(part, command, self.server.folder))
        return Shard(name, selector, port, self.server.folder / f"{part}.log", child)

    async def create(self, name: str, shard: str | None = None) -> None:
        labels = {"labels": {names.SHARD: shard}} if shard else {}
        body = changed(ROLLOUT, {"metadata": {"name": name, **labels}, "spec.policyRef": {"name": "default"}})
        await self.api.create("ModelRollout", self.namespace, body)

    async def relabel(self, name: str, shard: str | None) -> None:
        patch = {"metadata": {"labels": {names.SHARD: shard}}}
        await self.api.merge("ModelRollout", self.namespace, name, patch)

    async def resize(self, name: str, replicas: int) -> None:
        await self.api.merge("ModelRollout", self.namespace, name, {"spec": {"replicas": replicas}})

    async def pods_wanted(self, *rollouts: str, replicas: int) -> dict[str, str]:
        """Once each rollout has one ReplicaSet of this size: their uids by rollout."""

        async def sizes() -> dict[str, list[dict[str, Any]]]:
            found = {}
            for name in rollouts:
                found[name] = await self.api.list("ReplicaSet", self.namespace, {names.ROLLOUT_LABEL: name})
            return found

        def are_there(found: dict[str, list[dict[str, Any]]]) -> bool:
            return all([item["spec"]["replicas"] for item in items] == [replicas] for items in found.values())

        found = await eventually(sizes, are_there)
        return {name: items[0]["metadata"]["uid"] for name, items in found.items()}

    async def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.api.get("ModelRollout", self.namespace, name))["status"]["deployment"]
        return found


@pytest.fixture
async def shards(
    api_server: ApiServer, gateway_api: None, kube: client.ApiClient, namespace: str
) -> AsyncIterator[Shards]:
    with ExitStack() as stack:
        async with client_for(api_server, "admin") as raw, KubernetesApi(raw.configuration) as api:
            await api.create("RolloutPolicy", namespace, POLICY)
            yield Shards(api_server, api, namespace, stack)


async def test_each_rollout_is_served_by_one_shard_and_changes_hands_when_it_is_relabelled(shards: Shards) -> None:
    blue, rest = shards.start("blue", BLUE), shards.start("rest", REST)
    await shards.create("sky", "blue")
    await shards.create("sea", "blue")
    await shards.create("plain")
    await shards.create("stray", "no-such-shard")
    before = await shards.pods_wanted("sky", "sea", "plain", "stray", replicas=1)

    assert await eventually(blue.shown, lambda shown: len(shown) == 2) == {"sky", "sea"}
    assert await eventually(rest.shown, lambda shown: len(shown) == 2) == {"plain", "stray"}
    assert (blue.acted_on(), rest.acted_on()) == ({"sky", "sea"}, {"plain", "stray"})
    assert (await blue.info())["selector"] == BLUE and (await rest.info())["selector"] == REST
    for shard in (blue, rest):
        lease = await shards.api.get("Lease", shards.namespace, shard.name)
        assert f"-{shard.name}-" in lease["spec"]["holderIdentity"]

    deployment = await shards.deployment("plain")
    await shards.relabel("plain", "blue")
    await eventually(blue.shown, lambda shown: shown == {"sky", "sea", "plain"})
    await eventually(rest.shown, lambda shown: shown == {"stray"})
    written = len(rest.lines())
    for name in ("plain", "stray"):
        await shards.resize(name, 3)

    after = await shards.pods_wanted("plain", "stray", replicas=3)
    assert after == {name: before[name] for name in after}
    assert await shards.deployment("plain") == deployment
    since = [line for line in rest.lines()[written:] if line["message"].startswith("done: ")]
    assert {line["rollout"] for line in since} == {"stray"}
    assert blue.acted_on() == {"sky", "sea", "plain"}

    await shards.relabel("sky", None)  # and back to where nobody has asked for it
    await eventually(rest.shown, lambda shown: shown == {"stray", "sky"})
    await shards.resize("sky", 2)
    await shards.pods_wanted("sky", replicas=2)
    assert rest.acted_on() == {"plain", "stray", "sky"}


async def test_a_killed_shard_keeps_no_other_waiting_and_its_successor_goes_on(shards: Shards) -> None:
    blue, rest = shards.start("blue", BLUE), shards.start("rest", REST)
    await shards.create("sky", "blue")
    await shards.create("plain")
    before = await shards.pods_wanted("sky", "plain", replicas=1)
    deployment = await shards.deployment("sky")

    blue.kill()
    for name in ("sky", "plain"):
        await shards.resize(name, 3)
    await shards.pods_wanted("plain", replicas=3)
    (waiting,) = await shards.api.list("ReplicaSet", shards.namespace, {names.ROLLOUT_LABEL: "sky"})
    assert waiting["spec"]["replicas"] == 1

    successor = shards.start("blue", BLUE)
    assert await shards.pods_wanted("sky", replicas=3) == {"sky": before["sky"]}
    assert await shards.deployment("sky") == deployment
    assert successor.acted_on() == {"sky"} and rest.acted_on() == {"plain"}
    lease = await shards.api.get("Lease", shards.namespace, "blue")
    assert lease["spec"]["leaseTransitions"] == 1


async def test_a_plan_of_one_shard_brings_a_version_to_a_rollout_of_another(shards: Shards) -> None:
    await shards.create("ranker", "blue")
    blue, rest = shards.start("blue", BLUE), shards.start("rest", REST)
    await shards.pods_wanted("ranker", replicas=1)
    deploy: dict[str, Any] = {"target": "ranker", "environment": "production", "percent": 100}
    deploy["model"] = {"name": "ranker", "version": "13"}
    plan = changed(PLAN, {"spec.actions": [action("A1", "deploy", **deploy)]})
    await shards.api.create("ActionPlan", shards.namespace, plan)

    async def row() -> dict[str, Any]:
        status = (await shards.api.get("ActionPlan", shards.namespace, "meeting-1")).get("status") or {}
        found: dict[str, Any] = (status.get("actions") or [{}])[0]
        return found

    followed = await eventually(row, lambda found: bool((found.get("object") or {}).get("deploymentId")))

    rollout = await shards.api.get("ModelRollout", shards.namespace, "ranker")
    assert rollout["spec"]["model"]["version"] == "13" and rollout["metadata"]["labels"] == {names.SHARD: "blue"}
    assert followed["object"]["deploymentId"] == rollout["status"]["deployment"]["id"]
    assert rest.acted_on() == set() and blue.acted_on() == {"ranker"}
    assert not [line for line in blue.lines() if "plan" in line]


@pytest.fixture
async def owner(shards: Shards) -> AsyncIterator[Operator]:
    """The parts of blue's process. It knows what surrounds its rollouts, but no watch tells it of them themselves."""
    settings = Settings(
        prometheus_url="http://127.0.0.1:9",
        selector=parse(BLUE),
        namespaces=(shards.namespace,),
        kubeconfig=str(shards.server.kubeconfig),
    )
    async with operator(settings) as parts:
        parts.reconciler.may_act = lambda: True
        reflecting = [asyncio.create_task(reflector.run()) for reflector in parts.reflectors]
        try:
            await asyncio.gather(*(reflector.synced.wait() for reflector in parts.reflectors))
            yield parts
        finally:
            for task in reflecting:
                task.cancel()
            await asyncio.gather(*reflecting, return_exceptions=True)


async def start(shards: Shards, owner: Operator, name: str) -> tuple[str, str]:
    """A rollout of blue whose first ReplicaSet is there."""
    await shards.create(name, "blue")
    key = (shards.namespace, name)
    async with asyncio.timeout(60):
        while not await shards.api.list("ReplicaSet", shards.namespace, {names.ROLLOUT_LABEL: name}):
            await owner.reconciler.reconcile(key)
    return key


async def scaled(shards: Shards, owner: Operator, name: str, replicas: int) -> None:
    """Somebody else sets the size, and the owner has heard of it."""
    (item,) = await shards.api.list("ReplicaSet", shards.namespace, {names.ROLLOUT_LABEL: name})
    await shards.api.merge("ReplicaSet", shards.namespace, item["metadata"]["name"], {"spec": {"replicas": replicas}})
    await eventually(
        lambda: owner.cluster.surroundings(shards.namespace, name, Wanted(route=name)),
        lambda around: [view.desired for view in around.replica_sets.values()] == [replicas],
    )


async def test_what_the_next_owner_does_is_no_drift_even_if_no_watch_has_told_of_it(
    shards: Shards, owner: Operator
) -> None:
    key = await start(shards, owner, "sky")
    await scaled(shards, owner, "sky", 5)
    await owner.reconciler.reconcile(key)
    await shards.pods_wanted("sky", replicas=1)  # its own: what differs is put right

    await shards.relabel("sky", "red")
    await scaled(shards, owner, "sky", 5)
    assert key in owner.rollouts
    before = await shards.api.get("ModelRollout", *key)
    await owner.reconciler.reconcile(key)

    await shards.pods_wanted("sky", replicas=5)
    assert key not in owner.rollouts
    assert await shards.api.get("ModelRollout", *key) == before


@pytest.mark.parametrize("before", ["commit", "act"])
async def test_relabelled_while_it_is_decided_it_is_left_alone(shards: Shards, owner: Operator, before: str) -> None:
    key = await start(shards, owner, "sky")
    await shards.resize("sky", 3)
    owner.rollouts.read(key, await shards.api.get("ModelRollout", *key))
    asked = itertools.count()

    def relabelled() -> bool:
        """Asked before each write: the first is status, the second the size of the ReplicaSet."""
        number = next(asked)
        if number == 0 and before == "commit":
            shards.server.kubectl("label", "mro", "sky", "-n", shards.namespace, "--overwrite", f"{names.SHARD}=red")
        elif number == 1:
            owner.rollouts.discard(key)
        return True

    owner.reconciler.may_act = relabelled
    with pytest.raises(Conflict):
        await owner.reconciler.reconcile(key)

    await shards.pods_wanted("sky", replicas=1)
    body = await shards.api.get("ModelRollout", *key)
    is_seen = body["status"]["observedGeneration"] == body["metadata"]["generation"]
    assert is_seen is (before == "act")


LABELS = [
    {},
    *({"a": value} for value in ("", "x", "y")),
    {"b": "x"},
    {"a": "x", "b": "y"},
    {"a": "y", "b": "", "c": "z"},
]
PARTS = ["a", "!a", "a=", "a=x", "a==y", "a!=x", "a in (x, y)", "a in (,x)", "a notin (x,y)", "b", "! b", "b notin (x)"]
REFUSED = ["a in x", "a in (x", "a=x=y", "a,", ",a", "a b", "=x", "A.b/c/d", "-a", "a=-x", f"{'a' * 64}=x"]


async def test_selectors_are_understood_as_the_api_server_understands_them(shards: Shards) -> None:
    for number, labels in enumerate(LABELS):
        body = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": f"t{number}", "labels": labels}}
        body["template"] = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
        await shards.api.create("PodTemplate", shards.namespace, body)
    texts = [*PARTS, *(",".join(pair) for pair in itertools.combinations(PARTS, 2))]

    async def found(text: str) -> set[str]:
        items = await shards.api.list("PodTemplate", shards.namespace, selector=text)
        return {item["metadata"]["name"] for item in items}

    for text, names_ in zip(texts, await asyncio.gather(*map(found, texts)), strict=True):
        matched = {f"t{number}" for number, labels in enumerate(LABELS) if parse(text).matches(labels)}
        assert names_ == matched, text
    for text in REFUSED:
        with pytest.raises(Invalid):
            await found(text)
        with pytest.raises(ValueError, match="expected a label selector"):
            parse(text)
