"""What the observer asks of Prometheus and MLflow, when, and whom it keeps waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from ops_commander.adapters.cluster import Cluster
from ops_commander.adapters.mlflow import RunUnreadable
from ops_commander.adapters.prometheus import QueryError
from ops_commander.adapters.surroundings import Surroundings
from ops_commander.api.v1alpha1 import (
    DeploymentStatus,
    ModelRolloutSpec,
    ModelRolloutStatus,
    Outcome,
    StepState,
    StepStatus,
)
from ops_commander.core import names
from ops_commander.core.promql import DEFAULT_LABELS, PodLabels
from ops_commander.core.samples import Reading, Sample, owner_of
from ops_commander.core.snapshot import Check, Installation, RunRecord, Snapshot
from ops_commander.runtime.evidence import EvidenceBook
from ops_commander.runtime.history import History
from ops_commander.runtime.job_logs import JobLogs
from ops_commander.runtime.observer import ASK_AGAIN, KNOWN_FOR, RUN_KEPT_FOR, Observer
from ops_commander.runtime.verifications import Verifications
from tests.unit import virtual
from tests.unit.virtual import START
from tests.unit.world import rollout

SHOP = ("shop", "ranker")
TICK = timedelta(seconds=5)
STABLE = "1f2e3d"
POLICY = {
    "apiVersion": "ops-commander.dev/v1alpha1",
    "kind": "RolloutPolicy",
    "metadata": {"name": "strict", "namespace": "shop", "resourceVersion": "1"},
    "spec": {
        "verification": "Optional",
        "objectives": [
            {"name": "errors", "ratio": {"bad": "bad", "total": "all"}, "max": 0.01},
            {"name": "risk", "run": {"metric": "risk", "exact": True, "artifact": "risk.json"}, "max": 0.6},
            {
                "name": "compliance",
                "run": {"metric": "compliance", "samples": "samples", "artifact": "compliance.json"},
                "compare": "Difference",
                "min": 0.0,
            },
        ],
    },
}
ARTIFACTS = {"risk.json", "compliance.json"}

SPEC = {
    **rollout().body,
    "model": {"name": "ranker", "version": "2", "runId": "r2"},
    "policyRef": {"name": "strict"},
}
REVISION = names.revision_of(ModelRolloutSpec.model_validate(SPEC))


async def never() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    pass


class Objects:
    """A cluster with nothing in it but the policy."""

    def __init__(self) -> None:
        self.dry_runs = 0

    async def surroundings(self, *_: object, **__: object) -> Surroundings:
        return Surroundings({}, None, None, None, False, POLICY)

    async def dry_run(self, _: Any) -> None:
        self.dry_runs += 1


@dataclass
class Registry:
    """MLflow, which answers when it likes."""

    wait: Callable[[], Awaitable[None]] = at_once
    error: str | None = None
    asked: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)

    async def verify_run(self, run_id: str) -> Check:
        self.verified.append(run_id)
        await self.wait()
        return Check("model", True, "Verified", f"run {run_id} is FINISHED in MLflow")

    async def read_run(self, run_id: str, artifacts: Collection[str]) -> RunRecord:
        self.asked.append((run_id, frozenset(artifacts)))
        await self.wait()
        if self.error:
            raise RunUnreadable(self.error)
        return RunRecord(run_id, {"risk": 0.1}, frozenset(artifacts))


@dataclass
class Server:
    """Prometheus, whose counters stand at 100 a tick."""

    wait: Callable[[], Awaitable[None]] = at_once
    error: str | None = None
    ranges: list[str] = field(default_factory=list)
    name: str = "main"
    labels: PodLabels = DEFAULT_LABELS

    async def query(self, promql: str, at: datetime) -> Reading:
        raise AssertionError("the observer asks for history alone")

    async def query_range(self, promql: str, start: datetime, end: datetime, step: timedelta) -> list[Reading]:
        self.ranges.append(promql)
        await self.wait()
        if self.error:
            raise QueryError(self.error)
        pod = f"ranker-{STABLE}-x"
        return [
            Reading(start + step * n, {owner_of("shop", pod): {pod: (Sample("", 100.0 * n),)}})
            for n in range((end - start) // step + 1)
        ]


class Sources:
    def __init__(self, server: Server | None) -> None:
        self.server = server

    def server_for(self, _: str) -> Server | None:
        return self.server


@dataclass
class Scene:
    observer: Observer
    objects: Objects
    registry: Registry
    server: Server

    async def seen(self, body: dict[str, Any], within: float = 1.0) -> Snapshot:
        """Fails where the snapshot has to wait for something outside."""
        task, end = asyncio.create_task(self.observer.snapshot(body)), virtual.elapsed() + within
        while not task.done():  # no timeout: a timer that is taken back stops the virtual loop
            if virtual.elapsed() >= end:
                task.cancel()
                raise TimeoutError
            await asyncio.sleep(0.1)
        return task.result()


def scene(*, has_server: bool = True, has_registry: bool = True) -> Scene:
    objects, registry, server = Objects(), Registry(), Server()
    observer = Observer(
        cast(Cluster, objects),
        registry if has_registry else None,
        Sources(server if has_server else None),
        EvidenceBook(TICK, START),
        History(TICK),
        virtual.wall_clock,
        timedelta(seconds=20),
        Verifications(None, virtual.wall_clock, lambda _: None),
        JobLogs(cast(Cluster, objects), None, virtual.wall_clock, lambda _: None),
        Installation(),
    )
    return Scene(observer, objects, registry, server)


def body(status: ModelRolloutStatus, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "ranker", "namespace": "shop", "uid": "uid", "resourceVersion": "7", "generation": 2}
    return {
        "apiVersion": "ops-commander.dev/v1alpha1",
        "kind": "ModelRollout",
        "metadata": metadata,
        "spec": {**SPEC, **spec},
        "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def at_rest(stable: str | None = STABLE, **fields: Any) -> ModelRolloutStatus:
    return ModelRolloutStatus(stable_revision=stable, stable_version="1", stable_run_id="r1", **fields)


def under_way(state: StepState = StepState.RUNNING) -> ModelRolloutStatus:
    deployment = DeploymentStatus(
        id="d1", revision=REVISION, model_version="2", generation=2, started_at=START, run_id="r2"
    )
    step = StepStatus(index=0, name="shadow", state=state, state_since=START, entered_at=START, evidence_since=START)
    return at_rest(candidate_revision=REVISION, deployment=deployment, step=step)


def rolled_back() -> ModelRolloutStatus:
    deployment = under_way().deployment
    assert deployment is not None
    return at_rest(deployment=deployment.model_copy(update={"outcome": Outcome.ROLLED_BACK}))


def play(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual.run(main())


# --- Only where a rollout may start -------------------------------------------------------------------------


def test_before_a_start_the_stable_version_and_the_runs_are_looked_at() -> None:
    async def main() -> None:
        made = scene()
        found = await made.seen(body(at_rest()))
        assert found.baseline is not None
        assert [(item.name, item.rate) for item in found.baseline.objectives] == [("errors", 20.0)]
        assert set(found.runs) == {"r1", "r2"}
        assert sorted(made.registry.asked) == [("r1", frozenset()), ("r2", frozenset(ARTIFACTS))]
        assert all(f"ranker-{STABLE}" in query for query in made.server.ranges) and len(made.server.ranges) == 2

    play(main)


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(at_rest(None), id="nothing is live yet"),
        pytest.param(at_rest(REVISION), id="the stable version is the wanted one"),
        *(pytest.param(under_way(state), id=f"under way, {state}") for state in StepState),
    ],
)
def test_nobody_else_costs_prometheus_a_history(status: ModelRolloutStatus) -> None:
    async def main() -> None:
        made = scene()
        found = await made.seen(body(status))
        assert (found.baseline, made.server.ranges) == (None, [])

    play(main)


def test_a_rollout_at_rest_asks_for_no_run() -> None:
    async def main() -> None:
        made = scene()
        await made.seen(body(at_rest(REVISION)))
        assert made.registry.asked == []

    play(main)


def test_one_that_is_deleted_asks_for_nothing() -> None:
    async def main() -> None:
        made = scene()
        gone = body(at_rest())
        gone["metadata"]["deletionTimestamp"] = "2026-01-05T09:00:00Z"
        found = await made.seen(gone)
        assert (found.baseline, found.runs, made.registry.asked, made.server.ranges) == (None, {}, [], [])

    play(main)


def test_a_reverted_revision_that_stays_out_costs_no_history() -> None:
    async def main() -> None:
        made = scene()
        await made.seen(body(rolled_back()))
        assert made.server.ranges == []

    play(main)


def test_what_was_read_is_good_for_a_minute() -> None:
    async def main() -> None:
        made = scene()
        counts = []
        for wait in (0.0, KNOWN_FOR.total_seconds() - 1, 1.0):
            await asyncio.sleep(wait)
            await made.seen(body(at_rest()))
            counts.append((len(made.server.ranges), len(made.registry.asked)))
        assert counts == [(2, 2), (2, 2), (4, 4)]

    play(main)


def test_of_a_rollout_that_is_gone_nothing_is_remembered() -> None:
    async def main() -> None:
        made = scene()
        counts = []
        for forget in (False, False, True):
            if forget:
                made.observer.forget(SHOP)
            await made.seen(body(at_rest()))
            counts.append((made.objects.dry_runs, len(made.server.ranges)))
        assert counts == [(1, 2), (1, 2), (2, 4)]

    play(main)


def test_a_run_that_nobody_has_asked_for_in_a_long_time_is_forgotten() -> None:
    async def main() -> None:
        made = scene()
        await made.seen(body(at_rest()))
        await asyncio.sleep((KNOWN_FOR + RUN_KEPT_FOR).total_seconds() + 1)
        others = at_rest().model_copy(update={"stable_run_id": "r8"})
        assert set((await made.seen(body(others))).runs) == {"r8", "r2"}
        made.registry.error = "MLflow cannot be reached"
        assert set((await made.seen(body(at_rest()))).runs) == {"r2"}

    play(main)


def test_a_baseline_that_cannot_be_read_is_told_and_asked_for_again_soon() -> None:
    async def main() -> None:
        made = scene()
        made.server.error = "Prometheus cannot be reached: ConnectionError"
        found = await made.seen(body(at_rest()))
        assert found.baseline is not None and found.baseline.error == made.server.error
        unknown = [check for check in found.checks if check.passed is None]
        assert [(check.name, check.reason) for check in unknown] == [("feasibility", "BaselineUnknown")]
        asked, made.server.error = len(made.server.ranges), None
        await made.seen(body(at_rest()))
        assert len(made.server.ranges) == asked
        await asyncio.sleep(ASK_AGAIN.total_seconds())
        found = await made.seen(body(at_rest()))
        assert found.baseline is not None and found.baseline.error is None

    play(main)


def test_without_a_server_for_its_namespace_nothing_starts() -> None:
    async def main() -> None:
        made = scene(has_server=False)
        found = await made.seen(body(at_rest()))
        assert found.baseline is not None
        assert found.baseline.error == "no Prometheus server is configured for namespace shop"
        await made.seen(body(under_way()))
        assert made.observer.book.queries() == {}

    play(main)


def test_without_mlflow_no_run_is_read() -> None:
    async def main() -> None:
        made = scene(has_registry=False)
        assert (await made.seen(body(at_rest()))).runs == {}
        assert (await made.seen(body(under_way()))).runs == {}

    play(main)


# --- Evidence -----------------------------------------------------------------------------------------------


def test_from_the_moment_that_a_split_is_live_evidence_is_followed() -> None:
    async def main() -> None:
        made = scene()
        await made.seen(body(at_rest()))
        assert made.observer.book.queries() == {}
        found = await made.seen(body(under_way()))
        assert made.observer.book.queries() == {"main": {"bad": [SHOP], "all": [SHOP]}}
        assert set(found.evidence) == {"errors"}
        assert found.evidence["errors"].origin == START + TICK
        await made.seen(body(at_rest(REVISION)))
        assert made.observer.book.queries() == {}

    play(main)


def test_what_is_forgotten_is_not_asked_any_more() -> None:
    async def main() -> None:
        made = scene()
        await made.seen(body(under_way()))
        made.observer.forget(SHOP)
        assert made.observer.book.queries() == {}

    play(main)


# --- Nobody under way waits for MLflow ------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(StepState))
def test_mlflow_that_hangs_delays_nobody_under_way(state: StepState) -> None:
    async def main() -> None:
        made = scene()
        made.registry.wait = never
        found = await made.seen(body(under_way(state)))
        assert (found.runs, made.registry.verified) == ({}, [])
        await made.seen(body(under_way(state)))
        assert len(made.registry.asked) == 2  # one try each is enough while it hangs

    play(main)


def test_a_breach_waits_for_no_run_of_the_revision_that_comes_next() -> None:
    async def main() -> None:
        made = scene()
        made.registry.wait = never
        other = body(under_way(), model={"name": "ranker", "version": "3", "runId": "r3"})
        await made.seen(other)

    play(main)


def test_prometheus_that_hangs_delays_nobody_under_way() -> None:
    async def main() -> None:
        made = scene()
        made.server.wait = never
        await made.seen(body(under_way()))

    play(main)


def test_a_run_that_comes_late_is_there_the_next_time() -> None:
    async def main() -> None:
        made = scene()
        made.registry.wait = lambda: asyncio.sleep(3)
        assert (await made.seen(body(under_way()))).runs == {}
        await asyncio.sleep(4)
        assert set((await made.seen(body(under_way()))).runs) == {"r1", "r2"}

    play(main)


def test_a_run_that_was_read_is_used_while_mlflow_is_away() -> None:
    async def main() -> None:
        made = scene()
        await made.seen(body(at_rest()))
        await asyncio.sleep(10 * KNOWN_FOR.total_seconds())
        made.registry.wait = never
        assert set((await made.seen(body(under_way()))).runs) == {"r1", "r2"}

    play(main)


def test_a_start_waits_for_the_answer() -> None:
    async def main() -> None:
        made = scene()
        made.registry.wait = lambda: asyncio.sleep(3)
        found = await made.seen(body(at_rest()), within=10)
        assert set(found.runs) == {"r1", "r2"}

    play(main)


def test_a_run_that_cannot_be_read_is_unknown_and_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        made = scene()
        made.registry.error = "MLflow answered 500 to runs/get"
        found = await made.seen(body(at_rest()))
        assert found.runs == {}
        assert {check.reason for check in found.checks if check.passed is None} == {"RunNotRead"}
        made.registry.error = None
        assert set((await made.seen(body(at_rest()))).runs) == {"r1", "r2"}

    play(main)
    assert "run r2 not read: MLflow answered 500 to runs/get" in [record.message for record in caplog.records]


def test_under_way_the_run_is_that_of_the_deployment() -> None:
    async def main() -> None:
        made = scene()
        edited = body(under_way(), model={"name": "ranker", "version": "3", "runId": "r3"})
        await made.seen(edited)
        assert {run_id for run_id, _ in made.registry.asked} == {"r1", "r2"}

    play(main)
