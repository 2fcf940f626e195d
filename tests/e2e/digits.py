"""A namespace with the digits models on MLServer, under a load of real images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml

from hack.cluster import addons, state
from hack.cluster.workspace import REPOSITORY
from hack.demo import installed
from hack.demo.installed import kubectl
from hack.digits import candidates, image
from hack.digits.register import Registered, register
from tests.e2e.shop import GATEWAY, GATEWAY_SERVICE, Rollout, Shop, condition

MODEL = candidates.MODEL
TARGET = f"http://shared-gateway.envoy-gateway-system.svc.cluster.local./v2/models/{MODEL}/infer"
RATE = 40
OBJECTIVES: list[dict[str, Any]] = [
    {"name": "error-rate", "slo": "S3", "preset": {"name": "mlserver/errors"}, "max": 0.1},
    {"name": "failures", "preset": {"name": "mlserver/failures", "labels": {"model": MODEL}}, "max": 0.1},
    {
        "name": "p95-latency",
        "slo": "S2",
        "preset": {"name": "mlserver/latency"},
        "max": 0.5,
        "breach": 0.75,
        "unit": "s",
    },
    {
        "name": "throughput",
        "slo": "S4",
        "preset": {"name": "mlserver/requests", "labels": {"model": MODEL}},
        "min": RATE / 2,
        "unit": "req/s",
        "role": "Advisory",
    },
]
COMPLIANCE: dict[str, Any] = {
    "name": "compliance",
    "slo": "S1",
    "run": {
        "metric": "compliance_at_1",
        "samples": "compliance_at_1_samples",
        "artifact": candidates.COMPLIANCE,
    },
    "compare": "Difference",
    "min": -0.1,
    "breach": -0.2,
}
"""597 images tell shares apart by some eight points."""


@dataclass
class DigitsShop(Shop):
    """A Shop with digits in place of the ranker. Its registered model is of this namespace: versions begin at 1."""

    rate: int = RATE
    name: str = MODEL

    @property
    def host(self) -> str:
        return f"{self.name}.{self.namespace}.example"

    @property
    def registered_model(self) -> str:
        return f"{MODEL}-{self.namespace}"

    def set_up(self) -> None:
        image.ensure_image()
        base = REPOSITORY / "hack" / "demo" / "manifests"
        installed.apply(GATEWAY_SERVICE)
        installed.apply(installed.in_namespace((base / "00-namespace.yaml").read_text(), self.namespace))
        installed.apply(self.policy())
        installed.apply(self._requests())
        for document in yaml.safe_load_all(installed.in_namespace((base / "20-load.yaml").read_text(), self.namespace)):
            if document["kind"] == "Deployment":
                self._aim(document, TARGET)
                self._mount_requests(document["spec"]["template"]["spec"])
            installed.apply(document)

    def _requests(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "requests", "namespace": self.namespace},
            "data": {"requests.jsonl": "\n".join(image.requests())},
        }

    def _mount_requests(self, pod: dict[str, Any]) -> None:
        container = pod["containers"][0]
        for variable in container["env"]:
            if variable["name"] == "HOST_HEADER":
                variable["value"] = self.host
        container["env"].append({"name": "REQUESTS_FILE", "value": "/requests/requests.jsonl"})
        container["volumeMounts"] = [{"name": "requests", "mountPath": "/requests", "readOnly": True}]
        pod["volumes"] = [{"name": "requests", "configMap": {"name": "requests"}}]

    def policy(self, **changes: Any) -> dict[str, Any]:
        """The presets of MLServer, eased so that a few seconds prove them, and the compliance of the runs."""
        return {
            "apiVersion": "ops-commander.dev/v1alpha1",
            "kind": "RolloutPolicy",
            "metadata": {"name": "default", "namespace": self.namespace},
            "spec": {
                "objectives": [*OBJECTIVES, COMPLIANCE],
                "holdAfter": "8s",
                "onInfeasible": "Warn",
                "verification": "Optional",
                **changes,
            },
        }

    def register(self, variant: str, alias: str | None = None) -> Registered:
        """The candidate in MLflow, as the next version of this namespace's model."""
        return register(mlflow_url(), variant, model=self.registered_model, alias=alias)

    def rollout_of(self, candidate: Registered, **spec: Any) -> Rollout:
        """A rollout of that candidate: its weights, its fault, its run. Steps of seconds."""
        return {
            "apiVersion": "ops-commander.dev/v1alpha1",
            "kind": "ModelRollout",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "replicas": 1,
                "model": {"name": candidate.model, "version": candidate.version, "runId": candidate.run_id},
                "template": pod_template(candidate),
                "service": {"port": 80, "targetPort": 8080},
                "traffic": {"gatewayAPI": {"parentRefs": [GATEWAY], "hostnames": [self.host]}},
                "steps": [
                    {"shadow": {"minDuration": "2s", "maxDuration": "90s"}},
                    {"canary": {"weight": 5, "minDuration": "2s", "maxDuration": "2m"}},
                    {"full": {"bake": "4s", "maxDuration": "90s"}},
                ],
                "policyRef": {"name": "default"},
                "progressDeadline": "90s",
                "drain": "2s",
                **spec,
            },
        }

    def ship_first(self, variant: str = "v1", **spec: Any) -> Registered:
        """That candidate live as the first version, answering the load, whose counts begin anew."""
        candidate = self.register(variant)
        self.apply(self.rollout_of(candidate, **spec))
        self.wait_for(lambda found: condition(found, "Ready") == "True", f"{variant} to be live", 90)
        kubectl("rollout", "status", "deployment/load", f"--namespace={self.namespace}", "--timeout=60s", timeout=70)
        installed.reset_load(self.namespace)
        self.await_answers({candidate.version: 20})
        return candidate


def pod_template(candidate: Registered) -> dict[str, Any]:
    """Pods of the digits server that behave as the candidate's variant."""
    variant = candidates.VARIANTS[candidate.variant]
    settings = {
        "MODEL_VERSION": candidate.version,
        "WEIGHTS": f"/app/models/{variant.weights}",
        "FAULT": variant.fault,
        "DELAY_MS": str(variant.delay_ms),
    }
    container = {
        "name": "mlserver",
        "image": image.IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": name, "value": value} for name, value in settings.items()],
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 8082}],
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": "http"},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
        },
        # requests still come while the proxy hears of the end
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "resources": {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"memory": "400Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
    }
    return {
        "metadata": {
            "labels": {"app.kubernetes.io/name": MODEL},
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "8082",
                "prometheus.io/path": "/metrics",
            },
        },
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 20,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}],
        },
    }


def start_alone(namespace: str, variant: str) -> str:
    """A pod of that variant without any rollout; its name."""
    template = pod_template(Registered(variant, MODEL, variant, ""))
    name = f"alone-{variant}"
    template["metadata"] = {"name": name, "namespace": namespace}
    installed.apply({"apiVersion": "v1", "kind": "Pod", **template})
    return name


def answer_of(namespace: str, pod: str) -> dict[str, Any]:
    """What the pod answers to one request with all prepared images; its tensors by name."""
    data = [value for body in image.requests() for value in json.loads(body)["inputs"][0]["data"]]
    tensor = {"name": "pixels", "datatype": "FP64", "shape": [len(image.requests()), 64], "data": data}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/v2/models/{MODEL}/infer"
    answer = json.loads(kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps({"inputs": [tensor]})))
    assert answer["model_name"] == MODEL
    return {output["name"]: output for output in answer["outputs"]}


def mlflow_url() -> str:
    """Where the host reaches MLflow."""
    record = state.load(state.DEFAULT_NAME)
    assert record is not None
    return addons.urls(record)["mlflow"]


def seconds_to_ready(namespace: str) -> dict[str, float]:
    """How long each digits pod that is ready took from its creation."""
    selector = f"--selector=app.kubernetes.io/name={MODEL}"
    found: dict[str, float] = {}
    for pod in json.loads(kubectl("get", "pods", f"--namespace={namespace}", selector, "--output=json"))["items"]:
        conditions = pod["status"].get("conditions", [])
        ready = [item["lastTransitionTime"] for item in conditions if item["type"] == "Ready"]
        created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        if ready and any(item["type"] == "Ready" and item["status"] == "True" for item in conditions):
            found[pod["metadata"]["name"]] = (datetime.fromisoformat(ready[0]) - created).total_seconds()
    return found
