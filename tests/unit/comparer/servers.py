"""Model servers and a comparer on loopback, all real."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from ops_commander.api.comparison import Comparison
from ops_commander.comparer.app import Running, running
from ops_commander.comparer.settings import Settings
from ops_commander.runtime import clock

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Model:
    """Answers what it is told to, and remembers what it was asked."""

    answer: Any = None
    handler: Handler | None = None
    status: int = 200
    gate: asyncio.Event | None = None
    """Where given, answers wait for it."""
    asked: list[tuple[str, str, Mapping[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((request.method, request.raw_path, request.headers.copy(), await request.read()))
        if self.gate:
            await self.gate.wait()
        if self.handler:
            return await self.handler(request)
        return web.json_response(self.answer, status=self.status)


@dataclass
class Store:
    """Artifacts, kept in memory; fails where told."""

    files: dict[str, bytes] = field(default_factory=dict)
    uploads: int = 0
    fails: Exception | None = None
    closed: bool = False

    async def upload(self, run_id: str, path: str, data: bytes) -> str:
        if self.fails:
            raise self.fails
        self.uploads += 1
        self.files[f"{run_id}:{path}"] = data
        return hashlib.sha256(data).hexdigest()

    async def close(self) -> None:
        self.closed = True


@contextlib.asynccontextmanager
async def serving(model: Model) -> AsyncIterator[Model]:
    runner = web.ServerRunner(web.Server(model.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        model.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield model
    finally:
        await runner.cleanup()


@dataclass
class Bench:
    """A comparer between two models."""

    stable: Model
    candidate: Model
    comparer: Running
    session: aiohttp.ClientSession
    told: list[str]

    async def mirror(
        self, body: Any = None, *, method: str = "POST", path: str = "/predict", **headers: str
    ) -> aiohttp.ClientResponse:
        """As a proxy would; header names have _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        url = URL(f"http://127.0.0.1:{self.comparer.port}{path}", encoded=True)
        async with self.session.request(method, url, data=data, headers=named) as response:
            await response.read()
            return response

    async def settled(self) -> None:
        """All that was taken is compared."""
        await self.comparer.waiting.drained()

    async def page(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{self.comparer.metrics_port}{path}") as response:
            return response.status, await response.text()

    def value(self, name: str, **labels: str) -> float:
        found = self.comparer.ledger.metrics.registry.get_sample_value(f"ops_commander_comparison_{name}", labels)
        assert found is not None, name
        return found


@contextlib.asynccontextmanager
async def bench(
    stable: Any, candidate: Any, comparison: Comparison | None = None, *, store: Store | None = None, **settings: str
) -> AsyncIterator[Bench]:
    """Answers, or models."""
    models = [each if isinstance(each, Model) else Model(each) for each in (stable, candidate)]
    told: list[str] = []
    async with serving(models[0]), serving(models[1]), aiohttp.ClientSession() as session:
        chosen = Settings(
            models[0].url,
            models[1].url,
            comparison or Comparison(),
            deployment_id="ranker-abc-3",
            port=0,
            metrics_port=0,
            **settings,
        )
        async with running(chosen, store=store, now=clock.now, tell=told.append, host="127.0.0.1") as comparer:
            yield Bench(models[0], models[1], comparer, session, told)
