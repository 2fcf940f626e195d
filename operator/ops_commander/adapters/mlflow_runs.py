"""Runs that the operator makes itself, over MLflow's REST API: found again by a tag, so that none is made twice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import aiohttp

from ops_commander.core.plans import naming
from ops_commander.core.plans.observed import EnsureRun, RunState, RunView

_MOST_METRICS: Final = 1000
"""MLflow takes no more in one batch."""


class MLflowUnavailable(Exception):
    """MLflow did not answer, or not with what was asked for; later it may."""


class MLflowRefused(Exception):
    """MLflow does not take this; asking again changes nothing."""


class MLflowRuns:
    """A tracking server in which runs are made and ended."""

    def __init__(self, url: str, *, timeout: float = 5.0) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def find(self, marker: str, experiment: str) -> RunView | None:
        """The oldest run with this marker. Raises MLflowUnavailable."""
        identity = await self._experiment(experiment)
        if identity is None:
            return None
        body = await self._post(
            "runs/search",
            {
                "experiment_ids": [identity],
                "filter": f"tags.`{naming.RUN_TAG}` = '{marker}'",
                "order_by": ["attributes.start_time ASC"],
                "max_results": 1,
            },
        )
        runs = body.get("runs") or []
        return run_view(runs[0]) if runs else None

    async def metrics(self, run_id: str) -> dict[str, float]:
        """Latest values of a run's metrics. Raises MLflowUnavailable; a run that is not there has none."""
        try:
            body = await self._request("GET", "runs/get", params={"run_id": run_id})
        except MLflowRefused:
            return {}
        return dict(run_view(body["run"]).metrics)

    async def ensure(self, wanted: EnsureRun, now: datetime) -> None:
        """Make the run unless there is one. Raises MLflowUnavailable or MLflowRefused."""
        if await self.find(wanted.marker, wanted.experiment) is not None:
            return
        identity = await self._experiment(wanted.experiment, create=True)
        tags = {naming.RUN_TAG: wanted.marker, "mlflow.source.type": "JOB", "mlflow.source.name": "ops-commander"}
        if wanted.parent:
            tags["mlflow.parentRunId"] = wanted.parent
        await self._post(
            "runs/create",
            {
                "experiment_id": identity,
                "run_name": wanted.name,
                "start_time": _millis(now),
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            },
        )

    async def record(self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str], now: datetime) -> None:
        """Metrics, then tags. Raises MLflowUnavailable or MLflowRefused."""
        points = [
            {"key": key, "value": value, "timestamp": _millis(now), "step": 0}
            for key, value in metrics.items()
            if math.isfinite(value)
        ]
        pairs = [{"key": key, "value": value} for key, value in tags.items()]
        await self._post("runs/log-batch", {"run_id": run_id, "metrics": points[:_MOST_METRICS], "tags": pairs})

    async def finish(self, run_id: str, state: RunState, now: datetime) -> None:
        """End the run. Raises MLflowUnavailable or MLflowRefused."""
        await self._post("runs/update", {"run_id": run_id, "status": state.value, "end_time": _millis(now)})

    async def _experiment(self, name: str, *, create: bool = False) -> str | None:
        try:
            body = await self._request("GET", "experiments/get-by-name", params={"experiment_name": name})
            return str(body["experiment"]["experiment_id"])
        except MLflowRefused:
            if not create:
                return None
        made = await self._post("experiments/create", {"name": name})
        return str(made["experiment_id"])

    async def _post(self, call: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._request("POST", call, json=body)

    async def _request(self, method: str, call: str, **options: Any) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        url = f"{self._url}/api/2.0/mlflow/{call}"
        try:
            async with self._session.request(method, url, **options) as response:
                text = await response.text()
                body = await response.json(content_type=None) if response.status == 200 and text else {}
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise MLflowUnavailable(f"MLflow: {type(error).__name__} at {call}") from error
        if response.status in (400, 404, 409):
            raise MLflowRefused(f"MLflow answered {response.status} to {call}: {text[:300]}")
        if response.status != 200 or not isinstance(body, dict):
            raise MLflowUnavailable(f"MLflow answered {response.status} to {call}")
        return body

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def run_view(run: Mapping[str, Any]) -> RunView:
    """A run of MLflow's REST API as a plan sees it."""
    info, data = run["info"], run.get("data") or {}
    tags = {item["key"]: item["value"] for item in data.get("tags") or []}
    return RunView(
        run_id=info["run_id"],
        state=RunState(info.get("status", RunState.RUNNING)),
        metrics={item["key"]: float(item["value"]) for item in data.get("metrics") or []},
        artifact=tags.get(naming.ARTIFACT_TAG),
        sha256=tags.get(naming.SHA256_TAG),
    )


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
