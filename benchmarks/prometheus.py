"""A scripted Prometheus: counters of all pods, and faults that begin at a given instant.

It watches pods, Services and HTTPRoutes. Each rollout gets the same number of requests all the time; its pods share
them as route and Services say at that moment. The first pods of a rollout have an hour behind them. Series have the
names and labels that the `http/*` presets look for. There is no scrape: a counter can be read at any instant, so what a
scrape adds is not in the figures.

python -m benchmarks.prometheus PORT API_URL CA_FILE TOKEN_FILE [REQUESTS_PER_SECOND]
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from benchmarks.api import Api
from benchmarks.pod_counters import BAD_ERRORS, Fault, Owner, Pod
from ops_commander.core import names
from ops_commander.runtime import clock

__all__ = ["BAD_ERRORS", "CANDIDATE_RATE", "MODES", "RATE", "Owner"]

RATE = 200.0
"""Requests per second of a rollout."""
CANDIDATE_RATE = RATE / 10
"""At weight 10."""
FIRST_PODS = 2
HISTORY = 3600.0
STALL_SECONDS = 3.0
KEPT_ANSWERS = 20_000

_OF_EVERY_ANSWER = ("unavailable", "stall", "none")
MODES = ("errors", "slow", "nan", "empty", *_OF_EVERY_ANSWER)
"""Faults. `unavailable` (503) and `stall` concern every answer: one query is asked for all rollouts together."""

NO_FAULT = Fault("none", 0.0)
_NAMESPACES = re.compile(r'namespace=~?"([^"]*)"')
_PODS = re.compile(r'pod=~"([^"]*)"')
_PLAIN = re.compile(r"(?:\(\?:)?([a-z0-9.\\|-]*?)\)?-\[a-z0-9\]\+")
"""Names of ReplicaSets, one or several, and the last part of a pod's name."""


@dataclass
class Traffic:
    """Where the requests of one rollout go."""

    weights: dict[str, int] = field(default_factory=dict)
    """On the route, by Service."""
    selected: dict[str, str] = field(default_factory=dict)
    """Revisions, by Service."""
    first: str = ""
    """The revision that was seen first."""
    pods: dict[str, dict[str, Pod]] = field(default_factory=dict)
    """By revision and name."""

    def share(self, revision: str) -> float:
        every = sum(self.weights.values())
        mine = sum(weight for service, weight in self.weights.items() if self.selected.get(service) == revision)
        return mine / every if every else 0.0

    def turn(self, at: float, rate: float) -> None:
        """Pods of a revision share what it gets. Until there is a route, the first ones go on as in their past."""
        if self.weights:
            for revision, pods in self.pods.items():
                for pod in pods.values():
                    pod.turn(at, rate * self.share(revision) / len(pods))


@dataclass
class Endpoint:
    """Answers queries, follows the cluster, takes orders."""

    api: Api
    rate: float = RATE
    rollouts: dict[Owner, Traffic] = field(default_factory=dict)
    pods: dict[Owner, dict[str, Pod]] = field(default_factory=dict)
    faults: dict[Owner, Fault] = field(default_factory=dict)
    everywhere: Fault = NO_FAULT
    answers: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_ANSWERS))
    counts: Counter[str] = field(default_factory=Counter)
    _number: int = 0

    async def follow(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch("api/v1/pods", self._take_pod))
            group.create_task(self._watch("api/v1/services", self._take_service))
            group.create_task(self._watch("apis/gateway.networking.k8s.io/v1/httproutes", self._take_route))

    async def _watch(self, path: str, take: Callable[[str, dict[str, Any], Owner], None]) -> None:
        async for kind, item in self.api.watch(path, labels=names.ROLLOUT_LABEL):
            metadata = item["metadata"]
            rollout = metadata["namespace"], metadata["labels"][names.ROLLOUT_LABEL]
            take(kind, item, rollout)
            if rollout in self.rollouts:
                self.rollouts[rollout].turn(clock.now().timestamp(), self.rate)

    def _take_service(self, kind: str, service: dict[str, Any], rollout: Owner) -> None:
        if kind != "DELETED":
            revision = service["spec"].get("selector", {}).get(names.REVISION_LABEL, "")
            self.rollouts.setdefault(rollout, Traffic()).selected[service["metadata"]["name"]] = revision

    def _take_route(self, kind: str, route: dict[str, Any], rollout: Owner) -> None:
        if kind == "DELETED":
            self.rollouts.pop(rollout, None)
            return
        backends = route["spec"]["rules"][0].get("backendRefs") or []
        weights = {backend["name"]: backend.get("weight", 1) for backend in backends}
        self.rollouts.setdefault(rollout, Traffic()).weights = weights

    def _take_pod(self, kind: str, pod: dict[str, Any], rollout: Owner) -> None:
        name, revision = pod["metadata"]["name"], pod["metadata"]["labels"][names.REVISION_LABEL]
        owner = rollout[0], names.replica_set_name(rollout[1], revision)
        if kind == "DELETED":
            self._forget(owner, name, rollout, revision)
        elif _is_ready(pod) and name not in self.pods.get(owner, {}):
            traffic = self.rollouts.setdefault(rollout, Traffic())
            traffic.first = traffic.first or revision
            self._number += 1
            now, first = clock.now().timestamp(), traffic.first == revision
            pace = self.rate / FIRST_PODS if first else 0.0
            made = Pod(owner, name, [(now - HISTORY if first else now, 0.0, pace)])
            made.label(self._number)
            self.pods.setdefault(owner, {})[name] = traffic.pods.setdefault(revision, {})[name] = made

    def _forget(self, owner: Owner, name: str, rollout: Owner, revision: str) -> None:
        of_owner = self.pods.get(owner, {})
        of_owner.pop(name, None)
        if rollout in self.rollouts:
            self.rollouts[rollout].pods.get(revision, {}).pop(name, None)
        if not of_owner:
            self.pods.pop(owner, None)
            self.faults.pop(owner, None)

    # --- answers ------------------------------------------------------------------------------------

    async def instant(self, request: web.Request) -> web.StreamResponse:
        form, began = await request.post(), time.process_time()
        kind, at = kind_of(str(form["query"])), float(str(form["time"]))
        moment = f"{at:.3f}".encode()
        refused = await self._everywhere()
        served = clock.now().timestamp()
        pods = self.asked(str(form["query"]))
        parts = self._instant(pods, kind, at, moment, int(str(form.get("limit", 0))) or sys.maxsize)
        answer = refused or await _answer(request, b"vector", parts)
        self.counts[kind] += 1
        seconds = time.process_time() - began
        self.answers.append({"kind": kind, "at": at, "served": served, "pods": len(parts), "seconds": seconds})
        return answer

    def _instant(self, pods: Iterable[Pod], kind: str, at: float, moment: bytes, limit: int) -> list[bytes]:
        """One part a pod, until there are as many rows as were asked for."""
        parts, rows = [], 0
        for pod in pods:
            part = pod.instant(kind, at, moment, self.faults.get(pod.owner))
            if part:
                parts.append(part)
                rows += len(pod.rows[kind])
            if rows >= limit:
                break
        return parts

    async def range(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        query = str(form["query"])
        kind = kind_of(query)
        start, end, step = (float(str(form[name])) for name in ("start", "end", "step"))
        ticks = [start + number * step for number in range(int((end - start) / step + 1.5))]
        self.counts[f"range {kind}"] += 1
        refused = await self._everywhere()
        rows = [row for pod in self.asked(query) for row in pod.matrix(kind, ticks, self.faults.get(pod.owner))]
        return refused or await _answer(request, b"matrix", [row.encode() for row in rows])

    def asked(self, query: str) -> Iterable[Pod]:
        """Those in the namespaces and of the ReplicaSets that the query names; all where it names none."""
        namespaces, named = _NAMESPACES.search(query), _PODS.search(query)
        places = namespaces[1].replace("\\", "").split("|") if namespaces else None
        if named is None or places is None:
            there = (pods for owner, pods in self.pods.items() if places is None or owner[0] in places)
            return (pod for pods in there for pod in pods.values())
        pattern = named[1].replace("\\\\", "\\")
        plain = _PLAIN.fullmatch(pattern)
        if plain:
            owners = [(place, name) for place in places for name in plain[1].replace("\\", "").split("|")]
            return (pod for owner in owners for pod in self.pods.get(owner, {}).values())
        return self._matching(places, re.compile(pattern))

    def _matching(self, namespaces: Collection[str], pattern: re.Pattern[str]) -> Iterator[Pod]:
        for owner, pods in self.pods.items():
            if owner[0] in namespaces:
                yield from (pod for name, pod in pods.items() if pattern.fullmatch(name))

    async def _everywhere(self) -> web.Response | None:
        """What concerns every answer."""
        if not self.everywhere.holds(self.everywhere.mode, clock.now().timestamp()):
            return None
        if self.everywhere.mode == "stall":
            await asyncio.sleep(STALL_SECONDS)
        return web.Response(status=503, text="unavailable") if self.everywhere.mode == "unavailable" else None

    # --- orders -------------------------------------------------------------------------------------

    async def order(self, request: web.Request) -> web.Response:
        """{"mode": …, "at": …, "until": … or absent, "owners": [[namespace, ReplicaSet], …]}"""
        said = await request.json()
        fault = Fault(said["mode"], said["at"], said.get("until", float("inf")))
        if fault.mode not in MODES:
            return web.json_response({"error": f"mode is {fault.mode}: expected one of {MODES}"}, status=400)
        if fault.mode in _OF_EVERY_ANSWER:
            self.everywhere = fault
        self.faults.update(dict.fromkeys(map(tuple, said["owners"]), fault))
        return web.json_response({})

    async def said(self, request: web.Request) -> web.Response:
        """Counts since the beginning, and the instant answers from an instant on."""
        since = float(request.query.get("since", "inf"))
        answers = [answer for answer in self.answers if answer["served"] >= since]
        pods = sum(map(len, self.pods.values()))
        return web.json_response({"counts": self.counts, "answers": answers, "pods": pods})


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def kind_of(query: str) -> str:
    if "_bucket" in query:
        return "buckets"
    return "errors" if "5.." in query else "requests"


async def _answer(request: web.Request, kind: bytes, parts: list[bytes]) -> web.Response:
    """Compressed where the client asks for it, as Prometheus does. Others are answered meanwhile."""
    body = b'{"status":"success","data":{"resultType":"%b","result":[%b]}}' % (kind, b",".join(parts))
    headers = {"Content-Type": "application/json"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        body = await asyncio.to_thread(_packed, body) if len(body) > 2**16 else _packed(body)
    return web.Response(body=body, headers=headers)


def _packed(body: bytes) -> bytes:
    return zlib.compress(body, 1, wbits=31)


def application(endpoint: Endpoint) -> web.Application:
    app = web.Application()
    app.router.add_post("/api/v1/query", endpoint.instant)
    app.router.add_post("/api/v1/query_range", endpoint.range)
    app.router.add_post("/control/fault", endpoint.order)
    app.router.add_get("/control/said", endpoint.said)
    return app


async def serve(port: int, api: Api, rate: float) -> None:
    endpoint = Endpoint(api, rate)
    runner = web.AppRunner(application(endpoint), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with api:
        await endpoint.follow()


def main() -> None:
    port, url, ca, token, *rate = sys.argv[1:]
    api = Api(url, Path(ca), Path(token).read_text())
    asyncio.run(serve(int(port), api, float(rate[0]) if rate else RATE))


if __name__ == "__main__":
    main()
