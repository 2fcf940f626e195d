"""All parts that execute action plans: a queue of their own, so that no plan holds up a rollout."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ops_commander.adapters.kubernetes import ApiError, KubernetesApi
from ops_commander.adapters.mlflow_runs import MLflowRuns
from ops_commander.adapters.plan_objects import PlanObjects
from ops_commander.runtime import clock
from ops_commander.runtime.events import EventPoster
from ops_commander.runtime.plan_observer import PlanObserver, Sources
from ops_commander.runtime.plans import Artifacts, PlanReconciler
from ops_commander.runtime.served import Served
from ops_commander.runtime.settings import Settings
from ops_commander.runtime.workqueue import WorkQueue

log = logging.getLogger(__name__)

WORKERS = 2
RELIST_EVERY = 300.0


class PlanService:
    """Watches put keys on `queue`; `run` works on them while this process leads."""

    def __init__(
        self,
        settings: Settings,
        api: KubernetesApi,
        sources: Sources,
        artifacts: Artifacts | None,
        events: EventPoster,
        may_act: Callable[[], bool],
    ) -> None:
        self.queue = WorkQueue()
        self.served = Served(settings.selector)
        self._namespaces = settings.namespaces
        self._objects = PlanObjects(api)
        self._runs = MLflowRuns(settings.mlflow_url) if settings.mlflow_url else None
        observer = PlanObserver(self._objects, self._runs, sources, clock.now, settings.poll_interval)
        self._reconciler = PlanReconciler(
            objects=self._objects,
            observer=observer,
            runs=self._runs,
            artifacts=artifacts,
            events=events,
            queue=self.queue,
            clock=clock.now,
            may_act=may_act,
            served=self.served,
            mlflow_url=settings.mlflow_url,
        )

    async def run(self) -> None:
        """Until cancelled."""
        self._reconciler.begun = clock.now()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._relist())
                for _ in range(WORKERS):
                    group.create_task(self._reconciler.work())
        finally:
            if self._runs is not None:
                await self._runs.close()

    async def _relist(self) -> None:
        """What a watch has missed comes to light."""
        while True:
            namespaces: tuple[str | None, ...] = self._namespaces or (None,)
            for namespace in namespaces:
                try:
                    found = await self._objects.plans(namespace, self.served.selector.text)
                except ApiError as error:
                    log.warning("plans not listed, again in %.0fs: %s", RELIST_EVERY, error)
                    continue
                for key in (*found, *self.served.forgotten(namespace, found)):
                    self.queue.add(key)
            await asyncio.sleep(RELIST_EVERY)
