"""The order of writes where many rollouts break at once, and what a refused write leads to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from ops_commander.adapters.cluster import Cluster
from ops_commander.adapters.kubernetes import ApiError, Conflict
from ops_commander.api.v1alpha1 import ModelRolloutStatus
from ops_commander.core import names
from ops_commander.core.decide import is_reverting
from ops_commander.core.desired import Action
from ops_commander.core.snapshot import Snapshot
from ops_commander.runtime.events import EventPoster
from ops_commander.runtime.observer import Observer
from ops_commander.runtime.reconciler import Reconciler
from ops_commander.runtime.rollouts import Rollouts
from ops_commander.runtime.workqueue import Key, WorkQueue
from tests.unit import virtual
from tests.unit.core.test_stories import is_running
from tests.unit.world import World, canary, full, rollout

RANKER = ("shop", "ranker")
ROUTE_TAKES, STATUS_TAKES = 0.01, 0.05


@dataclass
class Writes:
    """A cluster that takes its time, and notes what was written in which order."""

    log: list[tuple[str, Key]] = field(default_factory=list)
    statuses: dict[Key, ModelRolloutStatus] = field(default_factory=dict)
    refuse: set[Key] = field(default_factory=set)
    reads: list[Key] = field(default_factory=list)
    version: int = 100

    async def rollout(self, namespace: str, name: str) -> dict[str, Any]:
        self.reads.append((namespace, name))
        return body((namespace, name), self.version)

    async def commit(self, namespace: str, name: str, _: str, status: ModelRolloutStatus) -> dict[str, Any]:
        key = (namespace, name)
        await asyncio.sleep(STATUS_TAKES)
        if key in self.refuse:
            self.refuse.discard(key)
            raise Conflict(409, "changed meanwhile")
        self.log.append(("status", key))
        self.statuses[key] = status
        self.version += 1
        return body(key, self.version)

    async def carry_out(self, namespace: str, name: str, _: str, action: Action) -> None:
        await asyncio.sleep(ROUTE_TAKES)
        self.log.append((type(action).__name__, (namespace, name)))


@dataclass
class Sight:
    """Sees the same in every rollout: one in canary that a person has ordered back."""

    of: Snapshot
    anew: list[Key] = field(default_factory=list)
    after: Snapshot | None = None
    """What is seen once the acts of the revert are done; None where that cannot be read."""
    asked: list[ModelRolloutStatus] = field(default_factory=list)
    """Whose evidence is followed from then on."""

    async def snapshot(self, seen: dict[str, Any], *, anew: bool) -> Snapshot:
        metadata = seen["metadata"]
        if anew:
            self.anew.append((metadata["namespace"], metadata["name"]))
        return replace(self.of, resource_version=metadata["resourceVersion"])

    async def after_acts(self, snapshot: Snapshot, status: ModelRolloutStatus) -> Snapshot:
        if self.after is None:
            raise ApiError(503, "cannot be read now")
        return replace(snapshot, status=status, route=self.after.route, candidate_service=self.after.candidate_service)

    def ask(self, snapshot: Snapshot) -> None:
        self.asked.append(snapshot.status)


class Silent:
    def post(self, *_: object) -> None:
        """Nobody listens."""


def body(key: Key, version: int) -> dict[str, Any]:
    return {"metadata": {"namespace": key[0], "name": key[1], "resourceVersion": str(version)}, "spec": {}}


def aborted() -> tuple[World, Snapshot, Snapshot]:
    """A world a second after its rollout was ordered back, as it was when it was, and as it is."""
    world = rollout().steps(canary(10), full()).trying()
    world.run_until(lambda: is_running(world, "canary 10%"))
    snapshot = world.snapshot()
    assert snapshot.status.deployment is not None
    world.annotate(names.ABORT, snapshot.status.deployment.id)
    before = replace(snapshot, annotations=world.snapshot().annotations)
    return world, before, world.run(1).snapshot()


@dataclass
class Scene:
    writes: Writes
    sight: Sight
    queue: WorkQueue
    rollouts: Rollouts
    reconciler: Reconciler

    async def run(self, seconds: float) -> None:
        task = asyncio.create_task(self.reconciler.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def scene(keys: list[Key], turns: int) -> Scene:
    world, snapshot, after = aborted()
    writes, sight, queue, rollouts = Writes(), Sight(snapshot, after=after), WorkQueue(), Rollouts()
    for key in keys:
        rollouts.take(body(key, 1))
    reconciler = Reconciler(
        cast(Cluster, writes),
        cast(Observer, sight),
        cast(EventPoster, Silent()),
        queue,
        lambda: world.now,
        lambda: True,
        rollouts,
        asyncio.Semaphore(turns),
    )
    return Scene(writes, sight, queue, rollouts, reconciler)


def test_where_many_break_all_traffic_is_off_before_the_books_are_kept() -> None:
    keys = [("shop", f"ranker-{number}") for number in range(60)]

    async def main() -> Scene:
        made = scene(keys, turns=4)
        for key in keys:
            made.queue.add(key, urgent=True)
        await made.run(3)
        return made

    log = virtual.run(main()).writes.log
    off = {key: number for number, (what, key) in reversed(list(enumerate(log))) if what != "status"}
    books = [number for number, (what, _) in enumerate(log) if what == "status"]
    assert set(off) == set(keys) == {key for what, key in log if what == "status"}
    assert max(off.values()) < books[4], "no more books than there are turns come in between"


def after_one_revert(*, is_readable: bool = True) -> Scene:
    """Of RANKER alone, until its first commit."""

    async def main() -> Scene:
        made = scene([RANKER], turns=4)
        if not is_readable:
            made.sight.after = None
        made.queue.add(RANKER, urgent=True)
        await made.run(0.08)
        return made

    return virtual.run(main())


def test_one_alone_is_committed_right_after_its_route() -> None:
    made = after_one_revert()
    assert made.writes.log[0][0] != "status" and ("status", RANKER) in made.writes.log
    assert is_reverting(made.writes.statuses[RANKER])
    assert not made.sight.anew and not made.writes.reads, "a revert rests on what is known: no read delays it"


@pytest.mark.parametrize("is_readable", [True, False])
def test_what_the_router_has_taken_before_the_commit_is_in_it(is_readable: bool) -> None:
    written = after_one_revert(is_readable=is_readable).writes.statuses[RANKER]
    assert is_reverting(written) and written.rollback is not None
    assert (written.rollback.traffic_reverted_at is not None) is is_readable, "and the commit does not depend on it"


def test_evidence_is_asked_for_as_soon_as_a_split_is_committed_and_not_when_its_turn_comes_again() -> None:
    made = after_one_revert()
    assert made.sight.asked == [made.writes.statuses[RANKER]]


def test_a_revert_under_way_goes_before_others_that_wait() -> None:
    key, other = RANKER, ("shop", "other")

    async def main() -> None:
        made = scene([key, other], turns=1)
        made.queue.add(key, urgent=True)
        await made.run(0.075)
        assert is_reverting(made.writes.statuses[key])
        made.queue.add(other)
        made.queue.add(key)
        assert await made.queue.get() == key

    virtual.run(main())


def test_after_a_refused_write_everything_is_read_anew() -> None:
    async def main() -> Scene:
        made = scene([RANKER], turns=4)
        made.writes.refuse.add(RANKER)
        made.queue.add(RANKER, urgent=True)
        await made.run(0.3)
        return made

    made = virtual.run(main())
    assert made.sight.anew[:1] == [RANKER] and made.writes.reads[:1] == [RANKER]
    assert is_reverting(made.writes.statuses[RANKER])
