"""python -m benchmarks.felt: what a user feels of a candidate that fails; the benchmark behind `make bench-felt`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import aiohttp

from benchmarks import invocation, machine
from benchmarks.felt.access import Access, access
from benchmarks.felt.answers import Load
from benchmarks.felt.results import FOLDER, Results
from benchmarks.felt.run import Group, NotMeasuredError
from benchmarks.felt.shares import SHARES, cells
from benchmarks.felt.shop import PREFIX, Shop, infer_url, operator_values
from benchmarks.felt.table import table
from benchmarks.felt.watched import Watched
from hack.cluster.progress import say
from hack.demo import installed
from hack.demo.load.client import Settings
from ops_commander.runtime import clock

_METHOD = (
    "kind with Envoy Gateway, two operator replicas, {poll} s ticks, one Prometheus that scrapes the pods of each group"
    " at its own pace; open loop of {rate:g} req/s from outside through the Gateway, {at_once} group(s) at once;"
    " 2 stable pods, 1 candidate pod; fault: 100 % of the candidate's answers are 500, at a random instant after it was"
    " scraped twice; sample objectives error-rate 1 %, error-ratio, p95-latency"
)

_OPERATOR = (f"deployment/{installed.RELEASE}", f"--namespace={installed.OPERATOR_NAMESPACE}")
_IMAGE = r"{.spec.template.metadata.annotations.ops-commander\.dev/image}"


async def _one(group: Group, weight: int) -> dict[str, Any]:
    """A run's record: its figures, or why there are none."""
    record: dict[str, Any] = {
        "interval": group.shop.scrape,
        "weight": weight,
        "at": clock.now().isoformat(timespec="seconds"),
        "load_average": machine.load_average(),
    }
    began = clock.now()
    try:
        record |= await group.measure(weight)
    except (NotMeasuredError, TimeoutError, ValueError, aiohttp.ClientError) as error:
        record["error"] = f"{type(error).__name__}: {error}"
    return {**record, "took": (clock.now() - began).total_seconds()}


def _told(run: dict[str, Any]) -> str:
    head = f"scrape {run['interval']} s, weight {run['weight']}, {run['took']:.0f} s: "
    if "error" in run:
        return f"{head}{run['error']}"
    shares = ", ".join(f"{name} {run[name]:.2f}" for name in SHARES)
    return head + f"felt {run['felt']:.2f} s, {run['failed']} failed; {shares}; idle {run['idle']:.0%}"


async def _runs(group: Group, results: Results, options: argparse.Namespace) -> None:
    await group.launch()
    for weight in results.missing(group.shop.scrape, options.weights, options.runs):
        run = await _one(group, weight)
        results.add(run)
        say(_told(run))


async def _group(shop: Shop, way: Access, results: Results, options: argparse.Namespace) -> None:
    """All runs at one pace, in a namespace that goes with them."""
    await asyncio.to_thread(shop.set_up)
    watched = Watched(way.api, shop.namespace)
    load = Load(Settings(infer_url(way.gateway), shop.host, options.rate, timeout_seconds=10))
    following = asyncio.create_task(watched.follow())
    working = asyncio.create_task(_runs(Group(shop, way, watched, load, options.poll), results, options))
    try:
        done, _ = await asyncio.wait((following, working), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (following, working):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
        await load.stop()
        await asyncio.to_thread(installed.remove_demo, shop.namespace)


async def _measure(record: Any, results: Results, options: argparse.Namespace) -> list[str]:
    """Errors that ended a group; the runs are in `results`."""
    turn = asyncio.Semaphore(options.at_once)
    session = token_hex(2)

    async def one(scrape: int, way: Access) -> None:
        if not results.missing(scrape, options.weights, options.runs):
            return
        async with turn:
            await _group(Shop(session, scrape), way, results, options)

    async with access(record) as way:
        ended = await asyncio.gather(*(one(scrape, way) for scrape in options.scrapes), return_exceptions=True)
    return [f"{type(error).__name__}: {error}" for error in ended if error is not None]


def _numbers(text: str) -> list[int]:
    found = [int(part) for part in text.replace(",", " ").split()]
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers from 1")
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.felt", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="of each pace and weight")
    parser.add_argument(
        "--scrapes", type=_numbers, default=[1, 5, 15], help="seconds between two scrapes, a group each"
    )
    parser.add_argument("--weights", type=_numbers, default=[5, 50], help="of the candidate, in percent")
    parser.add_argument("--poll", type=int, default=1, help="seconds between two ticks of the operator")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second of each group")
    parser.add_argument("--at-once", type=int, default=1, help="groups at once, each with its own load")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for everything but the cluster")
    parser.add_argument("--resume", type=Path, help="JSON file of an earlier run: only what it lacks is done")
    return parser.parse_args()


def _setting(options: argparse.Namespace) -> dict[str, Any]:
    return {
        **invocation.circumstances(),
        "method": _METHOD.format(poll=options.poll, rate=options.rate, at_once=options.at_once),
        "poll": options.poll,
        "rate": options.rate,
        "at_once": options.at_once,
        "operator_image": installed.kubectl("get", *_OPERATOR, f"--output=jsonpath={_IMAGE}"),
    }


def _remove_leftovers() -> None:
    """Of a run that was killed."""
    for found in installed.kubectl("get", "namespaces", "--output=name").split():
        if (name := found.removeprefix("namespace/")).startswith(PREFIX):
            installed.remove_demo(name)


def main() -> int:
    options = _options()
    record = installed.ensure_cluster()
    installed.build_images()
    installed.install_operator(**operator_values(options.scrapes, f"{options.poll}s"))
    _remove_leftovers()
    told = _setting(options)
    say(f"{told['machine']}\n{told['method']}")
    path = options.resume or FOLDER / f"felt-{clock.now():%Y%m%d-%H%M%S}.json"
    results = Results.resumed(path, told) if options.resume else Results(path, told)
    errors = asyncio.run(_bounded(record, results, options))
    for error in errors:
        say(f"error: {error}")
    sys.stdout.write(f"{table(cells(results.runs))}\n\nload average {machine.load_average()}; {path}\n")
    return 1 if errors or any("error" in run for run in results.runs) else 0


async def _bounded(record: Any, results: Results, options: argparse.Namespace) -> list[str]:
    try:
        async with asyncio.timeout(options.limit):
            return await _measure(record, results, options)
    except TimeoutError:
        return [f"not done within {options.limit:.0f} s: go on with --resume {results.path}"]


if __name__ == "__main__":
    invocation.run(main)
