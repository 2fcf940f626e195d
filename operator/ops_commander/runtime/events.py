"""Kubernetes Events on transitions: posted in the background, tried a few times, in nobody's way."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops_commander.adapters.kubernetes import ApiError, Invalid, KubernetesApi, NotFound
from ops_commander.core.changes import Occurrence
from ops_commander.runtime import metrics

log = logging.getLogger(__name__)

LIMIT = 10_000
"""All of a thousand that break at once have some three thousand events to tell."""
TRIES = 5
NOTE_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class Subject:
    """The rollout or plan that an event is about."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    kind: str = "ModelRollout"


class EventPoster:
    """A bounded line of events; when the API server is away for long, the oldest are given up and counted."""

    def __init__(self, api: KubernetesApi, identity: str, clock: Callable[[], datetime]) -> None:
        self._api, self._identity, self._clock = api, identity, clock
        self._line: asyncio.Queue[tuple[Subject, dict[str, Any]]] = asyncio.Queue(LIMIT)

    def post(self, subject: Subject, occurrence: Occurrence) -> None:
        body = self._body(subject, occurrence)
        if self._line.full():
            self._line.get_nowait()
            metrics.events_dropped.inc()
        self._line.put_nowait((subject, body))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            subject, body = await self._line.get()
            await self._deliver(subject, body)

    async def _deliver(self, subject: Subject, body: Mapping[str, Any]) -> None:
        for attempt in range(TRIES):
            try:
                await self._api.create("Event", subject.namespace, body)
                return
            except (Invalid, NotFound) as error:
                log.warning("event %s refused: %s", body["reason"], error)
                break
            except ApiError as error:
                log.warning("event %s not posted yet: %s", body["reason"], error)
                await asyncio.sleep(2.0**attempt)
        metrics.events_dropped.inc()

    def _body(self, subject: Subject, occurrence: Occurrence) -> dict[str, Any]:
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{subject.name}.{secrets.token_hex(8)}", "namespace": subject.namespace},
            "eventTime": self._clock().isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": "ops-commander.dev/operator",
            "reportingInstance": self._identity,
            "action": "Reconcile",
            "reason": occurrence.reason,
            "note": occurrence.message[:NOTE_LENGTH],
            "type": "Warning" if occurrence.warning else "Normal",
            "regarding": {
                "apiVersion": "ops-commander.dev/v1alpha1",
                "kind": subject.kind,
                "namespace": subject.namespace,
                "name": subject.name,
                "uid": subject.uid,
                "resourceVersion": subject.resource_version,
            },
        }
