"""Sample model server: a linear ranker speaking the Open Inference Protocol v2 (HTTP/JSON).

Port 8080 serves inference, health and /metrics; port 9090 takes faults (GET/POST /faults) for tests.
Everything is set by environment variables, see `Settings.from_env`.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import sys
import zlib
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from aiohttp import web

MODEL = "ranker"
FEATURES = 8
BASE_WEIGHTS = (0.9, -0.4, 0.3, 0.7, -0.2, 0.5, -0.6, 0.1)
MAX_ROWS = 1000
# edges 5 ms apart where versions of the demo and the tests have their P95: a drift of 5 ms is seen between two of them
FINE_BUCKETS = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.05, 0.055, 0.06, 0.065, 0.075, 0.08, 0.085)
DURATION_BUCKETS = (
    *FINE_BUCKETS,
    *(0.1, 0.2, 0.3, 0.38, 0.385, 0.39, 0.395, 0.4, 0.405, 0.5, 0.505, 0.75, 1.0, 2.5, 5.0),
)
KEEPALIVE_SECONDS = 3900.0  # longer than a proxy keeps idle connections, so that it closes first
DRAIN_QUIET_SECONDS = 0.2
DRAIN_MAX_SECONDS = 5.0
JSON_TYPE = "application/json"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


FAULT_BOUNDS: dict[str, tuple[float, float]] = {
    "error_rate": (0.0, 1.0),
    "error_clump": (1.0, 1000.0),
    "latency_ms": (0.0, 60_000.0),
    "tail_share": (0.0, 1.0),
    "tail_ms": (0.0, 60_000.0),
}
FAULT_ACTS = ("crash", "reset_metrics")


class BadRequestError(Exception):
    """The request is not one that the model can answer; the text says why."""


def whole(name: str, value: float) -> int:
    if value != int(value):
        raise SystemExit(f"{name}={value:g} is not a whole number")
    return int(value)


@dataclass(frozen=True, slots=True)
class Plan:
    """Faults that last."""

    error_rate: float = 0.0
    """Share of the requests that fail, in the long run."""
    error_clump: int = 1
    """So many fail one after the other; the rate stays."""
    latency_ms: float = 0.0
    """Added to every request."""
    tail_share: float = 0.0
    """Share of the requests that take `tail_ms`, or longer if they do so anyway."""
    tail_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Settings:
    version: str = "1"
    latency_ms: float = 0.0
    latency_jitter_ms: float = 0.0
    startup_seconds: float = 0.0
    fault_after_seconds: float = 0.0
    faults: Plan = Plan()
    fault_crash: bool = False
    fault_reset_metrics: bool = False
    host: str = "0.0.0.0"
    port: int = 8080
    control_port: int = 9090

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        def number(name: str, default: float = 0.0, maximum: float = math.inf, minimum: float = 0.0) -> float:
            raw = env.get(name, "")
            try:
                value = float(raw) if raw else default
            except ValueError:
                raise SystemExit(f"{name}={raw!r} is not a number") from None
            if not minimum <= value <= maximum:
                raise SystemExit(f"{name}={raw!r} is not within {minimum:g}..{maximum:g}")
            return value

        def fault(name: str) -> float:
            low, high = FAULT_BOUNDS[name]
            return number(f"FAULT_{name.upper()}", low, high, low)

        def flag(name: str) -> bool:
            return env.get(name, "").lower() in ("1", "true", "yes")

        return cls(
            version=env.get("MODEL_VERSION") or "1",
            latency_ms=number("LATENCY_MS"),
            latency_jitter_ms=number("LATENCY_JITTER_MS"),
            startup_seconds=number("STARTUP_SECONDS"),
            fault_after_seconds=number("FAULT_AFTER_SECONDS"),
            faults=Plan(
                error_rate=fault("error_rate"),
                error_clump=whole("FAULT_ERROR_CLUMP", fault("error_clump")),
                latency_ms=fault("latency_ms"),
                tail_share=fault("tail_share"),
                tail_ms=fault("tail_ms"),
            ),
            fault_crash=flag("FAULT_CRASH"),
            fault_reset_metrics=flag("FAULT_RESET_METRICS"),
            host=env.get("HOST") or "0.0.0.0",
            port=int(number("PORT", 8080, 65535)),
            control_port=int(number("CONTROL_PORT", 9090, 65535)),
        )


def weights_of(version: str) -> tuple[float, ...]:
    """Versions differ by less than 0.001 a weight, so that their scores agree within a tolerance."""
    return tuple(
        weight + zlib.crc32(f"{version}/{index}".encode()) % 1000 / 1e6 for index, weight in enumerate(BASE_WEIGHTS)
    )


def flattened(data: Any) -> list[float]:
    if not isinstance(data, list):
        raise BadRequestError("inputs[0].data: expected a list of numbers")
    if data and isinstance(data[0], list):
        data = [item for row in data if isinstance(row, list) for item in row]
    numbers: list[float] = data
    if not all(type(item) in (float, int) and math.isfinite(item) for item in numbers):
        raise BadRequestError("inputs[0].data: expected finite numbers only")
    return numbers


def features_of(body: Any) -> list[float]:
    """The rows of the one input tensor, checked and laid flat."""
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise BadRequestError("inputs: expected a list with one tensor")
    tensor = inputs[0]
    if tensor.get("name") != "features" or tensor.get("datatype") not in ("FP32", "FP64"):
        raise BadRequestError("inputs[0]: expected the tensor 'features' of FP32 or FP64")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or len(shape) != 2 or shape[1] != FEATURES:
        raise BadRequestError(f"inputs[0].shape: expected [rows, {FEATURES}]")
    rows = shape[0]
    if type(rows) is not int or not 1 <= rows <= MAX_ROWS:
        raise BadRequestError(f"inputs[0].shape: expected 1 to {MAX_ROWS} rows")
    data = flattened(tensor.get("data"))
    if len(data) != rows * FEATURES:
        raise BadRequestError(f"inputs[0].data: expected {rows * FEATURES} numbers, got {len(data)}")
    return data


class Metrics:
    """One counter by code and one histogram, written out by hand: a scrape costs microseconds."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As a new process has them: the same series, from 0."""
        self.requests: dict[int, int] = {200: 0, 500: 0}
        self.durations = [0] * (len(DURATION_BUCKETS) + 1)
        self.duration_sum = 0.0

    def observe(self, code: int, seconds: float) -> None:
        self.requests[code] = self.requests.get(code, 0) + 1
        self.durations[bisect_left(DURATION_BUCKETS, seconds)] += 1
        self.duration_sum += seconds

    def exposition(self) -> str:
        name = "model_request_duration_seconds"
        lines = [
            "# HELP model_requests_total Inference requests answered, by HTTP status code.",
            "# TYPE model_requests_total counter",
            *(f'model_requests_total{{code="{code}"}} {n}' for code, n in sorted(self.requests.items())),
            f"# HELP {name} Time to answer an inference request.",
            f"# TYPE {name} histogram",
        ]
        total = 0
        for edge, count in zip((*DURATION_BUCKETS, "+Inf"), self.durations, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{edge}"}} {total}')
        lines += [f"{name}_sum {self.duration_sum!r}", f"{name}_count {total}", ""]
        return "\n".join(lines)


class Share:
    """Picks a share of the requests, evenly spread and without chance: 0.3 picks 3 in every 10."""

    def __init__(self, share: float, clump: int = 1) -> None:
        self._share, self._clump = share, clump
        self._owed = 0.0
        self._left = 0

    def picks_next(self) -> bool:
        """A clump starts once all of it is owed, and is not interrupted."""
        self._owed += self._share
        if not self._left:
            if self._owed < self._clump - 1e-9:
                return False
            self._owed -= self._clump
            self._left = self._clump
        self._left -= 1
        return True


class Faults:
    """What goes wrong, and from when on. A POST to the control port replaces the plan of the environment."""

    def __init__(self, settings: Settings, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._metrics = metrics
        self._after = settings.fault_after_seconds
        self._planned = settings.faults
        self._acts = {"crash": settings.fault_crash, "reset_metrics": settings.fault_reset_metrics}
        self._is_planned = settings.faults != Plan() or any(self._acts.values())
        self._due: asyncio.TimerHandle | None = None
        self._started = False
        self._errors = self._tail = Share(0.0)
        self.plan = Plan()

    def on_first_request(self) -> None:
        """Start the clock of the planned faults."""
        if self._started:
            return
        self._started = True
        if self._is_planned and self._after > 0:
            self._due = self._loop.call_later(self._after, self._begin)
        elif self._is_planned:
            self._begin()

    def _begin(self) -> None:
        self.set(self._planned)
        if self._acts["reset_metrics"]:
            self._metrics.reset()
        if self._acts["crash"]:
            crash_now()

    def set(self, plan: Plan) -> None:
        """These from now on, from the start of their pattern."""
        self.cancel()
        self.plan = plan
        self._errors, self._tail = Share(plan.error_rate, plan.error_clump), Share(plan.tail_share)
        log(f"faults: {plan}")

    def act(self, wanted: Mapping[str, Any]) -> None:
        """What happens once."""
        if wanted.get("reset_metrics"):
            log("faults: metrics begin anew")
            self._metrics.reset()
        if wanted.get("crash"):
            self._loop.call_later(0.02, crash_now)  # the answer goes out first

    def cancel(self) -> None:
        self._started = True
        if self._due:
            self._due.cancel()
            self._due = None

    def delayed(self, latency_ms: float) -> float:
        """How long the next request takes instead."""
        latency_ms += self.plan.latency_ms
        return max(latency_ms, self.plan.tail_ms) if self._tail.picks_next() else latency_ms

    def next_is_error(self) -> bool:
        return self._errors.picks_next()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self.plan), "planned": self._due is not None}


def log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def crash_now() -> None:
    log("faults: crash")
    os._exit(1)


class _Protocol(web.RequestHandler):
    """Adds the version to what aiohttp answers by itself, e.g. to malformed HTTP."""

    __slots__ = ("_version",)

    def __init__(self, server: _Server, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._version = server.version

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        response = super().handle_error(request, status, exc, message)
        response.headers["x-model-version"] = self._version
        return response


class _Server(web.Server):
    def __init__(self, ranker: Ranker) -> None:
        super().__init__(ranker.handle)
        self.version = ranker.settings.version

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, access_log=None, keepalive_timeout=KEEPALIVE_SECONDS)


class Ranker:
    """The model server of one version: `start`, then `drain` on SIGTERM, then `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._loop = asyncio.get_running_loop()
        self.faults = Faults(settings, self.metrics, self._loop)
        self._weights = weights_of(settings.version)
        self._ready_at = self._loop.time() + settings.startup_seconds
        self._draining = False
        self._in_flight = 0
        self._last_request = 0.0
        self._runners: list[web.ServerRunner] = []
        base = f"/v2/models/{MODEL}"
        pinned = f"{base}/versions/{settings.version}"
        self._infer_paths = frozenset({f"{base}/infer", f"{pinned}/infer"})
        self._get: dict[str, Any] = {
            "/v2": {"name": "ops-commander-demo", "version": "1", "extensions": []},
            base: (metadata := self._metadata()),
            pinned: metadata,
        }
        self._ready_paths = frozenset({"/v2/health/ready", f"{base}/ready", f"{pinned}/ready"})

    def _metadata(self) -> dict[str, Any]:
        return {
            "name": MODEL,
            "versions": [self.settings.version],
            "platform": "python",
            "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, FEATURES]}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1]}],
        }

    async def start(self) -> tuple[int, int]:
        """Listen; the ports in use are returned (a port of 0 lets the system choose)."""
        service = await self._listen(_Server(self), self.settings.port)
        control = await self._listen(web.Server(self.handle_control, access_log=None), self.settings.control_port)
        log(f"{MODEL} version {self.settings.version} on port {service}, control on {control}")
        return service, control

    async def _listen(self, server: web.Server, port: int) -> int:
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, self.settings.host, port, backlog=512).start()
        return int(runner.addresses[0][1])

    async def drain(self) -> None:
        """Keep serving until nothing is in flight and callers have been told to close their connections."""
        self._draining = True
        deadline = self._loop.time() + DRAIN_MAX_SECONDS
        self._last_request = max(self._last_request, self._loop.time())
        while (now := self._loop.time()) < deadline:
            if not self._in_flight and now - self._last_request >= DRAIN_QUIET_SECONDS:
                return
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        self.faults.cancel()
        for runner in self._runners:
            await runner.cleanup()

    # Service port

    async def handle(self, request: web.BaseRequest) -> web.Response:
        path = request.raw_path.partition("?")[0]
        if path in self._infer_paths:
            if request.method != "POST":
                return self._answer(request, 405, {"error": "use POST"})
            return await self._timed_infer(request)
        if request.method not in ("GET", "HEAD"):
            return self._answer(request, 404, {"error": f"no such endpoint: {path}"})
        if path == "/v2/health/live":
            return self._answer(request, 200, {"live": True})
        if path in self._ready_paths:
            ready = self._is_ready() and not self._draining
            return self._answer(request, 200 if ready else 503, {"ready": ready})
        if path == "/metrics":
            return self._respond(request, 200, self.metrics.exposition().encode(), METRICS_TYPE)
        if (document := self._get.get(path)) is not None:
            return self._answer(request, 200, document)
        return self._answer(request, 404, {"error": f"no such endpoint or model: {path}"})

    async def _timed_infer(self, request: web.BaseRequest) -> web.Response:
        begun = self._loop.time()
        self._last_request = begun
        self._in_flight += 1
        self.faults.on_first_request()
        try:
            code, document = await self._infer(request)
            self.metrics.observe(code, self._loop.time() - begun)
            return self._answer(request, code, document)
        finally:
            self._in_flight -= 1
            self._last_request = self._loop.time()

    async def _infer(self, request: web.BaseRequest) -> tuple[int, dict[str, Any]]:
        try:
            raw = await request.read()
        except web.HTTPException as error:
            return error.status, {"error": error.reason}
        if not self._is_ready():
            return 503, {"error": "the model is still starting"}
        latency_ms = self.settings.latency_ms
        if self.settings.latency_jitter_ms:
            latency_ms += random.random() * self.settings.latency_jitter_ms
        latency_ms = self.faults.delayed(latency_ms)
        if latency_ms:
            await asyncio.sleep(latency_ms / 1000)
        if self.faults.next_is_error():
            return 500, {"error": "injected fault"}
        try:
            body = json.loads(raw)
            data = features_of(body)
        except BadRequestError as error:
            return 400, {"error": str(error)}
        except (ValueError, OverflowError, RecursionError):
            return 400, {"error": "the body is not JSON with finite numbers"}
        scores = self.score(data)
        answer: dict[str, Any] = {
            "model_name": MODEL,
            "model_version": self.settings.version,
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [len(scores)], "data": scores}],
        }
        if isinstance(identity := body.get("id"), str):
            answer["id"] = identity
        return 200, answer

    def score(self, data: list[float]) -> list[float]:
        weights = self._weights
        scores = []
        for start in range(0, len(data), FEATURES):
            linear = sum(w * x for w, x in zip(weights, data[start : start + FEATURES], strict=True))
            scores.append(round(1 / (1 + math.exp(-max(-60.0, min(60.0, linear)))), 6))
        return scores

    def _is_ready(self) -> bool:
        return self._loop.time() >= self._ready_at

    def _answer(self, request: web.BaseRequest, code: int, document: Any) -> web.Response:
        return self._respond(request, code, json.dumps(document).encode(), JSON_TYPE)

    def _respond(self, request: web.BaseRequest, code: int, body: bytes, content_type: str) -> web.Response:
        headers = {"content-type": content_type, "x-model-version": self.settings.version}
        if request_id := request.headers.get("x-request-id"):
            headers["x-request-id"] = request_id
        response = web.Response(body=body, status=code, headers=headers)
        if self._draining:
            response.force_close()
        return response

    # Control port

    async def handle_control(self, request: web.BaseRequest) -> web.Response:
        if request.raw_path.partition("?")[0] != "/faults":
            return web.json_response({"error": "only /faults is here"}, status=404)
        if request.method == "GET":
            return web.json_response(self.faults.to_json())
        if request.method != "POST":
            return web.json_response({"error": "use GET or POST"}, status=405)
        try:
            wanted = faults_of(await request.read())
        except (BadRequestError, web.HTTPException) as error:
            return web.json_response({"error": str(error)}, status=400)
        if lasting := {name: value for name, value in wanted.items() if name in FAULT_BOUNDS}:
            self.faults.set(replace(self.faults.plan, **lasting))
        self.faults.act(wanted)
        return web.json_response(self.faults.to_json())


def faults_of(raw: bytes) -> dict[str, Any]:
    try:
        wanted = json.loads(raw)
    except ValueError:
        raise BadRequestError("the body is not JSON") from None
    if not isinstance(wanted, dict) or (unknown := set(wanted) - {*FAULT_BOUNDS, *FAULT_ACTS}):
        raise BadRequestError(f"unknown fields {sorted(unknown)}" if isinstance(wanted, dict) else "expected an object")
    for name, (minimum, maximum) in FAULT_BOUNDS.items():
        value = wanted.get(name, minimum)
        if type(value) not in (int, float) or not minimum <= value <= maximum:
            raise BadRequestError(f"{name}: expected a number within {minimum:g}..{maximum:g}")
    if type(wanted.get("error_clump", 1)) is not int:
        raise BadRequestError("error_clump: expected a whole number")
    for name in FAULT_ACTS:
        if type(wanted.get(name, False)) is not bool:
            raise BadRequestError(f"{name}: expected true or false")
    return wanted


async def serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    ranker = Ranker(settings)
    await ranker.start()
    await stop.wait()
    await ranker.drain()
    await ranker.close()
    log("stopped")


if __name__ == "__main__":
    asyncio.run(serve(Settings.from_env(os.environ)))
