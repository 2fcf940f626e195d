"""Which objects are this process's: told by watches and lists, and put right by each fresh read."""

from __future__ import annotations

from typing import Any

import pytest
from kopf._cogs.structs.references import Resource  # kopf.Resource is a protocol: it cannot be made

from ops_commander.api.v1alpha1 import GROUP
from ops_commander.core import names
from ops_commander.core.selectors import parse
from ops_commander.runtime import handlers
from ops_commander.runtime.rollouts import Rollouts
from ops_commander.runtime.served import Served

A, B, OTHER = ("shop", "a"), ("shop", "b"), ("bank", "a")


def labelled(shard: str | None) -> dict[str, Any]:
    return {"metadata": {"labels": {names.SHARD: shard}} if shard else {}}


@pytest.mark.parametrize(
    ("selector", "shard", "is_mine"),
    [
        (f"{names.SHARD}=blue", "blue", True),
        (f"{names.SHARD}=blue", "red", False),
        (f"{names.SHARD}=blue", None, False),
        (f"{names.SHARD} notin (blue)", None, True),
        (f"{names.SHARD} notin (blue)", "no-such-shard", True),
        ("", "blue", True),
    ],
)
def test_what_was_read_is_taken_in(selector: str, shard: str | None, is_mine: bool) -> None:
    served = Served(parse(selector))

    assert served.read(A, labelled(shard)) is is_mine
    assert (A in served) is is_mine


def test_an_object_that_is_gone_is_nobodys() -> None:
    served = Served()
    served.add(A)

    assert not served.read(A, None) and A not in served


def test_a_relabelled_object_is_let_go_by_the_read_even_if_no_watch_has_told() -> None:
    served = Served(parse(f"{names.SHARD}=blue"))
    served.add(A)

    assert not served.read(A, labelled("red"))
    assert A not in served and served.of("shop") == []


def test_a_list_tells_what_a_watch_has_missed_and_leaves_other_namespaces_alone() -> None:
    served = Served()
    for key in (A, B, OTHER):
        served.add(key)

    assert served.forgotten("shop", [B]) == [A]
    assert A not in served and B in served and OTHER in served
    assert sorted(served.forgotten(None, [A])) == [OTHER, B]
    assert served.of("shop") == [A]


def of_version(version: int, shard: str = "blue") -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": "a", "resourceVersion": str(version), "labels": {names.SHARD: shard}}
    return {"metadata": metadata, "spec": {}}


def test_an_answer_that_was_under_way_brings_no_rollout_back_that_went_meanwhile() -> None:
    rollouts = Rollouts(parse(f"{names.SHARD}=blue"))
    assert rollouts.take(of_version(5))

    rollouts.discard(A, 9)  # what the watch tells of one that was relabelled
    assert not rollouts.take(of_version(7)) and A not in rollouts  # the answer to a commit before that
    assert not rollouts.read(A, of_version(8)) and A not in rollouts

    assert rollouts.take(of_version(12)) and A in rollouts  # and it came back


def test_a_rollout_that_was_read_with_another_label_stays_away() -> None:
    rollouts = Rollouts(parse(f"{names.SHARD}=blue"))
    assert rollouts.read(A, of_version(5)) and not rollouts.read(A, of_version(9, "red"))

    assert not rollouts.take(of_version(8)) and A not in rollouts
    assert rollouts.body(A) is None


def test_kopf_selects_at_the_api_server_what_is_served_and_nothing_more() -> None:
    chosen = handlers.settings("shard=a").watching.label_selectors

    def selectors(group: str, plural: str) -> list[str]:
        return list(chosen.collect(Resource(group=group, version="v1", plural=plural)))

    assert selectors(GROUP, "modelrollouts") == selectors(GROUP, "actionplans") == ["shard=a"]
    for plural in ("votes", "rolloutpolicies"):
        assert selectors(GROUP, plural) == []
    unsharded = handlers.settings().watching.label_selectors
    assert list(unsharded.collect(Resource(group=GROUP, version="v1", plural="modelrollouts"))) == []
