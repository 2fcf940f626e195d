"""Evidence of deployments in a real MLflow: one run each whatever dies, files that read back, aliases."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ops_commander.adapters.mlflow_artifacts import MLflowArtifacts
from ops_commander.adapters.mlflow_evidence import MLflowEvidence
from ops_commander.adapters.mlflow_runs import MLflowRefused
from ops_commander.api.evidence import AliasState, EvidenceStatus, OutboxEntry
from ops_commander.api.v1alpha1 import ModelRolloutStatus, Outcome
from ops_commander.core.evidence_kept import noted
from ops_commander.core.evidence_wanted import EXPERIMENT, MARKER_TAG, Point, RunEnd
from ops_commander.core.snapshot import Snapshot
from ops_commander.runtime.evidence_writer import EvidenceWriter
from tests.integration.controlplane import ControlPlaneError, free_ports
from tests.integration.mlflow_server import MLflowServer
from tests.unit.kept_world import INSTALLED, KEY
from tests.unit.world import START, World, full, rollout, shadow


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    try:
        with MLflowServer.start(tmp_path_factory.mktemp("mlflow")) as server:
            yield server
    except ControlPlaneError as error:
        pytest.fail(str(error), pytrace=False)


class Process:
    """An operator's writer with its connections; what it remembers ends with it."""

    def __init__(self, url: str) -> None:
        self.runs, self.artifacts = MLflowEvidence(url, timeout=20), MLflowArtifacts(url)
        self.now = START + timedelta(hours=1)
        self.writer = EvidenceWriter(
            self.runs, self.artifacts, lambda: self.now, lambda _key: None, lambda _key, _delay: None
        )

    async def asked(self, snapshot: Snapshot) -> Mapping[str, EvidenceStatus]:
        """What is known once the write that is due has ended."""
        self.writer.of(KEY, snapshot)
        await asyncio.gather(*self.writer.under_way())
        return self.writer.of(KEY, replace(snapshot, written={}))

    async def close(self) -> None:
        await self.runs.close()
        await self.artifacts.close()


@pytest.fixture
async def process(mlflow: MLflowServer) -> AsyncIterator[Process]:
    made = Process(mlflow.url)
    yield made
    await made.close()


def snapshot_of(world: World, **changes: Any) -> Snapshot:
    """A rollout that no other test has: found again by its uid."""
    return replace(World.snapshot(world), uid=str(uuid.uuid4()), installation=INSTALLED, **changes)


def under_way() -> Snapshot:
    world = rollout().steps(shadow(), full()).policy(evidence="Required").at("shadow")
    return snapshot_of(world.run(20))


def ended(outcome: Outcome, model: str, versions: tuple[str, str], alias: str | None = None) -> Snapshot:
    """A deployment of a registered model has ended, and MLflow was away all the time."""
    old, new = versions
    world = rollout().steps(shadow(), full()).created()
    world.installation = INSTALLED
    world.health_of(new).errors = 0.2 if outcome is Outcome.ROLLED_BACK else 0.0
    for version in (old, new):
        world.edit(
            model={"name": model, "version": version, **({"promotedAlias": alias} if alias else {})},
            template={"spec": {"containers": [{"name": "server", "image": f"ranker:{version}"}]}},
        )
        expected = Outcome.COMPLETED if version == old else outcome
        world.run(0.5).run_until(
            lambda version=version, expected=expected: (  # type: ignore[misc]
                world.deployment.model_version == version and world.outcome is expected
            )
        )
    snapshot = snapshot_of(world)
    entry = world.status.outbox[-1]
    frozen = {**entry.rollout, "metadata": {**entry.rollout["metadata"], "uid": snapshot.uid}}
    fresh = OutboxEntry(deployment_id=entry.deployment_id, ended_at=entry.ended_at, rollout=frozen)
    return replace(snapshot, status=snapshot.status.model_copy(update={"outbox": [fresh]}))


def marked(mlflow: MLflowServer, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Runs of a rollout's latest deployment that are not deleted."""
    assert snapshot.status.deployment is not None
    experiment = mlflow.get("experiments/get-by-name", experiment_name=EXPERIMENT)["experiment"]["experiment_id"]
    wanted = f"tags.`{MARKER_TAG}` = '{snapshot.uid}/{snapshot.status.deployment.id}'"
    found: list[dict[str, Any]] = mlflow.post("runs/search", experiment_ids=[experiment], filter=wanted).get("runs", [])
    return found


def committed(snapshot: Snapshot, written: Mapping[str, EvidenceStatus]) -> Snapshot:
    status, _ = noted(replace(snapshot, written=written), snapshot.status)
    wire = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return replace(snapshot, status=ModelRolloutStatus.model_validate(wire))


# --- One run a deployment -----------------------------------------------------------------------------------


async def test_killed_between_the_run_and_the_status_a_deployment_has_one_run(mlflow: MLflowServer) -> None:
    snapshot = under_way()
    for _ in range(3):
        process = Process(mlflow.url)
        written = await process.asked(snapshot)
        await process.close()
        assert [item.error for item in written.values()] == [None]

    runs = marked(mlflow, snapshot)
    assert len(runs) == 1
    assert {item.run_id for item in written.values()} == {runs[0]["info"]["run_id"]}
    assert runs[0]["info"]["status"] == "RUNNING"
    points = mlflow.get("metrics/get-history", run_id=runs[0]["info"]["run_id"], metric_key="objective/error-rate/high")
    assert len(points["metrics"]) == 1


async def test_two_processes_at_the_same_moment_leave_one_run(mlflow: MLflowServer) -> None:
    snapshot = under_way()
    processes = [Process(mlflow.url) for _ in range(4)]
    await processes[0].runs.ensure_run(EXPERIMENT, "another", "another", {}, START)

    await asyncio.gather(*(process.asked(snapshot) for process in processes))
    for process in processes:
        process.now += timedelta(minutes=2)
    last = [await process.asked(snapshot) for process in processes]
    for process in processes:
        await process.close()

    (run,) = marked(mlflow, snapshot)
    assert [item.run_id for written in last for item in written.values()] == [run["info"]["run_id"]] * 4


async def test_a_run_that_another_process_made_meanwhile_and_earlier_by_its_clock_stays_alone(
    mlflow: MLflowServer, process: Process
) -> None:
    marker, hour = f"{uuid.uuid4()}/ranker-x-1", timedelta(hours=1)
    made = await process.runs.ensure_run(EXPERIMENT, marker, "ranker-x-1", {}, START + hour)
    experiment = mlflow.get("runs/get", run_id=made)["run"]["info"]["experiment_id"]
    tags, begun = [{"key": MARKER_TAG, "value": marker}], round(START.timestamp() * 1000)
    older = mlflow.post("runs/create", experiment_id=experiment, start_time=begun, tags=tags)["run"]["info"]["run_id"]

    assert await process.runs.ensure_run(EXPERIMENT, marker, "ranker-x-1", {}, START + hour) == older
    assert mlflow.get("runs/get", run_id=made)["run"]["info"]["lifecycle_stage"] == "deleted"
    with pytest.raises(MLflowRefused):
        await process.runs.log(made, [], {"model": "ranker"}, {})
    assert await process.runs.ensure_run(EXPERIMENT, marker, "ranker-x-1", {}, START + hour) == older


async def test_a_run_that_was_deleted_is_made_anew(mlflow: MLflowServer, process: Process) -> None:
    marker = f"{uuid.uuid4()}/ranker-x-1"
    made = await process.runs.ensure_run(EXPERIMENT, marker, "ranker-x-1", {}, START)
    assert await process.runs.ensure_run(EXPERIMENT, marker, "ranker-x-1", {}, START) == made
    mlflow.post("runs/delete", run_id=made)

    assert await process.runs.ensure_run(EXPERIMENT, marker, "ranker-x-1", {}, START) != made


async def test_what_is_logged_twice_is_there_once_and_a_param_keeps_its_value(
    mlflow: MLflowServer, process: Process
) -> None:
    run = await process.runs.ensure_run(EXPERIMENT, str(uuid.uuid4()), "twice", {}, START)
    points = [Point(f"objective/o{number}/observed", number / 7, START, 5) for number in range(1001)]
    for _ in range(2):
        await process.runs.log(run, points, {"model": "ranker"}, {"ops-commander.state": "Running"})
    with pytest.raises(MLflowRefused):
        await process.runs.log(run, [], {"model": "other"}, {})
    await process.runs.end_run(run, RunEnd.KILLED, START)

    found = mlflow.get("runs/get", run_id=run)["run"]
    assert len(found["data"]["metrics"]) == 1001
    history = mlflow.get("metrics/get-history", run_id=run, metric_key="objective/o3/observed")["metrics"]
    assert [(item["step"], item["timestamp"]) for item in history] == [(5, round(START.timestamp() * 1000))]
    assert (found["info"]["status"], found["info"]["end_time"]) == ("KILLED", round(START.timestamp() * 1000))


# --- What has ended -----------------------------------------------------------------------------------------


async def test_a_deployment_that_has_ended_is_written_in_full_with_checksums_that_hold(
    mlflow: MLflowServer, process: Process
) -> None:
    snapshot = ended(Outcome.ROLLED_BACK, "ranker", ("1", "2"))
    [evidence] = (await process.asked(snapshot)).values()

    assert (evidence.is_complete, evidence.error) == (True, None)
    [run] = marked(mlflow, snapshot)
    assert run["info"]["status"] == "FAILED"
    assert {"deployment.json", "decisions.jsonl", "reports/post_incident_report.md"} <= {
        item.path for item in evidence.files
    }
    for item in evidence.files:
        data = mlflow.file_of(item.run_id, item.path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == item.sha256, item.path
    record = json.loads(mlflow.file_of(evidence.run_id or "", "deployment.json").read_bytes())
    assert record["status"]["rollback"]["reason"] == "ObjectiveBreached"
    report = mlflow.file_of(evidence.run_id or "", "reports/execution_report.md").read_text()
    assert f"run_{(evidence.run_id or '')[:12]}" in report
    assert committed(snapshot, {snapshot.status.outbox[0].deployment_id: evidence}).status.outbox == []


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.ROLLED_BACK])
async def test_the_alias_follows_the_stable_version(mlflow: MLflowServer, process: Process, outcome: Outcome) -> None:
    model, run = f"ranker-{uuid.uuid4().hex[:8]}", mlflow.new_run()
    old, new = mlflow.register(model, run), mlflow.register(model, run)
    mlflow.post("registered-models/alias", name=model, alias="champion", version=old)
    if outcome is Outcome.ROLLED_BACK:
        mlflow.post("registered-models/alias", name=model, alias="champion", version=new)

    [evidence] = (await process.asked(ended(outcome, model, (old, new), "champion"))).values()

    is_done = outcome is Outcome.COMPLETED
    found = mlflow.get("registered-models/alias", name=model, alias="champion")["model_version"]["version"]
    assert found == (new if is_done else old)
    assert evidence.alias is not None
    assert evidence.alias.state is (AliasState.MOVED if is_done else AliasState.RESTORED)
    assert (evidence.alias.previous, evidence.alias.version) == ((old, new) if is_done else (new, old))


async def test_an_alias_is_set_where_there_is_none_and_not_of_a_model_that_is_not_registered(
    mlflow: MLflowServer, process: Process
) -> None:
    model = f"ranker-{uuid.uuid4().hex[:8]}"
    old, new = mlflow.register(model, mlflow.new_run()), mlflow.register(model, mlflow.new_run())
    [made] = (await process.asked(ended(Outcome.COMPLETED, model, (old, new), "champion"))).values()
    [refused] = (await process.asked(ended(Outcome.COMPLETED, "nowhere", ("1", "2"), "champion"))).values()

    assert made.alias is not None and (made.alias.state, made.alias.previous) == (AliasState.MOVED, None)
    assert refused.alias is not None and refused.alias.state is AliasState.REFUSED
    assert refused.is_complete


# --- MLflow stopped and started again -----------------------------------------------------------------------


async def test_mlflow_is_stopped_during_a_deployment_and_started_again(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    snapshot = under_way()
    with MLflowServer.start(tmp_path, port) as server:
        process = Process(server.url)
        before = await process.asked(snapshot)
        snapshot = committed(snapshot, before)
    [known] = before.values()
    assert snapshot.status.deployment is not None and snapshot.status.deployment.deploy_run_id == known.run_id

    process.now += timedelta(minutes=2)
    assert snapshot.status.step is not None
    proved = snapshot.status.step.model_copy(update={"proved_at": process.now})
    snapshot = replace(snapshot, status=snapshot.status.model_copy(update={"step": proved}))
    [away] = (await process.asked(snapshot)).values()
    assert away.error is not None and "MLflow" in away.error
    assert (away.run_id, away.landmark) == (known.run_id, known.landmark)

    with MLflowServer.start(tmp_path, port) as server:
        assert list((await process.asked(snapshot)).values()) == [away], "it is left alone for a while"
        process.now += timedelta(minutes=1)
        [after] = (await process.asked(snapshot)).values()
        assert after.error is None and after.landmark != known.landmark
        assert after.run_id == known.run_id
        assert len(marked(server, snapshot)) == 1
    await process.close()
