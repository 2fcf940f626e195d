"""Votes that others cast on a rollout. They are read for what production waits for, and hold up nothing else."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from ops_commander.adapters.cluster import Cluster
from ops_commander.adapters.kubernetes import ApiError
from ops_commander.api.vote import Vote, vote_name
from ops_commander.core import consensus
from ops_commander.core.situation import Situation
from ops_commander.core.snapshot import Snapshot

log = logging.getLogger(__name__)

WITHIN = 1.0
"""Seconds in which votes are read, or else not this time: a revert does not wait for them."""


async def votes_on(cluster: Cluster, snapshot: Snapshot, now: datetime) -> tuple[Vote, ...]:
    """Votes on the deployment under way, by the one name that each can have; none where they cannot be read.

    What was counted before is in status: to miss a vote once delays an advance, and never undoes one.
    """
    poll = consensus.poll_of(Situation(snapshot, now))
    if poll is None or not poll.settings.external:
        return ()
    wanted = [vote_name(poll.deployment_id, role) for role in poll.settings.external]
    try:
        async with asyncio.timeout(WITHIN):
            found = await cluster.votes(snapshot.namespace, wanted)
    except (ApiError, TimeoutError) as error:
        log.warning("votes on %s not read: %s", poll.deployment_id, error or "no answer in time")
        return ()
    return tuple(vote for vote in map(_vote, found) if vote is not None)


def _vote(body: dict[str, Any]) -> Vote | None:
    """A vote that the models refuse, as one of a later version may be, counts nothing."""
    try:
        return Vote.model_validate(body)
    except ValidationError as error:
        log.warning("Vote %s counts nothing: %s", body["metadata"]["name"], error)
        return None
