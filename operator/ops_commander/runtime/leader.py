"""Leader election by Lease: one process acts, the others keep warm.

A leader that cannot renew in time stops acting before anyone else may start (self-fencing): it measures by its own
monotonic clock from before the last renewal was sent. It goes on where nobody has taken the lease meanwhile, so that a
short Lease costs no restart when the API server is away for a moment.
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
    duration: timedelta = timedelta(seconds=4)
    """Whole seconds, at least 2: how long a leader that was killed keeps the others out. It renews four times as often,
    and the others look three times as often as that."""
    leading: asyncio.Event = field(default_factory=asyncio.Event)
    _renewed_at: float = field(default=float("-inf"), init=False)
    _seen: tuple[str, str, float] | None = field(default=None, init=False)
    _ours: dict[str, Any] | None = field(default=None, init=False)
    """The lease as this process wrote it last."""

    async def run(self) -> None:
        """Until cancelled. Returns when leadership is lost to another: the process should then end and start anew."""
        try:
            while True:
                held = await self._round()
                if self.leading.is_set() and held is False:
                    self.leading.clear()
                    log.error("leadership lost: the lease is another's")
                    return
                pause = self._quarter if self.leading.is_set() else self._quarter / 3
                await asyncio.sleep(pause * random.uniform(0.9, 1.1))
        finally:
            await self._release()

    def holds(self) -> bool:
        """Whether this process may act at this very moment; asked before each write. A write under way has a quarter
        of the lease left."""
        return self.leading.is_set() and self._now() - self._renewed_at < 3 * self._quarter

    @property
    def _quarter(self) -> float:
        return self.duration.total_seconds() / 4

    async def _round(self) -> bool | None:
        """Whether the lease is ours; None where that is not known."""
        started = self._now()
        try:
            async with asyncio.timeout(2 * self._quarter):
                held = await self._renew() or await self._acquire_or_renew()
        except (ApiError, TimeoutError) as error:
            log.warning("lease %s: %s", self.name, str(error) or type(error).__name__)
            return None
        if held:
            self._renewed_at = started
            if not self.leading.is_set():
                log.info("leading as %s", self.identity)
                self.leading.set()
        return held

    async def _renew(self) -> bool:
        """In one request, on the lease as we wrote it last: nobody has taken it if that succeeds."""
        if self._ours is None:
            return False
        self._ours["spec"].update(self._claim())
        try:
            self._ours = await self.leases.replace("Lease", self.namespace, self.name, self._ours)
        except Conflict:
            self._ours = None
        return self._ours is not None

    async def _acquire_or_renew(self) -> bool:
        try:
            lease = await self.leases.get("Lease", self.namespace, self.name)
        except NotFound:
            return await self._create()
        holder = lease["spec"].get("holderIdentity") or ""
        is_free = not self.leading.is_set() and (holder == "" or self._has_expired(lease))
        if holder != self.identity and not is_free:
            return False
        if holder != self.identity:
            lease["spec"]["leaseTransitions"] = lease["spec"].get("leaseTransitions", 0) + 1
            lease["spec"]["acquireTime"] = _micro(self.clock())
        lease["spec"].update(self._claim())
        try:
            self._ours = await self.leases.replace("Lease", self.namespace, self.name, lease)
        except Conflict:
            return False
        return True

    def _has_expired(self, lease: dict[str, Any]) -> bool:
        """A lease has expired when it was not seen to change for its whole duration: clocks of others are not
        trusted."""
        seen = (lease["spec"].get("holderIdentity") or "", lease["metadata"]["resourceVersion"])
        if self._seen is None or self._seen[:2] != seen:
            self._seen = (*seen, self._now())
        duration = float(lease["spec"].get("leaseDurationSeconds", self.duration.total_seconds()))
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
            self._ours = await self.leases.create("Lease", self.namespace, body)
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
            async with asyncio.timeout(self._quarter):
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
