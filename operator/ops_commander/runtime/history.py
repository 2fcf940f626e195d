"""Reads ticks that have passed: of some rollouts alone, so that the cost grows with what they have missed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from ops_commander.api.policy import Objective
from ops_commander.core import baseline, promql
from ops_commander.core.samples import Owner, Reading, tick_at_or_before
from ops_commander.core.snapshot import Baseline

PARALLEL_READS = 4
"""Fewer than a server's connections: history never holds up the present tick."""

MOST_BASELINE_TICKS = 720

MOST_NAMED = 200
"""ReplicaSets, two of each rollout, that a tick's query names."""
MOST_NAMESPACES = 100


class MetricSource(Protocol):
    """A Prometheus server."""

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> promql.PodLabels: ...

    async def query(self, promql: str, at: datetime) -> Reading: ...

    async def query_range(self, promql: str, start: datetime, end: datetime, step: timedelta) -> list[Reading]: ...


@dataclass
class History:
    """Range queries that are scoped to the pods of some rollouts."""

    interval: timedelta
    _turns: defaultdict[str, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(PARALLEL_READS))
    )
    """By server: one that hangs holds up no other."""

    async def read(
        self, source: MetricSource, queries: Iterable[str], owners: Sequence[Owner], start: datetime, end: datetime
    ) -> dict[str, list[Reading]]:
        """Every tick from start to end, by query; of a namespace all owners at once. Raises QueryError."""
        prefixes: dict[str, list[str]] = {}
        for namespace, name in owners:
            prefixes.setdefault(namespace, []).append(name)

        async def one(query: str, namespace: str) -> list[Reading]:
            async with self._turns[source.name]:
                scoped = promql.scoped(query, namespace=namespace, pod_prefix=prefixes[namespace], labels=source.labels)
                return await source.query_range(scoped, start, end, self.interval)

        async def everywhere(query: str) -> tuple[str, list[Reading]]:
            parts = await asyncio.gather(*(one(query, namespace) for namespace in prefixes))
            return query, [_merged(together) for together in zip(*parts, strict=True)]

        return dict(await asyncio.gather(*map(everywhere, sorted(set(queries)))))

    async def baseline(
        self, source: MetricSource, objectives: Sequence[Objective], stable: Owner, window: timedelta, now: datetime
    ) -> Baseline:
        """What the stable version showed of each objective up to now. Raises QueryError."""
        end = tick_at_or_before(now, self.interval)
        start = end - min(window, MOST_BASELINE_TICKS * self.interval) // self.interval * self.interval
        queries = [query for objective in objectives for query in objective.queries]
        readings: Mapping[str, Sequence[Reading]] = await self.read(source, queries, [stable], start, end)
        found = (baseline.summarised(objective, readings, stable) for objective in objectives if objective.queries)
        return Baseline(tuple(item for item in found if item is not None))


def _merged(readings: Sequence[Reading]) -> Reading:
    if len(readings) == 1:
        return readings[0]
    return Reading(readings[0].at, {owner: pods for reading in readings for owner, pods in reading.rows.items()})


def live_query(query: str, owners: Collection[Owner], labels: promql.PodLabels) -> str:
    """The query as it is asked for all that want it together.

    An answer leaves out what is not asked for: few are named, of many only the namespaces. A server tries a regular
    expression on the name of each pod that it knows, namespaces it looks up.
    """
    namespaces = {namespace for namespace, _ in owners}
    if len(namespaces) > MOST_NAMESPACES:
        return promql.unscoped(query)
    named = [name for _, name in owners] if len(owners) <= MOST_NAMED else []
    return promql.scoped(query, namespace=[*namespaces], pod_prefix=named, labels=labels)
