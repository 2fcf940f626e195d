"""The API server's audit log: which requests the operator has made, and when."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Call:
    at: float
    """When it was answered."""
    user: str
    verb: str
    resource: str
    """Such as `modelrollouts/status`."""
    namespace: str
    name: str
    code: int

    @property
    def writes(self) -> bool:
        return self.verb in _WRITES


def calls(log: Path, offset: int = 0) -> Iterator[Call]:
    """From a place in the file on, to its end."""
    with log.open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            if line.endswith(b"\n"):
                found = json.loads(line)
                if "objectRef" in found:
                    yield _call(found)


def _call(found: dict[str, object]) -> Call:
    reference, user, status = found["objectRef"], found["user"], found.get("responseStatus")
    assert isinstance(reference, dict) and isinstance(user, dict)
    resource = "/".join(part for part in (reference.get("resource"), reference.get("subresource")) if part)
    at = datetime.fromisoformat(str(found["stageTimestamp"])).timestamp()
    code = status.get("code", 0) if isinstance(status, dict) else 0
    namespace, name = reference.get("namespace", ""), reference.get("name", "")
    return Call(at, str(user["username"]), str(found["verb"]), resource, namespace, name, code)


def end_of(log: Path) -> int:
    return log.stat().st_size


def counted(found: Iterator[Call], start: float, end: float) -> Counter[tuple[str, str]]:
    """By verb and resource, the Lease left out: its pace is its own."""
    within = (call for call in found if start <= call.at < end and call.resource != "leases")
    return Counter((call.verb, call.resource) for call in within)
