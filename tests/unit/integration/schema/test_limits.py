"""Whatever comes in, it ends soon: with a result, or with an error that says what the limit is."""

from __future__ import annotations

from typing import Any

import pytest

from ops_commander.integration.schema import json_schema, jsontext, model, protobuf_text, protobuf_types, wire, yamltext
from tests.unit.integration.schema.support import api, between, decoded, encode, item, refused

LEVELS = 10_000


def chain(inner: Any) -> dict[str, Any]:
    """Definitions each of which holds the next one."""
    held = {f"a{n}": inner({"$ref": f"#/$defs/a{n + 1}"}) for n in range(LEVELS)}
    return {"$ref": "#/$defs/a0", "$defs": {**held, f"a{LEVELS}": {"type": "string"}}}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[" * LEVELS + b"]" * LEVELS, "nested more than 256 levels"),
        (b'{"type":"object","properties":{"a":' * LEVELS + b"{}" + b"}}" * LEVELS, "nested more than 256 levels"),
        (b"a: " + b"[" * LEVELS, "nested more than 256 levels"),
        (b"".join(b" " * n + b"a:\n" for n in range(400)), "nested more than 256 levels"),
        (b"message A {" * LEVELS, "nested more than 64 levels"),
        (b"message A {" + b"oneof a {" * LEVELS, "nested more than 64 levels"),
        (encode(chain(lambda ref: {"type": "object", "properties": {"x": ref}})), "nested more than 100 levels"),
        (encode(chain(lambda ref: {"type": "array", "items": ref})), "nested more than 100 levels"),
    ],
)
def test_depth_is_limited(data: bytes, problem: str) -> None:
    assert refused(data).problem == problem


def test_a_long_chain_of_references_is_followed() -> None:
    assert between(chain(lambda ref: ref), {"type": "string"}) == ()


def test_types_of_mlflow_and_onnx_may_not_nest_for_ever() -> None:
    nested = '{"type":"array","items":' * 120 + '{"type":"long"}' + "}" * 120
    assert refused(encode({"inputs": f"[{nested}]"})).problem == "nested more than 100 levels"

    kind = b""
    for _ in range(20):  # sequences of sequences
        kind = b"\x0a" + bytes([len(kind)]) + kind
        kind = b"\x22" + bytes([len(kind)]) + kind
    value = b"\x0a\x01x\x12" + bytes([len(kind)]) + kind
    graph = b"\x5a" + bytes([len(value)]) + value
    assert "types nested more than 16 levels" in refused(b"\x08\x08\x3a" + bytes([len(graph)]) + graph).problem


def test_size_is_limited() -> None:
    assert refused(b" " * 101, max_bytes=100).problem == "101 bytes or more"


def test_values_are_counted_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsontext, "MAX_VALUES", 1000)

    for data in (b"[" + b"1," * 1001 + b"1]", b"[" + b"{}," * 600 + b"{}]", b"[" + b'"a,",' * 1001 + b"1]"):
        assert refused(data).problem == "more than 1,000 values"
    assert refused(b"[" + b'"[",' * 5001 + b"1]").problem == "more than 1,000 values"
    assert refused(b'["' + b"," * 9000 + b'"]').problem == "a list at the top"


def test_fields_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (model, json_schema, protobuf_types):
        monkeypatch.setattr(module, "MAX_FIELDS", 1000)
    doubled = {
        f"a{n}": {"properties": {"x": {"$ref": f"#/$defs/a{n + 1}"}, "y": {"$ref": f"#/$defs/a{n + 1}"}}}
        for n in range(40)
    }
    messages = "".join(f"message M{n} {{ M{n + 1} x = 1; M{n + 1} y = 2; }}" for n in range(40))

    assert refused(encode({"$ref": "#/$defs/a0", "$defs": {**doubled, "a40": {}}})).problem.startswith(
        "more than 1,000 fields"
    )
    assert refused(f"{messages} message M40 {{}}".encode()).problem.startswith("more than 1,000 fields")
    assert refused(encode(api([item(f"x{n}") for n in range(1001)]))).problem == "more than 1,000 fields"


def test_work_on_shared_schemas_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schema, "MAX_VALUES", 20_000)
    many = {f"p{n}": {"$ref": "#/$defs/e"} for n in range(300)}

    every: tuple[dict[str, Any], ...] = (
        {"enum": [*range(300)]},
        {"not": {"enum": [*range(1000)]}},
        {"allOf": [{} for _ in range(200)]},
    )
    for shared in every:
        schema = {"type": "object", "properties": many, "$defs": {"e": shared}}
        assert refused(encode(schema)).problem == "more than 2,000,000 values, references counted in full".replace(
            "2,000,000", "20,000"
        )


def test_schemas_that_hold_each_other_end() -> None:
    held = {
        f"a{n}": {"type": "object", "properties": {f"p{m}": {"$ref": f"#/$defs/a{m}"} for m in range(5)}}
        for n in range(5)
    }
    schema = {"$ref": "#/$defs/a0", "$defs": held}

    assert between(schema, schema) == ()


def test_what_is_nested_in_every_way_is_read_once() -> None:
    every = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 10} for n in range(40)}

    assert between({"$ref": "#/$defs/a0", "$defs": {**every, "a40": {"type": "string"}}}, {"type": "string"}) == ()


def test_yaml_cannot_blow_up(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = b"a0: &a0 [x,x,x]\n" + b"".join(
        b"a%d: &a%d [%b]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 30)
    )
    merges = b"a0: &a0 {x: 1}\n" + b"".join(
        b"a%d: &a%d {<<: [%b], k: 1}\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 30)
    )
    for data in (bomb, merges):
        assert refused(data).problem == "more than 500,000 values, counting each alias in full"

    monkeypatch.setattr(yamltext, "MAX_YAML_BYTES", 100)
    assert refused(b"a: " + b"x" * 100).problem == "103 characters of YAML"


def test_words_and_records_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf_text, "MAX_TOKENS", 1000)
    assert refused(b"message A {" + b"int32 a = 1;" * 300).problem == "more than 1,000 words"

    source = wire.Source(b"\x08\x01" * 1000, 999)
    with pytest.raises(model.SchemaError, match="records"):
        list(wire.Message(source, 0, 2000).records())


@pytest.mark.parametrize(
    "data",
    [
        b'{"a' * 200_000,
        b"\\" * 200_000,
        b'"' * 200_001,
        b'{"type":"' + b"\\" * 200_000 + b'"}',
        b"/*" + b"* " * 200_000,
        b"message A { int32 a = 1 " + b"[{" * 100_000,
        b"? " * 100_000,
        b"- " * 100_000,
        b"&a " * 100_000,
        b"x: " + b"{" * 200_000,
        b"%" * 200_000,
        b"\x0a" * 200_000,
        b"\x08\x01" * 200_000,
        b"\x0a\x80" * 100_000,
    ],
)
def test_what_is_made_to_be_slow_is_an_error(data: bytes) -> None:
    assert refused(data)


def test_many_fields_are_compared_in_good_time() -> None:
    old, new = (api([], [item(f"x{n}", dtype) for n in range(10_000)]) for dtype in ("FP32", "FP16"))

    assert len(between(old, new)) == 10_000


def test_many_removed_and_added_fields_are_not_paired_up() -> None:
    old, new = (api([], [item(f"{name}{n}") for n in range(3_000)]) for name in "ab")

    assert all(each.hint is None for each in between(old, new))


def test_a_model_with_weights_is_read_past_them() -> None:
    data = decoded("identity.onnx.b64")
    weights = b"\x2a" + b"\x80\x80\x80\x01" + b"\x4a\xfb\xff\xff\x00" + bytes(2**21 - 5)
    at = data.index(b"\x3a")
    length = data[at + 1]
    body = data[at + 2 : at + 2 + length] + weights
    size = bytes(
        [len(body) & 0x7F | 0x80, len(body) >> 7 & 0x7F | 0x80, len(body) >> 14 & 0x7F | 0x80, len(body) >> 21]
    )

    assert between(data, data[: at + 1] + size + body + data[at + 2 + length :]) == ()
