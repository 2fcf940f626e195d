"""Directives and consensus: voters with tokens of their own, and plans that run to their end whoever is killed."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster.commands import BootstrapError
from hack.demo import installed, runs
from hack.demo.installed import kubectl
from ops_commander.api.ballot import VoterRole
from ops_commander.api.vote import vote_name
from ops_commander.core.plans import naming
from tests.e2e.digits import mlflow_url
from tests.e2e.shop import (
    Rollout,
    Shop,
    apply_refused,
    condition_of,
    kill_operator,
    ops_commander_command,
    status,
    step_names,
)
from tests.e2e.test_evidence import artifact

ROLES = {
    "infrastructure": VoterRole.INFRASTRUCTURE_MONITOR,
    "quality": VoterRole.QUALITY_OFFICER,
    "commander": VoterRole.OPS_COMMANDER,
}
EXTERNAL = {"voters": dict.fromkeys(("infrastructureMonitor", "qualityOfficer", "opsCommander"), "External")}
TO_CANARY = [
    {"shadow": {"minDuration": "2s", "maxDuration": "90s"}},
    {"canary": {"weight": 20, "minDuration": "2s", "maxDuration": "90s"}},
    {"full": {"bake": "2s", "maxDuration": "90s"}},
]


# --- votes ---------------------------------------------------------------------------------------


@dataclass
class Voters:
    """A service account for each role, bound to the chart's role of it; each speaks with its own token."""

    shop: Shop
    folder: Path

    def bind(self) -> None:
        where = f"--namespace={self.shop.namespace}"
        for role in ROLES:
            kubectl("create", "serviceaccount", role, where)
            allowed = f"--clusterrole={installed.RELEASE}.{installed.OPERATOR_NAMESPACE}-voter-{role}"
            kubectl("create", "rolebinding", role, allowed, f"--serviceaccount={self.shop.namespace}:{role}", where)
            self._sign_in(role)
        for role in ROLES:
            self._await_right(role)

    def _sign_in(self, role: str) -> None:
        config = yaml.safe_load(kubectl("config", "view", "--minify", "--raw", "--output=yaml"))
        token = kubectl("create", "token", role, f"--namespace={self.shop.namespace}").strip()
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        (self.folder / role).write_text(yaml.safe_dump(config), encoding="utf-8")

    def _await_right(self, role: str) -> None:
        """The authorizer learns of a binding through a watch."""
        asked = f"vote-{role}", "modelrollouts.ops-commander.dev", f"--namespace={self.shop.namespace}"
        deadline = time.monotonic() + 15
        while kubectl("auth", "can-i", *asked, f"--as={self.name(role)}").strip() != "yes":
            assert time.monotonic() < deadline, f"{role} was not bound"

    def name(self, role: str) -> str:
        return f"system:serviceaccount:{self.shop.namespace}:{role}"

    def identity(self, role: str) -> str:
        return f"--kubeconfig={self.folder / role}"

    def says(self, role: str, verb: str, risk: str, *more: str, as_: str = "", code: int = 0) -> str:
        """`ops-commander vote` of a role, by its own subject unless another is named."""
        place = (self.shop.name, f"--namespace={self.shop.namespace}", self.identity(as_ or role))
        return ops_commander_command("vote", verb, *place, f"--role={role}", f"--risk={risk}", *more, code=code)

    def refused(self, deployment: str, role: str, by: str, voter: str = "") -> str:
        """What the API server says of a GO for a role, by the subject of another."""
        spec = {
            "rollout": self.shop.name,
            "deploymentId": deployment,
            "role": ROLES[role],
            "voter": self.name(voter or by),
            "vote": "GO",
            "risk": "Low",
        }
        metadata = {"name": vote_name(deployment, ROLES[role]), "namespace": self.shop.namespace}
        body = {"apiVersion": "ops-commander.dev/v1alpha1", "kind": "Vote", "metadata": metadata, "spec": spec}
        return apply_refused(body, self.identity(by))


@pytest.fixture
def voters(shop: Shop, tmp_path: Path) -> Voters:
    made = Voters(shop, tmp_path)
    made.bind()
    installed.apply(shop.policy(quorum=EXTERNAL))
    shop.launch()
    return made


def quorum(rollout: Rollout) -> dict[str, Any]:
    return dict(status(rollout).get("quorum") or {})


def wait_votes(shop: Shop, reason: str, cast: int, *, deployment: str = "") -> Rollout:
    """That many votes are in, nothing else is waited for, and the deployment is not the one that was before."""

    def holds(found: Rollout) -> bool:
        told = quorum(found)
        is_asked = bool(told.get("askedAt")) and told["deploymentId"] != deployment
        return is_asked and (status(found)["reason"], told["cast"]) == (reason, cast)

    return shop.wait_for(holds, f"{reason} with {cast} votes", 60)


def test_two_of_three_let_it_go_on_one_alone_holds_and_a_breach_asks_nobody(shop: Shop, voters: Voters) -> None:
    shop.apply(shop.version(2, steps=TO_CANARY))
    asked = wait_votes(shop, "VotesMissing", 0)
    second = str(status(asked)["deployment"]["id"])

    said = voters.refused(second, "infrastructure", by="quality")
    assert f"{voters.name('quality')} is not bound to the role InfrastructureMonitor for the rollout ranker" in said
    said = voters.refused(second, "quality", by="quality", voter="commander")
    assert f"expected the user who casts the vote, {voters.name('quality')}" in said
    said = voters.says("commander", "go", "low", as_="infrastructure", code=1)
    assert "is not bound to the role OpsCommander" in said
    assert not kubectl("get", "votes", f"--namespace={shop.namespace}", "--output=name")

    voters.says("infrastructure", "go", "low")
    voters.says("commander", "go", "medium", "--concern=the market of next week")
    missing = wait_votes(shop, "VotesMissing", 2)
    assert (quorum(missing)["go"], status(missing)["step"]["name"], status(missing)["weight"]) == (2, "shadow", 0)
    held = condition_of(missing, "QuorumReached")
    assert held is not None and (held["status"], held["reason"]) == ("False", "VotesMissing")
    assert "Quality & Safety Officer" in held["message"]
    described = kubectl("describe", "mro/ranker", f"--namespace={shop.namespace}")
    assert "VotesMissing" in described and "has not voted yet" in described
    assert shop.route_weights() == {"ranker-stable": 100, "ranker-candidate": 0}

    voters.says("quality", "no-go", "high", "--concern=scores of rare items drift")
    shop.wait_step("canary")
    completed = shop.wait_for(lambda found: status(found).get("stableVersion") == "2", "completion", 90)
    assert quorum(completed)["line"] == "**Quorum:** 2/3 GO votes → **PROCEED TO CANARY 20%**"
    told = quorum(completed)["message"]
    assert told.index("NO-GO (High risk)") < told.index("Ops Commander GO"), told
    assert "scores of rare items drift" in told
    assert {row["voter"] for row in status(completed)["votes"]} == {voters.name(role) for role in ROLES}
    assert step_names(completed) == ["shadow", "canary 20%", "full"]

    # Votes on version 2 are none on version 3.
    shop.apply(shop.version(3, steps=TO_CANARY))
    third = str(status(wait_votes(shop, "VotesMissing", 0, deployment=second))["deployment"]["id"])
    voters.says("commander", "go", "low")
    voters.says("quality", "no-go", "medium", "--concern=drift")
    voters.says("infrastructure", "no-go", "high", "--concern=a node is leaving")
    few = wait_votes(shop, "TooFewGo", 3)
    assert (status(few)["deployment"]["id"], quorum(few)["go"], status(few)["step"]["state"]) == (third, 1, "Running")
    assert status(few)["deployment"].get("outcome") is None and status(few).get("rollback") is None
    listed = ops_commander_command("vote", "list", "ranker", f"--namespace={shop.namespace}")
    assert "a node is leaving" in listed and listed.count("NO-GO") >= 2
    assert len(shop.pods(status(few)["candidateRevision"])) >= 1, "what waits for votes keeps its pods"

    shop.inject(status(few)["candidateRevision"], error_rate=0.9)
    reverted = shop.wait_phase("RolledBack", 40)
    rollback = status(reverted)["rollback"]
    assert (rollback["deploymentId"], rollback["reason"]) == (third, "ObjectiveBreached")
    assert rollback["trafficSeconds"] < 5
    assert rollback["objective"] in ("error-rate", "error-ratio")
    assert shop.load_stats()["by_version"].keys() == {"1", "2"}
    shop.assert_no_switch_failed()


# --- plans ---------------------------------------------------------------------------------------

JOB = """
import json, os, sys, time, urllib.request

def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    return urllib.request.urlopen(request, timeout=5).read()

name, value, seconds, code = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
if "RANKER_URL" in os.environ:
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 8], "data": [0.5] * 8}
    post(os.environ["RANKER_URL"] + "/v2/models/ranker/infer", {"inputs": [tensor]})
metric = {"run_id": os.environ["MLFLOW_RUN_ID"], "key": name, "value": value, "timestamp": int(time.time() * 1000)}
post(os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/runs/log-metric", metric)
time.sleep(seconds)
sys.exit(code)
"""
HEALTHY = ["error_rate < 0.1", "p95_latency_ms < 500"]


def action(identity: str, kind: str, priority: str, criteria: list[str], **parameters: Any) -> dict[str, Any]:
    return {
        "id": identity,
        "priority": priority,
        "title": f"{kind} of {identity}",
        "owner": "ops_commander",
        "estimate": "1m",
        "kind": kind,
        kind: parameters,
        "success_criteria": criteria,
    }


def job(metric: str, value: float, *, seconds: float = 0, code: int = 0, **env: str) -> dict[str, Any]:
    """A pod of the ranker's image that logs one metric, and ends after that time with that exit code."""
    command = ["/opt/venv/bin/python", "-c", JOB, metric, str(value), str(seconds), str(code)]
    return {"image": installed.RANKER_IMAGE, "command": command, **({"env": env} if env else {})}


def deploy(version: int, environment: str, **more: Any) -> dict[str, Any]:
    return {
        "target": "ranker",
        "environment": environment,
        "model": {"name": "ranker", "version": str(version)},
        **more,
    }


def template(version: int) -> dict[str, Any]:
    """What differs in the pods of a version."""
    env = [{"name": "MODEL_VERSION", "value": str(version)}]
    return {"spec": {"containers": [{"name": "ranker", "env": env}]}}


@dataclass
class Plans:
    """Meetings whose pending actions are applied to a shop by the command."""

    shop: Shop
    folder: Path

    def apply(self, meeting: str, actions: list[dict[str, Any]]) -> str:
        head = {"meeting_id": meeting, "created_at": "2026-03-04T09:00:00Z", "from": "planning_team"}
        path = self.folder / f"{meeting}.json"
        path.write_text(json.dumps({**head, "actions": actions}), encoding="utf-8")
        return ops_commander_command("plan", "apply", str(path), f"--namespace={self.shop.namespace}")

    def status(self, name: str, code: int = 0) -> str:
        return ops_commander_command("plan", "status", name, f"--namespace={self.shop.namespace}", code=code)

    def wait(self, name: str, path: str, value: str, seconds: int = 90) -> dict[str, Any]:
        """The plan once a field of its status has that value."""
        where, until = f"--namespace={self.shop.namespace}", f"--for=jsonpath={{.status.{path}}}={value}"
        try:
            kubectl("wait", f"aplan/{name}", until, where, f"--timeout={seconds}s", timeout=seconds + 10)
        except BootstrapError as error:
            now = kubectl("get", f"aplan/{name}", where, "--output=jsonpath={.status}")
            raise AssertionError(f"waited {seconds}s for {path} to be {value}: {now}") from error
        return self.plan(name)

    def plan(self, name: str) -> dict[str, Any]:
        found = kubectl("get", f"aplan/{name}", f"--namespace={self.shop.namespace}", "--output=json")
        plan: dict[str, Any] = json.loads(found)
        return plan

    def pods_made(self) -> list[str]:
        """Names of the Jobs that have made a pod, one for each pod, by the Job controller's own Events."""
        selector = "--field-selector=reason=SuccessfulCreate,involvedObject.kind=Job"
        events = kubectl("get", "events", selector, f"--namespace={self.shop.namespace}", "--output=json")
        return sorted(
            item["involvedObject"]["name"]
            for item in json.loads(events)["items"]
            for _ in range(item.get("count") or 1)
        )


def runs_of(plan: dict[str, Any], identity: str, experiment: str) -> list[dict[str, Any]]:
    """MLflow runs of one action of a plan."""
    asked = {
        "experiment_ids": [runs.experiment(mlflow_url(), experiment)],
        "filter": f"tags.`{naming.RUN_TAG}` = '{plan['metadata']['uid']}/{identity}'",
        "max_results": 10,
    }
    found: list[dict[str, Any]] = runs.call(mlflow_url(), "runs/search", asked).get("runs", [])
    return found


def states(plan: dict[str, Any]) -> dict[str, str]:
    return {row["id"]: row["state"] for row in plan["status"]["actions"]}


def row_of(plan: dict[str, Any], identity: str) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in plan["status"]["actions"] if row["id"] == identity)
    return row


SEVEN = [
    # Not in the order of execution: HIGH goes first wherever it stands.
    action("report", "report", "LOW", ["actions_failed == 0"], kinds=["progress"]),
    action("shadow", "deploy", "HIGH", HEALTHY, **deploy(2, "shadow", template=template(2))),
    action("ablation", "experiment", "MEDIUM", ["drop >= 0.05"], **job("drop", 0.07), mlflow_experiment="ablations"),
    action("smoke", "test", "HIGH", ["failed == 0"], suite="smoke", target="ranker", version="2")
    | {
        "test": {
            "suite": "smoke",
            "target": "ranker",
            "version": "2",
            **job("failed", 0, seconds=8, RANKER_URL="http://ranker-candidate"),
        }
    },
    action(
        "baseline",
        "collect",
        "MEDIUM",
        ["coverage >= 0.8", "error_rate < 0.1"],
        target="ranker",
        window="10s",
        metrics=["error_rate", "p95_latency_ms"],
    ),
    action("fifth", "deploy", "MEDIUM", HEALTHY, **deploy(2, "production", percent=20))
    | {"depends_on": ["smoke", "baseline"]},
    action("all", "deploy", "LOW", [], **deploy(2, "production", percent=100)),
]
ORDER = ["shadow", "smoke", "ablation", "baseline", "fifth", "report", "all"]


def test_a_plan_of_seven_runs_to_its_end_through_two_kills_and_a_failing_high_stops_the_next_one(
    shop: Shop, tmp_path: Path
) -> None:
    shop.launch(steps=TO_CANARY)
    plans = Plans(shop, tmp_path)
    assert "meeting-1 created" in plans.apply("meeting_1", SEVEN)
    plans.wait("meeting-1", "actions[?(@.id=='smoke')].object.kind", "Job")
    kill_operator()
    plans.wait("meeting-1", "actions[?(@.id=='fifth')].state", "Running")
    kill_operator()
    plan = plans.wait("meeting-1", "phase", "Succeeded", 150)
    kubectl(
        "wait",
        "aplan/meeting-1",
        "--for=jsonpath={.status.report.path}",
        f"--namespace={shop.namespace}",
        "--timeout=20s",
    )
    plan = plans.plan("meeting-1")

    assert set(states(plan).values()) == {"Succeeded"}, states(plan)
    started = sorted(plan["status"]["actions"], key=lambda row: str(row["startedAt"]))
    assert [row["id"] for row in started] == ORDER
    for before, after in itertools.pairwise(started):
        assert before["endedAt"] <= after["startedAt"], (before["id"], after["id"])
    rollout = shop.rollout()
    assert (status(rollout)["stableVersion"], status(rollout)["deployments"]) == ("2", 2), "one deployment did it all"
    assert plans.pods_made() == ["meeting-1-ablation", "meeting-1-smoke"]
    for identity, experiment, metric in (("smoke", "ops-commander", "failed"), ("ablation", "ablations", "drop")):
        (run,) = runs_of(plan, identity, experiment)
        asked = f"metrics/get-history?run_id={run['info']['run_id']}&metric_key={metric}"
        assert len(runs.call(mlflow_url(), asked)["metrics"]) == 1
        assert row_of(plan, identity)["evidence"]["runId"] == run["info"]["run_id"]
    window = row_of(plan, "baseline")["evidence"]
    assert {item["name"] for item in json.loads(artifact(window["runId"], window["artifact"]))["metrics"]} == {
        "error_rate",
        "p95_latency_ms",
    }
    report = plan["status"]["report"]
    text = artifact(report["runId"], report["path"]).decode()
    assert all(f"- [x] **{identity}**" in text for identity in ORDER) and "Phase: **Succeeded**" in text
    shown = plans.status("meeting-1")
    assert shown.startswith("meeting-1  Succeeded  7/7") and all(identity in shown for identity in ORDER)

    version = plan["metadata"]["resourceVersion"]
    assert plans.apply("meeting_1", SEVEN).endswith(" unchanged\n")
    assert plans.plan("meeting-1")["metadata"]["resourceVersion"] == version

    failing = action("smoke", "test", "HIGH", []) | {
        "test": {"suite": "smoke", "target": "ranker", **job("failed", 1, code=3)}
    }
    third = action("shadow", "deploy", "MEDIUM", HEALTHY, **deploy(3, "shadow", template=template(3)))
    plans.apply("meeting_2", [third, action("report", "report", "LOW", [], kinds=["progress"]), failing])
    failed = plans.wait("meeting-2", "phase", "Failed", 60)
    assert states(failed) == {"smoke": "Failed", "shadow": "Skipped", "report": "Skipped"}
    assert row_of(failed, "smoke")["reason"] == "JobFailed"
    shown = plans.status("meeting-2", code=1)
    assert "Skipped" in shown and "JobFailed" in json.dumps(failed["status"])
    assert shop.rollout()["metadata"]["generation"] == rollout["metadata"]["generation"], "version 3 was not asked for"
    shop.assert_no_switch_failed()
