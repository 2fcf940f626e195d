"""Asks Prometheus for all rollouts together: one query a metric and tick, however many rollouts want it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Protocol

from ops_commander.adapters.prometheus import QueryError
from ops_commander.core.samples import Reading, tick_at_or_before
from ops_commander.runtime import metrics
from ops_commander.runtime.evidence import EvidenceBook, Gap
from ops_commander.runtime.history import History, MetricSource, live_query
from ops_commander.runtime.workqueue import Key

log = logging.getLogger(__name__)

ASK_AFTER = timedelta(milliseconds=250)
"""A scrape that began at a tick is stored a moment later: asked at once, the same tick could have two answers."""

MOST_READS_AT_ONCE = 2
"""Of one server: each is a query a metric, for the gaps of some rollouts together."""

MOST_GAPS_TOGETHER = 16
MOST_TICKS_TOGETHER = 2000
"""Ticks of all gaps that are read together: an answer stays a few megabytes."""
MOST_FOR_OTHERS = 2
"""Ticks that are read, for each one that is missing: all are read for as long as the longest gap among them."""
MOST_CONSIDERED = 4 * MOST_READS_AT_ONCE * MOST_GAPS_TOGETHER
"""Gaps of a server among which those are looked for that can be read together."""

HEARD_AT_ONCE = 5
"""Rollouts of one answer that are counted before reverts of others get their turn."""

TICKS_AT_ONCE = 8

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

LONG_ANSWER = 4000
"""Samples. A longer answer takes the interpreter for tenths of a second, in a thread beside all else: with its next
tick it is asked for when those have been counted"""
MUCH_SHORTER = 3
"""that are so many times shorter,"""
SHORT_ONES_TAKE = 0.5
"""or after so many seconds."""


class Sources(Protocol):
    """The Prometheus servers of the operator."""

    def named(self, name: str) -> MetricSource: ...


@dataclass
class Poller:
    """Keeps all trials up with the ticks. A slow query delays no other, and no tick waits for it."""

    sources: Sources
    book: EvidenceBook
    history: History
    clock: Callable[[], datetime]
    wake: Callable[[Key], None]
    _running: dict[tuple[str, tuple[str, str]], asyncio.Task[bool | None]] = field(default_factory=dict)
    _answered_at: dict[tuple[str, str], datetime] = field(default_factory=dict)
    _filling: dict[tuple[str, tuple[str, str]], list[Key]] = field(default_factory=dict)
    """Rollouts whose gaps are being read, by the name of the read."""
    _behind: dict[Key, Gap] = field(default_factory=dict)
    """What was missing at the latest tick, and after the reads since then."""
    _tried: set[Key] = field(default_factory=set)
    """Could not be read since the latest tick, and are tried again with the next one."""
    _sizes: dict[tuple[str, str], int] = field(default_factory=dict)
    """Samples of each latest answer."""
    _hearing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Answers are counted one after the other: what looks worst is known by all answers but the last."""
    _asked: datetime = _NEVER
    """The latest tick that was asked for."""

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                now = self.clock()
                asked = tick_at_or_before(now - ASK_AFTER, self.book.interval)
                self.tick(asked)
                await self._until(asked + ASK_AFTER + self.book.interval / 2)
                self._read_more()
                await self._until(asked + ASK_AFTER + self.book.interval)
        finally:
            for task in list(self._running.values()):
                task.cancel()

    async def _until(self, moment: datetime) -> None:
        await asyncio.sleep(max(0.001, (moment - self.clock()).total_seconds()))

    def tick(self, at: datetime) -> None:
        """Start each wanted query that is not still being answered, and read what was missed before."""
        wanted = {
            (server, query): keys for server, queries in self.book.queries().items() for query, keys in queries.items()
        }
        self._answered_at = {asked: self._answered_at.get(asked, at) for asked in wanted}
        metrics.poll_age.set(max(((at - then).total_seconds() for then in self._answered_at.values()), default=0.0))
        metrics.rollouts_judged.set(self.book.counted_up_to(at - self.book.interval))
        self._sizes = {asked: size for asked, size in self._sizes.items() if asked in wanted}
        started: dict[str, list[tuple[int, asyncio.Task[bool | None]]]] = {}
        for (server, query), keys in sorted(wanted.items(), key=lambda item: self._sizes.get(item[0], 0)):
            size, of_server = self._sizes.get((server, query), 0), started.setdefault(server, [])
            before = [task for other, task in of_server if size > max(LONG_ANSWER, MUCH_SHORTER * other)]
            task = self._start(("query", (server, query)), self._ask(server, query, at, keys, before))
            if task is not None:
                of_server.append((size, task))
        self._read_gaps(at)

    def _read_gaps(self, at: datetime) -> None:
        self._asked = at
        self._behind = {gap.key: gap for gap in self.book.gaps(at)}
        self._tried.clear()
        self._read_more()

    def _read_more(self) -> None:
        """Those that look bad come first, those that could not be read before come last and alone, and no server's keep
        those of another from being read."""
        busy = Counter(self.book.source(keys[0]) for keys in self._filling.values())
        left_out = {key for keys in self._filling.values() for key in keys} | self._tried
        first: dict[str, list[Gap]] = {
            server: []
            for server in dict.fromkeys(map(self.book.source, self._behind))
            if busy[server] < MOST_READS_AT_ONCE and not self._is_waiting_for_answers(server)
        }
        if not first:
            return
        for gap in sorted((gap for key, gap in self._behind.items() if key not in left_out), key=self._turn):
            of_server = first.get(self.book.source(gap.key))
            if of_server is not None and len(of_server) < MOST_CONSIDERED and self.book.wants(gap):
                of_server.append(gap)
        for server, waiting in first.items():
            for gaps in islice(_together(waiting, self._is_alike), MOST_READS_AT_ONCE - busy[server]):
                name = ("gap", gaps[0].key)
                self._filling[name] = [gap.key for gap in gaps]
                self._start(name, self._fill(gaps))

    def _is_waiting_for_answers(self, server: str) -> bool:
        """For half an interval they go first: a tick that is missed while history is read is history, too."""
        in_time = self.clock() < self._asked + ASK_AFTER + self.book.interval / 2
        return in_time and any(what == "query" and asked[0] == server for what, asked in self._running)

    def _look_again(self, keys: Iterable[Key]) -> None:
        """What these still lack, up to the same tick; to ask all for it after each read took a fifth of a process."""
        for key in keys:
            gap = self.book.gap(key, self._asked)
            if gap is None:
                self._behind.pop(key, None)
            else:
                self._behind[key] = gap

    def _turn(self, gap: Gap) -> tuple[datetime, bool, timedelta]:
        """The shortest first: many of them are read while a long one is."""
        return self.book.failed_at(gap.key) or _NEVER, not self.book.looks_bad(gap.key), gap.end - gap.start

    def _is_alike(self, gap: Gap) -> tuple[object, ...]:
        """What gaps of a server that are read together have in common."""
        alone = gap.key if self.book.failed_at(gap.key) else None
        return gap.key[0], gap.question.queries, alone

    def _start(
        self, name: tuple[str, tuple[str, str]], work: Coroutine[Any, Any, bool | None]
    ) -> asyncio.Task[bool | None] | None:
        """None where the one before is still at it."""
        if name in self._running:
            work.close()
            return None
        task = asyncio.create_task(work)
        self._running[name] = task
        task.add_done_callback(partial(self._finished, name))
        return task

    def _finished(self, name: tuple[str, tuple[str, str]], task: asyncio.Task[bool | None]) -> None:
        del self._running[name]
        keys = self._filling.pop(name, [])
        if name[0] == "query" and not task.cancelled():
            self._read_more()
        if not task.cancelled() and task.exception() is None and task.result():
            self._look_again(keys)
            self._read_more()  # what fails is tried again with the next tick
        if not task.cancelled() and (error := task.exception()):
            metrics.reconcile_errors.labels("bug").inc()
            log.error("a poll failed: %s", error, exc_info=error)

    async def _ask(
        self, server: str, query: str, at: datetime, keys: list[Key], before: Collection[asyncio.Task[bool | None]]
    ) -> None:
        if before:
            await asyncio.wait(before, timeout=SHORT_ONES_TAKE)
        owners = self.book.owners(keys)
        if not owners:
            return
        try:
            source = self.sources.named(server)
            with metrics.query_seconds.time():
                reading = await source.query(live_query(query, owners, source.labels), at)
        except QueryError as error:
            metrics.query_errors.inc()
            if self.book.failed(server, query, str(error)):
                log.warning("no answer any more: %s", error, extra={"query": query, "server": server})
            for key in keys:
                self.wake(key)
            return
        self._answered_at[(server, query)], self._sizes[(server, query)] = at, reading.size
        async with self._hearing:
            await self._hear(server, query, reading, keys)

    async def _hear(self, server: str, query: str, reading: Reading, keys: Collection[Key]) -> None:
        in_turn = self.book.worst_first(query, reading, keys)
        for start in range(0, len(in_turn), HEARD_AT_ONCE):
            concerned, recovered = self.book.answered(server, query, reading, in_turn[start : start + HEARD_AT_ONCE])
            if recovered:
                log.info("answered again", extra={"query": query, "server": server})
            for key in concerned:
                self.wake(key)
            await asyncio.sleep(0)

    async def _fill(self, gaps: Sequence[Gap]) -> bool:
        """Whether they could be read."""
        question = gaps[0].question
        owners = [owner for gap in gaps for owner in (gap.question.candidate, gap.question.stable)]
        start, end = min(gap.start for gap in gaps), max(gap.end for gap in gaps)
        try:
            source = self.sources.named(self.book.source(gaps[0].key))
            found = await self.history.read(source, question.queries, owners, start, end)
        except QueryError as error:
            metrics.query_errors.inc()
            self._tried.update(gap.key for gap in gaps)
            news = [self.book.not_filled(gap, str(error), self._asked) for gap in gaps]
            if any(news):
                log.warning("ticks since %s not read: %s", f"{start:%H:%M:%S}", error)
            return False
        for gap in gaps:
            await self._fill_one(gap, found)
        return True

    async def _fill_one(self, gap: Gap, found: Mapping[str, Sequence[Reading]]) -> None:
        for piece in _pieces(found):
            if not self.book.filled(gap, piece):
                return
            await asyncio.sleep(0)  # reverts of others go in between
        if self.book.read_up(gap.key):
            self.wake(gap.key)


def _together(gaps: Iterable[Gap], alike: Callable[[Gap], tuple[object, ...]]) -> Iterator[list[Gap]]:
    """Gaps in their order, those that are alike in one read as far as they fit."""
    reads: dict[tuple[object, ...], list[list[Gap]]] = {}
    for gap in gaps:
        open_reads = reads.setdefault(alike(gap), [])
        if not open_reads or not _fits(open_reads[-1], gap):
            open_reads.append([])
        open_reads[-1].append(gap)
    yield from (read for of_kind in reads.values() for read in of_kind)


def _fits(read: Sequence[Gap], gap: Gap) -> bool:
    ticks = _ticks([*read, gap])
    missing = sum(_ticks([item]) for item in (*read, gap))
    return len(read) < MOST_GAPS_TOGETHER and ticks <= min(MOST_TICKS_TOGETHER, MOST_FOR_OTHERS * missing)


def _ticks(gaps: Sequence[Gap]) -> float:
    """Of all of them, where they are read together."""
    start, end = min(gap.start for gap in gaps), max(gap.end for gap in gaps)
    return ((end - start) / gaps[0].interval + 1) * len(gaps)


def _pieces(history: Mapping[str, Sequence[Reading]]) -> Iterator[dict[str, Sequence[Reading]]]:
    """A long history in parts, each of which is counted in some milliseconds."""
    ticks = max(map(len, history.values()), default=0)
    for start in range(0, ticks, TICKS_AT_ONCE):
        yield {query: readings[start : start + TICKS_AT_ONCE] for query, readings in history.items()}
