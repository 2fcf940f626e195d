"""The operator killed at any moment: nothing is lost, skipped or done twice."""

from __future__ import annotations

import pytest

from tests.e2e.shop import Shop, kill_operator, status, step_names


@pytest.mark.rate(120)
def test_operator_killed_in_each_step_resumes_where_it_was(shop: Shop) -> None:
    shop.launch()
    steps = [
        {"shadow": {"minDuration": "3s", "maxDuration": "2m"}},
        {"canary": {"weight": 5, "minDuration": "3s", "maxDuration": "2m"}},
        {"full": {"bake": "3s", "maxDuration": "2m"}},
    ]
    applied = shop.apply(shop.version(2, steps=steps))
    began = shop.wait_revision(applied["metadata"]["generation"])
    kill_operator()
    shop.wait_step("shadow")
    kill_operator()
    shop.wait_step("canary")
    kill_operator()
    shop.wait_step("full")
    kill_operator()
    completed = shop.wait_for(lambda found: status(found).get("stableVersion") == "2", "completion", 90)
    assert step_names(completed) == ["shadow", "canary 5%", "full"]
    assert status(completed)["deployment"]["id"] == status(began)["deployment"]["id"]
    shop.assert_no_switch_failed()


def test_all_operators_killed_during_a_revert_finish_it(shop: Shop) -> None:
    shop.launch()
    shop.apply(shop.version(2, drain="5s"))
    in_canary = shop.wait_step("canary")
    shop.annotate("abort", status(in_canary)["deployment"]["id"])
    shop.wait_phase("RollingBack", 20)
    kill_operator(everyone=True)
    reverted = shop.wait_phase("RolledBack", 90)
    rollback = status(reverted)["rollback"]
    assert rollback["deploymentId"] == status(in_canary)["deployment"]["id"]
    assert rollback["replicaSetSeconds"] < 120
    assert shop.route_weights()["ranker-candidate"] == 0
    shop.assert_no_switch_failed()
