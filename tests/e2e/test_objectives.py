"""Objectives on real counters: what is proved, what is not, and that neither a restart nor a reset changes it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from hack.cluster import addons, state
from hack.demo import installed, runs
from hack.demo.installed import kubectl
from ops_commander.adapters.prometheus_servers import PrometheusServers
from ops_commander.api.fields import parse_time
from ops_commander.api.policy import RolloutPolicy
from ops_commander.api.v1alpha1 import ModelRollout
from ops_commander.core import objectives, presets
from ops_commander.core.question import Question
from ops_commander.core.snapshot import Evidence
from ops_commander.core.trial import Trial
from ops_commander.runtime.history import History
from tests.e2e.shop import (
    Rollout,
    Shop,
    apply_refused,
    condition,
    condition_of,
    in_step,
    kill_operator,
    prometheus_url,
    rows,
    status,
)

TICK = timedelta(seconds=1)
HALF = {"canary": {"weight": 50, "minDuration": "2s", "maxDuration": "90s"}}
LONG_HALF = {"canary": {"weight": 50, "minDuration": "80s", "maxDuration": "90s"}}
FULL = {"full": {"bake": "3s", "maxDuration": "60s"}}


class Seen:
    """Everything that status has said on the way."""

    def __init__(self) -> None:
        self.rollouts: list[Rollout] = []

    def until_ended(self, found: Rollout) -> bool:
        """For `wait_for`: notes what it is shown."""
        self.rollouts.append(found)
        deployment = status(found).get("deployment") or {}
        is_of_this_spec = deployment.get("generation") == found["metadata"]["generation"]
        return is_of_this_spec and deployment.get("outcome") is not None

    def rows(self, name: str, step: str = "") -> Iterator[dict[str, Any]]:
        """One objective's rows in order, of the steps of that kind."""
        for found in self.rollouts:
            if in_step(found, step) and name in rows(found):
                yield rows(found)[name]


def baseline(found: Rollout) -> dict[str, dict[str, Any]]:
    """What was known of the stable version before the deployment, by objective."""
    return {item["name"]: item for item in status(found)["deployment"]["baseline"]}


def replica_sets(shop: Shop) -> list[str]:
    selector = "--selector=ops-commander.dev/rollout=ranker"
    return kubectl("get", "replicasets", selector, f"--namespace={shop.namespace}", "--output=name").split()


def excludes(row: Mapping[str, Any], limit: float) -> bool:
    """The whole interval lies above."""
    return float(row["interval"]["low"]) > limit


@pytest.mark.rate(150)
def test_identical_candidate_passes_the_honest_gate_and_its_rows_tell_why(shop: Shop) -> None:
    installed.apply(shop.honest_policy())
    shop.launch()
    shop.await_baseline(10)
    steps = [
        {"shadow": {"minDuration": "5s", "maxDuration": "60s"}},
        {"canary": {"weight": 50, "minDuration": "10s", "maxDuration": "60s"}},
        FULL,
    ]
    shop.apply(shop.version(2, steps=steps))

    def whole(row: dict[str, Any]) -> bool:
        """Every tick was counted; one that came late is, as soon as its gap is healed."""
        return bool(parse_time(row["firstTick"]) + row["ticks"] * TICK == parse_time(row["lastTick"]))

    def passing(found: Rollout) -> bool:
        if not in_step(found, "canary") or status(found).get("verdict") != "Pass":
            return False
        return all(whole(rows(found)[name]) for name in ("error-rate", "p95-latency"))

    told = shop.wait_for(passing, "the canary to pass", 60)
    for name in ("error-rate", "p95-latency"):
        row = rows(told)[name]
        assert (row["verdict"], row["reason"], row["role"]) == ("Pass", "Met", "Required")
        assert row["observed"] >= 0
        fewest, highest = {"error-rate": (417, 0.02), "p95-latency": (82, 0.5)}[name]
        assert row["samples"] >= fewest
        assert row["interval"]["high"] <= highest
        assert row.get("trend") in (None, "Steady", "Rising", "Falling")
        assert "model_request" in row["query"]
        assert row["source"] == "prometheus"
    ratio = rows(told)["error-ratio"]
    assert (ratio["role"], ratio["verdict"]) == ("Guard", "Inconclusive"), "no error anywhere: nothing to compare"
    described = kubectl("describe", "mro/ranker", f"--namespace={shop.namespace}")
    for word in ("Interval:", "First Tick:", "Last Tick:", "Samples:", "Observed:", "Query:", "Source:", "Dispersion:"):
        assert word in described

    completed = shop.wait_for(lambda found: status(found).get("stableVersion") == "2", "completion", 60)
    assert baseline(completed).keys() >= {"error-rate", "error-ratio", "p95-latency", "p95-drift"}
    shop.assert_replays()
    shop.assert_no_switch_failed()


@pytest.mark.rate(160)
def test_one_and_a_half_points_more_errors_are_reverted(shop: Shop) -> None:
    installed.apply(shop.honest_policy())
    shop.launch(env={"FAULT_ERROR_RATE": "0.005"})
    shop.await_baseline(10)
    shop.apply(shop.version(2, env={"FAULT_ERROR_RATE": "0.02"}, steps=[LONG_HALF, FULL]))
    reverted = shop.wait_phase("RolledBack")
    rollback = status(reverted)["rollback"]
    assert rollback["reason"] == "ObjectiveBreached"
    assert rollback["objective"] in ("error-rate", "error-ratio")
    breached = rows(reverted)[rollback["objective"]]
    assert breached["verdict"] == "Fail"
    assert breached["candidate"] == pytest.approx(0.02, abs=0.006)
    if rollback["objective"] == "error-ratio":
        assert excludes(breached, 1.0)
    else:  # a test that has the limit in mind is sharper than the interval, which has none
        assert breached["observed"] > 0.01
        assert excludes(breached, breached["stable"])
    told(rollback, breached)
    shop.assert_replays()
    shop.assert_no_switch_failed()


def told(rollback: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """For whoever reads the output: how long it took, and on how many requests."""
    took = parse_time(row["lastTick"]) - parse_time(row["firstTick"])
    print(f"\n{rollback['objective']} breached after {took.total_seconds():.0f} s: {rollback['message']}")
    print(f"traffic back after {rollback['trafficSeconds']} s, pods after {rollback['replicaSetSeconds']} s")


@pytest.mark.rate(160)
def test_slow_tail_is_reverted(shop: Shop) -> None:
    installed.apply(shop.honest_policy())
    tail = {"FAULT_TAIL_SHARE": "0.1", "FAULT_TAIL_MS": "380"}
    shop.launch(env=tail)
    shop.await_baseline(10)
    shop.apply(shop.version(2, env=tail, steps=[LONG_HALF, FULL]))
    in_canary = shop.wait_step("canary")
    assert baseline(in_canary)["p95-latency"]["value"] == pytest.approx(0.382, abs=0.02)
    shop.inject(status(in_canary)["candidateRevision"], tail_ms=620)
    reverted = shop.wait_phase("RolledBack")
    rollback = status(reverted)["rollback"]
    assert (rollback["reason"], rollback["objective"]) == ("ObjectiveBreached", "p95-latency")
    breached = rows(reverted)["p95-latency"]
    assert breached["observed"] > 0.5
    assert breached["stable"] == pytest.approx(0.382, abs=0.02)
    told(rollback, breached)
    shop.assert_no_switch_failed()


@pytest.mark.rate(80)
def test_drift_of_3_ms_is_within_the_rule_in_shadow_and_one_of_15_ms_is_reverted(shop: Shop) -> None:
    policy = shop.honest_policy()
    drift = next(item for item in policy["spec"]["objectives"] if item["name"] == "p95-drift")
    drift["role"] = "Required"
    installed.apply(policy)

    def slower_by(milliseconds: float) -> dict[str, str]:
        """7 % take a little longer than 10 ms: that is the edge next to P95, and 15 ms is the one for a drift."""
        tail = {"FAULT_TAIL_SHARE": "0.07", "FAULT_TAIL_MS": str(10.2 + milliseconds)}
        return {"LATENCY_MS": str(5 + milliseconds), "LATENCY_JITTER_MS": "1", **tail}

    shop.launch(env=slower_by(0))
    shop.await_baseline(15)
    steps = [{"shadow": {"minDuration": "60s", "maxDuration": "90s"}}, FULL]
    shop.apply(shop.version(2, env=slower_by(3), steps=steps))

    def judged(found: Rollout) -> bool:
        row = rows(found).get("p95-drift")
        return in_step(found, "shadow") and row is not None and (row["verdict"] != "Inconclusive" or row["ticks"] >= 30)

    found = shop.wait_for(judged, "3 ms to be judged", 60)
    row, known = rows(found)["p95-drift"], baseline(found)["p95-drift"]
    assert row["verdict"] in ("Pass", "Inconclusive"), "held to the rule, and within it; a busy machine blurs 3 ms"
    assert row["judged"] == "difference"
    assert abs(known["edge"] - known["value"]) < 0.005, "the edge next to P95"
    assert f"more than {known['edge'] + 0.005:g}s against more than {known['edge']:g}s" in row["message"]
    print(f"\n{row['message']}")

    shop.apply(shop.version(3, env=slower_by(15), steps=steps))
    reverted = shop.wait_phase("RolledBack")
    rollback = status(reverted)["rollback"]
    assert (rollback["reason"], rollback["objective"]) == ("ObjectiveBreached", "p95-drift")
    assert [step["name"] for step in status(reverted)["deployment"]["steps"]] == ["shadow"]
    told(rollback, rows(reverted)["p95-drift"])
    shop.assert_no_switch_failed()


@pytest.mark.rate(160)
def test_errors_in_clumps_do_not_revert_an_identical_candidate(shop: Shop) -> None:
    clumped = {"FAULT_ERROR_RATE": "0.01", "FAULT_ERROR_CLUMP": "5"}
    shop.launch(env=clumped)
    shop.await_baseline(28)
    shop.apply(shop.version(2, env=clumped, steps=[HALF, FULL]))
    seen = Seen()
    completed = shop.wait_for(seen.until_ended, "the end", 90)
    assert status(completed)["stableVersion"] == "2"
    known = baseline(completed)
    assert known["error-rate"]["ticks"] >= 20
    assert known["error-rate"]["dispersion"] > 2
    for name in ("error-rate", "error-ratio"):
        told_of = list(seen.rows(name))
        assert {row["verdict"] for row in told_of} <= {"Pass", "Inconclusive"}
        assert [row["dispersion"] for row in told_of] == pytest.approx(
            [known[name]["dispersion"]] * len(told_of), abs=0.001
        )
    print(f"\nφ = {known['error-rate']['dispersion']}, on {known['error-rate']['ticks']} ticks")
    shop.assert_no_switch_failed()


@pytest.mark.rate(2)
def test_low_traffic_pauses_or_reverts_at_the_deadline_and_says_what_was_missing(shop: Shop) -> None:
    installed.apply(shop.honest_policy(onDeadline="Pause", onInfeasible="Warn"))
    shop.launch()
    steps = [{"canary": {"weight": 50, "minDuration": "2s", "maxDuration": "12s"}}, FULL]
    shop.apply(shop.version(2, steps=steps))
    held = shop.wait_for(lambda found: status(found).get("reason") == "DeadlineInconclusive", "the deadline", 60)
    assert status(held)["next"] == "promote or abort"
    assert status(held)["step"]["state"] == "Running"
    assert shop.route_weights()["ranker-candidate"] == 50
    row = rows(held)["error-rate"]
    assert (row["verdict"], row["reason"]) == ("Inconclusive", "InsufficientSample")
    assert f"{row['samples']:.0f} requests" in row["message"]
    assert f"error-rate InsufficientSample: {row['message']}" in status(held)["message"]

    installed.apply(shop.honest_policy(onDeadline="Rollback", onInfeasible="Warn"))
    reverted = shop.wait_phase("RolledBack")
    rollback = status(reverted)["rollback"]
    assert rollback["reason"] == "DeadlineInconclusive"
    for words in ("canary 50% not proved within 12s", "error-rate InsufficientSample", "target < 0.01", "requests"):
        assert words in rollback["message"]
    shop.assert_no_switch_failed()


@pytest.mark.rate(2)
def test_what_could_never_be_proved_in_time_is_refused_before_it_starts(shop: Shop) -> None:
    installed.apply(shop.honest_policy(onInfeasible="Refuse"))
    launched = shop.launch()
    shop.await_baseline(12)
    shop.apply(shop.version(2, steps=[{"canary": {"weight": 50, "maxDuration": "30s", "minDuration": "2s"}}, FULL]))
    refused = shop.wait_for(lambda found: condition(found, "Accepted") == "False", "the refusal", 30)
    accepted = condition_of(refused, "Accepted")
    assert accepted is not None
    assert accepted["reason"] == "Infeasible"
    for words in ("error-rate in step canary 50% needs at least", "maxDuration is 30s", "could be decided with"):
        assert words in accepted["message"]
    told = {(row["step"], row["objective"]): row for row in status(refused)["feasibility"]}
    row = told[("canary 50%", "error-rate")]
    assert (row["possible"], row["deadlineSeconds"]) == (False, 30)
    assert row["fastestSeconds"] == pytest.approx(417, rel=0.5), "417 requests at one a second"
    assert status(refused)["deployments"] == 1
    assert replica_sets(shop) == [f"replicaset.apps/ranker-{status(launched)['stableRevision']}"]


@pytest.mark.rate(120)
def test_counters_that_begin_anew_change_nothing(shop: Shop) -> None:
    installed.apply(shop.honest_policy())
    launched = shop.launch()
    shop.await_baseline(10)
    steps = [{"canary": {"weight": 50, "minDuration": "12s", "maxDuration": "60s"}}, FULL]
    shop.apply(shop.version(2, steps=steps))
    candidate = status(shop.wait_step("canary"))["candidateRevision"]
    for _ in range(2):
        before = shop.load_stats()["by_version"]
        shop.await_answers({version: before.get(version, 0) + 150 for version in ("1", "2")})
        shop.inject(status(launched)["stableRevision"], reset_metrics=True)
        shop.inject(candidate, reset_metrics=True)
    seen = Seen()
    in_full = shop.wait_for(lambda found: seen.until_ended(found) or in_step(found, "full"), "the next step", 40)
    answered = shop.load_stats()["by_version"]["2"]
    counted = [row["samples"] for row in seen.rows("error-rate", "canary") if row.get("samples") is not None]
    assert counted == sorted(counted)
    last = rows(in_full)["error-rate"]
    assert last["samples"] <= answered
    assert last["samples"] >= 417
    print(f"\n{last['samples']:.0f} requests counted of {answered} answered, in spite of two resets")
    shop.wait_for(lambda found: status(found).get("stableVersion") == "2", "completion", 60)
    shop.assert_no_switch_failed()


@pytest.mark.rate(100)
def test_killed_operators_count_on_from_the_same_tick_and_anybody_can_recount(shop: Shop) -> None:
    installed.apply(shop.honest_policy())
    shop.launch(env={"FAULT_ERROR_RATE": "0.004"})
    shop.await_baseline(10)
    candidate = shop.version(2, env={"FAULT_ERROR_RATE": "0.004"}, steps=[LONG_HALF, FULL])
    shop.apply(candidate)

    def counted(found: Rollout) -> bool:
        told_of = rows(found).values()
        return in_step(found, "canary") and bool(told_of) and all(row.get("ticks", 0) >= 2 for row in told_of)

    before = shop.wait_for(counted, "some ticks to be counted", 60)
    kill_operator(everyone=True)
    killed_at = shop.last_scrape()

    def counted_on(found: Rollout) -> bool:
        return all("lastTick" in row and parse_time(row["lastTick"]) > killed_at for row in rows(found).values())

    after = shop.wait_for(counted_on, "ticks after the kill", 60)
    assert {row["firstTick"] for row in rows(after).values()} == {row["firstTick"] for row in rows(before).values()}
    recounted = asyncio.run(recount(after, shop.honest_policy()))
    for name, row in rows(after).items():
        known = recounted[name]
        for key in ("observed", "candidate", "stable", "interval", "samples", "ticks", "firstTick", "lastTick"):
            assert row.get(key) == known.get(key), f"{name}.{key}"
    shop.annotate("abort", status(after)["deployment"]["id"])
    shop.wait_phase("RolledBack")
    shop.assert_replays()
    shop.assert_no_switch_failed()


async def recount(found: Rollout, policy: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of a status, each at its last tick, from Prometheus alone."""
    told = ModelRollout.model_validate(found).status
    assert told.step and told.step.evidence_since and told.deployment
    namespace = found["metadata"]["namespace"]
    question = Question(
        deployment_id=told.deployment.id,
        since=told.step.evidence_since,
        candidate=(namespace, f"ranker-{told.candidate_revision}"),
        stable=(namespace, f"ranker-{told.stable_revision}"),
        objectives=tuple(presets.resolved(RolloutPolicy.model_validate(policy).spec).objectives),
        baselines={item.name: item for item in told.deployment.baseline},
    )
    servers = PrometheusServers.of_url(prometheus_url(), timeout=timedelta(seconds=10), scrape_interval=TICK)
    last = {row.name: row.last_tick for row in told.objectives if row.last_tick}
    try:
        history = await History(TICK).read(
            servers.all[0],
            question.queries,
            [question.candidate, question.stable],
            question.begins(TICK),
            max(last.values()),
        )
    finally:
        servers.close()
    recounted = {}
    for objective in question.objectives:
        if objective.name in last:
            trial = question.trial(objective, TICK)
            hand_on(trial, question, history, last[objective.name])
            row = objectives.judge(
                objective,
                Evidence(trial.tally, trial.origin, trial.seen_at, trial.fresh_at),
                objectives.Bench(
                    now=last[objective.name], stale_after=TICK, baseline=trial.baseline, weight=50, split_tolerance=0.1
                ),
            )
            recounted[objective.name] = row.model_dump(mode="json", by_alias=True, exclude_none=True)
    return recounted


def hand_on(trial: Trial, question: Question, history: Mapping[str, Any], until: datetime) -> None:
    for together in zip(*(history[query] for query in trial.objective.queries), strict=True):
        if together[0].at <= until:
            mine = [reading.of(question.candidate) for reading in together]
            theirs = [reading.of(question.stable) for reading in together]
            trial.advance(together[0].at, mine, theirs)


COMPLIANCE = {
    "name": "compliance",
    "slo": "S1",
    "run": {
        "metric": "compliance_at_1",
        "samples": "compliance_at_1_samples",
        "artifact": "evaluation/compliance.json",
    },
    "compare": "Difference",
    "min": 0.1,
    "breach": -0.02,
}


def test_compliance_of_the_runs_is_known_before_any_traffic(shop: Shop) -> None:
    policy = shop.policy()
    policy["spec"]["objectives"].append(COMPLIANCE)
    installed.apply(policy)
    record = state.load(state.DEFAULT_NAME)
    assert record is not None
    mlflow = addons.urls(record)["mlflow"]

    def run_of(version: int, compliance: float, *, proved: bool = True) -> str:
        metrics = {"compliance_at_1": compliance, "compliance_at_1_samples": 10_000}
        artifacts = {"evaluation/compliance.json": f'{{"compliance_at_1": {compliance}}}'} if proved else {}
        return runs.log_run(mlflow, str(version), metrics=metrics, artifacts=artifacts)

    def model(version: int, run_id: str) -> dict[str, str]:
        return {"name": installed.ROLLOUT, "version": str(version), "runId": run_id}

    shop.launch(model=model(1, run_of(1, 0.70)))
    for version, compliance, proved, reason, words in (
        (2, 0.62, True, "ObjectiveBreached", ("compliance", "-0.08", "stable 0.7")),
        (3, 0.85, False, "RunEvidenceMissing", ("no artifact evaluation/compliance.json",)),
    ):
        run_id = run_of(version, compliance, proved=proved)
        shop.apply(shop.version(version, model=model(version, run_id)))

        def refused_for(found: Rollout, reason: str = reason) -> bool:
            said = condition_of(found, "Verified")
            return condition(found, "Verified") == "False" and said is not None and said["reason"] == reason

        refused = shop.wait_for(refused_for, f"version {version} to be refused", 30)
        verified = condition_of(refused, "Verified")
        assert verified is not None
        for word in (run_id, *words):
            assert word in verified["message"]
        assert status(refused)["deployments"] == 1

    run_id = run_of(4, 0.85)
    shop.apply(shop.version(4, model=model(4, run_id)))
    completed = shop.wait_for(lambda found: status(found).get("stableVersion") == "4", "the better one", 90)
    row = rows(completed)["compliance"]
    assert (row["verdict"], row["source"]) == ("Pass", f"{run_id}/evaluation/compliance.json")
    assert row["observed"] == pytest.approx(0.15)
    assert row["interval"]["low"] >= 0.1
    assert status(completed)["stableRunId"] == run_id
    shop.assert_no_switch_failed()


def test_queries_that_are_not_raw_counters_of_pods_are_refused(shop: Shop) -> None:
    with_rate = shop.policy()
    with_rate["spec"]["objectives"][0]["ratio"]["total"] = "rate(model_requests_total[1m])"
    said = apply_refused(with_rate)
    for words in ("spec.objectives[0].ratio.total", "counters are read", "remove rate()"):
        assert words in said

    merged = shop.policy()
    merged["spec"]["objectives"][0]["ratio"]["total"] = "sum(model_requests_total)"
    installed.apply(merged)
    shop.apply(shop.version(1))
    refused = shop.wait_for(lambda found: condition(found, "Accepted") == "False", "the policy to be refused", 30)
    accepted = condition_of(refused, "Accepted")
    assert accepted is not None
    assert accepted["reason"] == "PolicyNotUsable"
    for words in (
        "RolloutPolicy default",
        "spec.objectives[0] (error-rate)",
        "sum(model_requests_total)",
        "sum by (namespace, pod)",
    ):
        assert words in accepted["message"]
    assert replica_sets(shop) == []


@pytest.mark.rate(80)
def test_requests_that_bypass_the_route_promote_nothing(shop: Shop) -> None:
    shop.launch()
    shop.bypass("ranker-candidate", 0)
    shop.apply(shop.version(2, steps=[{"canary": {"weight": 20, "minDuration": "8s", "maxDuration": "90s"}}, FULL]))
    shop.wait_step("canary")
    shop.bypass("ranker-candidate", 60)

    def mismatched(found: Rollout) -> bool:
        return in_step(found, "canary") and status(found).get("reason") == "RoutingMismatch"

    found = shop.wait_for(mismatched, "the split to be distrusted", 40)
    row = rows(found)["error-rate"]
    assert (row["verdict"], row["reason"]) == ("Inconclusive", "RoutingMismatch")
    for words in ("requests reached the candidate", "20% were to"):
        assert words in row["message"]
    print(f"\n{row['message']}")
    shop.annotate("abort", status(found)["deployment"]["id"])
    shop.wait_phase("RolledBack")
    shop.assert_no_switch_failed()
