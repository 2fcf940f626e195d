"""A scripted Prometheus: counters of all pods as functions of time, and faults that begin at a given instant.

It watches the pods. The first revision of a rollout that it sees is the stable one; every other is a candidate. Series
have the names and labels that the `http/*` presets look for. There is no scrape: a counter can be read at any instant,
so what a scrape adds is not in the figures.

python -m benchmarks.prometheus PORT API_URL CA_FILE TOKEN_FILE
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from benchmarks.api import Api
from ops_commander.core import names
from ops_commander.runtime import clock

STABLE_RATE = 90.0
"""Requests per second and pod; two pods."""
CANDIDATE_RATE = 20.0
"""One pod at weight 10."""
HISTORY = 3600.0
"""So long before this began the stable pods are said to have begun."""
ERRORS = 0.001
BAD_ERRORS = 0.2
EDGES = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf")
WITHIN = (0.0, 0.02, 0.2, 0.6, 0.93, 0.99, 0.998, 1.0, 1.0, 1.0, 1.0, 1.0)
"""Share of the requests up to each edge."""
SLOW = (0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.5, 0.8, 0.95, 1.0, 1.0, 1.0)
STALL_SECONDS = 3.0

MODES = ("errors", "slow", "nan", "empty", "unavailable", "stall", "none")
"""Faults. `unavailable` (503) and `stall` concern every answer: one query is asked for all rollouts together."""

Owner = tuple[str, str]
_SCOPE = re.compile(r'namespace="([^"]*)",\s*pod=~"(.*?)-\[a-z0-9\]\+"')


@dataclass(frozen=True, slots=True)
class Fault:
    mode: str
    at: float


@dataclass(slots=True)
class Pod:
    """One pod's counters."""

    owner: Owner
    name: str
    rate: float
    born: float
    rows: dict[str, list[str]] = field(default_factory=dict)

    def values(self, kind: str, at: float, fault: Fault | None) -> list[str]:
        """By row of that kind, empty where the pod has none at that instant."""
        past = max(0.0, at - self.born)
        since = max(0.0, at - fault.at) if fault else 0.0
        mode = fault.mode if fault and since else ""
        if at < self.born or mode == "empty":
            return []
        if mode == "nan":
            return ["NaN"] * len(self.rows[kind])
        if kind == "buckets":
            slow = since if mode == "slow" else 0.0
            shares = zip(WITHIN, SLOW, strict=True)
            return [str(int(self.rate * ((past - slow) * good + slow * bad))) for good, bad in shares]
        more = since if mode == "errors" else 0.0
        bad = int(self.rate * ((past - more) * ERRORS + more * BAD_ERRORS))
        return [str(bad)] if kind == "errors" else [str(int(self.rate * past) - bad), str(bad)]

    def label(self, number: int) -> None:
        """The rows' labels as JSON, made once."""
        common = {
            "container": "model",
            "endpoint": "http",
            "instance": f"10.{128 + number // 65536}.{number // 256 % 256}.{number % 256}:8080",
            "job": "models",
            "method": "POST",
            "namespace": self.owner[0],
            "pod": self.name,
        }
        requests = [{"__name__": "http_requests_total", "status": code, **common} for code in ("200", "500")]
        buckets = [{"__name__": "http_request_duration_seconds_bucket", "le": edge, **common} for edge in EDGES]
        by_kind = {"requests": requests, "errors": requests[1:], "buckets": buckets}
        self.rows = {kind: [f'{{"metric":{json.dumps(row)},' for row in rows] for kind, rows in by_kind.items()}


@dataclass
class Endpoint:
    """Answers queries, follows the pods, takes orders."""

    api: Api
    pods: dict[Owner, dict[str, Pod]] = field(default_factory=dict)
    stable: dict[Owner, str] = field(default_factory=dict)
    faults: dict[Owner, Fault] = field(default_factory=dict)
    everywhere: Fault = Fault("none", 0.0)
    answers: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _number: int = 0

    async def follow(self) -> None:
        async for kind, pod in self.api.watch("api/v1/pods", labels=names.ROLLOUT_LABEL):
            self._take(kind, pod)

    def _take(self, kind: str, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        labels, namespace = metadata["labels"], metadata["namespace"]
        revision = labels[names.REVISION_LABEL]
        rollout = (namespace, labels[names.ROLLOUT_LABEL])
        stable = self.stable.setdefault(rollout, revision) == revision
        owner = (namespace, names.replica_set_name(rollout[1], revision))
        of_owner = self.pods.setdefault(owner, {})
        if kind == "DELETED":
            of_owner.pop(metadata["name"], None)
            return
        running = any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in pod.get("status", {}).get("conditions") or []
        )
        if running and metadata["name"] not in of_owner:
            self._number += 1
            born = clock.now().timestamp() - (HISTORY if stable else 0.0)
            made = Pod(owner, metadata["name"], STABLE_RATE if stable else CANDIDATE_RATE, born)
            made.label(self._number)
            of_owner[made.name] = made

    async def instant(self, request: web.Request) -> web.StreamResponse:
        form, started = await request.post(), time.perf_counter()
        kind, at = kind_of(str(form["query"])), float(str(form["time"]))
        refused = await self._everywhere()
        served = clock.now().timestamp()
        rows = list(self._instant(kind, at, f'"value":[{at:.3f},"'))
        answer = refused or _answer("vector", rows)
        self.counts[kind] += 1
        seconds = time.perf_counter() - started
        self.answers.append({"kind": kind, "at": at, "served": served, "rows": len(rows), "seconds": seconds})
        return answer

    def _instant(self, kind: str, at: float, prefix: str) -> Iterator[str]:
        for owner, pods in self.pods.items():
            fault = self.faults.get(owner)
            for pod in pods.values():
                for row, value in zip(pod.rows[kind], pod.values(kind, at, fault), strict=False):
                    yield f'{row}{prefix}{value}"]}}'

    async def range(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        query = str(form["query"])
        kind = kind_of(query)
        start, end, step = (float(str(form[name])) for name in ("start", "end", "step"))
        ticks = [start + number * step for number in range(int((end - start) / step + 1.5))]
        self.counts[f"range {kind}"] += 1
        refused = await self._everywhere()
        return refused or _answer("matrix", list(self._range(self.owner_of(query), kind, ticks)))

    @staticmethod
    def owner_of(query: str) -> Owner:
        """Whose pods a query with a scope asks for."""
        scope = _SCOPE.search(query)
        return (scope[1], scope[2].replace("\\", "")) if scope else ("", "")

    def _range(self, owner: Owner, kind: str, ticks: list[float]) -> Iterator[str]:
        fault = self.faults.get(owner)
        for pod in self.pods.get(owner, {}).values():
            columns = [(tick, pod.values(kind, tick, fault)) for tick in ticks]
            for number, row in enumerate(pod.rows[kind]):
                values = ",".join(f'[{tick:.3f},"{of[number]}"]' for tick, of in columns if of)
                if values:
                    yield f'{row}"values":[{values}]}}'

    async def _everywhere(self) -> web.Response | None:
        """What concerns every answer."""
        if clock.now().timestamp() < self.everywhere.at:
            return None
        if self.everywhere.mode == "stall":
            await asyncio.sleep(STALL_SECONDS)
        return web.Response(status=503, text="unavailable") if self.everywhere.mode == "unavailable" else None

    async def order(self, request: web.Request) -> web.Response:
        """{"mode": …, "at": …, "owners": [[namespace, ReplicaSet], …]}"""
        said = await request.json()
        fault = Fault(said["mode"], said["at"])
        if said["mode"] in ("unavailable", "stall", "none"):
            self.everywhere = fault
        for owner in said["owners"]:
            self.faults[tuple(owner)] = fault
        return web.json_response({})

    async def said(self, request: web.Request) -> web.Response:
        """Counts since the beginning, and the instant answers from an instant on."""
        since = float(request.query.get("since", "inf"))
        answers = [answer for answer in self.answers if answer["served"] >= since]
        pods = sum(map(len, self.pods.values()))
        return web.json_response({"counts": self.counts, "answers": answers, "pods": pods})


def kind_of(query: str) -> str:
    if "_bucket" in query:
        return "buckets"
    return "errors" if "5.." in query else "requests"


def _answer(kind: str, rows: list[str]) -> web.Response:
    """Compressed, as Prometheus does."""
    text = f'{{"status":"success","data":{{"resultType":"{kind}","result":[{",".join(rows)}]}}}}'
    body = gzip.compress(text.encode(), 1)
    return web.Response(body=body, content_type="application/json", headers={"Content-Encoding": "gzip"})


async def serve(port: int, api: Api) -> None:
    endpoint = Endpoint(api)
    app = web.Application()
    app.router.add_post("/api/v1/query", endpoint.instant)
    app.router.add_post("/api/v1/query_range", endpoint.range)
    app.router.add_post("/control/fault", endpoint.order)
    app.router.add_get("/control/said", endpoint.said)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with api:
        await endpoint.follow()


def main() -> None:
    port, url, ca, token = sys.argv[1:]
    asyncio.run(serve(int(port), Api(url, Path(ca), Path(token).read_text())))


if __name__ == "__main__":
    main()
