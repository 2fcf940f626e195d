"""A keyed queue: each key at most once waiting and once at work, with delays, backoff and lanes."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from enum import IntEnum

Key = tuple[str, str]
"""Namespace and name."""

FIRST_BACKOFF = 0.2
LONGEST_BACKOFF = 10.0


class _Lane(IntEnum):
    URGENT = 0
    PREFERRED = 1
    OTHER = 2


class WorkQueue:
    """Keys to reconcile. Times are those of the event loop."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or asyncio.get_running_loop().time
        self._lanes: dict[_Lane, deque[Key]] = {lane: deque() for lane in _Lane}
        self._queued: dict[Key, _Lane] = {}
        self._preferred: set[Key] = set()
        self._at_work: set[Key] = set()
        self._again: dict[Key, bool] = {}
        self._due: dict[Key, float] = {}
        self._timers: list[tuple[float, int, Key]] = []
        self._failures: dict[Key, int] = {}
        self._order = itertools.count()
        self._wake = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()

    def __len__(self) -> int:
        return len(self._queued)

    def prefer(self, key: Key, *, wanted: bool) -> None:
        """Whether a key goes before others from now on, for whatever reason it comes; behind urgent ones."""
        if wanted:
            self._preferred.add(key)
        else:
            self._preferred.discard(key)

    def add(self, key: Key, *, urgent: bool = False) -> None:
        """Reconcile as soon as a worker is free; again if it is being reconciled right now."""
        if key in self._at_work:
            self._again[key] = urgent or self._again.get(key, False)
            return
        lane = _Lane.URGENT if urgent else _Lane.PREFERRED if key in self._preferred else _Lane.OTHER
        before = self._queued.get(key)
        if before is not None:
            if before <= lane:
                return
            self._lanes[before].remove(key)
        self._queued[key] = lane
        self._lanes[lane].append(key)
        if lane is _Lane.URGENT:
            self._calm.clear()
        if before is None:
            self._wake.set()

    @property
    def is_calm(self) -> bool:
        """Whether no urgent key waits for a worker."""
        return not self._lanes[_Lane.URGENT]

    async def calm(self, within: float) -> None:
        """Until no urgent key waits for a worker, or for that many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._calm.wait()

    def add_after(self, key: Key, delay: float) -> None:
        """Reconcile after a delay in seconds; the earliest wish counts."""
        if delay <= 0:
            self.add(key)
            return
        due = self._clock() + delay
        known = self._due.get(key)
        if known is not None and known <= due:
            return
        self._due[key] = due
        heapq.heappush(self._timers, (due, next(self._order), key))
        self._wake.set()

    def retry(self, key: Key) -> float:
        """After a failure: the delay chosen, doubling up to ten seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures, 10))
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """The next key; call `done` when it has been worked on."""
        while True:
            self._release_due()
            for lane in self._lanes.values():
                if lane:
                    key = lane.popleft()
                    if self.is_calm:
                        self._calm.set()
                    del self._queued[key]
                    self._due.pop(key, None)
                    self._at_work.add(key)
                    return key
            await self._sleep_until_due()

    def done(self, key: Key) -> None:
        self._at_work.discard(key)
        if key in self._again:
            self.add(key, urgent=self._again.pop(key))

    def _release_due(self) -> None:
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

    async def _sleep_until_due(self) -> None:
        """Any worker that wakes clears the flag, so a release must wake the others again."""
        self._wake.clear()
        delay = self._timers[0][0] - self._clock() if self._timers else None
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            self._wake.set()
