"""The composition root: builds every part and runs them together. One part failing ends the process.

Crash-only: a part that cannot go on takes the process down, and the Deployment starts it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ops_commander.adapters.cluster import Cluster
from ops_commander.adapters.kubernetes import ApiError, KubernetesApi, NotFound, load_configuration
from ops_commander.adapters.kubernetes_client import client
from ops_commander.adapters.mlflow import MLflow
from ops_commander.adapters.mlflow_artifacts import MLflowArtifacts
from ops_commander.adapters.mlflow_evidence import MLflowEvidence
from ops_commander.adapters.prometheus_servers import PrometheusServers
from ops_commander.adapters.reflector import Reflector
from ops_commander.adapters.surroundings import LABELS, Change, KnownObjects
from ops_commander.core.snapshot import Installation
from ops_commander.runtime import clock, endpoints, handlers, metrics
from ops_commander.runtime.events import EventPoster
from ops_commander.runtime.evidence import EvidenceBook
from ops_commander.runtime.evidence_writer import EvidenceWriter
from ops_commander.runtime.history import History
from ops_commander.runtime.job_logs import JobLogs
from ops_commander.runtime.leader import Election
from ops_commander.runtime.observer import Observer
from ops_commander.runtime.plan_service import PlanService
from ops_commander.runtime.poller import Poller
from ops_commander.runtime.reconciler import Reconciler
from ops_commander.runtime.rollouts import Rollouts
from ops_commander.runtime.settings import Settings
from ops_commander.runtime.verifications import FileVerifier, Verifications
from ops_commander.runtime.verifier import Verifier
from ops_commander.runtime.workqueue import Key, WorkQueue

log = logging.getLogger(__name__)

RELIST_EVERY = 300.0
REACH_AGAIN = 2.0
REQUIRED = ("ModelRollout", "Vote", "ActionPlan", *LABELS)
REQUESTS_AT_ONCE = 32


class PartEnded(Exception):
    """A part that should run for ever has ended."""


@dataclass
class Operator:
    """All parts of one process."""

    settings: Settings
    configuration: client.Configuration
    api: KubernetesApi
    leases: KubernetesApi
    """Connections of their own: a renewal must not wait behind a thousand writes."""
    prometheus: PrometheusServers
    mlflow: MLflow | None
    artifacts: MLflowArtifacts | None
    evidence: MLflowEvidence | None

    def __post_init__(self) -> None:
        self.queue = WorkQueue()
        self.rollouts = Rollouts(self.settings.selector)
        known = KnownObjects(self._surroundings_changed)
        self.reflectors = [
            Reflector(self.api, known, kind, namespace, self._heard)
            for namespace in self.settings.watched_namespaces
            for kind in LABELS
        ]
        self.cluster = Cluster(self.api, known)
        self.book = EvidenceBook(interval=self.settings.poll_interval, since=clock.now())
        self.history = History(self.settings.poll_interval)
        self.events = EventPoster(self.api, self.settings.identity, clock.now)
        self.observer = Observer(
            self.cluster,
            self.mlflow,
            self.prometheus,
            self.book,
            self.history,
            clock.now,
            self.settings.stale_after,
            Verifications(self._verifier(), clock.now, self._wake),
            JobLogs(self.cluster, self.artifacts, clock.now, self._wake),
            Installation(self.settings.image, self.settings.image_pull_policy, self.settings.mlflow_url),
            self._evidence_writer(),
        )
        self.watching = asyncio.Event()
        self.election = Election(
            self.leases,
            self.settings.lease_namespace,
            self.settings.lease_name,
            self.settings.identity,
            clock.now,
            self.settings.lease_duration,
        )
        self.reconciler = Reconciler(
            self.cluster,
            self.observer,
            self.events,
            self.queue,
            clock.now,
            self.election.holds,
            self.rollouts,
            asyncio.Semaphore(self.settings.workers),
        )
        self.poller = Poller(self.prometheus, self.book, self.history, clock.now, self._wake_for_evidence)
        self.plans = PlanService(
            self.settings, self.api, self.prometheus, self.artifacts, self.events, self.election.holds
        )

    def _evidence_writer(self) -> EvidenceWriter:
        return EvidenceWriter(
            self.evidence,
            self.artifacts,
            clock.now,
            self.queue.add,
            self.queue.add_after,
            may_write=self._leads,
        )

    def _leads(self) -> bool:
        return self.election.holds()

    def _verifier(self) -> FileVerifier | None:
        return Verifier() if self.settings.mlflow_url else None

    def _heard(self) -> None:
        metrics.last_watch_event.set(clock.now().timestamp())

    def _surroundings_changed(self, change: Change) -> None:
        for key in self.rollouts.concerned(change):
            self.queue.add(key)

    def _wake(self, key: Key) -> None:
        self.queue.add(key, urgent=True)

    def _wake_for_evidence(self, key: Key) -> None:
        """A revert must not queue behind routine."""
        self.queue.add(key, urgent=self.book.is_breached(key))

    async def run(self) -> None:
        """Until cancelled, or until a part ends."""
        runner = await endpoints.serve(self.settings.http_port, self._unhealthy, self._unready)
        await _require_resources(self.api, self.settings)
        parts: list[tuple[str, Coroutine[Any, Any, None]]] = [
            ("watches", self._watch()),
            ("reflectors", self._reflect()),
            ("election", self._elect()),
            ("workers", self._work_while_leading()),
            ("events", self.events.run()),
        ]
        tasks = [asyncio.create_task(part, name=name) for name, part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                raise PartEnded(f"{task.get_name()} ended: {error or 'no error given'}") from error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()

    async def _watch(self) -> None:
        registry = handlers.registry(self.rollouts, self.queue.add, self._heard)
        handlers.watch_plans(registry, self.plans.served, self.plans.queue.add)
        handlers.log_in(registry, self.configuration)
        settings = self.settings
        metrics.show_info(settings.selector.text, settings.namespaces)
        await handlers.watch(
            registry, settings.namespaces, settings.identity, self.watching, selector=settings.selector.text
        )

    async def _reflect(self) -> None:
        async with asyncio.TaskGroup() as group:
            for reflector in self.reflectors:
                group.create_task(reflector.run())

    async def _elect(self) -> None:
        """Only who knows what surrounds the rollouts may come to lead."""
        for reflector in self.reflectors:
            await reflector.synced.wait()
        await self.election.run()

    async def _work_while_leading(self) -> None:
        """Standbys watch and queue; only the leader takes keys off."""
        metrics.is_leader.set_function(self.election.holds)
        await self.election.leading.wait()
        self.book.since = clock.now()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.poller.run())
            group.create_task(self._relist())
            group.create_task(self.plans.run())
            group.create_task(self.reconciler.run())

    async def _relist(self) -> None:
        """Hold what is known against a full list: deletions and changes that a watch has missed come to light."""
        while True:
            for namespace in self.settings.watched_namespaces:
                try:
                    listed = await self.cluster.rollout_versions(namespace, self.settings.selector.text)
                except ApiError as error:
                    log.warning("rollouts not listed, again in %.0fs: %s", RELIST_EVERY, error)
                    continue
                for key in self.rollouts.differing(namespace, listed):
                    self.queue.add(key)
            await asyncio.sleep(RELIST_EVERY)

    def _unhealthy(self) -> str | None:
        """That the loop answers is all: a watch that fails ends the process by itself."""
        return None

    def _unready(self) -> str | None:
        if not self.watching.is_set():
            return "the watches have not started yet"
        waited_for = [reflector.kind for reflector in self.reflectors if not reflector.synced.is_set()]
        return f"not listed yet: {', '.join(waited_for)}" if waited_for else None


@asynccontextmanager
async def operator(settings: Settings) -> AsyncIterator[Operator]:
    """An operator with its connections, closed at the end."""
    configuration = await load_configuration(settings.kubeconfig or None)
    prometheus = _servers(settings)
    mlflow = MLflow(settings.mlflow_url) if settings.mlflow_url else None
    artifacts = MLflowArtifacts(settings.mlflow_url) if settings.mlflow_url else None
    evidence = MLflowEvidence(settings.mlflow_url) if settings.mlflow_url else None
    watches = len(LABELS) * len(settings.watched_namespaces)
    async with (
        KubernetesApi(configuration, connections=2) as leases,
        KubernetesApi(configuration, connections=REQUESTS_AT_ONCE + watches) as api,
    ):
        try:
            yield Operator(settings, configuration, api, leases, prometheus, mlflow, artifacts, evidence)
        finally:
            prometheus.close()
            for server in (mlflow, artifacts, evidence):
                if server:
                    await server.close()


def _servers(settings: Settings) -> PrometheusServers:
    if settings.prometheus_config:
        return PrometheusServers.of_file(settings.prometheus_config, timeout=settings.query_timeout)
    return PrometheusServers.of_url(
        settings.prometheus_url, timeout=settings.query_timeout, scrape_interval=settings.scrape_interval
    )


async def _require_resources(api: KubernetesApi, settings: Settings) -> None:
    """Fail clearly where a CRD is missing or may not be read; wait where the API server is away."""
    for kind in REQUIRED:
        while True:
            try:
                await api.list(kind, settings.watched_namespaces[0], limit=1)
                break
            except NotFound as error:
                raise PartEnded(f"the cluster has no {kind}: install its CRD first") from error
            except ApiError as error:
                if error.status and error.status != 429 and error.status < 500:
                    raise
                log.warning("API server not ready, again in %.0fs: %s", REACH_AGAIN, error)
                await asyncio.sleep(REACH_AGAIN)


async def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    async with operator(settings) as parts:
        running = asyncio.create_task(parts.run())
        stopping = asyncio.create_task(_stop_on_signals(parts, running))
        with contextlib.suppress(asyncio.CancelledError):
            await running
        stopping.cancel()
        log.info("stopped")


async def _stop_on_signals(parts: Operator, running: asyncio.Task[None]) -> None:
    """kopf puts handlers of its own in place as it starts; ours stop all parts, so they go in after it too."""
    loop = asyncio.get_running_loop()
    for started in (False, True):
        if started:
            await parts.watching.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
