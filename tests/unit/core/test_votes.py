"""Votes in the simulated cluster: production waits for people, a revert waits for nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ops_commander.api.ballot import Choice, Holder, VoterRole
from ops_commander.api.conditions import ConditionType
from ops_commander.api.v1alpha1 import Outcome, StepState
from ops_commander.api.vote import vote_name
from ops_commander.core import names
from ops_commander.core.decide import Decision
from tests.unit.core.test_replay import played
from tests.unit.recorded import Recorded
from tests.unit.recorded import at as recorded_at
from tests.unit.world import Health, RolloutBuilder, World, canary, full, rollout, shadow

INFRA, QUALITY, COMMANDER = VoterRole
EXTERNAL = {"voters": dict.fromkeys(("infrastructureMonitor", "qualityOfficer", "opsCommander"), "External")}


def voted(quorum: dict[str, Any] | None = None, **policy: Any) -> RolloutBuilder:
    return rollout().policy(quorum=EXTERNAL if quorum is None else quorum, **policy)


def is_at(world: World, step: str, state: StepState = StepState.RUNNING) -> bool:
    return world.step is not None and (world.step.name, world.state) == (step, state)


def asked(builder: RolloutBuilder, **health: Any) -> World:
    """Version 2 has proved itself in shadow and is held by nothing but votes."""
    world = builder.at("shadow", **health)
    return world.run_until(lambda: "VotesAwaited" in world.reasons(), 60)


def quorum_reason(world: World) -> str | None:
    condition = world.condition(ConditionType.QUORUM_REACHED)
    return condition.reason if condition else None


def test_two_go_and_one_missing_hold_and_the_third_lets_it_go_on() -> None:
    world = asked(voted())
    world.vote(INFRA, "GO")
    world.vote(COMMANDER, "GO")
    world.run(600)

    assert is_at(world, "shadow") and world.candidate_weight == 0
    assert (world.status.reason, quorum_reason(world)) == ("VotesMissing", "VotesMissing")
    assert "Quality & Safety Officer missing: has not voted yet" in (world.status.message or "")
    assert world.status.next == "canary 5% once the votes are there"

    world.vote(QUALITY, "GO")
    world.run_until(lambda: is_at(world, "canary 5%"), 30)
    assert world.status.quorum is not None
    assert world.status.quorum.line == "**Quorum:** 3/3 GO votes → **PROCEED TO CANARY 5%**"
    condition = world.condition(ConditionType.QUORUM_REACHED)
    assert condition is not None and condition.status == "True"
    assert world.deployment.voted_at == world.status.quorum.reached_at
    world.run_until(lambda: world.outcome is Outcome.COMPLETED, 200)
    assert world.reasons().count("QuorumReached") == 1
    assert world.reasons().count("VoteCast") == 3


def test_voices_that_a_new_process_has_yet_to_find_are_as_they_were() -> None:
    world = voted({}).steps(shadow(least="300s", most="600s"), full()).at("shadow").run(120)
    assert {row.vote for row in world.status.votes if row.holder is Holder.OPERATOR} == {Choice.GO}
    commits, told = world.commits, world.status

    world.kill()
    world.run(25)

    assert (world.commits, world.status) == (commits, told)


def test_two_go_and_a_no_go_proceed_and_the_no_go_stays_on_record() -> None:
    world = asked(voted())
    world.vote(INFRA, "GO")
    world.vote(QUALITY, "NO-GO", "High", "drift in the Dutch market")
    world.vote(COMMANDER, "GO")
    world.run_until(lambda: world.outcome is Outcome.COMPLETED, 300)

    row = world.status.votes[1]
    assert (row.vote, row.risk, row.concern) == (Choice.NO_GO, "High", "drift in the Dutch market")
    assert row.uid and row.resource_version and row.voter == "quality-officer@example"
    assert world.votes[row.name or ""]["status"]["counted"] is True


def test_one_go_of_three_holds_and_reverts_nothing() -> None:
    world = asked(voted())
    world.vote(INFRA, "GO")
    world.vote(QUALITY, "NO-GO", "High", "drift")
    world.vote(COMMANDER, "NO-GO")
    world.run(900)

    assert is_at(world, "shadow") and world.outcome is None
    assert (world.status.reason, quorum_reason(world)) == ("TooFewGo", "TooFewGo")
    assert (world.status.message or "").startswith(
        "1 of 3 GO, 2 needed and all votes in: Quality & Safety Officer NO-GO"
    )
    assert "RollbackStarted" not in world.reasons()
    assert world.status.next == "abort, or another version: all have voted"


def test_a_breach_while_votes_are_awaited_reverts_at_once() -> None:
    world = asked(voted())
    world.run(600)
    broken_at = world.now
    world.health["2"] = Health(errors=0.5)
    world.run_until(lambda: world.outcome is Outcome.ROLLED_BACK, 60)

    assert world.deployment.reason == "ObjectiveBreached"
    assert (world.now - broken_at).total_seconds() < 30


def test_an_abort_needs_no_vote() -> None:
    world = asked(voted())
    world.annotate(names.ABORT, world.deployment.id)

    world.run_until(lambda: world.outcome is Outcome.ROLLED_BACK, 20)


def test_metrics_that_are_away_while_votes_are_awaited_do_not_revert() -> None:
    world = asked(voted())
    world.run(600)
    world.metrics_up = False
    world.run(600)
    assert is_at(world, "shadow") and world.outcome is None

    world.metrics_up = True
    for role in VoterRole:
        world.vote(role, "GO")
    world.run_until(lambda: is_at(world, "canary 5%"), 90)


def test_votes_may_come_before_they_are_asked_for() -> None:
    world = voted().at("shadow")
    for role in VoterRole:
        world.vote(role, "GO")
    world.run(2)
    assert is_at(world, "shadow") and quorum_reason(world) == "NotAskedYet"

    world.run_until(lambda: is_at(world, "canary 5%"), 90)
    assert "VotesAwaited" not in world.reasons()


def test_votes_for_an_older_deployment_count_nothing() -> None:
    world = asked(voted())
    for role in VoterRole:
        world.vote(role, "GO")
    world.run(1)
    first = world.deployment.id
    world.want_version("3")
    world.run_until(lambda: world.deployment.id != first and is_at(world, "shadow"), 120)
    world.run_until(lambda: world.reasons().count("VotesAwaited") + world.reasons().count("QuorumReached") > 2, 120)
    world.run(600)

    assert is_at(world, "shadow") and quorum_reason(world) == "VotesMissing"
    assert all(row.vote is None for row in world.status.votes)
    assert {item["status"]["reason"] for item in world.votes.values()} == {"OtherDeployment"}


def test_a_vote_that_was_deleted_after_it_counted_still_counts() -> None:
    world = asked(voted())
    world.vote(INFRA, "NO-GO")
    world.run(10)
    world.votes.clear()
    world.vote(INFRA, "GO")
    world.vote(QUALITY, "NO-GO")
    world.vote(COMMANDER, "GO")
    world.run(600)

    assert is_at(world, "shadow") and world.status.reason == "TooFewGo"
    again = next(item for item in world.votes.values() if item["spec"]["role"] == INFRA)
    assert again["status"]["reason"] == "AlreadyVoted"


def test_an_order_to_promote_waits_for_the_votes_too() -> None:
    world = voted().at("shadow")
    world.annotate(names.PROMOTE, world.deployment.id)
    world.run(300)
    assert is_at(world, "shadow") and world.status.reason == "VotesMissing"

    for role in VoterRole:
        world.vote(role, "GO")
    world.run_until(lambda: is_at(world, "canary 5%"), 20)


def test_the_operator_votes_for_every_role_that_it_holds() -> None:
    world = voted({}).at("shadow")
    world.run_until(lambda: world.outcome is Outcome.COMPLETED, 300)

    assert [(row.vote, row.holder) for row in world.status.votes] == [(Choice.GO, Holder.OPERATOR)] * 3
    assert all(row.cast_at for row in world.status.votes)
    pods, *rows = world.status.votes[0].evidence
    assert pods.kind == "pods" and {item.path for item in rows} == {"error-rate", "p95-latency"}
    assert all(item.query for item in rows)


def test_a_step_that_is_not_of_production_yet_asks_nobody() -> None:
    world = voted({**EXTERNAL, "steps": ["full"]}).at("canary 5%")
    assert world.status.quorum is not None and world.status.quorum.asked_at is None

    world.run_until(lambda: "VotesAwaited" in world.reasons(), 90).run(600)
    assert is_at(world, "canary 5%") and world.candidate_weight == 5


def test_production_as_the_first_step_needs_votes_as_well() -> None:
    world = voted().steps(canary(5), full()).at("canary 5%", StepState.PREPARING)
    world.run(600)
    assert is_at(world, "canary 5%", StepState.PREPARING) and world.candidate_weight == 0

    for role in VoterRole:
        world.vote(role, "GO")
    world.run_until(lambda: is_at(world, "canary 5%"), 20)


def test_a_policy_that_asks_for_no_more_votes_lets_it_go_on() -> None:
    world = asked(voted())
    world.run(300)
    world.policy = rollout().wanted_policy
    world.run_until(lambda: is_at(world, "canary 5%"), 30)

    assert world.status.votes == [] and world.condition(ConditionType.QUORUM_REACHED) is None


def test_a_first_version_asks_nobody() -> None:
    world = voted().live()

    assert world.status.votes == [] and world.status.quorum is None


def test_the_operator_forgets_no_vote_when_it_restarts() -> None:
    world = asked(voted())
    world.vote(INFRA, "GO")
    world.run(5)
    before = world.status.votes[0]
    world.kill()
    world.run(60)

    assert world.status.votes[0] == before
    assert world.reasons().count("VotesAwaited") == 1


@pytest.mark.parametrize("silent", [INFRA, QUALITY, COMMANDER])
def test_waiting_writes_nothing_over_and_over(silent: VoterRole) -> None:
    world = asked(voted())
    for role in set(VoterRole) - {silent}:
        world.vote(role, "GO")
    world.run(30)
    commits = world.commits
    world.run(300)

    assert world.commits - commits <= 300 / 15 + 2


def test_what_comes_next_is_told() -> None:
    world = asked(voted().steps(shadow(50), full())).run(1)

    assert world.status.next == "full once the votes are there"


def _all_go(world: World) -> None:
    for role in VoterRole:
        world.vote(role, "GO")


def _late() -> Recorded:
    world = recorded_at(voted(), "shadow")
    world.run(100)
    _all_go(world)
    return world.ended()


def _early() -> Recorded:
    world = recorded_at(voted(), "shadow")
    _all_go(world)
    return world.ended()


def _own() -> Recorded:
    return recorded_at(voted({}), "shadow").ended()


def _never() -> Recorded:
    world = recorded_at(voted(), "shadow")
    world.run(200)
    world.annotate(names.ABORT, world.deployment.id)
    return world.ended()


@pytest.mark.parametrize("story", [_late, _early, _own, _never])
def test_a_deployment_that_waited_for_votes_is_replayed(story: Callable[[], Recorded]) -> None:
    world = story()
    replay, _ = played(world)

    assert replay.differences == []
    made = replay.status.deployment
    assert made is not None
    assert made.outcome is world.outcome
    assert [entry.at for entry in made.transitions] == [entry.at for entry in world.deployment.transitions]


# --- Whatever happens ---------------------------------------------------------------------------------------------


def _without_users_until_voted(world: World, decision: Decision) -> None:
    """No live request is given to a candidate whose deployment has not got its votes."""
    status = decision.status or world.status
    if status.step is None or status.stable_revision is None or status.traffic is None:
        return
    if status.traffic.candidate_weight:
        assert status.deployment is not None and status.deployment.voted_at is not None
        assert status.quorum is not None and status.quorum.deployment_id == status.deployment.id
        assert all(row.vote is not None for row in status.votes) and len(status.votes) == 3
        assert sum(row.vote is Choice.GO for row in status.votes) >= 2


def _disturb(world: World, what: str, role: VoterRole) -> None:
    acts: dict[str, Callable[[], object]] = {
        "GO": lambda: _vote_if_new(world, role, "GO"),
        "NO-GO": lambda: _vote_if_new(world, role, "NO-GO"),
        "forget": world.votes.clear,
        "kill": world.kill,
        "die": lambda: setattr(world, "dies_before_write", 1),
        "promote": lambda: world.annotate(names.PROMOTE, world.deployment.id),
        "pause": lambda: world.edit(paused=True),
        "resume": lambda: world.edit(paused=False),
        "blind": lambda: setattr(world, "metrics_up", False),
        "see": lambda: setattr(world, "metrics_up", True),
        "steps": lambda: world.edit(steps=[canary(10), full()]),
        "new": lambda: world.want_version("3"),
        "break": lambda: world.health.update({"2": Health(errors=0.5)}),
    }
    acts[what]()


def _vote_if_new(world: World, role: VoterRole, choice: str) -> None:
    if vote_name(world.deployment.id, role) not in world.votes:
        world.vote(role, choice)


ACTS = ["GO", "GO", "GO", "NO-GO", "forget", "kill", "die", "promote", "pause", "resume", "blind", "see"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*ACTS, "steps", "new", "break"]), st.sampled_from(VoterRole), st.sampled_from([1, 7, 40])
        ),
        max_size=10,
    )
)
@example([("GO", role, 40) for role in VoterRole])
@example([("steps", INFRA, 40), ("promote", INFRA, 40)])
@settings(max_examples=60, deadline=None)
def test_no_user_meets_a_candidate_without_its_votes(acts: list[tuple[str, VoterRole, int]]) -> None:
    world = voted().at("shadow", StepState.PREPARING)
    world.watches.append(_without_users_until_voted)
    for what, role, seconds in acts:
        _disturb(world, what, role)
        world.run(seconds)
