"""What Prometheus has of a candidate, with its own times."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp

from hack.demo.installed import ROLLOUT
from ops_commander.core import names

_LOOK_AGAIN = 0.25


@dataclass(frozen=True, slots=True)
class Scrapes:
    """Raw samples of one revision's pods."""

    prometheus: aiohttp.ClientSession
    namespace: str
    revision: str

    async def failures(self) -> list[tuple[float, float]]:
        """Time of each scrape of the last ten minutes, and the failed requests that it holds, in order."""
        return await self._samples('code="500"')

    async def await_count(self, wanted: int, since: float, seconds: float) -> None:
        """Until so many scrapes have begun since a moment; Prometheus can only be asked. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while True:
                if sum(at >= since for at, _ in await self._samples('code="200"')) >= wanted:
                    return
                await asyncio.sleep(_LOOK_AGAIN)

    async def _samples(self, matcher: str) -> list[tuple[float, float]]:
        pods = f"{names.replica_set_name(ROLLOUT, self.revision)}-.*"
        query = f'model_requests_total{{namespace="{self.namespace}",pod=~"{pods}",{matcher}}}[10m]'
        async with self.prometheus.get("/api/v1/query", params={"query": query}) as response:
            response.raise_for_status()
            series = (await response.json())["data"]["result"]
        return sorted((float(at), float(value)) for one in series for at, value in one["values"])
