"""The comparer's process with a real MLflow: its evidence is there at the end, and MLflow's end disturbs nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from ops_commander.adapters.mlflow_artifacts import MLflowArtifacts
from tests.integration.controlplane import free_ports
from tests.integration.mlflow_server import MLflowServer
from tests.unit.comparer.servers import Model, serving

ROOT = Path(__file__).parents[2]
FOLDER = "ops-commander/ranker-abc-3"


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    with MLflowServer.start(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@dataclass
class Process:
    port: int
    metrics_port: int
    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession

    async def ask(self, requests: int) -> None:
        """Mirror some, and wait until they are compared."""
        for number in range(requests):
            headers = {"x-request-id": f"id-{number}"}
            url = f"http://127.0.0.1:{self.port}/predict"
            async with self.session.post(url, data=b"{}", headers=headers) as response:
                assert response.status == 202
        while True:
            if await self.number("pairs_total") >= requests:
                return
            await asyncio.sleep(0.05)

    async def number(self, name: str) -> float:
        async with self.session.get(f"http://127.0.0.1:{self.metrics_port}/metrics") as response:
            lines = (await response.text()).splitlines()
        (found,) = [line for line in lines if line.startswith(f"ops_commander_comparison_{name} ")]
        return float(found.split()[1])

    async def ended(self) -> tuple[list[str], str]:
        """After SIGTERM: what it printed, and its log."""
        self.process.terminate()
        out, errors = await self.process.communicate()
        assert self.process.returncode == 0, errors
        return out.decode().splitlines(), errors.decode()


@asynccontextmanager
async def comparer(mlflow_url: str, run_id: str) -> AsyncIterator[Process]:
    port, metrics_port = free_ports(2)
    told = {
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "DEPLOYMENT_ID": "ranker-abc-3",
        "MLFLOW_URL": mlflow_url,
        "RUN_ID": run_id,
        "EVIDENCE_PATH": FOLDER,
    }
    async with (
        serving(Model({"label": "cat", "score": 0.5})) as stable,
        serving(Model({"score": 0.5})) as candidate,
        aiohttp.ClientSession() as session,
        asyncio.timeout(60),
    ):
        told |= {"STABLE_URL": stable.url, "CANDIDATE_URL": candidate.url}
        environment = {f"OPS_COMMANDER_COMPARE_{name}": value for name, value in told.items()}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ops_commander", "compare"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT / "operator"), **environment},
        )
        try:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{metrics_port}/readyz") as response:
                        assert response.status == 200
                        break
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.05)
            yield Process(port, metrics_port, process, session)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_evidence_is_in_the_run_when_the_process_has_ended(mlflow: MLflowServer, tmp_path: Path) -> None:
    run = mlflow.new_run()
    async with comparer(mlflow.url, run) as process:
        await process.ask(3)
        printed, _ = await process.ended()

    artifacts = MLflowArtifacts(mlflow.url)
    try:
        names = {item.path for item in await artifacts.list(run, f"{FOLDER}/deployment/shadow")}
        assert names == {f"{FOLDER}/deployment/shadow/{name}" for name in ("metrics.log", "worst_pairs.jsonl")}
        digest, _ = await artifacts.digest(run, f"{FOLDER}/deployment/shadow/metrics.log", max_bytes=10_000)
        pairs = tmp_path / "pairs"
        await artifacts.download(run, f"{FOLDER}/deployment/shadow/worst_pairs.jsonl", pairs, max_bytes=100_000)
    finally:
        await artifacts.close()
    assert digest == hashlib.sha256("".join(f"{line}\n" for line in printed).encode()).hexdigest()
    last = json.loads(printed[-1])
    assert (last["deploymentId"], last["pairs"], last["regressions"]) == ("ranker-abc-3", 3, {"field_drop": 3})
    kept = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert [pair["findings"][0]["path"] for pair in kept] == ["/label"] * 3


async def test_without_mlflow_it_compares_and_ends_all_the_same() -> None:
    (port,) = free_ports(1)
    async with comparer(f"http://127.0.0.1:{port}", "0123456789abcdef") as process:
        await process.ask(3)
        printed, log = await process.ended()

    assert json.loads(printed[-1])["pairs"] == 3
    assert "evidence for run 0123456789abcdef was not uploaded" in log
