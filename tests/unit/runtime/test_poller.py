"""The poller: one question a metric, at a fixed pace, and nobody waits for a slow answer."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from ops_commander.adapters.prometheus import QueryError
from ops_commander.api.policy import Objective, Rate, Ratio
from ops_commander.core.promql import DEFAULT_LABELS, PodLabels
from ops_commander.core.question import Question
from ops_commander.core.samples import Reading, Sample, owner_of
from ops_commander.runtime import metrics
from ops_commander.runtime.evidence import EvidenceBook, Gap
from ops_commander.runtime.history import History
from ops_commander.runtime.poller import (
    ASK_AFTER,
    HEARD_AT_ONCE,
    LONG_ANSWER,
    MOST_GAPS_TOGETHER,
    MOST_READS_AT_ONCE,
    MUCH_SHORTER,
    SHORT_ONES_TAKE,
    Poller,
)
from ops_commander.runtime.workqueue import Key
from tests.unit import virtual
from tests.unit.virtual import START

TICK = timedelta(seconds=5)
SECOND = timedelta(seconds=1)
SHOP, BANK = ("shop", "ranker"), ("bank", "ranker")
SOON = 0.3
"""A process that starts just after a tick: the first one that it asks for is number 0."""
DOWN = "Prometheus cannot be reached: ConnectionError"


def rate(query: str) -> Objective:
    return Objective(name=query.replace("_", "-"), rate=Rate(requests=query), min=1.0)


def errors(bad: str = "bad", total: str = "all") -> Objective:
    return Objective(name="errors", ratio=Ratio(bad=bad, total=total), max=0.01)


def question(key: Key, *objectives: Objective, since: datetime = START) -> Question:
    namespace, name = key
    return Question("d1", since, (namespace, f"{name}-2"), (namespace, f"{name}-1"), objectives)


def number_of(at: datetime) -> int:
    return (at - START) // TICK


@dataclass
class Server:
    """A fleet that answers a hundred requests a tick in each pod; queries take their own time, or fail."""

    name: str = ""
    delays: Mapping[str, float] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    """Of each pod; else one."""
    bad_from: datetime | None = None
    """Since when every request fails."""
    down_between: tuple[float, float] = (-1.0, -1.0)
    history_down: bool = False
    unreadable: str = "nothing"
    """History of what has this in its name is refused."""
    ranges_take: float = 0.01
    asked: list[tuple[str, float, datetime]] = field(default_factory=list)
    """Query, when it was asked, for which tick."""
    forms: list[str] = field(default_factory=list)
    """Queries as they were put."""
    ranges: list[tuple[str, datetime, datetime]] = field(default_factory=list)
    read_at: list[float] = field(default_factory=list)
    under_way: Counter[str] = field(default_factory=Counter)
    labels: PodLabels = DEFAULT_LABELS

    async def query(self, promql: str, at: datetime) -> Reading:
        query, asked = promql.partition("{")[0], virtual.elapsed()
        self.forms.append(promql)
        self.asked.append((query, asked, at))
        self.under_way[query] += 1
        assert self.under_way[query] == 1, "asked again before the answer"
        await asyncio.sleep(self.delays.get(query, 0.01))
        self.under_way[query] -= 1
        if self.down_between[0] <= asked < self.down_between[1]:
            raise QueryError(DOWN)
        reading = self.reading(query, at)
        named = {owner: pods for owner, pods in reading.rows.items() if "pod=~" not in promql or owner[1] in promql}
        return Reading(at, named)

    async def query_range(self, promql: str, start: datetime, end: datetime, step: timedelta) -> list[Reading]:
        self.ranges.append((promql, start, end))
        self.read_at.append(virtual.elapsed())
        await asyncio.sleep(self.ranges_take)
        if self.history_down or self.unreadable in promql:
            raise QueryError(DOWN)
        query = promql.partition("{")[0]
        return [self.reading(query, start + step * number) for number in range((end - start) // step + 1)]

    def reading(self, query: str, at: datetime) -> Reading:
        rows = {}
        for namespace in ("shop", "bank"):
            for arm in ("1", "2", "3"):
                counted = 100.0 * number_of(at)
                if query.startswith("bad"):
                    failing = self.bad_from if arm == "2" else None
                    counted = 100.0 * max(0, number_of(at) - number_of(failing)) if failing else 0.0
                pod = f"ranker-{arm}-x"
                if counted or not query.startswith("bad"):
                    series = tuple(Sample(str(number), counted) for number in range(self.samples.get(query, 1)))
                    rows[owner_of(namespace, pod)] = {pod: series}
        return Reading(at, rows)


class Servers:
    def __init__(self, *servers: Server) -> None:
        self.by_name = {server.name: server for server in servers}

    def named(self, name: str) -> Server:
        return self.by_name[name]


@dataclass
class Scene:
    """A poller at work."""

    servers: Servers
    book: EvidenceBook
    poller: Poller
    woken: list[tuple[Key, float]] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        if virtual.elapsed() < SOON:
            await asyncio.sleep(SOON)
        task = asyncio.create_task(self.poller.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def wakes(self, key: Key = SHOP, after: float = 0.0) -> list[float]:
        return [when for who, when in self.woken if who == key and when >= after]

    def ticks_of(self, query: str, server: str = "") -> list[int]:
        return [number_of(at) for asked, _, at in self.servers.named(server).asked if asked == query]


def scene(*servers: Server) -> Scene:
    book, known = EvidenceBook(TICK, START), Servers(*(servers or (Server(),)))
    poller = Poller(known, book, History(TICK), virtual.wall_clock, lambda key: None)
    made = Scene(known, book, poller)
    poller.wake = lambda key: made.woken.append((key, round(virtual.elapsed(), 3)))
    return made


# --- Pace ---------------------------------------------------------------------------------------------------


def test_ticks_lie_on_the_grid_and_are_asked_for_a_moment_later() -> None:
    async def main() -> None:
        made = scene()
        made.book.want(SHOP, question(SHOP, rate("all")))
        await asyncio.sleep(1.7)  # a process may start at any time
        await made.run(14)
        asked = [(round(when, 3), number_of(at)) for _, when, at in made.servers.named("").asked]
        later = ASK_AFTER.total_seconds()
        assert asked == [(1.7, 0), (5 + later, 1), (10 + later, 2), (15 + later, 3)]

    virtual.run(main())


def test_nothing_is_asked_that_nobody_wants() -> None:
    async def main() -> None:
        made = scene()
        await made.run(12)
        assert (made.servers.named("").asked, made.servers.named("").ranges, made.woken) == ([], [], [])

    virtual.run(main())


@pytest.mark.parametrize("rollouts", [1, 50])
def test_a_tick_costs_one_query_a_metric_however_many_rollouts_there_are(rollouts: int) -> None:
    async def main() -> None:
        made = scene()
        for number in range(rollouts):
            key = ("shop", f"ranker{number}")
            made.book.want(key, question(key, errors(), rate("all")))
        await made.run(20.5)
        assert Counter(query for query, *_ in made.servers.named("").asked) == {"bad": 5, "all": 5}

    virtual.run(main())


def test_history_is_read_once_for_a_rollout_that_was_seen_from_its_beginning() -> None:
    async def main() -> None:
        made = scene()
        made.book.want(SHOP, question(SHOP, errors(), rate("all")))
        await made.run(120)
        assert len(made.servers.named("").ranges) == 2  # two queries, two arms
        assert made.book.evidence(SHOP)["errors"].tally.ticks == 23

    virtual.run(main())


def test_servers_are_asked_for_their_own_rollouts() -> None:
    async def main() -> None:
        made = scene(Server("one"), Server("two"))
        made.book.want(SHOP, question(SHOP, rate("all")), "one")
        made.book.want(BANK, question(BANK, rate("other")), "two")
        await made.run(1)
        found = {name: {query for query, *_ in server.asked} for name, server in made.servers.by_name.items()}
        assert found == {"one": {"all"}, "two": {"other"}}
        assert all("bank" not in query for query, *_ in made.servers.named("one").ranges)

    virtual.run(main())


# --- Slow answers -------------------------------------------------------------------------------------------


def test_a_slow_query_delays_no_other_and_is_not_asked_twice_at_a_time() -> None:
    async def main() -> None:
        made = scene(Server(delays={"slow": 12.0}))
        made.book.want(SHOP, question(SHOP, rate("slow"), rate("quick")))
        await made.run(21)
        assert made.ticks_of("quick") == [0, 1, 2, 3, 4]
        assert [when for query, when, _ in made.servers.named("").asked if query == "slow"] == pytest.approx(
            [0.3, 15.25]
        )

    virtual.run(main())


@pytest.mark.parametrize(
    ("short_takes", "later"),
    [
        pytest.param(0.2, 0.2, id="when they are counted"),
        pytest.param(2.0, SHORT_ONES_TAKE, id="or after a while"),
        pytest.param(30.0, 0.1, id="not after one of an earlier tick"),
    ],
)
def test_a_long_answer_is_asked_for_after_the_short_ones_of_its_tick(short_takes: float, later: float) -> None:
    async def main() -> None:
        made = scene(Server(delays={"short": short_takes, "others": 0.1}, samples={"long": LONG_ANSWER}))
        made.book.want(SHOP, question(SHOP, rate("long"), rate("others"), rate("short")))
        made.book.want(BANK, question(BANK, rate("long")))
        await made.run(11)
        asked = {(query, number_of(at)): when for query, when, at in made.servers.named("").asked}
        due = 5 + ASK_AFTER.total_seconds()
        assert asked["long", 0] == asked["others", 0] == SOON, "it is not known yet that it is long"
        assert asked["others", 1] == pytest.approx(due)
        assert [asked["long", 1], asked["long", 2]] == pytest.approx([due + later, due + 5 + later])

    virtual.run(main())


def test_answers_of_about_the_same_length_do_not_wait_for_each_other() -> None:
    async def main() -> None:
        one = LONG_ANSWER // 4  # of each of four pods
        lengths = {"short": one, "double": 2 * one, "long": 2 * MUCH_SHORTER * one}
        made = scene(Server(delays={"double": 0.2}, samples=lengths))
        made.book.want(SHOP, question(SHOP, *map(rate, lengths)))
        await made.run(6)
        asked = {query: when for query, when, at in made.servers.named("").asked if number_of(at) == 1}
        due = 5 + ASK_AFTER.total_seconds()
        assert asked == pytest.approx({"short": due, "double": due, "long": due + 0.01})

    virtual.run(main())


def test_what_looks_worst_is_counted_first_and_all_are() -> None:
    async def main() -> None:
        made = scene(Server(bad_from=START + 20 * TICK))
        keys = [("bank", f"a{number}") for number in range(4 * HEARD_AT_ONCE)]
        for key in (*keys, SHOP):
            made.book.want(key, question(key, errors()))
        await made.run(106)
        assert next(key for key, when in made.woken if when > 105) == SHOP
        assert made.poller.book.counted_up_to(START + 21 * TICK) == len(keys) + 1

    virtual.run(main())


def test_ticks_that_a_slow_query_has_missed_are_healed() -> None:
    async def main() -> None:
        made = scene(Server(delays={"slow": 12.0}))
        made.book.want(SHOP, question(SHOP, rate("slow")))
        await made.run(90)
        tally = made.book.evidence(SHOP)["slow"].tally
        assert tally.ticks >= 10
        assert tally.candidate.requests == 100.0 * tally.ticks  # each once

    virtual.run(main())


def test_a_slow_server_delays_no_other() -> None:
    async def main() -> None:
        made = scene(Server("slow", delays={"all": 60.0}, ranges_take=60.0), Server("quick"))
        made.book.want(SHOP, question(SHOP, rate("all")), "slow")
        made.book.want(BANK, question(BANK, rate("all")), "quick")
        await made.run(40)
        assert made.book.evidence(BANK)["all"].tally.ticks == 7
        assert made.book.evidence(SHOP)["all"].seen_at is None

    virtual.run(main())


@pytest.mark.parametrize(
    "down",
    [
        pytest.param(Server("down", history_down=True), id="refuses"),
        pytest.param(
            Server("down", ranges_take=1000.0),
            id="hangs",
        ),
    ],
)
def test_gaps_that_cannot_be_read_keep_no_other_from_it(down: Server) -> None:
    async def main() -> None:
        made = scene(down, Server("up"))
        for number in range(MOST_READS_AT_ONCE * MOST_GAPS_TOGETHER):
            key = ("shop", f"ranker{number}")
            made.book.want(key, question(key, rate("all")), "down")
        made.book.want(BANK, question(BANK, rate("all")), "up")
        await made.run(60)
        assert made.book.evidence(BANK)["all"].seen_at is not None

    virtual.run(main())


def test_many_gaps_are_read_together_and_one_read_follows_the_other() -> None:
    async def main() -> None:
        made = scene()
        for number in range(100):
            key = ("shop", f"ranker{number}")
            made.book.want(key, question(key, rate("all")))
        await made.run(1)
        reads = made.servers.named("").ranges
        assert [query.count("ranker") for query, *_ in reads] == [2 * MOST_GAPS_TOGETHER] * 6 + [8]
        assert len({key for key, _ in made.woken}) == 100

    virtual.run(main())


def test_with_a_long_gap_short_ones_are_not_read() -> None:
    """A read is as long for each of its rollouts as the longest gap in it."""
    ages = [0, 30, 1, 32, 2, 34, 3]  # minutes

    async def main() -> None:
        made = scene(Server())
        for number, age in enumerate(ages):
            key = ("shop", f"ranker{number}")
            made.book.want(key, question(key, rate("all"), since=START - timedelta(minutes=age)))
        await made.run(1)
        reads = made.servers.named("").ranges
        assert [query.count("ranker") // 2 for query, *_ in reads] == [4, 3]
        asked = sum((end - start) / TICK * query.count("ranker") / 2 for query, start, end in reads)
        missing = sum(timedelta(minutes=age) / TICK for age in ages)
        assert asked < 1.5 * missing

    virtual.run(main())


def test_a_history_that_cannot_be_read_together_is_read_alone() -> None:
    async def main() -> None:
        made = scene(Server(history_down=True))
        for key in (SHOP, ("shop", "search")):
            made.book.want(key, question(key, rate("all")))
        await made.run(7)
        assert [query.count("|") for query, *_ in made.servers.named("").ranges] == [3, 1, 1]

    virtual.run(main())


@pytest.mark.parametrize(
    ("takes", "begins"),
    [
        pytest.param(2.0, SOON + 2.0, id="until they are there"),
        pytest.param(60.0, 0.25 + TICK.total_seconds() / 2, id="but not for longer than half an interval"),
    ],
)
def test_history_is_not_read_while_a_tick_is_answered(takes: float, begins: float) -> None:
    """Else the next tick is late as well, and is history in its turn."""

    async def main() -> None:
        made = scene(Server(delays={"all": takes}))
        for number in range(2 * MOST_READS_AT_ONCE * MOST_GAPS_TOGETHER):
            key = ("shop", f"ranker{number}")
            made.book.want(key, question(key, rate("all")))
        await made.run(14)
        read_at = made.servers.named("").read_at
        assert len(read_at) == 2 * MOST_READS_AT_ONCE
        assert min(read_at) == pytest.approx(begins, abs=0.02)

    virtual.run(main())


def test_what_can_never_be_read_keeps_nothing_from_being_tried_again() -> None:
    server = Server(history_down=True, unreadable="broken")
    broken = [("shop", f"broken{number}") for number in range(MOST_READS_AT_ONCE)]
    others = [("shop", f"ranker{number}") for number in range(4)]

    async def main() -> None:
        made = scene(server)
        for number, key in enumerate([*broken, *others]):
            made.book.want(key, question(key, rate("all"), since=START - timedelta(minutes=number)))
        asyncio.get_running_loop().call_at(30, setattr, server, "history_down", False)
        await made.run(30 + 4 * TICK.total_seconds())
        unread = {gap.key for gap in made.book.gaps(virtual.wall_clock())}
        assert unread == {*broken}

    virtual.run(main())


def test_the_history_of_what_looks_bad_is_read_first() -> None:
    async def main() -> None:
        made = scene(Server(bad_from=START, ranges_take=12.0))
        keys = [("shop", f"a{number}") for number in range(10 * MOST_READS_AT_ONCE * MOST_GAPS_TOGETHER)]
        for key in (*keys, SHOP):
            made.book.want(key, question(key, errors()))
        await made.run(50)  # the first reads are under way before anything looks bad; these are the next
        unread = {gap.key for gap in made.book.gaps(virtual.wall_clock())}
        assert SHOP not in unread and len(unread) > len(keys) / 2

    virtual.run(main())


# --- Who is woken -------------------------------------------------------------------------------------------


def test_a_rollout_is_woken_once_a_tick_by_the_last_of_its_answers() -> None:
    async def main() -> None:
        made = scene(Server(delays={"late": 1.0}))
        made.book.want(SHOP, question(SHOP, rate("early")))
        made.book.want(BANK, question(BANK, rate("early"), rate("late")))
        await made.run(19)
        assert made.wakes(SHOP, after=5) == pytest.approx([5.26, 10.26, 15.26])
        assert made.wakes(BANK, after=5) == pytest.approx([6.25, 11.25, 16.25])

    virtual.run(main())


def test_a_breach_wakes_at_once() -> None:
    async def main() -> None:
        made = scene(Server(delays={"late": 4.0}, bad_from=START + 6 * TICK))
        made.book.want(SHOP, question(SHOP, errors(), rate("late")))
        await made.run(36)
        assert made.wakes(after=25) == pytest.approx([29.25, 34.25, 35.26])

    virtual.run(main())


def test_an_error_wakes_too_for_a_deadline_may_run() -> None:
    async def main() -> None:
        made = scene(Server(down_between=(10, 20)))
        made.book.want(SHOP, question(SHOP, rate("all")))
        await made.run(18)
        assert made.wakes(after=10) == pytest.approx([10.26, 15.26])
        assert made.book.evidence(SHOP)["all"].error == DOWN

    virtual.run(main())


# --- Errors -------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="ops_commander.runtime.poller"):
        yield caplog


def test_an_error_is_logged_once_and_so_is_its_end(logged: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        made = scene(Server(down_between=(10, 60)))
        made.book.want(SHOP, question(SHOP, rate("all")))
        await made.run(90)
        found = made.book.evidence(SHOP)["all"]
        assert found.error is None
        assert found.tally.ticks == number_of(found.tally.last or START) - 1
        assert found.tally.candidate.requests == 100.0 * found.tally.ticks

    virtual.run(main())
    assert [record.message for record in logged.records] == [f"no answer any more: {DOWN}", "answered again"]


def test_history_that_cannot_be_read_is_told_once(logged: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        made = scene(Server(history_down=True))
        made.book.want(SHOP, question(SHOP, rate("all")))
        await made.run(60)
        assert len(made.servers.named("").ranges) > 10  # tried again at each tick
        made.servers.named("").history_down = False
        await made.run(10)
        assert made.book.evidence(SHOP)["all"].tally.ticks > 5

    virtual.run(main())
    assert [record.message for record in logged.records] == [f"ticks since 08:59:05 not read: {DOWN}"]


def test_why_nothing_counts_is_told_where_history_is_missing() -> None:
    async def main() -> None:
        made = scene(Server(history_down=True))
        made.book.want(SHOP, question(SHOP, rate("all")))
        await made.run(60)
        assert made.book.evidence(SHOP)["all"].error == f"ticks before now could not be read: {DOWN}"

    virtual.run(main())


def test_a_query_names_the_versions_that_want_it_and_no_others() -> None:
    async def main() -> None:
        made = scene()
        made.book.want(SHOP, question(SHOP, rate("all")))
        await made.run(1)
        made.book.want(BANK, question(BANK, rate("all")))
        await made.run(5)
        pods = 'pod=~"(?:ranker-1|ranker-2)-[a-z0-9]+"'
        forms = made.servers.named("").forms
        assert forms[0] == f'all{{namespace="shop",{pods}}}'
        assert forms[-1] == f'all{{namespace=~"bank|shop",{pods}}}'

    virtual.run(main())


def test_an_answer_that_was_asked_for_another_version_is_no_tick_of_the_new_one() -> None:
    """It holds nothing of it, which is not the same as that the version has no counters."""

    async def main() -> None:
        made = scene(Server(delays={"all": 3.0}))
        made.book.want(SHOP, question(SHOP, rate("all")))
        asyncio.get_running_loop().call_at(
            12, made.book.want, SHOP, replace(question(SHOP, rate("all")), candidate=("shop", "ranker-3"))
        )
        await made.run(28)
        tally = made.book.evidence(SHOP)["all"].tally
        assert (tally.first, tally.last, tally.ticks) == (START + TICK, START + 5 * TICK, 4)

    virtual.run(main())


@pytest.mark.parametrize("bad", [False, True])
def test_a_missed_tick_that_was_read_is_news_only_by_what_it_shows(bad: bool) -> None:
    """Else a server that is late has every rollout looked at for each tick, which makes the operator late as well."""
    down = 240.0

    async def main() -> None:
        made = scene(Server(down_between=(down, down + 4), bad_from=START + timedelta(seconds=down) if bad else None))
        made.book.want(SHOP, question(SHOP, errors()))
        await made.run(down + 12)
        assert made.book.evidence(SHOP)["errors"].tally.last == START + timedelta(seconds=down + 10)
        assert bool(made.wakes(after=down + 4)) is bad
        assert made.book.is_breached(SHOP) is bad

    virtual.run(main())


def test_what_was_forgotten_meanwhile_is_not_read(logged: pytest.LogCaptureFixture) -> None:
    places = [(f"shop-{number}", "ranker") for number in range(MOST_READS_AT_ONCE + 2)]

    async def main() -> None:
        made = scene(Server(ranges_take=1.0))
        for place in places:
            made.book.want(place, question(place, rate("all"), since=START - timedelta(minutes=2)))
        asyncio.get_running_loop().call_later(SOON + 0.5, made.book.forget, places[-1])
        await made.run(3.5)
        read = {promql.partition('"')[2].partition('"')[0] for promql, _, _ in made.servers.named("").ranges}
        assert read == {namespace for namespace, _ in places[:-1]}

    virtual.run(main())
    assert not logged.records


def test_after_a_read_only_those_are_looked_at_that_it_was_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask each rollout again after each of the reads takes a time that grows with the square of their number."""
    places = [(f"shop-{number}", "ranker") for number in range(10)]
    asked: Counter[Key] = Counter()
    gap_of = EvidenceBook.gap

    def counted(book: EvidenceBook, key: Key, at: datetime) -> Gap | None:
        asked[key] += 1
        return gap_of(book, key, at)

    async def main() -> None:
        made = scene(Server(ranges_take=0.1))
        for place in places:
            made.book.want(place, question(place, rate("all"), since=START - timedelta(minutes=2)))
        await made.run(4)
        assert asked == dict.fromkeys(places, 2)
        assert len(made.servers.named("").ranges) == len(places)

    monkeypatch.setattr(EvidenceBook, "gap", counted)
    virtual.run(main())


def test_a_bug_in_a_poll_ends_nothing(logged: pytest.LogCaptureFixture) -> None:
    class Broken(Server):
        async def query(self, promql: str, at: datetime) -> Reading:
            if at == START + TICK:
                raise RuntimeError("a bug")
            return await super().query(promql, at)

    async def main() -> None:
        made = scene(Broken())
        made.book.want(SHOP, question(SHOP, rate("all")))
        await made.run(60)
        assert made.book.evidence(SHOP)["all"].tally.ticks == 11

    virtual.run(main())
    assert [record.message for record in logged.records] == ["a poll failed: a bug"]


def test_the_age_of_the_oldest_answer_is_a_metric() -> None:
    async def main() -> None:
        made = scene(Server(delays={"slow": 100.0}))
        made.book.want(SHOP, question(SHOP, rate("slow"), rate("quick")))
        await made.run(31)
        assert metrics.poll_age._value.get() == 30.0

    virtual.run(main())


def test_a_poller_that_is_cancelled_leaves_no_query_behind() -> None:
    async def main() -> None:
        made = scene(Server(delays={"all": 100.0}, ranges_take=100.0))
        made.book.want(SHOP, question(SHOP, rate("all")))
        await made.run(1)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    virtual.run(main())
