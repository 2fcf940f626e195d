"""ONNX: a walk over the protobuf that keeps names and sizes; weights in other files must lie beside the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Final

from ops_commander.integration.artifacts.binary import Reader
from ops_commander.integration.artifacts.findings import Malformed, Notes, TensorInfo, Tensors


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_MAX_DEPTH: Final = 32
_MAX_TEXT: Final = 64 * 1024
_MAX_NAMES: Final = 1_000
_KNOWN_DOMAINS: Final = frozenset(
    (
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.training",
        "ai.onnx.preview.training",
        "ai.onnx.preview",
        "com.microsoft",
        "com.microsoft.nchwc",
        "com.microsoft.experimental",
        "com.ms.internal.nhwc",
        "org.pytorch.aten",
    )
)
_TYPES: Final = _words(
    "UNDEFINED FLOAT UINT8 INT8 UINT16 INT16 INT32 INT64 STRING BOOL FLOAT16 DOUBLE UINT32 UINT64"
    " COMPLEX64 COMPLEX128 BFLOAT16 FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ UINT4 INT4"
    " FLOAT4E2M1"
)
_BYTES: Final = 2
_VARINT: Final = 0


@dataclass(frozen=True, slots=True)
class _Field:
    """`value` of a number; `end` of a submessage that begins where the reader stands."""

    number: int
    wire: int
    value: int
    end: int


@dataclass
class _Model:
    inputs: list[TensorInfo] = field(default_factory=list)
    outputs: list[TensorInfo] = field(default_factory=list)
    initializers: set[str] = field(default_factory=set)
    domains: dict[str, int] = field(default_factory=dict)
    dtypes: dict[str, int] = field(default_factory=dict)
    graphs: int = 0
    tensors: int = 0
    parameters: int = 0
    bytes: int = 0


def check(reader: Reader, notes: Notes, folder: Path | None) -> None:
    """`folder` is where the model lies; without it external files are judged by their names alone."""
    _Walk(reader, notes, folder).model()


@dataclass
class _Tensor:
    name: str = ""
    kind: int = 0
    elements: int = 1
    raw: int = 0
    is_external: bool = False
    external: dict[str, str] = field(default_factory=dict)


class _Walk:
    def __init__(self, reader: Reader, notes: Notes, folder: Path | None) -> None:
        self.reader, self.notes, self.folder = reader, notes, folder
        self.found = _Model()

    def model(self) -> None:
        for each in self._fields(self.reader.size, 0):
            if each.number == 1 and each.wire == _VARINT:
                self.notes.details["irVersion"] = str(each.value)
            elif each.number == 7:
                self.found.graphs += 1
                self._graph(each, 0)
            elif each.number == 8:
                self._opset(each)
            elif each.number in (2, 3):
                key = "producer" if each.number == 2 else "producerVersion"
                self.notes.details[key] = self._text(each)[:200]
            elif each.number == 20:
                self._children(each, {1: self._graph, 2: self._graph}, 0)
            elif each.number == 25:
                self._children(each, {7: self._node}, 0)
            elif each.number not in (4, 5, 6, 14, 26):
                raise Malformed(
                    "UnknownField", f"field {each.number} of the model: expected those of ONNX", self.reader.tell()
                )
        self._finish()

    def _finish(self) -> None:
        found = self.found
        if found.graphs != 1:
            raise Malformed("MalformedModel", f"{found.graphs} graphs: expected one", None)
        self.notes.details["opset"] = ", ".join(
            f"{name or 'ai.onnx'} {at}" for name, at in sorted(found.domains.items())
        )
        for domain in sorted(found.domains):
            if domain not in _KNOWN_DOMAINS:
                message = f"operators of {domain!r}, which need a library of their own: expected those of ONNX"
                self.notes.warn("CustomOperators", message)
        self.notes.tensors = Tensors(
            count=found.tensors,
            parameters=found.parameters,
            bytes=found.bytes,
            dtypes=dict(sorted(found.dtypes.items())),
            inputs=[each for each in found.inputs if each.name not in found.initializers],
            outputs=found.outputs,
        )

    # Messages.

    def _graph(self, message: _Field, depth: int) -> None:
        for each in self._fields(message.end, depth):
            if each.number == 1:
                self._node(each, depth + 1)
            elif each.number == 5:
                self._tensor(each, depth + 1)
            elif each.number == 15:
                self._sparse_tensor(each, depth + 1)
            elif each.number in (11, 12) and depth == 0:
                self._value_info(each, self.found.inputs if each.number == 11 else self.found.outputs)

    def _node(self, message: _Field, depth: int) -> None:
        self._children(message, {5: self._attribute}, depth)

    def _attribute(self, message: _Field, depth: int) -> None:
        known = {
            5: self._tensor,
            6: self._graph,
            10: self._tensor,
            11: self._graph,
            22: self._sparse_tensor,
            23: self._sparse_tensor,
        }
        self._children(message, {number: _deeper(handle) for number, handle in known.items()}, depth)

    def _sparse_tensor(self, message: _Field, depth: int) -> None:
        self._children(message, {1: self._tensor, 2: self._tensor}, depth)

    def _children(self, message: _Field, handlers: dict[int, Callable[[_Field, int], None]], depth: int) -> None:
        for each in self._fields(message.end, depth):
            if each.wire == _BYTES and each.number in handlers:
                handlers[each.number](each, depth + 1)

    def _opset(self, message: _Field) -> None:
        domain, version = "", 0
        for each in self._fields(message.end, 1):
            if each.number == 1:
                domain = self._text(each)
            elif each.number == 2:
                version = each.value
        if len(self.found.domains) < _MAX_NAMES:
            self.found.domains[domain[:200]] = version

    def _tensor(self, message: _Field, depth: int) -> None:
        at = self.reader.tell()
        seen = _Tensor()
        for each in self._fields(message.end, depth):
            self._tensor_field(each, seen)
        if depth == 1 and len(self.found.initializers) < self.notes.limits.entries:
            self.found.initializers.add(seen.name)
        size = seen.raw
        if seen.is_external or seen.external:
            size = self._external(seen.name, seen.external, at)
        self._count(seen.kind, seen.elements, size)

    def _tensor_field(self, each: _Field, seen: _Tensor) -> None:
        if each.number == 1:
            for size in self._numbers(each):
                seen.elements = min(seen.elements * size, 2**62)
        elif each.number == 2:
            seen.kind = each.value
        elif each.number == 8:
            seen.name = self._text(each)
        elif each.number == 9:
            seen.raw = each.end - self.reader.tell()
        elif each.number == 13:
            self._entry(each, seen.external)
        elif each.number == 14:
            seen.is_external = each.value == 1

    def _count(self, kind: int, elements: int, size: int) -> None:
        dtype = _type(kind)
        self.found.tensors += 1
        self.found.parameters += elements
        self.found.bytes += size
        self.found.dtypes[dtype] = self.found.dtypes.get(dtype, 0) + 1

    def _entry(self, message: _Field, entries: dict[str, str]) -> None:
        key = value = ""
        for each in self._fields(message.end, 1):
            if each.number == 1:
                key = self._text(each)
            elif each.number == 2:
                value = self._text(each)
        if key == "location" and key in entries and entries[key] != value:
            raise Malformed("MalformedModel", "a tensor with two locations: expected one", self.reader.tell())
        entries[key] = value

    def _external(self, name: str, entries: dict[str, str], at: int) -> int:
        """The bytes that it takes in the other file."""
        location = entries.get("location", "")
        if problem := _leaves(location, self.folder):
            self.notes.refuse("ExternalData", f"{name[:100]!r} reads {location[:200]!r}: {problem}", at)
            return 0
        if location not in self.notes.external:
            if len(self.notes.external) >= _MAX_NAMES:
                raise Malformed("TooLarge", f"more than {_MAX_NAMES} external files: expected fewer", at)
            self.notes.external.append(location)
        offset, length = _count(entries.get("offset", "0")), _count(entries.get("length", "0"))
        if offset is None or length is None:
            raise Malformed("MalformedModel", f"{name[:100]!r} has an offset or length that is no number", at)
        if self.folder is not None:
            self._in_range(name, location, offset + length, at)
        return length

    def _in_range(self, name: str, location: str, end: int, at: int) -> None:
        assert self.folder is not None
        path = self.folder / location
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            self.notes.refuse("ExternalData", f"{name[:100]!r} reads {location[:200]!r}, which is no file here", at)
        elif end > size:
            message = f"{name[:100]!r} reads {location[:200]!r} to byte {end} of {size}: expected within"
            self.notes.refuse("OutOfRange", message, at)

    def _value_info(self, message: _Field, into: list[TensorInfo]) -> None:
        name, dtype, shape = "", "UNDEFINED", list[int | str]()
        for each in self._fields(message.end, 1):
            if each.number == 1:
                name = self._text(each)
            elif each.number == 2:
                dtype, shape = self._type_proto(each)
        if len(into) < _MAX_NAMES:
            into.append(TensorInfo(name=name[:200], dtype=dtype, shape=shape))

    def _type_proto(self, message: _Field) -> tuple[str, list[int | str]]:
        dtype, shape = "UNDEFINED", list[int | str]()
        for each in self._fields(message.end, 2):
            if each.number != 1 or each.wire != _BYTES:
                continue
            for part in self._fields(each.end, 3):
                if part.number == 1:
                    dtype = _type(part.value)
                elif part.number == 2:
                    shape = self._shape(part)
        return dtype, shape

    def _shape(self, message: _Field) -> list[int | str]:
        shape: list[int | str] = []
        for each in self._fields(message.end, 4):
            size: int | str = "?"
            for part in self._fields(each.end, 5):
                size = part.value if part.number == 1 else self._text(part) if part.number == 2 else size
            if len(shape) < 64:
                shape.append(size[:100] if isinstance(size, str) else size)
        return shape

    # The wire format.

    def _fields(self, end: int, depth: int) -> Iterator[_Field]:
        """Fields up to `end`; what the caller leaves of one is skipped."""
        if depth > _MAX_DEPTH:
            raise Malformed("TooDeep", f"more than {_MAX_DEPTH} levels: expected fewer", self.reader.tell())
        while (at := self.reader.tell()) < end:
            self.notes.spend(1, at)
            key = self._varint()
            number, wire = key >> 3, key & 7
            value = self._varint() if wire in (_VARINT, _BYTES) else {1: 8, 5: 4}.get(wire, -1)
            if value < 0 or not number:
                raise Malformed("MalformedModel", f"field {number} with wire type {wire}: expected protobuf", at)
            stop = self.reader.tell() + (0 if wire == _VARINT else value)
            if stop > end:
                raise Malformed("Truncated", f"field {number} ends at {stop}: expected at most {end}", at)
            yield _Field(number, wire, value if wire == _VARINT else 0, stop)
            self.reader.stream.seek(stop)

    def _varint(self) -> int:
        value = 0
        for place in range(10):
            byte = self.reader.read(1, "a number")[0]
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise Malformed("MalformedModel", "a number of more than 10 bytes: expected protobuf", self.reader.tell())

    def _text(self, message: _Field) -> str:
        size = message.end - self.reader.tell() if message.wire == _BYTES else 0
        return self.reader.read(min(size, _MAX_TEXT), "a text").decode("utf-8", "replace")

    def _numbers(self, message: _Field) -> Iterator[int]:
        """Repeated numbers, packed or one by one."""
        if message.wire == _VARINT:
            yield message.value
            return
        while self.reader.tell() < message.end:
            self.notes.spend(1, self.reader.tell())
            yield self._varint()


def _deeper(handle: Callable[[_Field, int], None]) -> Callable[[_Field, int], None]:
    """Within a node nothing is of the main graph any more."""
    return lambda message, depth: handle(message, max(depth, 2))


def _type(kind: int) -> str:
    return _TYPES[kind] if kind < len(_TYPES) else f"type {kind}"


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _leaves(location: str, folder: Path | None) -> str:
    """What is wrong with a location; nothing where it stays in the folder, links followed."""
    parts = PureWindowsPath(location).parts
    if not location or "\0" in location:
        return "expected a file in the folder of the model"
    if location.startswith(("/", "\\")) or PureWindowsPath(location).drive or ".." in parts:
        return "it leaves the folder of the model"
    if folder is None:
        return ""
    try:
        inside = (folder / location).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:
        return str(error)
    return "" if inside else "it leaves the folder of the model by a link"
