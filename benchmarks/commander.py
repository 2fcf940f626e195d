"""The operator's processes: started as in production, watched through /proc and their own metrics, killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.controlplane import ControlPlane
from hack.cluster.workspace import REPOSITORY
from ops_commander.api.fields import format_duration
from ops_commander.runtime import clock
from tests.integration.controlplane import free_ports, process, tail

AS_IN_THE_IMAGE = ("MALLOC_ARENA_MAX=1",)
PROGRAM = REPOSITORY / ".venv" / "bin" / "ops-commander"
POLL_SECONDS = 5.0


@dataclass
class Commander:
    """One running replica."""

    user: str
    pid: int
    port: int
    log: Path
    started: float
    _child: subprocess.Popen[bytes] = field(repr=False)
    wanted: bool = True
    """Until it is ended from here."""

    def kill(self) -> float:
        """kill -9; when."""
        self.wanted = False
        os.kill(self.pid, signal.SIGKILL)
        moment = clock.now().timestamp()
        self._child.wait()
        return moment

    def ends(self, seconds: float = 20.0) -> None:
        """As Kubernetes ends a pod."""
        self.wanted = False
        os.kill(self.pid, signal.SIGTERM)
        self._child.wait(seconds)

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    async def ready(self, seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{self.port}/readyz") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)

    async def reconciles(self) -> float:
        """When it first has."""
        return await self._shows("ops_commander_reconcile_duration_seconds_count", 1, every=0.1)

    async def judges(self, rollouts: int) -> float:
        """When so many have all ticks counted, those of before it began among them; told once a tick."""
        return await self._shows("ops_commander_rollouts_judged", rollouts, every=1.0)

    async def _shows(self, metric: str, least: float, *, every: float, seconds: float = 600.0) -> float:
        """When a metric is so high, watched from now on. With 1,000 rollouts each look takes the operator 20 ms."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    if (await self.metrics()).get(metric, 0.0) >= least:
                        return clock.now().timestamp()
                except aiohttp.ClientError:
                    pass  # it does not listen yet
                await asyncio.sleep(every)

    async def exposition(self) -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/metrics") as response,
        ):
            return await response.text()

    async def metrics(self) -> dict[str, float]:
        """Samples without labels, by name."""
        families = text_string_to_metric_families(await self.exposition())
        return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


@dataclass
class Commanders:
    """Starts replicas; all end with the block."""

    plane: ControlPlane
    prometheus_url: str
    flags: tuple[str, ...]
    poll_seconds: float
    _stack: ExitStack
    started: list[Commander] = field(default_factory=list)

    def start(self, user: str, port: int | None = None, *flags: str) -> Commander:
        """Another replica; its flags come after those of all."""
        port = port or free_ports(1)[0]
        folder = self.plane.server.folder
        name = f"operator-{len(self.started) + 1}"
        poll = format_duration(timedelta(seconds=self.poll_seconds))
        command = [
            *(
                "env",
                *AS_IN_THE_IMAGE,
                str(PROGRAM),
                "run",
                f"--kubeconfig={self.plane.server.kubeconfig_of(user)}",
                f"--identity={name}",
            ),
            *(f"--prometheus-url={self.prometheus_url}", f"--poll-interval={poll}", f"--http-port={port}"),
            *("--lease-namespace=default", "--log-level=info", "--log-format=json", *self.flags, *flags),
        ]
        started = clock.now().timestamp()
        child = self._stack.enter_context(process(name, command, folder))
        self.started.append(Commander(user, child.pid, port, folder / f"{name}.log", started, child))
        return self.started[-1]

    async def guard(self) -> None:
        """Raises RuntimeError where one ends by itself. A cluster would start it anew; here figures would lie."""
        while True:
            for each in self.started:
                if each.wanted and not each.alive:
                    raise RuntimeError(f"{each.user} ended by itself: {tail(each.log, 3)}")
            await asyncio.sleep(1)


@contextmanager
def commanders(
    plane: ControlPlane, prometheus_url: str, flags: tuple[str, ...], poll_seconds: float = POLL_SECONDS
) -> Iterator[Commanders]:
    with ExitStack() as stack:
        yield Commanders(plane, prometheus_url, flags, poll_seconds, stack)


@contextmanager
def profiled(pid: int, file: Path | None) -> Iterator[None]:
    """Where asked for: what the process does, by py-spy, as collapsed stacks."""
    program = shutil.which("py-spy")
    if file is None or program is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    command = [program, "record", "--pid", str(pid), "--format", "raw", "--rate", "100", "--output", str(file)]
    command += ["--duration", "600", "--threads"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
