"""Which rollouts this process serves, each as it was last told of, read or written."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ops_commander.adapters.surroundings import Change
from ops_commander.core.selectors import EVERYTHING, Selector
from ops_commander.runtime.workqueue import Key

MOST_ENDED = 10_000


@dataclass(frozen=True, slots=True)
class _Kept:
    version: int
    text: bytes
    """Compressed JSON: a fiftieth of the size of its dicts, and read only when the rollout is looked at."""
    route: str
    policy: str


class Rollouts:
    """By key; an older version of a rollout never takes the place of a newer one."""

    def __init__(self, selector: Selector = EVERYTHING) -> None:
        self.selector = selector
        self._kept: dict[str, dict[str, _Kept]] = {}
        self._ended: dict[Key, int] = {}
        """Versions at which rollouts went: an answer that was under way then brings none of them back."""
        self._on_route: dict[Key, set[str]] = defaultdict(set)
        self._under_policy: dict[Key, set[str]] = defaultdict(set)

    def take(self, body: Mapping[str, Any]) -> bool:
        """Whether it is news."""
        metadata = body["metadata"]
        key, version = (metadata["namespace"], metadata["name"]), int(metadata["resourceVersion"])
        before = self._kept.get(key[0], {}).get(key[1])
        if version <= max(before.version if before else 0, self._ended.get(key, 0)):
            return False
        kept = _kept(body, version)
        if before is not None:
            self._unlink(key, before)
        self._kept.setdefault(key[0], {})[key[1]] = kept
        self._on_route[key[0], kept.route].add(key[1])
        self._under_policy[key[0], kept.policy].add(key[1])
        return True

    def discard(self, key: Key, version: int = 0) -> None:
        """`version` is the one at which it was deleted, or given to another process."""
        if len(self._ended) >= MOST_ENDED:
            self._ended.clear()
        self._ended[key] = max(version, self._ended.get(key, 0))
        before = self._kept.get(key[0], {}).pop(key[1], None)
        if before is not None:
            self._unlink(key, before)

    def read(self, key: Key, body: Mapping[str, Any] | None) -> bool:
        """Take in a rollout that was read, None where there is none; whether it is this process's to act on."""
        if body is None or not self.selector.matches(body["metadata"].get("labels")):
            self.discard(key, int(body["metadata"]["resourceVersion"]) if body else 0)
            return False
        self.take(body)
        return key in self

    def body(self, key: Key) -> dict[str, Any] | None:
        """As known; None where it is not."""
        kept = self._kept.get(key[0], {}).get(key[1])
        if kept is None:
            return None
        body: dict[str, Any] = json.loads(zlib.decompress(kept.text))
        return body

    def concerned(self, change: Change) -> list[Key]:
        """Those around which an object has changed."""
        place = (change.namespace, change.name)
        if change.kind == "HTTPRoute":
            return self._keys(place, self._on_route)
        if change.kind == "RolloutPolicy":
            return self._keys(place, self._under_policy)
        key = (change.namespace, change.rollout)
        return [key] if key in self else []

    def differing(self, namespace: str | None, listed: Mapping[Key, str]) -> list[Key]:
        """Hold what is known against a full list of resource versions: rollouts to look at, because a watch has missed
        a change or the deletion of them."""
        known = {
            (where, name): str(kept.version)
            for where, members in self._kept.items()
            for name, kept in members.items()
            if namespace in (None, where)
        }
        gone = [key for key in known if key not in listed]
        for key in gone:
            self.discard(key)
        return [*gone, *(key for key, version in listed.items() if known.get(key) != version)]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and key[1] in self._kept.get(key[0], ())

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    @staticmethod
    def _keys(place: Key, index: Mapping[Key, set[str]]) -> list[Key]:
        return [(place[0], name) for name in sorted(index.get(place, ()))]

    def _unlink(self, key: Key, kept: _Kept) -> None:
        for index, name in ((self._on_route, kept.route), (self._under_policy, kept.policy)):
            index[key[0], name].discard(key[1])
            if not index[key[0], name]:
                del index[key[0], name]


def _kept(body: Mapping[str, Any], version: int) -> _Kept:
    """Of a spec that nobody has checked yet."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    spec = body.get("spec") or {}
    route = _at(spec, "traffic", "gatewayAPI", "httpRouteRef", "name") or metadata["name"]
    text = zlib.compress(json.dumps({**body, "metadata": metadata}, separators=(",", ":")).encode(), 1)
    return _Kept(version, text, str(route), str(_at(spec, "policyRef", "name") or ""))


def _at(found: Any, *path: str) -> Any:
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
