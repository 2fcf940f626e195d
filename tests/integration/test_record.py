"""A rollout that real counters have judged is recorded from a real Prometheus, and decided the same once more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops_commander.adapters.cluster import Cluster
from ops_commander.adapters.kubernetes import KubernetesApi, load_configuration
from ops_commander.adapters.prometheus_servers import PrometheusServers
from ops_commander.api.policy import RolloutPolicySpec
from ops_commander.api.v1alpha1 import API_VERSION, DeploymentStatus, ModelRolloutSpec, ModelRolloutStatus
from ops_commander.cli import main
from ops_commander.core import names
from ops_commander.core.decide import decide
from ops_commander.core.question import question_of
from ops_commander.core.recordings.recording import Recording, bare
from ops_commander.core.recordings.stage import Facts, Stage
from ops_commander.runtime import clock
from ops_commander.runtime.evidence import EvidenceBook
from ops_commander.runtime.history import History
from ops_commander.runtime.poller import Poller
from tests.integration.controlplane import ApiServer
from tests.integration.prometheus_server import PrometheusServer, Target, scrape, target

NAMESPACE = "recorded"
SECOND = timedelta(seconds=1)
STALE_AFTER = 7 * SECOND
REQUESTS_PER_SECOND = 2000
POLICY: dict[str, Any] = {
    "verification": "Optional",
    "objectives": [
        {"name": "error-rate", "ratio": {"bad": "errors_total", "total": "requests_total"}, "max": 0.01},
        {
            "name": "p95-latency",
            "quantile": {"buckets": "seconds_bucket"},
            "max": 0.5,
            "breach": 0.505,
            "unit": "s",
        },
    ],
}
SPEC: dict[str, Any] = {
    "model": {"name": "ranker", "version": "2"},
    "template": {"spec": {"containers": [{"name": "server", "image": "registry.example/ranker:2"}]}},
    "traffic": {"gatewayAPI": {"parentRefs": [{"name": "models"}]}},
    "policyRef": {"name": "fast"},
    "steps": [
        {"shadow": {"minDuration": "3s", "maxDuration": "60s"}},
        {"full": {"bake": "2s", "maxDuration": "60s"}},
    ],
}
REVISION, STABLE = names.revision_of(ModelRolloutSpec.model_validate(SPEC)), "stable2222"
ERRORS = {"good": 0.0, "bad": 0.05}


@dataclass
class Pod:
    """Counts requests as time passes."""

    target: Target
    errors: float
    since: datetime

    def count(self, now: datetime) -> None:
        requests = int((now - self.since).total_seconds() * REQUESTS_PER_SECOND)
        lines = [f"requests_total {requests}", f"errors_total {int(requests * self.errors)}"]
        lines += [f'seconds_bucket{{le="{edge}"}} {requests}' for edge in ("0.1", "0.5", "0.505", "+Inf")]
        self.target.text = "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Shop:
    prometheus: PrometheusServer
    pods: list[Pod]

    @property
    def flags(self) -> tuple[str, ...]:
        return (f"--prometheus-url={self.prometheus.url}", "--scrape-interval=1s", "--interval=1s")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two rollouts, each with a pod of either version."""
    with ExitStack() as stack:
        pods, labels = [], {}
        for rollout, errors in ERRORS.items():
            for revision, share in ((STABLE, 0.0), (REVISION, errors)):
                pod = Pod(stack.enter_context(target()), share, clock.now())
                pod.count(clock.now())
                pods.append(pod)
                labels[pod.target.address] = {"namespace": NAMESPACE, "pod": f"{rollout}-{revision}-1x"}
        folder = tmp_path_factory.mktemp("prometheus")
        prometheus = stack.enter_context(PrometheusServer.start(folder, [scrape("pods", labels)]))
        prometheus.wait_for("count(requests_total) == 4")
        yield Shop(prometheus, pods)


async def lived(shop: Shop) -> dict[str, ModelRolloutStatus]:
    """The statuses of deployments that came to their end, while requests were counted."""
    counting = asyncio.create_task(_count(shop.pods))
    try:
        return dict(zip(ERRORS, await asyncio.gather(*(_live(shop, name) for name in ERRORS)), strict=True))
    finally:
        counting.cancel()


async def _live(shop: Shop, name: str) -> ModelRolloutStatus:
    """The operator's evidence and decisions, in a cluster that does at once what it is told."""
    servers = PrometheusServers.of_url(shop.prometheus.url, timeout=4 * SECOND, scrape_interval=SECOND)
    (server,) = servers.all
    book, woken = EvidenceBook(SECOND, clock.now()), asyncio.Event()
    poller = Poller(servers, book, History(SECOND), clock.now, lambda _: woken.set())
    polling = asyncio.create_task(poller.run())
    stage, key = _stage(name), (NAMESPACE, name)
    status = stage.status_before(rejected=False)
    try:
        async with asyncio.timeout(60):
            while status.deployment is None or status.deployment.outcome is None:
                woken.clear()
                now = clock.now()
                snapshot = stage.snapshot(status, Facts(gone=True), now)
                book.want(key, question_of(snapshot), server.name)
                decision = decide(replace(snapshot, evidence=book.evidence(key)), now)
                if decision.status:
                    wire = decision.status.model_dump(mode="json", by_alias=True, exclude_none=True)
                    status = ModelRolloutStatus.model_validate(wire)
                due = (decision.requeue_at or now + SECOND) - clock.now()
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), max(0.0, due.total_seconds()))
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        servers.close()
    return status


async def _count(pods: list[Pod]) -> None:
    """Requests come all the time."""
    while True:
        for pod in pods:
            pod.count(clock.now())
        await asyncio.sleep(0.05)


def _stage(name: str) -> Stage:
    spec, policy = ModelRolloutSpec.model_validate(SPEC), RolloutPolicySpec.model_validate(POLICY)
    now = clock.now()
    deployment = DeploymentStatus(
        id=f"{name}-{REVISION}-1",
        revision=REVISION,
        model_version="2",
        generation=1,
        started_at=now,
        stable_revision=STABLE,
        stable_version="1",
    )
    recording = Recording(
        name=name,
        namespace=NAMESPACE,
        recorded_at=now,
        interval=SECOND,
        stale_after=STALE_AFTER,
        spec=spec.model_copy(update={"template": bare(spec.template)}),
        policy=policy,
        deployment=deployment,
        queries=["errors_total", "requests_total", "seconds_bucket"],
    )
    return Stage(recording, policy, observing_since=now)


@pytest.fixture(scope="module")
def rollouts(shop: Shop, api_server: ApiServer) -> dict[str, ModelRolloutStatus]:
    """Both rollouts with their policy in the API server, their deployments at an end."""
    api_server.kubectl("create", "namespace", NAMESPACE)
    policy = {"apiVersion": API_VERSION, "kind": "RolloutPolicy", "metadata": {"name": "fast"}, "spec": POLICY}
    found = asyncio.run(lived(shop))
    for name, status in found.items():
        rollout = {"apiVersion": API_VERSION, "kind": "ModelRollout", "metadata": {"name": name}, "spec": SPEC}
        for document in (policy, rollout):
            api_server.kubectl("apply", f"--namespace={NAMESPACE}", "-f", "-", stdin=json.dumps(document))
        asyncio.run(_commit(api_server, name, status))
    return found


async def _commit(server: ApiServer, name: str, status: ModelRolloutStatus) -> None:
    async with KubernetesApi(await load_configuration(str(server.kubeconfig))) as api:
        version = (await api.get("ModelRollout", NAMESPACE, name))["metadata"]["resourceVersion"]
        await Cluster(api).commit(NAMESPACE, name, version, status)


def run(*arguments: object) -> int:
    return main.main([str(argument) for argument in arguments])


@pytest.mark.parametrize(("name", "outcome"), [("good", "Completed"), ("bad", "RolledBack")])
def test_a_rollout_is_recorded_and_decided_the_same_again(
    name: str,
    outcome: str,
    shop: Shop,
    api_server: ApiServer,
    rollouts: dict[str, ModelRolloutStatus],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deployment = rollouts[name].deployment
    assert deployment is not None and deployment.outcome == outcome
    path = tmp_path / "recording.jsonl.gz"

    recorded = run("record", name, "-n", NAMESPACE, f"--kubeconfig={api_server.kubeconfig}", *shop.flags, "-o", path)
    said = capsys.readouterr().err
    assert recorded == 0, said
    assert f"{name}-{REVISION}-1: " in said and f"ticks written to {path}" in said

    replayed = run("replay", "--json", path)
    document = json.loads(capsys.readouterr().out)
    assert (replayed, document["differences"]) == (0, [])
    assert document["outcome"] == outcome
    rows = [row.model_dump(mode="json", by_alias=True, exclude_none=True) for row in rollouts[name].objectives]
    assert document["objectives"] == rows


def test_a_backtest_reads_what_another_policy_needs(
    shop: Shop,
    api_server: ApiServer,
    rollouts: dict[str, ModelRolloutStatus],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    objective = {"name": "errors", "ratio": {"bad": "errors_total * 2", "total": "requests_total"}, "max": 0.5}
    file = _policy(tmp_path, objective)
    flags = ("-n", NAMESPACE, f"--kubeconfig={api_server.kubeconfig}", *shop.flags)

    assert run("backtest", "--json", "--policy", file, "--rollout", "good", *flags) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["finding"] == "Passed"
    assert [step["step"] for step in document["steps"]] == ["shadow", "full"]


def test_a_span_without_a_deployment_is_tested(
    shop: Shop, rollouts: dict[str, ModelRolloutStatus], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = rollouts["bad"].deployment
    assert deployment is not None
    since, rollback = deployment.steps[0].evidence_since, rollouts["bad"].rollback
    assert since is not None and rollback is not None
    file = _policy(tmp_path, POLICY["objectives"][0])
    span = ("--step=shadow", f"--candidate={REVISION}", f"--stable={STABLE}", f"--from={since.isoformat()}")

    assert run("backtest", "--json", "--policy", file, "--rollout", "bad", "-n", NAMESPACE, *span, *shop.flags) == 0

    document = json.loads(capsys.readouterr().out)
    [step] = document["steps"]
    assert (document["finding"], step["finding"]) == ("RolledBack", "RolledBack")
    assert datetime.fromisoformat(step["tick"]) == rollback.breach_visible_at


def _policy(folder: Path, objective: dict[str, Any]) -> Path:
    file = folder / "policy.yaml"
    document = {
        "apiVersion": API_VERSION,
        "kind": "RolloutPolicy",
        "metadata": {"name": "other"},
        "spec": {"objectives": [objective]},
    }
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file
