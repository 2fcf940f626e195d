"""References inside one document. What lies outside is refused: nothing is fetched."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from ops_commander.integration.schema.model import Json, SchemaError, step

MAX_HOPS: Final = 1_000


class References:
    """Looks up `$ref` by JSON pointer or anchor."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._found: dict[str, Json] = {}
        self._anchors: dict[str, Json] | None = None

    def resolve(self, reference: Json, where: str) -> Json:
        """The value that a `$ref` stands for. Raises SchemaError where it is outside, or nowhere."""
        if not isinstance(reference, str):
            raise SchemaError("a $ref that is not text", "a reference such as #/$defs/Name", where)
        if reference not in self._found:
            self._found[reference] = self._look_up(reference, where)
        return self._found[reference]

    def follow(self, value: Json, where: str) -> Json:
        """The value itself, or what it refers to, over several hops."""
        for _ in range(MAX_HOPS):
            if not isinstance(value, dict) or "$ref" not in value:
                return value
            value = self.resolve(value["$ref"], where)
        raise SchemaError("a $ref that leads to itself", "a value", where)

    def _look_up(self, reference: str, where: str) -> Json:
        base, _, fragment = reference.partition("#")
        own = self._document.get("$id") if isinstance(self._document, dict) else None
        if base and base != (own.partition("#")[0] if isinstance(own, str) else None):
            raise SchemaError(
                f"the reference {reference[:80]!r} leads out of the document", "one within, such as #/$defs/Name", where
            )
        pointer = unquote(fragment)
        if not pointer:
            return self._document
        if not pointer.startswith("/"):
            return self._anchor(pointer, where)
        value = self._document
        for part in pointer[1:].split("/"):
            value = self._enter(value, part.replace("~1", "/").replace("~0", "~"), reference, where)
        return value

    @staticmethod
    def _enter(value: Json, part: str, reference: str, where: str) -> Json:
        if isinstance(value, dict) and part in value:
            return value[part]
        if isinstance(value, list) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            return value[int(part)]
        raise SchemaError(f"the reference {reference[:80]!r} leads nowhere", "a place in this document", where)

    def _anchor(self, name: str, where: str) -> Json:
        if self._anchors is None:
            self._anchors = _anchors(self._document)
        if name not in self._anchors:
            raise SchemaError(f"no anchor {name[:80]!r}", "an $anchor in this document", where)
        return self._anchors[name]


def _anchors(document: Json) -> dict[str, Json]:
    found: dict[str, Json] = {}
    todo = [document]
    while todo:
        value = todo.pop()
        if isinstance(value, list):
            todo += value
        elif isinstance(value, dict):
            for key in ("$anchor", "$dynamicAnchor"):
                name = value.get(key)
                if isinstance(name, str):
                    found.setdefault(name, value)
            todo += value.values()
    return found


def last_step(reference: Json) -> str | None:
    """The name by which a reference is known to people."""
    if not isinstance(reference, str) or not reference:
        return None
    return step(reference.rpartition("/")[2].rpartition("#")[2]) or None
