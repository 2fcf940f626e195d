"""One rollout and its route as the watches tell of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.api import Api
from hack.demo.installed import ROLLOUT
from ops_commander.core import names
from ops_commander.runtime import clock


@dataclass
class Watched:
    """`follow` keeps it up to date; times are Unix seconds at which an event came in."""

    api: Api
    namespace: str
    rollout: dict[str, Any] = field(default_factory=dict)
    weights: list[tuple[float, int]] = field(default_factory=list)
    """Of the candidate on the route, with every change."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.rollout.get("status") or {})

    @property
    def step(self) -> dict[str, Any]:
        return dict(self.status.get("step") or {})

    @property
    def deployment(self) -> dict[str, Any]:
        return dict(self.status.get("deployment") or {})

    @property
    def rollouts(self) -> str:
        return f"apis/ops-commander.dev/v1alpha1/namespaces/{self.namespace}/modelrollouts"

    async def follow(self) -> None:
        """Until cancelled. Raises aiohttp.ClientError where a watch breaks."""
        routes = f"apis/gateway.networking.k8s.io/v1/namespaces/{self.namespace}/httproutes"
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(self.rollouts, self._take_rollout))
            group.create_task(self._watch(routes, self._take_route))

    async def _watch(self, path: str, take: Callable[[dict[str, Any]], None]) -> None:
        async for kind, item in self.api.watch(path):
            if kind != "DELETED":
                take(item)
                async with self._changed:
                    self._changed.notify_all()

    def _take_rollout(self, item: dict[str, Any]) -> None:
        self.rollout = item

    def _take_route(self, item: dict[str, Any]) -> None:
        candidate = names.candidate_service_name(ROLLOUT)
        backends = item["spec"]["rules"][0].get("backendRefs") or []
        weight = next((int(backend["weight"]) for backend in backends if backend["name"] == candidate), 0)
        if not self.weights or self.weights[-1][1] != weight:
            self.weights.append((clock.now().timestamp(), weight))

    def weight_zero_after(self, moment: float) -> float | None:
        return next((at for at, weight in self.weights if at >= moment and weight == 0), None)

    async def until(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        """Raises TimeoutError that says what was waited for and where the rollout stands."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(holds)
        except TimeoutError:
            told = {name: self.status.get(name) for name in ("phase", "stepName", "weight", "reason", "message")}
            raise TimeoutError(f"waited {seconds:.0f} s until {what}; status is {told}") from None
