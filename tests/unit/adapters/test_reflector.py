"""A server on the way that ends every watch at once. The real one is in tests/integration/test_surroundings.py."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestServer

from ops_commander.adapters.kubernetes import KubernetesApi
from ops_commander.adapters.kubernetes_client import client
from ops_commander.adapters.reflector import FIRST_BACKOFF, Reflector
from ops_commander.adapters.surroundings import KnownObjects


async def test_a_watch_that_ends_as_it_begins_is_asked_for_less_and_less() -> None:
    asked: list[float] = []
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def answer(request: web.Request) -> web.Response:
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "7"}, "items": []})
        asked.append(loop.time())
        if len(asked) == 3:
            enough.set()
        return web.Response()

    app = web.Application()
    app.router.add_get("/api/v1/pods", answer)
    async with TestServer(app) as server:
        configuration = client.Configuration(host=str(server.make_url("/")).rstrip("/"))
        async with KubernetesApi(configuration) as api:
            following = asyncio.create_task(
                Reflector(api, KnownObjects(lambda change: None), "Pod", None, lambda: None).run()
            )
            await asyncio.wait_for(enough.wait(), 20)
            following.cancel()

    first, second = asked[1] - asked[0], asked[2] - asked[1]
    assert first >= 0.8 * FIRST_BACKOFF
    assert second >= 0.8 * 2 * FIRST_BACKOFF
