"""`ops-commander compare`: its settings, and the process itself."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from ops_commander.api.comparison import Comparison, Payloads
from ops_commander.cli import compare, main
from ops_commander.comparer.settings import Settings
from tests.unit.comparer.servers import Model, serving

ROOT = Path(__file__).parents[3]
URLS = ("--stable-url=http://ranker-stable:8080", "--candidate-url=http://ranker-candidate:8080")


def settings_of(*flags: str, **environment: str) -> Settings:
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser, environment)
    return compare.settings_from(parser.parse_args(flags))


def test_flags_come_before_the_environment_and_that_before_the_defaults() -> None:
    comparison = {"sample": 25, "tolerance": {"absolute": 0.01}, "payloads": "Hashed", "timeout": "2s"}
    settings = settings_of(
        *URLS,
        "--port=9000",
        OPS_COMMANDER_COMPARE_PORT="1",
        OPS_COMMANDER_COMPARE_COMPARISON=json.dumps(comparison),
        OPS_COMMANDER_COMPARE_DEPLOYMENT_ID="ranker-abc-3",
    )
    assert (settings.port, settings.metrics_port, settings.deployment_id) == (9000, 8081, "ranker-abc-3")
    assert settings.comparison.timeout == timedelta(seconds=2)
    assert (settings.comparison.sample, settings.comparison.payloads) == (25, Payloads.HASHED)
    assert settings.comparison.tolerance.relative == Comparison().tolerance.relative


def test_a_comparison_goes_through_json_unchanged() -> None:
    comparison = Comparison(ignore=["/**/at"], labels=["/label"], timeout=timedelta(milliseconds=1500), worst=3)
    text = comparison.model_dump_json(by_alias=True)
    assert settings_of(*URLS, f"--comparison={text}").comparison == comparison


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--stable-url is '': expected a URL such as"),
        ((URLS[0], "--candidate-url=ranker:80"), "--candidate-url is 'ranker:80': expected a URL such as"),
        ((*URLS, "--port=0"), "--port is '0': expected a port from 1 to 65535"),
        ((*URLS, "--metrics-port=x"), "--metrics-port is 'x': expected a port"),
        ((*URLS, "--run-id=r1"), "--mlflow-url and --run-id go together"),
        ((*URLS, "--comparison={"), "--comparison: the whole: "),
        ((*URLS, '--comparison={"sample": 0}'), "--comparison: sample: "),
        ((*URLS, '--comparison={"ignore": ["id"]}'), "--comparison: ignore.0: "),
        ((*URLS, '--comparison={"methods": ["PUT"]}'), "--comparison: methods.0: "),
        ((*URLS, '--comparison={"timeout": "0s"}'), "--comparison: timeout: "),
        ((*URLS, '--comparison={"memory": "much"}'), "--comparison: memory: "),
        ((*URLS, '--comparison={"tolerance": {"absolute": -1}}'), "--comparison: tolerance.absolute: "),
    ],
)
def test_a_wrong_flag_is_named_with_its_value_and_what_was_expected(flags: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=r"^--") as error:
        settings_of(*flags)
    assert str(error.value).startswith(said)


def test_a_wrong_flag_ends_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["compare"])
    assert ended.value.code == 2
    assert "--stable-url is ''" in capsys.readouterr().err


def test_the_process_brings_no_operator_along() -> None:
    code = (
        "import sys; from ops_commander.cli import compare; from ops_commander.comparer import app;"
        "from ops_commander.runtime import clock, logs;"
        "assert not {'kopf', 'kubernetes', 'mlflow', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def listens(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


async def test_the_process_compares_and_ends_on_sigterm_with_a_last_line() -> None:
    port, metrics_port = free_port(), free_port()
    async with serving(Model({"a": 1})) as stable, serving(Model({})) as candidate:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ops_commander", "compare", f"--port={port}", f"--metrics-port={metrics_port}"),
            *(f"--stable-url={stable.url}", f"--candidate-url={candidate.url}", "--deployment-id=ranker-abc-3"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
        )
        try:
            async with asyncio.timeout(20), aiohttp.ClientSession() as session:
                await listens(metrics_port)
                async with session.post(f"http://127.0.0.1:{port}/predict", data=b"{}") as response:
                    assert response.status == 202
                process.terminate()
                out, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, errors
    last = json.loads(out.decode().splitlines()[-1])
    assert (last["deploymentId"], last["pairs"], last["regressions"]) == ("ranker-abc-3", 1, {"field_drop": 1})
