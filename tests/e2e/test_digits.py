"""Real models on a real model server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hack.demo import installed
from hack.demo.installed import kubectl
from tests.e2e.digits import DigitsShop, seconds_to_ready
from tests.e2e.shop import condition, fresh_namespace, rows, status, step_names


@pytest.fixture
def digits(cluster: None, request: pytest.FixtureRequest) -> Iterator[DigitsShop]:
    """A namespace of its own, with a load of digits."""
    made = DigitsShop(fresh_namespace())
    made.set_up()
    try:
        yield made
    finally:
        if request.session.testsfailed:
            print(kubectl("describe", "mro,pods", f"--namespace={made.namespace}")[-9000:])
            print(installed.operator_log(60))
        made.tear_down()


def test_a_real_model_is_shipped(digits: DigitsShop) -> None:
    first = digits.ship_first("v1")
    second = digits.register("v2")
    digits.apply(digits.digits(second))
    digits.wait_step("shadow")
    digits.wait_step("canary")
    assert digits.route_weights() == {"digits-stable": 95, "digits-candidate": 5}
    digits.wait_step("full", 150)
    completed = digits.wait_for(
        lambda found: condition(found, "Ready") == "True" and status(found)["stableVersion"] == second.version,
        "version 2 to be stable",
        90,
    )
    assert step_names(completed) == ["shadow", "canary 5%", "full"]
    told = rows(completed)
    for name in ("error-rate", "failures", "p95-latency", "compliance"):
        assert told[name]["verdict"] == "Pass", told[name]
    assert told["compliance"]["source"] == f"{second.run_id}/evaluation/compliance.json"
    stats = digits.assert_no_switch_failed()
    assert stats["failed"]["model"] == {}
    assert stats["by_version"].keys() == {first.version, second.version}
    assert max(seconds_to_ready(digits.namespace).values()) < 30
    assert status(completed)["stableRunId"] == second.run_id
