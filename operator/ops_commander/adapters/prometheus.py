"""One Prometheus server: counters at one tick, or at every tick of a range, through prometheus-api-client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from prometheus_api_client import PrometheusConnect
from requests.adapters import Retry

from ops_commander.adapters import prometheus_answers as answers
from ops_commander.adapters.prometheus_http import Access, QueryError, Session, TooLarge
from ops_commander.core.promql import PodLabels
from ops_commander.core.samples import Reading

__all__ = ["Access", "Prometheus", "QueryError"]

PARALLEL_QUERIES: Final = 8
MOST_ROWS: Final = 250_000
"""Of one tick; a row takes some 150 bytes while its answer is read."""
MOST_SERIES: Final = 50_000
"""Of one answer with a range."""
MOST_POINTS: Final = 11_000
"""Of one series in one answer; Prometheus allows no more."""
MOST_SAMPLES: Final = 200_000
"""Of one answer."""
MOST_SAMPLES_OF_A_RANGE: Final = 1_000_000
FIRST_POINTS: Final = 400
FEWEST_POINTS: Final = MOST_SAMPLES // MOST_SERIES

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Ticks:
    """`count` ticks from `start`."""

    start: datetime
    step: timedelta
    count: int

    @property
    def end(self) -> datetime:
        return self.start + (self.count - 1) * self.step

    def after(self, done: int) -> _Ticks:
        return _Ticks(self.start + done * self.step, self.step, self.count - done)

    def first(self, count: int) -> _Ticks:
        return _Ticks(self.start, self.step, min(count, self.count))


@dataclass(frozen=True, slots=True)
class _Answer:
    readings: list[Reading]
    samples: int


class Prometheus:
    """Queries run in a bounded pool of threads, each with a deadline."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._timeout = access.timeout.total_seconds()
        self._turn = asyncio.Semaphore(PARALLEL_QUERIES)
        self._known = answers.KnownSeries(access.labels)
        self._pool = ThreadPoolExecutor(PARALLEL_QUERIES, thread_name_prefix=f"prometheus-{access.name}")
        self._connection = PrometheusConnect(
            url=access.url.rstrip("/"),
            retry=Retry(total=0),
            timeout=self._timeout,
            method="POST",
            session=Session(access, {"/api/v1/query": self._read}),
        )

    @property
    def name(self) -> str:
        return self.access.name

    @property
    def labels(self) -> PodLabels:
        return self.access.labels

    async def query(self, promql: str, at: datetime) -> Reading:
        """The counters as they stand at a tick. Raises QueryError when there is no answer in time."""

        def ask() -> Reading:
            options = {"time": _seconds(at), **self._options(MOST_ROWS + 1)}
            vector: answers.Vector = self._connection.custom_query(promql, params=options)
            if vector.rows > MOST_ROWS:
                raise QueryError(f"the query gives more than {MOST_ROWS} rows: aggregate by namespace and pod")
            self._known.age(at)
            return vector.reading(at.astimezone(UTC))

        return await self._in_time(ask)

    def _read(self, pieces: Iterator[bytes]) -> dict[str, dict[str, answers.Vector]]:
        """What the client takes for the JSON of an answer."""
        return {"data": {"result": answers.read(pieces, self._known, MOST_ROWS)}}

    async def query_range(self, promql: str, start: datetime, end: datetime, step: timedelta) -> list[Reading]:
        """One reading for each of start, start + step … that is not after end. Raises QueryError, as `query` does."""
        if end < start:
            return []
        left = _Ticks(start.astimezone(UTC), step, (end - start) // step + 1)
        readings: list[Reading] = []
        samples, points = 0, FIRST_POINTS
        while left.count:
            chunk = left.first(points)
            answer = await self._in_time(partial(self._ask_range, promql, chunk))
            if answer is None:
                points = max(FEWEST_POINTS, chunk.count // 8)
                continue
            readings += answer.readings
            samples += answer.samples
            if samples > MOST_SAMPLES_OF_A_RANGE:
                raise QueryError(f"the range has more than {MOST_SAMPLES_OF_A_RANGE} samples: ask for a shorter one")
            left = left.after(chunk.count)
            points = max(FEWEST_POINTS, min(MOST_POINTS, MOST_SAMPLES * chunk.count // (2 * answer.samples + 1)))
        return readings

    def _ask_range(self, promql: str, ticks: _Ticks) -> _Answer | None:
        """None where the answer is too large and fewer ticks may do."""
        most = min(MOST_SERIES, MOST_SAMPLES // ticks.count)
        options = {"start": _seconds(ticks.start), "end": _seconds(ticks.end), **self._options(most + 1)}
        try:
            rows = self._connection.custom_query_range(
                promql, ticks.start, ticks.end, _number(ticks.step), params=options
            )
            if len(rows) > most:
                raise TooLarge(f"the query gives more than {most} rows: aggregate by namespace and pod")
        except TooLarge:
            if ticks.count <= FEWEST_POINTS:
                raise
            return None
        readings = answers.matrix(rows, ticks.start, ticks.step, ticks.count, self.labels)
        return _Answer(readings, answers.size(rows))

    def _options(self, most_rows: int) -> dict[str, str]:
        return {
            "timeout": f"{self._timeout * 1000:.0f}ms",
            "limit": str(most_rows),
            "lookback_delta": _number(self.access.lookback),
        }

    async def _in_time(self, ask: Callable[[], T]) -> T:
        """In a thread, parsing included: a large answer must not hold up the event loop."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            try:
                async with asyncio.timeout(self._timeout * 1.5):
                    return await loop.run_in_executor(self._pool, _usable, ask)
            except TimeoutError as error:
                raise QueryError(f"no answer within {self._timeout * 1.5:.1f}s") from error

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._connection.close()


def _usable(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise QueryError(f"the answer is not one of Prometheus: {type(error).__name__}") from error


def _seconds(moment: datetime) -> str:
    return f"{moment.timestamp():.3f}"


def _number(length: timedelta) -> str:
    return f"{length.total_seconds():.3f}"
