"""Prometheus: instant queries through prometheus-api-client, answers as rows by pod."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.adapters import Retry

PodKey = tuple[str, str]
"""Namespace and name of a pod."""

PARALLEL_QUERIES = 8
MOST_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Answer:
    """One query's rows at one moment: a value for each pod, or a value for each bucket edge of each pod."""

    at: datetime
    values: Mapping[PodKey, float] = field(default_factory=dict)
    buckets: Mapping[PodKey, Mapping[float, float]] = field(default_factory=dict)


class QueryError(Exception):
    """Prometheus gave no usable answer; the text says why."""


class Prometheus:
    """One Prometheus server. Queries run in a bounded pool of threads, each with a deadline."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._timeout = timeout
        self._turn = asyncio.Semaphore(PARALLEL_QUERIES)
        self._pool = ThreadPoolExecutor(PARALLEL_QUERIES, thread_name_prefix="prometheus")
        self._connection = PrometheusConnect(url=url.rstrip("/"), retry=Retry(total=0), timeout=timeout, method="POST")

    async def query(self, promql: str, at: datetime) -> Answer:
        """Rows at a moment. Raises QueryError when there is no answer in time."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            request = loop.run_in_executor(self._pool, self._ask, promql, at)
            try:
                async with asyncio.timeout(self._timeout * 1.5):
                    return await request
            except TimeoutError as error:
                raise QueryError(f"no answer within {self._timeout * 1.5:.1f}s") from error

    def _ask(self, promql: str, at: datetime) -> Answer:
        """In a thread, parsing included: a large answer must not hold up the event loop."""
        limits = {"timeout": f"{self._timeout * 1000:.0f}ms", "limit": str(MOST_ROWS)}
        try:
            rows: list[dict[str, Any]] = self._connection.custom_query(
                promql, params={"time": f"{at.timestamp():.3f}", **limits}
            )
            if len(rows) >= MOST_ROWS:
                raise QueryError(f"the query gives {MOST_ROWS} rows or more: aggregate by namespace and pod")
            return parse(rows, at)
        except requests.RequestException as error:
            raise QueryError(f"Prometheus cannot be reached: {type(error).__name__}") from error
        except PrometheusApiClientException as error:
            raise QueryError(f"Prometheus refused the query: {_reason(str(error))}") from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise QueryError(f"the answer is not an instant vector: {type(error).__name__}") from error

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._connection.close()


def _reason(text: str) -> str:
    """Prometheus' own words out of the client's exception, which wraps the raw body."""
    found = re.search(r'"error":"(.*?)(?<!\\\\)"[,}]', text)
    return (found.group(1).replace("\\\\", "").replace('\\"', '"') if found else text)[:300]


def parse(rows: list[dict[str, Any]], at: datetime) -> Answer:
    """Rows of an instant vector; those without a pod, and values that are not finite, say nothing."""
    values: dict[PodKey, float] = {}
    buckets: dict[PodKey, dict[float, float]] = {}
    for row in rows:
        labels = row.get("metric") or {}
        sample = row.get("value")
        if "namespace" not in labels or "pod" not in labels or not sample:
            continue
        value = float(sample[1])
        if not math.isfinite(value):
            continue
        key = (labels["namespace"], labels["pod"])
        if "le" in labels:
            buckets.setdefault(key, {})[float(labels["le"])] = value
        else:
            values[key] = values.get(key, 0.0) + value
    return Answer(at, values, buckets)
