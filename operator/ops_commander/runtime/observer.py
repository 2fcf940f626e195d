"""Observe: everything around one rollout, frozen into a snapshot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from ops_commander.adapters.cluster import Cluster
from ops_commander.adapters.kubernetes import ApiError, Invalid
from ops_commander.adapters.mlflow import RunUnreadable
from ops_commander.adapters.prometheus import QueryError
from ops_commander.adapters.surroundings import Surroundings, Wanted
from ops_commander.api.fields import parse_time
from ops_commander.api.v1alpha1 import ModelRollout, ModelRolloutSpec, ModelRolloutStatus
from ops_commander.core import acceptance, candidate_tests, comparers, manifests, names, promql
from ops_commander.core.question import owner_of_revision, question_of
from ops_commander.core.snapshot import Baseline, Check, Installation, JobView, RunRecord, Snapshot
from ops_commander.runtime import ballots
from ops_commander.runtime.evidence import EvidenceBook
from ops_commander.runtime.evidence_writer import EvidenceWriter
from ops_commander.runtime.history import History, MetricSource
from ops_commander.runtime.job_logs import JobLogs
from ops_commander.runtime.policies import Policies
from ops_commander.runtime.verifications import Verifications
from ops_commander.runtime.workqueue import Key

log = logging.getLogger(__name__)

ASK_AGAIN = timedelta(seconds=5)
KNOWN_FOR = timedelta(seconds=60)
"""How long a run or a baseline that was read is good for."""
RUN_KEPT_FOR = timedelta(hours=6)
"""How long a run is used as it was read while MLflow does not answer."""


class RunRegistry(Protocol):
    """Where runs of models are recorded."""

    async def verify_run(self, run_id: str) -> Check: ...

    async def read_run(self, run_id: str, artifacts: Collection[str]) -> RunRecord: ...


RunKey = tuple[str, frozenset[str]]
"""A run's id, and the artifacts that it is asked for."""


class Sources(Protocol):
    """Which Prometheus server answers for a namespace: the operator's configuration says so, no tenant."""

    def server_for(self, namespace: str) -> MetricSource | None: ...


@dataclass
class _Remembered:
    about: tuple[str, str]
    """UID of the rollout, and the revision."""
    checks: tuple[Check, ...]
    until: datetime | None


T = TypeVar("T")


@dataclass
class _Read(Generic[T]):
    value: T
    until: datetime


@dataclass
class _ReadBaseline(_Read[Baseline]):
    about: tuple[str, str]
    """UID of the rollout, and the stable revision."""


@dataclass
class Observer:
    """Builds snapshots. Remembers which revisions have passed the checks that cost a request."""

    cluster: Cluster
    runs: RunRegistry | None
    sources: Sources
    book: EvidenceBook
    history: History
    clock: Callable[[], datetime]
    stale_after: timedelta
    verifications: Verifications
    test_logs: JobLogs
    installation: Installation
    writer: EvidenceWriter | None = None
    _policies: Policies = field(default_factory=Policies)
    _checked: dict[Key, _Remembered] = field(default_factory=dict)
    """The latest of each rollout."""
    _baselines: dict[Key, _ReadBaseline] = field(default_factory=dict)
    """The same, while it may start."""
    _runs: dict[RunKey, _Read[RunRecord]] = field(default_factory=dict)
    _reading: dict[RunKey, asyncio.Task[None]] = field(default_factory=dict)
    _runs_swept_at: datetime | None = None

    async def snapshot(self, body: Mapping[str, Any], *, anew: bool = False) -> Snapshot:
        """On what the watches have told of its surroundings, or on what is read `anew`.

        Raises ValidationError for a spec that the models refuse, ApiError where something cannot be read."""
        rollout = ModelRollout.model_validate(body)
        metadata = rollout.metadata
        key: Key = (metadata["namespace"], metadata["name"])
        spec = rollout.spec
        around = await self.cluster.surroundings(*key, _wanted(key[1], spec, rollout.status), anew=anew)
        source = self.sources.server_for(key[0])
        labels = source.labels if source else promql.DEFAULT_LABELS
        policy, problem = self._policies.of(rollout, around, labels)
        snapshot = Snapshot(
            name=key[1],
            namespace=key[0],
            uid=metadata["uid"],
            generation=metadata.get("generation", 1),
            resource_version=metadata["resourceVersion"],
            deleted_at=parse_time(metadata["deletionTimestamp"]) if metadata.get("deletionTimestamp") else None,
            finalizers=tuple(metadata.get("finalizers") or ()),
            annotations=metadata.get("annotations") or {},
            spec=spec,
            status=rollout.status,
            policy=policy,
            installation=self.installation,
            interval=self.book.interval,
            observing_since=self.book.since,
            stale_after=self.stale_after,
        )
        snapshot = _amid(snapshot, around)
        self.ask(snapshot)
        snapshot = replace(
            snapshot,
            verified=self.verifications.of(key, snapshot),
            test_jobs=self._test_jobs(key, snapshot, around),
            evidence=self.book.evidence(key),
            written=self.writer.of(key, snapshot) if self.writer else {},
            runs=await self._read_runs(snapshot),
            baseline=await self._baseline(snapshot),
            votes=await ballots.votes_on(self.cluster, snapshot, self.clock()),
        )
        checks = acceptance.spec_checks(snapshot, problem)
        return replace(snapshot, checks=(*checks, *await self._costly_checks(snapshot)))

    async def after_acts(self, snapshot: Snapshot, status: ModelRolloutStatus) -> Snapshot:
        """The same with a status that is yet to be written, and with what the watches have told of traffic and pods
        since. Raises ApiError."""
        wanted = _wanted(snapshot.name, snapshot.spec, status)
        around = await self.cluster.surroundings(snapshot.namespace, snapshot.name, wanted)
        return _amid(replace(snapshot, status=status), around)

    def _test_jobs(self, key: Key, snapshot: Snapshot, around: Surroundings) -> Mapping[str, JobView]:
        deployment = snapshot.status.deployment
        if deployment is None:
            return {}
        folder = comparers.evidence_path(deployment.id)
        mine = {name: view for name, view in around.test_jobs.items() if name.startswith(f"{deployment.id}-")}
        return self.test_logs.with_logs(key, mine, folder, deployment.run_id)

    def ask(self, snapshot: Snapshot) -> None:
        """From the moment that a split is live its evidence is followed, and once it is not that ends."""
        key, source = (snapshot.namespace, snapshot.name), self.sources.server_for(snapshot.namespace)
        self.book.want(key, question_of(snapshot) if source else None, source.name if source else "")

    async def _baseline(self, snapshot: Snapshot) -> Baseline | None:
        """What the stable version has shown lately, for a rollout that may start now."""
        policy, status, key = snapshot.policy, snapshot.status, (snapshot.namespace, snapshot.name)
        if policy is None or status.stable_revision is None or not acceptance.starts_against_stable(snapshot):
            self._baselines.pop(key, None)
            return None
        about = (snapshot.uid, status.stable_revision)
        known, now = self._baselines.get(key), self.clock()
        if known and known.about == about and now < known.until:
            return known.value
        source = self.sources.server_for(snapshot.namespace)
        if source is None:
            return Baseline(error=f"no Prometheus server is configured for namespace {snapshot.namespace}")
        stable = owner_of_revision(snapshot, status.stable_revision)
        try:
            found = await self.history.baseline(source, policy.objectives, stable, policy.baseline_window, now)
        except QueryError as error:
            found = Baseline(error=str(error))
        self._baselines[key] = _ReadBaseline(found, now + (ASK_AGAIN if found.error else KNOWN_FOR), about)
        return found

    async def _read_runs(self, snapshot: Snapshot) -> dict[str, RunRecord]:
        """The runs that objectives read; one that MLflow does not give now is used as it was read before."""
        policy, status = snapshot.policy, snapshot.status
        wanted = [item.run for item in policy.objectives if item.run] if policy else []
        if not wanted or self.runs is None or not (status.step or acceptance.starts_against_stable(snapshot)):
            return {}
        under_way = status.deployment if status.step else None
        mine = under_way.run_id if under_way else snapshot.wanted_run_id
        others = (status.stable_run_id, *(run.baseline_run_id for run in wanted))
        needed = {run_id: frozenset[str]() for run_id in others if run_id}
        if mine:
            needed[mine] = frozenset(run.artifact for run in wanted)
        reading = [self._read_run(self.runs, key) for key in needed.items()]
        if under_way is None:
            await asyncio.gather(*(task for task in reading if task))
        return {key[0]: self._runs[key].value for key in needed.items() if key in self._runs}

    def _read_run(self, runs: RunRegistry, key: RunKey) -> asyncio.Task[None] | None:
        """Read it anew where that is due. A rollout under way does not wait: MLflow holds up no revert."""
        known = self._runs.get(key)
        if known and self.clock() < known.until:
            return None
        if key not in self._reading:
            self._reading[key] = asyncio.create_task(self._keep_run(runs, key))
        return self._reading[key]

    async def _keep_run(self, runs: RunRegistry, key: RunKey) -> None:
        try:
            record = await runs.read_run(*key)
        except RunUnreadable as error:
            log.warning("run %s not read: %s", key[0], error)
        else:
            self._forget_runs()
            self._runs[key] = _Read(record, self.clock() + KNOWN_FOR)
        finally:
            del self._reading[key]

    async def _costly_checks(self, snapshot: Snapshot) -> tuple[Check, ...]:
        """A dry run of the pods and a look at the run, for a revision that is not stable yet."""
        revision = names.revision_of(snapshot.spec)
        status = snapshot.status
        under_way = status.step is not None  # what comes next is checked when its turn comes: no revert waits for it
        if under_way or revision == status.stable_revision or snapshot.deleted_at is not None:
            return ()
        key, about = (snapshot.namespace, snapshot.name), (snapshot.uid, revision)
        known, now = self._checked.get(key), self.clock()
        if known and known.about == about and (known.until is None or now < known.until):
            return known.checks
        checks = (
            await self._dry_run(manifests.replica_set(snapshot, revision, 0, "dry-run"), "spec.template"),
            *[await self._dry_run(manifest, place) for place, manifest in candidate_tests.probes(snapshot)],
            *await self._verify_run(snapshot),
        )
        lasting = all(check.passed for check in checks)
        self._checked[key] = _Remembered(about, checks, None if lasting else now + ASK_AGAIN)
        return checks

    async def _dry_run(self, manifest: Mapping[str, Any], place: str) -> Check:
        try:
            await self.cluster.dry_run(manifest)
        except Invalid as error:
            return acceptance.template_refused(place, error.message)
        except ApiError as error:
            return acceptance.template_unknown(str(error))
        return acceptance.template_accepted()

    async def _verify_run(self, snapshot: Snapshot) -> tuple[Check, ...]:
        run_id = snapshot.spec.model.run_id
        if run_id is None or self.runs is None:
            return ()
        return (await self.runs.verify_run(run_id),)

    def _forget_runs(self) -> None:
        """Those that nobody has asked for lately; each that is in use is read again after KNOWN_FOR."""
        now = self.clock()
        if self._runs_swept_at is None or now >= self._runs_swept_at + KNOWN_FOR:
            self._runs_swept_at = now
            self._runs = {key: read for key, read in self._runs.items() if now < read.until + RUN_KEPT_FOR}

    def forget(self, key: Key) -> None:
        self.book.forget(key)
        self._checked.pop(key, None)
        self._baselines.pop(key, None)
        if self.writer:
            self.writer.forget(key)

    def let_go(self, key: Key) -> None:
        """Another process serves the rollout from now on."""
        self.forget(key)
        if self.writer:
            self.writer.let_go(key)


def _amid(snapshot: Snapshot, around: Surroundings) -> Snapshot:
    return replace(
        snapshot,
        replica_sets=around.replica_sets,
        stable_service=around.stable_service,
        candidate_service=around.candidate_service,
        route=around.route,
        has_leftover_route=around.has_leftover_route,
        comparer=around.comparer,
    )


def _wanted(name: str, spec: ModelRolloutSpec, status: ModelRolloutStatus) -> Wanted:
    """What is read besides the objects that every rollout has: only what says something now."""
    reference = spec.traffic.gateway_api.http_route_ref
    compares = any(step.comparison for step in spec.steps)
    return Wanted(
        route=reference.name if reference else name,
        policy=spec.policy_ref.name if spec.policy_ref else None,
        test_jobs=candidate_tests.are_asked_for(status)
        or bool(spec.preflight and spec.preflight.tests and status.step),
        comparer=compares or bool(status.traffic and status.traffic.compare_percent),
    )
