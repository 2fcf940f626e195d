"""Evidence in MLflow while MLflow is away: a revert waits for nothing, a promotion waits, and nothing is lost."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from hack.demo import installed, runs
from hack.demo.installed import kubectl
from ops_commander.core.evidence_wanted import DEPLOYMENT_TAG, EXPERIMENT, MARKER_TAG
from tests.e2e.digits import mlflow_url
from tests.e2e.shop import LONG_CANARY, Rollout, Shop, kill_operator, ops_commander_command, status

WHERE = "--namespace=mlflow"
STEPS = [
    {"shadow": {"minDuration": "1s", "maxDuration": "90s"}},
    {"canary": {"weight": 20, "minDuration": "2s", "maxDuration": "90s"}},
    {"full": {"bake": "2s", "maxDuration": "3m"}},
]


@contextmanager
def mlflow_stopped() -> Iterator[None]:
    """The server of MLflow has ended. Its pod stays, which has the data: only the container cannot start."""
    (pod,) = json.loads(kubectl("get", "pods", WHERE, "--output=json"))["items"]
    name, image = f"pod/{pod['metadata']['name']}", pod["spec"]["containers"][0]["image"]
    kubectl("set", "image", name, "mlflow=localhost/no-such-image:1", WHERE)
    try:
        kubectl("wait", "--for=condition=Ready=False", name, WHERE, "--timeout=30s", timeout=40)
        yield
    finally:
        kubectl("set", "image", name, f"mlflow={image}", WHERE)
        kubectl("wait", "--for=condition=Ready", name, WHERE, "--timeout=120s", timeout=130)


def mlflow_started_at() -> datetime:
    state = kubectl("get", "pods", WHERE, "--output=jsonpath={.items[0].status.containerStatuses[0].state}")
    return datetime.fromisoformat(json.loads(state)["running"]["startedAt"])


def artifact(run_id: str, path: str) -> bytes:
    url = f"{mlflow_url()}/get-artifact?{urllib.parse.urlencode({'path': path, 'run_uuid': run_id})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: bytes = answer.read()
        return found


def run_of(rollout: Rollout, deployment: str) -> dict[str, Any]:
    """The one run that a deployment has; its marker is of this very rollout."""
    asked = {
        "experiment_ids": [runs.experiment(mlflow_url(), EXPERIMENT)],
        "filter": f"tags.`{MARKER_TAG}` = '{rollout['metadata']['uid']}/{deployment}'",
        "max_results": 10,
    }
    (found,) = runs.call(mlflow_url(), "runs/search", asked)["runs"]
    run: dict[str, Any] = found
    return run


def tags_of(run: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["value"] for item in run["data"]["tags"]}


def reports_of(run: dict[str, Any]) -> set[str]:
    listed = runs.call(mlflow_url(), f"artifacts/list?run_id={run['info']['run_id']}&path=reports")
    return {str(item["path"]).removeprefix("reports/") for item in listed["files"]}


def assert_kept(rollout: Rollout, deployment: str, end: str) -> dict[str, Any]:
    """A deployment's run is complete: ended, and its record is that of the checksum."""
    run = run_of(rollout, deployment)
    assert (run["info"]["status"], run["info"]["run_name"]) == (end, deployment)
    assert tags_of(run)[DEPLOYMENT_TAG] == deployment
    record = artifact(run["info"]["run_id"], "deployment.json")
    assert json.loads(record)["status"]["deployment"]["id"] == deployment
    decisions = artifact(run["info"]["run_id"], "decisions.jsonl").decode().splitlines()
    assert [json.loads(line) for line in decisions]
    assert {"execution_report.md", "innovation_report.md", "audit.jsonl", "weights.svg"} <= reports_of(run)
    return run


def wait_delayed(shop: Shop, reason: str) -> Rollout:
    def holds(found: Rollout) -> bool:
        evidence = (status(found).get("deployment") or {}).get("evidence") or {}
        return status(found).get("reason") == reason and bool(evidence.get("error"))

    return shop.wait_for(holds, f"{reason}, and why", 90)


def test_mlflow_stops_a_revert_is_as_fast_a_promotion_waits_and_all_is_written_when_it_is_back(
    shop: Shop, tmp_path: Path
) -> None:
    installed.apply(shop.policy(evidence="Required"))
    shop.launch()
    shop.apply(shop.version(2, steps=[STEPS[0], *LONG_CANARY]))
    bad = shop.wait_step("canary")
    second = str(status(bad)["deployment"]["id"])
    with mlflow_stopped():
        shop.inject(status(bad)["candidateRevision"], error_rate=0.9)
        reverted = shop.wait_phase("RolledBack", 40)
        rollback = status(reverted)["rollback"]
        assert (rollback["deploymentId"], rollback["reason"]) == (second, "ObjectiveBreached")
        assert rollback["trafficSeconds"] < 5
        assert [entry["deploymentId"] for entry in status(reverted)["outbox"]] == [second]

        shop.apply(shop.version(3, steps=STEPS))
        waiting = wait_delayed(shop, "WritingEvidence")
        third = str(status(waiting)["deployment"]["id"])
        assert (status(waiting)["step"]["name"], status(waiting)["step"]["state"]) == ("full", "Running")
        assert (status(waiting)["verdict"], status(waiting)["stableVersion"]) == ("Pass", "1")
        kill_operator()
        assert "EvidenceDelayed" in kubectl("describe", "mro/ranker", f"--namespace={shop.namespace}")
    started_at = mlflow_started_at()

    def kept(found: Rollout) -> bool:
        told = status(found)
        return (
            told.get("stableVersion") == "3" and not told.get("outbox") and told["deployment"]["evidence"]["isComplete"]
        )

    completed = shop.wait_for(kept, "version 3 to be stable and all evidence to be written", 120)
    ended = status(completed)["deployment"]
    assert ended["id"] == third and datetime.fromisoformat(ended["endedAt"]) > started_at
    run = assert_kept(completed, third, "FINISHED")
    assert "post_incident_report.md" not in reports_of(run)
    assert ended["deployRunId"] == run["info"]["run_id"]
    for file in ended["evidence"]["files"]:
        assert hashlib.sha256(artifact(file["runId"], file["path"])).hexdigest() == file["sha256"], file["path"]
    assert {"deployment.json", "reports/execution_report.md"} <= {file["path"] for file in ended["evidence"]["files"]}

    failed = assert_kept(completed, second, "FAILED")
    assert "post_incident_report.md" in reports_of(failed)
    incident = artifact(failed["info"]["run_id"], "reports/post_incident_report.md").decode()
    assert second in incident and f"run_{failed['info']['run_id'][:12]}" in incident
    record = artifact(failed["info"]["run_id"], "deployment.json")
    assert tags_of(failed)["ops-commander.record_sha256"] == hashlib.sha256(record).hexdigest()

    ops_commander_command("report", "--rollout=ranker", f"--namespace={shop.namespace}", f"--output={tmp_path}")
    told = (tmp_path / "execution_report.md").read_text(encoding="utf-8")
    assert third in told and "**Ops Commander Final Verdict:** GO" in told
    assert not (tmp_path / "post_incident_report.md").exists()
    shop.assert_no_switch_failed()
