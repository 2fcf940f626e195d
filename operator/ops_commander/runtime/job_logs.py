"""Keeps what test Jobs have said: read from the cluster, written to the model's MLflow run. Nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from ops_commander.adapters.kubernetes import ApiError
from ops_commander.adapters.mlflow_artifacts import ArtifactError
from ops_commander.api.verification import EvidenceFile
from ops_commander.core.candidate_tests import ENDED
from ops_commander.core.snapshot import JobView
from ops_commander.runtime.workqueue import Key

log = logging.getLogger(__name__)

AGAIN = timedelta(seconds=15)
MOST_REMEMBERED = 1000
NAME = "integration_run.log"


class EvidenceStore(Protocol):
    """Where evidence is kept: answers with the sha256 of what it has. Raises ArtifactError."""

    async def upload(self, run_id: str, path: str, data: bytes) -> str: ...


class LogSource(Protocol):
    """Reads what a Job's pods have said. Raises ApiError."""

    async def test_log(self, namespace: str, job: str) -> str: ...


@dataclass
class JobLogs:
    """Each Job's log, once."""

    source: LogSource
    store: EvidenceStore | None
    clock: Callable[[], datetime]
    wake: Callable[[Key], None]
    _kept: dict[tuple[str, str], EvidenceFile] = field(default_factory=dict)
    _tasks: dict[tuple[str, str], asyncio.Task[None]] = field(default_factory=dict)
    _not_before: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def with_logs(self, key: Key, jobs: Mapping[str, JobView], folder: str, run_id: str | None) -> dict[str, JobView]:
        """The Jobs with the logs that are kept; those that have ended without one are seen to."""
        return {name: self._with_log(key, view, folder, run_id) for name, view in jobs.items()}

    def _with_log(self, key: Key, view: JobView, folder: str, run_id: str | None) -> JobView:
        if self.store is None or run_id is None or view.state not in ENDED or not folder.endswith(_deployment_of(view)):
            return view
        mine = (key[0], view.name)
        if mine in self._kept:
            return replace(view, log=self._kept[mine])
        is_due = self.clock() >= self._not_before.get(mine, self.clock())
        if mine not in self._tasks and is_due:
            path = f"{folder}/{view.name}/{NAME}"
            self._tasks[mine] = asyncio.create_task(self._keep(self.store, key, view.name, run_id, path))
        return view

    async def _keep(self, store: EvidenceStore, key: Key, job: str, run_id: str, path: str) -> None:
        mine = (key[0], job)
        try:
            text = (await self.source.test_log(key[0], job)).encode()
            sha256 = await store.upload(run_id, path, text)
        except (ApiError, ArtifactError) as error:
            log.warning("log of Job %s not kept, again in %.0fs: %s", job, AGAIN.total_seconds(), error)
            self._not_before[mine] = self.clock() + AGAIN
        else:
            if len(self._kept) > MOST_REMEMBERED:
                self._kept.clear()
                self._not_before.clear()
            self._kept[mine] = EvidenceFile(run_id=run_id, path=path, sha256=sha256, written_at=self.clock())
            self.wake(key)
        finally:
            del self._tasks[mine]


def _deployment_of(view: JobView) -> str:
    """The deployment id, from the Job's name."""
    return view.name.rpartition("-")[0]
