"""A deployment's run and its model's alias in MLflow, over its REST API: whatever is written twice is there once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ops_commander.adapters.mlflow_runs import MLflowRefused, MLflowRuns
from ops_commander.core.evidence_wanted import MARKER_TAG, Point, RunEnd

_MOST_METRICS: Final = 800
"""MLflow takes 1000 entities in a batch: metrics, params and tags together."""


class MLflowEvidence(MLflowRuns):
    """A tracking server and registry. Every call raises MLflowUnavailable or MLflowRefused."""

    async def ensure_run(self, experiment: str, marker: str, name: str, tags: Mapping[str, str], now: datetime) -> str:
        """The id of the one run with this marker, which is made if there is none.

        Two processes may make one at the same moment, and the second to make it need not have the younger: whoever
        sees both takes back the younger. A process whose run is taken back is refused, and finds the other.
        """
        identity = await self._experiment(experiment, create=True)
        assert identity is not None
        if known := await self._only(identity, marker):
            return known
        marks = {"mlflow.source.type": "JOB", "mlflow.source.name": "ops-commander", **tags, MARKER_TAG: marker}
        body = {"experiment_id": identity, "run_name": name, "start_time": _millis(now), "tags": _pairs(marks)}
        made = str((await self._post("runs/create", body))["run"]["info"]["run_id"])
        return await self._only(identity, marker) or made

    async def _only(self, experiment: str, marker: str) -> str | None:
        """The oldest run with this marker; what was made beside it is taken back."""
        runs = await self._marked(experiment, marker)
        for other in runs[1:]:
            await self._post("runs/delete", {"run_id": other})
        return runs[0] if runs else None

    async def _marked(self, experiment: str, marker: str) -> list[str]:
        """Runs with this marker, oldest first."""
        body = await self._post(
            "runs/search",
            {"experiment_ids": [experiment], "filter": f"tags.`{MARKER_TAG}` = '{marker}'", "max_results": 10},
        )
        infos = [run["info"] for run in body.get("runs") or []]
        return [info["run_id"] for info in sorted(infos, key=lambda info: (int(info["start_time"]), info["run_id"]))]

    async def log(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Metrics, params and tags. The same again changes nothing; another value of a param is refused."""
        metrics = [
            {"key": point.key, "value": point.value, "timestamp": _millis(point.at), "step": point.step}
            for point in points
        ]
        body = {"run_id": run_id, "params": _pairs(params), "tags": _pairs(tags), "metrics": metrics[:_MOST_METRICS]}
        await self._post("runs/log-batch", body)
        for start in range(_MOST_METRICS, len(metrics), _MOST_METRICS):
            batch = {"run_id": run_id, "metrics": metrics[start : start + _MOST_METRICS]}
            await self._post("runs/log-batch", batch)

    async def end_run(self, run_id: str, end: RunEnd, at: datetime) -> None:
        await self._post("runs/update", {"run_id": run_id, "status": end, "end_time": _millis(at)})

    async def alias(self, model: str, alias: str) -> str | None:
        """The version that an alias points to; None where there is no such alias, or model."""
        try:
            body = await self._request("GET", "registered-models/alias", params={"name": model, "alias": alias})
        except MLflowRefused:
            return None
        return str(body["model_version"]["version"])

    async def set_alias(self, model: str, alias: str, version: str) -> None:
        await self._post("registered-models/alias", {"name": model, "alias": alias, "version": version})


def _pairs(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
