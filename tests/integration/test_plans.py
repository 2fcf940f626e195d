"""Action plans on a real API server and a real MLflow: admission, the command, execution, kill and resume."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import kopf
import pytest
from kubernetes.aio import client

from ops_commander.adapters.kubernetes import KubernetesApi
from ops_commander.adapters.mlflow_artifacts import MLflowArtifacts
from ops_commander.adapters.mlflow_runs import MLflowRuns
from ops_commander.adapters.plan_objects import PlanObjects
from ops_commander.adapters.prometheus import Access, Prometheus
from ops_commander.api.action_plan import ActionPlan, ActionState, PlanPhase
from ops_commander.api.v1alpha1 import API_VERSION, BaselineStatus
from ops_commander.cli.main import main
from ops_commander.core import names
from ops_commander.core.plans import naming
from ops_commander.runtime import clock, handlers
from ops_commander.runtime.events import EventPoster
from ops_commander.runtime.plan_observer import PlanObserver
from ops_commander.runtime.plan_service import PlanService
from ops_commander.runtime.plans import PlanReconciler
from ops_commander.runtime.served import Served
from ops_commander.runtime.settings import Settings
from ops_commander.runtime.workqueue import WorkQueue
from tests.integration.controlplane import ApiServer, ControlPlaneError, client_for
from tests.integration.mlflow_server import MLflowServer
from tests.integration.prometheus_server import PrometheusServer, Target, scrape, target
from tests.integration.test_admission import ABSENT, ROLLOUT, Objects, changed

T = TypeVar("T")
SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"
POD = {"spec": {"containers": [{"name": "test", "image": "registry.example/tests:1"}]}}


def action(identity: str, kind: str, priority: str = "HIGH", **parameters: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": identity,
        "title": f"Action {identity}",
        "owner": "ops",
        "estimate": "5m",
        "priority": priority,
    }
    also: tuple[str, ...] = ("successCriteria", "dependsOn")
    more = {name: parameters.pop(name) for name in also if name in parameters}
    return {**body, "kind": kind, kind: parameters, **more}


PLAN: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "ActionPlan",
    "metadata": {"name": "meeting-1"},
    "spec": {
        "meetingId": "meeting_1",
        "actions": [
            action(
                "A1",
                "deploy",
                target="ranker",
                environment="shadow",
                model={"name": "ranker", "version": "13"},
            ),
            action("A2", "test", suite="smoke", target="ranker", version="13", successCriteria=["failed == 0"]),
            action("A3", "experiment", "MEDIUM", image="registry.example/ablation:1", mlflowExperiment="ablations"),
            action("A4", "report", "LOW", kinds=["progress", "execution"]),
        ],
    },
}


@pytest.fixture
def objects(kube: client.ApiClient, namespace: str) -> Objects:
    return Objects(kube, namespace)


# --- admission -----------------------------------------------------------------------------------

_FIRST, _TEST = "spec.actions.0", "spec.actions.1"
REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no action": ({"spec.actions": []}, ("spec.actions", "at least 1 items")),
    "an id twice": ({f"{_TEST}.id": "A1"}, ("spec.actions[1]", 'Duplicate value: {"id":"A1"}')),
    "ids by case": ({f"{_TEST}.id": "a1"}, ("spec.actions", "more than upper and lower case")),
    "id as a path": ({f"{_TEST}.id": "../x"}, ("spec.actions[1].id", "should match")),
    "priority": ({f"{_TEST}.priority": "URGENT"}, ("spec.actions[1].priority", '"URGENT"', '"HIGH", "MEDIUM", "LOW"')),
    "estimate": ({f"{_TEST}.estimate": "soon"}, ("spec.actions[1].estimate", "soon is not a duration")),
    "other parameters": (
        {f"{_TEST}.kind": "report"},
        ("spec.actions[1]", "an action of kind report has the parameters"),
    ),
    "no parameters": ({f"{_TEST}.test": ABSENT}, ("spec.actions[1]", "an action of kind test has the parameters")),
    "share of a shadow": ({f"{_FIRST}.deploy.percent": 5}, ("spec.actions[0].deploy.percent", "share of production")),
    "production without share": (
        {f"{_FIRST}.deploy.environment": "production"},
        ("spec.actions[0].deploy.percent", "expected it with environment production"),
    ),
    "two pods": (
        {f"{_TEST}.test.image": "a", f"{_TEST}.test.templateRef": "b"},
        ("spec.actions[1].test", "at most one of image, template and templateRef"),
    ),
    "no pod": ({"spec.actions.2.experiment": {}}, ("spec.actions[2].experiment", "exactly one of image, template")),
    "command without image": (
        {f"{_TEST}.test.command": ["x"]},
        ("spec.actions[1].test", "command and env belong to image"),
    ),
    "unknown dependency": ({f"{_TEST}.dependsOn": ["A9"]}, ("spec.actions", "an action that is not in the plan")),
    "long name": ({"metadata.name": "m" * 39}, ("metadata.name", "expected at most 38")),
    "long criterion": ({f"{_TEST}.successCriteria": ["x" * 501]}, ("spec.actions[1].successCriteria[0]", "500")),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_no_plan_is_refused_by_the_api_server(
    objects: Objects, changes: dict[str, Any], said: tuple[str, ...]
) -> None:
    message = await objects.refusal(changed(PLAN, changes))

    assert all(part in message for part in said), message


async def test_a_hundred_actions_are_taken_and_one_more_is_not(objects: Objects) -> None:
    many = [action(f"A{index}", "report", "LOW", kinds=["progress"], dependsOn=["A0"]) for index in range(1, 100)]
    whole = changed(PLAN, {"spec.actions": [action("A0", "report", kinds=["progress"]), *many]})

    await objects.create(whole, dry_run=True)

    more = changed(whole, {"spec.actions": [*whole["spec"]["actions"], action("Z", "report", kinds=["progress"])]})
    assert "must have at most 100 items" in await objects.refusal(more)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spec.actions.0.title": "Another"}, "the actions of a plan cannot be changed"),
        ({"spec.cancel": False}, "a plan that was cancelled stays so"),
    ],
)
async def test_a_plan_is_not_changed_once_it_is_there(objects: Objects, changes: dict[str, Any], said: str) -> None:
    made = await objects.create(changed(PLAN, {"spec.cancel": True}))

    with pytest.raises(client.ApiException) as refused:
        await objects.replace(changed(made, changes))

    assert said in json.loads(refused.value.body or "{}")["message"]


# --- the command ---------------------------------------------------------------------------------


def test_apply_twice_changes_nothing_and_status_and_cancel_find_the_plan(
    api_server: ApiServer, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["-n", namespace, "--kubeconfig", str(api_server.kubeconfig)]
    file = str(SAMPLES / "pending_actions.json")

    def version() -> str:
        path = "jsonpath={.metadata.resourceVersion}"
        return api_server.kubectl("get", "aplan", "-n", namespace, "meeting-20251014-120000", "-o", path).stdout

    assert main(["plan", "apply", file, *where]) == 0
    assert capsys.readouterr().out == f"actionplan {namespace}/meeting-20251014-120000 created\n"
    before = version()
    assert main(["plan", "apply", file, *where]) == 0
    assert capsys.readouterr().out.endswith(" unchanged\n") and version() == before
    assert main(["plan", "status", "meeting-20251014-120000", *where]) == 0
    assert capsys.readouterr().out.startswith("meeting-20251014-120000  Pending  0/?")
    assert main(["plan", "cancel", "meeting-20251014-120000", *where]) == 0
    assert version() != before
    assert main(["plan", "status", "nothing", *where]) == 1
    assert "not found" in capsys.readouterr().err


def test_what_render_prints_is_what_apply_applies(
    api_server: ApiServer, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(SAMPLES / "pending_actions" / "from-staging-to-all.json")
    assert main(["plan", "render", file, "-n", namespace]) == 0
    rendered = capsys.readouterr().out
    manager = "--field-manager=ops-commander-cli"
    api_server.kubectl("apply", "--server-side", manager, "--validate=strict", "-f", "-", stdin=rendered)

    assert main(["plan", "apply", file, "-n", namespace, "--kubeconfig", str(api_server.kubeconfig)]) == 0

    assert capsys.readouterr().out == f"actionplan {namespace}/release-ranker-9 unchanged\n"


def test_a_bad_file_creates_nothing(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    document = json.loads((SAMPLES / "pending_actions.json").read_text())
    document["actions"][5]["depends_on"] = ["A7"]
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(document))

    assert main(["plan", "apply", str(bad), "-n", namespace, "--kubeconfig", str(api_server.kubeconfig)]) == 2

    assert api_server.kubectl("get", "aplan", "-n", namespace, "-o", "name").stdout == ""


# --- execution -----------------------------------------------------------------------------------


class Killed(Exception):
    """The process ends here."""


@dataclass
class Process:
    """One operator process: as many as it takes share the API server and MLflow, and nothing else."""

    api: KubernetesApi
    mlflow: MLflowServer
    clock: Callable[[], datetime]
    writes_left: int | None = None
    """Killed once as many writes have been begun."""
    prometheus: Prometheus | None = None
    reconciler: PlanReconciler = field(init=False)
    runs: MLflowRuns = field(init=False)
    artifacts: MLflowArtifacts = field(init=False)

    def __post_init__(self) -> None:
        self.runs, self.artifacts = MLflowRuns(self.mlflow.url), MLflowArtifacts(self.mlflow.url)
        found = PlanObjects(self.api)
        self.reconciler = PlanReconciler(
            objects=found,
            observer=PlanObserver(found, self.runs, self, self.clock, timedelta(seconds=1)),
            runs=self.runs,
            artifacts=self.artifacts,
            events=EventPoster(self.api, "test", self.clock),
            queue=WorkQueue(),
            clock=self.clock,
            may_act=self._may_act,
            served=Served(),
            mlflow_url=self.mlflow.url,
        )

    def server_for(self, namespace: str) -> Prometheus | None:
        return self.prometheus

    def _may_act(self) -> bool:
        if self.writes_left is not None:
            if self.writes_left == 0:
                raise Killed
            self.writes_left -= 1
        return True

    @staticmethod
    def nowhere() -> Any:
        """No Prometheus server answers for any namespace."""
        return SimpleNamespace(server_for=lambda _: None)

    async def close(self) -> None:
        await self.runs.close()
        await self.artifacts.close()


@dataclass
class Bench:
    """A namespace, and processes that execute its plans one after the other."""

    api: KubernetesApi
    mlflow: MLflowServer
    kube: client.ApiClient
    namespace: str
    now: datetime = field(default_factory=clock.now)

    prometheus: Prometheus | None = None

    async def reconcile(self, until: Callable[[ActionPlan], bool], *, kill_after: int | None = None) -> ActionPlan:
        """One process, until it is killed or the plan is as wanted."""
        process = Process(self.api, self.mlflow, lambda: self.now, kill_after, self.prometheus)
        try:
            for _ in range(60):
                plan = await self.plan()
                if until(plan):
                    return plan
                await process.reconciler.reconcile((self.namespace, "meeting-1"))
                self.now += timedelta(seconds=1)
        except Killed:
            return await self.plan()
        finally:
            await process.close()
        raise AssertionError(f"not as wanted: {(await self.plan()).status}")

    async def plan(self) -> ActionPlan:
        return ActionPlan.model_validate(await self.api.get("ActionPlan", self.namespace, "meeting-1"))

    async def serve(self, more: Mapping[str, Any] | None = None) -> None:
        """A rollout whose version 12 serves, as kubectl and the operator would have left it."""
        body = copy.deepcopy(ROLLOUT)
        body["spec"] |= more or {}
        body["metadata"]["namespace"] = self.namespace
        await self.api.apply(body, manager="kubectl")
        await self.status_of_rollout({"stableRevision": "bcdfghjklm", "phase": "Completed"})

    async def status_of_rollout(self, status: dict[str, Any]) -> None:
        found = await self.api.get("ModelRollout", self.namespace, "ranker")
        merged = {"observedGeneration": found["metadata"]["generation"], **status}
        await client.CustomObjectsApi(self.kube).patch_namespaced_custom_object_status(
            *("ops-commander.dev", "v1alpha1", self.namespace, "modelrollouts", "ranker", {"status": merged}),
            _content_type="application/merge-patch+json",
        )

    async def hold_in_shadow(self) -> None:
        """What the rollout's own reconciler says once shadow traffic has proved the candidate."""
        rollout = await PlanObjects(self.api).rollout(self.namespace, "ranker")
        assert rollout is not None
        revision, since = names.revision_of(rollout.spec), (self.now - timedelta(hours=1)).isoformat()
        identity = names.deployment_id("ranker", revision, 1)
        await self.status_of_rollout(
            {
                "phase": "Progressing",
                "verdict": "Pass",
                "deployment": {
                    "id": identity,
                    "revision": revision,
                    "modelVersion": "13",
                    "generation": rollout.generation,
                    "startedAt": since,
                },
                "step": {
                    "index": 0,
                    "name": "shadow",
                    "state": "Running",
                    "stateSince": since,
                    "enteredAt": since,
                    "runningSince": since,
                },
            }
        )

    async def end_job(self, name: str, *, failed: bool = False) -> dict[str, Any]:
        """What the Job controller writes once the pod has ended."""
        job = await self.api.get("Job", self.namespace, name)
        at = self.now.isoformat(timespec="seconds").replace("+00:00", "Z")
        kinds = ("FailureTarget", "Failed") if failed else ("SuccessCriteriaMet", "Complete")
        conditions = [
            {"type": kind, "status": "True", "reason": "Test", "message": "by the test", "lastTransitionTime": at}
            for kind in kinds
        ]
        status: dict[str, Any] = {"startTime": at, "conditions": conditions}
        status |= {"failed": 1} if failed else {"succeeded": 1, "completionTime": at}
        await client.BatchV1Api(self.kube).patch_namespaced_job_status(name, self.namespace, {"status": status})
        return job


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    try:
        with MLflowServer.start(tmp_path_factory.mktemp("mlflow")) as server:
            yield server
    except ControlPlaneError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
async def bench(
    api_server: ApiServer, mlflow: MLflowServer, kube: client.ApiClient, namespace: str
) -> AsyncIterator[Bench]:
    async with client_for(api_server, "admin") as raw, KubernetesApi(raw.configuration) as api:
        yield Bench(api, mlflow, kube, namespace)


def is_in(identity: str, state: ActionState, kind: str | None = None) -> Callable[[ActionPlan], bool]:
    def holds(plan: ActionPlan) -> bool:
        row = next((row for row in plan.status.actions if row.id == identity), None)
        return row is not None and row.state is state and (kind is None or bool(row.object and row.object.kind == kind))

    return holds


def has_ended(plan: ActionPlan) -> bool:
    return plan.status.phase in (PlanPhase.SUCCEEDED, PlanPhase.FAILED) and plan.status.report is not None


async def start(bench: Bench) -> None:
    await bench.serve()
    template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "ranker-smoke"}, "template": POD}
    await bench.api.create("PodTemplate", bench.namespace, template)
    await bench.api.create("ActionPlan", bench.namespace, PLAN)


async def play(bench: Bench, reconcile: Callable[[Callable[[ActionPlan], bool]], Awaitable[ActionPlan]]) -> ActionPlan:
    """The whole plan, its world moved by the test wherever the plan waits for it."""
    await start(bench)
    await reconcile(is_in("A1", ActionState.RUNNING, "ModelRollout"))
    await bench.hold_in_shadow()
    plan = await reconcile(is_in("A2", ActionState.RUNNING, "Job"))
    run = next(row.evidence.run_id for row in plan.status.actions if row.id == "A2" and row.evidence)
    assert run is not None
    bench.mlflow.post("runs/log-metric", run_id=run, key="failed", value=0.0, timestamp=1)
    job = await bench.end_job("meeting-1-a2")
    env = {item["name"]: item["value"] for item in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["MLFLOW_RUN_ID"] == run and env["MLFLOW_TRACKING_URI"] == bench.mlflow.url
    await reconcile(is_in("A3", ActionState.RUNNING, "Job"))
    await bench.end_job("meeting-1-a3")
    return await reconcile(has_ended)


async def test_a_plan_runs_to_its_end(bench: Bench) -> None:
    plan = await play(bench, bench.reconcile)

    await assert_done(bench, plan)


@pytest.mark.parametrize("writes", [1, 2])
async def test_killed_after_every_few_writes_it_goes_on_and_makes_nothing_twice(bench: Bench, writes: int) -> None:
    async def killed_often(until: Callable[[ActionPlan], bool]) -> ActionPlan:
        for _ in range(60):
            plan = await bench.reconcile(until, kill_after=writes)
            if until(plan):
                return plan
        raise AssertionError(plan.status)

    plan = await play(bench, killed_often)

    await assert_done(bench, plan)


async def assert_done(bench: Bench, plan: ActionPlan) -> None:
    status = plan.status
    assert status.phase is PlanPhase.SUCCEEDED and status.progress == "4/4", status.message
    shadow, test, experiment, report = status.actions
    assert shadow.message == "held in shadow: objectives met for 10m"
    assert [item.holds for item in test.criteria] == [True]
    rollout = await bench.api.get("ModelRollout", bench.namespace, "ranker")
    assert rollout["spec"]["model"]["version"] == "13" and rollout["spec"]["replicas"] == 1
    managers = {item["manager"] for item in rollout["metadata"]["managedFields"]}
    assert {naming.FIELD_MANAGER, "kubectl"} <= managers
    # Runs: one of the plan, one each of what makes figures; each found by its marker, none twice.
    uid = plan.metadata["uid"]
    for marker, experiment_name in (("", "ops-commander"), ("A2", "ops-commander"), ("A3", "ablations")):
        assert len(runs_of(bench.mlflow, experiment_name, f"{uid}/{marker}")) == 1
    (child,) = runs_of(bench.mlflow, "ablations", f"{uid}/A3")
    tags = {item["key"]: item["value"] for item in child["data"]["tags"]}
    assert tags["mlflow.parentRunId"] == status.run_id and child["info"]["status"] == "FINISHED"
    assert experiment.evidence and experiment.evidence.run_id == child["info"]["run_id"]
    # Reports: that of the report action, and that of the ended plan.
    assert report.evidence and report.evidence.run_id and report.evidence.artifact and status.report
    for run, path, sha256 in (
        (report.evidence.run_id, report.evidence.artifact, report.evidence.sha256),
        (status.report.run_id, status.report.path, status.report.sha256),
    ):
        data = bench.mlflow.file_of(run, path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == sha256
    assert b"- [x] **A4**" in data and b"Phase: **Succeeded**" in data
    execution = bench.mlflow.file_of(report.evidence.run_id, "execution_report.md").read_text()
    assert "INTEGRATION COMPATIBILITY MATRIX" in execution and "EXECUTION PROGRESS" in execution


def runs_of(mlflow: MLflowServer, experiment: str, marker: str) -> list[dict[str, Any]]:
    identity = mlflow.get("experiments/get-by-name", experiment_name=experiment)["experiment"]["experiment_id"]
    found = mlflow.post(
        "runs/search", experiment_ids=[identity], filter=f"tags.`{naming.RUN_TAG}` = '{marker}'", max_results=10
    )
    runs: list[dict[str, Any]] = found.get("runs", [])
    return runs


async def test_a_failing_high_action_stops_the_rest(bench: Bench) -> None:
    await start(bench)
    await bench.reconcile(is_in("A1", ActionState.RUNNING, "ModelRollout"))
    await bench.hold_in_shadow()
    await bench.reconcile(is_in("A2", ActionState.RUNNING, "Job"))
    await bench.end_job("meeting-1-a2", failed=True)

    plan = await bench.reconcile(has_ended)

    states = {row.id: row.state for row in plan.status.actions}
    assert states == {"A1": "Succeeded", "A2": "Failed", "A3": "Skipped", "A4": "Skipped"}
    assert plan.status.actions[1].reason == "JobFailed" and plan.status.phase is PlanPhase.FAILED
    assert await bench.api.find("Job", bench.namespace, "meeting-1-a3") is None


async def test_a_pod_that_the_api_server_refuses_fails_the_action(bench: Bench) -> None:
    body = changed(PLAN, {"spec.actions": [action("A3", "experiment", image="x", env=[{"name": "=", "value": ""}])]})
    await bench.api.create("ActionPlan", bench.namespace, body)

    plan = await bench.reconcile(is_in("A3", ActionState.FAILED))

    assert plan.status.actions[0].reason == "Refused" and "env" in plan.status.actions[0].message


async def test_a_cancelled_plan_leaves_no_job(bench: Bench) -> None:
    body = changed(PLAN, {"spec.actions": PLAN["spec"]["actions"][2:]})
    await bench.api.create("ActionPlan", bench.namespace, body)
    await bench.reconcile(is_in("A3", ActionState.RUNNING, "Job"))
    await bench.api.merge("ActionPlan", bench.namespace, "meeting-1", {"spec": {"cancel": True}})

    plan = await bench.reconcile(lambda found: found.status.phase is PlanPhase.CANCELLED)

    assert {row.state for row in plan.status.actions} == {ActionState.CANCELLED}
    job = await bench.api.find("Job", bench.namespace, "meeting-1-a3")
    assert job is None or job["metadata"].get("deletionTimestamp")


@pytest.fixture
async def pods(tmp_path: Path, bench: Bench) -> AsyncIterator[tuple[Target, PrometheusServer]]:
    """A pod of the version that serves, scraped by a real Prometheus that the plan may ask."""
    with target(exposition(100, 1)) as served:
        labels = {"namespace": bench.namespace, "pod": "ranker-bcdfghjklm-x1"}
        with PrometheusServer.start(tmp_path, [scrape("pods", {served.address: labels})]) as server:
            bench.prometheus = Prometheus(Access(server.url))
            yield served, server
            bench.prometheus.close()


def exposition(good: int, bad: int) -> str:
    return f'model_requests_total{{code="200"}} {good}\nmodel_requests_total{{code="500"}} {bad}\n'


COLLECT: dict[str, Any] = {"target": "ranker", "window": "6s", "metrics": ["error_rate"]}


async def test_a_window_is_read_from_prometheus_and_stored_with_its_run(
    bench: Bench, pods: tuple[Target, PrometheusServer]
) -> None:
    served, server = pods
    await serve_with_policy(bench)
    body = action("A1", "collect", successCriteria=["coverage >= 0.8", "error_rate < 0.05"], **COLLECT)
    await bench.api.create("ActionPlan", bench.namespace, changed(PLAN, {"spec.actions": [body]}))
    await asyncio.to_thread(server.wait_for, 'count_over_time(model_requests_total{code="200"}[8s]) >= 4')
    served.text = exposition(200, 3)
    await asyncio.to_thread(server.wait_for, 'count_over_time(model_requests_total{code="200"}[60s]) >= 8')
    bench.now = clock.now()

    plan = await bench.reconcile(has_ended)

    (row,) = plan.status.actions
    assert row.state is ActionState.SUCCEEDED, row.message
    assert row.evidence and row.evidence.run_id and row.evidence.artifact == "collected/A1.json"
    assert row.result and f"error_rate = 0.0196078 @ {row.evidence.run_id}" in row.result
    data = bench.mlflow.file_of(row.evidence.run_id, row.evidence.artifact).read_bytes()
    assert hashlib.sha256(data).hexdigest() == row.evidence.sha256
    document = json.loads(data)
    assert document["runId"] == row.evidence.run_id and document["writtenAt"] and document["target"] == "ranker"
    assert document["metrics"][0]["requests"] == 102 and len(document["metrics"][0]["series"]) >= 4
    assert BaselineStatus.model_validate(document["baseline"][0]).name == "error-rate"


async def test_a_metric_that_no_objective_measures_fails_the_action(
    bench: Bench, pods: tuple[Target, PrometheusServer]
) -> None:
    await serve_with_policy(bench)
    body = action("A1", "collect", **{**COLLECT, "metrics": ["no_such"]})
    await bench.api.create("ActionPlan", bench.namespace, changed(PLAN, {"spec.actions": [body]}))

    plan = await bench.reconcile(is_in("A1", ActionState.FAILED))

    assert plan.status.actions[0].reason == "Refused"
    assert "'no_such' has no objective: expected one of error_rate" in plan.status.actions[0].message


async def serve_with_policy(bench: Bench) -> None:
    ratio = {"bad": 'model_requests_total{code=~"5.."}', "total": "model_requests_total"}
    policy = {
        "apiVersion": API_VERSION,
        "kind": "RolloutPolicy",
        "metadata": {"name": "default"},
        "spec": {"objectives": [{"name": "error-rate", "ratio": ratio, "max": 0.01}]},
    }
    await bench.api.create("RolloutPolicy", bench.namespace, policy)
    await bench.serve({"policyRef": {"name": "default"}})


# --- the running parts ---------------------------------------------------------------------------


async def test_the_service_finds_a_plan_by_itself_and_carries_it_to_its_end(bench: Bench) -> None:
    settings = Settings(prometheus_url="http://127.0.0.1:9", mlflow_url=bench.mlflow.url, namespaces=(bench.namespace,))
    report = action("A1", "report", kinds=["progress"], successCriteria=["actions_failed == 0"])
    await bench.api.create("ActionPlan", bench.namespace, changed(PLAN, {"spec.actions": [report]}))
    events, artifacts = EventPoster(bench.api, "test", clock.now), MLflowArtifacts(bench.mlflow.url)
    service = PlanService(settings, bench.api, Process.nowhere(), artifacts, events, lambda: True)
    running = [asyncio.create_task(service.run()), asyncio.create_task(events.run())]
    try:
        plan = await eventually(bench.plan, has_ended)
        posted = await eventually(lambda: bench.api.list("Event", bench.namespace), lambda items: len(items) >= 3)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await artifacts.close()

    assert plan.status.phase is PlanPhase.SUCCEEDED and plan.status.actions[0].criteria[0].holds
    assert {(item["reason"], item["regarding"]["kind"]) for item in posted} == {
        ("ActionStarted", "ActionPlan"),
        ("ActionSucceeded", "ActionPlan"),
        ("PlanSucceeded", "ActionPlan"),
    }


async def eventually(read: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    """What is read once it holds."""
    async with asyncio.timeout(60):
        while True:
            if holds(found := await read()):
                return found
            await asyncio.sleep(0.1)


async def test_plans_and_their_rollouts_are_watched(api_server: ApiServer, bench: Bench) -> None:
    seen: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    registry = kopf.OperatorRegistry()
    handlers.watch_plans(registry, Served(), seen.put_nowait)
    async with client_for(api_server, "admin") as raw:
        handlers.log_in(registry, raw.configuration)
        watching = asyncio.create_task(handlers.watch(registry, (bench.namespace,), "test", asyncio.Event()))
        try:
            async with asyncio.timeout(60):
                await bench.api.create("ActionPlan", bench.namespace, PLAN)
                assert await seen.get() == (bench.namespace, "meeting-1")
                await bench.serve()  # a rollout that no plan has touched concerns no plan
                by_another = {"metadata": {"annotations": {naming.BY_PLAN: "another"}}}
                await bench.api.merge("ModelRollout", bench.namespace, "ranker", by_another)
                while (key := await seen.get()) == (bench.namespace, "meeting-1"):
                    pass
                assert key == (bench.namespace, "another")
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def test_the_columns_tell_the_story(api_server: ApiServer, bench: Bench) -> None:
    await start(bench)
    await bench.reconcile(is_in("A1", ActionState.RUNNING, "ModelRollout"))

    lines = api_server.kubectl("get", "aplan", "-n", bench.namespace).stdout.splitlines()

    assert lines[0].split() == ["NAME", "PHASE", "DONE", "FAILED", "CURRENT", "AGE"]
    assert lines[1].split()[:6] == ["meeting-1", "Running", "0/4", "0", "A1:", "Action"]
