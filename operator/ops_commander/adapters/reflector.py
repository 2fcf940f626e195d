"""One kind of objects kept known: a list, then a watch from there on, and a new list where the watch has lost track."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from ops_commander.adapters.kubernetes import ApiError, Expired, KubernetesApi
from ops_commander.adapters.surroundings import LABELS, KnownObjects

log = logging.getLogger(__name__)

FIRST_BACKOFF: Final = 0.5
LONGEST_BACKOFF: Final = 8.0
TOO_SOON: Final = 1.0
"""Seconds before which no server ends a watch of which nothing has been heard; a proxy may."""


class Reflector:
    """`synced` is set after the first whole list."""

    def __init__(
        self, api: KubernetesApi, known: KnownObjects, kind: str, namespace: str | None, heard: Callable[[], None]
    ) -> None:
        self.synced = asyncio.Event()
        self.kind = kind
        self._api, self._known, self._namespace, self._heard = api, known, namespace, heard
        self._version = ""
        self._failures = 0

    async def run(self) -> None:
        """Until cancelled. Without an API server what is known stays as it was."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._follow()
            except Expired:
                self._version = ""
            except ApiError as error:
                await self._back_off(error)

    async def _list(self) -> None:
        listed: set[tuple[str, str]] = set()
        version = ""
        async for page in self._api.pages(self.kind, self._namespace, LABELS[self.kind]):
            version = page.version
            for item in page.items:
                listed.add((item["metadata"]["namespace"], item["metadata"]["name"]))
                self._known.take(item, self.kind)
            await asyncio.sleep(0)  # reverts go in between
        self._known.keep_only(self.kind, self._namespace, listed, version)
        self._version = version
        self._heard()
        self.synced.set()

    async def _follow(self) -> None:
        began, heard = asyncio.get_running_loop().time(), False
        async for event in self._api.watch(self.kind, self._namespace, LABELS[self.kind], self._version):
            self._heard()
            if event.type == "DELETED":
                metadata = event.item["metadata"]
                self._known.drop(self.kind, metadata["namespace"], metadata["name"])
            elif event.type != "BOOKMARK":
                self._known.take(event.item, self.kind)
            self._version, heard = event.version, True
            self._failures = 0
        if not heard and asyncio.get_running_loop().time() < began + TOO_SOON:
            raise ApiError(0, "the watch ended as soon as it began")

    async def _back_off(self, error: ApiError) -> None:
        delay = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(self._failures, 10)) * random.uniform(0.8, 1.2)
        self._failures += 1
        where = self._namespace or "all namespaces"
        log.warning("%s objects of %s not followed, again in %.1fs: %s", self.kind, where, delay, error)
        await asyncio.sleep(delay)
