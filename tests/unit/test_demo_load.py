"""The load client: steady pace, and whose fault each failure was."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hack.demo.load.client import LoadClient, Pacer, Settings, Stats
from hack.demo.ranker import server
from hack.demo.ranker.server import Ranker

LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def loading(port: int, **settings: Any) -> AsyncIterator[LoadClient]:
    url = f"http://{LOOPBACK}:{port}/v2/models/ranker/infer"
    client = LoadClient(Settings(target_url=url, **settings))
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@asynccontextmanager
async def ranking(**settings: Any) -> AsyncIterator[tuple[Ranker, int]]:
    ranker = Ranker(server.Settings(host=LOOPBACK, port=0, control_port=0, **settings))
    port, _ = await ranker.start()
    try:
        yield ranker, port
    finally:
        await ranker.close()


def stats_of(client: LoadClient) -> dict[str, Any]:
    return client.stats.to_json(client.pacer.rate)


async def test_all_is_well() -> None:
    async with ranking(version="7", latency_ms=20) as (ranker, port):
        async with loading(port, rate=100) as client:
            await asyncio.sleep(2)
        stats = stats_of(client)
    assert 150 <= stats["sent"] <= 260
    assert stats["ok"] == stats["sent"]
    assert stats["by_version"] == {"7": stats["sent"]}
    assert stats["failed"] == {"model": {}, "switch": 0}
    assert stats["in_flight"] == 0
    assert ranker.metrics.requests == {200: stats["sent"], 500: 0}
    latency = stats["latency_ms"]["7"]
    assert 19 <= latency["p50"] <= latency["p95"] <= latency["p99"]
    assert stats["first_seen_by_version"]["7"] < stats["last_seen_by_version"]["7"]


async def test_errors_by_the_model_are_its_own() -> None:
    async with ranking(version="8", faults=server.Plan(error_rate=0.3)) as (ranker, port):
        async with loading(port, rate=100) as client:
            await asyncio.sleep(1.5)
        stats = stats_of(client)
    failed = stats["failed"]["model"]["8"]
    assert failed == ranker.metrics.requests[500]
    assert failed == pytest.approx(0.3 * stats["sent"], abs=1)
    assert stats["failed"]["switch"] == 0
    assert stats["ok"] + failed == stats["sent"] == stats["by_version"]["8"]


async def test_a_killed_server_is_a_switch_failure() -> None:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = int(probe.getsockname()[1])
    env = {"HOST": LOOPBACK, "PORT": str(port), "CONTROL_PORT": "0", "MODEL_VERSION": "9", "LATENCY_MS": "50"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(server.__file__)), env=os.environ | env, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr
        await asyncio.wait_for(process.stderr.readline(), 20)
        async with loading(port, rate=100) as client:
            await asyncio.sleep(1)
            process.kill()
            await process.communicate()
            await asyncio.sleep(1)
        stats = stats_of(client)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert stats["ok"] > 50
    assert stats["failed"]["model"] == {}
    assert stats["failed"]["switch"] > 50
    assert stats["ok"] + stats["failed"]["switch"] == stats["sent"]
    assert {"connect"} <= set(stats["switch_by_kind"]) <= {"connect", "disconnected", "reset"}
    assert sum(stats["switch_by_kind"].values()) == stats["failed"]["switch"]
    recent = stats["recent_switch_failures"]
    assert len(recent) == 50
    assert recent[-1]["kind"] == "connect"
    assert recent[-1]["status"] is None
    assert recent[-1]["message"]


Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def gateway(answer: Answer) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def test_an_answer_without_a_version_is_a_switch_failure() -> None:
    hosts = set()

    async def unavailable(request: web.BaseRequest) -> web.Response:
        hosts.add(request.headers["host"])
        return web.Response(status=503, text="no healthy upstream")

    async with gateway(unavailable) as port:
        async with loading(port, rate=50, host_header="ranker.shop.example") as client:
            await asyncio.sleep(0.5)
        stats = stats_of(client)
    assert hosts == {"ranker.shop.example"}
    assert stats["ok"] == 0
    assert stats["failed"]["switch"] == stats["sent"] == stats["switch_by_kind"]["status-503"]
    failure = stats["recent_switch_failures"][-1]
    assert (failure["status"], failure["message"]) == (503, "no healthy upstream")


async def test_a_time_out_is_a_switch_failure() -> None:
    async def slow(_: web.BaseRequest) -> web.Response:
        await asyncio.sleep(1)
        return web.Response(headers={"x-model-version": "1"})

    async with gateway(slow) as port:
        async with loading(port, rate=20, timeout_seconds=0.2) as client:
            await asyncio.sleep(0.3)
        stats = stats_of(client)
    assert stats["switch_by_kind"] == {"timeout": stats["sent"]}
    assert stats["recent_switch_failures"][0]["after_ms"] == pytest.approx(200, abs=150)


async def test_the_http_api() -> None:
    async with ranking(version="7", latency_ms=100) as (_, port), loading(port, rate=50) as client:
        runner = web.AppRunner(client.application(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        url = f"http://{LOOPBACK}:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession() as session:
                await asyncio.sleep(0.5)
                before = await (await session.get(url + "/stats")).json()
                assert before["sent"] >= 10
                assert (await session.put(url + "/rate", json={"rate": 0})).status == 200
                assert (await session.put(url + "/rate", json={"rate": -1})).status == 400
                assert (await session.put(url + "/rate", json=[])).status == 400
                assert (await session.post(url + "/reset")).status == 200
                await asyncio.sleep(0.4)
                after = await (await session.get(url + "/stats")).json()
                text = await (await session.get(url + "/metrics")).text()
        finally:
            await runner.cleanup()
    # What was in flight at the reset belongs to the time before it.
    assert (after["sent"], after["ok"], after["in_flight"], after["rate"]) == (0, 0, 0, 0)
    assert after["started_at"] > before["started_at"]
    assert "load_sent_total 0\n" in text


def test_exposition() -> None:
    stats = Stats(started=0.0, sent=5)
    stats.answered("7", 200, 250.0, at=1.0)
    stats.answered("7", 500, 250.0, at=2.0)
    stats.switch_failed("timeout", None, "late", 3000.0, at=3.0, request_id="r")
    text = stats.exposition(rate=150)
    assert 'load_requests_total{result="switch",version=""} 1\n' in text
    assert 'load_requests_total{result="ok",version="7"} 1\n' in text
    assert 'load_requests_total{result="model",version="7"} 1\n' in text
    assert stats.in_flight == 2
    assert stats.versions["7"].latencies.quantile(0.95) == pytest.approx(250, rel=0.01)
    assert stats.to_json(150)["recent_switch_failures"][0]["time"] == "1970-01-01T00:00:03.000Z"


def sent_between(pacer: Pacer, begin: float, end: float, tick: float = 0.005) -> int:
    return sum(pacer.due(begin + n * tick) for n in range(round((end - begin) / tick)))


def test_the_pace_does_not_drift() -> None:
    pacer = Pacer(150, now=0.0)
    assert sent_between(pacer, 0.0, 60.0, tick=0.0071) == pytest.approx(9000, abs=2)
    assert pacer.skipped == 0


def test_a_short_stall_is_caught_up_at_twice_the_rate() -> None:
    pacer = Pacer(150, now=0.0)
    sent = sent_between(pacer, 0.0, 1.0)
    assert pacer.due(1.5) <= 6
    first = sent_between(pacer, 1.505, 1.605)
    assert first <= 0.1 * 300 + 2
    rest = sent_between(pacer, 1.605, 4.0)
    assert sent + first + rest == pytest.approx(4 * 150, abs=8)
    assert pacer.skipped == 0


def test_a_long_stall_is_skipped_and_said() -> None:
    pacer = Pacer(100, now=0.0)
    total = pacer.due(0.0) + sent_between(pacer, 10.0, 15.0)
    assert pacer.skipped == pytest.approx(900, abs=2)
    assert total + pacer.skipped == pytest.approx(1500, abs=3)


def test_settings() -> None:
    settings = Settings.from_env({"TARGET_URL": "http://gateway.example"})
    assert settings.target_url == "http://gateway.example/v2/models/ranker/infer"
    assert (settings.rate, settings.timeout_seconds) == (150, 3)
    assert settings.bodies == ()
    with pytest.raises(SystemExit, match="TARGET_URL"):
        Settings.from_env({})
    with pytest.raises(SystemExit, match="rate"):
        Settings.from_env({"TARGET_URL": "http://gateway.example", "RATE": "99999"})


async def test_prepared_bodies_are_sent_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"inputs":[1]}\n{"inputs":[2]}\n')
    settings = Settings.from_env({"TARGET_URL": "http://gateway.example", "REQUESTS_FILE": str(path)})
    client = LoadClient(settings)
    sent = [client._next_request() for _ in range(4)]
    assert [body for _, body in sent] == [b'{"inputs":[2]}', b'{"inputs":[1]}'] * 2
    assert len({request_id for request_id, _ in sent}) == 4
    path.write_text("")
    with pytest.raises(SystemExit, match="REQUESTS_FILE"):
        Settings.from_env({"TARGET_URL": "http://gateway.example", "REQUESTS_FILE": str(path)})
