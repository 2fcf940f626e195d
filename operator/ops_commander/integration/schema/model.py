"""The one model that every format is read into: what a caller sends, and what it gets back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Shape: TypeAlias = tuple[int, ...]

DYNAMIC: Final = -1
"""A dimension that may have any length."""

MAX_FIELDS: Final = 200_000
MAX_LEVELS: Final = 100


class SchemaError(ValueError):
    """Input that is not used: where, what is wrong, and what was expected. The caller knows the file."""

    def __init__(self, problem: str, expected: str, where: str = "") -> None:
        self.problem, self.expected, self.where = problem, expected, where
        place = f"{where}: " if where else ""
        super().__init__(f"{place}{problem}: expected {expected}")


class Direction(StrEnum):
    REQUEST = "request"
    RESPONSE = "response"


class Typing(StrEnum):
    """What travels with a value, and so what another type does to those who are not changed."""

    VALUE = "value"  # JSON and the like: a number is a number
    EXACT = "exact"  # tensors: the type is part of the message, and must match
    WIRE = "wire"  # protobuf: the type decides how bytes are read


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing that can be read or sent, named by its JSON pointer or the name of its tensor."""

    path: str
    types: tuple[str, ...] = ()
    """Canonical types, sorted; more than one is a union, none is anything."""
    parent: str | None = None
    """The path of the field that must be there for this one to be there."""
    shape: Shape | None = None
    """Lengths of dimensions, -1 for any; None where the rank is free."""
    required: bool = False
    nullable: bool = False
    encoding: str | None = None
    """How the value is written. What says when begins with `timestamp:`."""
    serialization: str | None = None
    """Where it is not that of the whole message."""
    enum: frozenset[str] | None = None
    """The values allowed, each as canonical JSON."""
    constraints: Mapping[str, Json] = field(default_factory=lambda: MappingProxyType({}))
    default: str | None = None
    """As canonical JSON; None is no default."""
    doc: str | None = None
    typing: Typing = Typing.VALUE
    number: int | None = None
    """The number that stands for the name on the wire."""
    branch: bool = False
    """One of several forms of its parent, of which a message has one."""
    closed: bool = False
    """An object that refuses fields which it does not know."""


@dataclass(frozen=True, slots=True)
class Side:
    """All fields of one direction, in their order."""

    fields: tuple[Field, ...] = ()
    serialization: str | None = None
    ordered: bool = False
    """Whether a caller may know the fields by their position."""


@dataclass(frozen=True, slots=True)
class ApiSchema:
    """What one version of a model takes and answers."""

    format: str
    request: Side
    response: Side
    notes: tuple[str, ...] = ()

    def side(self, direction: Direction) -> Side:
        return self.request if direction == Direction.REQUEST else self.response


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def canonical(value: Json) -> str:
    """Equal values have equal texts; 1.0 and 1 are equal, as they are in JSON."""
    return _ENCODER.encode(_plain(value))


def _plain(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def plain(text: str | None) -> Json:
    """The value of a canonical text."""
    value: Json = None if text is None else json.loads(text)
    return value


def side(fields: Iterable[Field], serialization: str | None = None, *, ordered: bool = False) -> Side:
    """A side of so many fields at most that it can be compared. Raises SchemaError: too many, or a name twice."""
    seen: dict[str, Field] = {}
    for item in fields:
        if item.path in seen:
            raise SchemaError(f"{item.path!r} is there twice", "each name once")
        if len(seen) >= MAX_FIELDS:
            raise SchemaError(f"more than {MAX_FIELDS:,} fields", f"at most {MAX_FIELDS:,} in one direction")
        seen[item.path] = item
    return Side(tuple(seen.values()), serialization, ordered)


def step(name: str) -> str:
    """A name as one step of a JSON pointer. `*` (items) and `{…}` (other keys) are ours, so such names are escaped."""
    escaped = name.replace("~", "~0").replace("/", "~1")
    return f"~2{escaped}" if escaped == "*" or escaped.startswith("{") else escaped


def describe(item: Field) -> str:
    """A field in a few characters, for people."""
    text = "|".join(item.types) or "ANY"
    if item.shape is not None:
        text += f"[{','.join(map(str, item.shape))}]"
    marks = [mark for mark, is_so in (("required", item.required), ("nullable", item.nullable)) if is_so]
    return " ".join([text, *marks])
