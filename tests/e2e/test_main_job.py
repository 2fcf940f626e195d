"""The main job: a good version goes from shadow to full, a bad one is thrown back, and no request is lost."""

from __future__ import annotations

from datetime import datetime

import pytest

from hack.demo.installed import kubectl
from tests.e2e.shop import (
    Shop,
    condition,
    condition_of,
    operator_metrics,
    operator_pods,
    status,
    step_names,
)

RTO_SECONDS = 120


@pytest.mark.rate(120)
def test_good_version_completes_and_bad_one_is_reverted_without_a_failed_request(shop: Shop) -> None:
    shop.launch()
    shop.apply(shop.version(2))
    shop.wait_step("shadow")
    shop.wait_step("canary")
    assert shop.route_weights() == {"ranker-stable": 80, "ranker-candidate": 20}
    shop.wait_step("full")
    completed = shop.wait_for(lambda found: condition(found, "Ready") == "True", "version 2 to be stable", 60)
    assert shop.requests_per_second() >= 100
    assert step_names(completed) == ["shadow", "canary 20%", "full"]
    assert status(completed)["stableVersion"] == "2"
    assert shop.route_weights()["ranker-candidate"] == 0
    stats = shop.assert_no_switch_failed()
    assert stats["failed"]["model"] == {}
    assert stats["by_version"]["2"] > 0

    shop.apply(shop.version(3))
    in_canary = shop.wait_step("canary")
    shop.inject(status(in_canary)["candidateRevision"], error_rate=0.3, latency_ms=700)
    reverted = shop.wait_phase("RolledBack")
    rollback = status(reverted)["rollback"]
    assert rollback["reason"] == "ObjectiveBreached"
    assert rollback["objective"] in ("error-rate", "error-ratio", "p95-latency")
    assert 0 < rollback["trafficSeconds"] < rollback["replicaSetSeconds"] < RTO_SECONDS
    assert _ordered(rollback, "breachVisibleAt", "decidedAt", "trafficRevertedAt", "replicaSetRevertedAt")
    assert status(reverted)["stableVersion"] == "2"
    assert shop.route_weights()["ranker-candidate"] == 0
    assert shop.replica_set(status(in_canary)["candidateRevision"])["status"]["replicas"] == 0
    assert shop.assert_no_switch_failed()["failed"]["model"].keys() == {"3"}

    told = kubectl("events", "--for=mro/ranker", f"--namespace={shop.namespace}")
    for reason in ("RollbackStarted", "TrafficReverted", "RolledBack"):
        assert reason in told
    counted = (
        f'ops_commander_rollbacks_total{{namespace="{shop.namespace}",reason="ObjectiveBreached",rollout="ranker"}} 1.0'
    )
    assert any(counted in operator_metrics(pod) for pod in operator_pods())


def _ordered(times: dict[str, str], *names: str) -> bool:
    moments = [datetime.fromisoformat(times[name]) for name in names]
    return moments == sorted(moments)


def test_status_reads_as_a_story(shop: Shop) -> None:
    shop.launch()
    waited = kubectl("wait", "--for=condition=Ready", "mro/ranker", f"--namespace={shop.namespace}", "--timeout=20s")
    assert "condition met" in waited
    shop.apply(shop.version(2, steps=[{"shadow": {"minDuration": "1m", "maxDuration": "2m"}}, {"full": {}}]))
    shop.wait_step("shadow")
    dwelling = shop.wait_for(lambda found: status(found).get("verdict") == "Pass", "objectives to pass", 30)
    assert condition(dwelling, "Ready") == "False"
    assert condition(dwelling, "Reconciling") == "True"
    line = kubectl("get", "mro", f"--namespace={shop.namespace}").splitlines()
    assert line[0].split() == ["NAME", "PHASE", "STEP", "WEIGHT", "VERDICT", "REASON", "NEXT", "AGE"]
    for word in ("ranker", "Progressing", "1/2 shadow", "Pass", "Dwelling", "full at"):
        assert word in line[1]
    told = kubectl("describe", "mro/ranker", f"--namespace={shop.namespace}")
    for word in ("StepReached", "CapacityReady", "error-rate", "router has candidate 0%, 100% mirrored"):
        assert word in told
    synced = condition_of(dwelling, "TrafficSynced")
    assert synced is not None
    assert synced["status"] == "True"
