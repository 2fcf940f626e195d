"""The operator's own three voices, on the situations of the simulated cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ops_commander.api.ballot import Choice, RiskLevel, VoterRole
from ops_commander.api.risk import Band
from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import RiskStatus, RollbackStatus, StepState, Verdict
from ops_commander.api.verification import VerificationStatus
from ops_commander.core import evaluators
from ops_commander.core.quorum import Recommendation
from ops_commander.core.situation import Situation
from ops_commander.core.snapshot import Snapshot
from tests.unit.world import START, World, rollout

INFRA, QUALITY, COMMANDER = VoterRole


@pytest.fixture(scope="module")
def proved() -> Situation:
    """Version 2 in shadow, every objective met."""
    world = rollout().at("shadow").run(25)
    return Situation(world.snapshot(), world.now)


def said(situation: Situation, role: VoterRole) -> Recommendation:
    return evaluators.recommendations(situation)[role]


def changed(situation: Situation, change: Callable[[Snapshot], Snapshot]) -> Situation:
    return Situation(change(situation.snapshot), situation.now)


def with_status(situation: Situation, **fields: Any) -> Situation:
    return changed(situation, lambda old: replace(old, status=old.status.model_copy(update=fields)))


def with_candidate(situation: Situation, **fields: Any) -> Situation:
    revision = situation.snapshot.status.candidate_revision
    return _with_pods(situation, revision or "", fields)


def with_stable(situation: Situation, **fields: Any) -> Situation:
    revision = situation.snapshot.status.stable_revision
    return _with_pods(situation, revision or "", fields)


def _with_pods(situation: Situation, revision: str, fields: dict[str, Any]) -> Situation:
    def change(old: Snapshot) -> Snapshot:
        views = {**old.replica_sets, revision: replace(old.replica_sets[revision], **fields)}
        return replace(old, replica_sets=views)

    return changed(situation, change)


def verification(situation: Situation, verdict: RiskVerdict) -> VerificationStatus:
    revision = situation.snapshot.status.candidate_revision
    assert revision is not None
    return VerificationStatus(
        revision=revision,
        verdict=verdict,
        reason="Found",
        message="pickle imports os.system",
        model_version="2",
        run_id="run_8724",
        manifest_sha256="a" * 64,
        checked_at=START,
    )


def risk(verdict: RiskVerdict) -> RiskStatus:
    return RiskStatus(
        value=0.4,
        band=Band.MEDIUM,
        verdict=verdict,
        message="0.4 = …",
        parts=[],
        weights_version="default-1",
        digest="d" * 64,
    )


def test_all_three_say_go_where_all_is_well(proved: Situation) -> None:
    found = evaluators.recommendations(proved)

    assert {role: item.choice for role, item in found.items()} == dict.fromkeys(VoterRole, Choice.GO)
    assert found[INFRA].risk is RiskLevel.LOW
    assert found[INFRA].concern == "pods are Ready and 2 objective(s) of service are met"
    assert [item.kind for item in found[INFRA].evidence] == ["pods", "objective", "objective"]
    assert all(item.query for item in found[INFRA].evidence[1:])


def test_files_that_nobody_verified_are_a_concern(proved: Situation) -> None:
    assert said(proved, QUALITY).risk is RiskLevel.MEDIUM
    assert "none of the candidate's files was verified" in said(proved, QUALITY).concern


@pytest.mark.parametrize(
    ("verdict", "choice", "level"),
    [
        (RiskVerdict.SAFE, Choice.GO, RiskLevel.LOW),
        (RiskVerdict.SHADOW_ONLY, Choice.NO_GO, RiskLevel.MEDIUM),
        (RiskVerdict.REJECT, Choice.NO_GO, RiskLevel.HIGH),
    ],
)
def test_the_verdict_on_the_files_is_that_of_quality_and_risk_that_of_the_commander(
    proved: Situation, verdict: RiskVerdict, choice: Choice, level: RiskLevel
) -> None:
    verified = with_status(proved, verification=verification(proved, verdict))
    assert (said(verified, QUALITY).choice, said(verified, QUALITY).risk) == (choice, level)
    assert said(verified, QUALITY).evidence[0].run_id == "run_8724"

    risky = with_status(proved, risk=risk(verdict))
    assert (said(risky, COMMANDER).choice, said(risky, COMMANDER).risk) == (choice, level)


def test_a_restart_under_traffic_is_a_no_go_of_high_risk(proved: Situation) -> None:
    found = said(with_candidate(proved, restarts=1), INFRA)

    assert (found.choice, found.risk, found.concern) == (Choice.NO_GO, RiskLevel.HIGH, "1 container restart(s)")


def test_pods_that_are_not_ready_are_no_vote_yet(proved: Situation) -> None:
    found = said(with_candidate(proved, ready=1, trouble="container server OOMKilled"), INFRA)

    assert found.choice is None and "1 of 2 pod(s) Ready, no restart: container server OOMKilled" in found.concern


def test_metrics_that_are_stale_are_no_vote_yet(proved: Situation) -> None:
    found = said(Situation(proved.snapshot, proved.now + timedelta(minutes=5)), INFRA)

    assert found.choice is None and "no answer since" in found.concern


def test_a_failing_objective_is_a_no_go(proved: Situation) -> None:
    rows = [row.model_copy(update={"verdict": Verdict.FAIL}) for row in proved.rows]
    situation = Situation(proved.snapshot, proved.now)
    situation.__dict__["rows"] = rows

    assert said(situation, INFRA).choice is Choice.NO_GO and said(situation, INFRA).risk is RiskLevel.HIGH


def test_a_split_that_is_not_the_wanted_one_is_a_no_go(proved: Situation) -> None:
    row = proved.rows[0].model_copy(update={"verdict": Verdict.INCONCLUSIVE, "reason": evaluators.MISROUTED})
    situation = Situation(proved.snapshot, proved.now)
    situation.__dict__["rows"] = [row, *proved.rows[1:]]

    assert (said(situation, INFRA).choice, said(situation, INFRA).risk) == (Choice.NO_GO, RiskLevel.MEDIUM)


def test_shadow_without_traffic_is_no_vote_yet() -> None:
    world: World = rollout().at("shadow", StepState.PREPARING)
    situation = Situation(world.snapshot(), world.now)

    assert said(situation, INFRA).choice is None
    assert said(situation, QUALITY).concern == "shadow has no traffic to be judged by yet"


@pytest.mark.parametrize("ready", [0, 1])
def test_without_a_whole_stable_version_the_commander_does_not_go(proved: Situation, ready: int) -> None:
    found = said(with_stable(proved, ready=ready), COMMANDER)

    assert (found.choice, found.risk) == (Choice.NO_GO, RiskLevel.HIGH)
    assert f"stable has {ready} of 2 pod(s) Ready" in found.concern


@pytest.mark.parametrize(
    ("seconds", "choice"), [(12.5, Choice.GO), (120.0, Choice.GO), (120.5, Choice.NO_GO), (None, Choice.NO_GO)]
)
def test_an_earlier_revert_must_have_met_the_recovery_time(
    proved: Situation, seconds: float | None, choice: Choice
) -> None:
    rollback = RollbackStatus(
        deployment_id="ranker-2bcdfghjkl-1",
        reason="ObjectiveBreached",
        message="errors",
        breach_visible_at=START,
        decided_at=START,
        traffic_seconds=1.0,
        replica_set_seconds=seconds,
    )

    assert said(with_status(proved, rollback=rollback), COMMANDER).choice is choice
