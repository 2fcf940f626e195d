"""Which objects of one kind this process serves: those that its selector matches, as far as it has been told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ops_commander.core.selectors import EVERYTHING, Selector
from ops_commander.runtime.workqueue import Key


class Served:
    """Told by watches and lists, which select at the API server, and by each fresh read."""

    def __init__(self, selector: Selector = EVERYTHING) -> None:
        self.selector = selector
        self._names: dict[str, set[str]] = {}

    def add(self, key: Key) -> None:
        self._names.setdefault(key[0], set()).add(key[1])

    def discard(self, key: Key) -> None:
        self._names.get(key[0], set()).discard(key[1])

    def of(self, namespace: str) -> list[Key]:
        return [(namespace, name) for name in self._names.get(namespace, ())]

    def read(self, key: Key, body: Mapping[str, Any] | None) -> bool:
        """Take in an object that was read, None where there is none; whether it is this process's to act on."""
        is_mine = body is not None and self.selector.matches(body["metadata"].get("labels"))
        self.add(key) if is_mine else self.discard(key)
        return is_mine

    def forgotten(self, namespace: str | None, found: Collection[Key]) -> list[Key]:
        """Take in a full list; the keys that are not in it any more, whose end here a watch has missed."""
        known = {(where, name) for where, members in self._names.items() for name in members}
        gone = [key for key in known - set(found) if namespace in (None, key[0])]
        for key in gone:
            self.discard(key)
        for key in found:
            self.add(key)
        return gone

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and key[1] in self._names.get(key[0], ())
