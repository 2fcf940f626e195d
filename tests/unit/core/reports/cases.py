"""Deployments of all kinds out of the simulated cluster, and what is known of them besides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from ops_commander.api.action_plan import ActionPlan
from ops_commander.api.ballot import VoterRole
from ops_commander.api.policy import Objective, RolloutPolicySpec
from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import ModelRollout, ObjectiveStatus, Outcome, StepState
from ops_commander.api.verification import EvidenceFile, VerifiedComponent
from ops_commander.core import names, run_objectives
from ops_commander.core.recordings.replay import Replay
from ops_commander.core.reports.provenance import GRAFANA_RUN_ID, Provenance
from ops_commander.core.reports.replayed import series_of
from ops_commander.core.reports.subject import Subject
from ops_commander.core.run_objectives import Runs
from ops_commander.core.snapshot import RunRecord
from tests.unit import recorded
from tests.unit.core.test_before_traffic import INSTALLED, PREFLIGHT, RISK, STATED, TESTS, found, keep_logs
from tests.unit.core.test_before_traffic import policy as policy_with
from tests.unit.recorded import Recorded
from tests.unit.world import START, Health, World, rollout

DEPLOY_RUN = "87245b5f0c7b4f6f9c1e2ad1a0c0d9aa"
MODEL_RUN = "run-2"
GRAFANA_RUN = "grafana-20260105-1"
EXPERIMENT_RUN = "5c0ffee05c0ffee05c0ffee05c0ffee0"
EXTERNAL = {"voters": dict.fromkeys(("infrastructureMonitor", "qualityOfficer", "opsCommander"), "External")}
COMPARED: dict[str, Any] = {
    "name": "p95-drift",
    "slo": "S2",
    "quantile": {"buckets": "seconds_bucket"},
    "compare": "Difference",
    "max": 0.005,
    "unit": "s",
    "role": "Advisory",
}


@dataclass(frozen=True)
class Case:
    """A rollout as the API server has it, and what its reports are made with."""

    rollout: ModelRollout
    now: datetime
    plan: ActionPlan | None = None
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def subject(self) -> Subject:
        return Subject(self.rollout, self.now, self.plan, self.provenance)


def as_stored(world: World, **annotations: str) -> ModelRollout:
    """As it is read back from the API server."""
    metadata: dict[str, Any] = {"name": world.name, "namespace": world.namespace}
    if annotations:
        metadata["annotations"] = {key.replace("__", "/"): value for key, value in annotations.items()}
    written = ModelRollout(metadata=metadata, spec=world.spec, status=world.status)
    return ModelRollout.model_validate(written.model_dump(mode="json", by_alias=True, exclude_none=True))


def with_run_rows(rollout_: ModelRollout, *rows: ObjectiveStatus) -> ModelRollout:
    """Objectives that runs answer: the simulated cluster has no MLflow."""
    status = rollout_.status.model_copy(update={"objectives": [*rollout_.status.objectives, *rows]})
    return rollout_.model_copy(update={"status": status})


def run_rows() -> list[ObjectiveStatus]:
    """S1, S5 and S6, judged on a run."""
    record = RunRecord(
        MODEL_RUN,
        {
            "improvement/ndcg": 0.021,
            "improvement_low/ndcg": 0.012,
            "improvement_high/ndcg": 0.03,
            "accuracy": 0.91,
            "accuracy_samples": 20000.0,
            "accuracy_without_vision": 0.8,
            "compliance": 0.97,
            "compliance_samples": 50000.0,
        },
        frozenset({"evaluation/improvement.json", "evaluation/ablation.json", "evaluation/compliance.json"}),
    )
    before = RunRecord(
        "run-1",
        {"compliance": 0.82, "compliance_samples": 50000.0},
        frozenset({"evaluation/compliance.json"}),
    )
    objectives = [
        {
            "name": "improvement",
            "slo": "S5",
            "run": {
                "metric": "improvement/*",
                "interval": {"low": "improvement_low/*", "high": "improvement_high/*"},
                "artifact": "evaluation/improvement.json",
            },
            "min": 1e-6,
            "breach": 0.0,
        },
        {
            "name": "ablation-drop",
            "slo": "S6",
            "run": {
                "metric": "accuracy",
                "samples": "accuracy_samples",
                "against": "accuracy_without_vision",
                "artifact": "evaluation/ablation.json",
            },
            "min": 0.05,
        },
        {
            "name": "compliance",
            "slo": "S1",
            "run": {
                "metric": "compliance",
                "samples": "compliance_samples",
                "artifact": "evaluation/compliance.json",
            },
            "compare": "Difference",
            "min": 0.1,
            "breach": -0.02,
        },
    ]
    runs = Runs(MODEL_RUN, record, "run-1", before)
    return [run_objectives.judge(Objective.model_validate(body), runs) for body in objectives]


@cache
def completed() -> Case:
    """Verified, tested, compared, voted on, and carried to all traffic; brought by a plan."""
    world = rollout().policy(quorum=EXTERNAL).live()
    assert world.policy is not None
    world.policy = RolloutPolicySpec.model_validate(
        {**policy_with(RISK, COMPARED).model_dump(mode="json", by_alias=True, exclude_none=True), "quorum": EXTERNAL}
    )
    world.tests = {"smoke": (5.0, True), "scores": (8.0, True)}
    world.edit(preflight={**PREFLIGHT, "tests": TESTS})
    world.installation = INSTALLED
    components = [
        VerifiedComponent(name=name, verdict=RiskVerdict.SAFE, message="as it should be")
        for name in ("identity", "schema", "lockfile", "config", "checkpoints[0]", "risk")
    ]
    evidence = [EvidenceFile(run_id=MODEL_RUN, path=path, sha256="ef" * 32, written_at=START) for path in _REPORTS]
    world.findings["2"] = found(world, "2", components=components, evidence=evidence, **STATED)
    world.health["2"] = Health(latency=0.02)
    world.want_version("2")
    world.run_until(lambda: bool(world.jobs) and all(view.ended_at for view in world.jobs.values()), 200)
    keep_logs(world)
    world.run_until(lambda: "VotesAwaited" in world.reasons(), 200)
    for role, choice, risk, concern in _VOTES:
        world.vote(role, choice, risk, concern)
    world.run_until(lambda: world.outcome is Outcome.COMPLETED, 400).run(15)
    stored = with_run_rows(as_stored(world, **{GRAFANA_RUN_ID: GRAFANA_RUN}), *run_rows())
    provenance = Provenance(deploy_run_id=DEPLOY_RUN, mlflow_url="http://mlflow.example:5000")
    return Case(stored, world.now, plan(world.deployment.id, world.now), provenance)


_REPORTS = ("preflight_report.json", "api_schema_diff.json", "lock_diff.json")
_VOTES = (
    (VoterRole.INFRASTRUCTURE_MONITOR, "GO", "Low", "all pods are Ready, P95 has not moved"),
    (VoterRole.QUALITY_OFFICER, "NO-GO", "High", "scores of Dutch queries fell by 3 %"),
    (VoterRole.OPS_COMMANDER, "GO", "Low", "a rollback is ready"),
)


def plan(deployment_id: str, now: datetime) -> ActionPlan:
    """Three actions, of which two have ended."""
    actions: list[dict[str, Any]] = [
        {
            "id": "A1",
            "title": "Deploy V1.0 to production",
            "kind": "deploy",
            "priority": "HIGH",
            "owner": "ops_commander",
            "estimate": "30m",
            "successCriteria": ["error_rate < 0.01"],
            "deploy": {
                "target": "ranker",
                "environment": "production",
                "percent": 100,
                "model": {"name": "ranker", "version": "2"},
            },
        },
        {
            "id": "A4",
            "title": "Modality-balanced loss ablation",
            "kind": "experiment",
            "priority": "MEDIUM",
            "owner": "ops_commander",
            "estimate": "2h",
            "experiment": {"image": "registry.example/ablation:1"},
        },
        {
            "id": "A6",
            "title": "Generate deployment report",
            "kind": "report",
            "priority": "LOW",
            "owner": "ops_commander",
            "estimate": "1m",
            "report": {"kinds": ["execution", "innovation"]},
        },
    ]
    status = {
        "phase": "Running",
        "runId": "b16b00b5b16b00b5b16b00b5b16b00b5",
        "counts": {"total": 3, "succeeded": 2, "running": 1},
        "actions": [
            {
                "id": "A1",
                "priority": "HIGH",
                "state": "Succeeded",
                "reason": "CriteriaMet",
                "result": "error_rate = 0",
                "startedAt": _text(now - timedelta(minutes=5)),
                "endedAt": _text(now),
                "object": {"kind": "ModelRollout", "name": "ranker", "deploymentId": deployment_id},
                "evidence": {"runId": DEPLOY_RUN, "artifact": "deployment.json", "deploymentId": deployment_id},
            },
            {
                "id": "A4",
                "priority": "MEDIUM",
                "state": "Succeeded",
                "reason": "CriteriaMet",
                "result": "visual_ablation_drop = 0.07",
                "endedAt": _text(now),
                "evidence": {"runId": EXPERIMENT_RUN, "artifact": "ablation.json", "sha256": "ab" * 32},
            },
            {
                "id": "A6",
                "priority": "LOW",
                "state": "Running",
                "reason": "Writing",
                "expectedCompletion": _text(now + timedelta(minutes=1)),
            },
        ],
    }
    spec = {"meetingId": "meeting_20251014_120000", "source": "reports/handoff/pending_actions.json"}
    return ActionPlan.model_validate(
        {"metadata": {"name": "meeting"}, "spec": {**spec, "actions": actions}, "status": status}
    )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


@cache
def rolled_back() -> Case:
    """Good for a while at 5 %, then slow: reverted, and replayed from its recording."""
    world = recorded.at(rollout().policy(objectives=_objectives()), "canary 5%")
    world.run(12)
    world.health["2"] = Health(latency=0.62)
    world.ended()
    provenance = Provenance(deploy_run_id=DEPLOY_RUN, series=series(world))
    return Case(as_stored(world, **{GRAFANA_RUN_ID: GRAFANA_RUN}), world.now, None, provenance)


def _objectives() -> list[dict[str, Any]]:
    body = policy_with(COMPARED).model_dump(mode="json", by_alias=True, exclude_none=True)
    return list(body["objectives"])


def series(world: Recorded) -> dict[str, Any]:
    """Objectives at each tick, out of a replay that found the same."""
    replay = Replay(world.recording(), iter(world.ticks()))
    found_ = series_of(replay.run(every=True))
    assert replay.differences == []
    return found_


@cache
def awaiting_votes() -> Case:
    """In shadow, held by one missing vote."""
    world = rollout().policy(quorum=EXTERNAL).at("shadow")
    world.run_until(lambda: "VotesAwaited" in world.reasons(), 60)
    world.vote(VoterRole.INFRASTRUCTURE_MONITOR, "GO")
    world.run(5)
    return Case(as_stored(world), world.now, None, Provenance(deploy_run_id=DEPLOY_RUN))


@cache
def without_run() -> Case:
    """Rolled back by a person, and no MLflow: nothing proves a figure."""
    world = rollout().at("canary 5%")
    world.annotate(names.ABORT, world.deployment.id)
    world.run_until(lambda: world.outcome is Outcome.ROLLED_BACK, 60).run(5)
    return Case(as_stored(world), world.now)


@cache
def held() -> Case:
    """At 5 % without metrics."""
    world = rollout().steps(*rollout().body["steps"]).at("canary 5%")
    world.metrics_up = False
    world.run_until(lambda: world.state is StepState.HELD, 60).run(2)
    return Case(as_stored(world), world.now, None, Provenance(deploy_run_id=DEPLOY_RUN))


@cache
def nothing_started() -> Case:
    """Just applied."""
    return Case(as_stored(rollout().created()), START)


@cache
def failed_test() -> Case:
    """A regression test failed before any traffic."""
    world = rollout().live()
    world.tests = {"smoke": (5.0, True), "scores": (4.0, False)}
    world.edit(preflight={**PREFLIGHT, "tests": TESTS})
    world.installation = INSTALLED
    world.findings["2"] = found(world, "2", dependency_mismatch=0.4)
    world.want_version("2")
    world.run(0.2).run_until(lambda: world.outcome is Outcome.ROLLED_BACK, 400).run(15)
    return Case(as_stored(world), world.now, None, Provenance(deploy_run_id=DEPLOY_RUN))


CASES = {
    "completed": completed,
    "rolled-back": rolled_back,
    "awaiting-votes": awaiting_votes,
    "without-run": without_run,
    "held": held,
    "nothing-started": nothing_started,
    "test-failed": failed_test,
}


def without_provenance(case: Case) -> Case:
    """The same, of which nothing is known besides."""
    return replace(case, provenance=Provenance())
