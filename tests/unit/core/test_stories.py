"""What happens to a rollout, told in the simulated cluster: the good way, and each way in which it can go wrong."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from ops_commander.api.conditions import ConditionType
from ops_commander.api.v1alpha1 import ModelRolloutStatus, Outcome, Phase, StepState, Verdict
from ops_commander.core import names
from ops_commander.core.decide import PRESSING, is_pressing
from ops_commander.core.plans.naming import OWN_STEPS
from ops_commander.core.question import question_of
from ops_commander.core.situation import CATCHES_UP_WITHIN, Situation
from ops_commander.core.snapshot import Check
from ops_commander.core.story import worth_writing
from tests.unit.world import POLICY, TICK, Health, World, canary, full, rollout, shadow

ERRORS = {
    "name": "error-rate",
    "slo": "S3",
    "ratio": {"bad": "errors_total", "total": "requests_total"},
    "max": 0.01,
}
ABSENT = {"name": "absent", "ratio": {"bad": "nothing_total", "total": "nothing_total"}, "max": 0.1, "role": "Advisory"}
RISK = {"name": "integration-risk", "risk": {}, "max": 0.6, "role": "Advisory"}
STABLE, CANDIDATE = names.stable_service_name("ranker"), names.candidate_service_name("ranker")
RTO = 120.0
SWITCHES = "while the stable Service switches"

WAYPOINTS = [
    pytest.param("shadow", StepState.CLEARING, id="while the route is cleared"),
    pytest.param("shadow", StepState.PREPARING, id="while the first pods start"),
    pytest.param("shadow", StepState.SHIFTING, id="while shadow is wanted"),
    pytest.param("shadow", StepState.RUNNING, id="in shadow"),
    pytest.param("canary 5%", StepState.PREPARING, id="between shadow and 5%"),
    pytest.param("canary 5%", StepState.SHIFTING, id="while 5% is wanted"),
    pytest.param("canary 5%", StepState.RUNNING, id="at 5%"),
    pytest.param("full", StepState.PREPARING, id="between 5% and full"),
    pytest.param("full", StepState.SHIFTING, id="while full is wanted"),
    pytest.param("full", StepState.RUNNING, id="while it bakes"),
    pytest.param("full", StepState.SWITCHING, id=SWITCHES),
    pytest.param("full", StepState.RETURNING, id="while the route returns"),
]
UNDER_TRAFFIC = [item for item in WAYPOINTS if item.values[1] not in (StepState.CLEARING,)][2:]


def phase(world: World) -> Phase:
    return world.status.phase


def is_running(world: World, step: str) -> bool:
    return world.step is not None and (world.step.name, world.state) == (step, StepState.RUNNING)


def ended(world: World, outcome: Outcome = Outcome.ROLLED_BACK, limit: float = 300) -> World:
    """Run to the end of the deployment that is under way or asked for."""
    return world.run(0.2).run_until(lambda: world.outcome is outcome, limit).run(15)


def assert_reverted(world: World, reason: str) -> None:
    """Version 1 has all traffic, version 2 no pod, and status says why and how fast."""
    assert world.outcome is Outcome.ROLLED_BACK
    assert world.deployment.reason == reason
    assert world.weights == {STABLE: 100, CANDIDATE: 0}
    assert world.share("1") == pytest.approx(1.0)
    assert (world.pods("1"), world.pods("2")) == (2, 0)
    rollback = world.status.rollback
    assert rollback is not None and rollback.reason == reason
    assert rollback.traffic_seconds is not None and rollback.traffic_seconds <= RTO
    assert rollback.replica_set_seconds is not None and rollback.replica_set_seconds <= RTO
    assert world.status.phase is Phase.ROLLED_BACK


# --- The good way -------------------------------------------------------------------------------------


def test_the_first_version_goes_live_directly() -> None:
    world = rollout().created()

    world.run_until(lambda: world.status.phase is Phase.LAUNCHING).run(2)
    assert world.route is None
    ended(world, Outcome.COMPLETED)

    assert world.share("1") == pytest.approx(1.0)
    assert phase(world) is Phase.COMPLETED
    assert world.reasons() == ["DeploymentStarted", "CapacityReady", "Completed"]


def test_a_good_version_goes_through_shadow_5_percent_and_full() -> None:
    world = rollout().trying()
    started = world.now

    ended(world, Outcome.COMPLETED)

    shares = [round(item.shares.get(world.revision("2"), 0.0), 2) for item in world.flow]
    assert shares == [0.0, 0.05, 1.0]
    assert world.status.stable_version == "2"
    assert (world.pods("1"), world.pods("2")) == (0, 2)
    assert world.failed() == 0
    assert [record.name for record in world.deployment.steps] == ["shadow", "canary 5%", "full"]
    assert world.reasons(started) == [
        "DeploymentStarted",
        "CandidateStarting",
        *["CapacityReady", "TrafficShifting", "StepReached", "StepCompleted"] * 2,
        *["CapacityReady", "TrafficShifting", "StepReached", "PromotionStarted"],
        "StableServiceSwitched",
        "TrafficReturning",
        "Completed",
    ]


def test_the_stable_pods_stay_warm_until_the_bake_has_passed() -> None:
    world = rollout().at("full", StepState.RUNNING)

    while world.outcome is None:
        assert world.pods("1") == 2
        world.run(1)

    assert world.outcome is Outcome.COMPLETED


def test_the_old_version_keeps_its_pods_for_the_drain() -> None:
    world = rollout().with_(drain="8s").steps(full(bake="1s")).trying()
    world.run_until(lambda: world.status.stable_version == "2")
    switched = world.now

    world.run_until(lambda: world.pods("1") == 0, 20)

    assert world.now - switched >= timedelta(seconds=8)
    assert world.run(20).failed() == 0


def test_without_a_drain_no_request_fails_either() -> None:
    for errors in (0.0, 0.05):
        world = rollout().with_(drain="0s").steps(canary(5), full()).trying(errors=errors)

        ended(world, Outcome.ROLLED_BACK if errors else Outcome.COMPLETED)

        assert world.failed() == 0


@pytest.mark.parametrize(
    ("replicas", "expected"), [(1, {"canary 5%": 1, "full": 1}), (30, {"canary 5%": 2, "full": 30})]
)
def test_the_candidate_has_as_many_pods_as_its_share_needs(replicas: int, expected: dict[str, int]) -> None:
    world = rollout().replicas(replicas).steps(canary(5), full()).trying()

    for step, pods in expected.items():
        world.run_until(partial(is_running, world, step))
        assert world.pods("2") == pods


def test_shadow_can_mirror_a_part() -> None:
    world = rollout().steps(shadow(20), full()).at("shadow")

    assert world.route is not None
    [rule] = world.route["spec"]["rules"]
    assert rule["filters"][0]["requestMirror"]["percent"] == 20
    assert world.answered("2") == 0


def test_nothing_is_written_while_nothing_changes() -> None:
    world = ended(rollout().trying(), Outcome.COMPLETED)
    writes, decisions = world.writes, len(world.decisions)
    world.wake()

    world.run(600)

    assert world.writes == writes
    assert len(world.decisions) <= decisions + 1
    assert world.decisions[-1][1].status is None


def test_while_a_step_dwells_numbers_are_written_now_and_then_only() -> None:
    world = rollout().steps(canary(5, least="300s", most="600s"), full()).at("canary 5%").run(60)
    commits = world.commits

    world.run(120)

    assert world.commits - commits <= 120 / 15 + 1


def test_a_revert_that_the_router_has_taken_by_the_time_of_its_commit_is_written_twice_in_all() -> None:
    world = rollout().steps(canary(5), full()).at("canary 5%").run(10)
    world.books_wait, world.health["2"].errors, began = 0.5, 0.3, world.now

    world.run_until(lambda: world.status.rollback is not None)
    commits, decided = world.commits, world.now
    assert world.status.rollback is not None and world.status.rollback.traffic_reverted_at is not None
    assert_reverted(ended(world), "ObjectiveBreached")
    world.run(30)

    assert world.commits == commits + 1
    assert world.reasons(began) == ["RollbackStarted", "TrafficReverted", "RolledBack"]
    rollback = world.status.rollback
    assert rollback is not None and rollback.traffic_reverted_at and rollback.replica_set_reverted_at
    drained = rollback.traffic_reverted_at + world.spec.drain
    assert drained <= rollback.replica_set_reverted_at <= drained + timedelta(seconds=2.5)
    assert len([moment for moment, _ in world.decisions if moment > decided]) < 15, (
        "a drain is not looked at all the time"
    )


def test_a_step_that_is_reached_is_written_once() -> None:
    world = rollout().steps(canary(5), full()).at("canary 5%")
    commits = world.commits

    world.run(1)

    assert world.commits == commits


def test_a_transition_is_written_with_what_is_waited_for_from_then_on() -> None:
    world = rollout().steps(canary(5), canary(50), full()).trying()
    seen: list[tuple[StepState | None, str | None, str | None]] = []
    world.watches.append(lambda world, _: seen.append((world.state, world.status.reason, world.status.message)))

    ended(world, Outcome.COMPLETED)

    told = [item for item, _ in itertools.groupby(seen)]
    shifting = [message for state, _, message in told if state is StepState.SHIFTING]
    assert len(shifting) == 3 and not any("pods are Ready" in (message or "") for message in shifting)


def test_evidence_of_a_step_is_followed_as_soon_as_it_is_reached() -> None:
    world = rollout().steps(canary(5, least="300s", most="600s"), full()).trying(errors=0.3)
    world.run_until(lambda: is_running(world, "canary 5%"))
    reached = world.now

    world.run_until(lambda: world.status.rollback is not None, 60)

    assert (world.now - reached).total_seconds() < 16


def test_an_outage_is_not_a_stream_of_writes() -> None:
    world = rollout().steps(shadow(least="300s", most="600s"), full()).at("shadow").run(60)
    world.metrics_up = False
    world.run(30)
    commits = world.commits

    world.run(120)

    assert world.commits - commits <= 1


@pytest.mark.parametrize(
    ("reason", "is_news"), [("InsufficientSample", False), ("Straddles", False), ("NoData", True), ("CatchingUp", True)]
)
def test_a_value_that_goes_to_and_fro_at_its_target_is_no_news(reason: str, is_news: bool) -> None:
    world = rollout().steps(canary(5, least="300s", most="600s"), full()).at("canary 5%").run(60)
    status = world.status
    assert status.objectives[0].last_tick is not None

    def with_reason(reason: str) -> ModelRolloutStatus:
        rows = [row.model_copy(update={"reason": reason, "message": reason}) for row in status.objectives]
        return status.model_copy(update={"objectives": rows, "reason": reason, "message": reason})

    soon = Situation(world.snapshot(), status.objectives[0].last_tick + timedelta(seconds=1))
    assert worth_writing(with_reason("Straddles"), with_reason(reason), soon) is is_news


def test_a_new_process_does_not_write_that_it_has_yet_to_read_what_the_one_before_knew() -> None:
    world = rollout().steps(canary(5, least="300s", most="600s"), full()).at("canary 5%").run(120)
    commits, told = world.commits, world.status

    world.kill()
    world.run(25)

    assert world.observing_since > world.now - timedelta(seconds=25)
    assert (world.commits, world.status) == (commits, told)


def test_a_breach_that_a_new_process_finds_while_it_still_reads_others_reverts() -> None:
    world = rollout().steps(canary(5, least="300s", most="600s"), full()).policy(objectives=[ERRORS, ABSENT]).trying()
    world.run_until(lambda: is_running(world, "canary 5%")).run(120)
    world.kill()
    world.health["2"].errors = 0.5
    world.run_until(lambda: world.state is StepState.REVERTING, 60)

    assert world.now - world.observing_since < CATCHES_UP_WITHIN
    assert_reverted(ended(world), "ObjectiveBreached")


def test_evidence_that_a_new_process_cannot_find_is_told_after_a_minute() -> None:
    builder = rollout().steps(canary(5, least="300s", most="600s"), full()).policy(holdAfter="200s")
    world = builder.at("canary 5%").run(120)
    assert world.status.verdict is Verdict.PASS
    world.series_exist = False
    world.kill()

    world.run_until(lambda: world.status.verdict is Verdict.INCONCLUSIVE, 100)

    assert CATCHES_UP_WITHIN <= world.now - world.observing_since <= CATCHES_UP_WITHIN + TICK


@pytest.mark.parametrize(
    ("policy", "annotation", "dwells"),
    [
        pytest.param({}, "any", True, id="a pass leads nowhere before"),
        pytest.param({}, OWN_STEPS, False, id="a plan that holds the step waits for it"),
        pytest.param({"objectives": [ERRORS, RISK]}, "any", False, id="a risk is breached without any answer"),
    ],
)
def test_until_when_a_verdict_may_be_late(policy: dict[str, Any], annotation: str, dwells: bool) -> None:
    world = rollout().steps(canary(5, least="300s", most="600s"), full()).policy(**policy).at("canary 5%")
    world.annotate(annotation, "{}")
    question = question_of(world.snapshot())

    assert question is not None and world.step is not None and world.step.running_since is not None
    assert question.dwells_until == (world.step.running_since + timedelta(seconds=300) if dwells else None)


def test_what_a_new_process_cannot_steer_is_told_at_once() -> None:
    world = rollout().at("shadow", StepState.PREPARING)
    world.set_gateway(up=False)
    world.run_until(lambda: world.state is StepState.SHIFTING)
    world.kill(1.0)

    def is_told() -> bool:
        synced = world.condition(ConditionType.TRAFFIC_SYNCED)
        return synced is not None and synced.reason == "CannotSteer"

    world.run_until(is_told, 10)


@pytest.mark.parametrize("down_for", [3.0, 40.0])
def test_a_deadline_that_passes_before_all_is_read_again_waits_for_it(down_for: float) -> None:
    """Also where Prometheus comes back later than the operator."""
    builder = rollout().steps(canary(5, least="60s", most="90s"), full()).policy(holdAfter="600s")
    world = builder.at("canary 5%").run(50)
    world.metrics_up = False
    world.kill(down_for=60)
    world.run(60 + down_for)
    world.metrics_up = True

    world.run_until(lambda: is_running(world, "full"), 100)


def test_a_deadline_does_not_wait_for_what_cannot_be_read() -> None:
    world = rollout().steps(canary(5, least="60s", most="90s"), full()).policy(holdAfter="600s").at("canary 5%").run(50)
    world.metrics_up = False
    world.kill(down_for=60)

    world.run_until(lambda: world.state is StepState.REVERTING, 200)

    assert CATCHES_UP_WITHIN <= world.now - world.observing_since <= CATCHES_UP_WITHIN + TICK
    assert world.status.rollback is not None and world.status.rollback.reason == "DeadlineInconclusive"


# --- Breaches -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sick", "objective"),
    [(Health(errors=0.05), "error-rate"), (Health(latency=0.9), "p95-latency")],
    ids=["errors", "slow"],
)
@pytest.mark.parametrize(("step", "state"), [item for item in UNDER_TRAFFIC if item.id != SWITCHES])
def test_a_breach_reverts(step: str, state: StepState, sick: Health, objective: str) -> None:
    world = rollout().at(step, state)
    world.health["2"] = sick
    stay_in(world, state)
    world.after(40, lambda: world.set_gateway(up=True))

    ended(world)

    assert world.deployment.reason == "ObjectiveBreached"
    assert world.status.rollback is not None and world.status.rollback.objective == objective
    assert world.share("2") == 0
    assert (world.pods("1"), world.pods("2")) == (world.spec.replicas, 0)


def test_what_is_worse_than_stable_reverts_while_the_router_is_late_with_the_next_split() -> None:
    """What was counted under one split is not held against the next."""
    worse = {**ERRORS, "name": "error-ratio", "compare": "Ratio"}
    builder = (
        rollout()
        .steps(canary(5, least="60s", most="120s"), canary(50), full())
        .policy(objectives=[{**worse, "max": 2}])
    )
    world = builder.with_(progressDeadline="200s").trying(errors=0.004)
    world.health["1"].errors = 0.004
    world.run_until(lambda: is_running(world, "canary 5%")).run(50)
    world.set_gateway(up=False)
    world.run_until(lambda: world.state is StepState.SHIFTING)
    world.health["2"].errors = 0.5

    world.after(60, lambda: world.set_gateway(up=True))
    world.run_until(lambda: world.state is StepState.REVERTING, 60)

    assert world.status.rollback is not None and world.status.rollback.objective == "error-ratio"


@pytest.mark.parametrize(("confirmed", "is_odd"), [(5, False), (1, False), (20, True)])
def test_until_the_next_split_is_live_evidence_may_be_of_both(confirmed: int, is_odd: bool) -> None:
    """What was seen is 5 %, and 50 % are on their way."""
    world = rollout().steps(canary(5, least="60s", most="120s"), canary(50), full()).at("canary 5%").run(50)
    world.set_gateway(up=False)
    world.run_until(lambda: world.state is StepState.SHIFTING)
    snapshot = world.snapshot()
    known = replace(snapshot, status=snapshot.status.model_copy(update={"weight": confirmed}))

    assert any(row.reason == "RoutingMismatch" for row in Situation(known, world.now).rows) is is_odd


def test_at_a_change_of_steps_no_word_of_the_split_before() -> None:
    world = rollout().steps(canary(5), canary(50), full()).trying()
    told: list[str] = []
    world.watches.append(lambda world, _: told.extend(row.message for row in world.status.objectives))

    ended(world, Outcome.COMPLETED)

    assert told and not [message for message in told if "were to" in message]


def stay_in(world: World, state: StepState) -> None:
    """Keep a rollout in a state that is over in a moment otherwise."""
    if state is StepState.PREPARING:
        world.health["2"] = replace(world.health["2"], ready_after=None)
        world.edit(replicas=40)
    if state in (StepState.SHIFTING, StepState.RETURNING):
        world.set_gateway(up=False)


@pytest.mark.parametrize(("step", "state"), UNDER_TRAFFIC)
def test_a_restarted_container_reverts(step: str, state: StepState) -> None:
    world = rollout().at(step, state)

    next(world.pods_of("2")).restarts += 1
    world.wake()

    assert_reverted(ended(world), "CandidateRestarted")


@pytest.mark.parametrize("step", ["canary 5%", "full"])
def test_a_candidate_that_loses_all_its_pods_under_live_traffic_reverts_at_once(step: str) -> None:
    world = rollout().at(step).run(10)

    for pod in world.pods_of("2"):
        world.set_ready(pod, ready=False)
    lost = world.now

    assert_reverted(ended(world), "CapacityLost")
    assert world.failed(lost) < 3


def test_a_breach_is_told_with_its_numbers() -> None:
    world = rollout().at("canary 5%", errors=0.0).run(5)
    world.health["2"].errors = 0.5

    world.run_until(lambda: world.state is StepState.REVERTING)

    rollback = world.status.rollback
    assert rollback is not None
    assert rollback.message.startswith("error-rate: 0.")
    assert "target < 0.01" in rollback.message and "requests" in rollback.message
    [breached] = [row for row in world.status.objectives if row.name == "error-rate"]
    assert breached.verdict is Verdict.FAIL
    assert rollback.breach_visible_at == breached.last_tick


def test_a_reverted_version_stays_out() -> None:
    world = ended(rollout().trying(errors=0.05))
    since = world.now

    world.health["2"].errors = 0
    world.edit(replicas=3)
    world.run(300)

    assert world.answered("2", since) == 0
    assert world.status.deployments == 2
    assert world.pods("1") == 3


def test_it_comes_back_with_another_spec() -> None:
    world = ended(rollout().trying(errors=0.05))

    world.want_version("3")
    ended(world, Outcome.COMPLETED)

    assert world.status.stable_version == "3"
    assert world.status.rollback is None


def test_going_back_to_stable_clears_the_record_of_the_revert() -> None:
    world = ended(rollout().trying(errors=0.05))

    world.want_version("1")
    world.run(5)

    assert world.status.phase is Phase.COMPLETED
    assert world.status.rollback is None
    assert world.status.history[0].outcome is Outcome.ROLLED_BACK


# --- People's orders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "state"), WAYPOINTS)
def test_an_abort_reverts(step: str, state: StepState) -> None:
    world = rollout().at(step, state)

    world.annotate(names.ABORT, world.deployment.id)

    assert_reverted(ended(world), "Aborted")
    assert world.failed() == 0


def test_an_abort_of_a_first_version_leaves_nothing_running() -> None:
    world = rollout().created().run(1)

    world.annotate(names.ABORT, world.deployment.id)
    ended(world)

    assert world.pods("1") == 0
    assert world.status.phase is Phase.ROLLED_BACK


@pytest.mark.parametrize("verb", [names.ABORT, names.PROMOTE, names.RETRY])
@pytest.mark.parametrize(("step", "state"), WAYPOINTS[3::3])
def test_an_order_for_another_deployment_does_nothing(step: str, state: StepState, verb: str) -> None:
    world, other = rollout().at(step, state), rollout().at(step, state)

    world.annotate(verb, "ranker-bcdfghjklm-1")

    assert world.run(60).reasons() == other.run(60).reasons()


def test_a_promote_order_leaves_one_step_once() -> None:
    world = rollout().steps(shadow(), canary(5), canary(50), full()).at("canary 5%").run(1)
    ordered = world.now

    world.annotate(names.PROMOTE, world.deployment.id)
    world.run_until(lambda: world.step is not None and world.step.name == "canary 50%", 2)
    world.run(20)

    assert world.step is not None and world.step.name == "canary 50%"
    assert world.reasons(ordered).count("StepCompleted") == 1
    assert world.status.handled_promote == world.deployment.id


def test_a_promote_order_for_a_step_that_is_over_does_nothing() -> None:
    world = rollout().at("canary 5%").run(1)

    world.annotate(names.PROMOTE, f"{world.deployment.id}/0")
    world.run(20)

    assert world.step is not None and world.step.name == "canary 5%"


def test_a_promote_order_does_not_pass_a_breach() -> None:
    world = rollout().at("canary 5%").run(1)
    world.health["2"].latency = 0.9
    world.metrics_up = True
    world.run_until(lambda: world.state is StepState.REVERTING)

    world.annotate(names.PROMOTE, world.deployment.id)

    assert_reverted(ended(world), "ObjectiveBreached")


def test_a_retry_tries_the_reverted_version_again() -> None:
    world = ended(rollout().trying(errors=0.05))
    world.health["2"].errors = 0

    world.annotate(names.RETRY, world.deployment.id)
    ended(world, Outcome.COMPLETED)

    assert world.status.stable_version == "2"
    assert world.deployment.id.endswith("-3")


def test_a_retry_order_works_once() -> None:
    world = ended(rollout().trying(errors=0.05))

    world.annotate(names.RETRY, world.deployment.id)
    world.run_until(lambda: world.outcome is None)
    ended(world)
    world.run(120)

    assert world.status.deployments == 3


def test_a_retry_is_verified_as_any_start() -> None:
    world = ended(rollout().trying(errors=0.05))
    world.extra_checks = (Check("model", False, "RunNotFinished", "MLflow run 8f is FAILED: expected FINISHED"),)

    world.annotate(names.RETRY, world.deployment.id)
    world.run(30)

    assert world.status.deployments == 2
    assert world.status.message == "MLflow run 8f is FAILED: expected FINISHED"


# --- Pods that do not come --------------------------------------------------------------------------------


def test_a_candidate_that_is_never_ready_reverts_at_the_progress_deadline_without_any_traffic() -> None:
    world = rollout().trying(ready_after=None)
    started = world.now

    assert_reverted(ended(world), "ProgressDeadlineExceeded")

    assert world.answered("2") == 0 and world.failed() == 0
    assert world.status.rollback is not None
    waited = world.status.rollback.decided_at - started
    assert timedelta(seconds=60) <= waited <= timedelta(seconds=63)
    assert "CrashLoopBackOff" in world.status.rollback.message
    assert "progressDeadline 1m" in world.status.rollback.message


def test_pods_for_the_next_step_that_do_not_come_revert() -> None:
    world = rollout().replicas(4).steps(canary(25), full()).at("canary 25%")
    world.health["2"] = Health(ready_after=None)

    ended(world)

    assert world.deployment.reason == "ProgressDeadlineExceeded"
    assert world.failed() == 0


def test_a_first_version_that_is_never_ready_says_so_and_goes_on_waiting() -> None:
    world = rollout().created()
    world.health["1"] = Health(ready_after=None)

    world.run(90)

    assert world.status.phase is Phase.DEGRADED
    assert world.condition(ConditionType.STALLED) is not None
    assert world.pods("1") == 2

    for pod in world.pods_of("1"):
        world.set_ready(pod, ready=True)
    ended(world, Outcome.COMPLETED)


# --- No evidence ------------------------------------------------------------------------------------------


def test_an_outage_of_prometheus_takes_live_traffic_off_and_reverts_at_the_deadline() -> None:
    world = rollout().steps(canary(5, least="30s", most="120s"), full()).at("canary 5%").run(10)
    world.metrics_up = False
    began = world.now

    world.run_until(lambda: world.state is StepState.HELD, 45)
    assert world.candidate_weight == 0
    assert world.run(1).share("2") == 0
    assert world.status.phase is Phase.HELD
    assert (world.now - began) < timedelta(seconds=40)

    assert_reverted(ended(world), "DeadlineInconclusive")
    assert world.reasons(began) == ["Held", "RollbackStarted", "TrafficReverted", "RolledBack"]
    assert world.failed() == 0


@pytest.mark.parametrize("what", ["metrics_up", "series_exist"])
def test_an_outage_that_ends_resumes_the_step_from_its_start(what: str) -> None:
    world = rollout().steps(canary(5, least="30s", most="300s"), full()).at("canary 5%").run(5)
    setattr(world, what, False)
    world.run_until(lambda: world.state is StepState.HELD, 45).run(30)

    setattr(world, what, True)
    world.run_until(lambda: world.state is StepState.RUNNING, 10)
    resumed = world.now
    assert world.run(1).share("2") == pytest.approx(0.05)

    world.run_until(lambda: world.step is not None and world.step.name == "full")
    assert world.now - resumed >= timedelta(seconds=30)
    assert ended(world, Outcome.COMPLETED).failed() == 0


def test_a_hold_ends_with_pods_that_are_ready_only() -> None:
    world = rollout().steps(canary(5, least="30s", most="300s"), full()).at("canary 5%").run(10)
    world.metrics_up = False
    world.run_until(lambda: world.state is StepState.HELD, 45)
    for pod in world.pods_of("2"):
        world.set_ready(pod, ready=False)

    world.metrics_up = True
    world.run(20)
    assert world.candidate_weight == 0
    for pod in world.pods_of("2"):
        world.set_ready(pod, ready=True)
    world.run_until(lambda: world.state is StepState.RUNNING, 10).run(5)

    assert world.share("2") == pytest.approx(0.05)
    assert world.failed() == 0


def test_an_outage_between_two_steps_takes_live_traffic_off_too() -> None:
    world = rollout().replicas(4).with_(progressDeadline="300s").steps(canary(25), full()).at("canary 25%")
    world.health["2"] = Health(ready_after=None)
    world.run_until(lambda: world.step is not None and world.step.name == "full")

    world.metrics_up = False
    world.run(40)

    assert world.candidate_weight == 0


def test_an_outage_in_shadow_waits_to_the_deadline_only() -> None:
    world = rollout().at("shadow").run(5)
    began = world.now
    world.metrics_up = False

    assert_reverted(ended(world), "DeadlineInconclusive")

    assert "Held" not in world.reasons(began)
    assert world.answered("2") == 0
    assert world.status.rollback is not None
    assert "no answer since" in world.status.rollback.message


def test_a_policy_that_is_gone_promotes_nothing() -> None:
    world = rollout().at("shadow").run(5)
    world.policy = None

    world.run(40)
    assert world.status.message is not None and "cannot be read" in world.status.message

    assert_reverted(ended(world), "DeadlineInconclusive")


def test_an_operator_that_restarts_does_not_take_its_own_absence_for_an_outage() -> None:
    world = rollout().at("canary 5%").run(10)

    world.kill(down_for=40)
    world.run(60)

    assert "Held" not in world.reasons()
    ended(world, Outcome.COMPLETED)


@pytest.mark.parametrize("late_in", [StepState.CLEARING, StepState.PREPARING, StepState.SHIFTING])
def test_an_operator_that_looks_late_takes_nothing_for_missing_that_has_come_meanwhile(late_in: StepState) -> None:
    """Thousands of rollouts that change at once wait minutes for their turn: longer than patience and deadline are."""
    world = rollout().steps(canary(5, least="30s", most="300s"), full()).trying()
    world.run_until(lambda: world.state is late_in)
    began, world.busy_until = world.now, world.now + timedelta(seconds=200)

    world.run_until(lambda: world.step is not None and world.step.name == "full")

    assert not {"Held", "RollbackStarted"} & set(world.reasons(began))
    assert world.now > world.busy_until + timedelta(seconds=30), "what was not judged until then does not count"
    assert ended(world, Outcome.COMPLETED).failed() == 0


def test_from_its_commit_on_a_split_is_judged_however_late_the_next_look_is() -> None:
    world = rollout().steps(canary(5, least="30s", most="300s"), full()).at("canary 5%")
    began, world.busy_until = world.now, world.now + timedelta(seconds=200)

    world.run_until(lambda: world.step is not None and world.step.name == "full", 203)

    assert "Held" not in world.reasons(began)


def test_a_deadline_can_wait_for_a_person() -> None:
    world = rollout().policy(onDeadline="Pause").at("shadow").run(5)
    world.metrics_up = False

    world.run(300)
    assert world.step is not None and world.step.name == "shadow"
    assert world.status.reason == "DeadlineInconclusive" and world.status.next == "promote or abort"

    world.annotate(names.ABORT, world.deployment.id)
    assert_reverted(ended(world), "Aborted")


# --- Paused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["shadow", "canary 5%", "full"])
def test_paused_holds_without_a_deadline(step: str) -> None:
    world = rollout().at(step).run(1)

    world.edit(paused=True)
    world.run(400)
    assert world.step is not None and (world.step.name, world.state) == (step, StepState.PAUSED)
    assert world.status.phase is Phase.PAUSED

    world.edit(paused=False)
    resumed = world.now
    ended(world, Outcome.COMPLETED)
    assert world.now - resumed >= timedelta(seconds=30)


def test_paused_still_reverts_on_a_breach() -> None:
    world = rollout().at("canary 5%").run(1)
    world.edit(paused=True)
    world.run(60)

    world.health["2"].errors = 0.05

    assert_reverted(ended(world), "ObjectiveBreached")


@pytest.mark.parametrize(("step", "before"), [("shadow", 0.0), ("canary 5%", 0.0), ("full", 0.05)])
def test_paused_between_two_steps_moves_no_traffic(step: str, before: float) -> None:
    world = rollout().at(step, StepState.PREPARING)

    world.edit(paused=True)
    world.run(200)
    assert world.share("2") == pytest.approx(before)
    assert world.status.reason == "Paused"
    assert world.outcome is None

    world.edit(paused=False)
    ended(world, Outcome.COMPLETED)


def test_paused_holds_the_start() -> None:
    world = rollout().live()
    world.edit(paused=True)
    world.want_version("2")

    world.run(60)
    assert world.status.deployments == 1
    assert world.status.phase is Phase.PAUSED

    world.edit(paused=False)
    ended(world, Outcome.COMPLETED)


# --- Edits under way ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "state"), WAYPOINTS)
def test_another_version_in_mid_rollout_starts_over_from_shadow(step: str, state: StepState) -> None:
    world = rollout().at(step, state)
    first = world.deployment.id

    world.want_version("3")
    world.run_until(lambda: world.status.deployments == 3)
    assert world.step is not None and world.step.index == 0
    ended(world, Outcome.COMPLETED)

    assert world.status.stable_version == "3"
    assert (world.pods("1"), world.pods("2"), world.pods("3")) == (0, 0, 2)
    assert world.failed() == 0
    [entry] = [item for item in world.status.history if item.deployment_id == first]
    promoting = state in (StepState.SWITCHING, StepState.RETURNING)
    assert entry.outcome is (Outcome.COMPLETED if promoting else Outcome.SUPERSEDED)


def test_another_version_that_is_never_ready_gets_nothing_of_what_the_one_before_had() -> None:
    world = rollout().at("full")
    world.health["3"] = Health(ready_after=None)

    world.want_version("3")
    ended(world)

    assert world.answered("3") == 0
    assert world.failed() == 0
    assert world.share("1") == pytest.approx(1.0)


@pytest.mark.parametrize(("step", "state"), WAYPOINTS[:10])
def test_back_to_the_stable_version_in_mid_rollout_gives_the_candidate_up(step: str, state: StepState) -> None:
    world = rollout().at(step, state)

    world.want_version("1")
    world.run(20)

    assert world.status.phase is Phase.COMPLETED
    assert world.share("1") == pytest.approx(1.0)
    assert world.pods("2") == 0
    assert world.failed() == 0


def test_to_and_fro_ends_with_the_last_wish() -> None:
    world = rollout().at("canary 5%")

    for version in ("3", "2", "3", "2"):
        world.want_version(version)
        world.run(0.5)
    ended(world, Outcome.COMPLETED)

    assert world.status.stable_version == "2"
    assert world.failed() == 0


def test_a_weight_that_is_edited_waits_for_the_pods_that_it_needs() -> None:
    world = rollout().replicas(10).steps(canary(10), full()).at("canary 10%", ready_after=5.0).run(1)

    world.edit(steps=[canary(50), full()])
    world.run(4)
    assert world.candidate_weight == 10
    world.run_until(lambda: world.candidate_weight == 50, 10)
    assert world.pods("2") == 5

    assert ended(world, Outcome.COMPLETED).failed() == 0


def test_steps_that_are_removed_under_way_lead_to_the_last_one() -> None:
    world = rollout().steps(shadow(), canary(5), canary(50), full()).at("canary 50%")

    world.edit(steps=[shadow(), full()])
    ended(world, Outcome.COMPLETED)

    assert world.failed() == 0


@pytest.mark.parametrize("replicas", [1, 6])
@pytest.mark.parametrize("step", ["shadow", "canary 5%", "full"])
def test_replicas_can_be_scaled_in_mid_rollout(step: str, replicas: int) -> None:
    world = rollout().at(step).run(5)

    world.edit(replicas=replicas)
    world.run(10)
    assert world.pods("1") == replicas
    ended(world, Outcome.COMPLETED)

    assert (world.pods("1"), world.pods("2")) == (0, replicas)
    assert world.failed() == 0


def test_old_replica_sets_are_kept_up_to_the_limit() -> None:
    world = rollout().with_(revisionHistoryLimit=1).steps(full(bake="1s")).live()

    for version in ("2", "3", "4"):
        world.want_version(version)
        ended(world, Outcome.COMPLETED)

    kept = {item.manifest["metadata"]["labels"][names.MODEL_VERSION_LABEL] for item in world.replica_sets.values()}
    assert kept == {"3", "4"}


def test_history_keeps_the_latest_ten() -> None:
    world = rollout().steps(shadow(), full()).live()

    for number in range(2, 14):
        world.want_version(str(number))
        world.run(3)

    assert len(world.status.history) == 10
    assert world.status.history[0].model_version == "12"


# --- The route ----------------------------------------------------------------------------------------------


def test_a_route_that_another_writer_changes_is_repaired_and_the_dwell_starts_over() -> None:
    world = rollout().steps(canary(5, least="30s", most="300s"), full()).at("canary 5%").run(25)
    drifted = world.now

    def more(spec: dict[str, Any]) -> None:
        spec["rules"][0]["backendRefs"][1]["weight"] = 50

    world.edit_route(more)
    world.run(1)

    assert world.candidate_weight == 0, "nothing of it until evidence has been judged again"
    assert "RouteDrift" in world.reasons(drifted)
    world.run(10)
    assert world.candidate_weight == 5
    world.run_until(lambda: world.step is not None and world.step.name == "full")
    assert world.now - drifted >= timedelta(seconds=30)
    assert world.failed(drifted) == 0


def test_a_leader_killed_between_taking_traffic_off_and_saying_so_does_not_bring_it_back() -> None:
    world = rollout().steps(canary(5, least="30s", most="300s"), full()).at("canary 5%").run(25)
    world.health["2"].errors = 0.2

    def off(spec: dict[str, Any]) -> None:
        spec["rules"][0]["backendRefs"][0]["weight"] = 100
        spec["rules"][0]["backendRefs"][1]["weight"] = 0

    world.run(4)
    world.edit_route(off)
    world.kill()
    killed = world.now
    world.run_until(lambda: world.outcome is not None)

    assert world.outcome is Outcome.ROLLED_BACK
    assert world.answered("2", killed + timedelta(seconds=1)) == 0


def test_a_route_that_is_deleted_comes_back() -> None:
    world = rollout().live()

    world.route = None
    world.wake()
    world.run(2)

    assert world.weights == {STABLE: 100, CANDIDATE: 0}
    assert world.condition(ConditionType.TRAFFIC_SYNCED).status == "True"  # type: ignore[union-attr]


def test_a_gateway_controller_that_is_down_during_a_revert() -> None:
    world = rollout().at("full").run(10)
    world.set_gateway(up=False)
    world.health["2"].errors = 0.05
    world.run_until(lambda: world.state is StepState.REVERTING)
    assert world.status.rollback is not None
    decided = world.status.rollback.decided_at

    world.run(10)
    synced = world.condition(ConditionType.TRAFFIC_SYNCED)
    assert synced is not None and (synced.status, synced.reason) == ("False", "CannotSteer")
    assert world.pods("2") == 2
    assert world.services[CANDIDATE]["spec"]["selector"][names.REVISION_LABEL] == world.revision("1")

    world.run_until(lambda: world.pods("2") == 0)
    assert timedelta(seconds=60) <= world.now - decided <= timedelta(seconds=62)

    world.run(30)
    assert world.outcome is None
    world.set_gateway(up=True)
    assert_reverted(ended(world), "ObjectiveBreached")


def test_a_router_that_never_takes_the_split_reverts_at_the_progress_deadline() -> None:
    world = rollout().at("canary 5%", StepState.PREPARING)
    world.set_gateway(up=False)

    world.run_until(lambda: world.state is StepState.REVERTING, 90)
    world.set_gateway(up=True)

    assert_reverted(ended(world), "ProgressDeadlineExceeded")
    assert world.answered("2") == 0


def test_a_split_that_was_ordered_lately_is_looked_at_before_others_and_one_that_never_comes_not_for_long() -> None:
    world = rollout().at("canary 5%", StepState.PREPARING)
    world.set_gateway(up=False)
    assert not is_pressing(world.status, world.now)

    world.run_until(lambda: world.state is StepState.SHIFTING)
    assert is_pressing(world.status, world.now)

    world.run(PRESSING.total_seconds() + 1)
    assert world.state is StepState.SHIFTING and not is_pressing(world.status, world.now)

    world.run_until(lambda: world.state is StepState.REVERTING)
    assert is_pressing(world.status, world.now)


def test_a_first_version_is_not_live_before_the_gateway_accepts_its_route() -> None:
    world = rollout().created()
    world.refuse_route("BackendNotFound")

    world.run(20)
    assert world.status.phase is Phase.LAUNCHING
    synced = world.condition(ConditionType.TRAFFIC_SYNCED)
    assert synced is not None and (synced.status, synced.reason) == ("False", "BackendNotFound")

    world.refuse_route(None)
    ended(world, Outcome.COMPLETED)


def test_a_refusal_does_not_hinder_a_revert() -> None:
    world = rollout().at("canary 5%").run(5)
    world.refuse_route("BackendNotFound")

    world.annotate(names.ABORT, world.deployment.id)

    assert_reverted(ended(world), "Aborted")


def rules(*, port: int = 80, name: str = STABLE) -> list[dict[str, Any]]:
    """Rules of somebody else's route: one for us, with their filter and backend, and one that is not."""
    header = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-team", "value": "a"}]}}
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "audit", "port": 9}}}
    ours = {"backendRefs": [{"name": name, "port": port, "weight": 100}], "filters": [header, mirror]}
    theirs = {"backendRefs": [{"name": "search", "port": 80}], "matches": [{"path": {"value": "/search"}}]}
    return [ours, theirs]


def with_route(**fields: Any) -> World:
    world = rollout().referenced("shop").created()
    world.add_route("shop", rules(**fields))
    return world


def test_a_referenced_route_is_steered_and_the_rest_of_it_left_alone() -> None:
    world = with_route().run_until(lambda: False, 10, must=False)
    world.want_version("2")
    world.run_until(partial(is_running, world, "shadow"))
    assert world.route is not None
    ours, theirs = world.route["spec"]["rules"]
    kinds = [item["type"] for item in ours["filters"]]
    assert kinds == ["RequestHeaderModifier", "RequestMirror", "RequestMirror"]
    assert theirs["backendRefs"][0]["name"] == "search"

    ended(world, Outcome.COMPLETED)

    ours, theirs = world.route["spec"]["rules"]
    assert world.weights == {STABLE: 100, CANDIDATE: 0}
    assert [item["type"] for item in ours["filters"]] == ["RequestHeaderModifier", "RequestMirror"]
    assert ours["filters"][1]["requestMirror"]["backendRef"]["name"] == "audit"
    assert theirs["matches"] == [{"path": {"value": "/search"}}]
    assert world.failed(since=world.deployment.started_at) == 0


def test_a_backend_beside_ours_keeps_its_weight() -> None:
    world = with_route()
    assert world.route is not None
    world.edit_route(lambda spec: spec["rules"][0]["backendRefs"].append({"name": "legacy", "port": 80, "weight": 7}))
    world.run(10)

    world.want_version("2")
    world.run_until(lambda: world.candidate_weight == 5)

    assert world.weights == {STABLE: 95, CANDIDATE: 5, "legacy": 7}


def test_what_only_shares_the_name_of_our_service_is_not_touched() -> None:
    world = with_route()
    elsewhere = {"name": STABLE, "namespace": "other", "port": 80, "weight": 3}
    imported = {"name": STABLE, "group": "multicluster.x-k8s.io", "kind": "ServiceImport", "weight": 4}
    world.edit_route(lambda spec: spec["rules"][0]["backendRefs"].extend([elsewhere, imported]))

    world.run(10)

    assert world.outcome is Outcome.COMPLETED
    assert world.route is not None
    kept = world.route["spec"]["rules"][0]["backendRefs"][2:]
    assert [(item.get("namespace"), item["kind"], item["weight"]) for item in kept] == [
        ("other", "Service", 3),
        (None, "ServiceImport", 4),
    ]


@pytest.mark.parametrize(
    ("fields", "reason", "said"),
    [
        ({"port": 8080}, "RoutePortMismatch", "spec.rules[0].backendRefs[0].port is 8080: expected 80"),
        ({"name": "other"}, "RouteHasNoStableBackend", "no rule with a backendRef to Service ranker-stable"),
    ],
    ids=["wrong port", "no rule of ours"],
)
def test_a_referenced_route_that_does_not_fit_is_told(fields: dict[str, Any], reason: str, said: str) -> None:
    world = with_route(**fields).run(30)

    assert world.status.deployments == 0
    assert world.status.phase is Phase.DEGRADED
    assert world.status.reason == reason
    assert said in (world.status.message or "")
    accepted = world.condition(ConditionType.ACCEPTED)
    assert accepted is not None and accepted.status == "False"


def test_a_referenced_route_that_does_not_exist_is_waited_for() -> None:
    world = rollout().referenced("shop").created().run(30)
    assert world.status.reason == "RouteNotFound"
    assert "httpRouteRef.name is 'shop'" in (world.status.message or "")

    world.add_route("shop", rules())

    ended(world, Outcome.COMPLETED)


def test_a_target_port_that_no_container_declares_is_told() -> None:
    world = rollout().with_(service={"port": 80, "targetPort": 9999}).created().run(30)

    assert world.status.reason == "ServicePortMismatch"
    assert world.status.message == "spec.service.targetPort is 9999: expected 8080, a containerPort of spec.template"


def test_a_service_of_somebody_else_is_not_taken_over() -> None:
    world = rollout().created()
    theirs = {"metadata": {"name": "ranker-stable", "labels": {"app": "else"}}, "spec": {"selector": {"app": "else"}}}
    world._apply_service(theirs)
    world.run(30)

    assert world.status.deployments == 0
    assert world.status.reason == "NameTaken"
    assert world.services["ranker-stable"]["spec"] == {"selector": {"app": "else"}}


def test_a_step_that_no_objective_judges_is_told_before_the_start() -> None:
    live_only = [
        {**POLICY.objectives[0].model_dump(mode="json", by_alias=True, exclude_none=True), "steps": ["canary"]}
    ]
    world = rollout().policy(objectives=live_only).created().run(30)

    assert world.status.deployments == 0
    assert world.status.reason == "StepNotJudged"


@pytest.mark.parametrize(("before", "after"), [("KeepStable", "DeleteAll"), ("DeleteAll", "KeepStable")])
def test_what_a_deletion_takes_along_can_be_changed(before: str, after: str) -> None:
    world = rollout().with_(deletionPolicy=before).live()
    world.edit(deletionPolicy=after)
    world.run(5)

    world.delete()
    world.run_until(lambda: not world.exists, 60).run(15)

    assert world.pods("1") == (2 if after == "KeepStable" else 0)


# --- Its end, and what comes after -----------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "state"), WAYPOINTS)
def test_deletion_keeps_the_stable_version_serving(step: str, state: StepState) -> None:
    world = rollout().at(step, state)

    world.delete()
    world.run_until(lambda: not world.exists, 60).run(15)

    assert world.share("1") == pytest.approx(1.0)
    assert (world.pods("1"), world.pods("2")) == (2, 0)
    assert list(world.services) == [STABLE]
    assert world.weights == {STABLE: 100}
    assert world.failed() == 0


@pytest.mark.parametrize(("step", "state"), WAYPOINTS[3::3])
def test_deletion_with_delete_all_leaves_nothing(step: str, state: StepState) -> None:
    world = rollout().with_(deletionPolicy="DeleteAll").at(step, state)

    world.delete()
    world.run_until(lambda: not world.exists, 60).run(15)

    assert (world.replica_sets, world.services, world.route) == ({}, {}, None)


def test_deletion_with_a_referenced_route_takes_our_candidate_out_of_it() -> None:
    world = with_route().run(10)
    world.want_version("2")
    world.run_until(lambda: world.candidate_weight == 5)

    world.delete()
    world.run_until(lambda: not world.exists, 60).run(15)

    assert world.weights == {STABLE: 100}
    assert world.share("1") == pytest.approx(1.0)


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_rollout_that_is_created_again_takes_over_what_serves(version: str) -> None:
    world = rollout().live()
    old = dict(world.spec_body)
    world.delete()
    world.run_until(lambda: not world.exists, 60).run(30)
    again = world.now

    world.recreate(old)
    if version != "1":
        world.want_version(version)
    world.run_until(lambda: world.status.phase is Phase.COMPLETED)
    world.run(10)

    assert "Adopted" in world.reasons(again)
    assert world.share(version) == pytest.approx(1.0)
    assert world.failed() == 0
    if version == "2":
        assert world.deployment.steps[0].name == "shadow"
        assert world.pods("1") == 0


# --- What status says -------------------------------------------------------------------------------------------


def expected_kstatus(world: World) -> str:
    if world.outcome is Outcome.ROLLED_BACK:
        return "Failed"
    return "Current" if world.status.phase is Phase.COMPLETED else "InProgress"


def kstatus(world: World) -> str:
    """As kstatus computes it."""
    if world.status.observed_generation != world.generation or world.condition(ConditionType.RECONCILING):
        return "InProgress"
    if world.condition(ConditionType.STALLED):
        return "Failed"
    ready = world.condition(ConditionType.READY)
    return "Current" if ready and ready.status == "True" else "InProgress"


@pytest.mark.parametrize("errors", [0.0, 0.05])
def test_conditions_follow_kstatus(errors: float) -> None:
    world = rollout().created()
    told = set()

    world.health["2"] = Health(errors=errors)
    for second in range(120):
        if second == 10:
            world.want_version("2")
        world.run(1)
        assert kstatus(world) == expected_kstatus(world), world.status.phase
        told.add(kstatus(world))
        for condition in world.status.conditions:
            assert condition.message and condition.reason
            assert condition.observed_generation == world.generation
        assert not (world.condition(ConditionType.RECONCILING) and world.condition(ConditionType.STALLED))

    assert told == {"InProgress", "Current", *(["Failed"] if errors else [])}


def test_a_transition_time_changes_with_the_status_only() -> None:
    world = rollout().live()
    before = {item.type: item.last_transition_time for item in world.status.conditions}
    world.edit(replicas=3)
    world.run(10)

    after = {item.type: item.last_transition_time for item in world.status.conditions}
    assert after[ConditionType.ACCEPTED] == before[ConditionType.ACCEPTED]
    assert after[ConditionType.READY] > before[ConditionType.READY]


def test_slos_met_names_each_objective_with_its_number_and_target() -> None:
    world = rollout().at("canary 5%").run(28)

    met = world.condition(ConditionType.SLOS_MET)

    assert met is not None and met.status == "True"
    assert met.message.startswith("error-rate: 0 (CI95 0 to 0.01")
    assert "p95-latency: 0.0475s (CI95 0 to 0.05), target < 0.5s, " in met.message


def test_next_says_what_comes_and_when() -> None:
    world = rollout().at("canary 5%").run(28)
    assert world.step is not None and world.step.running_since is not None
    assert world.status.next == f"full at {world.step.running_since + timedelta(seconds=30):%H:%M:%S}"


def test_what_only_shadow_judged_is_still_there_at_the_end() -> None:
    drift = {"name": "shadow-errors", "ratio": {"bad": "errors_total", "total": "requests_total"}, "max": 0.5}
    old = POLICY.model_dump(mode="json", by_alias=True, exclude_none=True)
    objectives = [*old["objectives"], {**drift, "steps": ["shadow"]}]
    world = ended(rollout().policy(objectives=objectives).trying(), Outcome.COMPLETED)

    (row,) = world.deployment.earlier_objectives
    assert (row.name, row.verdict) == ("shadow-errors", Verdict.PASS)
    assert "shadow-errors" not in [row.name for row in world.status.objectives]
