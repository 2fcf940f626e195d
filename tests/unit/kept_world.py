"""The simulated cluster beside an MLflow in memory, with the real writer of evidence between them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ops_commander.adapters.mlflow_artifacts import Unreachable
from ops_commander.adapters.mlflow_runs import MLflowRefused, MLflowUnavailable
from ops_commander.api.evidence import EvidenceStatus
from ops_commander.core.evidence_wanted import Point, RunEnd
from ops_commander.core.snapshot import Installation, Snapshot
from ops_commander.runtime.evidence_writer import EvidenceWriter
from tests.unit.world import RolloutBuilder, World

KEY = ("shop", "ranker")
INSTALLED = Installation(image="ops-commander:1", mlflow_url="http://mlflow:5000")
ANSWERS_AFTER = 0.2
"""Seconds from the beginning of a write to its end."""


class ProcessDied(BaseException):
    """The operator's process ended right after MLflow had taken a write."""


@dataclass
class Run:
    marker: str
    name: str
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    end: tuple[RunEnd, datetime] | None = None


@dataclass
class Server:
    """As MLflow does it: params cannot be changed, the same point again is one point, runs are found by a tag."""

    up: bool = True
    runs: dict[str, Run] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    versions: set[str] = field(default_factory=lambda: {"1", "2", "3", "4"})
    dies_after_write: int | None = None
    writes: int = 0
    asked: int = 0

    def _ask(self) -> None:
        self.asked += 1
        if not self.up:
            raise MLflowUnavailable("MLflow: ClientConnectorError at runs/search")

    def _wrote(self) -> None:
        self.writes += 1
        if self.dies_after_write is not None and self.writes == self.dies_after_write:
            self.dies_after_write = None
            raise ProcessDied

    async def ensure_run(self, experiment: str, marker: str, name: str, tags: Mapping[str, str], now: datetime) -> str:
        assert experiment == "ops-commander"
        self._ask()
        for run_id, run in self.runs.items():
            if run.marker == marker:
                return run_id
        run_id = f"run{len(self.runs) + 1}"
        self.runs[run_id] = Run(marker, name, dict(tags))
        self._wrote()
        return run_id

    async def log(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        self._ask()
        run = self.runs[run_id]
        for key, value in params.items():
            if run.params.setdefault(key, value) != value:
                raise MLflowRefused(f"param {key} is {run.params[key]!r} already")
        run.points += [point for point in points if point not in run.points]
        run.tags |= tags
        self._wrote()

    async def end_run(self, run_id: str, end: RunEnd, at: datetime) -> None:
        self._ask()
        self.runs[run_id].end = (end, at)
        self._wrote()

    async def alias(self, model: str, alias: str) -> str | None:
        self._ask()
        return self.aliases.get(alias)

    async def set_alias(self, model: str, alias: str, version: str) -> None:
        self._ask()
        if version not in self.versions:
            raise MLflowRefused(f"model version {version} not found")
        self.aliases[alias] = version
        self._wrote()

    async def upload(self, run_id: str, path: str, data: bytes) -> str:
        self.asked += 1
        if not self.up:
            raise Unreachable(f"{path} of run {run_id}: ClientConnectorError from MLflow")
        self.runs[run_id].files[path] = data
        self._wrote()
        return hashlib.sha256(data).hexdigest()

    def run_of(self, deployment: str) -> Run:
        """The one run of a deployment."""
        found = [run for run in self.runs.values() if run.name == deployment]
        assert len(found) == 1, f"{deployment} has {len(found)} runs"
        return found[0]


class KeptWorld(World):
    """A world whose operator writes evidence."""

    def __init__(self, builder: RolloutBuilder, server: Server | None = None) -> None:
        self.mlflow = server or Server()
        super().__init__(builder.body, name=builder.name, policy=builder.wanted_policy)
        self.installation = INSTALLED

    def _restart(self) -> None:
        super()._restart()
        self.writer = EvidenceWriter(
            self.mlflow,
            self.mlflow,
            lambda: self.now,
            lambda _key: self.after(ANSWERS_AFTER, self.wake),
            lambda _key, delay: self.after(delay, self.wake),
        )

    def snapshot(self) -> Snapshot:
        snapshot = super().snapshot()
        return replace(snapshot, written=asyncio.run(self._ask(snapshot)))

    async def _ask(self, snapshot: Snapshot) -> Mapping[str, EvidenceStatus]:
        """What was known before; what is begun now is known the next time."""
        written = self.writer.of(KEY, snapshot)
        ends = await asyncio.gather(*self.writer.under_way(), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return written

    def _reconcile(self) -> None:
        try:
            super()._reconcile()
        except ProcessDied:
            self.kill()

    def serve(self, version: str = "1") -> KeptWorld:
        """The first version goes live, and its evidence is written."""
        self.run_until(lambda: self.status.stable_version == version and not self.status.outbox)
        return self

    def want(self, version: str, **health: Any) -> KeptWorld:
        for name, value in health.items():
            setattr(self.health_of(version), name, value)
        self.want_version(version)
        return self
