"""Reverts: by order in every step, for pods that never come, for restarts, and without evidence."""

from __future__ import annotations

import pytest

from hack.demo.installed import kubectl
from tests.e2e.shop import LONG_CANARY, Shop, condition, status


@pytest.mark.rate(120)
@pytest.mark.parametrize("step", ["shadow", "canary", "full"])
def test_abort_reverts_in_every_step(shop: Shop, step: str) -> None:
    shop.launch()
    steps = [
        {"shadow": {"minDuration": "2s" if step != "shadow" else "1m", "maxDuration": "2m"}},
        {"canary": {"weight": 5, "minDuration": "2s" if step != "canary" else "1m", "maxDuration": "2m"}},
        {"full": {"bake": "1m", "maxDuration": "2m"}},
    ]
    shop.apply(shop.version(2, steps=steps))
    reached = shop.wait_step(step)
    shop.annotate("abort", "another-deployment-9")
    deployment = status(reached)["deployment"]["id"]
    shop.annotate("abort", deployment)
    reverted = shop.wait_phase("RolledBack", 30)
    told = status(reverted)
    assert told["rollback"]["reason"] == "Aborted"
    assert told["rollback"]["deploymentId"] == deployment
    assert told["stableVersion"] == "1"
    assert shop.route_weights() == {"ranker-stable": 100, "ranker-candidate": 0}
    assert shop.replica_set(told["deployment"]["revision"])["spec"]["replicas"] == 0
    assert condition(reverted, "Stalled") == "True"
    shop.assert_no_switch_failed()


def test_stale_abort_does_nothing_and_retry_tries_again(shop: Shop) -> None:
    shop.launch()
    shop.apply(shop.version(2))
    first = status(shop.wait_step("shadow"))["deployment"]["id"]
    shop.annotate("abort", first)
    shop.wait_phase("RolledBack", 30)
    shop.annotate("retry", first)
    completed = shop.wait_for(lambda found: status(found).get("stableVersion") == "2", "the second try to complete", 90)
    assert status(completed)["deployment"]["id"] != first, "the abort of the first try must not touch the second"


def test_pods_that_never_become_ready_are_reverted_and_get_no_traffic(shop: Shop) -> None:
    shop.launch()
    broken = shop.version(2, progressDeadline="12s")
    broken["spec"]["template"]["spec"]["containers"][0]["image"] = "localhost/no-such-image:1"
    shop.apply(broken)
    reverted = shop.wait_phase("RolledBack", 60)
    rollback = status(reverted)["rollback"]
    assert rollback["reason"] == "ProgressDeadlineExceeded"
    assert "ErrImage" in rollback["message"] or "ImagePullBackOff" in rollback["message"]
    assert [step.get("reachedAt") for step in status(reverted)["deployment"]["steps"]] == [None]
    assert shop.assert_no_switch_failed()["by_version"].keys() == {"1"}


def test_restart_of_a_candidate_container_reverts(shop: Shop) -> None:
    shop.launch()
    shop.apply(shop.version(2, steps=[{"shadow": {"minDuration": "2s", "maxDuration": "1m"}}, *LONG_CANARY]))
    in_canary = shop.wait_step("canary")
    revision = status(in_canary)["candidateRevision"]
    crashing, _serving = shop.pods(revision)
    shop.inject_into(crashing, crash=True)
    reverted = shop.wait_phase("RolledBack", 40)
    assert status(reverted)["rollback"]["reason"] == "CandidateRestarted"


def test_last_ready_candidate_pod_lost_reverts(shop: Shop) -> None:
    shop.launch()
    shop.apply(shop.version(2, steps=LONG_CANARY))
    in_canary = shop.wait_step("canary")
    shop.inject(status(in_canary)["candidateRevision"], crash=True)
    reverted = shop.wait_phase("RolledBack", 40)
    assert status(reverted)["rollback"]["reason"] in ("CapacityLost", "CandidateRestarted"), "whichever is seen first"


def test_without_prometheus_weight_goes_to_zero_and_the_deadline_reverts(shop: Shop) -> None:
    shop.launch()
    steps = [
        {"shadow": {"minDuration": "2s", "maxDuration": "1m"}},
        {"canary": {"weight": 5, "minDuration": "25s", "maxDuration": "45s"}},
        {"full": {"bake": "4s"}},
    ]
    shop.apply(shop.version(2, steps=steps))
    shop.wait_step("canary")
    kubectl("scale", "deployment/prometheus", "--replicas=0", "--namespace=monitoring")
    try:
        held = shop.wait_phase("Held", 40)
        shop.wait_for(lambda found: status(found)["weight"] == 0, "weight 0", 10)
        assert shop.route_weights()["ranker-candidate"] == 0
        assert "no evidence" in status(held)["message"]
        reverted = shop.wait_phase("RolledBack", 60)
        assert status(reverted)["rollback"]["reason"] == "DeadlineInconclusive"
    finally:
        kubectl("scale", "deployment/prometheus", "--replicas=1", "--namespace=monitoring")
        kubectl("rollout", "status", "deployment/prometheus", "--namespace=monitoring", "--timeout=60s", timeout=70)
    shop.assert_no_switch_failed()
