"""Steady open-loop load on one inference endpoint; never retries, and tells whose fault a failure was.

A failure is `model` where the answer carries x-model-version (a model version itself answered so), and
`switch` where it does not: connection errors, time-outs, answers by the gateway. Port 8081 serves
GET /stats, POST /reset, PUT /rate, GET /metrics and GET /healthz.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

INFER_PATH = "/v2/models/ranker/infer"
FEATURES = 8
ROWS = 2
MAX_RATE = 2000.0
CATCH_UP = 2.0  # after a stall, at most this many times the rate
MAX_BACKLOG_SECONDS = 1.0  # requests overdue by more are skipped and counted as such
RECENT_FAILURES = 50
QUANTILES = (0.5, 0.95, 0.99)
LATENCY_RESOLUTION = math.log(1.02)


@dataclass(frozen=True, slots=True)
class Settings:
    target_url: str
    host_header: str = ""
    rate: float = 150.0
    timeout_seconds: float = 3.0
    bodies: tuple[bytes, ...] = ()
    port: int = 8081
    host: str = "0.0.0.0"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        target = env.get("TARGET_URL", "")
        if not target.startswith(("http://", "https://")):
            raise SystemExit(f"TARGET_URL={target!r}: expected a URL such as http://gateway.example")
        if target.count("/") == 2 or target.endswith("/"):
            target = target.rstrip("/") + INFER_PATH
        try:
            return cls(
                target_url=target,
                host_header=env.get("HOST_HEADER", ""),
                rate=checked_rate(float(env.get("RATE") or 150)),
                timeout_seconds=float(env.get("TIMEOUT_SECONDS") or 3),
                bodies=read_bodies(env.get("REQUESTS_FILE", "")),
                port=int(env.get("PORT") or 8081),
                host=env.get("HOST") or "0.0.0.0",
            )
        except ValueError as error:
            raise SystemExit(f"RATE, TIMEOUT_SECONDS or PORT: {error}") from None


def read_bodies(path: str) -> tuple[bytes, ...]:
    """Bodies to send in turn, one a line; without a file, random features."""
    if not path:
        return ()
    bodies = tuple(Path(path).read_bytes().splitlines())
    if not bodies:
        raise SystemExit(f"REQUESTS_FILE={path!r}: expected a body a line")
    return bodies


def checked_rate(rate: float) -> float:
    if not 0 <= rate <= MAX_RATE:
        raise ValueError(f"expected a rate within 0..{MAX_RATE:g} req/s, got {rate}")
    return rate


def wall_clock() -> float:
    return time.time()  # noqa: TID251 - a program of its own, with real times in its records


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Latencies:
    """Quantiles to within 1 % in constant memory: counts by logarithm."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, milliseconds: float) -> None:
        self._counts[round(math.log(max(milliseconds, 0.01)) / LATENCY_RESOLUTION)] += 1

    def quantile(self, q: float) -> float | None:
        rank = math.ceil(q * self._counts.total())
        for index in sorted(self._counts):
            rank -= self._counts[index]
            if rank <= 0:
                return round(math.exp(index * LATENCY_RESOLUTION), 2)
        return None


@dataclass(slots=True)
class Seen:
    """What is known of one version by its answers."""

    first: float
    last: float = 0.0
    answers: int = 0
    failed: int = 0
    latencies: Latencies = field(default_factory=Latencies)


@dataclass(slots=True)
class Stats:
    """Counts since the last reset. A request counts where it was sent: a reset never splits one."""

    started: float
    sent: int = 0
    skipped: int = 0
    ok: int = 0
    switch: int = 0
    switch_by_kind: Counter[str] = field(default_factory=Counter)
    versions: dict[str, Seen] = field(default_factory=dict)
    recent_switch_failures: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=RECENT_FAILURES))

    def answered(self, version: str, status: int, milliseconds: float, at: float) -> None:
        seen = self.versions.get(version)
        if seen is None:
            seen = self.versions[version] = Seen(first=at)
        seen.last = at
        seen.answers += 1
        seen.latencies.add(milliseconds)
        if status == 200:
            self.ok += 1
        else:
            seen.failed += 1

    def switch_failed(
        self, kind: str, status: int | None, message: str, milliseconds: float, at: float, request_id: str
    ) -> None:
        self.switch += 1
        self.switch_by_kind[kind] += 1
        self.recent_switch_failures.append(
            {
                "time": iso(at),
                "kind": kind,
                "status": status,
                "message": message[:200],
                "after_ms": round(milliseconds, 1),
                "request_id": request_id,
            }
        )

    @property
    def model_failures(self) -> dict[str, int]:
        return {version: seen.failed for version, seen in self.versions.items() if seen.failed}

    @property
    def in_flight(self) -> int:
        return self.sent - self.ok - self.switch - sum(self.model_failures.values())

    def to_json(self, rate: float) -> dict[str, Any]:
        versions = self.versions.items()
        return {
            "sent": self.sent,
            "ok": self.ok,
            "failed": {"model": self.model_failures, "switch": self.switch},
            "in_flight": self.in_flight,
            "skipped": self.skipped,
            "by_version": {version: seen.answers for version, seen in versions},
            "latency_ms": {
                version: {f"p{q * 100:g}": seen.latencies.quantile(q) for q in QUANTILES} for version, seen in versions
            },
            "started_at": iso(self.started),
            "rate": rate,
            "switch_by_kind": dict(self.switch_by_kind),
            "recent_switch_failures": list(self.recent_switch_failures),
            "first_seen_by_version": {version: iso(seen.first) for version, seen in versions},
            "last_seen_by_version": {version: iso(seen.last) for version, seen in versions},
        }

    def exposition(self, rate: float) -> str:
        return "\n".join(self._exposition_lines(rate)) + "\n"

    def _exposition_lines(self, rate: float) -> Iterator[str]:
        yield from family("load_rate", "gauge", "Requests a second that are wanted.", {"": rate})
        yield from family("load_sent_total", "counter", "Requests sent.", {"": self.sent})
        yield from family("load_skipped_total", "counter", "Requests not sent after a stall.", {"": self.skipped})
        results: dict[str, float] = {'{result="switch",version=""}': self.switch}
        latencies: dict[str, float] = {}
        for version, seen in self.versions.items():
            label = version.replace("\\", "\\\\").replace('"', '\\"')
            results[f'{{result="ok",version="{label}"}}'] = seen.answers - seen.failed
            results[f'{{result="model",version="{label}"}}'] = seen.failed
            for q in QUANTILES:
                value = seen.latencies.quantile(q)
                latencies[f'{{quantile="{q}",version="{label}"}}'] = (value or 0.0) / 1000
        yield from family("load_requests_total", "counter", "Requests by result; /reset resets.", results)
        yield from family("load_latency_seconds", "gauge", "Latency quantiles since the last reset.", latencies)


def family(name: str, kind: str, text: str, samples: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples.items():
        yield f"{name}{labels} {value}"


class Pacer:
    """Says how many requests are due: never drifts, and catches up from a stall at twice the rate."""

    def __init__(self, rate: float, now: float) -> None:
        self.skipped = 0
        self.set_rate(rate, now)

    def set_rate(self, rate: float, now: float) -> None:
        self.rate = rate
        self._next = now
        self._refilled = now
        self._tokens = 1.0

    def due(self, now: float) -> int:
        if not self.rate:
            return 0
        burst = max(2.0, self.rate * CATCH_UP * 0.02)
        self._tokens = min(burst, self._tokens + (now - self._refilled) * self.rate * CATCH_UP)
        self._refilled = now
        overdue = int((now - MAX_BACKLOG_SECONDS - self._next) * self.rate)
        if overdue > 0:
            self.skipped += overdue
            self._next += overdue / self.rate
        count = min(int(self._tokens), math.floor((now - self._next) * self.rate) + 1)
        if count <= 0:
            return 0
        self._tokens -= count
        self._next += count / self.rate
        return count

    def wait(self, now: float) -> float:
        """Seconds until the next request can be due."""
        if not self.rate:
            return 0.2
        for_token = (1 - self._tokens) / (self.rate * CATCH_UP)
        return min(0.2, max(self._next - now, for_token, 0.0))


def kind_of(error: BaseException) -> str:
    """One word for what broke; the order matters, aiohttp's errors derive from one another."""
    kinds: tuple[tuple[type[BaseException], str], ...] = (
        (TimeoutError, "timeout"),
        (aiohttp.ClientConnectorDNSError, "dns"),
        (aiohttp.ClientConnectorError, "connect"),
        (aiohttp.ServerDisconnectedError, "disconnected"),
        (aiohttp.ClientPayloadError, "truncated"),
        (ConnectionResetError, "reset"),
        (aiohttp.ClientOSError, "reset"),
    )
    return next((kind for cls, kind in kinds if isinstance(error, cls)), "error")


class LoadClient:
    """Sends at the wanted rate from `start` until `stop`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loop = asyncio.get_running_loop()
        self.stats = Stats(wall_clock())
        self.pacer = Pacer(settings.rate, self._loop.time())
        self._session: aiohttp.ClientSession | None = None
        self._pacing: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._random = random.Random()
        self._run = uuid.uuid4().hex[:20]
        self._number = 0

    async def start(self) -> None:
        headers = {"content-type": "application/json"}
        if self.settings.host_header:
            headers["host"] = self.settings.host_header
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=self.settings.timeout_seconds, ceil_threshold=60),
            headers=headers,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self.pacer.set_rate(self.settings.rate, self._loop.time())
        self._pacing = asyncio.create_task(self._pace(self._session))

    async def stop(self) -> None:
        """Send no more, and wait for what is in flight."""
        if self._pacing:
            self._pacing.cancel()
            await asyncio.gather(self._pacing, *self._requests, return_exceptions=True)
        if self._session:
            await self._session.close()

    def reset(self) -> None:
        self.stats = Stats(wall_clock())
        self.pacer.skipped = 0

    def set_rate(self, rate: float) -> None:
        self.pacer.set_rate(checked_rate(rate), self._loop.time())

    async def _pace(self, session: aiohttp.ClientSession) -> None:
        while True:
            for _ in range(self.pacer.due(self._loop.time())):
                task = self._loop.create_task(self._send(session, self.stats))
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)
            self.stats.skipped = self.pacer.skipped
            await asyncio.sleep(self.pacer.wait(self._loop.time()))

    def _next_request(self) -> tuple[str, bytes]:
        """A fresh id shaped as a UUID, and the next body or random features."""
        self._number += 1
        run = self._run
        request_id = f"{run[:8]}-{run[8:12]}-4{run[12:15]}-a{run[15:18]}-{self._number:012x}"
        if bodies := self.settings.bodies:
            return request_id, bodies[self._number % len(bodies)]
        features = ",".join([f"{self._random.random():.6f}" for _ in range(ROWS * FEATURES)])
        tensor = f'{{"name":"features","datatype":"FP32","shape":[{ROWS},{FEATURES}],"data":[{features}]}}'
        return request_id, f'{{"inputs":[{tensor}]}}'.encode()

    async def _send(self, session: aiohttp.ClientSession, stats: Stats) -> None:
        request_id, body = self._next_request()
        stats.sent += 1
        begun = self._loop.time()
        try:
            async with session.post(
                self.settings.target_url, data=body, headers={"x-request-id": request_id}, allow_redirects=False
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            took = (self._loop.time() - begun) * 1000
            message = f"{type(error).__name__}: {error}"
            stats.switch_failed(kind_of(error), None, message, took, wall_clock(), request_id)
            return
        took = (self._loop.time() - begun) * 1000
        if version := response.headers.get("x-model-version"):
            stats.answered(version, response.status, took, wall_clock())
        else:
            text = answer.decode(errors="replace")
            kind = f"status-{response.status}"
            stats.switch_failed(kind, response.status, text, took, wall_clock(), request_id)

    # HTTP API

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/stats", self._get_stats)
        app.router.add_post("/reset", self._post_reset)
        app.router.add_put("/rate", self._put_rate)
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/healthz", self._get_healthz)
        return app

    async def _get_stats(self, _: web.Request) -> web.Response:
        return web.json_response(self.stats.to_json(self.pacer.rate))

    async def _post_reset(self, _: web.Request) -> web.Response:
        self.reset()
        return web.json_response({"started_at": iso(self.stats.started)})

    async def _put_rate(self, request: web.Request) -> web.Response:
        try:
            rate = float((await request.json())["rate"])
            self.set_rate(rate)
        except (KeyError, TypeError, ValueError) as error:
            return web.json_response({"error": f'expected {{"rate": number}}: {error}'}, status=400)
        return web.json_response({"rate": rate})

    async def _get_metrics(self, _: web.Request) -> web.Response:
        text = self.stats.exposition(self.pacer.rate)
        return web.Response(body=text.encode(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _get_healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")


async def run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    client = LoadClient(settings)
    runner = web.AppRunner(client.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, settings.host, settings.port).start()
    await client.start()
    print(f"{settings.rate:g} req/s to {settings.target_url}", file=sys.stderr, flush=True)
    await stop.wait()
    await client.stop()
    await runner.cleanup()
    print(json.dumps(client.stats.to_json(0)), flush=True)


if __name__ == "__main__":
    asyncio.run(run(Settings.from_env(os.environ)))
