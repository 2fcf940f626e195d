"""What holds for every pair of answers."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ops_commander.api.comparison import Comparison, Payloads
from ops_commander.integration.outputs import numbers
from ops_commander.integration.outputs.answers import Answer
from ops_commander.integration.outputs.compare import compare
from ops_commander.integration.outputs.findings import SKIP_REASONS, Compared
from ops_commander.integration.outputs.redact import Redactor
from ops_commander.integration.outputs.rules import Patterns, Rules
from ops_commander.integration.outputs.texts import dissimilarity, distance
from tests.unit.integration.outputs.answers import answer, compared

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
KEYS = st.text(max_size=5) | st.sampled_from(["outputs", "name", "datatype", "shape", "data", "a", "b"])
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.lists(st.floats(), min_size=17, max_size=40)
        | st.lists(st.integers(), min_size=17, max_size=40)
    ),
    max_leaves=25,
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
RULES = Rules(Comparison())
PATHS = st.lists(st.sampled_from(["a", "b", "*", "**", "0", "data"]), min_size=1, max_size=4).map(
    lambda steps: "".join(f"/{step}" for step in steps)
)


@given(TREES)
@settings(max_examples=300)
def test_an_answer_compared_with_itself_is_the_same(tree: Any) -> None:
    plain = answer(tree)
    spaced = Answer(200, plain.headers, json.dumps(tree, indent=1).encode())  # other bytes, so it is walked
    found = compared(plain, spaced)
    assert (found.deviation, found.kinds) == (0.0, frozenset())


@given(TREES, TREES, st.lists(PATHS, max_size=3), st.lists(PATHS, max_size=3), st.lists(PATHS, max_size=3))
@settings(max_examples=300)
def test_every_pair_of_trees_has_a_deviation_from_0_to_1(
    stable: Any, candidate: Any, ignore: list[str], unordered: list[str], labels: list[str]
) -> None:
    rules = Rules(Comparison(ignore=ignore, unordered=unordered, labels=labels))
    found = compare(answer(stable), answer(candidate), rules)
    assert isinstance(found, Compared)
    assert 0.0 <= found.deviation <= 1.0
    assert bool(found.findings) == bool(found.kinds)
    assert (found.worst is None) == (found.deviation == 0)


@given(
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.sampled_from(["application/json", "text/plain", "text/plain; charset=utf-16", "application/octet-stream", ""]),
    st.integers(-5, 250),
)
@example(b'{"outputs": [{"name": "", "datatype": "BYTES", "shape": [], "data": [[]]}]}', b"{}", "application/json", 0)
def test_nothing_that_servers_send_is_a_crash(stable: bytes, candidate: bytes, content_type: str, length: int) -> None:
    headers = {"content-type": content_type, "inference-header-content-length": str(length)}
    for told in (headers, {"content-type": content_type}):
        found = compare(Answer(200, told, stable), Answer(200, told, candidate), RULES)
        if isinstance(found, Compared):
            assert 0.0 <= found.deviation <= 1.0
        else:
            assert found.reason in SKIP_REASONS


@given(FINITE, FINITE, FINITE, st.floats(0, 10), st.floats(0, 10))
def test_the_deviation_grows_with_the_difference(
    stable: float, first: float, second: float, absolute: float, relative: float
) -> None:
    nearer, further = sorted((first, second), key=lambda each: abs(each - stable))
    assert numbers.deviation(stable, nearer, absolute, relative) <= numbers.deviation(
        stable, further, absolute, relative
    ) or not (abs(nearer) < numbers.BEYOND)


@given(st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_arrays_and_single_numbers_are_judged_alike(
    pairs: list[tuple[float, float]], absolute: float, relative: float
) -> None:
    columns = numbers.as_floats([each for each, _ in pairs]), numbers.as_floats([each for _, each in pairs])
    assert columns[0] is not None
    assert columns[1] is not None
    together = numbers.deviations(columns[0], columns[1], absolute, relative)
    singly = [numbers.deviation(stable, candidate, absolute, relative) for stable, candidate in pairs]
    assert together.tolist() == pytest.approx(singly)


def _plainly(first: str, second: str) -> int:
    row = list(range(len(second) + 1))
    for number, one in enumerate(first, 1):
        before, row[0] = row[0], number
        for at, other in enumerate(second, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (one != other))
    return row[-1]


@given(st.text("abc", max_size=80), st.text("abc", max_size=80))
def test_the_distance_is_levenshteins(first: str, second: str) -> None:
    assert distance(first, second) == _plainly(first, second)
    assert (dissimilarity(first, second) == 0) == (first == second)
    assert 0 <= dissimilarity(first, second) <= 1


SECRETS = st.integers(10**9, 10**10).map(str)


def _values(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        return [text for value in tree.values() for text in _values(value)]
    if isinstance(tree, list):
        return [text for value in tree for text in _values(value)]
    return [str(tree)]


SECRET_TREES = st.recursive(
    SECRETS | SECRETS.map(int) | SECRETS.map(lambda digits: float(f"0.{digits}7")),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.sampled_from("abcd") | SECRETS, inner, max_size=4),
    max_leaves=30,
)


@given(SECRET_TREES, SECRET_TREES)
@settings(max_examples=200)
def test_redaction_shows_no_value_and_no_key_that_may_be_one(stable: Any, candidate: Any) -> None:
    found = compared(stable, candidate)
    for payloads in (Payloads.REDACTED, Payloads.HASHED):
        shown = Redactor(payloads, b"key")
        body = json.dumps(stable).encode()
        text = json.dumps(
            [
                shown.compared(found),
                shown.body("application/json", body),
                shown.answer(answer(candidate)),
                shown.target(f"/v1/users/{_values(stable)[:1]}/predict?q={_values(candidate)[:1]}"),
            ]
        )
        for secret in [*_values(stable), *_values(candidate)]:
            assert secret not in text


@given(TREES, TREES)
def test_evidence_is_json_whatever_is_kept(stable: Any, candidate: Any) -> None:
    found = compared(stable, candidate)
    for payloads in Payloads:
        shown = Redactor(payloads, b"key").compared(found)
        json.dumps(shown, allow_nan=False)


def test_what_is_nested_deeply_can_be_shown() -> None:
    deep = answer(b'{"a": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}")
    found = compared(deep, answer({}))
    for payloads in Payloads:
        assert len(json.dumps(Redactor(payloads, b"key").compared(found))) < 5000


def test_equal_values_have_equal_hashes_under_one_key() -> None:
    first, second = Redactor(Payloads.HASHED, b"one"), Redactor(Payloads.HASHED, b"two")
    assert first.value("secret") == first.value("secret") != second.value("secret")


def test_full_evidence_is_cut_off() -> None:
    shown = Redactor(Payloads.FULL, b"")
    assert len(shown.value("x" * 1000)) < 250
    assert len(shown.value([["x" * 1000]] * 1000)) < 250
    assert shown.value(math.nan) == "NaN"
    assert shown.value(0.5) == 0.5
    assert len(shown.body("text/plain", b"\xff" * 100_000)["text"]) <= 4 * 4096


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/a/*", ["a", "x"], True),
        ("/a/*", ["a", "x", "y"], False),
        ("/a/**", ["a"], True),
        ("/a/**", ["a", "x", "y"], True),
        ("/**/b", ["b"], True),
        ("/**/b", ["a", 0, "b"], True),
        ("/**/b", ["a", "b", "c"], False),
        ("/**/b/*/**/c", ["x", "b", "b", 3, "c"], True),
        ("/a~1b/~0", ["a/b", "~"], True),
        ("/0", [0], True),
        ("/", [""], True),
    ],
)
def test_patterns(pattern: str, path: list[str | int], matches: bool) -> None:
    patterns = Patterns([pattern])
    state = patterns.start
    for step in path:
        state = patterns.below(state, step)
    assert patterns.matches(state) is matches
