"""/healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import generate_latest

Probe = Callable[[], str | None]
"""None when all is well, else what is not."""


async def serve(port: int, healthy: Probe, ready: Probe) -> web.AppRunner:
    """Start listening on all addresses; the caller cleans the runner up."""
    app = web.Application()
    app.router.add_get("/healthz", _answering(healthy))
    app.router.add_get("/readyz", _answering(ready))
    app.router.add_get("/metrics", _exposition)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner


def _answering(probe: Probe) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        wrong = probe()
        return web.Response(status=503 if wrong else 200, text=f"{wrong or 'ok'}\n")

    return handle


async def _exposition(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), content_type="text/plain", charset="utf-8")
