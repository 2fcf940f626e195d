"""Ticks that have passed: of one rollout's pods alone, both arms together, a few reads at a time."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from ops_commander.adapters.prometheus import QueryError
from ops_commander.api.policy import Objective, Quantile, Rate, Ratio
from ops_commander.api.policy import run_objectives as objectives_of_runs
from ops_commander.core.promql import DEFAULT_LABELS, PodLabels
from ops_commander.core.samples import Owner, Reading, Sample, owner_of
from ops_commander.runtime.history import (
    MOST_BASELINE_TICKS,
    MOST_NAMED,
    MOST_NAMESPACES,
    PARALLEL_READS,
    History,
    live_query,
)
from tests.unit import virtual
from tests.unit.virtual import START

NEW, OLD = ("shop", "ranker-2"), ("shop", "ranker-1")
TICK = timedelta(seconds=5)
ERRORS = Objective(name="errors", ratio=Ratio(bad="bad", total="all"), max=0.01)
SLOW = Objective(name="slow", quantile=Quantile(buckets="seconds"), max=0.5)
THROUGHPUT = Objective(name="throughput", rate=Rate(requests="all"), min=100.0)


class Server:
    """Every counter of every pod stands at 100 a tick. Answers take a second."""

    labels = DEFAULT_LABELS

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.asked: list[tuple[str, datetime, datetime, timedelta]] = []
        self.under_way = self.most_at_once = 0
        self.error: str | None = None

    async def query(self, promql: str, at: datetime) -> Reading:
        raise AssertionError("history is read as ranges")

    async def query_range(self, promql: str, start: datetime, end: datetime, step: timedelta) -> list[Reading]:
        self.asked.append((promql, start, end, step))
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(1)
        self.under_way -= 1
        if self.error:
            raise QueryError(self.error)
        pods = [f"{owner}-x" for owner in ("ranker-1", "ranker-2", "search-1", "search-2") if owner in promql]
        ticks = range((end - start) // step + 1)
        return [self._reading(start + step * number, promql, pods) for number in ticks]

    def _reading(self, at: datetime, promql: str, pods: list[str]) -> Reading:
        passed, namespace = (at - START) // TICK, "bank" if "bank" in promql else "shop"
        return Reading(at, {owner_of(namespace, pod): {pod: (Sample("", 100.0 * (1000 + passed)),)} for pod in pods})


def read(server: Server, *queries: str, start: int = 0, end: int = 2) -> dict[str, list[Reading]]:
    async def main() -> dict[str, list[Reading]]:
        return await History(TICK).read(server, queries, [NEW, OLD], START + TICK * start, START + TICK * end)

    return virtual.run(main())


def test_both_arms_are_read_and_put_together_tick_by_tick() -> None:
    server = Server()
    found = read(server, "all")

    assert [reading.at for reading in found["all"]] == [START, START + TICK, START + 2 * TICK]
    assert all(set(reading.rows) == {NEW, OLD} for reading in found["all"])


def test_only_the_pods_of_the_arms_are_asked_for() -> None:
    """The cost grows with what one rollout has missed, and not with how many there are."""
    server = Server()
    read(server, "all", "bad", "all")

    assert sorted(query for query, *_ in server.asked) == [
        'all{namespace="shop",pod=~"(?:ranker-1|ranker-2)-[a-z0-9]+"}',
        'bad{namespace="shop",pod=~"(?:ranker-1|ranker-2)-[a-z0-9]+"}',
    ]
    assert {(start, end, step) for _, start, end, step in server.asked} == {(START, START + 2 * TICK, TICK)}


def test_few_reads_are_under_way_at_once() -> None:
    server = Server()
    read(server, *(f"counter_{number}" for number in range(20)))

    assert (len(server.asked), server.most_at_once) == (20, PARALLEL_READS)


def test_several_rollouts_are_read_together_namespace_by_namespace() -> None:
    server, bank = Server(), ("bank", "search-1")

    async def main() -> dict[str, list[Reading]]:
        return await History(TICK).read(server, ["all"], [NEW, OLD, ("shop", "search-2"), bank], START, START)

    [reading] = virtual.run(main())["all"]
    assert set(reading.rows) == {NEW, OLD, ("shop", "search-2"), bank}
    assert [query for query, *_ in server.asked] == [
        'all{namespace="shop",pod=~"(?:ranker-1|ranker-2|search-2)-[a-z0-9]+"}',
        'all{namespace="bank",pod=~"search-1-[a-z0-9]+"}',
    ]


def test_a_server_that_hangs_delays_no_other() -> None:
    async def main() -> None:
        history, hangs, answers = History(TICK), Server("hangs"), Server("answers")
        stuck = [
            asyncio.create_task(history.read(hangs, [f"counter_{n}" for n in range(30)], [NEW, OLD], START, START))
        ]
        await asyncio.sleep(0)
        began = virtual.elapsed()
        await history.read(answers, ["all"], [NEW, OLD], START, START)
        assert virtual.elapsed() - began <= 1.5
        await asyncio.gather(*stuck)

    virtual.run(main())


def test_an_error_is_told() -> None:
    server = Server()
    server.error = "no answer within 9.0s"

    with pytest.raises(QueryError, match="no answer"):
        read(server, "all")


# --- Baseline -----------------------------------------------------------------------------------------------


def learnt(window: timedelta, *objectives: Objective, now: datetime = START) -> tuple[Server, dict[str, float]]:
    async def main() -> tuple[Server, dict[str, float]]:
        server = Server()
        found = await History(TICK).baseline(server, list(objectives), OLD, window, now)
        return server, {item.name: item.rate for item in found.objectives}

    return virtual.run(main())


def test_the_stable_version_is_looked_at_up_to_now() -> None:
    server, rates = learnt(timedelta(minutes=10), ERRORS, THROUGHPUT, now=START + timedelta(seconds=3))

    assert rates == {"errors": 20.0, "throughput": 20.0}
    assert {(start, end, step) for _, start, end, step in server.asked} == {(START - 120 * TICK, START, TICK)}
    assert len(server.asked) == 2  # each query once, of one arm


@pytest.mark.parametrize("window", [timedelta(hours=1), timedelta(days=30)])
def test_a_baseline_is_bounded(window: timedelta) -> None:
    server, _ = learnt(window, THROUGHPUT)

    ((_, start, end, step),) = server.asked
    assert (end - start) // step == MOST_BASELINE_TICKS


def test_a_window_is_whole_ticks() -> None:
    server, _ = learnt(timedelta(seconds=59), THROUGHPUT)

    assert server.asked[0][1:3] == (START - 11 * TICK, START)


def test_runs_have_no_baseline_in_prometheus() -> None:
    server, rates = learnt(timedelta(minutes=1), *objectives_of_runs())

    assert (server.asked, rates) == ([], {})


def test_a_ticks_query_names_few_versions_of_many_the_namespaces_and_else_nothing() -> None:
    labels = PodLabels(pod="exported_pod")
    few = [("shop", "r-1"), ("shop", "r-2")]
    many = [("shop", f"r-{number}") for number in range(MOST_NAMED + 1)]
    everywhere = [(f"shop-{number:03}", "r-1") for number in range(MOST_NAMESPACES + 1)]

    assert live_query("a", few, labels) == 'a{namespace="shop",exported_pod=~"(?:r-1|r-2)-[a-z0-9]+"}'
    assert live_query("a", many, labels) == 'a{namespace="shop"}'
    assert live_query("a", [*many, ("bank", "q")], labels) == 'a{namespace=~"bank|shop"}'
    assert live_query("sum by (namespace, pod) (a)", everywhere, labels) == "sum by (namespace, pod) (a)"


def test_an_arm_is_a_replica_set() -> None:
    owner: Owner = owner_of("shop", "ranker-2-x")
    assert owner == NEW
    assert SLOW.queries == ("seconds",)
