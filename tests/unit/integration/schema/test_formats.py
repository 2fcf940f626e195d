"""Formats are told apart by content, and read into the same model."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from ops_commander.integration.schema import Direction, diff, read
from ops_commander.integration.schema.model import Typing
from tests.unit.integration.schema.support import DATA, api, between, decoded, encode, fields, item, refused, weights

REQUEST, RESPONSE = Direction.REQUEST, Direction.RESPONSE

OIP = {
    "name": "ranker",
    "versions": ["1"],
    "platform": "onnx",
    "inputs": [{"name": "ids", "datatype": "INT64", "shape": [-1, "128"]}],
    "outputs": [
        {"name": "score", "datatype": "FP32", "shape": [-1]},
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
    ],
}
OPENAPI = {"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, "paths": {}}


@pytest.mark.parametrize(
    ("data", "format_"),
    [
        (encode(api([item()])), "api-schema"),
        (encode(api()), "api-schema"),
        (encode({"$schema": "https://json-schema.org/x", **api([item()])}), "api-schema"),
        (yaml.safe_dump(api([item()])).encode(), "api-schema"),
        (encode(OIP), "oip-v2"),
        ((DATA / "mlflow_signature.json").read_bytes(), "mlflow"),
        ((DATA / "MLmodel").read_bytes(), "mlflow"),
        (encode({"inputs": [{"type": "long", "name": "a"}], "outputs": None}), "mlflow"),
        (encode({"type": "object"}), "json-schema"),
        (encode({"$ref": "#/$defs/A", "$defs": {"A": {}}}), "json-schema"),
        (encode({"$schema": "https://json-schema.org/draft/2020-12/schema"}), "json-schema"),
        (b"type: object\nproperties:\n  a: {type: string}\n", "json-schema"),
        (encode(OPENAPI), "openapi"),
        (yaml.safe_dump(OPENAPI).encode(), "openapi"),
        ((DATA / "infer.proto").read_bytes(), "protobuf"),
        (b"// only\n/* comments */\n message A {}", "protobuf"),
        (decoded("infer.descriptor.b64"), "protobuf"),
        (decoded("identity.onnx.b64"), "onnx"),
        (b"\xef\xbb\xbf" + encode(OIP), "oip-v2"),
        (b"\n\n  " + encode(OIP), "oip-v2"),
    ],
)
def test_a_format_is_known_by_its_content(data: bytes, format_: str) -> None:
    assert read(data).format == format_


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"[]", "a list at the top"),
        (b"hello", "a single value at the top"),
        (b"{}", "no format that is known"),
        (b"a: 1", "no format that is known"),
        (encode({"swagger": "2.0"}), "OpenAPI 2"),
        (encode({"openapi": "2.0"}), "OpenAPI version '2.0'"),
        (encode({"openapi": 3.1}), "OpenAPI version '3.1'"),
        (encode({"flavors": {}}), "an MLmodel without a signature"),
        (encode({"signature": None, "flavors": {}}), "no signature"),
        (b"<html></html>", "XML or HTML"),
        (b"\xff\xfe{\x00}\x00", "text in UTF-16 or UTF-32"),
        ('{"é": 1}'.encode("latin-1"), "not UTF-8"),
        (b"\x80\x04\x95\x00", "a pickle, which is never loaded"),
        (b"PK\x03\x04\x00", "a zip archive"),
        (b"GGUF\x03\x00", "GGUF, which holds weights"),
        (b"\x00" * 100, "binary, but neither an ONNX model nor a FileDescriptorSet (byte 0: field number 0)"),
        (b"\x0a\xff\xff\xff\x7f", "binary, but neither"),
        (b"\x08\x01", "binary, but neither"),
        (b"\x08\x08\x3a\x00", "binary, but neither an ONNX model nor a FileDescriptorSet (a graph without"),
    ],
)
def test_what_is_no_schema_is_named(data: bytes, problem: str) -> None:
    assert refused(data).problem.startswith(problem)


def test_the_place_of_a_byte_that_is_not_utf8_is_named() -> None:
    assert refused(b'{"a": 1,\n "b": "\xe9"}').where == "line 2, byte 8 of it"


def test_tensors_of_the_inference_protocol() -> None:
    schema = read(encode(OIP))

    assert fields(schema, REQUEST)["ids"].shape == (-1, 128)
    assert fields(schema, REQUEST)["ids"].typing is Typing.EXACT
    assert [(each.path, each.types) for each in schema.response.fields] == [("score", ("FP32",)), ("text", ("BYTES",))]


@pytest.mark.parametrize(
    ("inputs", "where", "problem"),
    [
        ({}, "/inputs", "not a list"),
        ([3], "/inputs/0", "not a mapping"),
        ([{"datatype": "FP32", "shape": []}], "/inputs/0/name", "no name"),
        ([{"name": "a", "datatype": "FP99", "shape": []}], "/inputs/0/datatype", "'FP99' is no data type"),
        ([{"name": "a", "datatype": "FP32"}], "/inputs/0/shape", "not a list"),
        ([{"name": "a", "datatype": "FP32", "shape": [-2]}], "/inputs/0/shape/0", "'-2' is no length"),
        ([{"name": "a", "datatype": "FP32", "shape": [True]}], "/inputs/0/shape/0", "'True' is no length"),
        ([{"name": "a", "datatype": "FP32", "shape": [1.5]}], "/inputs/0/shape/0", "'1.5' is no length"),
        ([{"name": "a", "datatype": "FP32", "shape": []}] * 2, "", "'a' is there twice"),
    ],
)
def test_a_malformed_tensor_is_named_by_its_pointer(inputs: Any, where: str, problem: str) -> None:
    error = refused(encode({"platform": "x", "inputs": inputs, "outputs": []}))

    assert (error.where, error.problem) == (where, problem)


@pytest.mark.parametrize(
    ("document", "where", "problem"),
    [
        (api([{"name": "a"}]), "/inputs/0/dtype", "not there"),
        ({"inputs": []}, "/outputs", "not there"),
        (api([item(dtype="FP99")]), "/inputs/0/dtype", "'FP99' is no dtype"),
        (api([item(shape=[-2])]), "/inputs/0/shape", "a length below -1"),
        (api([item(shape=["a"])]), "/inputs/0/shape/0", "Input should be a valid integer"),
        (api([item(required="yes")]), "/inputs/0/required", "Input should be a valid boolean"),
        (api([item(requierd=True)]), "/inputs/0/requierd", "unknown field"),
        (api([item("")]), "/inputs/0/name", "String should have at least 1 character"),
        (api([item(), item()]), "/inputs", "'x' is there twice"),
        ({"inputs": {"x": "FP32"}, "outputs": []}, "/", "inputs is not a list"),
        (api(serialization="xml"), "/serialization", "Input should be 'json', 'protobuf' or 'pickle'"),
    ],
)
def test_a_malformed_api_schema_is_named_by_its_pointer(document: Any, where: str, problem: str) -> None:
    error = refused(encode(document))

    assert (error.where, error.problem) == (where, problem)


def test_an_mlflow_signature_has_columns_tensors_nested_types_and_params() -> None:
    schema = read((DATA / "mlflow_signature.json").read_bytes())

    sent = fields(schema, REQUEST)
    assert {path: (each.types, each.required) for path, each in sent.items()} == {
        "a": (("INT64",), True),
        "b": (("STRING",), False),
        "c": (("ARRAY",), True),
        "c/*": (("OBJECT",), True),
        "c/*/x": (("FP64",), True),
        "c/*/y": (("STRING",), False),
        "m": (("MAP",), True),
        "m/{*}": (("STRING",), False),
        "any": ((), False),
        "params": (("OBJECT",), False),
        "params/temperature": (("FP64",), False),
        "params/stops": (("INT64",), False),
    }
    assert sent["params/temperature"].default == "0.5"
    assert (sent["params/stops"].shape, sent["params/temperature"].shape) == ((-1,), ())
    assert fields(schema, RESPONSE)["s"].shape == (-1, 3)
    assert diff(schema, read((DATA / "MLmodel").read_bytes())) == ()


def test_properties_of_an_mlflow_object_have_no_order_and_columns_do() -> None:
    def signature(*columns: str, properties: str = "pq") -> dict[str, Any]:
        inner = {name: {"type": "long", "required": True} for name in properties}
        objects = [{"type": "object", "name": name, "properties": inner} for name in columns]
        return {
            "inputs": [],
            "outputs": objects,
            "params": [{"name": "t", "type": "long", "default": 1, "shape": None}],
        }

    assert between(signature("a", "b"), signature("a", "b", properties="qp")) == ()
    assert weights(between(signature("a", "b"), signature("b", "a"))) == {("response", "", "order-changed", 0.3)}


# As mlflow 3.17 enforces signatures.
@pytest.mark.parametrize(
    ("before", "after", "is_taken"),
    [
        ("integer", "long", True),
        ("integer", "double", True),
        ("float", "double", True),
        ("long", "double", True),
        ("double", "long", False),
        ("double", "float", False),
        ("string", "double", False),
        ("boolean", "long", False),
    ],
)
def test_columns_are_taken_as_mlflow_takes_them(before: str, after: str, is_taken: bool) -> None:
    old, new = ({"inputs": json.dumps([{"type": name, "name": "a"}]), "outputs": "[]"} for name in (before, after))

    assert all(each.severity < 1 for each in between(old, new)) is is_taken


@pytest.mark.parametrize(("before", "after", "is_taken"), [("float32", "float64", False), ("float32", "float32", True)])
def test_tensors_must_match_as_mlflow_wants_them(before: str, after: str, is_taken: bool) -> None:
    def signature(dtype: str) -> dict[str, str]:
        tensor = {"type": "tensor", "name": "a", "tensor-spec": {"dtype": dtype, "shape": [-1]}}
        return {"inputs": json.dumps([tensor]), "outputs": "[]"}

    assert all(each.severity < 1 for each in between(signature(before), signature(after))) is is_taken


@pytest.mark.parametrize(
    ("signature", "where", "problem"),
    [
        ({"inputs": "[", "outputs": None}, "/inputs, line 1, column 2", "expecting value"),
        ({"inputs": "{}", "outputs": None}, "/inputs", "not a list"),
        ({"inputs": "[1]", "outputs": None}, "/inputs/0", "not a mapping"),
        ({"inputs": '[{"type": "longish"}]'}, "/inputs/0/type", "'longish' is no type"),
        ({"inputs": '[{"type": "tensor"}]'}, "/inputs/0/tensor-spec", "no tensor-spec"),
        ({"inputs": '[{"type": "array", "items": 3}]'}, "/inputs/0/items", "not a mapping"),
        ({"inputs": '[{"type": "object", "properties": 3}]'}, "/inputs/0/properties", "not a mapping"),
        ({"inputs": "[]", "params": "[{}]"}, "/params/0", "no name"),
    ],
)
def test_a_malformed_signature_is_named_by_its_place(signature: Any, where: str, problem: str) -> None:
    error = refused(encode(signature))

    assert (error.where, error.problem) == (where, problem)


def test_an_onnx_graph_is_read_without_its_weights() -> None:
    schema = read(decoded("identity.onnx.b64"))

    assert [(each.path, each.types, each.shape) for each in schema.request.fields] == [("x", ("FP32",), (-1, 3))]
    assert [(each.path, each.types, each.shape) for each in schema.response.fields] == [("y", ("FP32",), (-1, 3))]
    assert schema.notes == ("opset ai.onnx 21",)


def test_an_onnx_graph_may_have_optional_and_nested_types() -> None:
    schema = read(decoded("nested.onnx.b64"))

    assert fields(schema, REQUEST)["o"].nullable
    assert fields(schema, RESPONSE)["s"].types == ("SEQUENCE<MAP<INT64,FP32[]>>",)


@pytest.mark.parametrize("length", range(1, 100, 7))
def test_a_truncated_onnx_graph_is_an_error_or_less_of_a_graph(length: int) -> None:
    data = decoded("identity.onnx.b64")

    assert refused(data[: min(length, len(data) - 20)])


def test_formats_that_name_tensors_alike_are_compared_by_signature() -> None:
    onnx = decoded("identity.onnx.b64")
    said = api([item("x", shape=[-1, 3], required=False, nullable=True)], [item("y", shape=[-1, 3], encoding="base64")])
    other = {"platform": "x", "inputs": [], "outputs": [{"name": "y", "datatype": "FP16", "shape": [-1, 3]}]}

    assert between(said, onnx) == ()
    assert weights(between(onnx, other)) == {
        ("request", "x", "field-removed", 0.3),
        ("response", "y", "dtype-narrowed", 0.7),
    }
    text = {"platform": "x", "inputs": [], "outputs": [{"name": "t", "datatype": "BYTES", "shape": [1]}]}
    assert between(text, api([], [item("t", "STRING")])) == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [(encode(OIP), encode({"type": "object"})), (encode({"type": "object"}), (DATA / "infer.proto").read_bytes())],
)
def test_formats_without_anything_in_common_are_refused(before: bytes, after: bytes) -> None:
    with pytest.raises(ValueError, match="expected the same format, or two of"):
        between(before, after)
