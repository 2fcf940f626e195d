"""What people order: pause and go on, promote a step, delete everything; and what they may not: an unknown run."""

from __future__ import annotations

from hack.demo.installed import kubectl
from tests.e2e.shop import Shop, condition, condition_of, status, step_names

LONG_STEPS = [
    {"shadow": {"minDuration": "1m", "maxDuration": "3m"}},
    {"canary": {"weight": 5, "minDuration": "1m", "maxDuration": "3m"}},
    {"full": {"bake": "1m", "maxDuration": "3m"}},
]


def test_pause_holds_and_promote_leaves_one_step_once(shop: Shop) -> None:
    shop.launch()
    shop.apply(shop.version(2, steps=LONG_STEPS))
    in_shadow = shop.wait_step("shadow")
    shop.apply(shop.version(2, steps=LONG_STEPS, paused=True))
    shop.wait_phase("Paused", 20)
    shop.apply(shop.version(2, steps=LONG_STEPS, paused=False))
    shop.wait_step("shadow", 20)
    deployment = status(in_shadow)["deployment"]["id"]
    shop.annotate("promote", f"{deployment}/7")
    shop.annotate("promote", f"{deployment}/0")
    shop.wait_step("canary", 30)
    shop.annotate("promote", f"{deployment}/1")
    in_full = shop.wait_step("full", 30)
    assert step_names(in_full) == ["shadow", "canary 5%", "full"]
    shop.annotate("promote", f"{deployment}/2")
    shop.wait_for(lambda found: status(found).get("stableVersion") == "2", "promotion by order", 40)
    shop.assert_no_switch_failed()


def test_delete_all_leaves_nothing(shop: Shop) -> None:
    shop.launch(deletionPolicy="DeleteAll")
    kubectl("delete", "mro/ranker", f"--namespace={shop.namespace}", "--timeout=60s", timeout=70)
    selector = "--selector=ops-commander.dev/rollout=ranker"
    kinds = "replicasets,services,httproutes.gateway.networking.k8s.io"
    left = kubectl("get", kinds, selector, f"--namespace={shop.namespace}", "--output=name")
    assert left == ""


def test_a_run_that_mlflow_does_not_know_ships_nothing(shop: Shop) -> None:
    shop.launch()
    unknown = shop.version(2)
    unknown["spec"]["model"]["runId"] = "0" * 32
    shop.apply(unknown)
    refused = shop.wait_for(lambda found: condition(found, "Verified") == "False", "the run to be refused", 30)
    verified = condition_of(refused, "Verified")
    assert verified is not None
    assert verified["reason"] == "ModelRunNotFound"
    assert "spec.model.runId" in verified["message"]
    assert status(refused)["deployments"] == 1, "no deployment has begun"
