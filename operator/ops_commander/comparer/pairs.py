"""Workers: take a request, ask both, compare, count."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Final

from ops_commander.api.comparison import Comparison, Payloads
from ops_commander.api.fields import format_time
from ops_commander.comparer.asking import Asker, Timed
from ops_commander.comparer.guard import Guard
from ops_commander.comparer.intake import LATE_AFTER, Waiting
from ops_commander.comparer.ledger import Ledger
from ops_commander.comparer.metrics import CANDIDATE, STABLE
from ops_commander.comparer.mirrored import Mirrored
from ops_commander.integration.outputs.answers import Answer
from ops_commander.integration.outputs.compare import compare
from ops_commander.integration.outputs.findings import Compared, Skipped
from ops_commander.integration.outputs.redact import Redactor
from ops_commander.integration.outputs.rules import Rules

log = logging.getLogger(__name__)

LARGE: Final = 32 * 1024
"""Bytes of both answers from which on they are compared beside the event loop, one pair at a time."""


_REDACTED: Final = Redactor(Payloads.REDACTED, b"")


class Pairs:
    """The work on one pair, from the queue to the ledger."""

    def __init__(
        self,
        comparison: Comparison,
        asker: Asker,
        guard: Guard,
        ledger: Ledger,
        redactor: Redactor,
        now: Callable[[], datetime],
    ) -> None:
        self._rules = Rules(comparison)
        self._asker, self._guard, self._ledger = asker, guard, ledger
        self._redactor, self._now = redactor, now
        self._beside = ThreadPoolExecutor(1, "compare")

    async def work(self, waiting: Waiting) -> None:
        """Until cancelled."""
        while True:
            mirrored = await waiting.take()
            try:
                await self._pair(mirrored)
            except Exception:
                # One pair that cannot be judged says nothing of the next.
                log.exception("pair %s: comparing failed", mirrored.id)
                self._ledger.skip("internal")
            finally:
                waiting.done()

    def close(self) -> None:
        self._beside.shutdown(wait=False, cancel_futures=True)

    async def _pair(self, mirrored: Mirrored) -> None:
        clock = asyncio.get_running_loop().time
        if clock() - mirrored.at > LATE_AFTER:
            self._ledger.drop("late")
            return
        stable, candidate = await self._asker.both(mirrored)
        self._ledger.answer(STABLE, stable.code, stable.seconds)
        self._ledger.answer(CANDIDATE, candidate.code, candidate.seconds)
        self._watch(stable, clock())
        found = await self._compared(stable, candidate)
        if isinstance(found, Skipped):
            self._ledger.skip(found.reason)
            return

        def evidence() -> tuple[dict[str, Any], dict[str, Any]]:
            kept, shown = (
                self._evidence(redactor, mirrored, stable, candidate, found) for redactor in (self._redactor, _REDACTED)
            )
            return kept, shown

        self._ledger.compared(found, evidence)

    def _watch(self, stable: Timed, now: float) -> None:
        """What the load guard learns of stable. Errors of clients are none of its own."""
        answer = stable.answer
        if isinstance(answer, Answer):
            failed = answer.status >= 500 or answer.status == 429
        else:
            failed = answer.reason in ("timeout", "unreachable")
        if failed:
            self._guard.failed(now)
        else:
            self._guard.answered(now, stable.seconds)
        self._ledger.metrics.share.set(self._guard.share)

    async def _compared(self, stable: Timed, candidate: Timed) -> Compared | Skipped:
        answers = (stable.answer, candidate.answer)
        size = sum(len(answer.body) for answer in answers if isinstance(answer, Answer))
        if size < LARGE:
            return compare(*answers, self._rules)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._beside, compare, *answers, self._rules)

    def _evidence(
        self, shown: Redactor, mirrored: Mirrored, stable: Timed, candidate: Timed, compared: Compared
    ) -> dict[str, Any]:
        return {
            "time": format_time(self._now()),
            "requestId": mirrored.id,
            "method": mirrored.method,
            "target": shown.target(mirrored.target),
            **shown.compared(compared),
            "request": shown.body(mirrored.content_type.partition(";")[0], mirrored.body),
            "stable": {**shown.answer(stable.answer), "seconds": round(stable.seconds, 6)},
            "candidate": {**shown.answer(candidate.answer), "seconds": round(candidate.seconds, 6)},
        }
