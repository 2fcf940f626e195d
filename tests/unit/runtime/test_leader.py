"""Leader election: one at a time, a take-over when it is gone, and none that acts on when it cannot renew."""

from __future__ import annotations

import asyncio
import copy
import random
from typing import Any

import pytest

from ops_commander.adapters.kubernetes import ApiError, Conflict, NotFound
from ops_commander.runtime.leader import Election
from tests.unit import virtual


class Lease:
    """The Lease in the API server."""

    def __init__(self) -> None:
        self.body: dict[str, Any] | None = None
        self.version = 0

    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.body = copy.deepcopy(body)
        self.body["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.body)

    @property
    def holder(self) -> str:
        assert self.body is not None
        return str(self.body["spec"]["holderIdentity"])


class Line:
    """One candidate's connection to it, which can fail or hang."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.cut = self.hangs = False

    async def _pass(self) -> None:
        if self.hangs:
            await asyncio.sleep(3600)
        if self.cut:
            raise ApiError(0, "connection refused")
        await asyncio.sleep(0.005)

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        await self._pass()
        if self.lease.body is None:
            raise NotFound(404, "no such Lease")
        return copy.deepcopy(self.lease.body)

    async def create(self, kind: str, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        await self._pass()
        if self.lease.body is not None:
            raise Conflict(409, "exists")
        return self.lease.put(body)

    async def replace(self, kind: str, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        await self._pass()
        assert self.lease.body is not None
        if body["metadata"]["resourceVersion"] != self.lease.body["metadata"]["resourceVersion"]:
            raise Conflict(409, "changed")
        return self.lease.put(body)


class Candidate:
    def __init__(self, lease: Lease, identity: str) -> None:
        self.line = Line(lease)
        self.election = Election(self.line, "ops", "ops-commander", identity, virtual.wall_clock)
        self.task = asyncio.create_task(self.election.run())

    @property
    def leads(self) -> bool:
        return self.election.holds()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def watch(seconds: float, *candidates: Candidate) -> list[str]:
    """Who led, sampled; fails when two lead at once."""
    led: list[str] = []
    end = virtual.elapsed() + seconds
    while virtual.elapsed() < end:
        leaders = [candidate.election.identity for candidate in candidates if candidate.leads]
        assert len(leaders) <= 1, f"at {virtual.elapsed():.2f}s {leaders} lead together"
        led += leaders
        await asyncio.sleep(0.02)
    return led


def test_the_first_leads_and_renews_while_the_second_waits() -> None:
    async def main() -> None:
        lease = Lease()
        one = Candidate(lease, "one")
        await asyncio.sleep(0.1)
        two = Candidate(lease, "two")
        assert set(await watch(60, one, two)) == {"one"}
        assert lease.version >= 25
        await two.stop()
        await one.stop()

    virtual.run(main())


def test_of_two_that_start_together_one_leads() -> None:
    async def main() -> None:
        lease = Lease()
        both = [Candidate(lease, "one"), Candidate(lease, "two")]
        led = set(await watch(30, *both))
        assert len(led) == 1
        for candidate in both:
            await candidate.stop()

    virtual.run(main())


def test_one_that_ends_releases_and_the_other_takes_over_soon() -> None:
    async def main() -> None:
        lease = Lease()
        one = Candidate(lease, "one")
        await asyncio.sleep(0.1)
        two = Candidate(lease, "two")
        await asyncio.sleep(5)

        await one.stop()
        assert not one.leads
        assert lease.holder == ""
        await asyncio.sleep(3)

        assert two.leads
        assert lease.body is not None and lease.body["spec"]["leaseTransitions"] >= 1
        await two.stop()

    virtual.run(main())


@pytest.mark.parametrize("fault", ["cut", "hangs"])
@pytest.mark.parametrize("after", [5.0, 5.25, 5.5, 5.75, 6.0])
def test_one_that_cannot_renew_stops_before_the_other_starts(fault: str, after: float) -> None:
    async def main(seed: int) -> None:
        random.seed(seed)
        lease = Lease()
        one = Candidate(lease, "one")
        await asyncio.sleep(0.1)
        two = Candidate(lease, "two")
        await asyncio.sleep(after)
        setattr(one.line, fault, True)

        led = await watch(20, one, two)

        assert led[-1] == "two" and two.leads and not one.leads
        setattr(one.line, fault, False)
        await asyncio.sleep(5)
        assert one.task.done() and not one.election.leading.is_set(), "one that learns of the other ends"
        await two.stop()

    for seed in range(2):
        virtual.run(main(seed))


def test_faults_of_both_kinds_one_after_the_other_do_not_make_two_leaders() -> None:
    async def main(seed: int) -> None:
        random.seed(seed)
        lease = Lease()
        one = Candidate(lease, "one")
        await asyncio.sleep(0.1)
        two = Candidate(lease, "two")
        await asyncio.sleep(4 + random.random() * 2)
        one.line.cut = True
        await watch(random.random() * 8, one, two)
        one.line.hangs = True
        await watch(20, one, two)
        assert two.leads and not one.leads
        await two.stop()

    for seed in range(8):
        virtual.run(main(seed))


@pytest.mark.parametrize("outage", [2.0, 30.0])
def test_an_outage_in_which_nobody_takes_over_ends_nothing(outage: float) -> None:
    async def main() -> None:
        lease = Lease()
        one = Candidate(lease, "one")
        await asyncio.sleep(5)
        one.line.cut = True
        await asyncio.sleep(outage)
        assert one.leads is (outage < 2.5), "without a lease that is surely ours nothing is written"
        one.line.cut = False
        await asyncio.sleep(3)
        assert one.leads and not one.task.done()
        assert lease.body is not None and lease.body["spec"]["leaseTransitions"] == 0
        await one.stop()

    virtual.run(main())


def test_a_leader_whose_lease_was_released_by_another_ends() -> None:
    async def main() -> None:
        lease = Lease()
        one = Candidate(lease, "one")
        await asyncio.sleep(5)
        assert lease.body is not None
        lease.body["spec"] |= {"holderIdentity": "", "leaseTransitions": 2}
        lease.put(lease.body)
        await asyncio.sleep(3)
        assert one.task.done() and not one.leads

    virtual.run(main())


def test_one_that_was_killed_is_followed_within_five_seconds() -> None:
    async def main(seed: int) -> None:
        random.seed(seed)
        lease = Lease()
        one = Candidate(lease, "one")
        await asyncio.sleep(0.1)
        two = Candidate(lease, "two")
        await asyncio.sleep(5 + random.random())
        one.line.hangs = True  # and never comes back: the same to the other as one that was killed
        killed = virtual.elapsed()
        await two.election.leading.wait()
        assert 3 < virtual.elapsed() - killed <= 4.8
        await two.stop()
        await one.stop()

    for seed in range(20):
        virtual.run(main(seed))


def test_a_lease_left_by_a_process_that_was_killed_is_taken_when_it_has_not_changed_for_its_duration() -> None:
    async def main() -> None:
        lease = Lease()
        spec = {"holderIdentity": "dead", "leaseDurationSeconds": 10, "renewTime": "2026-01-05T08:00:00.000000Z"}
        lease.put({"metadata": {"name": "ops-commander"}, "spec": spec})
        two = Candidate(lease, "two")
        await two.election.leading.wait()
        assert virtual.elapsed() <= 12.5
        await two.stop()

    virtual.run(main())


def test_one_whose_lease_was_taken_stops_at_once() -> None:
    async def main() -> None:
        lease = Lease()
        one = Candidate(lease, "one")
        await asyncio.sleep(1)
        assert lease.body is not None
        lease.body["spec"]["holderIdentity"] = "thief"
        lease.put(lease.body)
        await asyncio.sleep(3)
        assert one.task.done() and not one.leads
        assert lease.holder == "thief"

    virtual.run(main())
