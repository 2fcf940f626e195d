"""What another policy would have decided on the same metrics."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from ops_commander.api.policy import RolloutPolicySpec
from ops_commander.api.v1alpha1 import BaselineStatus, ModelReference, Step
from ops_commander.core.recordings.backtest import Backtest, Finding, Span, clipped, step_of
from ops_commander.core.recordings.recording import RecordedRun, RecordingProblem, decoded
from tests.unit.recorded import STALE_AFTER, Recorded, at, trying
from tests.unit.world import POLICY, START, TICK, canary, full, rollout, shadow

ERRORS = {"name": "error-rate", "ratio": {"bad": "errors_total", "total": "requests_total"}, "max": 0.01}
LATENCY = {"name": "p95-latency", "quantile": {"buckets": "seconds_bucket"}, "max": 0.5, "breach": 0.505}


def policy(*objectives: dict[str, Any], **fields: Any) -> RolloutPolicySpec:
    return RolloutPolicySpec.model_validate({"holdAfter": "20s", "objectives": list(objectives), **fields})


def under(
    world: Recorded, policy_: RolloutPolicySpec, start: datetime | None = None, end: datetime | None = None
) -> Backtest:
    recording, ticks = decoded(world.lines(), "test")
    backtest = Backtest(clipped(recording, start) if start else recording, ticks, policy_, until=end)
    list(backtest.run())
    return backtest


def findings(backtest: Backtest) -> list[tuple[str, str]]:
    return [(step.step, step.finding.value) for step in backtest.steps]


@pytest.fixture(scope="module")
def good() -> Recorded:
    return trying(rollout()).ended()


@pytest.fixture(scope="module")
def middling() -> Recorded:
    """Some errors, too few to breach."""
    return trying(rollout(), errors=0.004).ended()


def test_the_same_policy_passes_what_it_passed(good: Recorded) -> None:
    backtest = under(good, POLICY)

    assert findings(backtest) == [("shadow", "Passed"), ("canary 5%", "Passed"), ("full", "Passed")]
    assert backtest.finding is Finding.PASSED
    for step, record in zip(backtest.steps, good.deployment.steps[:2], strict=False):
        assert (step.since, step.at) == (record.evidence_since, record.left_at)
    assert [row.verdict.value for row in backtest.steps[0].rows] == ["Pass", "Pass"]


def test_a_stricter_policy_reverts_what_had_passed(middling: Recorded) -> None:
    backtest = under(middling, policy({**ERRORS, "max": 0.001}))

    assert findings(backtest) == [("shadow", "RolledBack")]
    [step] = backtest.steps
    assert step.reason == "RollbackStarted" and "error-rate" in step.message
    assert step.at is not None and step.tick is not None
    assert timedelta(0) < step.at - step.since < timedelta(seconds=30)


def test_a_policy_that_wants_more_evidence_is_undecided_and_the_next_step_is_judged_by_itself(good: Recorded) -> None:
    backtest = under(good, policy({**ERRORS, "minSamples": 19_000}))

    assert findings(backtest) == [("shadow", "Passed"), ("canary 5%", "Undecided"), ("full", "Passed")]
    assert backtest.finding is Finding.UNDECIDED
    assert backtest.steps[1].reason == "InsufficientSample"
    assert backtest.steps[1].at == good.deployment.steps[1].left_at


def test_a_milder_policy_than_the_one_that_reverted_is_undecided_where_the_metrics_end() -> None:
    world = trying(rollout(), errors=0.05).ended()

    backtest = under(world, policy({**ERRORS, "max": 0.2}))

    assert findings(backtest) == [("shadow", "Undecided")]
    assert backtest.steps[0].reason == "Dwelling"
    rollback = world.status.rollback
    assert rollback is not None and backtest.steps[0].at == rollback.decided_at


def test_a_held_deployment_counts_anew_where_its_split_came_back() -> None:
    world = at(rollout().steps(canary(5, most="200s"), full()), "canary 5%")
    world.run(10)
    world.metrics_up = False
    world.run(35)
    world.metrics_up = True
    world.ended()

    backtest = under(world, POLICY)

    assert findings(backtest) == [("canary 5%", "Passed"), ("full", "Passed")]
    assert backtest.steps[0].since == world.deployment.steps[0].evidence_since


def test_a_missing_query_is_named(good: Recorded) -> None:
    other = {**ERRORS, "ratio": {"bad": "failures_total", "total": "requests_total"}}

    with pytest.raises(RecordingProblem) as problem:
        under(good, policy(other))

    assert "no counters of 'failures_total', which objective error-rate asks for" in str(problem.value)


def test_evidence_can_begin_within_a_step(good: Recorded) -> None:
    since = good.deployment.steps[1].evidence_since
    assert since is not None
    start = since + timedelta(seconds=7)

    backtest = under(good, POLICY, start)

    assert findings(backtest) == [("canary 5%", "Passed"), ("full", "Passed")]
    assert backtest.steps[0].since == start
    row = backtest.steps[0].rows[0]
    assert row.first_tick is not None and row.first_tick > start


def test_evidence_can_end_early(good: Recorded) -> None:
    reached = good.deployment.steps[0].reached_at
    assert reached is not None

    backtest = under(good, POLICY, end=reached + timedelta(seconds=9))

    assert findings(backtest) == [("shadow", "Undecided")]
    assert backtest.steps[0].reason == "InsufficientSample"


def test_a_moment_without_a_split_is_refused(good: Recorded) -> None:
    with pytest.raises(RecordingProblem, match="no step was live at 2026-01-05T09:00:00"):
        under(good, POLICY, START)


def test_baselines_of_other_measures_are_not_taken(good: Recorded) -> None:
    recording, ticks = decoded(good.lines(), "test")
    baseline = [BaselineStatus(name=name, ticks=9, rate=1.0, dispersion=3.0) for name in ("error-rate", "p95-latency")]
    deployment = recording.deployment.model_copy(update={"baseline": baseline})
    recording = recording.model_copy(update={"deployment": deployment})

    backtest = Backtest(recording, ticks, policy(ERRORS, {**LATENCY, "max": 0.3}, {**ERRORS, "name": "new"}))
    list(backtest.run())

    assert [item.name for item in backtest.recording.deployment.baseline] == ["error-rate"]
    assert [note.partition(":")[0] for note in backtest.notes] == ["no baseline for p95-latency", "no baseline for new"]
    assert backtest.steps[0].rows[0].dispersion == 3.0


@pytest.mark.parametrize("known", [True, False])
def test_objectives_on_runs_are_judged_by_the_recorded_ones(good: Recorded, known: bool) -> None:
    run = RecordedRun(run_id="8f", metrics={"accuracy": 0.95, "n": 10_000.0}, artifacts=["accuracy.json"])
    recording, ticks = decoded(good.lines(), "test")
    changed = {
        "runs": [run] if known else [],
        "spec": recording.spec.model_copy(update={"model": ModelReference(name="ranker", version="2", run_id="8f")}),
    }
    measure = {"metric": "accuracy", "samples": "n", "artifact": "accuracy.json"}
    asked = policy(ERRORS, {"name": "accuracy", "run": measure, "min": 0.9})

    backtest = Backtest(recording.model_copy(update=changed), ticks, asked)
    list(backtest.run())

    assert backtest.finding is (Finding.PASSED if known else Finding.UNDECIDED)
    assert [row.reason for row in backtest.steps[0].rows] == ["Met", "Met" if known else "NoData"]


@pytest.mark.parametrize("step", ["shadow", "canary:5", "full"])
def test_a_span_without_a_deployment_is_one_step(good: Recorded, step: str) -> None:
    place = ["shadow", "canary:5", "full"].index(step)
    record = good.deployment.steps[place]
    assert record.evidence_since is not None and record.left_at is not None
    deployment = good.deployment
    span = Span(
        name="ranker",
        namespace="shop",
        candidate=deployment.revision,
        stable=deployment.stable_revision or "",
        step=step_of(step),
        start=record.evidence_since,
        end=record.left_at - timedelta(seconds=1),
        policy=POLICY,
        interval=TICK,
        stale_after=STALE_AFTER,
    )

    backtest = Backtest(span.recording, good.ticks(), POLICY)
    list(backtest.run())

    assert findings(backtest) == [(record.name, "Passed")]
    assert backtest.steps[0].since == span.start
    assert backtest.steps[0].at is not None and backtest.steps[0].at < span.end


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shadow", shadow()),
        ("shadow:20", shadow(20)),
        ("canary:5", canary(5)),
        ("full", full()),
    ],
)
def test_steps_can_be_written_short(text: str, expected: dict[str, Any]) -> None:
    wanted = Step.model_validate(expected)

    found = step_of(text)

    assert (found.kind, found.weight, found.mirror_percent) == (wanted.kind, wanted.weight, wanted.mirror_percent)


@pytest.mark.parametrize("text", ["", "canary", "canary:0", "canary:100", "canary:x", "shadow:101", "full:5", "warm"])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a step: expected shadow, shadow:50, canary:5 or full"):
        step_of(text)
