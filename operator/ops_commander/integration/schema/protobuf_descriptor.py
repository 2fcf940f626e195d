"""A binary FileDescriptorSet, as `protoc --descriptor_set_out` and `buf build` write it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ops_commander.integration.schema import wire
from ops_commander.integration.schema.model import SchemaError, canonical
from ops_commander.integration.schema.protobuf_types import ProtoField, ProtoFiles, ProtoMessage, ProtoMethod

_MAX_DEPTH: Final = 64

# google/protobuf/descriptor.proto, whose numbers are fixed for good.
_FILE_PACKAGE, _FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 2, 4, 5, 6
_MESSAGE_NAME, _MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM, _MESSAGE_OPTIONS, _MESSAGE_ONEOF = 1, 2, 3, 4, 7, 8
_OPTIONS_MAP_ENTRY = 7
_LABELS: Final = {1: "", 2: "required", 3: "repeated"}
_GROUP, _MESSAGE, _ENUM = 10, 11, 14
_TYPES: Final = {
    1: "double",
    2: "float",
    3: "int64",
    4: "uint64",
    5: "int32",
    6: "fixed64",
    7: "fixed32",
    8: "bool",
    9: "string",
    12: "bytes",
    13: "uint32",
    15: "sfixed32",
    16: "sfixed64",
    17: "sint32",
    18: "sint64",
}


@dataclass(slots=True)
class _Raw:
    """A message with what still has to be put together."""

    message: ProtoMessage
    is_entry: bool = False
    oneofs: list[str] = field(default_factory=list)
    members: list[tuple[ProtoField, int | None]] = field(default_factory=list)
    """Fields, and the index of their oneof."""


def read(data: bytes) -> ProtoFiles:
    """All declarations of a FileDescriptorSet. Raises SchemaError for bytes that are none."""
    files = ProtoFiles()
    raws: dict[str, _Raw] = {}
    for number, value in wire.whole(data).records():
        if number == 1:
            _file(wire.message(value), files, raws)
    for name, raw in raws.items():
        if not raw.is_entry:
            files.messages[name] = raw.message
            raw.message.fields = [_complete(each, index, raw, raws) for each, index in raw.members]
    return files


def _file(data: wire.Message, files: ProtoFiles, raws: dict[str, _Raw]) -> None:
    package = "".join(f"{wire.text(value)}." for number, value in data.records() if number == _FILE_PACKAGE)
    for number, value in data.records():
        if number == _FILE_MESSAGE:
            _message(wire.message(value), package, files, raws)
        elif number == _FILE_ENUM:
            _enum(wire.message(value), package, files)
        elif number == _FILE_SERVICE:
            files.methods += _service(wire.message(value), package)


def _message(data: wire.Message, scope: str, files: ProtoFiles, raws: dict[str, _Raw]) -> None:
    todo = [(data, scope, 0)]
    while todo:
        current, within, depth = todo.pop()
        if depth > _MAX_DEPTH:
            raise SchemaError(f"messages nested more than {_MAX_DEPTH} levels", f"at most {_MAX_DEPTH}")
        name = within + _name(current)
        raw = _Raw(ProtoMessage(name))
        raws[name] = raw
        for number, value in current.records():
            if number == _MESSAGE_FIELD:
                raw.members.append(_field(wire.message(value)))
            elif number == _MESSAGE_NESTED:
                todo.append((wire.message(value), f"{name}.", depth + 1))
            elif number == _MESSAGE_ENUM:
                _enum(wire.message(value), f"{name}.", files)
            elif number == _MESSAGE_ONEOF:
                raw.oneofs.append(_name(wire.message(value)))
            elif number == _MESSAGE_OPTIONS:
                options = wire.message(value).records()
                raw.is_entry = any(key == _OPTIONS_MAP_ENTRY and flag == 1 for key, flag in options)


def _name(data: wire.Message) -> str:
    return next((wire.text(value) for number, value in data.records() if number == _MESSAGE_NAME), "")


def _field(data: wire.Message) -> tuple[ProtoField, int | None]:
    values = dict(data.records())
    kind = wire.number(values.get(5, 0))
    named = wire.text(values[6]).removeprefix(".") if 6 in values else ""
    if kind not in _TYPES and (kind not in (_GROUP, _MESSAGE, _ENUM) or not named):
        raise SchemaError(f"a field of type {kind}", "a type, with its name if it has one", f"byte {data.start:,}")
    found = ProtoField(
        name=wire.text(values[1]) if 1 in values else "",
        number=wire.number(values.get(3, 0)),
        type=_TYPES.get(kind, named),
        label=_LABELS.get(wire.number(values.get(4, 1)), ""),
        default=wire.text(values[7]) if 7 in values else None,
        group=kind == _GROUP,
    )
    # The oneof of a proto3 `optional` is the compiler's own.
    is_real = 9 in values and values.get(17) != 1
    return found, wire.number(values[9]) if is_real else None


def _complete(each: ProtoField, oneof: int | None, raw: _Raw, raws: dict[str, _Raw]) -> ProtoField:
    if oneof is not None and 0 <= oneof < len(raw.oneofs):
        each.oneof = raw.oneofs[oneof]
    entry = raws.get(each.type)
    if entry is not None and entry.is_entry:
        parts = {part.number: part for part, _ in entry.members}
        if not parts.keys() >= {1, 2}:
            raise SchemaError(f"a map entry {each.type!r} without key or value", "both")
        each.map_key, each.type = parts[1].type, parts[2].type
    return each


def _enum(data: wire.Message, scope: str, files: ProtoFiles) -> None:
    values: list[str] = []
    for number, value in data.records():
        if number == 2:
            parts = dict(wire.message(value).records())
            name = wire.text(parts[1]) if 1 in parts else ""
            values.append(canonical(f"{name}={wire.number(parts.get(2, 0))}"))
    files.enums[scope + _name(data)] = frozenset(values)


def _service(data: wire.Message, package: str) -> Iterable[ProtoMethod]:
    service = package + _name(data)
    for number, value in data.records():
        if number == 2:
            parts = dict(wire.message(value).records())
            name, request, response = (wire.text(parts[key]) if key in parts else "" for key in (1, 2, 3))
            yield ProtoMethod(
                f"{service}/{name}",
                request.removeprefix("."),
                response.removeprefix("."),
                parts.get(5) == 1,
                parts.get(6) == 1,
            )
