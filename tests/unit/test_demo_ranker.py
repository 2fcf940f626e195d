"""The sample model server: protocol, faults, metrics and its way out."""

from __future__ import annotations

import asyncio
import itertools
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
from hack.demo.ranker.server import DURATION_BUCKETS, Metrics, Plan, Ranker, Settings, Share

INFER = "/v2/models/ranker/infer"
NO_FAULTS = {"error_rate": 0, "error_clump": 1, "latency_ms": 0, "tail_share": 0, "tail_ms": 0, "planned": False}
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
    for edge in (*DURATION_BUCKETS, "+Inf"):
        assert f'_bucket{{le="{edge}"}} 0' in text
    for seconds in (0.5, 0.503, 9.0):
        metrics.observe(200, seconds)
    text = metrics.exposition()
    for edge, count in (("0.4", 0), ("0.5", 1), ("0.505", 2), ("5.0", 2), ("+Inf", 3)):
        assert f'_bucket{{le="{edge}"}} {count}' in text


def test_edges_are_5_ms_apart_where_versions_have_their_p95() -> None:
    assert list(DURATION_BUCKETS) == sorted(DURATION_BUCKETS)
    for edge in (0.005, 0.01, 0.015, 0.02, 0.06, 0.08, 0.38, 0.385, 0.39, 0.395, 0.4, 0.5):
        assert {edge, round(edge + 0.005, 3)} <= set(DURATION_BUCKETS)


async def test_planned_faults_begin_after_the_first_request() -> None:
    async with running(fault_after_seconds=0.3, faults=Plan(error_rate=1.0, latency_ms=50)) as caller:
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
    async with running(fault_after_seconds=60, faults=Plan(error_rate=1.0)) as caller:
        await caller.infer()
        status, state = await caller.post_faults({"error_rate": 0.3})
        assert (status, state) == (200, {**NO_FAULTS, "error_rate": 0.3})
        statuses = [(await caller.infer())[0] for _ in range(20)]
        assert statuses.count(500) == 6
        await caller.post_faults({"error_rate": 0, "latency_ms": 5})
        async with caller.session.get(caller.control + "/faults") as response:
            assert await response.json() == {**NO_FAULTS, "latency_ms": 5}


def runs_of(picked: list[bool]) -> list[int]:
    """Lengths of the unbroken rows of picked ones."""
    return [len(list(of)) for is_picked, of in itertools.groupby(picked) if is_picked]


@pytest.mark.parametrize(("share", "clump"), [(0.01, 1), (0.01, 5), (0.3, 1), (0.3, 7), (0.9, 20), (1.0, 3)])
def test_a_share_is_kept_in_the_long_run_however_it_clumps(share: float, clump: int) -> None:
    chosen = Share(share, clump)
    picked = [chosen.picks_next() for _ in range(10_000)]

    assert sum(picked) == pytest.approx(10_000 * share, abs=clump)
    assert all(length % clump == 0 for length in runs_of(picked)[:-1]), "a clump is never interrupted"
    if share < 0.5:
        assert set(runs_of(picked)[:-1]) == {clump}


def test_no_share_picks_nothing() -> None:
    chosen = Share(0.0, 5)
    assert not any(chosen.picks_next() for _ in range(1000))


async def test_errors_come_in_clumps_from_the_environment_on() -> None:
    async with running(faults=Plan(error_rate=0.2, error_clump=5)) as caller:
        failed = [(await caller.infer())[0] == 500 for _ in range(60)]
        assert runs_of(failed) == [5, 5]
        await caller.post_faults({"error_clump": 2})
        failed = [(await caller.infer())[0] == 500 for _ in range(22)]
        assert runs_of(failed) == [2, 2], "the pattern begins anew, the rate stays"


async def test_a_slow_tail_is_spread_evenly_and_measured() -> None:
    async with running(latency_ms=1, faults=Plan(tail_share=0.25, tail_ms=110)) as caller:
        for _ in range(12):
            await caller.infer()
        text = (await caller.get("/metrics"))[1]
    assert 'model_request_duration_seconds_bucket{le="0.1"} 9\n' in text
    assert "model_request_duration_seconds_count 12\n" in text


async def test_metrics_begin_anew_without_a_restart() -> None:
    async with running(faults=Plan(error_rate=0.5)) as caller:
        before = (await caller.get("/metrics"))[1]
        for _ in range(5):
            await caller.infer()
        status, state = await caller.post_faults({"reset_metrics": True})
        assert (status, state["error_rate"]) == (200, 0.5), "the faults stay"
        assert (await caller.get("/metrics"))[1] == before
        assert [(await caller.infer())[0] for _ in range(2)].count(500) == 1
        assert sum(caller.ranker.metrics.requests.values()) == 2


async def test_planned_reset_of_the_metrics() -> None:
    async with running(fault_after_seconds=0.1, fault_reset_metrics=True) as caller:
        await caller.infer()
        assert caller.ranker.metrics.requests[200] == 1
        await asyncio.sleep(0.2)
        assert caller.ranker.metrics.requests[200] == 0


WRONG_FAULTS: list[Any] = [
    [],
    {"rate": 1},
    {"error_rate": 2},
    {"error_clump": 0},
    {"error_clump": 1.5},
    {"latency_ms": "1"},
    {"tail_share": -0.1},
    {"tail_ms": 1e9},
    {"crash": 1},
    {"reset_metrics": "yes"},
]


@pytest.mark.parametrize("wrong", WRONG_FAULTS)
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
    with pytest.raises(SystemExit, match=r"FAULT_ERROR_CLUMP='0' is not within 1..1000"):
        Settings.from_env({"FAULT_ERROR_CLUMP": "0"})
    with pytest.raises(SystemExit, match=r"FAULT_ERROR_CLUMP=1.5 is not a whole number"):
        Settings.from_env({"FAULT_ERROR_CLUMP": "1.5"})
    with pytest.raises(SystemExit, match="FAULT_TAIL_SHARE"):
        Settings.from_env({"FAULT_TAIL_SHARE": "2"})
    given = {"FAULT_ERROR_RATE": "0.1", "FAULT_ERROR_CLUMP": "5", "FAULT_TAIL_SHARE": "0.08", "FAULT_TAIL_MS": "620"}
    assert Settings.from_env(given).faults == Plan(0.1, 5, 0.0, 0.08, 620.0)


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
