"""What holds for all schemas, and that nothing crashes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops_commander.integration.schema import Failed, SchemaError, compare_files, diff, read, render, schema_drift
from ops_commander.integration.schema.dtypes import DTYPES
from tests.unit.integration.schema.support import DATA, api, decoded, encode

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)

api_fields = st.fixed_dictionaries(
    {"name": st.sampled_from("abcde"), "dtype": st.sampled_from(DTYPES)},
    optional={
        "shape": st.lists(st.integers(-1, 4), max_size=3),
        "required": st.booleans(),
        "nullable": st.booleans(),
        "encoding": st.sampled_from(["base64", "date-time", "unix", "utf-8"]),
        "enum": st.lists(st.sampled_from("xyz"), min_size=1, max_size=3),
        "default": scalars,
        "minimum": st.integers(0, 3),
        "maxLength": st.integers(0, 3),
        "serialization": st.sampled_from(["json", "protobuf", "pickle"]),
    },
)
api_lists = st.lists(api_fields, max_size=4, unique_by=lambda each: str(each["name"]))
apis = st.builds(api, api_lists, api_lists, serialization=st.sampled_from(["json", "protobuf"]))

KEYWORDS = [
    "type", "properties", "required", "items", "anyOf", "oneOf", "allOf", "enum", "const", "minimum", "maxLength",
    "format", "nullable", "additionalProperties", "$ref", "$defs", "default", "pattern", "not", "prefixItems",
]  # fmt: skip
leaves = st.sampled_from(
    ["string", "integer", "number", "object", "array", "null", ["string", "null"], "date-time", "#", "#/$defs/a"]
) | st.sampled_from([True, False, 3, -1, None])
wild_schemas: st.SearchStrategy[Any] = st.recursive(
    leaves | st.dictionaries(st.sampled_from(KEYWORDS), leaves, max_size=3),
    lambda inner: (
        st.dictionaries(st.sampled_from([*KEYWORDS, "a", "b"]), inner, max_size=4) | st.lists(inner, max_size=3)
    ),
    max_leaves=12,
)
scalar_schemas = st.sampled_from(
    [
        *({"type": name} for name in ("string", "integer", "number", "boolean")),
        {"enum": ["a", "b"]},
        {"type": "string", "format": "date"},
    ]
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    return st.builds(
        lambda properties, required, closed: {
            "type": "object",
            "properties": properties,
            "required": sorted(set(required) & set(properties)),
            "additionalProperties": not closed,
        },
        named,
        st.lists(st.sampled_from("abc")),
        st.booleans(),
    )


schemas = st.recursive(
    scalar_schemas,
    lambda inner: (
        objects(inner)
        | st.builds(lambda item: {"type": "array", "items": item}, inner)
        | st.builds(lambda item: {"anyOf": [item, {"type": "null"}]}, inner)
    ),
    max_leaves=8,
)

SEEDS = [
    *((DATA / name).read_bytes() for name in ("ranker_v1.json", "infer.proto", "mlflow_signature.json", "MLmodel")),
    *(decoded(name) for name in ("identity.onnx.b64", "nested.onnx.b64", "infer.descriptor.b64")),
]


@given(apis)
def test_a_schema_does_not_differ_from_itself(document: dict[str, Any]) -> None:
    assert diff(read(encode(document)), read(encode(document))) == ()


@given(schemas)
def test_a_json_schema_does_not_differ_from_itself(schema: Any) -> None:
    assert diff(read(encode(schema)), read(encode(schema))) == ()


@given(apis, apis)
def test_a_change_has_a_way_back(before: dict[str, Any], after: dict[str, Any]) -> None:
    old, new = read(encode(before)), read(encode(after))
    forth, back = diff(old, new), diff(new, old)

    assert bool(forth) == bool(back)
    assert {(each.direction, each.path) for each in forth if each.path} == {
        (each.direction, each.path) for each in back if each.path
    }
    for changes in (forth, back):
        assert all(0 <= each.severity <= 1 and each.why and "{}" not in each.why for each in changes)
        assert (schema_drift(changes) == 1) >= any(each.severity == 1 for each in changes)


@given(schemas, schemas)
def test_what_a_request_gains_a_response_loses(before: Any, after: Any) -> None:
    """A new schema that takes all that the old one took (no request breaks) answers nothing new the other way round."""
    old, new = read(encode(before)), read(encode(after))
    forth, back = diff(old, new), diff(new, old)

    for kind_of_gain, kind_of_loss in (("nullable-added", "nullable-removed"), ("enum-dropped", "enum-introduced")):
        gains = {(each.direction, each.path) for each in forth if each.kind == kind_of_gain}
        losses = {(each.direction, each.path) for each in back if each.kind == kind_of_loss}
        assert gains == losses


def survives(data: bytes) -> None:
    try:
        result = compare_files(("a", SEEDS[0]), ("b", data), max_bytes=10_000)
    except Failed:
        pass
    else:
        json.loads(result.to_json())
        render.text(result, colour=True)
        render.markdown(result)
    try:
        diff(read(data), read(data))
    except SchemaError as error:
        assert error.problem and error.expected


@given(st.binary(max_size=200))
def test_no_bytes_crash(data: bytes) -> None:
    survives(data)


@given(st.text(max_size=100))
def test_no_text_crashes(text: str) -> None:
    survives(text.encode("utf-8", "surrogatepass"))


@given(anything)
def test_no_json_crashes(document: Any) -> None:
    survives(encode(document))


@given(wild_schemas)
def test_no_json_schema_crashes(schema: Any) -> None:
    survives(encode(schema))
    survives(
        encode({"openapi": "3.1.0", "paths": {"/a": {"post": {"requestBody": {"content": {"x": {"schema": schema}}}}}}})
    )


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_damage_crashes(data: st.DataObject) -> None:
    broken = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not broken:
            break
    survives(bytes(broken))
