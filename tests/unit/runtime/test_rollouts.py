"""Which rollouts are known, and whom a change around them concerns."""

from __future__ import annotations

from typing import Any

from ops_commander.adapters.surroundings import Change
from ops_commander.core import selectors
from ops_commander.runtime.rollouts import Rollouts

RANKER, SEARCH = ("shop", "ranker"), ("shop", "search")


def body(name: str = "ranker", version: int = 1, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "resourceVersion": str(version), "managedFields": [{"manager": "x"}]}
    return {"kind": "ModelRollout", "metadata": metadata, "spec": spec}


def on_route(name: str) -> dict[str, Any]:
    return {"traffic": {"gatewayAPI": {"httpRouteRef": {"name": name}}}}


def test_the_echo_of_our_own_write_is_no_news() -> None:
    rollouts = Rollouts()
    assert rollouts.take(body(version=9))
    assert rollouts.take(body(version=10))
    assert not rollouts.take(body(version=10)) and not rollouts.take(body(version=9))
    kept = rollouts.body(RANKER)
    assert kept is not None and kept["metadata"] == {"name": "ranker", "namespace": "shop", "resourceVersion": "10"}


def test_a_route_concerns_those_that_steer_it() -> None:
    rollouts = Rollouts()
    rollouts.take(body())
    rollouts.take(body("search", **on_route("shared")))
    assert rollouts.concerned(Change("HTTPRoute", "shop", "ranker", "")) == [RANKER]
    assert rollouts.concerned(Change("HTTPRoute", "shop", "shared", "")) == [SEARCH]
    assert rollouts.concerned(Change("HTTPRoute", "other", "shared", "")) == []
    rollouts.take(body("search", 2))
    assert rollouts.concerned(Change("HTTPRoute", "shop", "shared", "")) == []
    assert rollouts.concerned(Change("HTTPRoute", "shop", "search", "")) == [SEARCH]


def test_a_policy_concerns_those_that_it_judges() -> None:
    rollouts = Rollouts()
    rollouts.take(body(policyRef={"name": "strict"}))
    rollouts.take(body("search"))
    assert rollouts.concerned(Change("RolloutPolicy", "shop", "strict", "")) == [RANKER]


def test_other_objects_concern_the_rollout_on_their_label_if_it_is_known() -> None:
    rollouts = Rollouts()
    rollouts.take(body())
    assert rollouts.concerned(Change("Pod", "shop", "ranker-x-1", "ranker")) == [RANKER]
    assert rollouts.concerned(Change("Pod", "shop", "search-x-1", "search")) == []
    rollouts.discard(RANKER)
    assert rollouts.concerned(Change("Pod", "shop", "ranker-x-1", "ranker")) == []


def test_a_full_list_brings_to_light_what_a_watch_has_missed() -> None:
    rollouts = Rollouts()
    for name, version in (("ranker", 5), ("search", 6), ("ads", 7)):
        rollouts.take(body(name, version))
    found = rollouts.differing(None, {RANKER: "5", ("shop", "ads"): "8", ("bank", "risk"): "1"})
    assert sorted(found) == [("bank", "risk"), ("shop", "ads"), SEARCH]
    assert SEARCH not in rollouts and RANKER in rollouts
    assert rollouts.differing("bank", {}) == []


def test_a_rollout_of_another_shard_is_let_go() -> None:
    rollouts = Rollouts(selectors.parse("shard=a"))
    mine, other = body(), body(version=2)
    mine["metadata"]["labels"] = {"shard": "a"}
    assert rollouts.read(RANKER, mine) and RANKER in rollouts
    assert not rollouts.read(RANKER, other) and RANKER not in rollouts
    assert not rollouts.read(RANKER, None)


def test_a_spec_of_any_shape_is_taken() -> None:
    rollouts = Rollouts()
    rollouts.take(body(traffic=[1], policyRef="strict"))
    assert rollouts.concerned(Change("HTTPRoute", "shop", "ranker", "")) == [RANKER]
