"""What it costs the operator to hear one tick of Prometheus: `python -m benchmarks.evidence`, some minutes.

A Prometheus in a process of its own answers three queries for all rollouts together, over HTTP and compressed: a
rollout has two stable pods and one candidate pod, a pod two series of requests and twelve buckets. This process asks as
the operator does (adapters.prometheus) and hands each answer on (runtime.evidence), without a cluster. CPU time is that
of the whole process. Memory is counted by the kernel (RSS), and by tracemalloc in a second run, which is slow and has
fewer ticks. Ticks follow each other without a pause.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import json
import multiprocessing
import os
import socket
import sys
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from aiohttp import web

from benchmarks import machine
from ops_commander.adapters.prometheus import Access, Prometheus
from ops_commander.api.policy import RolloutPolicySpec, live_objectives
from ops_commander.core import presets
from ops_commander.core.question import Question
from ops_commander.core.samples import Owner, Reading
from ops_commander.core.trial import LATE_TICKS
from ops_commander.runtime.evidence import EvidenceBook

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
TICK = timedelta(seconds=5)
WARM_UP = 15
"""Ticks before the origin, and one or two after it."""

OBJECTIVES = ("error-rate", "error-ratio", "p95-latency")
ERRORS = 0.001
WITHIN = {
    **{"0.005": 0.0, "0.01": 0.02, "0.025": 0.2, "0.05": 0.6, "0.1": 0.93, "0.25": 0.99, "0.5": 0.998},
    **dict.fromkeys(("1.0", "2.5", "5.0", "10.0", "+Inf"), 1.0),
}
"""Share of the requests up to each edge."""

TRACED_TICKS = 16
"""After so many a trial keeps no more than before, until its short memory begins."""

Key = tuple[str, str]


def owners(number: int) -> tuple[Owner, Owner]:
    """ReplicaSets of a rollout's candidate and of its stable version."""
    return (f"team-{number % 20}", f"ranker-{number}-6d5f7c9b84"), (
        f"team-{number % 20}",
        f"ranker-{number}-59c6b7f9d4",
    )


def series(number: int, owner: Owner, name: str) -> Iterator[tuple[str, str, float]]:
    """Of one pod: kind of the query, labels as JSON, and the share of its requests."""
    common = {
        "container": "model",
        "endpoint": "http",
        "instance": f"10.{128 + number // 65536}.{number // 256 % 256}.{number % 256}:8080",
        "job": "models",
        "method": "POST",
        "namespace": owner[0],
        "pod": f"{owner[1]}-{name}",
    }
    for kind, metric, label, shares in (
        ("requests", "http_requests_total", "status", {"200": 1 - ERRORS, "500": ERRORS}),
        ("errors", "http_requests_total", "status", {"500": ERRORS}),
        ("buckets", "http_request_duration_seconds_bucket", "le", WITHIN),
    ):
        for value, share in shares.items():
            labels = sorted({"__name__": metric, label: value, **common}.items())
            yield kind, json.dumps(dict(labels), separators=(",", ":")), share


def all_series(rollouts: int) -> dict[str, list[tuple[str, float, float]]]:
    """By kind of the query: labels, increase a second, and the value at the beginning."""
    found = defaultdict(list)
    for number in range(rollouts):
        candidate, stable = owners(number)
        pods = ((stable, "b7x2k", 90.0), (stable, "q9d4z", 90.0), (candidate, "m3n8p", 20.0))
        for index, (owner, name, rate) in enumerate(pods):
            for kind, labels, share in series(3 * number + index, owner, name):
                found[kind].append(
                    (f'{{"metric":{labels},"value":[', rate * share, (3600 + number * 3.7) * rate * share)
                )
    return found


def kind_of(query: str) -> str:
    if "_bucket" in query:
        return "buckets"
    return "errors" if "5.." in query else "requests"


def serve(listener: socket.socket, rollouts: int) -> None:
    """The Prometheus, until it is ended."""
    known = all_series(rollouts)

    async def answer(request: web.Request) -> web.Response:
        form = await request.post()
        at, kind = float(str(form["time"])), kind_of(str(form["query"]))
        past = at - START.timestamp()
        rows = [f'{row}{at:.3f},"{int(begin + pace * past)}"]}}' for row, pace, begin in known[kind]]
        text = f'{{"status":"success","data":{{"resultType":"vector","result":[{",".join(rows)}]}}}}'
        body = gzip.compress(text.encode(), 1)
        return web.Response(body=body, content_type="application/json", headers={"Content-Encoding": "gzip"})

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/api/v1/query", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        await asyncio.Event().wait()

    asyncio.run(main())


@contextmanager
def prometheus(rollouts: int) -> Iterator[str]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    process = multiprocessing.Process(target=serve, args=(listener, rollouts), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        process.terminate()
        process.join()


@dataclass
class Found:
    """Of one run. Times are CPU milliseconds of a tick, memory is in bytes."""

    decoding: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    counting: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    transient: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """The most that one answer took beside what stays."""
    retained: int = 0
    woken: int = 0
    """Rollouts at the latest tick; all, if every trial kept up."""
    peak: float = 0.0


@dataclass
class Run:
    """One process that hears ticks."""

    rollouts: int
    url: str
    traced: bool
    found: Found = field(default_factory=Found)

    def __post_init__(self) -> None:
        wanted = [item for item in live_objectives() if item.name in OBJECTIVES]
        spec = presets.resolved(RolloutPolicySpec(objectives=wanted))
        self.book = EvidenceBook(TICK, START)
        for number in range(self.rollouts):
            question = Question("d", START + TICK * (WARM_UP - 2), *owners(number), tuple(spec.objectives))
            self.book.want((f"team-{number % 20}", f"ranker-{number}"), question, "prometheus")

    async def ticks(self, count: int) -> Found:
        server = Prometheus(Access(self.url, timeout=timedelta(seconds=120)))
        await server.query(next(iter(self._wanted())), START - TICK)
        gc.collect()
        before = self._memory()
        for number in range(WARM_UP + count):
            self.found.woken = 0
            for query, keys in self._wanted().items():
                await self._hear(server, query, keys, number)
        gc.collect()
        self.found.retained = self._memory() - before
        self.found.peak = machine.usage(os.getpid()).peak
        server.close()
        return self.found

    def _wanted(self) -> dict[str, list[Key]]:
        return self.book.queries()["prometheus"]

    async def _hear(self, server: Prometheus, query: str, keys: list[Key], number: int) -> None:
        if self.traced:
            tracemalloc.reset_peak()
        memory, began = self._memory(), time.process_time()
        reading: Reading = await server.query(query, START + TICK * number)
        decoded = time.process_time()
        woken, _ = self.book.answered("prometheus", query, reading, keys)
        ended, kind = time.process_time(), kind_of(query)
        self.found.woken = max(self.found.woken, len(woken))
        if number >= WARM_UP:
            self.found.decoding[kind].append(1000 * (decoded - began))
            self.found.counting[kind].append(1000 * (ended - decoded))
            if self.traced:
                most = tracemalloc.get_traced_memory()[1] - memory
                self.found.transient[kind] = max(self.found.transient[kind], most)

    def _memory(self) -> int:
        if self.traced:
            return tracemalloc.get_traced_memory()[0]
        return int(machine.usage(os.getpid()).rss * 2**20)


def run(rollouts: int, url: str, ticks: int, traced: bool) -> Found:
    if traced:
        tracemalloc.start()
    found = asyncio.run(Run(rollouts, url, traced).ticks(ticks))
    return Found(
        dict(found.decoding), dict(found.counting), dict(found.transient), found.retained, found.woken, found.peak
    )


def measured(rollouts: int, ticks: int) -> tuple[Found, Found]:
    """By the kernel, and by tracemalloc; each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with prometheus(rollouts) as url:
        both = []
        for traced in (False, True):
            with ProcessPoolExecutor(1, spawn) as pool:
                heard = min(ticks, TRACED_TICKS) if traced else ticks
                both.append(pool.submit(run, rollouts, url, heard, traced).result())
    return both[0], both[1]


def table(rollouts: int, ticks: int, plain: Found, traced: Found) -> str:
    def mean(values: list[float]) -> float:
        return sum(values) / max(1, len(values))

    lines = [
        str(__doc__),
        "| Answer | Decoding | Counting, first 60 ticks | Counting, later | Transient peak |",
        "|---|---|---|---|---|",
    ]
    total = [0.0, 0.0, 0.0]
    for kind, decoding in plain.decoding.items():
        counting = plain.counting[kind]
        early, late = counting[: LATE_TICKS - 1], counting[LATE_TICKS:] or [0.0]
        row = mean(decoding), mean(early), mean(late)
        total = [one + other for one, other in zip(total, row, strict=True)]
        transient = f"{traced.transient[kind] / 2**20:.1f} MiB"
        lines.append(f"| {kind} | {row[0]:.0f} ms | {row[1]:.0f} ms | {row[2]:.0f} ms | {transient} |")
    lines.append(f"| a tick | {total[0]:.0f} ms | {total[1]:.0f} ms | {total[2]:.0f} ms | |")
    told = ", ".join(f"{name} {value}" for name, value in machine.described().items())
    lines += [
        f"\n{rollouts} rollouts of 3 pods, {ticks} ticks; woken at the last: {plain.woken}.",
        f"Retained for one rollout: {traced.retained / rollouts / 1024:.1f} KiB by tracemalloc, "
        f"{plain.retained / rollouts / 1024:.1f} KiB of RSS. Resident at most: {plain.peak:.0f} MiB.",
        f"Load of the machine: {machine.load_average()[0]}; {told}.\n",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=1000)
    parser.add_argument("--ticks", type=int, default=LATE_TICKS + 12)
    arguments = parser.parse_args()
    plain, traced = measured(arguments.rollouts, arguments.ticks)
    sys.stdout.write(table(arguments.rollouts, arguments.ticks, plain, traced))
    return 0


if __name__ == "__main__":
    sys.exit(main())
