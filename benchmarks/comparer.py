"""How many pairs a second the shadow comparer does on one core: `python -m benchmarks.comparer`, some 15 s.

The comparer is a process of its own, as in its pod, between two model servers that answer from memory in theirs. Each
kind of answer is offered at a fixed rate; what is measured is the comparer's CPU time by the kernel's account, so
neither the servers nor the load count. Answers of the two versions differ a little everywhere: nothing is equal, so
everything is parsed and compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import numpy as np

from benchmarks import machine
from ops_commander.api.comparison import Comparison
from ops_commander.integration.outputs.answers import Answer
from ops_commander.integration.outputs.compare import compare
from ops_commander.integration.outputs.rules import Rules

RATE: Final = 200
SECONDS: Final = 2.5
FLAT_OUT: Final = "ten predictions"
_ROOT: Final = Path(__file__).parents[1]


def answers(scale: float) -> dict[str, Answer]:
    """By kind; `scale` moves every number a little."""
    random = np.random.default_rng(7)
    scores = (random.random(768) * scale).tolist()
    tensor = (random.random(1000) * scale).astype("<f4")
    output = {"name": "y", "datatype": "FP32", "shape": [1000], "parameters": {"binary_data_size": tensor.nbytes}}
    head = json.dumps({"model_name": "ranker", "outputs": [output]}).encode()
    words = " ".join(random.choice(["alpha", "beta", "gamma", "delta"], 300).tolist())
    rows = [{"label": f"class-{number}", "score": scores[number]} for number in range(10)]
    return {
        "ten predictions": _json({"model": "ranker", "predictions": rows}),
        "embedding of 768": _json({"embedding": scores}),
        "tensor of 1000 FP32": Answer(
            200,
            {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))},
            head + tensor.tobytes(),
        ),
        "text of 300 words": _json({"text": words if scale == 1.0 else words[::-1]}),
    }


def _json(value: object) -> Answer:
    return Answer(200, {"content-type": "application/json"}, json.dumps(value).encode())


class _Server(asyncio.Protocol):
    """Answers every request by the last part of its path, with as little work as can be."""

    known: Mapping[bytes, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            length = re.search(rb"(?i)content-length: (\d+)", head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._data) < whole:
                return
            self._data = self._data[whole:]
            assert isinstance(self._transport, asyncio.WriteTransport)
            self._transport.write(self.known[head.split(b" ", 2)[1]])


def serve(listener: socket.socket, scale: float) -> None:
    """A model server, until it is ended."""

    async def main() -> None:
        for number, answer in enumerate(answers(scale).values()):
            told = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
            head = f"HTTP/1.1 200 OK\r\n{told}content-length: {len(answer.body)}\r\n\r\n"
            _Server.known = {**_Server.known, f"/{number}".encode(): head.encode() + answer.body}
        server = await asyncio.get_running_loop().create_server(_Server, sock=listener)
        await server.serve_forever()

    asyncio.run(main())


def _listener() -> socket.socket:
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    return found


@contextmanager
def model(scale: float) -> Iterator[str]:
    listener = _listener()
    process = multiprocessing.Process(target=serve, args=(listener, scale), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        process.terminate()
        process.join()


@dataclass(frozen=True, slots=True)
class Comparer:
    pid: int
    port: int
    metrics_port: int


@contextmanager
def comparer(stable: str, candidate: str) -> Iterator[Comparer]:
    listeners = [_listener(), _listener()]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    comparison = Comparison(concurrency=16, queue=256).model_dump_json(by_alias=True)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "ops_commander", "compare", f"--port={ports[0]}", f"--metrics-port={ports[1]}"),
            *(f"--stable-url={stable}", f"--candidate-url={candidate}", f"--comparison={comparison}"),
            "--log-level=warning",
        ],
        env={**os.environ, "PYTHONPATH": str(_ROOT / "operator")},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield Comparer(process.pid, *ports)
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class Round:
    kind: str
    offered: float
    compared: float
    dropped: float
    """All three a second."""
    cpu_ms: float
    """Of the comparer, for one pair."""


async def counts(session: aiohttp.ClientSession, which: Comparer) -> tuple[int, int]:
    """Compared, and not."""
    async with session.get(f"http://127.0.0.1:{which.metrics_port}/report") as response:
        report = await response.json()
    return report["pairs"], sum(report["dropped"].values()) + sum(report["skipped"].values())


async def offer(
    session: aiohttp.ClientSession, which: Comparer, number: int, kind: str, rate: float, seconds: float
) -> Round:
    """Requests at a steady rate over 16 connections."""
    body, url = b'{"inputs": [1, 2, 3, 4]}', f"http://127.0.0.1:{which.port}/{number}"
    began = time.perf_counter()
    total = int(rate * seconds)
    before, cpu = await counts(session, which), machine.usage(which.pid).cpu

    async def some(first: int) -> None:
        for index in range(first, total, 16):
            await asyncio.sleep(began + index / rate - time.perf_counter())
            headers = {"x-request-id": f"{kind}-{index}", "content-type": "application/json"}
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()

    await asyncio.gather(*map(some, range(16)))
    after = before
    for _ in range(500):
        after = await counts(session, which)
        if sum(after) - sum(before) >= total:
            break
        await asyncio.sleep(0.02)
    elapsed, used = time.perf_counter() - began, machine.usage(which.pid).cpu - cpu
    compared = after[0] - before[0]
    return Round(
        kind, total / elapsed, compared / elapsed, (after[1] - before[1]) / elapsed, 1000 * used / max(1, compared)
    )


async def measured(which: Comparer) -> list[Round]:
    async with aiohttp.ClientSession() as session:
        for _ in range(500):
            try:
                await counts(session, which)
                break
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.02)
        await offer(session, which, 0, "warm-up", RATE, 0.5)
        rounds = [await offer(session, which, number, kind, RATE, SECONDS) for number, kind in enumerate(answers(1.0))]
        flat_out = await offer(session, which, list(answers(1.0)).index(FLAT_OUT), f"{FLAT_OUT}, flat out", 1500, 2.0)
        return [*rounds, flat_out]


def comparing_alone() -> dict[str, float]:
    """Milliseconds of `compare` for one pair, in this process."""
    rules, stable, candidate = Rules(Comparison()), answers(1.0), answers(1.0001)
    found = {}
    for kind in stable:
        began = time.process_time()
        for _ in range(100):
            compare(stable[kind], candidate[kind], rules)
        found[kind] = (time.process_time() - began) * 10
    return found


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with ExitStack() as stack:
        stable, candidate = (stack.enter_context(model(scale)) for scale in (1.0, 1.0001))
        which = stack.enter_context(comparer(stable, candidate))
        rounds = asyncio.run(measured(which))
        resident = machine.usage(which.pid).peak
    alone = comparing_alone()
    sizes = {kind: len(answer.body) for kind, answer in answers(1.0).items()}
    lines = [
        str(__doc__),
        "| Answers | Bytes | Offered/s | Compared/s | Dropped/s | CPU a pair | of it comparing | Pairs/s a core |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in rounds:
        kind = each.kind.partition(",")[0]
        lines.append(
            f"| {each.kind} | {sizes[kind]} | {each.offered:.0f} | {each.compared:.0f} | {each.dropped:.0f} "
            f"| {each.cpu_ms:.2f} ms | {alone[kind]:.2f} ms | {1000 / each.cpu_ms:.0f} |"
        )
    told = ", ".join(f"{name} {value}" for name, value in machine.described().items())
    lines.append(f"\nResident at most: {resident:.0f} MiB. Load of the machine: {machine.load_average()[0]}; {told}.\n")
    sys.stdout.write("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
