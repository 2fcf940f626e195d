"""The sample model server: protocol, faults, metrics and its way out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hack.demo.ranker import server
from hack.demo.ranker.server import Metrics, Ranker, Settings

INFER = "/v2/models/ranker/infer"
LOOPBACK = "127.0.0.1"


def body(rows: int = 1, **changes: Any) -> dict[str, Any]:
    tensor = {"name": "features", "datatype": "FP32", "shape": [rows, 8], "data": [0.1] * 8 * rows}
    return {"id": "42", "inputs": [tensor | changes]}


class Caller:
    """A ranker in this process and a session to talk to it."""

    def __init__(self, ranker: Ranker, ports: tuple[int, int], session: aiohttp.ClientSession) -> None:
        self.ranker, self.session = ranker, session
        self.url, self.control = (f"http://{LOOPBACK}:{port}" for port in ports)

    async def infer(self, document: Any = None, **options: Any) -> tuple[int, dict[str, Any]]:
        document = body() if document is None else document
        async with self.session.post(self.url + INFER, json=document, **options) as response:
            assert response.headers["x-model-version"] == self.ranker.settings.version
            return response.status, await response.json()

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.url + path) as response:
            assert response.headers["x-model-version"] == self.ranker.settings.version
            return response.status, await response.text()

    async def post_faults(self, document: Any) -> tuple[int, dict[str, Any]]:
        async with self.session.post(self.control + "/faults", json=document) as response:
            return response.status, await response.json()


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Caller]:
    ranker = Ranker(Settings(host=LOOPBACK, port=0, control_port=0, **settings))
    ports = await ranker.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Caller(ranker, ports, session)
    finally:
        await ranker.close()


async def test_answers_as_the_protocol_says() -> None:
    async with running(version="7") as caller:
        status, answer = await caller.infer(body(rows=3))
        assert status == 200
        assert (answer["model_name"], answer["model_version"], answer["id"]) == ("ranker", "7", "42")
        (scores,) = answer["outputs"]
        assert scores["shape"] == [3]
        assert all(0 < score < 1 for score in scores["data"])

        status, metadata = await caller.get("/v2/models/ranker")
        assert status == 200
        assert json.loads(metadata)["versions"] == ["7"]
        assert (await caller.get("/v2/health/live"))[0] == 200
        assert (await caller.get("/v2/health/ready"))[0] == 200
        assert (await caller.get("/v2/models/other"))[0] == 404


async def test_request_id_is_echoed() -> None:
    async with (
        running() as caller,
        caller.session.post(caller.url + INFER, json=body(), headers={"x-request-id": "r-1"}) as response,
    ):
        assert response.headers["x-request-id"] == "r-1"


async def test_malformed_http_is_answered_with_the_version(caplog: pytest.LogCaptureFixture) -> None:
    async with running(version="7") as caller:
        reader, writer = await asyncio.open_connection(LOOPBACK, int(caller.url.rpartition(":")[2]))
        writer.write(b"no http\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.0 400")
    assert b"x-model-version: 7" in answer


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([], "inputs"),
        ({"inputs": []}, "inputs"),
        (body(name="other"), "inputs[0]"),
        (body(datatype="BYTES"), "inputs[0]"),
        (body(shape=[8]), "inputs[0].shape"),
        (body(shape=[0, 8]), "inputs[0].shape"),
        (body(shape=[True, 8]), "inputs[0].shape"),
        (body(shape=[2, 8]), "inputs[0].data"),
        (body(data=["a"] * 8), "inputs[0].data"),
        (body(data=[float("nan")] * 8), "inputs[0].data"),
        (body(data={}), "inputs[0].data"),
        (body(data=[10**400] * 8), "JSON"),
    ],
)
async def test_bad_input_is_named(document: Any, named: str) -> None:
    async with running() as caller:
        status, answer = await caller.infer(document)
        assert status == 400
        assert named in answer["error"]
        assert caller.ranker.metrics.requests == {200: 0, 400: 1, 500: 0}


async def test_nested_rows_score_as_flat_ones() -> None:
    async with running() as caller:
        flat = (await caller.infer(body(rows=2)))[1]
        nested = (await caller.infer(body(rows=2, data=[[0.1] * 8] * 2)))[1]
        assert flat == nested


def test_versions_score_alike_but_not_the_same() -> None:
    one, two = server.weights_of("1"), server.weights_of("2")
    assert one != two
    assert all(abs(a - b) < 0.001 for a, b in zip(one, two, strict=True))
    assert server.weights_of("1") == one


async def test_not_ready_until_started_up() -> None:
    async with running(startup_seconds=0.3) as caller:
        assert (await caller.get("/v2/health/ready"))[0] == 503
        assert (await caller.get("/v2/health/live"))[0] == 200
        assert (await caller.infer())[0] == 503
        await asyncio.sleep(0.35)
        assert (await caller.get("/v2/health/ready"))[0] == 200
        assert (await caller.infer())[0] == 200


async def test_latency_is_waited_and_measured() -> None:
    async with running(latency_ms=60, latency_jitter_ms=10) as caller:
        begun = time.perf_counter()
        await caller.infer()
        assert time.perf_counter() - begun >= 0.06
        text = (await caller.get("/metrics"))[1]
        assert 'model_request_duration_seconds_bucket{le="0.05"} 0' in text
        assert 'model_request_duration_seconds_bucket{le="+Inf"} 1' in text
        assert "model_request_duration_seconds_count 1" in text


def test_exposition_starts_at_zero_and_cumulates() -> None:
    metrics = Metrics()
    text = metrics.exposition()
    assert 'model_requests_total{code="200"} 0\nmodel_requests_total{code="500"} 0\n' in text
    edges = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.2", "0.3", "0.4", "0.5", "0.505", "0.75")
    for edge in (*edges, "1.0", "2.5", "5.0", "+Inf"):
        assert f'_bucket{{le="{edge}"}} 0' in text
    for seconds in (0.5, 0.503, 9.0):
        metrics.observe(200, seconds)
    text = metrics.exposition()
    for edge, count in (("0.4", 0), ("0.5", 1), ("0.505", 2), ("5.0", 2), ("+Inf", 3)):
        assert f'_bucket{{le="{edge}"}} {count}' in text


async def test_planned_faults_begin_after_the_first_request() -> None:
    async with running(fault_after_seconds=0.3, fault_error_rate=1.0, fault_latency_ms=50) as caller:
        await asyncio.sleep(0.35)
        assert (await caller.infer())[0] == 200
        await asyncio.sleep(0.35)
        begun = time.perf_counter()
        assert (await caller.infer())[0] == 500
        assert time.perf_counter() - begun >= 0.05
        assert (await caller.get("/v2/health/ready"))[0] == 200
        assert (await caller.get("/v2/health/live"))[0] == 200
        assert caller.ranker.metrics.requests == {200: 1, 500: 1}


async def test_faults_by_the_control_port_hold_at_once() -> None:
    async with running(fault_after_seconds=60, fault_error_rate=1.0) as caller:
        await caller.infer()
        status, state = await caller.post_faults({"error_rate": 0.3})
        assert (status, state) == (200, {"error_rate": 0.3, "latency_ms": 0.0, "planned": False})
        statuses = [(await caller.infer())[0] for _ in range(20)]
        assert statuses.count(500) == 6
        await caller.post_faults({"error_rate": 0, "latency_ms": 5})
        async with caller.session.get(caller.control + "/faults") as response:
            assert await response.json() == {"error_rate": 0, "latency_ms": 5, "planned": False}


@pytest.mark.parametrize("wrong", [[], {"rate": 1}, {"error_rate": 2}, {"latency_ms": "1"}, {"crash": 1}])
async def test_wrong_faults_are_refused(wrong: Any) -> None:
    async with running() as caller:
        status, answer = await caller.post_faults(wrong)
        assert status == 400
        assert answer["error"]


def test_settings_name_the_variable_that_is_wrong() -> None:
    assert Settings.from_env({"MODEL_VERSION": "3", "FAULT_CRASH": "true"}).fault_crash
    with pytest.raises(SystemExit, match="FAULT_ERROR_RATE"):
        Settings.from_env({"FAULT_ERROR_RATE": "30"})
    with pytest.raises(SystemExit, match="LATENCY_MS"):
        Settings.from_env({"LATENCY_MS": "slow"})


# As a process of its own

Starter = Callable[..., Awaitable[tuple[asyncio.subprocess.Process, str]]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def start_process() -> AsyncIterator[Starter]:
    processes: list[asyncio.subprocess.Process] = []

    async def start(**env: str) -> tuple[asyncio.subprocess.Process, str]:
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(server.__file__)),
            env={**os.environ, "HOST": LOOPBACK, "PORT": str(port), "CONTROL_PORT": "0", **env},
            stderr=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        assert process.stderr
        await asyncio.wait_for(process.stderr.readline(), 20)
        return process, f"http://{LOOPBACK}:{port}{INFER}"

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_sigterm_finishes_what_is_in_flight(start_process: Starter) -> None:
    process, url = await start_process(LATENCY_MS="600")
    async with aiohttp.ClientSession() as session:
        request = asyncio.create_task(session.post(url, json=body()))
        await asyncio.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        async with session.post(url, json=body()) as late:  # before the endpoint is taken away
            assert late.status == 200
            assert late.headers["connection"] == "close"
        async with await request as response:
            assert response.status == 200
        begun = time.perf_counter()
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert time.perf_counter() - begun < 3


async def test_planned_crash_ends_the_process(start_process: Starter) -> None:
    process, url = await start_process(FAULT_CRASH="true", FAULT_AFTER_SECONDS="0.2")
    async with aiohttp.ClientSession() as session, session.post(url, json=body()) as response:
        assert response.status == 200
    assert await asyncio.wait_for(process.wait(), 10) == 1
