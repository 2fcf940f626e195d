"""What is known before any traffic: runs, and whether the steps can be proved in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ops_commander.api.policy import DEFAULT_POLICY, Objective, OnInfeasible, RolloutPolicySpec, Verification
from ops_commander.api.v1alpha1 import (
    BaselineStatus,
    ModelRolloutSpec,
    ModelRolloutStatus,
    Role,
    StepKind,
    StepState,
    StepStatus,
)
from ops_commander.core import acceptance, presets
from ops_commander.core.question import question_of
from ops_commander.core.snapshot import Baseline, Check, RunRecord, Snapshot
from tests.unit.world import START, canary, full, rollout, shadow

POLICY = presets.resolved(DEFAULT_POLICY)
RUNS = [item for item in POLICY.objectives if item.run]
LIVE = [item for item in POLICY.objectives if item.queries]
ARTIFACTS = frozenset(item.run.artifact for item in RUNS if item.run)

POWERS = [(i, j) for i in range(5) for j in range(5 - i)]
SCORES = [(n % 97 / 97, n * 31 % 89 / 89) for n in range(3000)]
GOOD: Mapping[str, float] = {
    "compliance_at_1": 0.9,
    "compliance_at_1_samples": 20_000,
    "improvement/a": 0.2,
    "improvement_low/a": 0.1,
    "improvement_high/a": 0.3,
    "accuracy": 0.8,
    "accuracy_without_vision": 0.5,
    "accuracy_samples": 20_000,
    "integration_risk": 0.2,
    **{f"score_moment/{i}_{j}": sum(x**i * y**j for x, y in SCORES) for i, j in POWERS},
}
OLD = RunRecord("r1", {"compliance_at_1": 0.7, "compliance_at_1_samples": 20_000})


def policy(*objectives: Objective, **fields: Any) -> RolloutPolicySpec:
    fields = {"verification": Verification.OPTIONAL, **fields}
    return POLICY.model_copy(update={"objectives": list(objectives), **fields})


def new(metrics: Mapping[str, float] | None = None, artifacts: frozenset[str] = ARTIFACTS) -> RunRecord:
    return RunRecord("r2", {**GOOD, **(metrics or {})}, artifacts)


def waiting(
    of: RolloutPolicySpec, *, run_id: str | None = "r2", stable_run_id: str | None = "r1", **fields: Any
) -> Snapshot:
    """Version 1 serves, version 2 was asked for."""
    model = {"name": "ranker", "version": "2", **({"runId": run_id} if run_id else {})}
    body = {**rollout().body, "model": model}
    status = ModelRolloutStatus(stable_revision="stable", stable_version="1", stable_run_id=stable_run_id)
    return Snapshot(
        **{
            "name": "ranker",
            "namespace": "shop",
            "uid": "uid",
            "generation": 2,
            "resource_version": "7",
            "deleted_at": None,
            "finalizers": (),
            "annotations": {},
            "spec": ModelRolloutSpec.model_validate(body),
            "status": status,
            "policy": of,
            **fields,
        }
    )


def checks(snapshot: Snapshot, name: str) -> list[Check]:
    return [check for check in acceptance.spec_checks(snapshot, None) if check.name == name]


# --- Runs ---------------------------------------------------------------------------------------------------


def test_a_candidate_whose_run_proves_it_may_start() -> None:
    (check,) = checks(waiting(policy(*RUNS), runs={"r2": new(), "r1": OLD}), "model")

    assert (check.passed, check.reason) == (True, "Verified")
    assert check.message.startswith("compliance: 0.2 (CI95 ")


@pytest.mark.parametrize(
    ("metrics", "name"),
    [
        ({"compliance_at_1": 0.6}, "compliance"),
        ({"improvement/b": -0.2, "improvement_low/b": -0.3, "improvement_high/b": -0.1}, "improvement"),
        ({"accuracy_without_vision": 0.8}, "ablation-drop"),
    ],
)
def test_a_breach_in_a_run_is_known_before_any_traffic(metrics: dict[str, float], name: str) -> None:
    found = checks(waiting(policy(*RUNS), runs={"r2": new(metrics), "r1": OLD}), "model")

    assert [(check.passed, check.reason) for check in found] == [(False, "ObjectiveBreached")]
    assert found[0].message.startswith(f"{name}: ")


def test_without_the_artifact_nothing_is_believed() -> None:
    found = checks(waiting(policy(*RUNS), runs={"r2": new(artifacts=frozenset()), "r1": OLD}), "model")

    assert len(found) == len(RUNS)
    assert {(check.passed, check.reason) for check in found} == {(False, "RunEvidenceMissing")}
    assert "run r2 has no artifact evaluation/compliance.json" in found[0].message


def test_a_run_that_is_not_named() -> None:
    found = checks(waiting(policy(*RUNS), run_id=None), "model")

    assert {(check.passed, check.reason) for check in found} == {(False, "RunNotNamed")}
    expected = "expected spec.model.runId, or a policyRef whose objectives do without"
    assert found[0].message == f"objective compliance reads an MLflow run: {expected}"


def test_a_stable_version_without_a_run() -> None:
    found = checks(waiting(policy(*RUNS), stable_run_id=None, runs={"r2": new()}), "model")

    assert [(check.passed, check.reason) for check in found] == [(False, "BaselineRunNotNamed")]
    assert found[0].message.endswith("expected run.baselineRunId")


def test_the_run_to_compare_with_may_be_named() -> None:
    compliance = RUNS[0]
    assert compliance.run is not None
    named = compliance.model_copy(update={"run": compliance.run.model_copy(update={"baseline_run_id": "r0"})})
    runs = {"r2": new(), "r0": replace(OLD, run_id="r0")}

    (check,) = checks(waiting(policy(named), stable_run_id=None, runs=runs), "model")

    assert check.passed is True


@pytest.mark.parametrize(
    ("runs", "run_id"), [({}, "r2"), ({"r2": new()}, "r1")], ids=["the candidate's", "the stable version's"]
)
def test_a_run_that_mlflow_has_not_given_is_unknown(runs: dict[str, RunRecord], run_id: str) -> None:
    check = checks(waiting(policy(RUNS[0]), runs=runs), "model")[0]

    assert (check.passed, check.reason) == (None, "RunNotRead")
    assert check.message == f"objective compliance reads an MLflow run: {run_id} has not been read from MLflow yet"


def test_what_is_only_shown_keeps_nobody_from_starting() -> None:
    shown = [item.model_copy(update={"role": Role.ADVISORY}) for item in RUNS]

    assert checks(waiting(policy(*shown), run_id=None), "model") == []


def test_the_first_version_has_nothing_to_prove() -> None:
    snapshot = waiting(policy(*RUNS), run_id=None, status=ModelRolloutStatus())

    assert checks(snapshot, "model") == []


def test_a_required_objective_that_the_run_leaves_open_can_never_pass() -> None:
    open_ = {"improvement/b": 0.1, "improvement_low/b": -0.1, "improvement_high/b": 0.3}

    (check,) = checks(waiting(policy(*RUNS), runs={"r2": new(open_), "r1": OLD}), "model")

    assert check.passed is False


# --- Feasibility --------------------------------------------------------------------------------------------


def known(**rates: float) -> Baseline:
    return Baseline(tuple(BaselineStatus(name=name, ticks=720, rate=rate, value=0.0) for name, rate in rates.items()))


ERRORS = LIVE[0].model_copy(update={"name": "errors"})


def infeasible(rate: float, **fields: Any) -> list[Check]:
    spec = rollout().steps(shadow(most="10m"), canary(5, most="30m"), full(most="10m")).body
    snapshot = waiting(policy(ERRORS, **fields), baseline=known(errors=rate))
    changed = ModelRolloutSpec.model_validate({**spec, "model": {"name": "ranker", "version": "2"}})
    return checks(replace(snapshot, spec=changed), "feasibility")


def test_steps_that_can_be_proved_are_feasible() -> None:
    assert infeasible(100.0) == [Check("feasibility", True, "Feasible", "3 objective(s) can be decided in time")]


def test_a_step_that_not_even_a_perfect_candidate_could_leave_is_refused() -> None:
    (check,) = infeasible(1.0)

    assert (check.passed, check.reason) == (False, "Infeasible")
    said = "errors in step canary 5% needs at least 8340s, maxDuration is 1800s: could be decided with maxDuration of 1"
    assert check.message.startswith(said)


def test_a_policy_may_warn_instead() -> None:
    (check,) = infeasible(1.0, on_infeasible=OnInfeasible.WARN)

    assert check.passed is True


def test_what_is_not_known_is_not_feasible() -> None:
    snapshot = waiting(policy(ERRORS), baseline=Baseline(error="Prometheus cannot be reached: ConnectionError"))

    (check,) = checks(snapshot, "feasibility")

    assert (check.passed, check.reason) == (None, "BaselineUnknown")
    assert check.message == "the stable version's traffic: Prometheus cannot be reached: ConnectionError"


def test_under_way_nothing_is_checked_anew() -> None:
    assert checks(waiting(policy(ERRORS), baseline=None), "feasibility") == []


def test_without_any_traffic_nothing_can_be_proved() -> None:
    (check,) = checks(waiting(policy(ERRORS), baseline=Baseline()), "feasibility")

    assert check.passed is not True


# --- Policy -------------------------------------------------------------------------------------------------


def test_every_step_needs_an_objective_that_live_traffic_can_prove() -> None:
    half = ERRORS.model_copy(update={"steps": [StepKind.SHADOW, StepKind.FULL]})
    (check,) = checks(waiting(policy(half)), "policy")

    assert (check.passed, check.reason) == (False, "StepNotJudged")
    assert check.message.startswith("spec.steps[1] is canary 5%: expected a required objective")


@pytest.mark.parametrize("role", [Role.GUARD, Role.ADVISORY])
def test_what_a_step_does_not_wait_for_proves_no_step(role: Role) -> None:
    (check,) = checks(waiting(policy(ERRORS.model_copy(update={"role": role}))), "policy")

    assert check.reason == "StepNotJudged"


def test_a_query_that_may_not_be_asked_is_named() -> None:
    text = {"objectives": [{"name": "e", "ratio": {"bad": "sum(bad)", "total": "all"}, "max": 0.01}]}

    problem = acceptance.query_problem(RolloutPolicySpec.model_validate(text))

    assert problem is not None and problem.startswith("spec.objectives[0] (e) has the query 'sum(bad)': ")
    assert acceptance.query_problem(policy(ERRORS)) is None


# --- When is what asked -------------------------------------------------------------------------------------


def test_a_rollout_may_start_while_spec_asks_for_another_revision_and_none_is_under_way() -> None:
    snapshot = waiting(policy(ERRORS))
    step = StepStatus(index=0, name="shadow", state=StepState.RUNNING, state_since=START, entered_at=START)

    assert acceptance.starts_against_stable(snapshot)
    for status in (ModelRolloutStatus(), snapshot.status.model_copy(update={"step": step})):
        assert not acceptance.starts_against_stable(replace(snapshot, status=status))
    assert not acceptance.starts_against_stable(replace(snapshot, deleted_at=START))


def test_nothing_is_asked_of_prometheus_before_a_split_is_live() -> None:
    assert question_of(waiting(policy(ERRORS))) is None
