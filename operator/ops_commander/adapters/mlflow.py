"""MLflow over its REST API: its client would cost the reconciling process a second and 76 MiB (docs/adr/0005)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any

import aiohttp

from ops_commander.core.snapshot import Check, RunRecord

FINISHED = "FINISHED"


class RunUnreadable(Exception):
    """MLflow did not tell; the text says why."""


class MLflow:
    """A tracking server, asked about runs."""

    def __init__(self, url: str, *, timeout: float = 5.0) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def verify_run(self, run_id: str) -> Check:
        """Whether a run exists and is finished; not known while the server does not answer."""
        try:
            status, body = await self._get("runs/get", run_id=run_id)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return Check("model", None, "MLflowUnreachable", f"run {run_id}: {type(error).__name__} from MLflow")
        if status in (400, 404):
            message = f"spec.model.runId is {run_id!r}: expected a run that exists in MLflow"
            return Check("model", False, "ModelRunNotFound", message)
        if status != 200:
            return Check("model", None, "MLflowUnreachable", f"run {run_id}: MLflow answered {status}")
        state = body.get("run", {}).get("info", {}).get("status", "?")
        if state != FINISHED:
            message = f"spec.model.runId is {run_id!r}: that run is {state}, expected {FINISHED}"
            return Check("model", False, "ModelRunNotFinished", message)
        return Check("model", True, "Verified", f"run {run_id} is {FINISHED} in MLflow")

    async def read_run(self, run_id: str, artifacts: Iterable[str]) -> RunRecord:
        """A run's metrics, and which of the wanted artifacts it has. Raises RunUnreadable."""
        body = await self._read("runs/get", run_id=run_id)
        run = body.get("run", {})
        metrics = {item["key"]: float(item["value"]) for item in run.get("data", {}).get("metrics", [])}
        wanted = sorted(set(artifacts))
        folders = {posixpath.dirname(path) for path in wanted}
        there: set[str] = set()
        for folder in sorted(folders):
            query = {"run_id": run_id, **({"path": folder} if folder else {})}
            files = (await self._read("artifacts/list", **query)).get("files", [])
            there.update(item["path"] for item in files)
        found = frozenset(path for path in wanted if path in there)
        return RunRecord(run_id, metrics, found, run.get("info", {}).get("artifact_uri", ""))

    async def _read(self, call: str, **query: str) -> dict[str, Any]:
        try:
            status, body = await self._get(call, **query)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise RunUnreadable(f"{type(error).__name__} from MLflow") from error
        if status != 200:
            raise RunUnreadable(f"MLflow answered {status} to {call}")
        return body

    async def _get(self, call: str, **query: str) -> tuple[int, dict[str, Any]]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        async with self._session.get(f"{self._url}/api/2.0/mlflow/{call}", params=query) as response:
            body = await response.json(content_type=None) if response.status == 200 else {}
            return response.status, body

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
