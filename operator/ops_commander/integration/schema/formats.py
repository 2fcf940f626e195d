"""Which format a file has, by its content alone, and its schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from ops_commander.integration.schema import (
    document,
    inference_protocol,
    json_schema,
    mlflow_signature,
    onnx_graph,
    openapi,
    protobuf_descriptor,
    protobuf_text,
    protobuf_types,
)
from ops_commander.integration.schema.jsontext import load_json, position
from ops_commander.integration.schema.model import ApiSchema, Direction, Json, SchemaError
from ops_commander.integration.schema.yamltext import load_yaml

MAX_BYTES: Final = 64 * 1024 * 1024

BY_NAME: Final = (document.FORMAT, inference_protocol.FORMAT, mlflow_signature.FORMAT, onnx_graph.FORMAT)
"""Formats that name inputs and outputs alike, and can be compared with each other."""

FORMATS: Final = (*BY_NAME, json_schema.FORMAT, openapi.FORMAT, protobuf_types.FORMAT)
_EXPECTED: Final = (
    "api_schema.json, Open Inference Protocol v2 metadata, an MLflow signature, JSON Schema, OpenAPI 3.x, "
    ".proto, a FileDescriptorSet or an ONNX model"
)
_OTHERS: Final = (
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip"),
    (b"\x89HDF", "HDF5"),
    (b"\x28\xb5\x2f\xfd", "zstandard"),
    (b"\x89PNG", "a PNG image"),
    (b"%PDF", "a PDF"),
    (b"\x7fELF", "a program"),
    (b"GGUF", "GGUF, which holds weights"),
)
_KEYWORDS: Final = frozenset(
    (
        "$ref",
        "$defs",
        "definitions",
        "type",
        "properties",
        "items",
        "allOf",
        "anyOf",
        "oneOf",
        "enum",
        "const",
        "required",
    )
)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_BOMS: Final = ((b"\xff\xfe", "UTF-16 or UTF-32"), (b"\xfe\xff", "UTF-16"), (b"\x00\x00\xfe\xff", "UTF-32"))


def read(data: bytes, *, direction: Direction | None = None, max_bytes: int = MAX_BYTES) -> ApiSchema:
    """The schema of a file of any format. Raises SchemaError: where, what is wrong, what was expected.

    `direction` says which way messages go where the format does not: JSON Schema, and protobuf without services.
    """
    if len(data) > max_bytes:
        raise SchemaError(f"{len(data):,} bytes or more", f"at most {max_bytes:,}")
    for mark, name in _BOMS:
        if data.startswith(mark):
            raise SchemaError(f"text in {name}", "UTF-8", "byte 0")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise SchemaError("empty", _EXPECTED)
    control = _CONTROL.search(data)
    try:
        text = data.decode() if control is None else None
    except UnicodeDecodeError as error:
        if data.isascii() or not _is_binary(data):
            raise SchemaError("not UTF-8", "UTF-8", _byte_place(data, error.start)) from error
        text = None
    return _read_binary(data, direction) if text is None else _read_text(text, direction)


def _byte_place(data: bytes, offset: int) -> str:
    line = data.count(b"\n", 0, offset) + 1
    column = offset - data.rfind(b"\n", 0, offset)
    return f"line {line}, byte {column} of it"


def _is_binary(data: bytes) -> bool:
    """Text in another encoding begins as text does."""
    return not re.match(rb"\s*[\[{\"\w#/<%-]", data)


# --- binary --------------------------------------------------------------------------------------


def _read_binary(data: bytes, direction: Direction | None) -> ApiSchema:
    for mark, name in _OTHERS:
        if data.startswith(mark):
            raise SchemaError(f"{name}", _EXPECTED, "byte 0")
    if data[0] == 0x80 and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise SchemaError("a pickle, which is never loaded", _EXPECTED, "byte 0")
    try:
        # The first field of a FileDescriptorSet is its only one, a file; that of a ModelProto is a number.
        if data[0] == 0x0A:
            return protobuf_types.schema(protobuf_descriptor.read(data), direction)
        return onnx_graph.read(data)
    except SchemaError as error:
        place = f"{error.where}: " if error.where else ""
        raise SchemaError(
            f"binary, but neither an ONNX model nor a FileDescriptorSet ({place}{error.problem})", _EXPECTED
        ) from error


# --- text ----------------------------------------------------------------------------------------


def _read_text(text: str, direction: Direction | None) -> ApiSchema:
    first = text.lstrip()[:1]
    if first in ("{", "["):
        return _read_document(load_json(text), direction)
    if protobuf_text.is_proto(text):
        return protobuf_types.schema(protobuf_text.read(text), direction)
    if first == "<":
        raise SchemaError("XML or HTML", _EXPECTED, position(text, text.index("<")))
    return _read_document(load_yaml(text), direction)


def _read_document(found: Json, direction: Direction | None) -> ApiSchema:
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else "a single value"
        raise SchemaError(f"{kind} at the top", _EXPECTED)
    if _is_json_schema(found):
        return json_schema.read(found, direction)
    return _reader(found)(found)


def _reader(found: Mapping[str, Json]) -> Callable[[Mapping[str, Json]], ApiSchema]:
    """By what only one format has."""
    if "openapi" in found:
        return openapi.read
    if "swagger" in found:
        raise SchemaError("OpenAPI 2", "OpenAPI 3.x", "/swagger")
    if "signature" in found or "flavors" in found:
        return mlflow_signature.read if "signature" in found else _without_signature
    sides = [found[key] for key in ("inputs", "outputs") if key in found]
    if not sides:
        raise SchemaError("no format that is known", _EXPECTED, "/")
    items = [item for each in sides if isinstance(each, list) for item in each]
    keys = set().union(*(item.keys() for item in items[:100] if isinstance(item, dict)))
    if any(isinstance(each, str) for each in sides) or {"type", "tensor-spec"} & keys:
        return mlflow_signature.read
    return inference_protocol.read if "datatype" in keys or "platform" in found else document.read


def _without_signature(_: Mapping[str, Json]) -> ApiSchema:
    raise SchemaError("an MLmodel without a signature", "a model that was logged with one", "/signature")


def _is_json_schema(found: Mapping[str, Json]) -> bool:
    """An `$schema` alone is no sign: api_schema.json may name its own by it."""
    if "openapi" in found or "swagger" in found or "inputs" in found or "outputs" in found or "signature" in found:
        return False
    named = found.get("$schema")
    return bool(_KEYWORDS & found.keys()) or (isinstance(named, str) and "json-schema.org" in named)
