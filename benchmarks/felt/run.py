"""One run: a candidate in its canary step begins to fail, and is reverted."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.felt.access import Access
from benchmarks.felt.answers import Load
from benchmarks.felt.idle import Processors
from benchmarks.felt.scrapes import Scrapes
from benchmarks.felt.shares import Observed, by_kind, figures
from benchmarks.felt.shop import Shop
from benchmarks.felt.watched import Watched
from benchmarks.report import Figures
from hack.demo.installed import ROLLOUT
from ops_commander.api.fields import parse_time
from ops_commander.core import names
from ops_commander.runtime import clock

SCRAPES_BEFORE = 2
"""Of the candidate at its weight: one to count from, one that counts."""
_PATIENCE = 120.0
"""Seconds for what takes some, scrapes not included."""


class NotMeasuredError(Exception):
    """The run went another way than it should have; the text says which."""


@dataclass
class Group:
    """All runs at one pace of scrapes, one after the other, under one load."""

    shop: Shop
    access: Access
    watched: Watched
    load: Load
    poll: float
    """Seconds between two ticks of the operator."""
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def _patience(self) -> float:
        return _PATIENCE + 6 * self.shop.scrape

    async def launch(self) -> None:
        """A first version live under load, and scraped a few times."""
        await self.access.api.create(self.watched.rollouts, self.shop.version(next(self._versions), 5))
        await self.watched.until("a version is live", lambda: self.watched.status.get("phase") == "Completed", 120)
        began = clock.now().timestamp()
        await self.load.start()
        await self._scrapes(self.watched.status["stableRevision"]).await_count(3, began, self._patience)

    def _scrapes(self, revision: str) -> Scrapes:
        return Scrapes(self.access.prometheus, self.shop.namespace, revision)

    async def measure(self, weight: int) -> Figures:
        """Raises NotMeasuredError, TimeoutError and aiohttp.ClientError; another run may follow."""
        version = await self._into_canary(weight)
        revision, deployment = self.watched.deployment["revision"], self.watched.deployment["id"]
        scrapes, answers = self._scrapes(revision), self.load.answers
        since = parse_time(self.watched.step["runningSince"]).timestamp()
        await scrapes.await_count(SCRAPES_BEFORE, since, self._patience)
        await asyncio.sleep(random.uniform(0, max(self.shop.scrape, self.poll)))  # any place between scrapes and ticks
        self._assert_running(deployment)
        before, sent, answered = Processors.now(), answers.sent, answers.answers_of(str(version))
        fault = clock.now().timestamp()
        await self._break(revision)
        broken = clock.now().timestamp()
        await self.watched.until("the candidate is rolled back", lambda: self._is_over(deployment), self._patience)
        ended = clock.now().timestamp()
        idle = Processors.now().idle_share_since(before)
        rollback = self.watched.status.get("rollback") or {}
        if rollback.get("deploymentId") != deployment or rollback.get("reason") != "ObjectiveBreached":
            raise NotMeasuredError(f"{deployment} ended otherwise than by its objectives: {rollback}")
        observed = Observed(
            fault=fault,
            failures=tuple(failure for failure in answers.failures if failure.received >= fault),
            failing_scrapes=tuple(at for at, value in await scrapes.failures() if value > 0),
            visible=parse_time(rollback["breachVisibleAt"]).timestamp(),
            decided=parse_time(rollback["decidedAt"]).timestamp(),
            steered=self.watched.weight_zero_after(fault),
        )
        return {
            **figures(observed),
            "deployment": deployment,
            "objective": rollback.get("objective"),
            "fault_at": fault,
            "fault_set_within": round(broken - fault, 3),
            "candidate_answers_before": answered,
            "failed_before": by_kind(failure for failure in answers.failures if failure.received < fault),
            "sent_per_second": round((answers.sent - sent) / (ended - fault), 1),
            "idle": idle,
        }

    async def _into_canary(self, weight: int) -> int:
        """A new version at its weight."""
        version = next(self._versions)
        self.load.answers.failures.clear()
        path = f"{self.watched.rollouts}/{ROLLOUT}"
        body = await self.access.api.merge(path, {"spec": self.shop.version(version, weight)["spec"]})
        generation = body["metadata"]["generation"]

        def is_there() -> bool:
            deployment, step = self.watched.deployment, self.watched.step
            return deployment.get("generation", 0) >= generation and step.get("state") == "Running"

        await self.watched.until(f"version {version} is at weight {weight}", is_there, self._patience)
        return version

    def _assert_running(self, deployment: str) -> None:
        found, state = self.watched.deployment.get("id"), self.watched.step.get("state")
        if (found, state) != (deployment, "Running"):
            raise NotMeasuredError(f"{deployment} did not stay in its step: {found} is {state}")

    def _is_over(self, deployment: str) -> bool:
        found = self.watched.deployment
        return found.get("id") != deployment or bool(found.get("outcome"))

    async def _break(self, revision: str) -> None:
        """From now on every request to the candidate is answered with 500."""
        pods = f"api/v1/namespaces/{self.shop.namespace}/pods"
        selector = f"{names.REVISION_LABEL}={revision}".replace("/", "%2F").replace("=", "%3D")
        listed: dict[str, Any] = await self.access.api.request("GET", f"{pods}?labelSelector={selector}")
        paths = [f"{pods}/{item['metadata']['name']}:9090/proxy/faults" for item in listed["items"]]
        await asyncio.gather(*(self.access.api.request("POST", path, {"error_rate": 1.0}) for path in paths))
