"""The signature of an ONNX graph: names, types and shapes of inputs and outputs. Weights are passed over unread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ops_commander.integration.schema import wire
from ops_commander.integration.schema.model import DYNAMIC, ApiSchema, Field, SchemaError, Shape, Typing, side

FORMAT: Final = "onnx"
_MAX_TYPE_DEPTH: Final = 16

# onnx.proto, whose numbers are fixed for good.
_MODEL_GRAPH, _MODEL_OPSET = 7, 8
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 5, 11, 12, 15
_TENSOR_NAME = 8
_VALUE_NAME, _VALUE_TYPE, _VALUE_DOC = 1, 2, 3
_TYPE_TENSOR, _TYPE_SEQUENCE, _TYPE_MAP, _TYPE_SPARSE, _TYPE_OPTIONAL = 1, 4, 5, 8, 9
_ELEMENTS: Final = {
    1: "FP32",
    2: "UINT8",
    3: "INT8",
    4: "UINT16",
    5: "INT16",
    6: "INT32",
    7: "INT64",
    8: "BYTES",  # called STRING there, and BYTES by every server that speaks the inference protocol
    9: "BOOL",
    10: "FP16",
    11: "FP64",
    12: "UINT32",
    13: "UINT64",
    14: "COMPLEX64",
    15: "COMPLEX128",
    16: "BF16",
    17: "FP8_E4M3",
    18: "FP8_E4M3FNUZ",
    19: "FP8_E5M2",
    20: "FP8_E5M2FNUZ",
    21: "UINT4",
    22: "INT4",
    23: "FP4_E2M1",
    24: "FP8_E8M0",
    25: "UINT2",
    26: "INT2",
}


@dataclass(slots=True)
class _Graph:
    inputs: list[wire.Message] = field(default_factory=list)
    outputs: list[wire.Message] = field(default_factory=list)
    initialized: set[str] = field(default_factory=set)


def read(data: bytes) -> ApiSchema:
    """The signature of a ModelProto. Raises SchemaError for bytes that are none."""
    graph: wire.Message | None = None
    opsets: list[str] = []
    for number, value in wire.whole(data).records():
        if number == _MODEL_GRAPH:
            graph = wire.message(value)
        elif number == _MODEL_OPSET:
            opsets.append(_opset(wire.message(value)))
    if graph is None:
        raise SchemaError("no graph", "an ONNX ModelProto")
    found = _graph(graph)
    if not found.inputs and not found.outputs:
        raise SchemaError("a graph without inputs and outputs", "an ONNX ModelProto")
    inputs = [item for each in found.inputs if (item := _value(each)).path not in found.initialized]
    outputs = [_value(each) for each in found.outputs]
    notes = (f"opset {', '.join(sorted(opsets))}",) if opsets else ()
    return ApiSchema(FORMAT, side(inputs, ordered=True), side(outputs, ordered=True), notes)


def _opset(data: wire.Message) -> str:
    domain, version = "", 0
    for number, value in data.records():
        if number == 1:
            domain = wire.text(value)
        elif number == 2:
            version = wire.number(value)
    return f"{domain or 'ai.onnx'} {version}"


def _graph(data: wire.Message) -> _Graph:
    """Older models list their weights among the inputs; a caller has no part in them."""
    found = _Graph()
    for number, value in data.records():
        if number == _GRAPH_INPUT:
            found.inputs.append(wire.message(value))
        elif number == _GRAPH_OUTPUT:
            found.outputs.append(wire.message(value))
        elif number == _GRAPH_INITIALIZER:
            found.initialized |= _names(wire.message(value))
        elif number == _GRAPH_SPARSE:
            for inner, values in wire.message(value).records():
                found.initialized |= _names(wire.message(values)) if inner == 1 else set()
    return found


def _names(tensor: wire.Message) -> set[str]:
    return {wire.text(value) for number, value in tensor.records() if number == _TENSOR_NAME}


def _value(data: wire.Message) -> Field:
    name, doc, dtype = "", None, ""
    shape: Shape | None = None
    nullable = False
    for number, value in data.records():
        if number == _VALUE_NAME:
            name = wire.text(value)
        elif number == _VALUE_TYPE:
            dtype, shape, nullable = _type(wire.message(value), 0)
        elif number == _VALUE_DOC:
            doc = wire.text(value) or None
    if not name or not dtype:
        raise SchemaError("an input or output without name or type", "both", f"byte {data.start:,}")
    return Field(path=name, types=(dtype,), shape=shape, required=True, nullable=nullable, doc=doc, typing=Typing.EXACT)


def _type(data: wire.Message, depth: int) -> tuple[str, Shape | None, bool]:
    """Name of the type, shape, and whether it may be missing."""
    if depth > _MAX_TYPE_DEPTH:
        raise SchemaError(f"types nested more than {_MAX_TYPE_DEPTH} levels", f"at most {_MAX_TYPE_DEPTH}")
    for number, value in data.records():
        if number in (_TYPE_TENSOR, _TYPE_SPARSE):
            dtype, shape = _tensor(wire.message(value))
            return (dtype if number == _TYPE_TENSOR else f"SPARSE<{dtype}>"), shape, False
        if number in (_TYPE_SEQUENCE, _TYPE_MAP):
            return _collection(wire.message(value), number, depth), None, False
        if number == _TYPE_OPTIONAL:
            for key, element in wire.message(value).records():
                if key == 1:
                    dtype, shape, _ = _type(wire.message(element), depth + 1)
                    return dtype, shape, True
    return "OPAQUE", None, False


def _collection(data: wire.Message, kind: int, depth: int) -> str:
    key, element = "", "ANY"
    for number, value in data.records():
        if number == 1 and kind == _TYPE_MAP:
            key = f"{_element(wire.number(value))},"
        elif number in (1, 2):
            dtype, shape, _ = _type(wire.message(value), depth + 1)
            element = dtype if shape is None else f"{dtype}[{','.join(map(str, shape))}]"
    return f"{'SEQUENCE' if kind == _TYPE_SEQUENCE else 'MAP'}<{key}{element}>"


def _element(number: int) -> str:
    if number not in _ELEMENTS:
        raise SchemaError(f"element type {number}", f"1 to {max(_ELEMENTS)}, as in onnx.proto")
    return _ELEMENTS[number]


def _tensor(data: wire.Message) -> tuple[str, Shape | None]:
    dtype = ""
    shape: Shape | None = None
    for number, value in data.records():
        if number == 1:
            dtype = _element(wire.number(value))
        elif number == 2:
            shape = tuple(_dimensions(wire.message(value)))
    if not dtype:
        raise SchemaError("a tensor without an element type", "one", f"byte {data.start:,}")
    return dtype, shape


def _dimensions(data: wire.Message) -> Iterator[int]:
    for number, value in data.records():
        if number == 1:
            lengths = [wire.number(each) for key, each in wire.message(value).records() if key == 1]
            yield lengths[0] if lengths and lengths[0] >= 0 else DYNAMIC
