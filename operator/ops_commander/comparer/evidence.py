"""Evidence of a comparison: `deployment/shadow/metrics.log` and `worst_pairs.jsonl`, in the deployment's run."""

from __future__ import annotations

import asyncio
import json
import logging
import posixpath
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from ops_commander.comparer.ledger import MOST_MINUTES, Ledger
from ops_commander.comparer.settings import Settings

log = logging.getLogger(__name__)

FOLDER: Final = "deployment/shadow"
EVERY: Final = 60.0
UPLOAD_SECONDS: Final = 30.0
LAST_UPLOAD_SECONDS: Final = 10.0


class EvidenceStore(Protocol):
    """Where artifacts of runs are kept."""

    async def upload(self, run_id: str, path: str, data: bytes) -> str:
        """Store a file, replacing an older one. Returns its sha256."""
        ...

    async def close(self) -> None: ...


class Evidence:
    """Writes a line a minute and one at the end. A store that fails is told of, and disturbs nothing."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        store: EvidenceStore | None,
        now: Callable[[], datetime],
        tell: Callable[[str], None],
    ) -> None:
        self._settings, self._ledger, self._store = settings, ledger, store
        self._now, self._tell = now, tell
        self._lines: deque[str] = deque(maxlen=MOST_MINUTES)
        self._uploaded: dict[str, bytes] = {}

    async def keep(self, every: float = EVERY) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(every)
            await self.write(UPLOAD_SECONDS)

    async def write(self, deadline: float = LAST_UPLOAD_SECONDS) -> None:
        """One more line, and an upload of what has changed."""
        line = json.dumps(self._ledger.summary(self._now(), self._settings.deployment_id))
        self._lines.append(line)
        self._tell(line)
        if self._store is None or not self._settings.run_id:
            return
        try:
            async with asyncio.timeout(deadline):
                await self._upload(self._store)
        except Exception:
            # Of whatever library keeps it: evidence is second to comparing.
            self._ledger.metrics.evidence_failures.inc()
            log.warning("evidence for run %s was not uploaded", self._settings.run_id, exc_info=True)

    async def _upload(self, store: EvidenceStore) -> None:
        files = {
            "metrics.log": "".join(f"{line}\n" for line in self._lines),
            "worst_pairs.jsonl": "".join(f"{json.dumps(pair)}\n" for pair in self._ledger.worst.pairs),
        }
        for name, text in files.items():
            data = text.encode()
            if data and self._uploaded.get(name) != data:
                path = posixpath.join(self._settings.evidence_path.strip("/"), FOLDER, name)
                digest = await store.upload(self._settings.run_id, path, data)
                log.debug("uploaded %s, sha256 %s", path, digest)
                self._uploaded[name] = data
