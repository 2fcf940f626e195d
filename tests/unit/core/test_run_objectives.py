"""Objectives that an MLflow run answers: S1 and S5 to S8 at their edges, and runs that prove nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ops_commander.api.policy import DEFAULT_POLICY, Compare, Objective, OnBreach, RunMeasure
from ops_commander.api.v1alpha1 import ObjectiveStatus, Verdict
from ops_commander.core import objectives, run_objectives
from ops_commander.core.run_objectives import Runs
from ops_commander.core.snapshot import RunRecord

POLICY = {objective.name: objective for objective in DEFAULT_POLICY.objectives if objective.run}
POLICY["integration-risk"] = Objective(
    name="integration-risk",
    run=RunMeasure(metric="integration_risk", exact=True, artifact="integration/risk.json"),
    max=0.6,
)
COMPLIANCE, IMPROVEMENT, ABLATION, CORRELATION, RISK = (
    POLICY[name] for name in ("compliance", "improvement", "ablation-drop", "score-correlation", "integration-risk")
)
ARTIFACTS = frozenset(item.run.artifact for item in POLICY.values() if item.run)
PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def run(metrics: dict[str, float], run_id: str = "r2", artifacts: frozenset[str] = ARTIFACTS) -> RunRecord:
    return RunRecord(run_id, metrics, artifacts)


def judged(objective: Objective, metrics: dict[str, float], before: dict[str, float] | None = None) -> ObjectiveStatus:
    theirs = run(before, "r1", frozenset()) if before is not None else None
    return run_objectives.judge(objective, Runs("r2", run(metrics), "r1" if theirs else None, theirs))


def compliance(share: float, samples: float = 20_000.0) -> dict[str, float]:
    return {"compliance_at_1": share, "compliance_at_1_samples": samples}


def ablation(without: float, samples: float = 20_000.0) -> dict[str, float]:
    return {"accuracy": 0.8, "accuracy_without_vision": without, "accuracy_samples": samples}


def improvement(**metrics: tuple[float, float, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, (low, value, high) in metrics.items():
        found |= {f"improvement_low/{name}": low, f"improvement/{name}": value, f"improvement_high/{name}": high}
    return found


def moments(same: int, pairs: int = 3000) -> dict[str, float]:
    """Of 100 pairs as many have the same score twice."""
    scores = [(n % 97 / 97, n % 97 / 97 if n % 100 < same else n * 31 % 89 / 89) for n in range(pairs)]
    powers = [(i, j) for i in range(5) for j in range(5 - i)]
    return {f"score_moment/{i}_{j}": sum(x**i * y**j for x, y in scores) for i, j in powers}


# --- S1 and S5 to S8 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        pytest.param(0.84, PASS, id="14 points more"),
        pytest.param(0.80, OPEN, id="10 points more, give or take"),
        pytest.param(0.70, OPEN, id="the same"),
        pytest.param(0.68, OPEN, id="2 points less"),
        pytest.param(0.65, FAIL, id="5 points less"),
    ],
)
def test_s1_is_a_gain_of_10_points_and_reverts_a_loss_of_more_than_2(share: float, verdict: Verdict) -> None:
    row = judged(COMPLIANCE, compliance(share), compliance(0.70))

    assert row.verdict is verdict, row.message
    assert row.observed == pytest.approx(share - 0.70)
    assert (row.candidate, row.stable, row.samples) == (share, 0.70, 20_000)
    assert row.target == "difference to stable ≥ 0.1"


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        pytest.param((0.01, 0.05, 0.09), PASS, id="all of it above 0"),
        pytest.param((0.0, 0.05, 0.10), OPEN, id="reaches 0"),
        pytest.param((-0.02, 0.03, 0.08), OPEN, id="straddles 0"),
        pytest.param((-0.08, -0.04, 0.0), OPEN, id="reaches 0 from below"),
        pytest.param((-0.08, -0.04, -0.001), FAIL, id="all of it below 0"),
    ],
)
def test_s5_is_an_interval_above_0_and_reverts_one_below(
    interval: tuple[float, float, float], verdict: Verdict
) -> None:
    assert judged(IMPROVEMENT, improvement(recall=interval)).verdict is verdict


@pytest.mark.parametrize(
    ("others", "worst", "verdict"),
    [
        pytest.param({"b": (0.02, 0.03, 0.04)}, "b", PASS, id="both gain"),
        pytest.param({"b": (-0.01, 0.10, 0.2)}, "b", OPEN, id="one is not proved, though its value is higher"),
        pytest.param({"b": (-0.3, -0.2, -0.1)}, "b", FAIL, id="one is worse"),
        pytest.param({"b": (-0.3, -0.2, -0.1), "c": (-0.5, -0.4, 0.1)}, "b", FAIL, id="a proved loss counts first"),
        pytest.param({"b": (-0.3, -0.2, -0.1), "c": (-0.5, -0.4, -0.1)}, "c", FAIL, id="the larger of two losses"),
    ],
)
def test_s5_is_judged_by_the_worst_of_all_metrics(
    others: dict[str, tuple[float, float, float]], worst: str, verdict: Verdict
) -> None:
    row = judged(IMPROVEMENT, improvement(a=(0.01, 0.05, 0.09), **others))

    assert row.verdict is verdict
    assert row.message.startswith(f"improvement/{worst}: ")


@pytest.mark.parametrize(("without", "verdict"), [(0.70, PASS), (0.75, OPEN), (0.78, FAIL), (0.9, FAIL)])
def test_s6_is_what_the_score_loses_without_its_input(without: float, verdict: Verdict) -> None:
    row = judged(ABLATION, ablation(without))

    assert row.verdict is verdict, row.message
    assert row.observed == pytest.approx(0.8 - without)


@pytest.mark.parametrize(("same", "verdict"), [(50, PASS), (95, OPEN), (100, FAIL)])
def test_s7_reverts_a_candidate_that_says_the_same(same: int, verdict: Verdict) -> None:
    row = judged(CORRELATION, moments(same))

    assert row.verdict is verdict, row.message
    assert row.query == "score_moment/*"


def test_s7_says_nothing_of_few_pairs() -> None:
    assert judged(CORRELATION, moments(50, pairs=400)).verdict is OPEN


@pytest.mark.parametrize(("risk", "verdict"), [(0.0, PASS), (0.5999, PASS), (0.6, FAIL), (0.61, FAIL)])
def test_s8_is_a_fact_and_exactly_60_percent_is_too_high(risk: float, verdict: Verdict) -> None:
    assert judged(RISK, {"integration_risk": risk}).verdict is verdict


@pytest.mark.parametrize(("risk", "verdict"), [(0.59, PASS), (0.6, OPEN), (0.7, OPEN), (0.71, FAIL)])
def test_a_fact_between_target_and_breach_decides_nothing(risk: float, verdict: Verdict) -> None:
    assert judged(RISK.model_copy(update={"breach": 0.7}), {"integration_risk": risk}).verdict is verdict


@pytest.mark.parametrize(("value", "verdict"), [(0.9, PASS), (0.91, PASS), (0.89, FAIL)])
def test_a_fact_that_is_to_be_at_least(value: float, verdict: Verdict) -> None:
    objective = RISK.model_copy(update={"max": None, "min": 0.9})

    assert judged(objective, {"integration_risk": value}).verdict is verdict


def test_a_share_against_a_fixed_target() -> None:
    objective = COMPLIANCE.model_copy(update={"compare": Compare.ABSOLUTE, "min": 0.6, "breach": None})

    assert [judged(objective, compliance(share)).verdict for share in (0.7, 0.6, 0.5)] == [PASS, OPEN, FAIL]


def test_few_samples_decide_nothing() -> None:
    assert judged(COMPLIANCE, compliance(0.9, 20.0), compliance(0.7, 20.0)).verdict is OPEN
    assert judged(ABLATION, ablation(0.7, 20.0)).verdict is OPEN


def test_what_a_breach_does_is_the_policys_choice() -> None:
    row = judged(RISK.model_copy(update={"on_breach": OnBreach.HOLD}), {"integration_risk": 0.9})

    assert (row.verdict, row.reason) == (OPEN, "BelowTarget")


def test_what_is_no_difference_is_not_shown_as_one() -> None:
    """The API server refuses this one; whoever gets it past it is told the truth."""
    row = judged(RISK.model_copy(update={"compare": Compare.DIFFERENCE}), {"integration_risk": 0.5})

    assert (row.judged, row.target) == ("candidate", "< 0.6")


# --- Runs that prove nothing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "runs", "message"),
    [
        pytest.param(RISK, Runs(None, None), "spec.model.runId is not set @ no run", id="no run named"),
        pytest.param(RISK, Runs("r2", None), "run r2 has not been read from MLflow @ r2", id="not read"),
        pytest.param(
            RISK,
            Runs("r2", run({"integration_risk": 0.1}, artifacts=frozenset())),
            "run r2 has no artifact integration/risk.json @ r2",
            id="no artifact",
        ),
        pytest.param(RISK, Runs("r2", run({})), "run r2 has no metric integration_risk @ r2", id="no metric"),
        pytest.param(
            RISK,
            Runs("r2", run({"integration_risk": math.nan})),
            "run r2 has no metric integration_risk that is finite: nan @ r2",
            id="not a number",
        ),
        pytest.param(
            COMPLIANCE,
            Runs("r2", run(compliance(0.9))),
            "objective compliance compares with the stable version's run, and there is none @ r2",
            id="no run of the stable version",
        ),
        pytest.param(
            COMPLIANCE,
            Runs("r2", run(compliance(0.9)), "r1", None),
            "run r1 has not been read from MLflow @ r2",
            id="run of the stable version not read",
        ),
        pytest.param(
            COMPLIANCE,
            Runs("r2", run(compliance(0.9)), "r1", run({"compliance_at_1": 0.7}, "r1")),
            "run r1 has no metric compliance_at_1_samples @ r2",
            id="no samples",
        ),
        pytest.param(
            COMPLIANCE,
            Runs("r2", run(compliance(90.0)), "r1", run(compliance(0.7), "r1")),
            "metric compliance_at_1 of run r2 is 90: expected a share between 0 and 1 @ r2",
            id="percent",
        ),
        pytest.param(
            COMPLIANCE,
            Runs("r2", run(compliance(0.9, 0.0)), "r1", run(compliance(0.7), "r1")),
            "metric compliance_at_1_samples of run r2 is 0: expected the number of samples @ r2",
            id="0 samples",
        ),
        pytest.param(
            IMPROVEMENT, Runs("r2", run({})), "run r2 has no metric improvement/* @ r2", id="no metric of a prefix"
        ),
        pytest.param(
            IMPROVEMENT,
            Runs("r2", run({"improvement/a": 0.1, "improvement_low/a": 0.0})),
            "run r2 has no metric improvement_high/a @ r2",
            id="half an interval",
        ),
        pytest.param(
            IMPROVEMENT,
            Runs("r2", run(improvement(a=(0.2, 0.1, 0.1)))),
            "improvement/a of run r2 is 0.1: expected it within its interval, 0.2 to 0.1 @ r2",
            id="an interval upside down",
        ),
        pytest.param(
            CORRELATION,
            Runs("r2", run({name: value for name, value in moments(50).items() if name != "score_moment/2_2"})),
            "run r2 has no metric score_moment/2_2 @ r2",
            id="a moment is missing",
        ),
    ],
)
def test_nothing_is_believed_of(objective: Objective, runs: Runs, message: str) -> None:
    row = run_objectives.judge(objective, runs)

    assert (row.verdict, row.reason, row.message) == (OPEN, "NoData", message)
    assert (row.observed, row.interval) == (None, None)


@pytest.mark.parametrize(
    "metrics",
    [
        pytest.param(improvement(a=(0.05, math.nan, 0.15)), id="no number"),
        pytest.param(improvement(a=(0.05, -3.0, 0.15)), id="outside of its own interval"),
    ],
)
def test_a_value_that_its_interval_does_not_hold_is_not_believed(metrics: dict[str, float]) -> None:
    assert judged(IMPROVEMENT, metrics).verdict is OPEN


def test_the_artifact_of_the_stable_run_is_not_asked_for() -> None:
    """It was verified when that version was the candidate; runs are pruned."""
    row = run_objectives.judge(
        COMPLIANCE, Runs("r2", run(compliance(0.9)), "r1", run(compliance(0.7), "r1", frozenset()))
    )

    assert row.verdict is PASS


@pytest.mark.parametrize(
    ("objective", "needed"), [(COMPLIANCE, True), (ABLATION, False), (RISK, False), (IMPROVEMENT, False)]
)
def test_which_objectives_need_a_second_run(objective: Objective, needed: bool) -> None:
    assert run_objectives.names_baseline(objective) is needed


# --- What people read ---------------------------------------------------------------------------------------


def test_a_row_says_which_run_and_artifact_it_is_from() -> None:
    row = judged(RISK, {"integration_risk": 0.3})

    assert (row.source, row.query) == ("r2/integration/risk.json", "integration_risk")
    assert row.message.endswith(", target < 0.6 @ r2")
    assert (row.ticks, row.last_tick) == (0, None)


def test_a_row_has_no_tick_and_keeps_no_other_from_passing() -> None:
    assert objectives.overall([judged(RISK, {"integration_risk": 0.3})]) is PASS


@pytest.mark.parametrize(
    ("objective", "metrics", "word"),
    [
        pytest.param(ABLATION, ablation(0.7), "stable", id="the other score is none of the stable version"),
        pytest.param(ABLATION, ablation(0.7), "requests", id="samples are no requests"),
        pytest.param(RISK, {"integration_risk": 0.3}, "CI95", id="a fact has no interval"),
    ],
)
def test_a_run_is_described_as_one(objective: Objective, metrics: dict[str, float], word: str) -> None:
    assert word not in judged(objective, metrics).message


def test_a_metric_is_not_compared_with_one_that_only_begins_alike() -> None:
    measure: dict[str, Any] = {"metric": "gain", "interval": {"low": "gain_low", "high": "gain_high"}, "artifact": "a"}
    objective = Objective(name="gain", run=RunMeasure.model_validate(measure), min=0.0)
    metrics = {"gain": 0.2, "gain_low": 0.1, "gain_high": 0.3, "gains": -9.0}

    row = run_objectives.judge(objective, Runs("r2", run(metrics, artifacts=frozenset("a"))))

    assert (row.verdict, row.observed) == (PASS, 0.2)
