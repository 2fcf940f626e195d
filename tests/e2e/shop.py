"""A namespace with a model service under steady load, and the questions that tests ask of its rollout."""

from __future__ import annotations

import copy
import itertools
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, watch

from hack.cluster import addons, state
from hack.cluster.kind import docker_environment
from hack.cluster.workspace import REPOSITORY, bin_folder
from hack.demo import installed
from hack.demo.installed import kubectl

GATEWAY = {"name": "ops-commander", "namespace": "envoy-gateway-system"}
GROUP, VERSION, PLURAL = "ops-commander.dev", "v1alpha1", "modelrollouts"
LONG_CANARY = [{"canary": {"weight": 20, "minDuration": "1m", "maxDuration": "2m"}}, {"full": {}}]
_numbers = itertools.count(1)
_session = secrets.token_hex(2)
"""Prometheus remembers the namespaces of earlier runs: their traffic is nobody's baseline."""
Rollout = dict[str, Any]
Predicate = Callable[[Rollout], bool]

GATEWAY_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "shared-gateway", "namespace": GATEWAY["namespace"]},
    "spec": {
        "selector": {
            "gateway.envoyproxy.io/owning-gateway-name": GATEWAY["name"],
            "gateway.envoyproxy.io/owning-gateway-namespace": GATEWAY["namespace"],
        },
        "ports": [{"name": "http", "port": 80, "targetPort": 10080}],
    },
}
TARGET = "http://shared-gateway.envoy-gateway-system.svc.cluster.local./v2/models/ranker/infer"


def fresh_namespace() -> str:
    """A name that no earlier test had."""
    return f"shop-{_session}-{next(_numbers)}"


@dataclass
class Shop:
    """One test's namespace. Rollouts in it go through the shared Gateway by a host name of their own."""

    namespace: str
    rate: int = 80
    name: str = installed.ROLLOUT

    def set_up(self) -> None:
        base = REPOSITORY / "hack" / "demo" / "manifests"
        installed.apply(GATEWAY_SERVICE)
        installed.apply(installed.in_namespace((base / "00-namespace.yaml").read_text(), self.namespace))
        installed.apply(self.policy())
        for document in yaml.safe_load_all(installed.in_namespace((base / "20-load.yaml").read_text(), self.namespace)):
            if document["kind"] == "Deployment":
                self._aim(document)
            installed.apply(document)

    def _aim(self, deployment: dict[str, Any], target: str = TARGET, rate: int | None = None) -> None:
        for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]:
            if variable["name"] == "TARGET_URL":
                variable["value"] = target
            if variable["name"] == "RATE":
                variable["value"] = str(self.rate if rate is None else rate)

    def bypass(self, service: str, rate: int) -> None:
        """More load, straight to a Service of the rollout: the route knows nothing of it."""
        text = (REPOSITORY / "hack" / "demo" / "manifests" / "20-load.yaml").read_text()
        deployment = next(yaml.safe_load_all(installed.in_namespace(text, self.namespace)))
        self._aim(deployment, f"http://{service}.{self.namespace}.svc.cluster.local./v2/models/ranker/infer", rate)
        labels = {"app.kubernetes.io/name": "bypass"}
        deployment["metadata"].update({"name": "bypass", "labels": labels})
        deployment["spec"]["selector"]["matchLabels"] = labels
        deployment["spec"]["template"]["metadata"] = {"labels": labels}
        installed.apply(deployment)
        kubectl("rollout", "status", "deployment/bypass", f"--namespace={self.namespace}", "--timeout=60s", timeout=70)

    def tear_down(self) -> None:
        """Rollouts first: their finalizer needs the operator, not the namespace controller."""
        kubectl("delete", "mro", "--all", f"--namespace={self.namespace}", "--timeout=60s", timeout=70)
        kubectl("delete", "namespace", self.namespace, "--wait=false")

    def policy(self, **changes: Any) -> dict[str, Any]:
        """The sample's objectives, eased so that a few seconds prove them.

        10 % of errors are excluded by 40 requests, P95 needs 82. Throughput is shown only: a proof of it takes 24
        windows.
        """
        document = yaml.safe_load(
            installed.in_namespace((installed.SAMPLES / "policy.yaml").read_text(), self.namespace)
        )
        for objective in document["spec"]["objectives"]:
            if objective["name"] == "error-rate":
                objective["max"] = 0.1
            if objective["name"] == "throughput":
                objective.update({"min": self.rate / 2, "role": "Advisory"})
        document["spec"].update({"holdAfter": "8s", "onInfeasible": "Warn", **changes})
        return dict(document)

    def honest_policy(self, **changes: Any) -> dict[str, Any]:
        """The sample's objectives with the sample's targets, but for throughput, which is shown only."""
        document = self.policy(**changes)
        for objective in document["spec"]["objectives"]:
            if objective["name"] == "error-rate":
                objective["max"] = 0.01
        return document

    def version(self, number: int, *, env: dict[str, str] | None = None, **spec: Any) -> Rollout:
        """A rollout of one model version with steps of seconds."""
        document = copy.deepcopy(installed.sample("rollout", self.namespace))
        document["spec"]["model"]["version"] = str(number)
        document["spec"]["traffic"] = {
            "gatewayAPI": {"parentRefs": [GATEWAY], "hostnames": [f"ranker.{self.namespace}.example"]}
        }
        document["spec"]["steps"] = [
            {"shadow": {"minDuration": "2s", "maxDuration": "90s"}},
            {"canary": {"weight": 20, "minDuration": "2s", "maxDuration": "90s"}},
            {"full": {"bake": "4s", "maxDuration": "90s"}},
        ]
        document["spec"].update({"drain": "2s", **spec})
        settings = {"MODEL_VERSION": str(number), "LATENCY_MS": "5", "LATENCY_JITTER_MS": "5", **(env or {})}
        document["spec"]["template"]["spec"]["containers"][0]["env"] = [
            {"name": name, "value": value} for name, value in settings.items()
        ]
        return document

    def apply(self, rollout: Rollout) -> Rollout:
        installed.apply(rollout)
        return self.rollout()

    def launch(self, **spec: Any) -> Rollout:
        """Version 1 live and the load client's counts at zero."""
        self.apply(self.version(1, **spec))
        launched = self.wait_for(lambda found: condition(found, "Ready") == "True", "version 1 to be live", 60)
        kubectl("rollout", "status", "deployment/load", f"--namespace={self.namespace}", "--timeout=60s", timeout=70)
        installed.reset_load(self.namespace)
        return launched

    def rollout(self) -> Rollout:
        return installed.rollout(self.namespace, self.name)

    def wait_for(self, predicate: Predicate, what: str, seconds: float) -> Rollout:
        """The rollout at the first moment that the predicate holds, followed by a watch."""
        deadline = time.monotonic() + seconds
        found = self.rollout()
        api = client.CustomObjectsApi()
        while not predicate(found):
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"waited {seconds:.0f}s for {what}; {described(found)}")
            stream = watch.Watch().stream(
                api.list_namespaced_custom_object,
                GROUP,
                VERSION,
                self.namespace,
                PLURAL,
                resource_version=found["metadata"]["resourceVersion"],
                timeout_seconds=max(1, int(left)),
            )
            for event in stream:
                found = event["object"]
                if predicate(found) or time.monotonic() > deadline:
                    break
        return found

    def await_baseline(self, ticks: int, seconds: float = 60) -> None:
        """Both pods of the stable version have been scraped so often."""
        deadline = time.monotonic() + seconds
        pods = f'model_request_duration_seconds_count{{namespace="{self.namespace}"}}'
        often = f"count((count_over_time({pods}[5m]) and {pods}) >= {ticks})"
        while prometheus_value(often) < 2:
            assert time.monotonic() < deadline, f"waited {seconds:.0f}s for {ticks} scrapes"
            time.sleep(0.5)

    def last_scrape(self) -> datetime:
        """When a pod was scraped last."""
        query = f'max(timestamp(model_request_duration_seconds_count{{namespace="{self.namespace}"}}))'
        return datetime.fromtimestamp(prometheus_value(query), UTC)

    def await_answers(self, wanted: Mapping[str, int], seconds: float = 60) -> None:
        """So many answers of each version at least, since the counts were reset."""
        deadline = time.monotonic() + seconds
        while any(self.load_stats()["by_version"].get(version, 0) < count for version, count in wanted.items()):
            assert time.monotonic() < deadline, f"waited {seconds:.0f}s for {wanted}; {self.load_stats()}"
            time.sleep(0.2)

    def wait_step(self, kind: str, seconds: float = 60, *, state: str = "Running") -> Rollout:
        """The step of that kind reached, its split confirmed."""

        def reached(found: Rollout) -> bool:
            step = found.get("status", {}).get("step") or {}
            return str(step.get("name", "")).startswith(kind) and step["state"] == state

        return self.wait_for(reached, f"step {kind} {state}", seconds)

    def wait_phase(self, phase: str, seconds: float = 90) -> Rollout:
        return self.wait_for(lambda found: found.get("status", {}).get("phase") == phase, f"phase {phase}", seconds)

    def wait_revision(self, generation: int, seconds: float = 30) -> Rollout:
        """A deployment begun for that generation of spec."""

        def begun(found: Rollout) -> bool:
            deployment = found.get("status", {}).get("deployment") or {}
            return bool(deployment.get("generation", 0) >= generation)

        return self.wait_for(begun, f"a deployment of generation {generation}", seconds)

    def annotate(self, verb: str, value: str) -> None:
        key = f"ops-commander.dev/{verb}={value}"
        kubectl("annotate", f"mro/{self.name}", key, "--overwrite", f"--namespace={self.namespace}")

    def inject(self, revision: str, **faults: Any) -> None:
        """Faults in every pod of a revision, from this moment on."""
        for pod in self.pods(revision):
            self.inject_into(pod, **faults)

    def inject_into(self, pod: str, **faults: Any) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:9090/proxy/faults"
        kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(faults))

    def pods(self, revision: str) -> list[str]:
        selector = f"--selector=ops-commander.dev/revision={revision}"
        names = kubectl("get", "pods", f"--namespace={self.namespace}", selector, "--output=name")
        return [name.removeprefix("pod/") for name in names.split()]

    def replica_set(self, revision: str) -> dict[str, Any]:
        name = f"replicaset/{self.name}-{revision}"
        found: dict[str, Any] = json.loads(kubectl("get", name, f"--namespace={self.namespace}", "--output=json"))
        return found

    def route_weights(self, name: str | None = None) -> dict[str, int]:
        """Weights by Service as the HTTPRoute has them now."""
        route = json.loads(
            kubectl("get", "httproute", name or self.name, f"--namespace={self.namespace}", "--output=json")
        )
        return {backend["name"]: backend["weight"] for backend in route["spec"]["rules"][0]["backendRefs"]}

    def load_stats(self) -> dict[str, Any]:
        return installed.load_stats(self.namespace)

    def requests_per_second(self) -> float:
        """Answered on average since the counts were reset."""
        stats = self.load_stats()
        elapsed = datetime.now(UTC) - datetime.fromisoformat(stats["started_at"])  # noqa: TID251
        return float(stats["ok"]) / elapsed.total_seconds()

    def assert_replays(self) -> str:
        """The latest deployment, recorded and decided once more, takes the same way on the same ticks and numbers."""
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "recording.jsonl")
            pace = ["--interval=1s", "--scrape-interval=1s", f"--prometheus-url={prometheus_url()}"]
            ops_commander_command("record", self.name, f"--namespace={self.namespace}", *pace, f"--output={path}")
            said = ops_commander_command("replay", path)
        assert "\nreproduced: " in said
        return said

    def assert_no_switch_failed(self) -> dict[str, Any]:
        """No request was failed by a weight change, a promotion or a revert."""
        stats = self.load_stats()
        assert stats["sent"] > 0
        assert stats["failed"]["switch"] == 0, stats["recent_switch_failures"]
        return stats


def prometheus_url() -> str:
    """Where the host reaches Prometheus."""
    record = state.load(state.DEFAULT_NAME)
    assert record is not None
    return addons.urls(record)["prometheus"]


def prometheus_value(query: str) -> float:
    """The one number that Prometheus answers; 0 where it has none."""
    url = f"{prometheus_url()}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        result = json.load(answer)["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def rows(rollout: Rollout) -> dict[str, dict[str, Any]]:
    """Objectives as status has them, by name."""
    return {row["name"]: row for row in status(rollout).get("objectives", [])}


def in_step(rollout: Rollout, kind: str) -> bool:
    return str((status(rollout).get("step") or {}).get("name", "")).startswith(kind)


def ops_commander_command(*arguments: str, code: int = 0) -> str:
    """What the command prints, errors included, as from a checkout; it must end with that exit code."""
    argv = [sys.executable, "-m", "ops_commander", *arguments]
    environment = {**installed.environment(), "PYTHONPATH": str(REPOSITORY / "operator")}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == code, f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def status(rollout: Rollout) -> dict[str, Any]:
    return dict(rollout.get("status") or {})


def condition(rollout: Rollout, kind: str) -> str | None:
    """A condition's status, None where it is absent or speaks of an older generation."""
    found = condition_of(rollout, kind)
    if found is None or found.get("observedGeneration") != rollout["metadata"]["generation"]:
        return None
    return str(found["status"])


def condition_of(rollout: Rollout, kind: str) -> dict[str, Any] | None:
    return next((item for item in status(rollout).get("conditions", []) if item["type"] == kind), None)


def step_names(rollout: Rollout) -> list[str]:
    return [step["name"] for step in status(rollout)["deployment"]["steps"]]


def described(rollout: Rollout) -> str:
    told = status(rollout)
    wanted = ("phase", "stepName", "weight", "verdict", "reason", "next", "message")
    return f"status is {json.dumps({key: told.get(key) for key in wanted})}"


def operator_pods() -> list[str]:
    """Names of the operator's pods that are not on their way out."""
    namespace = f"--namespace={installed.OPERATOR_NAMESPACE}"
    selector = f"--selector=app.kubernetes.io/instance={installed.RELEASE}"
    pods = json.loads(kubectl("get", "pods", namespace, selector, "--output=json"))["items"]
    return [
        pod["metadata"]["name"]
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] == "Running"
    ]


def operator_metrics(pod: str) -> str:
    """What a pod of the operator says at /metrics."""
    return kubectl("get", "--raw", f"/api/v1/namespaces/{installed.OPERATOR_NAMESPACE}/pods/{pod}:8080/proxy/metrics")


def kill_operator(*, everyone: bool = False) -> None:
    """SIGKILL the process of the leading operator pod, or of all of them, from the node: nothing is told goodbye."""
    namespace = f"--namespace={installed.OPERATOR_NAMESPACE}"
    leader = kubectl("get", "lease/ops-commander", namespace, "--output=jsonpath={.spec.holderIdentity}")
    pods = json.loads(kubectl("get", "pods", namespace, "--output=json"))["items"]
    uids = [pod["metadata"]["uid"] for pod in pods if everyone or pod["metadata"]["name"] == leader]
    patterns = " ".join(f"-e {uid} -e {uid.replace('-', '_')}" for uid in uids)  # as either cgroup driver writes it
    script = (
        f"for p in $(pgrep -f 'ops-commander run'); do grep -q {patterns} /proc/$p/cgroup && kill -9 $p; done; true"
    )
    record = state.load(state.DEFAULT_NAME)
    assert record is not None
    argv = ["docker", "exec", f"{record.name}-control-plane", "sh", "-c", script]
    before = {pod["metadata"]["uid"]: _restarts(pod) for pod in pods}
    subprocess.run(argv, check=True, timeout=30, env={**os.environ, **docker_environment(record.source)})
    for uid in uids:
        _await_restart(uid, before[uid])


def _restarts(pod: dict[str, Any]) -> int:
    return sum(int(item["restartCount"]) for item in pod["status"].get("containerStatuses", []))


def _await_restart(uid: str, before: int) -> None:
    """The kubelet has noticed: the kill has hit what it was meant for."""
    deadline = time.monotonic() + 40
    core = client.CoreV1Api()
    stream = watch.Watch().stream(core.list_namespaced_pod, installed.OPERATOR_NAMESPACE, timeout_seconds=40)
    for event in stream:
        pod = event["object"]
        restarts = sum(item.restart_count for item in pod.status.container_statuses or [])
        ended = any(item.state.terminated for item in pod.status.container_statuses or [])
        if pod.metadata.uid == uid and (restarts > before or ended):
            return
        assert time.monotonic() < deadline, f"pod {uid} did not end"
    raise AssertionError(f"pod {uid} did not end")


def apply_refused(document: Rollout, *arguments: str) -> str:
    """What `kubectl apply` says of an object that it must refuse. `arguments` may say whose words it hears."""
    result = subprocess.run(
        [bin_folder() / "kubectl", "apply", "--filename", "-", *arguments],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=installed.environment(),
    )
    assert result.returncode != 0, f"accepted: {document['spec']}"
    return str(result.stderr)
