"""Changes of mind and mistakes: spec edited, deleted, route changed by others, wrong ports, bad input."""

from __future__ import annotations

import json
from typing import Any

from hack.demo import installed
from hack.demo.installed import kubectl
from tests.e2e.shop import GATEWAY, LONG_CANARY, Shop, apply_refused, condition, condition_of, status, step_names


def test_edit_in_mid_rollout_starts_over_from_shadow_with_the_new_candidate(shop: Shop) -> None:
    shop.launch()
    shop.apply(shop.version(2, steps=LONG_CANARY))
    second = shop.wait_step("canary")
    applied = shop.apply(shop.version(3))
    shop.wait_revision(applied["metadata"]["generation"])
    third = shop.wait_step("shadow")
    assert status(third)["deployment"]["modelVersion"] == "3"
    assert status(third)["history"][0]["outcome"] == "Superseded"
    assert status(third)["history"][0]["deploymentId"] == status(second)["deployment"]["id"]
    completed = shop.wait_for(lambda found: status(found).get("stableVersion") == "3", "version 3 stable", 90)
    assert step_names(completed) == ["shadow", "canary 20%", "full"]
    shop.wait_for(lambda found: not status(found).get("retiring"), "old versions to be gone", 30)
    assert shop.replica_set(status(second)["candidateRevision"])["spec"]["replicas"] == 0
    shop.assert_no_switch_failed()


def test_deletion_in_mid_rollout_leaves_stable_serving_and_can_be_taken_up_again(shop: Shop) -> None:
    launched = shop.launch()
    stable = status(launched)["stableRevision"]
    shop.apply(shop.version(2, steps=LONG_CANARY))
    candidate = status(shop.wait_step("canary"))["candidateRevision"]
    kubectl(
        "delete", "mro/ranker", f"--namespace={shop.namespace}", "--cascade=foreground", "--timeout=60s", timeout=70
    )
    sets = json.loads(kubectl("get", "replicaset", f"--namespace={shop.namespace}", "--output=json"))["items"]
    left = {item["metadata"]["name"]: item["status"].get("readyReplicas", 0) for item in sets}
    assert left[f"ranker-{stable}"] == 2
    assert f"ranker-{candidate}" not in left
    services = kubectl("get", "services", f"--namespace={shop.namespace}", "--output=name").split()
    assert "service/ranker-stable" in services
    assert "service/ranker-candidate" not in services
    assert shop.route_weights() == {"ranker-stable": 100}
    installed.reset_load(shop.namespace)
    shop.apply(shop.version(1))
    shop.wait_for(lambda found: condition(found, "Ready") == "True", "the orphan to be taken over", 30)
    stats = shop.assert_no_switch_failed()
    assert stats["by_version"].keys() == {"1"}


def test_drift_of_the_route_is_repaired_and_reported(shop: Shop) -> None:
    shop.launch()
    shop.apply(shop.version(2, steps=LONG_CANARY))
    shop.wait_step("canary")
    patch = [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 90}]
    kubectl("patch", "httproute/ranker", f"--namespace={shop.namespace}", "--type=json", "--patch", json.dumps(patch))
    kubectl(
        "wait",
        "--for=jsonpath={.spec.rules[0].backendRefs[1].weight}=20",
        "httproute/ranker",
        f"--namespace={shop.namespace}",
        "--timeout=20s",
    )
    shop.wait_step("canary", 20)
    told = kubectl("events", "--for=mro/ranker", f"--namespace={shop.namespace}")
    assert "RouteDrift" in told


def test_wrong_ports_are_named(shop: Shop) -> None:
    wrong = shop.version(1, service={"port": 80, "targetPort": 9999})
    found = shop.apply(wrong)
    found = shop.wait_for(lambda item: condition(item, "Accepted") == "False", "the port to be refused", 20)
    accepted = condition_of(found, "Accepted")
    assert accepted is not None
    assert accepted["reason"] == "ServicePortMismatch"
    for word in ("spec.service.targetPort", "9999", "8080"):
        assert word in accepted["message"]

    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "own", "namespace": shop.namespace},
        "spec": {
            "parentRefs": [GATEWAY],
            "hostnames": [f"ranker.{shop.namespace}.example"],
            "rules": [{"backendRefs": [{"name": "ranker-stable", "port": 8081}]}],
        },
    }
    installed.apply(route)
    shop.apply(shop.version(1, traffic={"gatewayAPI": {"httpRouteRef": {"name": "own"}}}))
    found = shop.wait_for(
        lambda item: "RoutePortMismatch" in json.dumps(status(item).get("conditions", [])), "the route's port", 20
    )
    message = json.dumps(status(found)["conditions"])
    for word in ("HTTPRoute own spec.rules[0].backendRefs[0].port is 8081", "expected 80"):
        assert word in message
    route["spec"]["rules"] = [{"backendRefs": [{"name": "ranker-stable", "port": 80}]}]  # type: ignore[index]
    installed.apply(route)
    shop.wait_for(lambda item: condition(item, "Ready") == "True", "version 1 live through the referenced route", 60)
    shop.apply(shop.version(2, traffic={"gatewayAPI": {"httpRouteRef": {"name": "own"}}}))
    shop.wait_step("canary")
    assert shop.route_weights("own") == {"ranker-stable": 80, "ranker-candidate": 20}
    shop.wait_for(lambda item: status(item).get("stableVersion") == "2", "completion by a referenced route", 60)


def test_bad_input_is_refused_at_apply_with_field_value_and_expectation(shop: Shop) -> None:
    cases: dict[str, tuple[list[dict[str, Any]] | None, dict[str, Any], tuple[str, ...]]] = {
        "weight": ([{"canary": {"weight": 120}}, {"full": {}}], {}, ("spec.steps[0].canary.weight", "120", "99")),
        "order": (
            [{"canary": {"weight": 5}}, {"shadow": {}}, {"full": {}}],
            {},
            ("spec.steps", '["canary", "shadow", "full"]'),
        ),
        "none": ([], {}, ("spec.steps", "at least 1")),
        "unknown": (None, {"colour": "blue"}, ("unknown field", "spec.colour")),
        "negative": ([{"full": {"bake": "-5m"}}], {}, ("spec.steps[0].full.bake", "-5m", "duration")),
        "foreign": (
            None,
            {"traffic": {"gatewayAPI": {"httpRouteRef": {"name": "own", "namespace": "other"}}}},
            ("httpRouteRef", "namespace", "other"),
        ),
        "traversal": (
            None,
            {"policyRef": {"name": "../../other/rolloutpolicies/default"}},
            ("spec.policyRef.name", "../"),
        ),
        "selector": (None, {"selector": {"matchLabels": {"app": "nowhere"}}}, ("selector", "matchLabels", "template")),
    }
    for name, (steps, spec, words) in cases.items():
        document = shop.version(1, **spec)
        if steps is not None:
            document["spec"]["steps"] = steps
        said = apply_refused(document)
        for word in words:
            assert word in said, f"{name}: {word!r} is not in {said!r}"
