"""MLflow runs of the sample model's versions, by MLflow's REST API: parameters, metrics, artifacts, FINISHED."""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from hack.cluster.commands import BootstrapError
from hack.demo.installed import ROLLOUT
from hack.demo.ranker.server import BASE_WEIGHTS, FEATURES, weights_of

_ROWS = 500


def call(url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def log_artifact(url: str, run_id: str, path: str, content: bytes) -> None:
    """Through the server, which keeps artifacts itself."""
    uri = str(call(url, f"runs/get?run_id={run_id}")["run"]["info"]["artifact_uri"])
    place = f"{url}/api/2.0/mlflow-artifacts/artifacts/{uri.removeprefix('mlflow-artifacts:/')}/{path}"
    request = urllib.request.Request(place, content, {"content-type": "application/octet-stream"}, method="PUT")
    with urllib.request.urlopen(request, timeout=20):
        pass


def experiment(url: str, name: str) -> str:
    """Id of the experiment, which is made if need be."""
    try:
        found = call(url, f"experiments/get-by-name?experiment_name={name}")["experiment"]["experiment_id"]
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        found = call(url, "experiments/create", {"name": name})["experiment_id"]
    return str(found)


def pair_accuracy(weights: tuple[float, ...], rows: int = _ROWS) -> float:
    """Share of pairs of held-out rows that the ranker orders as the noisy truth does."""
    source = random.Random(20)
    table = [[source.gauss(0, 1) for _ in range(FEATURES)] for _ in range(rows)]

    def score(row: list[float], by: tuple[float, ...]) -> float:
        return sum(weight * value for weight, value in zip(by, row, strict=True))

    truth = [score(row, BASE_WEIGHTS) + source.gauss(0, 0.3) for row in table]
    scores = [score(row, weights) for row in table]
    pairs = [(first, second) for first in range(rows) for second in range(first)]
    agreed = sum((truth[first] > truth[second]) == (scores[first] > scores[second]) for first, second in pairs)
    return round(agreed / len(pairs), 4)


def log_run(
    url: str, version: str, *, metrics: Mapping[str, float] | None = None, artifacts: Mapping[str, str] | None = None
) -> str:
    """Record the training of one version as a finished run; return its id. Artifacts are texts by their path."""
    weights = weights_of(version)
    try:
        tags = [{"key": "model.name", "value": ROLLOUT}, {"key": "model.version", "value": version}]
        begun = {"experiment_id": experiment(url, ROLLOUT), "run_name": f"{ROLLOUT}-{version}", "tags": tags}
        run_id = str(call(url, "runs/create", begun)["run"]["info"]["run_id"])
        params = [{"key": f"weight_{index}", "value": f"{weight:.6f}"} for index, weight in enumerate(weights)]
        values = {"pair_accuracy": pair_accuracy(weights), **(metrics or {})}
        logged = [{"key": key, "value": value, "timestamp": 0, "step": 0} for key, value in values.items()]
        call(url, "runs/log-batch", {"run_id": run_id, "params": params, "metrics": logged})
        for path, text in (artifacts or {}).items():
            log_artifact(url, run_id, path, text.encode())
        call(url, "runs/update", {"run_id": run_id, "status": "FINISHED"})
    except OSError as error:
        said = error.read().decode(errors="replace")[:500] if isinstance(error, urllib.error.HTTPError) else ""
        raise BootstrapError(f"cannot log a run in MLflow at {url}: {error} {said}") from error
    return run_id
