"""A real MLflow for tests: tracking, registry and artifact proxy, on a free loopback port in a temporary folder."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.controlplane import cached, free_ports, process, wait_until


@dataclass(frozen=True, slots=True)
class MLflowServer:
    """A running MLflow."""

    url: str
    folder: Path

    @staticmethod
    @contextmanager
    def start(folder: Path, port: int | None = None) -> Iterator[MLflowServer]:
        """Until the block ends. What it keeps is in the folder: started there again it knows everything."""
        python = cached("share", "mlflow-server", "venv", "bin", "python")
        port = port or free_ports(1)[0]
        command = [
            *("env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true"),
            *(str(python), "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"),
            f"--backend-store-uri=sqlite:///{folder / 'mlflow.db'}",
            "--serve-artifacts",
            f"--artifacts-destination={folder / 'artifacts'}",
        ]
        server = MLflowServer(f"http://127.0.0.1:{port}", folder)
        with process("mlflow", command, folder):
            wait_until("MLflow is healthy", server._is_healthy, folder)
            yield server

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def post(self, call: str, **body: Any) -> dict[str, Any]:
        """A call of MLflow's REST API, as `runs/create`."""
        return self._ask("POST", f"/api/2.0/mlflow/{call}", json.dumps(body).encode())

    def delete(self, call: str, **body: Any) -> dict[str, Any]:
        return self._ask("DELETE", f"/api/2.0/mlflow/{call}", json.dumps(body).encode())

    def get(self, call: str, **query: str) -> dict[str, Any]:
        return self._ask("GET", f"/api/2.0/mlflow/{call}?{urllib.parse.urlencode(query)}")

    def _ask(self, method: str, path: str, data: bytes | None = None) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found: dict[str, Any] = json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path} → {error.code} {error.read().decode(errors='replace')}") from error
        return found

    def new_run(self, experiment: str = "0", *, finished: bool = True) -> str:
        """The id of a new run."""
        now = round(time.time() * 1000)  # noqa: TID251
        run: str = self.post("runs/create", experiment_id=experiment, start_time=now)["run"]["info"]["run_id"]
        if finished:
            self.post("runs/update", run_id=run, status="FINISHED", end_time=now)
        return run

    def put(self, run: str, path: str, data: bytes) -> None:
        """An artifact of a run, through the server's proxy as clients do it."""
        root = self.get("runs/get", run_id=run)["run"]["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
        name = urllib.parse.quote(f"{root}/{path}")
        self._ask("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{name}", data)

    def file_of(self, run: str, path: str) -> Path:
        """Where an artifact lies on disk."""
        root: str = self.get("runs/get", run_id=run)["run"]["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
        return self.folder / "artifacts" / root / path

    def register(self, name: str, run: str, alias: str | None = None) -> str:
        """The number of a new version of a registered model."""
        found = self.get("registered-models/search", filter=f"name='{name}'")
        if not found.get("registered_models"):
            self.post("registered-models/create", name=name)
        version = self.post("model-versions/create", name=name, source=f"runs:/{run}/model", run_id=run)
        number: str = version["model_version"]["version"]
        if alias:
            self.post("registered-models/alias", name=name, alias=alias, version=number)
        return number
