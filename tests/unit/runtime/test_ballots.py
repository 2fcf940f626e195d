"""Votes are read for the advance alone: what goes wrong with them holds, and holds up nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from ops_commander.adapters.cluster import Cluster
from ops_commander.adapters.kubernetes import ApiError
from ops_commander.api.ballot import VoterRole
from ops_commander.runtime import ballots, metrics
from tests.unit.core.test_votes import EXTERNAL, asked, voted
from tests.unit.world import World, rollout


class Votes:
    """The part of the cluster's adapter that reads votes, with what the API server answers."""

    def __init__(self, answer: list[dict[str, Any]] | Exception | None) -> None:
        self.answer, self.asked = answer, list[str]()

    async def votes(self, namespace: str, names: Iterable[str]) -> list[dict[str, Any]]:
        self.asked += names
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or []


async def read(world: World, answer: list[dict[str, Any]] | Exception | None) -> tuple[list[str], list[str]]:
    """Names that were asked for, and names of the votes that were understood."""
    reader = Votes(answer)
    found = await ballots.votes_on(cast(Cluster, reader), world.snapshot(), world.now)
    return reader.asked, [vote.name for vote in found]


@pytest.fixture(scope="module")
def world() -> World:
    return asked(voted())


async def test_only_roles_of_others_are_asked_for(world: World) -> None:
    identity = world.deployment.id
    names, _ = await read(world, [])
    assert names == [f"{identity}-{role.slug}" for role in VoterRole]

    mixed = asked(voted({"voters": {"qualityOfficer": "External"}}))
    assert (await read(mixed, []))[0] == [f"{mixed.deployment.id}-quality-officer"]


async def test_nothing_is_read_where_no_votes_are_asked_for(world: World) -> None:
    for quiet in (rollout().at("shadow"), voted({}).at("shadow"), voted().live()):
        assert await read(quiet, [{}]) == ([], [])


async def test_an_api_server_that_refuses_or_hangs_brings_no_votes_and_no_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ballots, "WITHIN", 0.01)

    assert (await read(world, ApiError(403, "forbidden")))[1] == []
    assert (await read(world, None))[1] == []


async def test_a_vote_of_a_form_that_is_not_known_counts_nothing(world: World) -> None:
    vote = world.vote(VoterRole.QUALITY_OFFICER, "GO")
    (body,) = world.votes.values()
    strange = {**body, "spec": {**body["spec"], "vote": "ABSTAIN"}}

    assert (await read(world, [strange, body]))[1] == [vote.name]


def test_metrics_show_the_votes_of_a_deployment_under_way() -> None:
    key = ("shop", "metrics-of-votes")
    world = asked(voted(EXTERNAL))
    world.vote(VoterRole.QUALITY_OFFICER, "NO-GO")
    world.run(2)

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"ops_commander_{name}", {"namespace": key[0], "rollout": key[1], **labels})

    metrics.show(key, world.status)
    quorum = world.status.quorum
    assert quorum is not None and quorum.asked_at is not None
    assert [value("quorum_votes", vote=vote) for vote in ("GO", "NO-GO", "missing")] == [0, 1, 2]
    assert value("quorum_waiting_since_seconds") == quorum.asked_at.timestamp()

    metrics.hide(key)
    assert value("quorum_votes", vote="GO") is None and value("quorum_waiting_since_seconds") is None
