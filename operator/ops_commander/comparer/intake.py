"""Mirrored requests come in: every one is answered 202 at once, and waits for a worker or is dropped."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from aiohttp import web

from ops_commander.api.comparison import Comparison
from ops_commander.comparer.guard import Guard
from ops_commander.comparer.mirrored import (
    ID_HEADER,
    LONGEST_ID,
    MOST_BYTES,
    Mirrored,
    asks_for_stream,
    end_to_end,
    unwanted,
)

MOST_IDS: Final = 8192
MOST_WAITING_BYTES: Final = 16 * 1024 * 1024
LATE_AFTER: Final = 10.0
"""Seconds after which a request that still waits is not asked any more."""

Dropped = Callable[[str], None]


class Waiting:
    """A queue that is bounded in requests and bytes, and refuses rather than waits."""

    def __init__(self, most: int) -> None:
        self._queue: asyncio.Queue[Mirrored] = asyncio.Queue(most)
        self._bytes = 0

    def put(self, mirrored: Mirrored) -> bool:
        """Whether there was room."""
        if self._queue.full() or self._bytes + len(mirrored.body) > MOST_WAITING_BYTES:
            return False
        self._bytes += len(mirrored.body)
        self._queue.put_nowait(mirrored)
        return True

    @property
    def has_room(self) -> bool:
        return not self._queue.full()

    async def take(self) -> Mirrored:
        mirrored = await self._queue.get()
        self._bytes -= len(mirrored.body)
        return mirrored

    def done(self) -> None:
        self._queue.task_done()

    async def drained(self) -> None:
        """Returns when all that was put has been done."""
        await self._queue.join()


class Seen:
    """The latest ids. A proxy that tries again, or mirrors twice, sends the same request with the same id."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def again(self, id_: str) -> bool:
        """Whether it was seen lately; from now on it was."""
        if not id_:
            return False
        if id_ in self._ids:
            self._ids.move_to_end(id_)
            return True
        self._ids[id_] = None
        if len(self._ids) > MOST_IDS:
            self._ids.popitem(last=False)
        return False


class Intake:
    """The handler of the port that the proxy mirrors to."""

    def __init__(self, comparison: Comparison, guard: Guard, waiting: Waiting, dropped: Dropped) -> None:
        self._methods = frozenset(method.value for method in comparison.methods)
        self._guard, self._waiting, self._dropped = guard, waiting, dropped
        self._seen = Seen()
        self.stopping = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        reason = self._refusal(request) or await self._taken(request)
        if reason:
            self._dropped(reason)
        return web.Response(status=202)

    def _refusal(self, request: web.BaseRequest) -> str | None:
        """Why it is dropped before its body is read; the cheapest questions first."""
        if self.stopping:
            return "shutting_down"
        if reason := unwanted(request.method, request.raw_path, request.headers, self._methods):
            return reason
        if self._seen.again(request.headers.get(ID_HEADER, "")[:LONGEST_ID]):
            return "duplicate"
        return None if self._waiting.has_room else "queue_full"

    async def _taken(self, request: web.BaseRequest) -> str | None:
        body = bytearray()
        try:
            async with asyncio.timeout(LATE_AFTER):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        return "too_large"
        except (TimeoutError, ConnectionError, web.HTTPException, web.RequestPayloadError):
            return "broken"
        whole = bytes(body)
        if asks_for_stream(whole):
            return "streaming"
        now = asyncio.get_running_loop().time()
        if reason := self._guard.refusal(now):
            return reason
        mirrored = Mirrored(
            request.headers.get(ID_HEADER, "")[:LONGEST_ID],
            request.method,
            request.raw_path,
            end_to_end(request.headers.items()),
            whole,
            now,
        )
        return None if self._waiting.put(mirrored) else "queue_full"
