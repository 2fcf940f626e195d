"""Writes what MLflow must have of deployments. No reconcile waits for it, and there is no queue.

Status says what is to be written and what was; a process that is killed anywhere begins again from there.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from ops_commander.adapters.mlflow_artifacts import ArtifactError
from ops_commander.adapters.mlflow_runs import MLflowRefused, MLflowUnavailable
from ops_commander.api.evidence import AliasState, AliasStatus, EvidenceStatus
from ops_commander.api.v1alpha1 import ModelRollout
from ops_commander.api.verification import EvidenceFile
from ops_commander.core import evidence_kept, evidence_wanted
from ops_commander.core.evidence_kept import Unwritten
from ops_commander.core.evidence_wanted import AliasWanted, EvidenceWanted, Point, RunEnd
from ops_commander.core.reports.files import deployment_files
from ops_commander.core.snapshot import Snapshot
from ops_commander.runtime.workqueue import Key

log = logging.getLogger(__name__)

REFRESH_EVERY = timedelta(minutes=1)
"""A deployment under way is written no more often than this, but for its landmarks."""
FIRST_BACKOFF = timedelta(seconds=2)
LONGEST_BACKOFF = timedelta(seconds=60)
AT_ONCE = 4
"""Rollouts that are written at the same time: when MLflow comes back all of them want to be."""


class EvidenceRuns(Protocol):
    """Where runs and aliases are. Each raises MLflowUnavailable or MLflowRefused."""

    async def ensure_run(
        self, experiment: str, marker: str, name: str, tags: Mapping[str, str], now: datetime
    ) -> str: ...

    async def log(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None: ...

    async def end_run(self, run_id: str, end: RunEnd, at: datetime) -> None: ...

    async def alias(self, model: str, alias: str) -> str | None: ...

    async def set_alias(self, model: str, alias: str, version: str) -> None: ...


class EvidenceStore(Protocol):
    """Where artifacts are kept: answers with the sha256 of what it has. Raises ArtifactError."""

    async def upload(self, run_id: str, path: str, data: bytes) -> str: ...


class NotLeading(Exception):
    """Another process may be the leader by now: it writes."""


Reports = Callable[[ModelRollout, datetime], Mapping[str, str]]
"""Reports of a deployment that has ended: path → text."""


@dataclass(frozen=True, slots=True)
class _Backoff:
    failures: int
    until: datetime


@dataclass
class EvidenceWriter:
    """One deployment of a rollout at a time, those that have ended first."""

    runs: EvidenceRuns | None
    store: EvidenceStore | None
    clock: Callable[[], datetime]
    wake: Callable[[Key], None]
    wake_later: Callable[[Key, float], None]
    """With a delay in seconds."""
    may_write: Callable[[], bool] = lambda: True
    reports: Reports = deployment_files
    _written: dict[Key, dict[str, EvidenceStatus]] = field(default_factory=dict)
    _tasks: dict[Key, asyncio.Task[None]] = field(default_factory=dict)
    _backoffs: dict[Key, dict[str, _Backoff]] = field(default_factory=dict)
    _looked_at: dict[Key, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._room = asyncio.Semaphore(AT_ONCE)

    def of(self, key: Key, snapshot: Snapshot) -> Mapping[str, EvidenceStatus]:
        """What was written of a rollout's deployments, by deployment id; what is due is begun."""
        if self.runs is None or self.store is None or snapshot.deleted_at is not None:
            return {}
        open_ = evidence_kept.unwritten(snapshot)
        written, backoffs = self._written.setdefault(key, {}), self._backoffs.setdefault(key, {})
        for identity in {*written, *backoffs} - {item.deployment_id for item in open_}:
            written.pop(identity, None)
            backoffs.pop(identity, None)
        if key not in self._tasks and (due := self._due(key, snapshot, open_)):
            work = _Work(self.runs, self.store, self.clock, self._fence, self.reports)
            self._tasks[key] = asyncio.create_task(self._write(key, snapshot, due, work))
        return dict(written)

    def under_way(self) -> list[asyncio.Task[None]]:
        return list(self._tasks.values())

    def forget(self, key: Key) -> None:
        """The rollout is gone."""
        for remembered in (self._written, self._backoffs, self._looked_at):
            remembered.pop(key, None)

    def let_go(self, key: Key) -> None:
        """Another process writes from now on, from what status says was written; after it an old tag would stay."""
        self.forget(key)
        if task := self._tasks.pop(key, None):
            task.cancel()

    def _fence(self) -> None:
        if not self.may_write():
            raise NotLeading("the lease may be somebody else's by now")

    def _due(self, key: Key, snapshot: Snapshot, open_: list[Unwritten]) -> Unwritten | None:
        now, backoffs = self.clock(), self._backoffs[key]
        for item in open_:
            known, backoff = self._known(key, item), backoffs.get(item.deployment_id)
            if backoff and now < backoff.until:
                continue
            if item.entry is not None:
                if not known.is_complete:
                    return item
            elif known.landmark != evidence_wanted.landmark(snapshot.status) or now >= self._fresh_until(key, known):
                return item
        return None

    def _fresh_until(self, key: Key, known: EvidenceStatus) -> datetime:
        looked_at = [at for at in (known.written_at, self._looked_at.get(key)) if at]
        return max(looked_at, default=self.clock()) + REFRESH_EVERY

    def _known(self, key: Key, item: Unwritten) -> EvidenceStatus:
        return self._written.get(key, {}).get(item.deployment_id) or item.known or EvidenceStatus()

    async def _write(self, key: Key, snapshot: Snapshot, item: Unwritten, work: _Work) -> None:
        known, found = self._known(key, item), None
        try:
            async with self._room:
                found = await work.written(snapshot, item, known)
        except (MLflowUnavailable, MLflowRefused, ArtifactError, NotLeading) as error:
            self._failed(key, item, known.model_copy(update={"run_id": work.run_id or known.run_id}), str(error))
        except Exception as error:
            log.exception("evidence of %s not written", item.deployment_id)
            self._failed(key, item, known, f"{type(error).__name__} in the operator")
        finally:
            if self._tasks.get(key) is asyncio.current_task():
                del self._tasks[key]
        if found is None:
            return
        self._backoffs.get(key, {}).pop(item.deployment_id, None)
        self._looked_at[key] = self.clock()
        if found != known:
            self._written.setdefault(key, {})[item.deployment_id] = found
            self.wake(key)

    def _failed(self, key: Key, item: Unwritten, known: EvidenceStatus, error: str) -> None:
        backoffs = self._backoffs.setdefault(key, {})
        failures = backoffs[item.deployment_id].failures if item.deployment_id in backoffs else 0
        delay = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(failures, 10))
        backoffs[item.deployment_id] = _Backoff(failures + 1, self.clock() + delay)
        log.warning("evidence of %s not written, again in %.0fs: %s", item.deployment_id, delay.total_seconds(), error)
        failed = known.model_copy(update={"error": error})
        if failed != known:
            self._written.setdefault(key, {})[item.deployment_id] = failed
            self.wake(key)
        self.wake_later(key, delay.total_seconds())


@dataclass
class _Work:
    """Writes one deployment: its run, what it says, its files, the alias, and at last that it has ended."""

    runs: EvidenceRuns
    store: EvidenceStore
    clock: Callable[[], datetime]
    fence: Callable[[], None]
    reports: Reports
    run_id: str | None = None

    async def written(self, snapshot: Snapshot, item: Unwritten, known: EvidenceStatus) -> EvidenceStatus:
        """What MLflow has then: `known` itself where there was nothing new."""
        ended = ModelRollout.model_validate(item.entry.rollout) if item.entry else None
        rollout = ended or evidence_wanted.rollout_of(snapshot)
        wanted = evidence_wanted.wanted(rollout)
        if ended is None and (wanted.landmark, wanted.digest) == (known.landmark, known.digest) and not known.error:
            return known
        self.fence()
        tags = {evidence_wanted.DEPLOYMENT_TAG: wanted.deployment_id}
        self.run_id = run_id = await self.runs.ensure_run(
            evidence_wanted.EXPERIMENT, wanted.marker, wanted.deployment_id, tags, self.clock()
        )
        self.fence()
        await self.runs.log(run_id, wanted.points, wanted.params, wanted.tags)
        files = await self._uploaded(run_id, self._files(wanted, ended, run_id), known.files)
        alias = await self._aliased(evidence_kept.alias_of(snapshot, ended), known.alias) if ended else None
        if wanted.end:
            self.fence()
            await self.runs.end_run(run_id, *wanted.end)
        return EvidenceStatus(
            run_id=run_id,
            landmark=wanted.landmark,
            digest=wanted.digest,
            written_at=self.clock(),
            is_complete=wanted.end is not None,
            files=files,
            alias=alias,
        )

    def _files(self, wanted: EvidenceWanted, ended: ModelRollout | None, run_id: str) -> dict[str, str]:
        if ended is None or ended.status.deployment is None:
            return dict(wanted.files)
        deployment = ended.status.deployment.model_copy(update={"deploy_run_id": run_id})
        status = ended.status.model_copy(update={"deployment": deployment})
        try:
            reports = self.reports(ended.model_copy(update={"status": status}), self.clock())
        except Exception:  # what they are made of is kept all the same, and holds up no later deployment
            log.exception("reports of %s not written", wanted.deployment_id)
            return dict(wanted.files)
        return {**wanted.files, **reports}

    async def _uploaded(self, run_id: str, files: Mapping[str, str], known: list[EvidenceFile]) -> list[EvidenceFile]:
        """Files that the run has already, byte for byte, are left as they are."""
        there = {(item.path, item.sha256): item for item in known if item.run_id == run_id}
        kept = []
        for path, text in sorted(files.items()):
            data = text.encode()
            digest = hashlib.sha256(data).hexdigest()
            found = there.get((path, digest))
            if found is None:
                self.fence()
                sha256 = await self.store.upload(run_id, path, data)
                found = EvidenceFile(run_id=run_id, path=path, sha256=sha256, written_at=self.clock())
            kept.append(found)
        return kept

    async def _aliased(self, wanted: AliasWanted | None, known: AliasStatus | None) -> AliasStatus | None:
        """Compare, then set: MLflow cannot do both at once, and the two requests follow each other."""
        if wanted is None:
            return known
        now = await self.runs.alias(wanted.model, wanted.alias)
        what = f"alias {wanted.alias} of model {wanted.model}"

        def seen(state: AliasState, version: str | None, message: str) -> AliasStatus:
            return AliasStatus(
                model=wanted.model,
                alias=wanted.alias,
                state=state,
                version=version,
                previous=now,
                message=message,
                at=self.clock(),
            )

        if wanted.restores and now not in wanted.may_leave:
            return known
        if now == wanted.version:
            return known or seen(AliasState.MOVED, now, f"{what} points to version {now}")
        if now is not None and now not in wanted.may_leave:
            message = f"{what} points to version {now}, which this rollout never served: it is left there"
            return seen(AliasState.KEPT, now, message)
        self.fence()
        try:
            await self.runs.set_alias(wanted.model, wanted.alias, wanted.version)
        except MLflowRefused as error:
            return seen(AliasState.REFUSED, now, f"{what} cannot point to version {wanted.version}: {error}")
        state = AliasState.RESTORED if wanted.restores else AliasState.MOVED
        before = f"version {now}" if now else "none"
        return seen(state, wanted.version, f"{what} points to version {wanted.version}, before to {before}")
