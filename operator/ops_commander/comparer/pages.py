"""/metrics, /report, /healthz and /readyz, on a port of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from ops_commander.comparer.metrics import Metrics


def pages(metrics: Metrics, report: Callable[[], dict[str, Any]], unready: Callable[[], str | None]) -> web.Application:
    """`unready` gives the reason why no request should come, if there is one."""

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), content_type="text/plain", charset="utf-8")

    async def summary(_: web.Request) -> web.Response:
        return web.json_response(report())

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        wrong = unready()
        return web.Response(status=503 if wrong else 200, text=f"{wrong or 'ok'}\n")

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", exposition),
            web.get("/report", summary),
            web.get("/healthz", healthy),
            web.get("/readyz", ready),
        ]
    )
    return app
