"""All parts of the comparer, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from ops_commander.comparer.asking import Asker
from ops_commander.comparer.evidence import Evidence, EvidenceStore
from ops_commander.comparer.guard import Guard
from ops_commander.comparer.intake import Intake, Waiting
from ops_commander.comparer.ledger import Ledger
from ops_commander.comparer.metrics import Metrics
from ops_commander.comparer.pages import pages
from ops_commander.comparer.pairs import Pairs
from ops_commander.comparer.settings import Settings
from ops_commander.integration.outputs.redact import Redactor

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 5.0
"""For the pairs that wait or are under way at the end."""


@dataclass(frozen=True, slots=True)
class Running:
    """A comparer that takes requests."""

    settings: Settings
    ledger: Ledger
    evidence: Evidence
    waiting: Waiting
    guard: Guard
    port: int
    metrics_port: int
    now: Callable[[], datetime]

    def report(self) -> dict[str, Any]:
        """What /report answers."""
        return {**self.ledger.summary(self.now(), self.settings.deployment_id), "worstPairs": self.ledger.worst.shown}


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    *,
    store: EvidenceStore | None,
    now: Callable[[], datetime],
    tell: Callable[[str], None],
    host: str | None = None,
) -> AsyncIterator[Running]:
    """A comparer; at the end it drains, writes its last evidence and closes.

    It listens on all addresses where no `host` is given; with one, port 0 takes any that is free.
    """
    comparison = settings.comparison
    guard, waiting = Guard(), Waiting(comparison.queue)
    ledger = Ledger(Metrics(), comparison.worst)
    evidence = Evidence(settings, ledger, store, now, tell)
    intake = Intake(comparison, guard, waiting, ledger.drop)
    asker = Asker(
        settings.stable_url,
        settings.candidate_url,
        seconds=comparison.timeout.total_seconds(),
        concurrency=comparison.concurrency,
    )
    redactor = Redactor(comparison.payloads, secrets.token_bytes(32))
    pairs = Pairs(comparison, asker, guard, ledger, redactor, now)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asker.close)
        stack.callback(pairs.close)
        mirror = web.ServerRunner(
            web.Server(intake.handle, access_log=None, auto_decompress=False), shutdown_timeout=1.0
        )
        port = await _listening(stack, mirror, host, settings.port)
        known = Running(settings, ledger, evidence, waiting, guard, port, 0, now)
        told = web.AppRunner(
            pages(ledger.metrics, known.report, lambda: "shutting down" if intake.stopping else None),
            access_log=None,
            shutdown_timeout=1.0,
        )
        metrics_port = await _listening(stack, told, host, settings.metrics_port)
        tasks = [asyncio.create_task(pairs.work(waiting)) for _ in range(comparison.concurrency)]
        tasks.append(asyncio.create_task(evidence.keep()))
        try:
            yield Running(settings, ledger, evidence, waiting, guard, port, metrics_port, now)
        finally:
            intake.stopping = True
            await _ended(tasks, waiting)
            await evidence.write()


async def _listening(
    stack: contextlib.AsyncExitStack, runner: web.ServerRunner | web.AppRunner, host: str | None, port: int
) -> int:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port).start()
    return int(runner.addresses[0][1])


async def _ended(tasks: list[asyncio.Task[None]], waiting: Waiting) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            await waiting.drained()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def main(
    settings: Settings, *, store: EvidenceStore | None, now: Callable[[], datetime], tell: Callable[[str], None]
) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with running(settings, store=store, now=now, tell=tell) as comparer:
            log.info("comparing on port %d, metrics on port %d", comparer.port, comparer.metrics_port)
            await stop.wait()
    finally:
        if store is not None:
            await store.close()
