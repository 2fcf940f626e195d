"""Leader election by Lease: one process acts, the others keep warm.

A leader that cannot renew in time stops acting before anyone else may start (self-fencing): it measures
by its own monotonic clock from before the last renewal was sent. The sum of `renew_deadline` and two
rounds of `retry_every` stays below `duration`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from ops_commander.adapters.kubernetes import ApiError, Conflict, NotFound

log = logging.getLogger(__name__)


FENCE_MARGIN = timedelta(seconds=3)
"""Time that a write under way may take until the lease can be somebody else's."""


class Leases(Protocol):
    """The part of the Kubernetes API that an election needs."""

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]: ...
    async def create(self, kind: str, namespace: str, body: dict[str, Any]) -> dict[str, Any]: ...
    async def replace(self, kind: str, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]: ...


@dataclass
class Election:
    """Holds or awaits a Lease; `leading` is set while this process may act."""

    leases: Leases
    namespace: str
    name: str
    identity: str
    clock: Callable[[], datetime]
    duration: timedelta = timedelta(seconds=10)
    renew_deadline: timedelta = timedelta(seconds=5)
    retry_every: timedelta = timedelta(seconds=2)
    leading: asyncio.Event = field(default_factory=asyncio.Event)
    _renewed_at: float = field(default=0.0, init=False)
    _seen: tuple[str, str, float] | None = field(default=None, init=False)

    async def run(self) -> None:
        """Until cancelled. Returns when leadership is lost: the process should then end and start anew."""
        try:
            while True:
                await self._round()
                if self.leading.is_set() and self._is_overdue():
                    self.leading.clear()
                    log.error("leadership lost: the lease could not be renewed in time")
                    return
                await asyncio.sleep(self.retry_every.total_seconds() * random.uniform(0.9, 1.1))
        finally:
            await self._release()

    def holds(self) -> bool:
        """Whether this process may act at this very moment; asked before each write."""
        fence = self.duration.total_seconds() - FENCE_MARGIN.total_seconds()
        return self.leading.is_set() and self._now() - self._renewed_at < fence

    def _is_overdue(self) -> bool:
        return self._now() - self._renewed_at > self.renew_deadline.total_seconds()

    async def _round(self) -> None:
        started = self._now()
        try:
            async with asyncio.timeout(self.retry_every.total_seconds()):
                held = await self._acquire_or_renew()
        except (ApiError, TimeoutError) as error:
            log.warning("lease %s: %s", self.name, str(error) or type(error).__name__)
            return
        if held:
            self._renewed_at = started
            if not self.leading.is_set():
                log.info("leading as %s", self.identity)
                self.leading.set()
        elif self.leading.is_set():
            self._renewed_at = float("-inf")

    async def _acquire_or_renew(self) -> bool:
        try:
            lease = await self.leases.get("Lease", self.namespace, self.name)
        except NotFound:
            return await self._create()
        holder = lease["spec"].get("holderIdentity") or ""
        if holder not in ("", self.identity) and not self._has_expired(lease):
            return False
        if holder != self.identity:
            lease["spec"]["leaseTransitions"] = lease["spec"].get("leaseTransitions", 0) + 1
            lease["spec"]["acquireTime"] = _micro(self.clock())
        lease["spec"].update(self._claim())
        try:
            await self.leases.replace("Lease", self.namespace, self.name, lease)
        except Conflict:
            return False
        return True

    def _has_expired(self, lease: dict[str, Any]) -> bool:
        """A lease has expired when it was not seen to change for its whole duration: clocks of others are not
        trusted."""
        seen = (lease["spec"].get("holderIdentity") or "", lease["metadata"]["resourceVersion"])
        if self._seen is None or self._seen[:2] != seen:
            self._seen = (*seen, self._now())
        duration = float(lease["spec"].get("leaseDurationSeconds", 10))
        return self._now() - self._seen[2] >= duration

    async def _create(self) -> bool:
        spec = {"leaseTransitions": 0, "acquireTime": _micro(self.clock()), **self._claim()}
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }
        try:
            await self.leases.create("Lease", self.namespace, body)
        except Conflict:
            return False
        return True

    def _claim(self) -> dict[str, Any]:
        seconds = round(self.duration.total_seconds())
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": seconds,
            "renewTime": _micro(self.clock()),
        }

    async def _release(self) -> None:
        """Let the next one start at once."""
        if not self.leading.is_set():
            return
        self.leading.clear()
        try:
            async with asyncio.timeout(self.retry_every.total_seconds()):
                lease = await self.leases.get("Lease", self.namespace, self.name)
                if lease["spec"].get("holderIdentity") == self.identity:
                    lease["spec"].update({"holderIdentity": "", "leaseDurationSeconds": 1})
                    await self.leases.replace("Lease", self.namespace, self.name, lease)
        except (ApiError, TimeoutError) as error:
            log.warning("lease %s was not released: %s", self.name, str(error) or type(error).__name__)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _micro(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
