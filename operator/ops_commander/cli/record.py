"""`ops-commander record`: writes down what a deployment's decisions were made of."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops_commander.cli import recordings

if TYPE_CHECKING:
    from ops_commander.core.recordings.recording import Recording
    from ops_commander.runtime.recorder import Recorder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="name of the ModelRollout")
    parser.add_argument("-n", "--namespace", default=None, help="default: that of the kubeconfig's context")
    parser.add_argument("--deployment", default="", help="id: refuse any other (default: the latest)")
    recordings.add_prometheus_arguments(parser)
    parser.add_argument(
        "-o", "--output", type=Path, default=None, help="file, packed if it ends with .gz; - for standard output"
    )
    parser.set_defaults(handle=lambda arguments: _record(parser, arguments))


def _record(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    recordings.check_prometheus(parser, arguments)
    return run("record", _written(arguments))


def run(command: str, work: Any) -> int:
    """Run a coroutine; what can go wrong outside is one line on stderr."""
    from ops_commander.adapters.kubernetes import ApiError, ConfigurationError
    from ops_commander.adapters.mlflow import RunUnreadable
    from ops_commander.adapters.prometheus import QueryError
    from ops_commander.adapters.prometheus_servers import ServersProblem
    from ops_commander.core.recordings.recording import RecordingProblem

    problems = (ApiError, ConfigurationError, RunUnreadable, QueryError, ServersProblem, RecordingProblem, OSError)
    try:
        code: int = asyncio.run(work)
    except problems as error:
        return recordings.told(command, error, 1)
    return code


async def _written(arguments: argparse.Namespace) -> int:
    from ops_commander.runtime import clock
    from ops_commander.runtime.recorder import policy_of, rollout_of

    now = clock.now()  # before the status is read: what is decided later is not in it
    body, policy = await bodies(arguments)
    with recordings.prometheus_servers(arguments) as servers:
        recorder, close = await recorder_for(arguments, servers, body["metadata"]["namespace"])
        try:
            rollout = rollout_of(body)
            recording, doubts = await recorder.header(rollout, policy_of(rollout, policy), now, arguments.deployment)
            for doubt in doubts:
                print(f"warning: {doubt}", file=sys.stderr)
            path = arguments.output or Path(f"{recording.deployment.id}.jsonl.gz")
            count = await write(path, recorder, recording)
        finally:
            await close()
    print(f"{recording.deployment.id}: {count} ticks written to {path}", file=sys.stderr)
    return 0


async def bodies(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The ModelRollout and its RolloutPolicy. Raises ApiError and ConfigurationError."""
    from ops_commander.adapters.kubernetes import KubernetesApi, current_namespace, load_configuration

    namespace = arguments.namespace or current_namespace(arguments.kubeconfig)
    async with KubernetesApi(await load_configuration(arguments.kubeconfig)) as api:
        body = await api.get("ModelRollout", namespace, arguments.name)
        reference = body["spec"].get("policyRef")
        policy = await api.find("RolloutPolicy", namespace, reference["name"]) if reference else None
    return body, policy


async def recorder_for(arguments: argparse.Namespace, servers: Any, namespace: str) -> tuple[Recorder, Any]:
    """A recorder for a namespace, and what closes it. Raises ServersProblem."""
    from ops_commander.adapters.mlflow import MLflow
    from ops_commander.adapters.prometheus_servers import ServersProblem
    from ops_commander.runtime.recorder import Recorder

    source = servers.server_for(namespace)
    if source is None:
        raise ServersProblem(f"{arguments.prometheus_config} has no server for namespace {namespace}")
    mlflow = MLflow(arguments.mlflow_url, timeout=30.0) if arguments.mlflow_url else None

    async def close() -> None:
        if mlflow is not None:
            await mlflow.close()

    return Recorder(source, arguments.interval, recordings.stale_after(arguments), mlflow), close


async def write(path: Path, recorder: Recorder, recording: Recording) -> int:
    """Read all ticks into a file, and say on stderr how far it is. The number of ticks."""
    from ops_commander.adapters import recordings as files
    from ops_commander.runtime.recorder import TICKS_AT_ONCE, evidence_span

    span, count = evidence_span(recording), 0
    with files.written(path, recording) as keep:
        if span is not None:
            total = int((span[1] - span[0]) / recording.interval) + 1
            async for tick in recorder.ticks(recording, *span):
                keep(tick)
                count += 1
                if count % TICKS_AT_ONCE == 0:
                    print(f"{count} of {total} ticks", file=sys.stderr)
    return count
