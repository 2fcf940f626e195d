"""YAML as JSON sees it: no tags, no dates, no surprises, and aliases that cannot blow up."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from ops_commander.integration.schema.jsontext import MAX_DEPTH
from ops_commander.integration.schema.model import Json, SchemaError

MAX_YAML_BYTES: Final = 16 * 1024 * 1024
MAX_NODES: Final = 500_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]{1,4000}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: Final[dict[str, Json]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_PLAIN_TAGS = {"bool", "float", "int", "map", "null", "seq", "str"}


def load_yaml(text: str) -> Json:
    """One YAML document, by the core schema of YAML 1.2. Raises SchemaError for what JSON could not say."""
    if len(text) > MAX_YAML_BYTES:
        raise SchemaError(f"{len(text):,} characters of YAML", f"at most {MAX_YAML_BYTES:,}; JSON may be larger")
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise SchemaError(problem or "malformed", "YAML", _place(mark)) from error
    except (RecursionError, MemoryError) as error:
        raise SchemaError(f"nested more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH}") from error
    return builder.document


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""


@dataclass(slots=True)
class _Frame:
    """A list or mapping that has begun and not ended."""

    value: list[Json] | dict[str, Json]
    anchor: str | None
    size: int = 1
    key: str | None = None
    merged: list[Json] = field(default_factory=list)


class _Builder:
    """Events to values, without recursion. Counts what aliases stand for, since others will walk through it."""

    def __init__(self) -> None:
        self.document: Json = None
        self._documents = 0
        self._values = 0
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Json, int]] = {}

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error("a second document", "one document", event)
        elif isinstance(event, yaml.ScalarEvent):
            self._check_tag(event)
            value = _scalar(event, self)
            self._finish(value, 1, event.anchor, event)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._error(f"*{event.anchor} stands for nothing, or for itself", "an anchor before", event)
            self._finish(*self._anchors[event.anchor], None, event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            frame = self._frames.pop()
            self._merge(frame, event)
            self._finish(frame.value, frame.size, frame.anchor, event)

    def _begin(self, event: Any) -> None:
        self._check_tag(event)
        if self._frames and isinstance(self._frames[-1].value, dict) and self._frames[-1].key is None:
            raise self._error("a key that is a list or a mapping", "text", event)
        value: list[Json] | dict[str, Json] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._frames.append(_Frame(value, event.anchor))
        if len(self._frames) > MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH}", event)

    def _check_tag(self, event: Any) -> None:
        tag = event.tag
        if tag and tag != "!" and tag.removeprefix("tag:yaml.org,2002:") not in _PLAIN_TAGS:
            raise self._error(f"the tag {tag}", "plain values", event)

    def _finish(self, value: Json, size: int, anchor: str | None, event: Any) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._frames:
            self.document = value
            return
        frame = self._frames[-1]
        frame.size += size
        # A list or mapping has been counted item by item; an alias stands for all of them again.
        self._values += size if isinstance(event, yaml.AliasEvent) else 1
        if self._values > MAX_NODES:
            raise self._error(
                f"more than {MAX_NODES:,} values, counting each alias in full", f"at most {MAX_NODES:,}", event
            )
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.key is None:
            frame.key = self._key(frame.value, value, event)
        elif frame.key == "<<":
            frame.merged.append(value)
            frame.key = None
        else:
            frame.value[frame.key], frame.key = value, None

    def _key(self, mapping: dict[str, Json], value: Json, event: Any) -> str:
        """Keys are text in JSON: `200:` is "200"."""
        if isinstance(value, (list, dict)) or value is None:
            raise self._error("a key that is not text", "text", event)
        key = event.value if isinstance(event, yaml.ScalarEvent) else str(value)
        if key in mapping:
            raise self._error(f"the key {key!r} is there twice", "each key once in a mapping", event)
        return str(key)

    def _merge(self, frame: _Frame, event: Any) -> None:
        for merged in frame.merged:
            for each in merged if isinstance(merged, list) else [merged]:
                if not isinstance(each, dict) or not isinstance(frame.value, dict):
                    raise self._error("<< merges something that is not a mapping", "a mapping", event)
                frame.value |= {key: item for key, item in each.items() if key not in frame.value}

    @staticmethod
    def _error(problem: str, expected: str, event: Any) -> SchemaError:
        return SchemaError(problem, expected, _place(event.start_mark))

    def not_finite(self, event: Any) -> SchemaError:
        return self._error(f"{event.value[:40]} is not a finite number", "a number within the range of a double", event)


def _scalar(event: Any, builder: _Builder) -> Json:
    text: str = event.value
    if not event.implicit[0] or event.style in ("'", '"', "|", ">"):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _NOT_FINITE.fullmatch(text):
        raise builder.not_finite(event)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise builder.not_finite(event)
        return value
    return text
