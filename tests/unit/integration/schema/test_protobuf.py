"""Protobuf, as text and as descriptors: what the wire and JSON both need."""

from __future__ import annotations

import pytest

from ops_commander.integration.schema import Direction, diff, read
from tests.unit.integration.schema.support import DATA, between, decoded, fields, refused, weights

REQUEST, RESPONSE = Direction.REQUEST, Direction.RESPONSE
PROTO = (DATA / "infer.proto").read_text(encoding="utf-8")


def test_text_and_descriptor_of_the_same_file_are_the_same() -> None:
    text, binary = read(PROTO.encode()), read(decoded("infer.descriptor.b64"))

    assert diff(text, binary) == ()
    assert set(fields(text, REQUEST)) == set(fields(binary, REQUEST))


def test_fields_are_named_by_their_method() -> None:
    schema = read(PROTO.encode())

    sent = {path.removeprefix("inf.Rater/Rate"): each for path, each in fields(schema, REQUEST).items()}
    assert {path: (each.types, each.shape, each.number) for path, each in sent.items()} == {
        "": (("OPERATION",), None, None),
        "#/id": (("STRING",), (), 1),
        "#/inputs": (("OBJECT",), (-1,), 2),
        "#/inputs/name": (("STRING",), (), 1),
        "#/inputs/shape": (("INT64",), (-1,), 2),
        "#/inputs/parent": (("as inf.Rater/Rate#/inputs",), (), 3),
        "#/named": (("MAP",), (), 3),
        "#/named/{key}": (("STRING",), None, None),
        "#/named/{*}": (("OBJECT",), None, None),
        "#/named/{*}/name": (("STRING",), (), 1),
        "#/named/{*}/shape": (("INT64",), (-1,), 2),
        "#/named/{*}/parent": (("as inf.Rater/Rate#/named/{*}",), (), 3),
        "#/mode": (("ENUM",), (), 4),
        "#/number": (("INT32",), (), 5),
        "#/raw": (("BYTES",), (), 6),
        "#/at": (("google.protobuf.Timestamp",), (), 7),
        "#/threshold": (("FP32",), (), 8),
    }
    assert sent["#/raw"].constraints == {"oneof": "payload"}
    assert sent["#/threshold"].constraints == {}
    assert fields(schema, RESPONSE)["inf.Rater/Rate"].encoding == "stream"


AT = "inf.Rater/Rate"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("float score = 1", "double score = 1", {("response", f"{AT}#/score", "dtype-incompatible", 1)}),
        ("int64 count = 3", "int32 count = 3", {("response", f"{AT}#/count", "dtype-narrowed", 0.7)}),
        ("int64 count = 3", "uint64 count = 3", {("response", f"{AT}#/count", "dtype-incompatible", 1)}),
        ("sint32 delta = 4", "int32 delta = 4", {("response", f"{AT}#/delta", "encoding-changed", 1)}),
        ("string text = 5", "bytes text = 5", {("response", f"{AT}#/text", "encoding-changed", 1)}),
        ("float score = 1", "float score = 9", {("response", f"{AT}#/score", "field-number-changed", 1)}),
        ("double mean = 2", "repeated double mean = 2", {("response", f"{AT}#/mean", "rank-changed", 1)}),
        ("returns (stream ", "returns (", {("response", AT, "encoding-changed", 1)}),
        ("GOOD = 1;", "GOOD = 1; BEST = 2;", {("request", f"{AT}#/mode", "enum-value-added", 0)}),
        (
            "GOOD = 1;",
            "GOOD = 2;",
            {("request", f"{AT}#/mode", "enum-value-added", 0), ("request", f"{AT}#/mode", "enum-value-removed", 1)},
        ),
        ("optional float threshold = 8;", "", {("request", f"{AT}#/threshold", "field-removed", 0.3)}),
        ("string id = 1;", "string id = 1; string lang = 9;", {("request", f"{AT}#/lang", "field-added", 0)}),
        ("string text = 5;", "", {("response", f"{AT}#/text", "field-removed", 1)}),
        (
            "rpc Rate(",
            "rpc Rank(",
            {("request", AT, "operation-removed", 1), ("request", "inf.Rater/Rank", "operation-added", 0)},
        ),
        ("option deprecated = true;", "", set()),
        ("// Rates texts.", "/* Rates\n texts. */", set()),
    ],
)
def test_changes(before: str, after: str, said: set[tuple[str, str, str, float]]) -> None:
    assert before in PROTO

    assert weights(between(PROTO.encode(), PROTO.replace(before, after).encode())) == said


def test_the_same_number_under_another_name_is_perhaps_a_rename() -> None:
    changes = between(PROTO.encode(), PROTO.replace("double mean = 2", "double average = 2").encode())

    assert {each.hint for each in changes} == {
        "perhaps renamed to inf.Rater/Rate#/average",
        "perhaps renamed from inf.Rater/Rate#/mean",
    }


def test_messages_without_a_service_go_by_their_names() -> None:
    schema = read(
        b'syntax = "proto3"; message AskRequest { Part p = 1; } message Part { int32 a = 1; }'
        b"message Reply {} message M {}"
    )

    assert list(fields(schema, REQUEST)) == ["AskRequest", "AskRequest#/p", "AskRequest#/p/a", "M"]
    assert list(fields(schema, RESPONSE)) == ["M", "Reply"]
    assert schema.notes == ("no service and no direction in their names, so compared as both: M",)


def test_proto2_has_required_fields_groups_defaults_and_extensions() -> None:
    schema = read(
        b"""
        syntax = "proto2";
        message A {
          required int32 a = 1 [default = -3, (x.y) = { z: [1, 2] }];
          optional string s = 2 [default = "x;y\\"}"];
          repeated group Part = 3 { optional int32 b = 1; }
          extensions 100 to max;
          extend B { optional int32 c = 100; }
        }
        message B { extensions 100 to max; }
        extend A { optional int32 d = 101; }
        """,
        direction=REQUEST,
    )

    found = fields(schema, REQUEST)
    assert (found["A#/a"].required, found["A#/a"].default, found["A#/s"].required) == (True, '"-3"', False)
    assert found["A#/part"].encoding == "group"
    assert found["A#/part/b"].types == ("INT32",)


@pytest.mark.parametrize(
    ("text", "where", "problem", "expected"),
    [
        ("message A {", "line 1, column 12", "the end of the file", "the type of a field"),
        ("message A { int32 = 1; }", "line 1, column 19", "'='", "the name of a field"),
        ("message A {\n  int32 a = x; }", "line 2, column 13", "'x'", "a number"),
        ("message A { int32 a = 1.5; }", "line 1, column 23", "'1.5'", "a whole number"),
        ("message A { int32 a = 1 }", "line 1, column 25", "'}'", "';'"),
        ("message A {} banana", "line 1, column 14", "'banana'", "message, enum, service, import, option or extend"),
        ('syntax = "proto3"; `', "line 1, column 20", "'`'", "a .proto file"),
        ("message A { int32 a = 1 [x", "line 1, column 27", "the end of the file", "']'"),
        ('import "a.proto"; option x = {', "line 1, column 31", "the end of the file", "';' or '}'"),
    ],
)
def test_malformed_text_is_named_by_line_and_column(text: str, where: str, problem: str, expected: str) -> None:
    error = refused(text.encode())

    assert (error.where, error.problem, error.expected) == (where, problem, expected)


def test_a_file_without_messages_is_refused() -> None:
    assert refused(b'syntax = "proto3";').problem == "no message"


def test_a_truncated_descriptor_is_an_error() -> None:
    data = decoded("infer.descriptor.b64")

    for length in range(1, len(data) - 1, 37):
        assert refused(data[:length])
