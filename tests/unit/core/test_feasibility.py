"""Whether a step can be proved in time: numbers that were worked out by hand, and advice that helps."""

from __future__ import annotations

from typing import Any

import pytest

from ops_commander.api.policy import Compare, Objective, Quantile, Rate, Ratio, RolloutPolicySpec, Score
from ops_commander.api.v1alpha1 import BaselineStatus, FeasibilityStatus, Role, Step, StepKind
from ops_commander.core import acceptance, feasibility
from ops_commander.core.feasibility import divergence, requests_needed
from ops_commander.core.statistics.rate import RateEvidence

ERRORS = Objective(name="errors", ratio=Ratio(bad="bad", total="all"), max=0.01)
RATIO = Objective(name="ratio", ratio=Ratio(bad="bad", total="all"), compare=Compare.RATIO, max=1.2)
SLOW = Objective(name="slow", quantile=Quantile(buckets="seconds"), max=0.5, unit="s")
DRIFT = Objective(name="drift", quantile=Quantile(buckets="seconds"), compare=Compare.DIFFERENCE, max=0.005, unit="s")
THROUGHPUT = Objective(name="throughput", rate=Rate(requests="all"), min=100.0, unit="req/s")
SCORE = Objective(name="score", score=Score(sum="sum", count="count"), min=0.9)


def canary(weight: int = 5, least: str = "0s", most: str = "30m") -> Step:
    return Step.model_validate({"canary": {"weight": weight, "minDuration": least, "maxDuration": most}})


def shadow(percent: int = 100, most: str = "30m") -> Step:
    return Step.model_validate({"shadow": {"percent": percent, "minDuration": "0s", "maxDuration": most}})


def full(most: str = "30m") -> Step:
    return Step.model_validate({"full": {"bake": "0s", "maxDuration": most}})


def stable(objective: Objective = ERRORS, rate: float = 100.0, **fields: Any) -> BaselineStatus:
    return BaselineStatus(name=objective.name, ticks=720, rate=rate, **fields)


def seen(objective: Objective, step: Step, baseline: BaselineStatus, **policy: Any) -> FeasibilityStatus:
    spec = RolloutPolicySpec(objectives=[objective], **policy)
    (row,) = feasibility.outlook(spec, [step], {objective.name: baseline})
    return row


@pytest.mark.parametrize(
    ("objective", "fields", "least"),
    [
        pytest.param(ERRORS, {}, 417, id="1 % of errors"),
        pytest.param(ERRORS, {"dispersion": 5.0}, 2085, id="1 % of errors in clumps of 5"),
        pytest.param(ERRORS.model_copy(update={"max": 0.05}), {}, 82, id="5 %"),
        pytest.param(SLOW, {}, 82, id="P95"),
        pytest.param(ERRORS.model_copy(update={"min_samples": 1000}), {}, 1000, id="as many as are asked for"),
        pytest.param(ERRORS.model_copy(update={"min_samples": 100}), {}, 417, id="fewer than it takes"),
    ],
)
def test_the_fewest_requests_for_a_pass(objective: Objective, fields: dict[str, float], least: float) -> None:
    needed = requests_needed(objective, stable(objective, value=0.0, **fields))

    assert needed.fastest == least
    assert needed.expected >= needed.fastest


def test_five_requests_a_second_prove_1_percent_after_84_seconds_at_best() -> None:
    row = seen(ERRORS, canary(), stable(value=0.001))

    assert (row.step, row.objective, row.possible, row.deadline_seconds) == ("canary 5%", "errors", True, 1800.0)
    assert row.fastest_seconds == 83.4
    assert row.expected_seconds == pytest.approx(148.3)  # 5.0 / KL(0.1 % | 1 %) = 741.4 requests
    assert row.advice is None


def test_an_error_rate_close_to_the_target_takes_long_and_advice_says_what_would_do() -> None:
    row = seen(ERRORS, canary(), stable(value=0.008))

    assert row.possible
    assert row.expected_seconds == pytest.approx(4607.1)
    assert row.advice == "could be decided with maxDuration of 77m or weight 13"


@pytest.mark.parametrize(
    ("step", "advice"),
    [
        (canary(5, most="77m"), None),
        (canary(13), None),
        (canary(50, most="5m"), "could be decided with maxDuration of 8m or weight 77"),
        (canary(50, most="2m"), "could be decided with maxDuration of 8m or a shadow step"),
        (shadow(10), "could be decided with maxDuration of 39m or percent 13"),
        (shadow(100, most="3m"), "could be decided with maxDuration of 4m"),
        (full(most="3m"), "could be decided with maxDuration of 4m"),
    ],
)
def test_the_advice_is_good(step: Step, advice: str | None) -> None:
    assert seen(ERRORS, step, stable(value=0.008)).advice == advice


@pytest.mark.parametrize("step", [canary(5), canary(50, most="5m"), shadow(10), shadow(100, most="3m"), full("3m")])
def test_whoever_follows_the_advice_is_in_time(step: Step) -> None:
    row = seen(ERRORS, step, stable(value=0.008))
    assert row.advice is not None
    minutes = row.advice.removeprefix("could be decided with maxDuration of ").partition("m")[0]
    body = step.model_dump(mode="json", by_alias=True, exclude_none=True)
    (kind,) = body
    longer = Step.model_validate({kind: {**body[kind], "maxDuration": f"{minutes}m"}})

    assert seen(ERRORS, longer, stable(value=0.008)).advice is None


def test_what_a_perfect_candidate_could_not_prove_is_impossible() -> None:
    row = seen(ERRORS, canary(), stable(rate=1.0, value=0.0))

    assert (row.possible, row.fastest_seconds) == (False, 8340.0)
    expected = "errors in step canary 5% needs at least 8340s, maxDuration is 1800s: "
    assert acceptance.feasibility_text(row) == f"{expected}could be decided with maxDuration of 166m or weight 28"


@pytest.mark.parametrize("value", [0.01, 0.02])
def test_a_candidate_like_a_stable_version_past_the_target_never_passes(value: float) -> None:
    row = seen(ERRORS, canary(), stable(value=value))

    assert (row.possible, row.expected_seconds) == (True, None)  # a better one could
    said = f"the stable version has {value}, at or past the target: no candidate like it can pass; raise the target"
    assert row.advice == said


@pytest.mark.parametrize(
    ("step", "rate", "possible"),
    [(full(), 120, True), (full(), 80, False), (full(), 100, False), (canary(), 120, False), (shadow(50), 240, True)],
)
def test_throughput_needs_as_much_demand(step: Step, rate: float, possible: bool) -> None:
    row = seen(THROUGHPUT, step, stable(THROUGHPUT, rate))

    assert row.possible is possible
    never = f"throughput in step {step.label} can never be proved"
    assert possible or acceptance.feasibility_text(row).startswith(never)


def test_a_steady_rate_is_shown_after_as_many_windows_as_foreseen() -> None:
    row = seen(THROUGHPUT, full(), stable(THROUGHPUT, 120))
    assert row.fastest_seconds is not None
    evidence = RateEvidence.empty(150.0)
    lows: list[float] = []
    while len(lows) < row.fastest_seconds / 15:
        evidence = evidence.add(120.0)
        lows.append(evidence.interval().low)

    assert lows[-2] < 100 <= lows[-1]


def test_a_rate_that_may_not_be_exceeded_can_be_proved() -> None:
    objective = THROUGHPUT.model_copy(update={"min": None, "max": 1000.0})

    assert seen(objective, full(), stable(objective, 100)).possible


def test_5_ms_of_drift_at_5_percent_of_100_requests_takes_hours() -> None:
    """At 200 ms a bucket of 5 ms around the P95 holds some thousandth of all requests."""
    baseline = stable(DRIFT, value=0.2, edge=0.2, share_beyond_edge=0.05, share_beyond_drift=0.047)
    live, copies = seen(DRIFT, canary(most="2h"), baseline), seen(DRIFT, shadow(), baseline)

    assert live.expected_seconds is not None and live.expected_seconds > 2 * 3600
    assert live.advice is not None and live.advice.startswith("could be decided with maxDuration of 409m or weight ")
    assert copies.expected_seconds is not None and copies.expected_seconds < 1800


def test_drift_between_edges_that_are_the_same_takes_forever() -> None:
    row = seen(DRIFT, shadow(), stable(DRIFT, value=0.2, edge=0.2, share_beyond_edge=0.05, share_beyond_drift=0.05))

    assert (row.possible, row.expected_seconds) == (True, None)


def test_what_is_said_of_drift_is_about_drift() -> None:
    row = seen(DRIFT, shadow(), stable(DRIFT, value=0.2, edge=0.2, share_beyond_edge=0.05, share_beyond_drift=0.05))

    assert "at or past the target" not in (row.advice or "")


@pytest.mark.parametrize("objective", [RATIO, DRIFT], ids=lambda item: item.name)
def test_nothing_can_be_compared_with_a_stable_version_that_gets_no_requests(objective: Objective) -> None:
    fields = {"edge": 0.2, "share_beyond_edge": 0.05, "share_beyond_drift": 0.04} if objective is DRIFT else {}

    assert not seen(objective, full(), stable(objective, value=0.01, **fields)).possible


@pytest.mark.parametrize("objective", [RATIO, SCORE], ids=lambda item: item.name)
def test_where_no_estimate_is_known_nothing_is_refused(objective: Objective) -> None:
    assert seen(objective, canary(), stable(objective, value=0.01)).possible


def test_a_step_takes_its_least_time_even_so() -> None:
    row = seen(ERRORS, canary(least="10m"), stable(value=0.0))

    assert (row.fastest_seconds, row.expected_seconds) == (600.0, 600.0)


@pytest.mark.parametrize(
    ("step", "rate", "fastest"),
    [
        pytest.param(canary(least="10m", most="15m"), 1000.0, 608.3, id="the warm-up is part of the least time"),
        pytest.param(canary(most="60m"), 417 * 20 / 3300, 3900.0, id="requests count after the warm-up"),
    ],
)
def test_the_warm_up_comes_before_the_evidence(step: Step, rate: float, fastest: float) -> None:
    row = seen(ERRORS, step, stable(rate=rate, value=0.0), warm_up="10m")

    assert row.fastest_seconds == pytest.approx(fastest)


def test_only_what_a_step_waits_for_is_looked_at() -> None:
    guard = ERRORS.model_copy(update={"name": "guard", "role": Role.GUARD})
    shown = ERRORS.model_copy(update={"name": "shown", "role": Role.ADVISORY})
    later = ERRORS.model_copy(update={"name": "later", "steps": [StepKind.FULL]})
    unknown = ERRORS.model_copy(update={"name": "unknown"})
    policy = RolloutPolicySpec(objectives=[ERRORS, guard, shown, later, unknown])
    baselines = {item.name: stable(item, value=0.0) for item in policy.objectives if item is not unknown}

    rows = feasibility.outlook(policy, [shadow(), full()], baselines)

    assert [(row.step, row.objective) for row in rows] == [("shadow", "errors"), ("full", "errors"), ("full", "later")]


@pytest.mark.parametrize(
    ("p", "q", "expected"), [(0.0, 0.5, 0.693147), (0.01, 0.01, 0.0), (0.001, 0.01, 0.006738), (1.0, 0.5, 0.693147)]
)
def test_divergence(p: float, q: float, expected: float) -> None:
    assert divergence(p, q) == pytest.approx(expected, abs=1e-6)
