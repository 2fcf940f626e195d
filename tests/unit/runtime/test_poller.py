"""The poller: one question a metric, at a fixed pace, and nobody waits for a slow answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from ops_commander.adapters.prometheus import Answer, QueryError
from ops_commander.api.v1alpha1 import Objective, Rate
from ops_commander.runtime.evidence import EvidenceBook
from ops_commander.runtime.poller import Poller
from ops_commander.runtime.workqueue import Key
from tests.unit import virtual

SHOP, BANK = ("shop", "ranker"), ("bank", "ranker")


def objective(query: str) -> Objective:
    return Objective(name=query, rate=Rate(requests=query), min=1.0)


class Source:
    """Answers each query after its own time, or not at all."""

    def __init__(self, delays: Mapping[str, float] | None = None) -> None:
        self.delays = dict(delays or {})
        self.asked: list[tuple[str, float]] = []
        self.down = False

    async def query(self, promql: str, at: datetime) -> Answer:
        self.asked.append((promql, virtual.elapsed()))
        await asyncio.sleep(self.delays.get(promql, 0.01))
        if self.down:
            raise QueryError("Prometheus cannot be reached: ConnectionError")
        return Answer(at)


async def polled(source: Source, book: EvidenceBook, seconds: float) -> list[tuple[Key, float]]:
    """Who was woken when."""
    woken: list[tuple[Key, float]] = []
    poller = Poller(
        source,
        book,
        interval=timedelta(seconds=5),
        clock=virtual.wall_clock,
        wake=lambda key: woken.append((key, round(virtual.elapsed(), 3))),
    )
    task = asyncio.create_task(poller.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return woken


def test_a_slow_query_delays_no_other_and_is_not_asked_twice_at_a_time() -> None:
    async def main() -> None:
        source, book = Source({"slow": 12.0}), EvidenceBook(virtual.START)
        book.want(SHOP, [objective("slow"), objective("quick")])
        await polled(source, book, 21)
        assert [at for query, at in source.asked if query == "quick"] == [0, 5, 10, 15, 20]
        assert [at for query, at in source.asked if query == "slow"] == [0, 15]

    virtual.run(main())


def test_only_those_who_want_the_query_are_woken() -> None:
    async def main() -> None:
        source, book = Source({"late": 1.0}), EvidenceBook(virtual.START)
        book.want(SHOP, [objective("both")])
        book.want(BANK, [objective("both"), objective("late")])
        woken = await polled(source, book, 3)
        assert sorted(woken) == [(BANK, 0.01), (BANK, 1.0), (SHOP, 0.01)]
        assert len(source.asked) == 2

    virtual.run(main())


def test_an_error_wakes_too_for_a_deadline_may_run() -> None:
    async def main() -> None:
        source, book = Source(), EvidenceBook(virtual.START)
        source.down = True
        book.want(SHOP, [objective("q")])
        assert len(await polled(source, book, 12)) == 3
        assert book.evidence(SHOP, objective("q"), (), ()).error == "Prometheus cannot be reached: ConnectionError"

    virtual.run(main())


def test_an_answer_is_as_old_as_its_question() -> None:
    async def main() -> None:
        source, book = Source({"q": 3.0}), EvidenceBook(virtual.START)
        book.want(SHOP, [objective("q")])
        await polled(source, book, 4)
        assert book.evidence(SHOP, objective("q"), (), ()).at == virtual.START

    virtual.run(main())


def test_nothing_is_asked_that_nobody_wants() -> None:
    async def main() -> None:
        source, book = Source(), EvidenceBook(virtual.START)
        assert await polled(source, book, 12) == []
        assert source.asked == []

    virtual.run(main())
