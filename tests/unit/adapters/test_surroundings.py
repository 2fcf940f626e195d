"""What is known of the objects around rollouts: newer versions win, and only what could change a decision is told."""

from __future__ import annotations

from typing import Any

from ops_commander.adapters.surroundings import Change, KnownObjects, Wanted
from ops_commander.core import names

WANTED = Wanted(route="ranker")


def item(kind: str, name: str, version: int, **more: Any) -> dict[str, Any]:
    labels = {names.ROLLOUT_LABEL: "ranker", **more.pop("labels", {})}
    metadata = {"name": name, "namespace": "shop", "resourceVersion": str(version), "labels": labels}
    return {"kind": kind, "metadata": {**metadata, "creationTimestamp": "2026-01-05T09:00:00Z"}, "spec": {}, **more}


def pod(version: int, *, restarts: int = 0, waiting: str = "", ip: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    status = {"podIP": ip, "containerStatuses": [{"name": "model", "restartCount": restarts, "state": state}]}
    return item("Pod", "ranker-r1-x", version, labels={names.REVISION_LABEL: "r1"}, status=status)


def replica_set(version: int, *, ready: int = 0) -> dict[str, Any]:
    status = {"replicas": 1, "readyReplicas": ready}
    return item("ReplicaSet", "ranker-r1", version, labels={names.REVISION_LABEL: "r1"}, status=status)


def test_an_older_version_never_takes_the_place_of_a_newer_one() -> None:
    known = KnownObjects()
    known.take(replica_set(7, ready=1), "ReplicaSet")
    known.take(replica_set(6), "ReplicaSet")
    assert known.surroundings("shop", "ranker", WANTED).replica_sets["r1"].ready == 1


def test_versions_are_numbers_not_texts() -> None:
    known = KnownObjects()
    known.take(replica_set(9), "ReplicaSet")
    known.take(replica_set(10, ready=1), "ReplicaSet")
    assert known.surroundings("shop", "ranker", WANTED).replica_sets["r1"].ready == 1


def test_only_what_a_decision_looks_at_is_told() -> None:
    told: list[Change] = []
    known = KnownObjects(told.append)
    known.take(pod(1), "Pod")
    known.take(pod(2, ip="10.0.0.1"), "Pod")
    assert told == [Change("Pod", "shop", "ranker-r1-x", "ranker")]
    known.take(pod(3, ip="10.0.0.1", restarts=1), "Pod")
    known.take(pod(4, ip="10.0.0.1", restarts=1, waiting="CrashLoopBackOff"), "Pod")
    assert len(told) == 3


def test_the_echo_of_our_own_write_is_no_news() -> None:
    told: list[Change] = []
    known = KnownObjects(told.append)
    known.take(replica_set(1), "ReplicaSet")
    known.take(replica_set(2, ready=1), "ReplicaSet", quietly=True)
    known.take(replica_set(2, ready=1), "ReplicaSet")
    assert len(told) == 1
    assert known.surroundings("shop", "ranker", WANTED).replica_sets["r1"].ready == 1


def test_what_pods_say_is_said_of_their_replica_set() -> None:
    known = KnownObjects()
    known.take(replica_set(1), "ReplicaSet")
    known.take(pod(2, restarts=3, waiting="ImagePullBackOff"), "Pod")
    view = known.surroundings("shop", "ranker", WANTED).replica_sets["r1"]
    assert (view.restarts, view.trouble) == (3, "container model ImagePullBackOff")
    known.drop("Pod", "shop", "ranker-r1-x")
    view = known.surroundings("shop", "ranker", WANTED).replica_sets["r1"]
    assert (view.restarts, view.trouble) == (0, None)


def test_a_whole_list_ends_what_is_not_on_it_unless_it_came_later() -> None:
    known = KnownObjects()
    known.take(item("Service", "ranker-stable", 5), "Service")
    known.take(item("Service", "ranker-candidate", 12), "Service")
    known.keep_only("Service", "shop", set(), "10")
    around = known.surroundings("shop", "ranker", WANTED)
    assert around.stable_service is None and around.candidate_service is not None
    known.keep_only("Service", "elsewhere", set(), "20")
    assert known.surroundings("shop", "ranker", WANTED).candidate_service is not None


def test_an_object_that_changes_hands_leaves_the_rollout_it_was_of() -> None:
    known = KnownObjects()
    known.take(replica_set(1), "ReplicaSet")
    moved = replica_set(2)
    moved["metadata"]["labels"][names.ROLLOUT_LABEL] = "other"
    known.take(moved, "ReplicaSet")
    assert not known.surroundings("shop", "ranker", WANTED).replica_sets
    assert "r1" in known.surroundings("shop", "other", WANTED).replica_sets


def test_a_generated_route_is_left_over_where_spec_refers_to_another() -> None:
    known = KnownObjects()
    known.take(item("HTTPRoute", "ranker", 1), "HTTPRoute")
    around = known.surroundings("shop", "ranker", Wanted(route="shared"))
    assert around.has_leftover_route and around.route is None
    route = known.surroundings("shop", "ranker", WANTED).route
    assert route is not None and route["metadata"]["resourceVersion"] == "1"
