"""Evidence of deployments in MLflow: written from status, whatever dies or is away; no revert is later for it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from ops_commander.api.evidence import AliasState, AliasStatus, EvidenceStatus
from ops_commander.api.policy import DEFAULT_POLICY, RolloutPolicySpec
from ops_commander.api.v1alpha1 import Outcome, StepState
from ops_commander.core import names
from ops_commander.core.evidence_kept import OUTBOX_LIMIT
from ops_commander.core.evidence_wanted import RunEnd
from ops_commander.runtime.evidence_writer import EvidenceWriter
from ops_commander.runtime.workqueue import Key
from tests.unit.kept_world import KEY, KeptWorld, Server
from tests.unit.world import TICK, RolloutBuilder, World, full, rollout, shadow

ONLY = [shadow(), full()]


def waiting_rollout() -> RolloutBuilder:
    """Promotions wait for evidence."""
    return rollout().steps(*ONLY).policy(evidence="Required")


def kept(world: KeptWorld, outcome: Outcome, limit: float = 600) -> KeptWorld:
    """The deployment under way has ended so, and all of its evidence is written."""
    world.run(0.5).run_until(lambda: world.outcome is outcome and not world.status.outbox, limit)
    return world


def alias_of(world: World) -> AliasStatus | None:
    return world.deployment.evidence.alias if world.deployment.evidence else None


def is_at(world: World, state: StepState, step: str) -> Callable[[], bool]:
    return lambda: world.step is not None and (world.state, world.step.name) == (state, step)


# --- What is written ----------------------------------------------------------------------------------------


def test_a_deployment_that_completes_has_one_finished_run_with_all_of_its_evidence() -> None:
    world = kept(KeptWorld(waiting_rollout()).serve().want("2"), Outcome.COMPLETED)

    deployment, run = world.deployment, world.mlflow.run_of(world.deployment.id)
    assert run.marker == f"{world.uid}/{deployment.id}"
    assert run.end == (RunEnd.FINISHED, deployment.ended_at)
    assert run.params["model_version"] == "2" and run.params["stable_version"] == "1"
    assert run.tags["ops-commander.outcome"] == "Completed"
    evidence = deployment.evidence
    assert evidence is not None and evidence.is_complete and evidence.error is None
    assert world.mlflow.runs[deployment.deploy_run_id or ""] is run
    assert {item.path: item.sha256 for item in evidence.files} == {
        path: hashlib.sha256(data).hexdigest() for path, data in run.files.items()
    }
    assert {"deployment.json", "decisions.jsonl", "evidence.json", "reports/execution_report.md"} <= set(run.files)
    lines = [json.loads(line) for line in run.files["decisions.jsonl"].splitlines()]
    assert len(lines) == len(deployment.transitions)
    assert {line["deploymentId"] for line in lines} == {deployment.id}
    assert "EvidenceKept" in world.reasons()
    assert world.status.history[0].deploy_run_id == deployment.deploy_run_id


def test_the_series_of_objectives_is_in_the_run_at_the_ticks_that_were_judged() -> None:
    builder = rollout().steps(shadow(least="200s", most="400s"), full()).policy(evidence="Required")
    world = kept(KeptWorld(builder).serve().want("2", errors=0.002), Outcome.COMPLETED, 900)

    run = world.mlflow.run_of(world.deployment.id)
    series = [point for point in run.points if point.key == "objective/error-rate/observed"]
    assert len(series) >= 4
    assert [point.step for point in series] == [
        int((point.at - world.deployment.started_at).total_seconds()) for point in series
    ]
    assert all(point.at.timestamp() % TICK.total_seconds() == 0 for point in series)
    assert all(0 <= point.value < 0.01 for point in series)
    for end in ("low", "high", "samples"):
        assert any(point.key == f"objective/error-rate/{end}" for point in run.points), end


def test_a_deployment_that_is_reverted_has_a_failed_run_with_the_times_of_the_revert() -> None:
    world = kept(KeptWorld(waiting_rollout()).serve().want("2", errors=0.2), Outcome.ROLLED_BACK)

    run = world.mlflow.run_of(world.deployment.id)
    assert run.end is not None and run.end[0] is RunEnd.FAILED
    values = {point.key: point.value for point in run.points}
    assert world.status.rollback is not None
    assert values["rollback/traffic_seconds"] == world.status.rollback.traffic_seconds
    assert "reports/post_incident_report.md" in run.files
    assert run.tags["mlflow.note.content"].startswith("ObjectiveBreached")


def test_a_deployment_that_gave_way_is_written_as_it_was_although_the_next_one_is_under_way() -> None:
    world = KeptWorld(waiting_rollout()).serve().want("2")
    world.run_until(is_at(world, StepState.RUNNING, "shadow"))
    given_up = world.deployment.id
    world.want("3")

    kept(world, Outcome.COMPLETED)

    run = world.mlflow.run_of(given_up)
    assert run.end is not None and run.end[0] is RunEnd.KILLED
    recorded = json.loads(run.files["deployment.json"])
    assert recorded["status"]["deployment"]["modelVersion"] == "2"
    assert world.mlflow.run_of(world.deployment.id).end is not None


def test_no_secret_of_the_pod_template_is_written() -> None:
    template = {"spec": {"containers": [{"name": "server", "image": "r:1", "env": [{"name": "K", "value": "s3cret"}]}]}}
    world = KeptWorld(rollout().with_(template=template)).serve()

    assert not any(b"s3cret" in data for run in world.mlflow.runs.values() for data in run.files.values())


def test_the_run_belongs_under_the_run_that_the_rollout_names() -> None:
    world = KeptWorld(waiting_rollout())
    world.annotate(names.PARENT_RUN, "plan-run")
    world.serve()

    assert world.mlflow.run_of(world.deployment.id).tags["mlflow.parentRunId"] == "plan-run"


def test_what_is_written_is_not_written_again() -> None:
    world = kept(KeptWorld(waiting_rollout()).serve().want("2"), Outcome.COMPLETED)
    world.run(60)
    asked, commits = world.mlflow.asked, world.commits

    world.run(600)
    world.kill()
    world.run(600)

    assert (world.mlflow.asked, world.commits) == (asked, commits)


# --- What waits for it, and what does not -------------------------------------------------------------------


def test_a_promotion_waits_until_what_was_judged_last_is_written() -> None:
    world = KeptWorld(waiting_rollout()).serve().want("2")
    world.run_until(is_at(world, StepState.RUNNING, "full"))
    world.mlflow.up = False
    world.run(45)
    assert (world.state, world.status.reason) == (StepState.RUNNING, "WritingEvidence")
    assert "ClientConnectorError" in (world.status.message or "")
    assert "EvidenceDelayed" in world.reasons()

    world.mlflow.up = True
    world.run_until(is_at(world, StepState.SWITCHING, "full"), 60)

    recorded = json.loads(world.mlflow.run_of(world.deployment.id).files["deployment.json"])
    assert recorded["status"]["step"]["provedAt"]
    assert recorded["status"]["verdict"] == "Pass"
    kept(world, Outcome.COMPLETED)
    assert world.deployment.kept_at is not None


def test_a_promotion_ordered_by_a_person_waits_too() -> None:
    world = KeptWorld(waiting_rollout()).serve().want("2")
    world.run_until(is_at(world, StepState.RUNNING, "full"))
    world.mlflow.up = False
    world.annotate(names.PROMOTE, world.deployment.id)
    world.run(10)
    assert (world.state, world.status.reason) == (StepState.RUNNING, "WritingEvidence")

    world.mlflow.up = True
    kept(world, Outcome.COMPLETED)


def test_without_evidence_at_the_deadline_the_step_reverts() -> None:
    world = KeptWorld(waiting_rollout()).serve().want("2")
    world.run_until(is_at(world, StepState.RUNNING, "full"))
    world.mlflow.up = False
    world.run_until(lambda: world.outcome is Outcome.ROLLED_BACK, 200)

    assert world.status.rollback is not None
    assert "its evidence was not written to MLflow" in world.status.rollback.message
    world.mlflow.up = True
    kept(world, Outcome.ROLLED_BACK)


def test_a_promotion_waits_for_nothing_where_the_policy_says_so_or_there_is_no_mlflow() -> None:
    best_effort = KeptWorld(rollout().steps(*ONLY), Server(up=False))
    best_effort.run_until(lambda: best_effort.status.stable_version == "1")
    best_effort.want("2").run(0.5).run_until(lambda: best_effort.outcome is Outcome.COMPLETED)
    assert "WritingEvidence" not in {decision.reason for _, decision in best_effort.decisions}

    without = waiting_rollout().live()
    without.want_version("2")
    without.run(1).run_until(lambda: without.outcome is Outcome.COMPLETED)
    assert without.status.outbox == []


def test_a_revert_takes_as_long_with_mlflow_away_as_without_mlflow() -> None:
    times = []
    for world in (KeptWorld(waiting_rollout(), Server(up=False)), World(waiting_rollout().body)):
        world.run_until(lambda world=world: world.status.stable_version == "1")  # type: ignore[misc]
        world.health_of("2").errors = 0.2
        world.want_version("2")
        world.run(1).run_until(lambda world=world: world.outcome is Outcome.ROLLED_BACK)  # type: ignore[misc]
        assert world.status.rollback is not None
        times.append((world.status.rollback.traffic_seconds, world.status.rollback.replica_set_seconds))

    assert times[0] == pytest.approx(times[1], abs=0.1)


# --- MLflow away, and processes that die --------------------------------------------------------------------


def test_with_mlflow_away_for_an_hour_nothing_is_lost_and_it_is_not_asked_all_the_time() -> None:
    world = KeptWorld(rollout().steps(*ONLY)).serve()
    world.mlflow.up, asked = False, world.mlflow.asked
    world.want("2").run(0.5).run_until(lambda: world.outcome is Outcome.COMPLETED)
    second = world.deployment.id
    world.want("3", errors=0.2).run(1).run_until(lambda: world.outcome is Outcome.ROLLED_BACK)
    world.run(3600)

    assert world.mlflow.asked - asked < 2 * 70, "two deployments, once a minute each"
    assert [entry.deployment_id for entry in world.status.outbox] == [second, world.deployment.id]
    world.mlflow.up = True
    world.run_until(lambda: not world.status.outbox, 70)
    assert world.mlflow.run_of(second).end is not None
    assert json.loads(world.mlflow.run_of(second).files["deployment.json"])["status"]["verdict"] == "Pass"
    assert world.mlflow.run_of(world.deployment.id).tags["ops-commander.outcome"] == "RolledBack"


def _begun(world: KeptWorld, version: str) -> None:
    """The version under way gives way to this one."""
    world.want(version).run_until(lambda: world.step is not None and world.deployment.model_version == version, 60)
    world.run(1)


def test_a_full_outbox_holds_the_next_start_where_evidence_is_required() -> None:
    world = KeptWorld(waiting_rollout()).serve()
    world.mlflow.up = False
    for number in range(OUTBOX_LIMIT):
        _begun(world, str(number + 10))
    world.want("2").run(30)

    assert (len(world.status.outbox), world.status.step) == (OUTBOX_LIMIT, None)
    assert world.status.reason == "WritingEvidence"
    world.mlflow.up = True
    kept(world, Outcome.COMPLETED)
    assert len(world.mlflow.runs) == OUTBOX_LIMIT + 2
    assert all(run.end for run in world.mlflow.runs.values())


def test_where_evidence_is_best_effort_the_oldest_gives_way_and_that_is_said() -> None:
    world = KeptWorld(rollout().steps(*ONLY), Server(up=False))
    world.run_until(lambda: world.status.stable_version == "1")
    first = world.deployment.id
    for number in range(OUTBOX_LIMIT + 1):
        _begun(world, str(number + 10))

    assert len(world.status.outbox) == OUTBOX_LIMIT
    assert first not in {entry.deployment_id for entry in world.status.outbox}
    assert "EvidenceLost" in world.reasons()


def _life(server: Server, dies_before: int | None = None) -> KeptWorld:
    world = KeptWorld(waiting_rollout().with_(model={"name": "ranker", "version": "1"}), server)
    world.dies_before_write = dies_before
    world.run_until(lambda: world.status.stable_version == "1")
    world.edit(
        model={"name": "ranker", "version": "2", "promotedAlias": "champion"},
        template={"spec": {"containers": [{"name": "server", "image": "ranker:2"}]}},
    )
    world.run(1).run_until(lambda: world.outcome is Outcome.COMPLETED and not world.status.outbox)
    return world


def _is_whole(world: KeptWorld, undisturbed: KeptWorld) -> None:
    assert [entry.outcome for entry in world.status.history] == [Outcome.COMPLETED] * 2
    assert len(world.mlflow.runs) == 2
    for entry in world.status.history:
        run = world.mlflow.run_of(entry.deployment_id)
        assert run.end is not None and run.end[0] is RunEnd.FINISHED
        assert set(run.files) == set(undisturbed.mlflow.run_of(entry.deployment_id).files)
        keys = [(point.key, point.at) for point in run.points]
        assert len(set(keys)) == len(keys), "a value was written twice for one tick"
    assert world.mlflow.aliases == {"champion": "2"}
    alias = alias_of(world)
    assert alias is not None and (alias.state, alias.version) == (AliasState.MOVED, "2")


def test_killed_right_after_any_write_to_mlflow_one_run_has_everything_once() -> None:
    undisturbed = _life(Server(aliases={"champion": "1"}))
    _is_whole(undisturbed, undisturbed)
    assert undisturbed.mlflow.writes > 20
    for write in range(1, undisturbed.mlflow.writes + 1):
        world = _life(Server(aliases={"champion": "1"}, dies_after_write=write))
        assert world.mlflow.dies_after_write is None, write
        _is_whole(world, undisturbed)


def test_killed_before_any_write_to_the_cluster_one_run_has_everything_once() -> None:
    undisturbed = _life(Server(aliases={"champion": "1"}))
    for write in range(0, undisturbed.writes, 3):
        _is_whole(_life(Server(aliases={"champion": "1"}), dies_before=write), undisturbed)


def test_a_deployment_that_mlflow_refuses_does_not_keep_the_next_one_from_being_written() -> None:
    world = KeptWorld(waiting_rollout()).serve().want("2")
    world.run_until(is_at(world, StepState.RUNNING, "shadow"))
    refused = world.deployment.id
    world.mlflow.run_of(refused).params["model_version"] = "another"
    world.want("3").run(0.5).run_until(lambda: world.outcome is Outcome.COMPLETED)

    assert world.mlflow.run_of(world.deployment.id).params["model_version"] == "3"
    entry = next(entry for entry in world.status.outbox if entry.deployment_id == refused)
    assert "param model_version is 'another' already" in (entry.evidence.error or "")


# --- The alias of the registered model ----------------------------------------------------------------------


def aliased(server: Server, **health: float) -> KeptWorld:
    world = KeptWorld(waiting_rollout(), server).serve()
    for name, value in health.items():
        setattr(world.health_of("2"), name, value)
    world.edit(
        model={"name": "ranker", "version": "2", "promotedAlias": "champion"},
        template={"spec": {"containers": [{"name": "server", "image": "ranker:2"}]}},
    )
    return world


@pytest.mark.parametrize("before", [{}, {"champion": "1"}, {"champion": "2"}])
def test_the_alias_is_moved_to_the_version_that_has_become_stable(before: dict[str, str]) -> None:
    world = kept(aliased(Server(aliases=before)), Outcome.COMPLETED)

    assert world.mlflow.aliases == {"champion": "2"}
    assert "AliasMoved" in world.reasons()


def test_the_alias_is_not_moved_before_the_version_is_stable() -> None:
    world = aliased(Server(aliases={"champion": "1"}))
    world.run_until(is_at(world, StepState.RETURNING, "full"))

    assert world.mlflow.aliases == {"champion": "1"}


def test_an_alias_that_somebody_has_set_to_another_version_is_left_there() -> None:
    world = kept(aliased(Server(aliases={"champion": "4"})), Outcome.COMPLETED)

    assert world.mlflow.aliases == {"champion": "4"}
    alias = alias_of(world)
    assert alias is not None and (alias.state, alias.previous) == (AliasState.KEPT, "4")
    assert "AliasKept" in world.reasons()


def test_after_a_revert_an_alias_on_the_reverted_version_goes_back_to_the_stable_one() -> None:
    world = kept(aliased(Server(aliases={"champion": "2"}), errors=0.2), Outcome.ROLLED_BACK)

    assert world.mlflow.aliases == {"champion": "1"}
    assert "AliasRestored" in world.reasons()


def test_after_a_revert_any_other_alias_stays() -> None:
    world = kept(aliased(Server(aliases={"champion": "4"}), errors=0.2), Outcome.ROLLED_BACK)

    assert world.mlflow.aliases == {"champion": "4"}
    assert world.deployment.evidence is not None and world.deployment.evidence.alias is None


def test_a_version_that_is_not_registered_does_not_hold_evidence_up() -> None:
    world = kept(aliased(Server(versions={"1"}, aliases={"champion": "1"})), Outcome.COMPLETED)

    alias = alias_of(world)
    assert alias is not None and alias.state is AliasState.REFUSED
    assert "AliasRefused" in world.reasons()


def test_naming_an_alias_starts_no_deployment() -> None:
    world = KeptWorld(waiting_rollout()).serve()
    world.edit(model={"name": "ranker", "version": "1", "promotedAlias": "champion"})
    world.run(60)

    assert world.status.deployments == 1


# --- The writer itself --------------------------------------------------------------------------------------


def test_what_is_remembered_goes_with_the_deployment_and_with_the_rollout() -> None:
    world = kept(KeptWorld(waiting_rollout()).serve().want("2"), Outcome.COMPLETED)
    world.run(30)
    assert asyncio.run(_asked(world)) == {}
    world.writer.forget(KEY)
    assert world.writer.under_way() == []


async def _asked(world: KeptWorld) -> dict[str, EvidenceStatus]:
    return dict(world.writer.of(KEY, World.snapshot(world)))


def test_a_process_that_may_not_lead_any_more_writes_nothing() -> None:
    world, server = waiting_rollout().created(), Server()
    world.run_until(lambda: world.status.deployment is not None)
    later: list[float] = []

    async def ask() -> None:
        writer = EvidenceWriter(
            server,
            server,
            lambda: world.now,
            lambda _key: None,
            lambda _key, delay: later.append(delay),
            may_write=lambda: False,
        )
        writer.of(KEY, world.snapshot())
        await asyncio.gather(*writer.under_way())

    asyncio.run(ask())

    assert (server.runs, later) == ({}, [2.0])


class StandingServer(Server):
    """MLflow that does not answer."""

    begun: asyncio.Event

    async def ensure_run(self, *_: object) -> str:
        self.begun.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody has answered")


def test_what_is_being_written_of_a_rollout_is_cut_off_once_another_process_serves_it() -> None:
    world, server = waiting_rollout().created(), StandingServer()
    world.run_until(lambda: world.status.deployment is not None)
    woken: list[Key] = []

    async def let_go() -> None:
        server.begun = asyncio.Event()
        writer = EvidenceWriter(server, server, lambda: world.now, woken.append, lambda key, _delay: woken.append(key))
        writer.of(KEY, world.snapshot())
        await server.begun.wait()
        tasks = writer.under_way()

        writer.let_go(KEY)
        writer.of(KEY, world.snapshot())  # it comes back, and is let go before anything has begun
        tasks += writer.under_way()
        writer.let_go(KEY)

        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [True, True] and writer.under_way() == []

    asyncio.run(let_go())

    assert (server.runs, woken) == ({}, [])


def test_the_shipped_policy_waits_for_evidence_and_a_policy_of_ones_own_may_not() -> None:
    assert DEFAULT_POLICY.evidence == "Required"
    own = RolloutPolicySpec.model_validate(
        {"objectives": [{"name": "e", "ratio": {"bad": "b", "total": "t"}, "max": 1}]}
    )
    assert own.evidence == "BestEffort"
    assert timedelta(0) < own.hold_after
