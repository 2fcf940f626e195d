"""Nothing unverified ships: files before the first pod, tests before traffic, files anew before each step."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ops_commander.api.policy import RolloutPolicySpec
from ops_commander.api.risk import Band
from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import Outcome, Phase, StepState, TestState
from ops_commander.api.verification import EvidenceFile, VerificationStatus, VerifiedFile
from ops_commander.core import comparers, names
from ops_commander.core.decide import decide
from ops_commander.core.snapshot import Installation
from tests.unit.world import POLICY, START, RolloutBuilder, World, canary, full, rollout, shadow

PREFLIGHT: dict[str, Any] = {"manifest": "candidate_manifest.yaml"}
TESTS = [
    {
        "name": name,
        "kind": kind,
        "timeout": "60s",
        "template": {"spec": {"containers": [{"name": "test", "image": "tests:1"}]}},
    }
    for name, kind in (("smoke", "Smoke"), ("scores", "Regression"))
]
RISK = {"name": "integration-risk", "slo": "S8", "risk": {}, "max": 0.6}
INSTALLED = Installation(image="ops-commander:1", mlflow_url="http://mlflow:5000")


def policy(*more: dict[str, Any], **fields: Any) -> RolloutPolicySpec:
    old = POLICY.model_dump(mode="json", by_alias=True, exclude_none=True)
    return RolloutPolicySpec.model_validate({**old, "objectives": [*old["objectives"], *more], **fields})


def found(world: World, version: str, **fields: Any) -> VerificationStatus:
    """What verifying a version's files brings."""
    preflight = world.spec.preflight
    assert preflight is not None
    known: dict[str, Any] = {
        "revision": world.revision(version),
        "verdict": RiskVerdict.SAFE,
        "reason": "Verified",
        "message": "7 components verified",
        "model_version": version,
        "run_id": f"run-{version}",
        "manifest_sha256": "ab" * 32,
        "schema_drift": 0.0,
        "dependency_mismatch": 0.0,
        "files": [VerifiedFile(path="model.onnx", sha256="cd" * 32, size=10)],
        "asked": names.asked_of(preflight),
        "checked_at": world.now,
    }
    return VerificationStatus(**{**known, **fields})


def trying(builder: RolloutBuilder | None = None, **fields: Any) -> World:
    """Version 1 serves; version 2 is asked for, with a manifest."""
    world = (builder or rollout()).live()
    world.installation = INSTALLED
    world.edit(preflight=PREFLIGHT)
    world.findings["2"] = found(world, "2", **fields)
    world.want_version("2")
    return world


def ended(world: World, outcome: Outcome, limit: float = 400) -> World:
    return world.run(0.2).run_until(lambda: world.outcome is outcome, limit).run(15)


# --- Files before the first pod ---------------------------------------------------------------------------


def test_a_verified_version_is_shipped_and_status_says_what_was_found() -> None:
    world = ended(trying(), Outcome.COMPLETED)

    assert world.status.verification == world.findings["2"]
    assert world.deployment.run_id == "run-2"
    assert "Verified" in world.reasons()


def test_without_a_manifest_nothing_starts_unless_the_policy_lets_it() -> None:
    world = rollout().live()
    world.policy = policy(verification="Required")
    world.want_version("2")
    world.run(30)

    assert (world.pods("2"), world.status.reason) == (0, "NotVerified")
    assert world.status.phase is Phase.DEGRADED
    assert "spec.preflight is not set" in (world.status.message or "")


def test_nothing_starts_before_its_files_are_verified() -> None:
    world = trying()
    findings = world.findings.pop("2")
    world.run(60)

    assert (world.pods("2"), world.status.reason) == (0, "Verifying")
    world.findings["2"] = findings
    ended(world, Outcome.COMPLETED)


def test_a_rejected_version_gets_no_pod() -> None:
    veto = "ChecksumMismatch: model.onnx: sha256 is 12: expected 34"
    world = trying(verdict=RiskVerdict.REJECT, reason="ChecksumMismatch", message=veto, vetoes=[veto])
    world.run(60)

    assert world.pods("2") == 0
    assert world.share("1") == pytest.approx(1.0)
    assert (world.status.phase, world.status.reason, world.status.message) == (Phase.DEGRADED, "ChecksumMismatch", veto)
    assert world.status.risk is not None and world.status.risk.verdict is RiskVerdict.REJECT
    assert "VerificationFailed" in world.reasons()


def test_what_was_verified_for_another_manifest_does_not_count() -> None:
    world = trying(asked="something else")
    world.run(60)

    assert (world.pods("2"), world.status.reason) == (0, "Verifying")


def test_an_alias_is_resolved_by_the_verification() -> None:
    world = rollout().live()
    world.installation = INSTALLED
    world.edit(preflight=PREFLIGHT, model={"name": "ranker", "alias": "challenger"})
    revision = names.revision_of(world.spec)
    world.findings["@challenger"] = found(world, "7", revision=revision)
    ended(world, Outcome.COMPLETED)

    assert (world.deployment.model_version, world.status.stable_version) == ("7", "7")


def test_a_preflight_without_mlflow_is_refused() -> None:
    world = rollout().live()
    world.edit(preflight=PREFLIGHT)
    world.want_version("2")
    world.run(20)

    assert (world.pods("2"), world.status.reason) == (0, "MLflowNotConfigured")


# --- Files anew before each step --------------------------------------------------------------------------


def test_each_step_waits_until_the_files_were_read_again() -> None:
    world = trying(rollout().steps(shadow(most="10m"), canary(5), full()))
    world.file_problems = None
    world.run_until(lambda: world.status.reason == "VerifyingArtifacts", 120).run(60)

    assert (world.step and world.step.name, world.candidate_weight) == ("shadow", 0)
    world.file_problems = ()
    ended(world, Outcome.COMPLETED)


def test_a_file_that_has_changed_reverts() -> None:
    world = trying()
    world.run_until(lambda: world.candidate_weight == 5, 200)
    world.file_problems = ("model.onnx: sha256 is 12: expected cd",)
    ended(world, Outcome.ROLLED_BACK)

    assert world.deployment.reason == "ArtifactChanged"
    assert "model.onnx" in (world.status.message or "")
    assert world.pods("2") == 0
    assert world.share("1") == pytest.approx(1.0)


def test_files_that_cannot_be_read_again_promote_nothing() -> None:
    world = trying()
    world.file_problems = None
    ended(world, Outcome.ROLLED_BACK)

    assert world.deployment.reason == "DeadlineInconclusive"
    assert "not read again" in (world.status.message or "")


def test_an_order_to_promote_lets_no_changed_file_through() -> None:
    world = trying(rollout().steps(shadow(least="60s", most="10m"), canary(5), full()))
    world.run_until(lambda: world.state is StepState.RUNNING, 60)
    world.file_problems = ("model.onnx: sha256 is 12: expected cd",)
    world.annotate(names.PROMOTE, world.deployment.id)
    ended(world, Outcome.ROLLED_BACK)

    assert world.deployment.reason == "ArtifactChanged"
    assert [step.name for step in world.deployment.steps] == ["shadow"]


# --- Tests before traffic ---------------------------------------------------------------------------------


def under_test(smoke: tuple[float, bool] = (5.0, True), scores: tuple[float, bool] = (8.0, True)) -> World:
    world = rollout().live()
    world.tests = {"smoke": smoke, "scores": scores}
    world.edit(preflight={**PREFLIGHT, "tests": TESTS})
    world.installation = INSTALLED
    world.findings["2"] = found(world, "2")
    world.want_version("2")
    return world


def keep_logs(world: World) -> None:
    """What the operator's log keeper does for Jobs that have ended."""
    for name, view in world.jobs.items():
        if view.ended_at and not view.log:
            kept = EvidenceFile(run_id="run-2", path=f"{name}/integration_run.log", sha256="0" * 64, written_at=START)
            world.jobs[name] = type(view)(view.name, view.state, view.message, view.started_at, view.ended_at, kept)
    world.wake()


def test_pods_are_tested_before_any_traffic() -> None:
    world = under_test()
    world.run_until(lambda: world.status.reason == "Testing", 60).run(3)

    assert world.pods("2") == 2
    assert (world.envoy.mirror, world.candidate_weight) == (None, 0)
    assert "smoke running" in (world.status.message or "")
    world.run(20)
    assert world.status.reason == "Testing" and "its log is not in MLflow yet" in (world.status.message or "")
    keep_logs(world)
    ended(world, Outcome.COMPLETED)
    assert [(row.name, row.state, row.log is not None) for row in world.deployment.tests] == [
        ("smoke", TestState.PASSED, True),
        ("scores", TestState.PASSED, True),
    ]


def test_a_failing_test_ends_the_deployment_without_traffic() -> None:
    world = under_test(scores=(4.0, False))
    before = world.now
    ended(world, Outcome.ROLLED_BACK)

    assert world.deployment.reason == "TestFailed"
    assert "test scores: Job has reached" in (world.status.message or "")
    assert world.answered("2", before) == 0 and world.envoy.mirror is None
    assert world.pods("2") == 0


def test_tests_that_never_end_are_given_up() -> None:
    world = under_test(smoke=(1e6, True))
    ended(world, Outcome.ROLLED_BACK)

    assert world.deployment.reason == "TestsNotFinished"
    assert not [view for view in world.jobs.values() if view.ended_at is None]


def test_an_abort_ends_the_tests_too() -> None:
    world = under_test(smoke=(1e6, True))
    world.run_until(lambda: world.status.reason == "Testing", 60)
    world.annotate(names.ABORT, world.deployment.id)
    ended(world, Outcome.ROLLED_BACK)

    assert not [view for view in world.jobs.values() if view.ended_at is None]


def test_a_first_version_is_tested_before_it_is_live() -> None:
    builder = rollout().with_(preflight={**PREFLIGHT, "tests": TESTS})
    world = builder.created()
    world.installation = INSTALLED
    world.tests = {"smoke": (5.0, True), "scores": (5.0, False)}
    world.findings["1"] = found(world, "1")
    ended(world, Outcome.ROLLED_BACK)

    assert world.deployment.reason == "TestFailed"
    assert (world.pods("1"), world.route) == (0, None)


@pytest.mark.parametrize("killed_before", range(12))
def test_a_killed_operator_runs_no_test_twice(killed_before: int) -> None:
    world = under_test()
    world.run_until(lambda: world.state is StepState.PREPARING, 60)
    world.dies_before_write = killed_before  # _run_job fails a test that is run twice
    world.run_until(lambda: bool(world.jobs) and all(view.ended_at for view in world.jobs.values()), 200)
    keep_logs(world)
    ended(world, Outcome.COMPLETED)


# --- Risk ---------------------------------------------------------------------------------------------------


def risky(world: World) -> World:
    """Live parts of the risk come as the manifest states them: the simulated servers have no drift objective."""
    world.policy = policy(RISK)
    return world


STATED: dict[str, Any] = {"latency_upper_ms": 2.0, "baseline_p95_ms": 100.0, "output_upper": 0.001}


def test_low_risk_goes_all_the_way() -> None:
    world = ended(risky(trying(**STATED)), Outcome.COMPLETED)

    risk = world.status.risk
    assert risk is not None
    assert (risk.value, risk.band, risk.verdict) == (0.001, Band.LOW, RiskVerdict.SAFE)
    assert [part.source for part in risk.parts] == ["Verification", "Verification", "Manifest", "Manifest"]


def test_medium_risk_stays_in_shadow_and_waits_for_a_person() -> None:
    world = risky(trying(schema_drift=0.5, dependency_mismatch=0.5, **STATED))
    world.run(600)

    assert (world.step and world.step.name, world.candidate_weight) == ("shadow", 0)
    assert (world.status.phase, world.status.reason, world.status.next) == (
        Phase.PAUSED,
        "ShadowOnly",
        "promote or abort",
    )
    world.annotate(names.PROMOTE, world.deployment.id)
    world.run_until(lambda: world.candidate_weight == 5, 60)


def test_whoever_waits_for_a_person_still_does_after_the_operator_was_away() -> None:
    world = risky(trying(schema_drift=0.5, dependency_mismatch=0.5, **STATED))
    world.run(600)
    assert world.status.reason == "ShadowOnly"

    commits = world.commits

    world.kill()
    world.run(40)

    assert (world.status.phase, world.status.reason, world.commits) == (Phase.PAUSED, "ShadowOnly", commits)


def test_whoever_waits_for_a_person_still_does_while_prometheus_is_away() -> None:
    world = risky(trying(schema_drift=0.5, dependency_mismatch=0.5, **STATED))
    world.run(600)

    world.metrics_up = False
    world.run(300)

    assert (world.status.phase, world.status.reason) == (Phase.PAUSED, "ShadowOnly")


def test_what_was_not_measured_counts_as_the_worst_at_the_deadline() -> None:
    world = ended(risky(trying(schema_drift=0.5, dependency_mismatch=0.4)), Outcome.ROLLED_BACK)

    assert world.deployment.reason == "DeadlineInconclusive"
    assert "LatencyChange" in (world.status.message or "")


def test_a_risk_that_is_high_for_certain_reverts_at_once() -> None:
    world = ended(risky(trying(schema_drift=0.9, dependency_mismatch=0.9)), Outcome.ROLLED_BACK)

    assert world.deployment.reason == "ObjectiveBreached"
    assert world.status.rollback is not None and world.status.rollback.objective == "integration-risk"


def test_a_version_for_shadow_needs_a_step_of_it() -> None:
    world = risky(trying(rollout().steps(canary(5), full()), verdict=RiskVerdict.SHADOW_ONLY))
    world.run(30)

    assert (world.pods("2"), world.status.reason) == (0, "ShadowOnly")
    assert "expected a shadow step first" in (world.status.message or "")


# --- The comparer -------------------------------------------------------------------------------------------


def comparing() -> World:
    step = shadow()
    step["shadow"]["compare"] = {"sample": 20}
    world = trying(rollout().steps(step, canary(5), full()))
    world.run_until(lambda: world.state is StepState.RUNNING, 60)
    return world


def test_a_comparer_gets_a_sample_while_the_step_runs_and_goes_after_it() -> None:
    world = comparing()
    name = names.comparer_name("ranker", world.revision("2"))
    assert world.route is not None
    filters = world.route["spec"]["rules"][0]["filters"]

    assert list(world.comparers) == [name]
    assert [
        (item["requestMirror"]["backendRef"]["name"], item["requestMirror"].get("percent")) for item in filters
    ] == [
        ("ranker-candidate", None),
        ("ranker-compare", 20),
    ]
    container = world.comparers[name]["spec"]["template"]["spec"]["containers"][0]
    told = {item["name"]: item["value"] for item in container["env"]}
    assert told["OPS_COMMANDER_COMPARE_CANDIDATE_URL"] == "http://ranker-candidate:80"
    assert told["OPS_COMMANDER_COMPARE_RUN_ID"] == "run-2"
    assert told["OPS_COMMANDER_COMPARE_EVIDENCE_PATH"] == comparers.evidence_path(world.deployment.id)

    ended(world, Outcome.COMPLETED)
    assert (world.comparers, "ranker-compare" in world.services) == ({}, False)
    assert world.failed() == 0


def test_the_service_of_a_comparer_outlives_the_route_to_it() -> None:
    world = comparing()
    named: list[bool] = []

    def watch(seen: World, _: Any) -> None:
        rules = seen.route["spec"]["rules"] if seen.route else []
        mirrored = any("ranker-compare" in str(rule.get("filters")) for rule in rules)
        named.append(not mirrored or "ranker-compare" in seen.services)

    world.watches.append(watch)
    world.annotate(names.ABORT, world.deployment.id)
    ended(world, Outcome.ROLLED_BACK)

    assert named and all(named)
    assert (world.comparers, "ranker-compare" in world.services) == ({}, False)


def test_answers_are_compared_only_by_an_operator_that_knows_its_image() -> None:
    step = shadow()
    step["shadow"]["compare"] = {}
    world = trying(rollout().steps(step, canary(5), full()))
    world.installation = Installation(mlflow_url="http://mlflow:5000")
    world.run(30)

    assert (world.pods("2"), world.status.reason) == (0, "ImageNotKnown")


def test_decisions_depend_on_nothing_but_the_snapshot() -> None:
    world = comparing()
    snapshot = world.snapshot()

    assert decide(snapshot, world.now) == decide(snapshot, world.now)
    assert decide(snapshot, world.now + timedelta(seconds=1)).rule == "running"
