"""Asks Prometheus for all rollouts together: one query a metric and tick, however many rollouts want it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from ops_commander.adapters.prometheus import QueryError
from ops_commander.core.samples import Reading, tick_at_or_before
from ops_commander.runtime import metrics
from ops_commander.runtime.evidence import EvidenceBook, Gap
from ops_commander.runtime.history import History, MetricSource, for_all
from ops_commander.runtime.workqueue import Key

log = logging.getLogger(__name__)

ASK_AFTER = timedelta(milliseconds=250)
"""A scrape that began at a tick is stored a moment later: asked at once, the same tick could have two answers."""

MOST_GAPS_AT_ONCE = 16
"""Of one server."""

TICKS_AT_ONCE = 25


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
    _running: dict[tuple[str, tuple[str, str]], asyncio.Task[None]] = field(default_factory=dict)
    _answered_at: dict[tuple[str, str], datetime] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                now = self.clock()
                asked = tick_at_or_before(now - ASK_AFTER, self.book.interval)
                self.tick(asked)
                due = asked + self.book.interval + ASK_AFTER
                await asyncio.sleep(max(0.001, (due - self.clock()).total_seconds()))
        finally:
            for task in list(self._running.values()):
                task.cancel()

    def tick(self, at: datetime) -> None:
        """Start each wanted query that is not still being answered, and read what was missed before."""
        wanted = {
            (server, query): keys for server, queries in self.book.queries().items() for query, keys in queries.items()
        }
        self._answered_at = {asked: self._answered_at.get(asked, at) for asked in wanted}
        metrics.poll_age.set(max(((at - then).total_seconds() for then in self._answered_at.values()), default=0.0))
        for (server, query), keys in wanted.items():
            self._start(("query", (server, query)), self._ask(server, query, at, keys))
        self._read_gaps(at)

    def _read_gaps(self, at: datetime) -> None:
        """Those that could not be read before come last, and no server's keep those of another from being read."""
        busy = Counter(self.book.source(key) for kind, key in self._running if kind == "gap")
        for gap in sorted(self.book.gaps(at), key=lambda gap: self.book.is_unread(gap.key)):
            server = self.book.source(gap.key)
            if ("gap", gap.key) not in self._running and busy[server] < MOST_GAPS_AT_ONCE:
                busy[server] += 1
                self._start(("gap", gap.key), self._fill(gap))

    def _start(self, name: tuple[str, tuple[str, str]], work: Coroutine[Any, Any, None]) -> None:
        if name in self._running:
            work.close()
            return
        task = asyncio.create_task(work)
        self._running[name] = task
        task.add_done_callback(partial(self._finished, name))

    def _finished(self, name: tuple[str, tuple[str, str]], task: asyncio.Task[None]) -> None:
        del self._running[name]
        if not task.cancelled() and (error := task.exception()):
            metrics.reconcile_errors.labels("bug").inc()
            log.error("a poll failed: %s", error, exc_info=error)

    async def _ask(self, server: str, query: str, at: datetime, keys: list[Key]) -> None:
        try:
            with metrics.query_seconds.time():
                reading = await self.sources.named(server).query(for_all(query), at)
        except QueryError as error:
            metrics.query_errors.inc()
            if self.book.failed(server, query, str(error)):
                log.warning("no answer any more: %s", error, extra={"query": query, "server": server})
            concerned = keys
        else:
            self._answered_at[(server, query)] = at
            concerned, recovered = self.book.answered(server, query, reading, keys)
            if recovered:
                log.info("answered again", extra={"query": query, "server": server})
        for key in concerned:
            self.wake(key)

    async def _fill(self, gap: Gap) -> None:
        question = gap.question
        owners = [question.candidate, question.stable]
        try:
            source = self.sources.named(self.book.source(gap.key))
            found = await self.history.read(source, question.queries, owners, gap.start, gap.end)
        except QueryError as error:
            metrics.query_errors.inc()
            if self.book.not_filled(gap, str(error)):
                log.warning("ticks since %s not read: %s", f"{gap.start:%H:%M:%S}", error)
            return
        for piece in _pieces(found):
            if not self.book.filled(gap, piece):
                return
            await asyncio.sleep(0)  # reverts of others go in between
        self.wake(gap.key)


def _pieces(history: Mapping[str, Sequence[Reading]]) -> Iterator[dict[str, Sequence[Reading]]]:
    """A long history in parts, each of which is counted in some hundredths of a second."""
    ticks = max(map(len, history.values()), default=0)
    for start in range(0, ticks, TICKS_AT_ONCE):
        yield {query: readings[start : start + TICKS_AT_ONCE] for query, readings in history.items()}
