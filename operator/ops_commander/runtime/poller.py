"""Asks Prometheus for all rollouts together: one query for each metric, however many rollouts want it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from ops_commander.adapters.prometheus import Answer, QueryError
from ops_commander.runtime import metrics
from ops_commander.runtime.evidence import EvidenceBook
from ops_commander.runtime.workqueue import Key

log = logging.getLogger(__name__)


class MetricSource(Protocol):
    """Where metrics are read."""

    async def query(self, promql: str, at: datetime) -> Answer: ...


class Poller:
    """Polls at a fixed pace; a slow query delays no other, and no tick waits for it."""

    def __init__(
        self,
        source: MetricSource,
        book: EvidenceBook,
        *,
        interval: timedelta,
        clock: Callable[[], datetime],
        wake: Callable[[Key], None],
    ) -> None:
        self._source, self._book, self._interval = source, book, interval.total_seconds()
        self._clock, self._wake = clock, wake
        self._running: dict[str, asyncio.Task[None]] = {}
        self._answered_at: dict[str, datetime] = {}

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                self.tick()
                due = max(due + self._interval, loop.time())
                await asyncio.sleep(due - loop.time())
        finally:
            for task in self._running.values():
                task.cancel()

    def tick(self) -> None:
        """Start each wanted query that is not still being answered."""
        at = self._clock()
        wanted = self._book.queries()
        self._answered_at = {query: self._answered_at.get(query, at) for query in wanted}
        metrics.poll_age.set(max(((at - then).total_seconds() for then in self._answered_at.values()), default=0.0))
        for query, keys in wanted.items():
            if query in self._running:
                continue
            task = asyncio.create_task(self._ask(query, at, keys))
            self._running[query] = task
            task.add_done_callback(partial(self._finished, query))

    def _finished(self, query: str, _: asyncio.Task[None]) -> None:
        del self._running[query]

    async def _ask(self, query: str, at: datetime, keys: list[Key]) -> None:
        try:
            with metrics.query_seconds.time():
                answer = await self._source.query(query, at)
        except QueryError as error:
            metrics.query_errors.inc()
            if self._book.failed(query, str(error)):
                log.warning("no answer any more: %s", error, extra={"query": query})
        else:
            self._answered_at[query] = at
            if self._book.answered(query, answer):
                log.info("answered again", extra={"query": query})
        for key in keys:
            self._wake(key)
