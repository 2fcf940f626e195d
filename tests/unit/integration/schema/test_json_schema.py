"""JSON Schema: what holds at each place of a message."""

from __future__ import annotations

from typing import Any

import pytest

from ops_commander.integration.schema import Direction, diff, read
from ops_commander.integration.schema.json_schema import Reader
from ops_commander.integration.schema.model import Field
from ops_commander.integration.schema.references import References
from tests.unit.integration.schema.support import between, encode, fields, refused, seen, weights

REQUEST, RESPONSE = Direction.REQUEST, Direction.RESPONSE


def places(schema: Any, direction: Direction = REQUEST) -> dict[str, Field]:
    return {each.path: each for each in Reader(References(schema)).fields(schema, "", direction, required=True)}


def root(schema: Any) -> Field:
    return places(schema)[""]


def test_every_place_has_a_pointer() -> None:
    found = places(
        {
            "type": "object",
            "required": ["a", "gone"],
            "properties": {
                "a": {"type": "array", "items": {"type": "number"}},
                "b/c~d": {"type": "string"},
                "*": {"type": "string"},
                "t": {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}},
            },
            "additionalProperties": {"type": "boolean"},
            "patternProperties": {"^x": {"type": "integer"}},
        }
    )

    assert {path: (each.types, each.required) for path, each in found.items()} == {
        "": (("OBJECT",), True),
        "/a": (("ARRAY",), True),
        "/a/*": (("FP64",), False),
        "/b~1c~0d": (("STRING",), False),
        "/~2*": (("STRING",), False),
        "/t": (("ARRAY",), False),
        "/t/0": (("STRING",), False),
        "/t/*": (("INT64",), False),
        "/gone": ((), True),
        "/{^x}": (("INT64",), False),
        "/{*}": (("BOOL",), False),
    }


@pytest.mark.parametrize(
    ("schema", "types", "nullable"),
    [
        ({"type": "integer"}, ("INT64",), False),
        ({"type": "integer", "format": "int32"}, ("INT32",), False),
        ({"type": "number", "format": "float"}, ("FP32",), False),
        ({"type": "string", "format": "binary"}, ("BYTES",), False),
        ({"type": ["string", "null"]}, ("STRING",), True),
        ({"type": "string", "nullable": True}, ("STRING",), True),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ("STRING",), True),
        ({"anyOf": [{"$ref": "#/$defs/S"}, {"type": "null"}], "$defs": {"S": {"type": "string"}}}, ("STRING",), True),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, ("INT64", "STRING"), False),
        ({"type": ["string", "integer"]}, ("INT64", "STRING"), False),
        ({"allOf": [{"type": "number"}, {"type": "integer"}]}, ("INT64",), False),
        ({"enum": ["a", "b", None]}, ("STRING",), True),
        ({"const": 1.5}, ("FP64",), False),
        ({"properties": {}}, ("OBJECT",), False),
        ({"items": {}}, ("ARRAY",), False),
        (True, (), False),
        ({}, (), False),
        (False, ("NOTHING",), False),
        ({"$ref": "#"}, (), False),
    ],
)
def test_types(schema: Any, types: tuple[str, ...], nullable: bool) -> None:
    assert (root(schema).types, root(schema).nullable) == (types, nullable)


@pytest.mark.parametrize(
    ("schema", "encoding"),
    [
        ({"type": "string", "format": "date-time"}, "timestamp:date-time"),
        ({"type": "string", "format": "byte"}, "base64"),
        ({"type": "string", "contentEncoding": "base64"}, "base64"),
        ({"type": "string", "contentMediaType": "text/plain; charset=ISO-8859-1"}, "latin-1"),
        ({"type": "integer", "format": "unix-time"}, "timestamp:unix"),
        ({"type": "string", "format": "email"}, None),
    ],
)
def test_encodings(schema: Any, encoding: str | None) -> None:
    assert root(schema).encoding == encoding


@pytest.mark.parametrize(
    ("schema", "constraints"),
    [
        ({"minimum": 1, "maximum": 2.5}, {"lower": [1, False], "upper": [2.5, False]}),
        ({"exclusiveMinimum": 0}, {"lower": [0, True]}),
        ({"minimum": 0, "exclusiveMinimum": True}, {"lower": [0, True]}),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9}, {"lower": [1, False], "upper": [8, False]}),
        ({"allOf": [{"minimum": 1}, {"minimum": 3}], "maxLength": 4}, {"lower": [3, False], "maxLength": 4}),
        ({"minLength": 0, "uniqueItems": False}, {}),
        ({"type": "string", "format": "email", "pattern": "@"}, {"format": "email", "pattern": "@"}),
        ({"not": {"const": 1}}, {"not": '[{"const":1}]'}),
    ],
)
def test_constraints(schema: Any, constraints: dict[str, Any]) -> None:
    assert root(schema).constraints == constraints


def test_a_recursive_schema_ends_where_it_begins_again() -> None:
    tree = {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "value": {"type": "number"},
                    "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                    "all": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                },
            }
        },
    }

    found = places(tree)

    assert sorted(found) == ["", "/all", "/all/*", "/next", "/value"]
    assert found["/next"].types == found["/all/*"].types == ("as /",)
    assert found["/next"].nullable


def test_one_of_several_objects_has_a_name_of_its_own() -> None:
    def pets(*names: str) -> dict[str, Any]:
        forms = {
            name: {"type": "object", "properties": {"kind": {"const": name}, "age": {"type": "integer"}}}
            for name in names
        }
        return {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in names], "$defs": forms}

    assert sorted(places(pets("Cat", "Dog"))) == [
        "",
        "(Cat)",
        "(Cat)/age",
        "(Cat)/kind",
        "(Dog)",
        "(Dog)/age",
        "(Dog)/kind",
    ]
    assert between(pets("Cat", "Dog"), pets("Dog", "Cat")) == ()
    assert weights(between(pets("Cat", "Dog"), pets("Cat", "Dog", "Eel"))) == {
        ("request", "(Eel)", "alternative-added", 0),
        ("response", "(Eel)", "alternative-added", 1),
    }
    assert weights(between(pets("Cat", "Dog", "Eel"), pets("Cat", "Dog"))) == {
        ("request", "(Eel)", "alternative-removed", 1),
        ("response", "(Eel)", "alternative-removed", 0),
    }


def test_what_is_read_only_is_not_sent_and_what_is_write_only_not_answered() -> None:
    schema = {"type": "object", "properties": {"id": {"readOnly": True}, "secret": {"writeOnly": True}}}

    assert sorted(places(schema, REQUEST)) == ["", "/secret"]
    assert sorted(places(schema, RESPONSE)) == ["", "/id"]


def test_a_schema_of_request_and_response_has_one_of_each() -> None:
    schema = read(encode({"properties": {"request": {"type": "string"}, "response": {"type": "integer"}}}))

    assert fields(schema, REQUEST)[""].types == ("STRING",)
    assert fields(schema, RESPONSE)[""].types == ("INT64",)
    assert schema.notes == ()


def test_a_schema_without_direction_is_compared_both_ways_unless_told() -> None:
    old, new = {"type": "string"}, {"type": ["string", "null"]}

    assert weights(between(old, new)) == {("request", "", "nullable-added", 0), ("response", "", "nullable-added", 0.7)}
    assert weights(between(old, new, REQUEST)) == {("request", "", "nullable-added", 0)}
    assert "no direction" in read(encode(old)).notes[0]


OPEN = {"type": "object", "properties": {"a": {}, "b": {}}}


@pytest.mark.parametrize(
    ("before", "after", "request_", "response"),
    [
        (OPEN, {**OPEN, "additionalProperties": False}, {("object-closed", 1)}, {("object-closed", 0)}),
        ({**OPEN, "additionalProperties": False}, OPEN, {("object-opened", 0)}, {("object-opened", 0.05)}),
        (
            {**OPEN, "additionalProperties": False},
            {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
            {("field-refused", 1)},
            {("field-removed", 1)},
        ),
        ({"type": "string"}, {"type": ["string", "integer"]}, {("dtype-added", 0)}, {("dtype-added", 1)}),
        ({"type": ["string", "integer"]}, {"type": "string"}, {("dtype-removed", 1)}, {("dtype-removed", 0)}),
        ({"type": "integer"}, {"type": "number"}, {("dtype-widened", 0)}, {("dtype-incompatible", 1)}),
        ({"multipleOf": 2}, {"multipleOf": 4}, {("constraint-tightened", 1)}, {("constraint-tightened", 0)}),
        ({"multipleOf": 4}, {"multipleOf": 2}, {("constraint-loosened", 0)}, {("constraint-loosened", 0.5)}),
        ({"multipleOf": 2}, {"multipleOf": 3}, {("constraint-changed", 1)}, {("constraint-changed", 0.5)}),
        ({"exclusiveMinimum": 1}, {"minimum": 1}, {("constraint-loosened", 0)}, {("constraint-loosened", 0.5)}),
        ({"uniqueItems": True}, {}, {("constraint-loosened", 0)}, {("constraint-loosened", 0.5)}),
    ],
)
def test_changes(before: Any, after: Any, request_: set[Any], response: set[Any]) -> None:
    changes = between({"$comment": "", "type": "object", **before}, {"$comment": "", "type": "object", **after})

    assert (seen(changes, REQUEST), seen(changes, RESPONSE)) == (request_, response)


def test_what_hangs_on_a_new_object_goes_without_saying() -> None:
    before = {"type": "object", "properties": {}}
    after = {"type": "object", "properties": {"o": {"type": "object", "required": ["x"], "properties": {"x": {}}}}}

    assert weights(between(before, after)) == {
        ("request", "/o", "field-added", 0),
        ("response", "/o", "field-added", 0.05),
    }


# jsonsubschema 0.0.8 on pairs: whether the old is a subschema of the new, and the new of the old. Its None, an answer
# that it owes, is left out; so is number → integer in a response, which is a subschema and still loses digits.
ORACLE: list[tuple[Any, Any, bool, bool]] = [
    ({"type": "string"}, {"type": "string", "minLength": 1}, False, True),
    ({"type": "string", "maxLength": 5}, {"type": "string", "maxLength": 9}, True, False),
    ({"type": "integer", "minimum": 0}, {"type": "integer", "minimum": 5}, False, True),
    ({"type": "string"}, {"type": "integer"}, False, False),
    ({"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "null"}]}, True, False),
    ({"enum": ["a", "b"]}, {"enum": ["a"]}, False, True),
    ({"enum": ["a"]}, {"enum": ["a", "c"]}, True, False),
    ({"type": "string"}, {"enum": ["a"]}, False, True),
    (
        {"type": "object", "properties": {"a": {"type": "string"}}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        False,
        True,
    ),
    (
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        False,
        False,
    ),
    (
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": "string"}}},
        True,
        False,
    ),
    ({"type": "array", "items": {"type": "integer"}}, {"type": "array", "items": {"type": "string"}}, False, False),
    ({"type": "array", "items": {"type": "string"}}, {"type": "array", "items": {"enum": ["a"]}}, False, True),
    ({"anyOf": [{"type": "string"}, {"type": "boolean"}]}, {"type": "string"}, False, True),
]


@pytest.mark.parametrize(("before", "after", "is_taken", "is_known"), ORACLE)
def test_requests_and_responses_break_as_subschemas_do(before: Any, after: Any, is_taken: bool, is_known: bool) -> None:
    changes = between(before, after)

    assert all(each.severity < 1 for each in changes if each.direction is REQUEST) is is_taken
    assert all(each.severity == 0 for each in changes if each.direction is RESPONSE) is is_known


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (
            {"$ref": "https://example.com/x.json"},
            "the reference 'https://example.com/x.json' leads out of the document",
        ),
        ({"$ref": "other.json#/a"}, "the reference 'other.json#/a' leads out of the document"),
        ({"$ref": "#/nowhere"}, "the reference '#/nowhere' leads nowhere"),
        ({"$ref": "#anchor"}, "no anchor 'anchor'"),
        ({"$ref": 3}, "a $ref that is not text"),
        ({"type": "strange"}, "'strange' is no type"),
        ({"properties": []}, "properties is not a mapping"),
        ({"anyOf": []}, "anyOf is not a list of schemas"),
        ({"allOf": {}}, "allOf is not a list"),
        ({"enum": 3}, "an enum that is not a list"),
        ({"type": "string", "minLength": "x"}, "minLength is 'x'"),
        ({"type": "string", "minLength": -1}, "minLength is -1"),
        ({"type": "number", "minimum": True}, "minimum is 'True'"),
        ({"items": 3}, "3 is no schema"),
    ],
)
def test_malformed_schemas(schema: Any, problem: str) -> None:
    assert refused(encode(schema)).problem == problem


def test_references_by_anchor_by_id_and_with_escapes() -> None:
    schema = {
        "$id": "https://example.com/s",
        "properties": {
            "a": {"$ref": "#A"},
            "b": {"$ref": "https://example.com/s#/$defs/b~1c"},
            "c": {"$ref": "#/$defs/b~1c"},
        },
        "$defs": {"x": {"$anchor": "A", "type": "string"}, "b/c": {"type": "integer"}},
    }

    found = places(schema)

    assert [found[path].types for path in ("/a", "/b", "/c")] == [("STRING",), ("INT64",), ("INT64",)]


def test_the_same_schema_written_otherwise_is_the_same() -> None:
    one = {
        "type": "object",
        "properties": {"a": {"type": ["integer", "null"]}, "b": {"type": "string"}},
        "required": ["a"],
    }
    other = {
        "required": ["a"],
        "properties": {"b": {"$ref": "#/$defs/B"}, "a": {"anyOf": [{"type": "null"}, {"type": "integer"}]}},
        "allOf": [{"type": "object"}],
        "$defs": {"B": {"type": "string"}},
    }

    assert diff(read(encode(one)), read(encode(other))) == ()
