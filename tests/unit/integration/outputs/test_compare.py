"""What is found in pairs of answers, by example."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ops_commander.integration.outputs.answers import MOST_BYTES, Answer, NoAnswer
from ops_commander.integration.outputs.findings import Kind, pointer
from tests.unit.integration.outputs.answers import (
    answer,
    binary,
    compared,
    found,
    raw,
    skipped,
    tensor_json,
    texts,
)

GOOD = {"label": "cat", "score": 0.5}


@pytest.mark.parametrize(
    ("stable", "candidate", "deviation"),
    [
        (100.0, 100.1, 0.0),  # the tolerance is 0.100001
        (100.0, 101.00001, 1.0),
        (100.0, 100.1 + 0.45, 0.5),
        (0.0, 1e-6, 0.0),
        (0.0, 5.5e-6, 0.5),
        (-100.0, -100.55, 0.5),
        (5, 5, 0.0),
        (10**400, 10**400, 0.0),
        (10**400, 10**400 + 1, 1.0),
        (1e308, -1e308, 1.0),
    ],
)
def test_numbers_deviate_from_the_tolerance_to_ten_times_of_it(stable: Any, candidate: Any, deviation: float) -> None:
    assert compared({"a": stable}, {"a": candidate}).deviation == pytest.approx(deviation, abs=1e-3)
    many = compared({"a": [stable] * 40}, {"a": [stable] * 39 + [candidate]})
    assert many.deviation == pytest.approx(deviation, abs=1e-3)


@pytest.mark.parametrize(
    ("stable", "candidate", "kind", "path"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, Kind.FIELD_DROP, "/b"),
        ({"a": {"b": 2}}, {"a": {"b": None}}, Kind.FIELD_DROP, "/a/b"),
        ({"a/b": 1, "c": 1}, {"c": 1}, Kind.FIELD_DROP, "/a~1b"),
        ({"a": 0.5}, {"a": math.nan}, Kind.NON_FINITE, "/a"),
        ({"a": 0.5}, {"a": -math.inf}, Kind.NON_FINITE, "/a"),
        ({"a": [0.5] * 40}, {"a": [0.5] * 38 + [math.nan, 0.5]}, Kind.NON_FINITE, "/a/38"),
        ({"a": 1}, {"a": 1.0}, Kind.DTYPE, "/a"),
        ({"a": 1.0}, {"a": 1}, Kind.DTYPE, "/a"),
        ({"a": 3}, {"a": 3.25}, Kind.DTYPE, "/a"),
        ({"a": 1}, {"a": "1"}, Kind.DTYPE, "/a"),
        ({"a": True}, {"a": 1}, Kind.DTYPE, "/a"),
        ({"a": [1]}, {"a": {"0": 1}}, Kind.DTYPE, "/a"),
        ({"a": list(range(40))}, {"a": [float(each) for each in range(40)]}, Kind.DTYPE, "/a"),
        ({"a": [1, 2, 3]}, {"a": [1, 2]}, Kind.SHAPE, "/a"),
        ({"a": [0.5] * 40}, {"a": [0.5] * 39}, Kind.SHAPE, "/a"),
        ({"a": "café"}, {"a": "cafe\u0301"}, Kind.ENCODING_MISMATCH, "/a"),
        ({"a": "café"}, {"a": "cafÃ©"}, Kind.ENCODING_MISMATCH, "/a"),
        ({"a": "café"}, {"a": "caf\ufffd"}, Kind.ENCODING_MISMATCH, "/a"),
        ({"a": "hello world"}, {"a": "aGVsbG8gd29ybGQ="}, Kind.ENCODING_MISMATCH, "/a"),
        ({"a": "_-8BAgME"}, {"a": "/+8BAgME"}, Kind.ENCODING_MISMATCH, "/a"),
        ({"a": 'say "no"'}, {"a": 'say \\"no\\"'}, Kind.ENCODING_MISMATCH, "/a"),
        ({"a": "it's"}, {"a": "it&#x27;s"}, Kind.ENCODING_MISMATCH, "/a"),
    ],
)
def test_a_regression_has_kind_path_and_words(stable: Any, candidate: Any, kind: Kind, path: str) -> None:
    each = compared(stable, candidate)
    assert (each.deviation, set(each.kinds)) == (1.0, {kind})
    (finding,) = each.findings
    assert (pointer(finding.path), bool(finding.said)) == (path, True)


@pytest.mark.parametrize(
    ("stable", "candidate"),
    [
        (GOOD, {**GOOD, "explained": True}),
        ({"a": None}, {"a": 1}),
        ({"a": 0.99999}, {"a": 1}),  # as JavaScript writes 1.0
        ({"a": 1}, {"a": 0.99999}),
        ({"a": [1, 0.25] * 20}, {"a": [1.0, 0.25] * 20}),
        ({"a": math.nan}, {"a": math.nan}),
    ],
)
def test_what_is_no_regression(stable: Any, candidate: Any) -> None:
    assert found(stable, candidate) == (0.0, set())


def test_stables_own_nonsense_is_no_regression_of_the_candidate() -> None:
    assert found({"a": math.nan}, {"a": 0.5}) == (1.0, set())
    assert not found({"a": "caf\ufffd"}, {"a": "caf\ufffd!"})[1]


def test_another_order_is_told_from_other_elements() -> None:
    assert found(["b", "a", "c"], ["a", "b", "c"]) == (1.0, {Kind.ORDER})
    assert found([1.5, 2.5, 3.5] * 9, [2.5, 1.5, 3.5] * 9) == (1.0, {Kind.ORDER})
    assert found([{"id": 1}, {"id": 2}], [{"id": 2}, {"id": 1}]) == (1.0, {Kind.ORDER})
    assert found([1.5, 2.5], [2.5, 3.5]) == (1.0, set())


def test_the_order_of_unordered_arrays_means_nothing() -> None:
    rows = [{"id": "a", "score": 0.25}, {"id": "b", "score": 0.5}]
    assert found({"rows": rows}, {"rows": rows[::-1]}, unordered=["/rows"]) == (0.0, set())
    numbers = [each / 8 for each in range(100)]
    assert found({"rows": numbers}, {"rows": numbers[::-1]}, unordered=["/*"]) == (0.0, set())
    assert found({"rows": rows}, {"rows": rows[::-1]}, unordered=["/other"])[0] == 1.0


def test_ignored_places_are_not_looked_at() -> None:
    stable = {"id": "a", "meta": {"at": 1, "deep": {"at": 2}}, "rows": [{"at": 5, "score": 0.5}]}
    candidate = {"meta": {"at": 9, "deep": {"at": "x"}}, "rows": [{"at": 7, "score": 0.5}]}
    assert found(stable, candidate, ignore=["/id", "/**/at"]) == (0.0, set())
    assert found(stable, candidate, ignore=["/id", "/meta", "/rows/*/at"]) == (0.0, set())
    assert found(stable, candidate, ignore=["/**/at"]) == (1.0, {Kind.FIELD_DROP})
    assert found(stable, candidate, ignore=["/**"]) == (0.0, set())


def test_labels_flip_and_texts_are_more_or_less_alike() -> None:
    assert found({"a": "kitten"}, {"a": "sitting"})[0] == pytest.approx(3 / 7)
    assert found({"a": "kitten"}, {"a": "sitting"}, labels=["/a"]) == (1.0, set())
    assert found({"a": [1, 2]}, {"a": [1, 3]}, labels=["/a/*"], tolerance={"absolute": 9}) == (1.0, set())
    assert found({"a": "one two"}, {"a": "one  two"})[0] == pytest.approx(1 / 8)
    assert found({"a": True}, {"a": False}) == (1.0, set())


def test_long_texts_are_compared_by_words_and_very_long_ones_by_their_counts() -> None:
    words = [f"word{number}" for number in range(1000)]
    assert found({"a": " ".join(words)}, {"a": " ".join([*words[:-10], *["other"] * 10])})[0] == pytest.approx(0.01)
    assert 0 < found({"a": " ".join(words)}, {"a": "  ".join(words)})[0] < 0.001
    many = words * 10
    assert found({"a": " ".join(many)}, {"a": " ".join([*many[:-100], *["other"] * 100])})[0] == pytest.approx(0.01)


def test_what_is_furthest_apart_is_told() -> None:
    each = compared({"a": 1.0, "b": [1.0, 2.0]}, {"a": 1.002, "b": [1.0, 3.0]})
    assert each.worst is not None
    assert (pointer(each.worst.path), each.worst.deviation, each.worst.candidate) == ("/b/1", 1.0, 3.0)


# --- answers as a whole ---


@pytest.mark.parametrize(
    ("candidate", "kind"),
    [
        (answer(GOOD, status=500), Kind.STATUS),
        (answer(GOOD, status=404), Kind.STATUS),
        (answer(GOOD, status=302), Kind.STATUS),
        (NoAnswer("timeout"), Kind.STATUS),
        (NoAnswer("unreachable"), Kind.STATUS),
        (answer(b"<html>", "text/html"), Kind.CONTENT_TYPE),
        (answer(b"{oops"), Kind.CONTENT_TYPE),
        (answer(b""), Kind.FIELD_DROP),
        (answer(GOOD, "application/json; charset=latin-1"), Kind.ENCODING_MISMATCH),
        (answer(b'{"label": "caf\xe9"}'), Kind.ENCODING_MISMATCH),
        (answer(b'\xef\xbb\xbf{"label": "cat", "score": 0.5}'), Kind.ENCODING_MISMATCH),
        (answer(b"9" * 5000), Kind.CONTENT_TYPE),
    ],
)
def test_an_answer_that_a_client_of_stable_could_not_use(candidate: Answer | NoAnswer, kind: Kind) -> None:
    assert found(GOOD, candidate) == (1.0, {kind})


@pytest.mark.parametrize(
    "content_type", ["application/json;charset=utf-8", "Application/JSON", "application/json ;a=b"]
)
def test_the_same_type_is_written_in_several_ways(content_type: str) -> None:
    assert found(GOOD, answer(GOOD, content_type)) == (0.0, set())


def test_other_codes_of_success_are_none_of_status() -> None:
    assert found(answer(GOOD, status=200), answer(GOOD, status=201)) == (0.0, set())


@pytest.mark.parametrize(
    ("stable", "reason"),
    [
        (answer(GOOD, status=500), "stable_status"),
        (answer(GOOD, status=404), "stable_status"),
        (NoAnswer("timeout"), "stable_timeout"),
        (NoAnswer("unreachable"), "stable_unreachable"),
        (NoAnswer("streaming"), "streaming"),
        (NoAnswer("too_large"), "too_large"),
        (answer(b"{oops"), "stable_unreadable"),
        (answer(b"x" * (MOST_BYTES + 1)), "too_large"),
        (answer(b"\x89PNG", "image/png"), "unsupported_type"),
        (answer(b"data: 1", "text/event-stream"), "streaming"),
        (answer(b"[" * 100_000), "too_deep"),
        (answer(b"[" * 300 + b"1" + b"]" * 300), "too_deep"),
        (Answer(200, {"content-type": "application/json", "content-encoding": "gzip"}, b"\x1f"), "encoded"),
        (answer(b"x", "text/plain; charset=rot13"), "stable_unreadable"),
        (answer(b"x", "text/plain; charset=\x00"), "stable_unreadable"),
        (answer(b"x", "text/plain; charset=punycode"), "stable_unreadable"),
    ],
)
def test_a_pair_without_a_usable_answer_of_stable_does_not_count(stable: Answer | NoAnswer, reason: str) -> None:
    other = answer(stable.body + b" ", stable.headers["content-type"]) if isinstance(stable, Answer) else answer(GOOD)
    assert skipped(stable, other) == reason


@pytest.mark.parametrize(
    "large",
    [
        ["a"] * 299_999 + ["b"],
        [["x" * 300 + str(index)] for index in range(5_000)],
    ],
)
def test_work_is_bounded(large: list[Any]) -> None:
    assert skipped(large, large[::-1]) == "too_much_work"


def test_plain_text_is_compared() -> None:
    assert found(answer(b"kitten", "text/plain"), answer(b"sitting", "text/plain"))[0] == pytest.approx(3 / 7)


# --- the Open Inference Protocol ---


def infer(*outputs: dict[str, Any]) -> dict[str, Any]:
    return {"model_name": "ranker", "model_version": "3", "outputs": list(outputs)}


VALUES = [0.1, 0.2, 0.7]


@pytest.mark.parametrize(
    ("candidate", "deviation", "kinds"),
    [
        (infer(tensor_json("scores", "FP32", [0.1, 0.2, 0.7])), 0.0, set()),
        (infer(tensor_json("scores", "FP32", [0.1, 0.3, 0.6])), 1.0, set()),
        (infer(tensor_json("probabilities", "FP32", VALUES)), 1.0, {Kind.FIELD_DROP}),
        (infer(tensor_json("scores", "FP64", VALUES)), 1.0, {Kind.DTYPE}),
        (infer(tensor_json("scores", "FP16", VALUES)), 1.0, {Kind.DTYPE, Kind.PRECISION_LOSS}),
        (infer(tensor_json("scores", "FP32", VALUES, [1, 3])), 1.0, {Kind.SHAPE}),
        (infer(tensor_json("scores", "FP32", [0.1, 0.2])), 1.0, {Kind.SHAPE}),
        (infer(tensor_json("scores", "FP32", [0.1, 0.2, math.nan])), 1.0, {Kind.NON_FINITE}),
        (infer(tensor_json("more", "INT64", [1]), tensor_json("scores", "FP32", VALUES)), 0.0, set()),
    ],
)
def test_outputs_are_compared_by_name(candidate: Any, deviation: float, kinds: set[Kind]) -> None:
    assert found(infer(tensor_json("scores", "FP32", VALUES)), candidate) == (deviation, kinds)


def test_outputs_in_another_order_serve_clients_by_name_alone() -> None:
    both = [tensor_json("a", "FP32", [0.5]), tensor_json("b", "INT64", [1])]
    assert found(infer(*both), infer(*both[::-1])) == (0.0, {Kind.ORDER})


def test_rules_reach_into_tensors() -> None:
    stable, candidate = (infer(tensor_json("label", "BYTES", [each])) for each in ("kitten", "sitting"))
    assert found(stable, candidate)[0] == pytest.approx(3 / 7)
    assert found(stable, candidate, labels=["/outputs/label/data/*"])[0] == 1.0
    assert found(stable, candidate, ignore=["/outputs/*/data"])[0] == 0.0


@pytest.mark.parametrize(
    ("datatype", "dtype", "one", "other"),
    [
        ("FP32", "<f4", [0.5, 2.5], [0.5, 3.5]),
        ("FP64", "<f8", [0.5, 2.5], [0.5, 3.5]),
        ("FP16", "<f2", [0.5, 2.5], [0.5, 3.5]),
        ("INT8", "<i1", [1, -2], [1, 2]),
        ("INT16", "<i2", [1, -2], [1, 2]),
        ("INT32", "<i4", [1, -2], [1, 2]),
        ("INT64", "<i8", [1, -(2**62)], [1, 2]),
        ("UINT8", "<u1", [1, 255], [1, 2]),
        ("UINT16", "<u2", [1, 2], [1, 3]),
        ("UINT32", "<u4", [1, 2], [1, 3]),
        ("UINT64", "<u8", [1, 2**63], [1, 3]),
        ("BOOL", "?", [True, False], [True, True]),
        ("BF16", "<u2", [0x3F80, 0x4000], [0x3F80, 0x4040]),
    ],
)
def test_binary_tensors_of_every_type(datatype: str, dtype: str, one: list[Any], other: list[Any]) -> None:
    first, second = (binary(("y", datatype, [2], raw(values, dtype))) for values in (one, other))
    assert found(first, first) == (0.0, set())
    again = binary(("y", datatype, [2], raw(one, dtype)), id="x")
    assert found(first, again) == (0.0, set())
    assert found(first, second) == (1.0, set())


def test_binary_texts_and_bytes() -> None:
    first = binary(("y", "BYTES", [2], texts(b"kitten", "é".encode())))
    assert found(first, binary(("y", "BYTES", [2], texts(b"sitting", "é".encode()))))[0] == pytest.approx(3 / 7)
    latin = binary(("y", "BYTES", [2], texts(b"kitten", b"\xe9")))
    assert found(first, latin) == (1.0, {Kind.ENCODING_MISMATCH})


def test_several_binary_tensors_follow_each_other() -> None:
    first = binary(("a", "FP32", [1], raw([0.5], "<f4")), ("b", "INT64", [2], raw([1, 2], "<i8")))
    second = binary(("a", "FP32", [1], raw([0.5], "<f4")), ("b", "INT64", [2], raw([1, 9], "<i8")))
    each = compared(first, second)
    assert each.worst is not None
    assert pointer(each.worst.path) == "/outputs/b/data/1"


@pytest.mark.parametrize(
    "candidate",
    [
        binary(("y", "FP32", [3], raw([0.5, 0.5], "<f4"))),
        binary(("y", "FP99", [2], raw([0.5, 0.5], "<f4"))),
        binary(("y", "BYTES", [1], b"\xff\xff\xff\xffabc")),
        binary(("y", "BYTES", [2], texts(b"a"))),
        binary(("y", "FP32", [2**40, 2**40], b"")),
        Answer(200, {"content-type": "application/octet-stream", "inference-header-content-length": "999"}, b"{}"),
        Answer(200, {"content-type": "application/octet-stream", "inference-header-content-length": "-1"}, b"{}"),
        Answer(200, {"content-type": "application/octet-stream", "inference-header-content-length": "2"}, b"{}abc"),
    ],
)
def test_malformed_tensors_cannot_be_read(candidate: Answer) -> None:
    stable = binary(("y", "FP32", [2], raw([0.5, 0.25], "<f4")))
    assert found(stable, candidate) == (1.0, {Kind.CONTENT_TYPE})
    assert skipped(candidate, stable) == "stable_unreadable"


def test_binary_for_json_is_another_type() -> None:
    stable = answer(infer(tensor_json("y", "FP32", [0.5])))
    assert found(stable, binary(("y", "FP32", [1], raw([0.5], "<f4")))) == (1.0, {Kind.CONTENT_TYPE})
