"""Objectives on what the shadow comparer counts: judged by the candidate's rows alone, without a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from ops_commander.api.policy import Objective, Preset, Ratio, RolloutPolicySpec
from ops_commander.api.presets import PRESETS
from ops_commander.api.v1alpha1 import Step, StepKind, Verdict
from ops_commander.core import objectives, presets
from ops_commander.core.baseline import summarised
from ops_commander.core.feasibility import outlook
from ops_commander.core.objectives import Bench
from ops_commander.core.samples import PodSamples, Reading, Sample
from ops_commander.core.snapshot import Baseline, Evidence
from ops_commander.core.trial import Trial
from ops_commander.integration.outputs.findings import Kind
from tests.unit.core.test_acceptance_of_evidence import checks, policy, waiting

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
TICK = timedelta(seconds=5)
POLICY = presets.resolved(
    RolloutPolicySpec(
        objectives=[
            Objective(name="deviation", preset=Preset(name="comparison/deviation"), max=0.05, steps=[StepKind.SHADOW]),
            Objective(name="drops", preset=Preset(name="comparison/field-drop"), max=0.005, steps=[StepKind.SHADOW]),
        ]
    )
)
DEVIATION, DROPS = POLICY.objectives
SHADOW = Step.model_validate({"shadow": {"percent": 100}})


def pod(value: float) -> PodSamples:
    return {"ranker-abc-x1": (Sample("", value),)}


def judged(objective: Objective, share: float, ticks: int = 240) -> tuple[Verdict, str]:
    """With 5 pairs a second and no row of stable."""
    trial = Trial(objective, START)
    nothing: Sequence[PodSamples] = ({}, {})
    for number in range(ticks):
        pairs = 25.0 * number
        trial.advance(START + TICK * number, (pod(pairs * share), pod(pairs)), nothing)
    at = START + TICK * (ticks - 1)
    row = objectives.judge(
        objective, Evidence(trial.tally, START, at, at), Bench(at, timedelta(seconds=20), mirror_percent=100)
    )
    return row.verdict, row.reason


@pytest.mark.parametrize(
    ("objective", "share", "verdict"),
    [
        (DEVIATION, 0.0, (Verdict.PASS, "Met")),
        (DEVIATION, 0.01, (Verdict.PASS, "Met")),
        (DEVIATION, 0.2, (Verdict.FAIL, "Breached")),
        (DROPS, 0.0, (Verdict.PASS, "Met")),
        (DROPS, 1.0, (Verdict.FAIL, "Breached")),
    ],
)
def test_the_candidates_rows_are_enough(objective: Objective, share: float, verdict: tuple[Verdict, str]) -> None:
    assert judged(objective, share) == verdict


def test_all_pairs_dropping_a_field_are_found_at_once() -> None:
    assert judged(DROPS, 1.0, ticks=2) == (Verdict.FAIL, "Breached")


@pytest.mark.parametrize("objective", POLICY.objectives, ids=lambda each: each.name)
def test_there_is_no_baseline_even_if_stable_was_compared_when_it_was_the_candidate(objective: Objective) -> None:
    stable = ("shop", "ranker-old")
    rows = [Reading(START + TICK * number, {stable: pod(float(number))}) for number in range(100)]

    assert summarised(objective, dict.fromkeys(objective.queries, rows), stable) is None
    assert outlook(POLICY, [SHADOW], {}) == []


def test_that_stable_was_never_compared_is_no_reason_to_refuse() -> None:
    def feasibility(*objectives: Objective) -> list[bool | None]:
        return [check.passed for check in checks(waiting(policy(*objectives), baseline=Baseline()), "feasibility")]

    assert feasibility(DEVIATION, DROPS) == []
    errors = DROPS.model_copy(update={"ratio": Ratio(bad="bad", total="all")})
    assert feasibility(DEVIATION, errors) == [False], "no request was seen that errors are a share of"


def test_every_kind_of_regression_has_a_preset() -> None:
    assert {f"comparison/{kind.replace('_', '-')}" for kind in Kind} <= set(PRESETS)
