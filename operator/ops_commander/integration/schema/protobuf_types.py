"""Messages, enums and services of protobuf, however they were written, and the fields of their requests and answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ops_commander.integration.schema.model import (
    DYNAMIC,
    MAX_FIELDS,
    MAX_LEVELS,
    ApiSchema,
    Direction,
    Field,
    SchemaError,
    Typing,
    canonical,
    side,
)

FORMAT: Final = "protobuf"
OPERATION: Final = "OPERATION"

SCALARS: Final[dict[str, tuple[str, str | None]]] = {
    "double": ("FP64", None),
    "float": ("FP32", None),
    "int32": ("INT32", None),
    "int64": ("INT64", None),
    "uint32": ("UINT32", None),
    "uint64": ("UINT64", None),
    "sint32": ("INT32", "zigzag"),
    "sint64": ("INT64", "zigzag"),
    "fixed32": ("UINT32", "fixed32"),
    "fixed64": ("UINT64", "fixed64"),
    "sfixed32": ("INT32", "fixed32"),
    "sfixed64": ("INT64", "fixed64"),
    "bool": ("BOOL", None),
    "string": ("STRING", None),
    "bytes": ("BYTES", None),
}
"""Type, and how it is written where that is not usual."""


@dataclass(slots=True)
class ProtoField:
    name: str
    number: int
    type: str
    """A scalar, or the full name of a message or an enum."""
    label: str = ""
    """`repeated`, `required` or nothing."""
    default: str | None = None
    oneof: str | None = None
    map_key: str | None = None
    """Of a map, whose `type` is that of its values."""
    group: bool = False


@dataclass(slots=True)
class ProtoMessage:
    name: str
    fields: list[ProtoField] = field(default_factory=list)


@dataclass(slots=True)
class ProtoMethod:
    name: str
    """`package.Service/Method`."""
    request: str
    response: str
    request_stream: bool = False
    response_stream: bool = False


@dataclass(slots=True)
class ProtoFiles:
    """All that was declared, by full name."""

    messages: dict[str, ProtoMessage] = field(default_factory=dict)
    enums: dict[str, frozenset[str]] = field(default_factory=dict)
    """Values as JSON of `NAME=number`."""
    methods: list[ProtoMethod] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Root:
    path: str
    message: str
    operation: bool
    stream: bool = False


def schema(files: ProtoFiles, direction: Direction | None = None) -> ApiSchema:
    """By the methods of services; without any, by the names of messages that no other one holds."""
    if not files.messages:
        raise SchemaError("no message", "at least one message")
    notes: tuple[str, ...] = ()
    if files.methods:
        requests = [_Root(each.name, each.request, True, each.request_stream) for each in files.methods]
        responses = [_Root(each.name, each.response, True, each.response_stream) for each in files.methods]
    else:
        requests, responses, unclear = _by_names(files, direction)
        notes = (f"no service and no direction in their names, so compared as both: {unclear}",) if unclear else ()
    return ApiSchema(
        FORMAT, side(_fields(files, requests), "protobuf"), side(_fields(files, responses), "protobuf"), notes
    )


def _by_names(files: ProtoFiles, direction: Direction | None) -> tuple[list[_Root], list[_Root], str]:
    held = {each.type for message in files.messages.values() for each in message.fields if each.type != message.name}
    roots = sorted(files.messages.keys() - held) or sorted(files.messages)
    sides: dict[Direction, list[_Root]] = {Direction.REQUEST: [], Direction.RESPONSE: []}
    unclear: list[str] = []
    for name in roots:
        said = direction or _direction(name)
        if said is None:
            unclear.append(name)
        for each in [said] if said else list(Direction):
            sides[each].append(_Root(name, name, False))
    return sides[Direction.REQUEST], sides[Direction.RESPONSE], ", ".join(unclear[:5])


def _direction(name: str) -> Direction | None:
    lower = name.lower()
    if lower.endswith(("request", "input", "inputs")):
        return Direction.REQUEST
    return Direction.RESPONSE if lower.endswith(("response", "reply", "output", "outputs", "result")) else None


@dataclass(slots=True)
class _Place:
    path: str
    message: str
    level: int
    ancestors: dict[str, str]


def _fields(files: ProtoFiles, roots: Iterable[_Root]) -> Iterator[Field]:
    count = 0
    for root in roots:
        yield Field(
            path=root.path,
            types=(OPERATION,) if root.operation else ("OBJECT",),
            encoding="stream" if root.stream else None,
            typing=Typing.WIRE,
        )
        todo = [_Place(root.path, root.message, 0, {root.message: root.path})]
        while todo:
            place = todo.pop()
            inner: list[_Place] = []
            for each in _declared(files, place.message).fields:
                yield from _field(files, each, place, inner)
                count += 1
                if count > MAX_FIELDS:
                    raise SchemaError(
                        f"more than {MAX_FIELDS:,} fields, messages counted in full", f"at most {MAX_FIELDS:,}"
                    )
            todo += reversed(inner)


def _declared(files: ProtoFiles, name: str) -> ProtoMessage:
    """A message of another file is one without known fields."""
    return files.messages.get(name) or ProtoMessage(name)


def _field(files: ProtoFiles, each: ProtoField, place: _Place, inner: list[_Place]) -> Iterator[Field]:
    base = place.path if "#" in place.path else f"{place.path}#"
    path = f"{base}/{each.name}"
    dtype, encoding = _type(files, each, place)
    mapped = each.map_key is not None
    yield Field(
        path=path,
        parent=place.path,
        types=("MAP",) if mapped else (dtype,),
        shape=(DYNAMIC,) if each.label == "repeated" and not mapped else (),
        required=each.label == "required",
        encoding=None if mapped else encoding,
        enum=None if mapped else files.enums.get(each.type),
        constraints={"oneof": each.oneof} if each.oneof else {},
        default=canonical(each.default) if each.default is not None else None,
        typing=Typing.WIRE,
        number=each.number,
    )
    if mapped:
        key, written = SCALARS.get(each.map_key or "", ("STRING", None))
        yield Field(path=f"{path}/{{key}}", parent=path, types=(key,), encoding=written, typing=Typing.WIRE)
        yield Field(
            path=f"{path}/{{*}}",
            parent=path,
            types=(dtype,),
            encoding=encoding,
            enum=files.enums.get(each.type),
            typing=Typing.WIRE,
        )
    if each.type in files.messages and each.type not in place.ancestors:
        if place.level >= MAX_LEVELS:
            raise SchemaError(f"nested more than {MAX_LEVELS} levels", f"at most {MAX_LEVELS}", path[:200])
        below = f"{path}/{{*}}" if mapped else path
        inner.append(_Place(below, each.type, place.level + 1, {**place.ancestors, each.type: below}))


def _type(files: ProtoFiles, each: ProtoField, place: _Place) -> tuple[str, str | None]:
    if each.type in SCALARS:
        return SCALARS[each.type]
    if each.type in files.enums:
        return "ENUM", None
    if each.type in place.ancestors:
        return f"as {place.ancestors[each.type]}", None
    return ("OBJECT" if each.type in files.messages else each.type), ("group" if each.group else None)
