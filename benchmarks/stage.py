"""What a measurement stands on: a fleet in a control plane, a scripted Prometheus, and the operator's replicas."""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import controlplane
from benchmarks.api import Api
from benchmarks.commander import POLL_SECONDS, Commanders, commanders
from benchmarks.controlplane import ControlPlane, Programs
from benchmarks.fleet import Fleet, Key, Seen
from benchmarks.prometheus import RATE
from ops_commander.runtime import clock
from tests.integration.controlplane import free_ports, process

MANY_SECONDS = 1800.0
FAILURES = (TimeoutError, RuntimeError, aiohttp.ClientError)
"""Of what is measured. Anything else is a fault of the harness."""


def causes(failure: BaseException) -> str:
    """In one line."""
    if isinstance(failure, BaseExceptionGroup):
        return "; ".join(map(causes, failure.exceptions))
    return str(failure) or type(failure).__name__


@dataclass
class Stage:
    plane: ControlPlane
    fleet: Fleet
    commanders: Commanders
    prometheus: aiohttp.ClientSession

    async def launch(self) -> None:
        """A first version of each is live."""
        await self.fleet.create()
        await self.fleet.until("the first version is live", is_completed, seconds=MANY_SECONDS)

    async def renew(self, keys: Sequence[Key]) -> None:
        """Another version of each is in its canary step."""
        numbers = {key: self.fleet.of(key).status.get("deployments", 0) for key in keys}
        await self.fleet.next_version(keys)
        for key, number in numbers.items():
            await self.fleet.until(
                "the candidate has its weight",
                lambda seen, number=number: is_running(seen) and seen.status["deployments"] > number,  # type: ignore[misc]
                [key],
                MANY_SECONDS,
            )

    async def judged(self, keys: Sequence[Key]) -> None:
        """Until each has live ticks: status says so at most every 15 s."""
        await self.fleet.until(
            "evidence is live",
            lambda seen: seen.judged_at() >= seen.evidence_since + 3 * POLL_SECONDS,
            keys,
            MANY_SECONDS,
        )

    async def restore(self) -> None:
        """Bring what was reverted back into its canary step, with another version."""
        gone = sorted(set(self.fleet.keys) - set(self.fleet.healthy()))
        if gone:
            await self.renew(gone)
            await self.judged(gone)

    async def fault(self, keys: Sequence[Key], at: float, mode: str = "errors", until: float = math.inf) -> None:
        """Of the present candidates; without keys for modes that concern every answer."""
        order: dict[str, Any] = {"mode": mode, "at": at, "owners": list(self.fleet.candidates(keys).values())}
        if until < math.inf:
            order["until"] = until
        async with self.prometheus.post("/control/fault", json=order) as response:
            response.raise_for_status()

    async def said(self, since: float = math.inf) -> dict[str, Any]:
        """What the scripted Prometheus has counted, and its answers since then."""
        async with self.prometheus.get("/control/said", params={"since": str(since)}) as response:
            answer: dict[str, Any] = await response.json()
            return answer


def is_completed(seen: Seen) -> bool:
    return bool(seen.status.get("phase") == "Completed" and not seen.status.get("step"))


def is_running(seen: Seen) -> bool:
    return seen.state == "Running" and seen.status.get("weight") == 10


def is_rolled_back(seen: Seen) -> bool:
    return bool((seen.status.get("rollback") or {}).get("replicaSetRevertedAt"))


def now() -> float:
    return clock.now().timestamp()


@contextmanager
def control_plane(found: Programs) -> Iterator[ControlPlane]:
    """One of its own: measurements do not disturb each other."""
    with (
        tempfile.TemporaryDirectory(prefix="ops-commander-bench-") as folder,
        controlplane.running(Path(folder), found) as plane,
    ):
        yield plane


@asynccontextmanager
async def staged(
    plane: ControlPlane,
    keys: Sequence[Key],
    *,
    flags: Sequence[str] = (),
    rate: float = RATE,
    poll_seconds: float = POLL_SECONDS,
) -> AsyncIterator[Stage]:
    """All but the replicas, which whoever measures starts."""
    server = plane.server
    (port,) = free_ports(1)
    token = server.folder / "admin.token"
    token.write_text(server.admin_token)
    command = [sys.executable, "-m", "benchmarks.prometheus", str(port), server.url, str(server.ca), str(token)]
    with ExitStack() as stack:
        child = stack.enter_context(process("prometheus", [*command, str(rate)], server.folder))
        plane.pids["prometheus"] = child.pid
        url = f"http://127.0.0.1:{port}"
        replicas = stack.enter_context(commanders(plane, url, tuple(flags), poll_seconds))
        async with Api(server.url, server.ca, server.admin_token) as api, aiohttp.ClientSession(url) as prometheus:
            await _answers(prometheus)
            fleet = Fleet(api, list(keys))
            async with _beside(fleet.watch(), replicas.guard()):
                yield Stage(plane, fleet, replicas, prometheus)


@asynccontextmanager
async def _beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Done meanwhile. What cannot go on ends the block too: nobody waits for news that do not come."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        yield
        for task in tasks:
            task.cancel()


async def _answers(prometheus: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(aiohttp.ClientConnectionError):
                async with prometheus.get("/control/said") as response:
                    response.raise_for_status()
                    return
            await asyncio.sleep(0.1)
