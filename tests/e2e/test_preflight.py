"""Nothing unverified ships: real models on a real server, each fault stopped in its place and by its name."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

import pytest

from hack.demo import runs
from hack.demo.installed import kubectl
from hack.digits import candidates, image
from hack.digits.register import Registered
from tests.e2e.digits import COMPLIANCE, OBJECTIVES, DigitsShop, mlflow_url
from tests.e2e.shop import Rollout, condition, condition_of, rows, status, step_names

KINDS = ("precision-loss", "field-drop", "non-finite", "dtype", "shape", "encoding-mismatch", "content-type")
COMPARED: list[dict[str, Any]] = [
    *(
        {"name": kind, "slo": "I5", "preset": {"name": f"comparison/{kind}"}, "max": 0.05, "role": "Guard"}
        for kind in KINDS
    ),
    {"name": "output-deviation", "slo": "I5", "preset": {"name": "comparison/deviation"}, "max": 0.1},
]
DRIFT: dict[str, Any] = {
    "name": "p95-drift",
    "slo": "S2",
    "preset": {"name": "mlserver/latency"},
    "compare": "Difference",
    "max": 0.05,
    "unit": "s",
    "role": "Advisory",
}
RISK: dict[str, Any] = {"name": "integration-risk", "slo": "S8", "risk": {}, "max": 0.6}
SHADOW_ALONE = {"steps": ["shadow"]}
COMPARISON = {
    "sample": 100,
    "tolerance": {"absolute": 0.02},
    "ignore": ["/id", "/model_version"],
    "labels": ["/outputs/*/data/predict"],
}
SMOKE = """
import json, os, sys, urllib.request
candidate = os.environ["OPS_COMMANDER_CANDIDATE_URL"]
ready = urllib.request.urlopen(candidate + "/v2/models/digits/ready", timeout=5).status
image = [0.0] * 64
body = {"inputs": [{"name": "pixels", "datatype": "FP64", "shape": [1, 64], "data": image}]}
request = urllib.request.Request(candidate + "/v2/models/digits/infer", json.dumps(body).encode(),
                                 {"content-type": "application/json"})
answer = json.load(urllib.request.urlopen(request, timeout=5))
names = {output["name"] for output in answer["outputs"]}
print("ready", ready, "outputs", sorted(names), "for", os.environ["OPS_COMMANDER_DEPLOYMENT_ID"], flush=True)
sys.exit(0 if names >= {"predict", "predict_proba"} else "an output is missing")
"""


def test_job(name: str, program: str, **fields: Any) -> dict[str, Any]:
    """A test that runs a program in the digits image."""
    container = {
        "name": "test",
        "image": image.IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/venv/bin/python", "-c", program],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {"securityContext": security, "automountServiceAccountToken": False, "containers": [container]}
    return {"name": name, "kind": "Smoke", "timeout": "60s", "template": {"spec": pod}, **fields}


test_job.__test__ = False  # type: ignore[attr-defined]


def steps(longest: str = "90s") -> list[dict[str, Any]]:
    return [
        {"shadow": {"minDuration": "2s", "maxDuration": longest, "compare": COMPARISON}},
        {"canary": {"weight": 5, "minDuration": "2s", "maxDuration": "2m"}},
        {"full": {"bake": "4s", "maxDuration": "90s"}},
    ]


@dataclass
class Careful:
    """A shop in which everything is verified."""

    shop: DigitsShop

    def begin(self) -> Registered:
        objectives = [*OBJECTIVES, COMPLIANCE, *({**item, **SHADOW_ALONE} for item in (DRIFT, *COMPARED)), RISK]
        policy = self.shop.policy(verification="Required", objectives=objectives)
        kubectl("apply", "--filename", "-", stdin=json.dumps(policy))
        return self.shop.ship_first("v1", preflight={"tests": [test_job("smoke", SMOKE)]}, steps=steps())

    def ask_for(self, candidate: Registered, *, longest: str = "90s", **spec: Any) -> Rollout:
        """That candidate, with its answers compared in shadow."""
        preflight = {"tests": [test_job("smoke", SMOKE)]}
        fields = {"steps": steps(longest), "preflight": preflight, **spec}
        return self.shop.apply(self.shop.rollout_of(candidate, **fields))

    def wait_reason(self, reason: str, seconds: float = 90) -> Rollout:
        return self.shop.wait_for(lambda found: status(found).get("reason") == reason, f"reason {reason}", seconds)

    def wait_rolled_back(self, version: str, seconds: float = 150) -> Rollout:
        def ended(found: Rollout) -> bool:
            deployment = status(found).get("deployment") or {}
            return bool(deployment.get("modelVersion") == version and deployment.get("outcome") == "RolledBack")

        return self.shop.wait_for(ended, f"version {version} to be rolled back", seconds)


@pytest.fixture
def careful(digits: DigitsShop) -> Careful:
    return Careful(digits)


def artifact(run_id: str, path: str) -> str:
    """Text of an artifact, as MLflow serves it."""
    url = f"{mlflow_url()}/get-artifact?path={path}&run_uuid={run_id}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_compatible_version_is_verified_tested_compared_and_shipped(careful: Careful) -> None:
    first = careful.begin()
    launched = status(careful.shop.rollout())
    assert launched["verification"]["runId"] == first.run_id
    assert [test["state"] for test in launched["deployment"]["tests"]] == ["Passed"]

    second = careful.shop.register("v2", alias="challenger")
    careful.ask_for(second, model={"name": second.model, "alias": "challenger"})
    shadow = careful.shop.wait_step("shadow", 120)
    assert status(shadow)["weight"] == 0
    careful.shop.wait_step("canary", 150)
    completed = careful.shop.wait_for(
        lambda found: condition(found, "Ready") == "True" and status(found)["stableVersion"] == second.version,
        "version 2 to be stable",
        200,
    )
    told = status(completed)
    assert step_names(completed) == ["shadow", "canary 5%", "full"]
    assert told["verification"]["modelVersion"] == second.version
    assert told["verification"]["runId"] == told["stableRunId"] == second.run_id
    assert {part["name"]: part["source"] for part in told["risk"]["parts"]} == {
        "SchemaDrift": "Verification",
        "DependencyMismatch": "Verification",
        "LatencyChange": "Shadow",
        "OutputDeviation": "Shadow",
    }
    assert (told["risk"]["verdict"], told["risk"]["band"]) == ("Safe", "Low"), told["risk"]
    assert rows(completed)["integration-risk"]["verdict"] == "Pass"
    (test,) = told["deployment"]["tests"]
    said = artifact(test["log"]["runId"], test["log"]["path"])
    assert "ready 200 outputs ['confidence', 'predict', 'predict_proba']" in said
    assert told["deployment"]["id"] in said and "exit code 0" in said
    folder = f"ops-commander/{told['deployment']['id']}/deployment/shadow"
    (last, *_) = reversed(artifact(second.run_id, f"{folder}/metrics.log").splitlines())
    assert json.loads(last)["deploymentId"] == told["deployment"]["id"]
    careful.shop.assert_no_switch_failed()
    left = kubectl("get", "rs,svc", f"--namespace={careful.shop.namespace}", "--output=name")
    assert "compare" not in left


def test_what_files_can_tell_gets_no_pod(careful: Careful) -> None:
    careful.begin()
    expected = {
        "renamed-tensor": ("SchemaBreaking", "predict_proba"),
        "wrong-checksum": ("ChecksumMismatch", "model.safetensors"),
        "cuda-conflict": ("CudaMixed", "cu11"),
        "malicious-pickle": ("DangerousImport", "eval"),
    }
    for variant, (reason, words) in expected.items():
        candidate = careful.shop.register(variant)
        careful.ask_for(candidate)
        refused = careful.wait_reason(reason)
        told = condition_of(refused, "Verified")
        assert told is not None and told["status"] == "False" and words in told["message"], told
        assert status(refused)["phase"] == "Degraded"
        assert status(refused)["risk"]["verdict"] == "Reject"
        selector = f"--selector=ops-commander.dev/model-version={candidate.version}"
        assert not kubectl("get", "pods", f"--namespace={careful.shop.namespace}", selector, "--output=name")
    look = f"import os; print(os.path.exists({candidates.PAYLOAD_WRITES!r}))"
    chosen = "--selector=app.kubernetes.io/component=controller,app.kubernetes.io/name=ops-commander"
    # Tests before this one have killed operators: the kubelet takes its time to start one anew.
    kubectl("wait", "pods", "--all-namespaces", chosen, "--for=condition=Ready", "--timeout=300s", timeout=310)
    operators = kubectl(
        "get",
        "pods",
        "--all-namespaces",
        chosen,
        "--output=jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {end}",
    ).split()
    assert operators
    for place in operators:
        namespace, name = place.split("/")
        said = kubectl("exec", name, f"--namespace={namespace}", "--", "/opt/ops-commander/bin/python", "-c", look)
        assert said.strip() == "False"
    careful.shop.assert_no_switch_failed()


def test_a_failing_test_ends_it_before_any_traffic(careful: Careful) -> None:
    careful.begin()
    candidate = careful.shop.register("v2")
    failing = test_job("scores", "print('three of four scores are off'); raise SystemExit(3)", kind="Regression")
    careful.ask_for(candidate, preflight={"tests": [test_job("smoke", SMOKE), failing]})
    ended = careful.wait_rolled_back(candidate.version)

    told = status(ended)["deployment"]
    assert (told["reason"], [step["name"] for step in told["steps"]]) == ("TestFailed", ["shadow"])
    assert "reachedAt" not in told["steps"][0]
    assert "test scores" in status(ended)["rollback"]["message"]

    def kept(found: Rollout) -> bool:
        return all(test.get("log") for test in status(found)["deployment"]["tests"] if test["state"] == "Failed")

    tests = {test["name"]: test for test in status(careful.shop.wait_for(kept, "the log", 40))["deployment"]["tests"]}
    assert tests["scores"]["state"] == "Failed"
    said = artifact(candidate.run_id, tests["scores"]["log"]["path"])
    assert "three of four scores are off" in said and "exit code 3" in said
    assert careful.shop.load_stats()["by_version"].keys() == {"1"}


def test_what_only_answers_tell_is_found_in_shadow(careful: Careful) -> None:
    careful.begin()
    expected = {
        "dropped-field": {"field-drop"},
        "float32": {"dtype", "precision-loss"},
        "rounded": {"precision-loss"},
        "nan": {"non-finite", "dtype", "field-drop"},
    }
    for variant, objectives in expected.items():
        candidate = careful.shop.register(variant)
        careful.ask_for(candidate)
        told = status(careful.wait_rolled_back(candidate.version))
        assert told["deployment"]["reason"] == "ObjectiveBreached", (variant, told["rollback"])
        assert told["rollback"]["objective"] in objectives, (variant, told["rollback"])
        assert [step["name"] for step in told["deployment"]["steps"]] == ["shadow"]
    assert careful.shop.load_stats()["by_version"].keys() == {"1"}
    careful.shop.assert_no_switch_failed()


def test_a_medium_risk_stays_in_shadow(careful: Careful) -> None:
    careful.begin()
    candidate = careful.shop.register("medium-risk")
    careful.ask_for(candidate, longest="25s")
    held = careful.wait_reason("ShadowOnly", 150)
    assert "waits for a person" in status(held)["next"]
    found = careful.shop.wait_phase("Paused", 60)

    told = status(found)
    assert (told["risk"]["band"], told["risk"]["verdict"], told["weight"]) == ("Medium", "ShadowOnly", 0)
    assert told["next"] == "promote or abort"
    assert rows(held)["integration-risk"]["verdict"] == "Inconclusive"
    assert careful.shop.route_weights() == {"digits-stable": 100, "digits-candidate": 0}
    assert careful.shop.load_stats()["by_version"].keys() == {"1"}
    careful.shop.annotate("abort", told["deployment"]["id"])
    careful.wait_rolled_back(candidate.version)


def test_files_that_change_under_way_are_noticed_before_the_next_step(careful: Careful) -> None:
    careful.begin()
    candidate = careful.shop.register("v2")
    careful.ask_for(candidate)
    careful.shop.wait_step("shadow", 120)
    runs.log_artifact(mlflow_url(), candidate.run_id, "model.safetensors", b"something else")
    ended = careful.wait_rolled_back(candidate.version)

    assert status(ended)["deployment"]["reason"] == "ArtifactChanged"
    assert "model.safetensors" in status(ended)["rollback"]["message"]
    assert careful.shop.load_stats()["by_version"].keys() == {"1"}
