"""python -m benchmarks [--sizes 1,10,100,200] [--per-namespace N] [--profile]: the benchmark behind `make bench`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import controlplane, machine, report, scenarios
from benchmarks.api import Api
from benchmarks.commander import POLL_SECONDS, commanders
from benchmarks.controlplane import ControlPlane, Programs
from benchmarks.fleet import Fleet, Key
from benchmarks.report import Figures
from hack.cluster.commands import BootstrapError
from hack.cluster.progress import say, step
from hack.cluster.workspace import REPOSITORY
from ops_commander.runtime import clock
from tests.integration.controlplane import ControlPlaneError, free_ports, process

SIZES = "1,10,100,200"
RESULTS = REPOSITORY / "benchmarks" / "results"
_METHOD = (
    "etcd without fsync, kube-apiserver, controllers, scheduler; pods played by kwok; HTTPRoutes confirmed at once, no"
    " proxy behind them; scripted Prometheus without scrapes; one operator process, {poll:.0f} s ticks; a rollout has"
    " 2 stable pods and 1 candidate pod at weight 10, 200 req/s, 3 objectives on 3 queries; fault: 20 % errors"
)


def _keys(count: int, per_namespace: int) -> list[Key]:
    return [(f"bench-{number // per_namespace}", f"model-{number:04}") for number in range(count)]


@asynccontextmanager
async def _bench(
    plane: ControlPlane, keys: list[Key], options: argparse.Namespace, stack: ExitStack
) -> AsyncIterator[scenarios.Bench]:
    server = plane.server
    port, *ports = free_ports(3)
    token = server.folder / "admin.token"
    token.write_text(server.admin_token)
    command = [sys.executable, "-m", "benchmarks.prometheus", str(port), server.url, str(server.ca), str(token)]
    plane.pids["prometheus"] = stack.enter_context(process("prometheus", command, server.folder)).pid
    url = f"http://127.0.0.1:{port}"
    replicas = stack.enter_context(commanders(plane, url, tuple(options.flag)))
    async with Api(server.url, server.ca, server.admin_token) as api, aiohttp.ClientSession(url) as prometheus:
        await _answers(prometheus)
        fleet = Fleet(api, keys)
        watching = asyncio.create_task(fleet.watch())
        try:
            profiles = Path(options.profile) if options.profile else None
            yield scenarios.Bench(plane, fleet, replicas, (ports[0], ports[1]), prometheus, profiles)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def _answers(prometheus: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(aiohttp.ClientConnectionError):
                async with prometheus.get("/control/said") as response:
                    response.raise_for_status()
                    return
            await asyncio.sleep(0.1)


async def _measure(plane: ControlPlane, count: int, options: argparse.Namespace) -> Figures:
    keys = _keys(count, options.per_namespace)
    with ExitStack() as stack:
        async with asyncio.timeout(options.limit), _bench(plane, keys, options, stack) as bench:
            return await scenarios.run(bench)


def _one_size(found: Programs, count: int, options: argparse.Namespace) -> Figures:
    """A control plane of its own: sizes do not disturb each other."""
    with (
        step(f"{count} rollout(s)"),
        tempfile.TemporaryDirectory(prefix="ops-commander-bench-") as folder,
        controlplane.running(Path(folder), found) as plane,
    ):
        try:
            return asyncio.run(_measure(plane, count, options))
        except TimeoutError:
            return {"rollouts": count, "failed": f"not done within {options.limit:.0f} s"}


def _written(results: list[Figures], told: dict[str, Any]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{clock.now():%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps({**told, "results": results}, indent=2) + "\n")
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--sizes", default=SIZES, help="numbers of rollouts, one run each; 1 to 5000")
    parser.add_argument("--per-namespace", type=int, default=5000, help="rollouts in one namespace")
    parser.add_argument("--limit", type=float, default=2400.0, help="seconds for one size")
    parser.add_argument("--profile", default="", help="folder for py-spy's collapsed stacks; needs py-spy on PATH")
    parser.add_argument("--flag", action="append", default=[], help="one more flag of `ops-commander run`")
    options = parser.parse_args()
    options.sizes = [int(part) for part in options.sizes.replace(" ", ",").split(",") if part]
    if not options.sizes or not all(1 <= size <= 5000 for size in options.sizes):
        parser.error(f"--sizes is {options.sizes}: expected numbers from 1 to 5000")
    return options


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    found = controlplane.programs()
    own = machine.isolate_network()
    told: dict[str, Any] = {
        "at": clock.now().isoformat(timespec="seconds"),
        "machine": {**machine.described(), "load_average": machine.load_average()},
        "method": _METHOD.format(poll=POLL_SECONDS),
        "own_network": own,
        "per_namespace": options.per_namespace,
        "flags": options.flag,
    }
    say(f"{told['machine']}\n{told['method']}")
    results: list[Figures] = []
    for size in options.sizes:
        results.append(_one_size(found, size, options))
        path = _written(results, told)
    sys.stdout.write(f"{report.table(results)}\n\nload average {machine.load_average()}; {path}\n")
    return 1 if any("failed" in result for result in results) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BootstrapError, ControlPlaneError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
