"""Each rule, from both directions: what callers send must be taken, what clients read must be known."""

from __future__ import annotations

from typing import Any

import pytest

from ops_commander.integration.schema import Direction, Kind
from ops_commander.integration.schema.rules import RULES
from tests.unit.integration.schema.support import DATA, api, between, item, seen, weights

REQUEST, RESPONSE = Direction.REQUEST, Direction.RESPONSE

# What changes in a field; what that weighs in a request; what it weighs in a response.
CHANGES: list[tuple[dict[str, Any], dict[str, Any], tuple[str, float] | None, tuple[str, float] | None]] = [
    # types of values, in JSON
    ({"dtype": "FP64"}, {"dtype": "FP32"}, ("dtype-narrowed", 1), ("dtype-narrowed", 0.7)),
    ({"dtype": "FP32"}, {"dtype": "FP16"}, ("dtype-narrowed", 1), ("dtype-narrowed", 0.7)),
    ({"dtype": "FP32"}, {"dtype": "BF16"}, ("dtype-narrowed", 1), ("dtype-narrowed", 0.7)),
    ({"dtype": "FP16"}, {"dtype": "BF16"}, ("dtype-narrowed", 1), ("dtype-narrowed", 0.7)),
    ({"dtype": "INT64"}, {"dtype": "INT32"}, ("dtype-narrowed", 1), ("dtype-narrowed", 0.7)),
    ({"dtype": "FP64"}, {"dtype": "INT64"}, ("dtype-narrowed", 1), ("dtype-narrowed", 0.7)),
    ({"dtype": "FP32"}, {"dtype": "FP64"}, ("dtype-widened", 0), ("dtype-widened", 0.2)),
    ({"dtype": "INT32"}, {"dtype": "INT64"}, ("dtype-widened", 0), ("dtype-widened", 0.2)),
    ({"dtype": "UINT8"}, {"dtype": "INT16"}, ("dtype-widened", 0), ("dtype-widened", 0.2)),
    ({"dtype": "INT64"}, {"dtype": "FP64"}, ("dtype-widened", 0), ("dtype-incompatible", 1)),
    ({"dtype": "INT32"}, {"dtype": "FP32"}, ("dtype-incompatible", 1), ("dtype-incompatible", 1)),
    ({"dtype": "INT32"}, {"dtype": "UINT32"}, ("dtype-incompatible", 1), ("dtype-incompatible", 1)),
    ({"dtype": "STRING"}, {"dtype": "INT64"}, ("dtype-incompatible", 1), ("dtype-incompatible", 1)),
    ({"dtype": "BOOL"}, {"dtype": "UINT8"}, ("dtype-incompatible", 1), ("dtype-incompatible", 1)),
    ({"dtype": "BYTES"}, {"dtype": "STRING"}, ("encoding-changed", 1), ("encoding-changed", 1)),
    ({"dtype": "INT64"}, {"dtype": "ANY"}, ("dtype-added", 0), ("dtype-added", 1)),
    ({"dtype": "ANY"}, {"dtype": "INT64"}, ("dtype-removed", 1), ("dtype-removed", 0)),
    # shapes
    ({"shape": [3]}, {"shape": [4]}, ("dimension-changed", 1), ("dimension-changed", 1)),
    ({"shape": [-1]}, {"shape": [4]}, ("dimension-fixed", 1), ("dimension-fixed", 0.5)),
    ({"shape": [4]}, {"shape": [-1]}, ("dimension-freed", 0), ("dimension-freed", 0.3)),
    ({"shape": [-1]}, {"shape": [-1, 4]}, ("rank-changed", 1), ("rank-changed", 1)),
    ({"shape": []}, {"shape": [1]}, ("rank-changed", 1), ("rank-changed", 1)),
    ({}, {"shape": [4]}, ("dimension-fixed", 1), ("dimension-fixed", 0.5)),
    ({"shape": [4]}, {}, ("dimension-freed", 0), ("dimension-freed", 0.3)),
    # how a value is written
    ({"dtype": "STRING"}, {"dtype": "STRING", "encoding": "latin-1"}, ("encoding-changed", 1), ("encoding-changed", 1)),
    ({"dtype": "STRING"}, {"dtype": "STRING", "encoding": "base64"}, ("encoding-changed", 1), ("encoding-changed", 1)),
    ({"encoding": "date-time"}, {"encoding": "unix"}, ("encoding-changed", 1), ("encoding-changed", 1)),
    ({"encoding": "unix"}, {"encoding": "unix-ms"}, ("encoding-changed", 1), ("encoding-changed", 1)),
    ({"encoding": "date-time"}, {}, ("constraint-loosened", 0), ("encoding-changed", 1)),
    ({}, {"encoding": "date-time"}, ("constraint-tightened", 1), ("constraint-tightened", 0)),
    ({"dtype": "STRING"}, {"dtype": "STRING", "encoding": "utf-8"}, None, None),
    ({"encoding": "iso8601"}, {"encoding": "RFC3339"}, None, None),
    ({}, {"serialization": "protobuf"}, ("serialization-changed", 1), ("serialization-changed", 1)),
    ({}, {"serialization": "pickle"}, ("serialization-unsafe", 1), ("serialization-unsafe", 1)),
    ({}, {"serialization": "json"}, None, None),
    # whether it is there
    ({"required": False}, {"required": True}, ("became-required", 1), ("became-required", 0)),
    ({"required": True}, {"required": False}, ("became-optional", 0), ("became-optional", 1)),
    ({}, {"nullable": True}, ("nullable-added", 0), ("nullable-added", 0.7)),
    ({"nullable": True}, {}, ("nullable-removed", 1), ("nullable-removed", 0)),
    ({"default": 1}, {"default": 2}, ("default-changed", 0.3), ("default-changed", 0)),
    ({"default": 1}, {}, ("default-changed", 0.3), ("default-changed", 0)),
    ({"default": 1}, {"default": 1.0}, None, None),
    # which values
    ({"enum": ["a"]}, {"enum": ["a", "b"]}, ("enum-value-added", 0), ("enum-value-added", 0.5)),
    ({"enum": ["a", "b"]}, {"enum": ["a"]}, ("enum-value-removed", 1), ("enum-value-removed", 0)),
    ({"enum": ["a", "b"]}, {"enum": ["b", "a"]}, None, None),
    ({}, {"enum": ["a"]}, ("enum-introduced", 1), ("enum-introduced", 0)),
    ({"enum": ["a"]}, {}, ("enum-dropped", 0), ("enum-dropped", 0.5)),
    ({"minimum": 0}, {"minimum": 1}, ("constraint-tightened", 1), ("constraint-tightened", 0)),
    ({"minimum": 1}, {"minimum": 0}, ("constraint-loosened", 0), ("constraint-loosened", 0.5)),
    ({"maximum": 1}, {"maximum": 0}, ("constraint-tightened", 1), ("constraint-tightened", 0)),
    ({}, {"maximum": 1}, ("constraint-tightened", 1), ("constraint-tightened", 0)),
    ({"maxLength": 9}, {"maxLength": 8}, ("constraint-tightened", 1), ("constraint-tightened", 0)),
    ({"maxLength": 9}, {}, ("constraint-loosened", 0), ("constraint-loosened", 0.5)),
    ({"minLength": 1}, {"minLength": 2}, ("constraint-tightened", 1), ("constraint-tightened", 0)),
    ({"pattern": "^a"}, {"pattern": "^b"}, ("constraint-changed", 1), ("constraint-changed", 0.5)),
    ({"description": "in [0, 1]"}, {"description": "%"}, ("description-changed", 0), ("description-changed", 0)),
]


@pytest.mark.parametrize(("before", "after", "request_", "response"), CHANGES)
def test_a_changed_field_weighs_by_its_direction(
    before: dict[str, Any],
    after: dict[str, Any],
    request_: tuple[str, float] | None,
    response: tuple[str, float] | None,
) -> None:
    old, new = (item(**{"dtype": "FP32", **each}) for each in (before, after))

    changes = between(api([old], [old]), api([new], [new]))

    assert seen(changes, REQUEST) == ({request_} if request_ else set())
    assert seen(changes, RESPONSE) == ({response} if response else set())


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([], [item(required=True)], {("request", "x", "required-field-added", 1)}),
        ([], [item(required=False)], {("request", "x", "field-added", 0)}),
        ([], [item(default=1)], {("request", "x", "required-field-added", 1)}),
        ([item()], [], {("request", "x", "field-removed", 0.3)}),
        ([item("a"), item("b")], [item("b"), item("a")], {("request", "", "order-changed", 0)}),
    ],
)
def test_inputs_that_come_and_go(before: list[Any], after: list[Any], said: set[Any]) -> None:
    assert weights(between(api(before), api(after))) == said


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([item()], [], {("response", "x", "field-removed", 1)}),
        ([item(required=False)], [], {("response", "x", "field-removed", 1)}),
        ([], [item()], {("response", "x", "field-added", 0.05)}),
        ([item("a"), item("b")], [item("b"), item("a")], {("response", "", "order-changed", 0.3)}),
        ([item("a"), item("b")], [item("b")], {("response", "a", "field-removed", 1)}),
        ([item("a")], [item("a"), item("c")], {("response", "c", "field-added", 0.05)}),
        (
            [item("a")],
            [item("c"), item("a")],
            {("response", "c", "field-added", 0.05), ("response", "", "order-changed", 0.3)},
        ),
    ],
)
def test_outputs_that_come_and_go_and_move(before: list[Any], after: list[Any], said: set[Any]) -> None:
    assert weights(between(api([], before), api([], after))) == said


@pytest.mark.parametrize(("after", "kind"), [("protobuf", "serialization-changed"), ("pickle", "serialization-unsafe")])
def test_another_serialization_is_told_once_for_each_direction(after: str, kind: str) -> None:
    same = [item("a", "STRING"), item("b", "STRING")]

    changes = between(api(same, same), api(same, same, serialization=after))

    assert weights(changes) == {("request", "", kind, 1), ("response", "", kind, 1)}


def test_an_incompatible_type_makes_the_rest_of_the_field_pointless() -> None:
    old, new = item(dtype="STRING", enum=["a"], shape=[1], maxLength=3), item(dtype="INT64", minimum=3)

    assert weights(between(api([old]), api([new]))) == {("request", "x", "dtype-incompatible", 1)}


def test_shapes_may_change_in_several_ways_at_once() -> None:
    changes = between(api([], [item(shape=[-1, 3, 5])]), api([], [item(shape=[2, -1, 5])]))

    assert seen(changes, RESPONSE) == {("dimension-fixed", 0.5), ("dimension-freed", 0.3)}


def test_nobody_meets_the_lost_default_of_a_field_that_must_be_sent() -> None:
    changes = between(api([item(default=1, required=False)]), api([item(required=True)]))

    assert seen(changes, REQUEST) == {("became-required", 1)}


def test_a_rename_is_a_removal_and_an_addition_with_a_hint() -> None:
    changes = between(
        api([], [item("score"), item("label", "STRING")]), api([], [item("scores"), item("label", "STRING")])
    )

    hints = {each.path: each.hint for each in changes if each.path}
    assert hints == {"score": "perhaps renamed to scores", "scores": "perhaps renamed from score"}


@pytest.mark.parametrize(
    ("after", "is_hinted"),
    [
        ([item("zzz")], True),  # the only one that went, the only one that came
        ([item("zzz", "INT64")], False),
        ([item("zzz"), item("yyy")], False),
        ([item("score_v2"), item("yyy")], True),
    ],
)
def test_a_rename_is_hinted_where_type_and_name_are_alike(after: list[Any], is_hinted: bool) -> None:
    changes = between(api([], [item("score")]), api([], after))

    assert any(each.hint for each in changes) is is_hinted


def test_changes_stand_worst_first_and_always_in_the_same_order() -> None:
    old = [item(name) for name in "abcdef"]
    new = [item("f", "FP64"), item("b", nullable=True), item("a", shape=[1]), item("g")]

    changes = between(api(old, old), api(new, new))

    assert [each.severity for each in changes] == sorted((each.severity for each in changes), reverse=True)
    assert changes == between(api(old, old), api(new, new))


def test_long_values_are_cut_short() -> None:
    old, new = item(enum=["x"], description="a" * 1000), item(enum=[f"v{n}" for n in range(100)], description="b")

    changes = {each.kind: each for each in between(api([], [old]), api([], [new]))}

    added = changes[Kind.ENUM_VALUE_ADDED].after
    assert isinstance(added, list)
    assert (len(added), added[-1]) == (21, "… and 80 more")
    assert changes[Kind.DESCRIPTION_CHANGED].before == "a" * 200 + "…"


# Which kinds cannot be met in a response: they are about what a server refuses, or are told with the request.
REQUEST_ONLY = {
    Kind.FIELD_REFUSED,
    Kind.REQUIRED_FIELD_ADDED,
    Kind.OPERATION_ADDED,
    Kind.OPERATION_REMOVED,
}


def test_every_kind_has_a_rule_and_stands_in_the_documentation() -> None:
    documented = (DATA.parents[2] / "docs" / "schema-diff.md").read_text(encoding="utf-8")

    assert set(RULES[REQUEST]) == set(Kind)
    assert set(RULES[RESPONSE]) == set(Kind) - REQUEST_ONLY
    for kind in Kind:
        weigh = [f"{RULES[each][kind].severity:g}" if kind in RULES[each] else "–" for each in (REQUEST, RESPONSE)]
        row = f"| `{kind}` | {weigh[0]} | {weigh[1]} |"
        assert row in documented, row
