"""What a recorder reads: the right ticks of both arms, piece by piece, and the runs that objectives need."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import pytest

from ops_commander.api.policy import RolloutPolicySpec
from ops_commander.core.promql import DEFAULT_LABELS
from ops_commander.core.recordings.recording import Recording, RecordingProblem
from ops_commander.core.samples import Reading, Sample
from ops_commander.core.snapshot import RunRecord
from ops_commander.runtime import recorder
from ops_commander.runtime.recorder import Recorder, evidence_span, policy_of, rollout_of
from tests.unit.recorded import STALE_AFTER, Recorded, trying
from tests.unit.world import POLICY, START, TICK, rollout


class Source:
    """Counts its ranges, and knows one pod of each ReplicaSet that it is asked for."""

    name = "main"
    labels = DEFAULT_LABELS

    def __init__(self) -> None:
        self.asked: list[tuple[datetime, datetime]] = []

    async def query(self, promql: str, at: datetime) -> Reading:
        raise AssertionError("a recorder reads ranges")

    async def query_range(self, promql: str, start: datetime, end: datetime, step: timedelta) -> list[Reading]:
        self.asked.append((start, end))
        prefixes = promql.partition('pod=~"(?:')[2].partition(")-[")[0].split("|")
        count = (end - start) // step + 1
        rows = {("shop", prefix): {f"{prefix}-1x": (Sample("", 1.0),)} for prefix in prefixes}
        return [Reading(start + number * step, rows) for number in range(count)]


class Runs:
    def __init__(self) -> None:
        self.read: list[tuple[str, list[str]]] = []

    async def read_run(self, run_id: str, artifacts: Collection[str]) -> RunRecord:
        self.read.append((run_id, sorted(artifacts)))
        return RunRecord(run_id)


@pytest.fixture(scope="module")
def good() -> Recorded:
    return trying(rollout()).ended()


def of(source: Source, runs: Runs | None = None) -> Recorder:
    return Recorder(source, TICK, STALE_AFTER, runs)


async def test_ticks_are_read_piece_by_piece_and_none_is_left_out(
    good: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "TICKS_AT_ONCE", 4)
    source = Source()
    recording, _ = await of(source).header(good.rollout(), POLICY, good.now)

    found = [tick async for tick in of(source).ticks(recording, START, START + 9 * TICK)]

    assert [tick.at for tick in found] == [START + number * TICK for number in range(10)]
    assert {end - start for start, end in source.asked} == {3 * TICK, TICK}
    candidate, stable = recording.deployment.revision, recording.deployment.stable_revision
    for tick in found:
        assert {pod for pods in tick.candidate.values() for pod in pods} == {f"ranker-{candidate}-1x"}
        assert {pod for pods in tick.stable.values() for pod in pods} == {f"ranker-{stable}-1x"}
        assert sorted(tick.candidate) == recording.queries


async def test_evidence_spans_from_the_lead_in_to_the_end(good: Recorded) -> None:
    recording, _ = await of(Source()).header(good.rollout(), POLICY, good.now)
    since = good.deployment.steps[0].evidence_since
    assert since is not None

    span = evidence_span(recording)

    assert span is not None
    assert timedelta(seconds=60) <= since - span[0] < timedelta(seconds=65)
    assert span[1] == good.deployment.ended_at
    assert recording.source == "main"


async def test_a_candidate_without_traffic_has_no_evidence() -> None:
    world = trying(rollout(), ready_after=None).ended()
    recording, _ = await of(Source()).header(world.rollout(), POLICY, world.now)

    assert evidence_span(recording) is None


# --- Runs -----------------------------------------------------------------------------------------------


def policy(**objective: Any) -> RolloutPolicySpec:
    run = {"metric": "accuracy", "samples": "n", "artifact": "a.json"}
    body = {"name": "accuracy", "run": run, "min": 0.9, **objective}
    return RolloutPolicySpec.model_validate({"objectives": [body]})


def with_runs(good: Recorded) -> Any:
    found = good.rollout()
    deployment = good.deployment.model_copy(update={"run_id": "new", "stable_run_id": "old"})
    return found.model_copy(update={"status": found.status.model_copy(update={"deployment": deployment})})


async def test_runs_that_objectives_need_are_recorded(good: Recorded) -> None:
    runs = Runs()

    recording, _ = await of(Source(), runs).header(with_runs(good), policy(), good.now)
    assert runs.read == [("new", ["a.json"])]
    assert [run.run_id for run in recording.runs] == ["new"]

    runs.read.clear()
    await of(Source(), runs).header(with_runs(good), policy(compare="Difference", min=0.0), good.now)
    assert runs.read == [("old", []), ("new", ["a.json"])]


async def test_runs_need_an_mlflow(good: Recorded) -> None:
    with pytest.raises(RecordingProblem, match="objective accuracy reads an MLflow run: expected --mlflow-url"):
        await of(Source()).header(with_runs(good), policy(), good.now)


# --- Resources ------------------------------------------------------------------------------------------


def test_what_the_models_refuse_is_told(good: Recorded) -> None:
    body = good.rollout().model_dump(mode="json", by_alias=True, exclude_none=True)

    assert rollout_of(body).status == good.status
    with pytest.raises(RecordingProblem, match=r"^ModelRollout ranker: spec.replicas is -1: "):
        rollout_of({**body, "spec": {**body["spec"], "replicas": -1}})


def test_a_policy_is_the_named_one_or_the_operators_own(good: Recorded) -> None:
    found = good.rollout()
    spec = type(found.spec).model_validate({**good.spec_body, "policyRef": {"name": "p"}})
    named = found.model_copy(update={"spec": spec})
    document = {"metadata": {}, "spec": POLICY.model_dump(mode="json", by_alias=True, exclude_none=True)}

    assert policy_of(named, document) == POLICY
    assert [item.name for item in policy_of(good.rollout(), None).objectives][-1] == "integration-risk"
    with pytest.raises(RecordingProblem, match=r"^spec.policyRef.name is 'p': expected a RolloutPolicy of that name$"):
        policy_of(named, None)
    assert isinstance(good.recording(), Recording)
